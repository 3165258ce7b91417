"""The run folder: whole after any death, found again, and honest about its version."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from g5kdeploy.base import files
from g5kdeploy.base.files import Held
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.events.failure import ExitCode, InvalidUse, exit_code
from g5kdeploy.experiment import load
from g5kdeploy.node import fan_out
from g5kdeploy.runs import NoRun, PhaseState, Run, find, key_of, list_runs, new_id, runs_folder, unreleased, versions
from g5kdeploy.runs.document import Document

FILE = "apiVersion: g5kdeploy/v1\nname: small\nroles: {server: {nodes: 1}}\n"


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    folder = tmp_path / "experiment"
    folder.mkdir()
    (folder / "roles.nix").write_text("{ }")
    (folder / "experiment.yaml").write_text(FILE)
    return folder / "experiment.yaml"


def make(experiment: Path) -> Run:
    return Run.create(runs_folder(experiment), load(experiment), "lab", "lab")


def test_a_new_run_is_complete_on_the_disk(experiment: Path) -> None:
    run = make(experiment)
    again = Run.open(run.folder)
    assert again.document() == run.document()
    assert (again.name, again.testbed, again.site, again.released) == ("small", "lab", "lab", False)
    assert (run.folder / "experiment.yaml").read_text() == FILE
    assert [path.name for path in run.folder.parent.iterdir()] == [run.id]
    assert again.document()["experiment"]["resolved"]["roles"]["server"]["nodes"] == 1


def test_ids_sort_by_time() -> None:
    assert new_id(0) < new_id(60) < new_id(1e9) < new_id()
    assert len({new_id(0) for _ in range(20)}) > 10


def test_a_phase_is_done_once_for_its_inputs(experiment: Path) -> None:
    run = make(experiment)
    key = key_of({"a": 1, "b": Path("/x")})
    assert run.done("build", key) is None
    with run.phase("build", key) as record:
        record.result["paths"] = 150
        assert Run.open(run.folder).phases()["build"].state is PhaseState.RUNNING
    again = Run.open(run.folder)
    done = again.done("build", key)
    assert done is not None and done.result == {"paths": 150} and done.seconds is not None
    assert again.done("build", key_of({"b": Path("/x"), "a": 2})) is None
    assert key == key_of({"b": "/x", "a": 1})


def test_a_failed_or_killed_phase_is_not_done(experiment: Path) -> None:
    run = make(experiment)
    with pytest.raises(Problem), run.phase("push", "k"):
        raise Problem("the disk is full")
    assert run.phases()["push"].state is PhaseState.FAILED
    assert "the disk is full" in run.phases()["push"].detail
    assert run.done("push", "k") is None
    with run.phase("deploy", "k") as record:
        record.state = PhaseState.PARTLY
    assert run.done("deploy", "k") is None


def test_a_change_that_raises_changes_nothing(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(experiment)
    with pytest.raises(TypeError):
        run.set(released=object())
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        with pytest.raises(OSError, match="No space") as caught:
            run.set(released=True)
    assert caught.value.filename == str(run.folder / "run.json")
    assert run.released is False
    assert Run.open(run.folder).released is False
    run.set(released=True)
    assert Run.open(run.folder).released is True


def test_what_many_threads_note_down_is_on_the_disk_when_each_goes_on(experiment: Path) -> None:
    run = make(experiment)
    path, names = run.folder / "run.json", [f"vm-{number}" for number in range(60)]
    run.set_nodes({name: {"role": "server", "hardware": {"name": name}} for name in names})

    def note(name: str) -> None:
        run.set_node(name, stage="booted", facts={"é": name})
        node = json.loads(path.read_text())["nodes"][name]
        assert node == {"role": "server", "stage": "booted", "facts": {"é": name}, "hardware": {"name": name}}
        run.warn(name)
        assert name in json.loads(path.read_text())["warnings"]

    assert fan_out(names, note) == dict.fromkeys(names)
    assert run.document() == json.loads(path.read_text())
    files.write_json(path.with_name("same.json"), run.document())
    assert path.read_text() == path.with_name("same.json").read_text()


def test_changes_that_wait_are_written_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document(tmp_path / "run.json", {})
    written: list[str] = []
    begun, all_there = threading.Event(), threading.Event()
    write = files.write

    def slow(path: Path, text: str) -> None:
        written.append(text)
        begun.set()
        assert all_there.wait(60)
        write(path, text)

    monkeypatch.setattr(files, "write", slow)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(document.change, lambda value: {"first": 0})
        assert begun.wait(60)
        others = [pool.submit(document.change, lambda value, name=f"n{n}": {name: len(value)}) for n in range(8)]
        while len(document._waiting) < 1 + len(others):
            time.sleep(0.001)
        all_there.set()
        for one in (first, *others):
            one.result(60)
    assert len(written) == 2
    assert json.loads((tmp_path / "run.json").read_text()) == document.value
    assert sorted(document.value.values()) == list(range(9)), "each sees what those before it have changed"


def test_a_change_that_fails_or_is_interrupted_spoils_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    document = Document(tmp_path / "run.json", {})
    document.change(lambda value: {"kept": 1})

    def wrong(value: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"lost": value["not there"]}

    with pytest.raises(KeyError, match="not there"):
        document.change(wrong)
    for trouble in (OSError(28, "No space left on device"), KeyboardInterrupt()):
        with monkeypatch.context() as patch:
            patch.setattr(files, "write", Mock(side_effect=trouble))
            with pytest.raises(type(trouble)):
                document.change(lambda value: {"lost": 1})
    document.change(lambda value: {"last": 2})
    assert document.value == json.loads((tmp_path / "run.json").read_text()) == {"kept": 1, "last": 2}


def test_nodes_facts_are_merged(experiment: Path) -> None:
    run = make(experiment)
    run.set_node("vm-1", role="server", facts={"release_before": "6.1"})
    run.set_node("vm-1", stage="booted", facts={"release_after": "6.6"})
    node = Run.open(run.folder).nodes()["vm-1"]
    assert node["role"] == "server" and node["stage"] == "booted"
    assert node["facts"] == {"release_before": "6.1", "release_after": "6.6"}
    for bad in ("../x", "", "..", "a/b"):
        with pytest.raises(ValueError, match="node"):
            run.node_folder(bad)


def test_warnings_are_kept_once(experiment: Path) -> None:
    run = make(experiment)
    run.warn("a node was lost")
    run.warn("a node was lost")
    assert Run.open(run.folder).document()["warnings"] == ["a node was lost"]


def test_events_survive_a_torn_line(experiment: Path) -> None:
    run = make(experiment)
    Emitter(phase="build", sinks=[run.sink]).note("one")
    with (run.folder / "events.jsonl").open("a") as file:
        file.write('{"phase": "bui')
    again = Run.open(run.folder)
    emit = Emitter(phase="build", sinks=[again.sink])
    with emit.step("two", node="vm-1"):
        pass
    steps = [(event["step"], event["state"]) for event in again.events()]
    assert steps == [("one", State.NOTE), ("two", State.START), ("two", State.OK)]
    assert {event["run"] for event in again.events()} == {run.id}


def test_a_log_on_a_full_disk_ends_no_run(experiment: Path) -> None:
    run = make(experiment)
    emit = Emitter(phase="build", sinks=[run.sink])
    emit.note("one")
    (run.folder / "events.jsonl").rename(run.folder / "kept")
    (run.folder / "events.jsonl").symlink_to("/dev/full")
    emit.note("two")
    (run.folder / "kept").replace(run.folder / "events.jsonl")
    emit.note("three")
    assert [event["step"] for event in run.events()] == ["one", "three"]


def test_a_run_is_held_by_one_at_a_time(experiment: Path) -> None:
    run = make(experiment)
    with run.lock():
        with pytest.raises(Held) as caught, Run.open(run.folder).lock():
            pass
        assert exit_code(caught.value) is ExitCode.HELD
    Run.open(run.folder).warn("somebody else was here")
    assert run.document()["warnings"] == []
    with run.lock():
        assert run.document()["warnings"] == ["somebody else was here"]


def test_the_unreleased_run_is_found(experiment: Path) -> None:
    folder = runs_folder(experiment)
    with pytest.raises(NoRun):
        find(folder, experiment)
    first = make(experiment)
    assert find(folder, experiment).id == first.id
    second = make(experiment)
    with pytest.raises(InvalidUse) as caught:
        find(folder, experiment)
    assert exit_code(caught.value) is ExitCode.USAGE
    assert first.id in caught.value.cause and second.id in caught.value.cause
    assert find(folder, experiment, first.id).id == first.id
    assert find(folder, experiment, str(first.folder)).id == first.id
    first.set(released=True)
    assert find(folder, experiment).id == second.id
    assert find(folder, experiment, first.id).id == first.id
    with pytest.raises(NoRun):
        find(folder, experiment, "nothing-like-it")
    if first.id[:8] == second.id[:8]:
        with pytest.raises(InvalidUse, match="several"):
            find(folder, experiment, first.id[:8])


def test_a_run_belongs_to_its_experiment_alone(experiment: Path) -> None:
    run = make(experiment)
    other = experiment.with_name("other.yaml")
    assert unreleased(run.folder.parent, other) == []
    moved = experiment.parents[1] / "moved"
    shutil.copytree(experiment.parent, moved)
    assert [found.id for found in unreleased(moved / "runs", moved / "experiment.yaml")] == [run.id]


def test_broken_runs_do_not_hide_the_others(experiment: Path) -> None:
    run = make(experiment)
    for name, text in (("20000101-000000-aaaa", "{"), ("20000101-000000-bbbb", "[]")):
        (run.folder.parent / name).mkdir()
        (run.folder.parent / name / "run.json").write_text(text)
    (run.folder.parent / "notes").mkdir()
    listing = list_runs(run.folder.parent)
    assert [one.id for one in listing.runs] == [run.id]
    assert len(listing.broken) == 2


def rewrite(run: Run, **members: Any) -> None:
    document = {**run.document(), **members}
    (run.folder / "run.json").write_text(json.dumps(document))


def test_a_newer_version_is_refused(experiment: Path) -> None:
    run = make(experiment)
    rewrite(run, schemaVersion=versions.CURRENT + 1)
    with pytest.raises(InvalidUse, match="newer") as caught:
        Run.open(run.folder)
    assert "upgrade" in caught.value.hint


def test_an_older_version_is_migrated(experiment: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = make(experiment)
    document = run.document()
    document["notices"] = document.pop("warnings")
    document["schemaVersion"] = versions.CURRENT - 1
    (run.folder / "run.json").write_text(json.dumps(document))

    def migrate(old: dict[str, Any]) -> dict[str, Any]:
        return {**{key: value for key, value in old.items() if key != "notices"}, "warnings": old["notices"]}

    with pytest.raises(InvalidUse, match="never was one"):
        Run.open(run.folder)
    monkeypatch.setitem(versions.MIGRATIONS, versions.CURRENT - 1, migrate)
    again = Run.open(run.folder)
    assert again.document()["schemaVersion"] == versions.CURRENT
    assert again.document()["warnings"] == []


@pytest.mark.parametrize(
    ("members", "place"),
    [
        ({"nodes": []}, "nodes"),
        ({"nodes": {"vm-1": None}}, "nodes.vm-1"),
        ({"nodes": {"vm-1": {"role": "server", "stage": "booted", "hardware": {}}}}, "nodes.vm-1.facts"),
        ({"phases": {"build": {"key": "", "state": "odd", "started": 1, "result": {}}}}, "phases.build.state"),
    ],
)
def test_a_damaged_run_says_what_is_wrong(experiment: Path, members: dict[str, Any], place: str) -> None:
    run = make(experiment)
    rewrite(run, **members)
    with pytest.raises(InvalidUse) as caught:
        Run.open(run.folder)
    assert f"`{place}`" in caught.value.cause
