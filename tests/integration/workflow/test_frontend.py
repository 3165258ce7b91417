"""What another machine built and pushed is deployed from a frontend: by an ordinary user, without Nix, from a cron line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workflow.place import CALLS, Place
from tests.integration.workflow.test_bad_luck import nothing_left, told
from tests.support import frontend
from tests.support.frontend import HOME, User

PUSHED = "public/g5kdeploy/pushed/faults.json"


def pushed(place: Place) -> Path:
    """Built and pushed here; what that left on the frontend. The run that did it is over."""
    for name in ("build", "push"):
        told(place.call(*place.command(name)), 0)
    told(place.call(*place.command("release")), 0)
    return place.folder / "frontend" / PUSHED


def test_deploy_takes_what_another_machine_pushed(place: Place) -> None:
    file = pushed(place)
    told(place.call(*place.command("reserve")), 0)
    told(place.call(*place.command("deploy", "--manifest", str(file))), 0, "closures of worker, pushed to lab")
    assert {node["facts"]["current_system"] for node in place.document()["nodes"].values()} == {place.toplevel}
    phases = place.document()["phases"]
    assert phases["build"]["detail"] == phases["push"]["detail"] == f"elsewhere, says {file}"
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_files_that_do_not_suit_are_refused_before_anything_is_asked(place: Place, tmp_path: Path) -> None:
    good = json.loads(pushed(place).read_text())
    file = tmp_path / "pushed.json"
    told(place.run("--manifest", str(file)), 2, "there is no ")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"kind": "Other"}, "does not say what was pushed"),
        ({"apiVersion": "g5kdeploy/v0"}, "was written by another version"),
        ({"testbed": "grid5000"}, "it was pushed to lab of grid5000, the run is on lab"),
        ({"manifest": {}}, "is no closure manifest"),
    ]
    for change, words in wrong:
        file.write_text(json.dumps({**good, **change}))
        told(place.run("--manifest", str(file)), 2, words)
    file.write_text("{")
    told(place.run("--manifest", str(file)), 1, "is not valid JSON")
    file.write_text(json.dumps(good))
    place.write(roles={"other": {"nodes": 1}}, benchmark=None)
    told(place.run("--manifest", str(file)), 2, "it has no closure of other, only of worker")
    assert place.submissions() == 0


@pytest.fixture
def user(place: Place, tmp_path: Path) -> User:
    """Somebody on the frontend, with the testbed's credentials and a copy of the experiment."""
    if why := frontend.missing():
        pytest.skip(why)
    dist = tmp_path / "dist"
    frontend.build_wheel(dist)
    made = User(tmp_path / "user" / "home", dist)
    client = place.home / "state" / "lab" / "home"
    own = made.folder / ".g5k" / "state" / "lab" / "home"
    shutil.copytree(client, own)
    config = own / ".ssh" / "config"
    config.write_text(config.read_text().replace(str(client), f"{HOME}/.g5k/state/lab/home"))
    for name in ("experiment", "composition"):
        shutil.copytree(place.folder / name, made.folder / name, ignore=shutil.ignore_patterns("runs"))
    made.install()
    return made


def test_an_ordinary_user_without_nix_from_a_cron_line(place: Place, user: User) -> None:
    file = pushed(place)
    (user.folder / PUSHED).parent.mkdir(parents=True)
    shutil.copy(file, user.folder / PUSHED)
    user.own()
    tool, given = f"{HOME}/venv/bin/g5kdeploy", {"G5KDEPLOY_HOME": f"{HOME}/.g5k"}
    refused = user.call(tool, "build", "experiment", "--testbed", "lab", **given)
    told(refused, 1, "there is no Nix", "--manifest ~/public/g5kdeploy/pushed/faults.json")
    told(user.call(tool, "release", "experiment", "--testbed", "lab", **given), 0)

    words = ("run", "experiment", "--manifest", PUSHED, "--testbed", "lab", "-o", "json")
    done = user.call(tool, *words, **given)
    told(done, 0)
    summary = json.loads(done.stdout)
    assert [one["increase"] for one in summary["counters"]] == [CALLS, CALLS]
    assert place.held() == []
    runs = user.folder / "experiment" / "runs"
    assert {path.stat().st_uid for path in runs.rglob("*")} == {frontend.UID}
    assert "skipped" not in {phase["state"] for phase in summary["phases"]}
    mine = user.call(tool, "status", "--mine", "--testbed", "lab", "-o", "json", **given)
    assert json.loads(mine.stdout)["items"] == [], mine.stderr
