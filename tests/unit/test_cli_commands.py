"""init, doctor, and the choice of nodes."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from g5kdeploy.base.problem import Problem
from g5kdeploy.cli import checks, nodes, phases
from g5kdeploy.cli.exec import as_item, show
from g5kdeploy.cli.init import FILES, name_from
from g5kdeploy.cli.main import Terminated, main
from g5kdeploy.cli.nodes import outcome, split
from g5kdeploy.events.event import Emitter, Event
from g5kdeploy.events.failure import ExitCode, InvalidUse, NotAllowed
from g5kdeploy.experiment import load
from g5kdeploy.node import Result
from g5kdeploy.output.screen import Screen
from g5kdeploy.runs import Run, runs_folder

ROLES = {"vm-1.lab.grid5000.fr": "exporter", "vm-2.lab.grid5000.fr": "exporter", "vm-3.lab.grid5000.fr": "collector"}


def test_init_writes_an_experiment_that_is_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "My first: try"
    assert main(["init", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    experiment = load(folder)
    assert experiment.name == "My-first-try"
    assert experiment.test_script == folder.resolve() / "test.py"
    compile((folder / "test.py").read_text(), "test.py", "exec")
    assert "@name@" not in "".join((folder / file).read_text() for file in FILES)
    assert "g5kdeploy run" in capsys.readouterr().err


def test_the_roles_of_a_new_experiment_are_those_of_its_file(tmp_path: Path) -> None:
    if shutil.which("nix-instantiate") is None:
        pytest.skip("needs nix-instantiate")
    assert main(["init", str(tmp_path / "new"), "--name", "new"]) == 0

    def evaluate(*words: str) -> str:
        done = subprocess.run(
            ["nix-instantiate", *words], capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    roles = json.loads(evaluate("--eval", "--strict", "--json", str(tmp_path / "new" / "roles.nix")))["roles"]
    assert set(roles) == set(load(tmp_path / "new").roles)
    assert evaluate("--parse", str(tmp_path / "new" / "composition.nix"))


def test_init_overwrites_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "roles.nix").write_text("mine")
    assert main(["init", str(tmp_path)]) == ExitCode.USAGE
    assert "roles.nix" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["roles.nix"]
    assert (tmp_path / "roles.nix").read_text() == "mine"
    assert main(["init", str(tmp_path / "x"), "--name", "no name"]) == ExitCode.USAGE
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(("folder", "name"), [("/a/b", "b"), ("/a/Été 2026", "t-2026"), ("/", "experiment")])
def test_names_from_folders(folder: str, name: str) -> None:
    assert name_from(Path(folder)) == name


@pytest.fixture
def quick_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """No guest is booted."""
    monkeypatch.setattr(checks, "kvm", lambda deadline: checks.Finding("kvm", "warning", "not tried"))


@pytest.mark.usefixtures("quick_doctor")
def test_doctor_names_the_command_that_mends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = shutil.which

    def which(name: str, **how: str) -> str | None:
        return {"cpio": None, "apt-get": "/usr/bin/apt-get"}.get(name, "/bin/true" if name != "nix" else real(name))

    monkeypatch.setattr(checks.shutil, "which", which)
    assert main(["doctor", "-o", "json"]) == ExitCode.FAILED
    out, err = capsys.readouterr()
    found = {item["name"]: item for item in json.loads(out)["items"]}
    assert found["cpio"]["state"] == "missing"
    assert found["cpio"]["mend"] == "apt-get install cpio"
    assert found["python"]["state"] == "ok"
    assert {"memory", "state folder", "cache folder", "configuration"} <= set(found)
    assert "credentials" not in found, "nothing of a testbed that was not named"
    assert "missing: cpio" in err


def test_where_there_is_no_apt_nix_mends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda name, **_: None)
    assert checks.install("cpio") == "nix develop"
    assert {finding.state for finding in checks.programs()} == {"missing"}


def test_a_frontend_can_do_without_what_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks.shutil, "which", lambda name, **_: None)
    monkeypatch.setattr("socket.getfqdn", lambda: "fnancy.nancy.grid5000.fr")
    found = {finding.name: finding for finding in checks.programs()}
    assert {name for name, finding in found.items() if finding.state == "missing"} == {"ssh"}
    assert "--manifest" in found["nix"].mend


def test_every_program_is_one_that_setup_installs() -> None:
    text = (Path(__file__).parents[2] / "scripts" / "setup").read_text()
    present_anyway = {"apt", "dpkg"}
    for package, _ in checks.PROGRAMS.values():
        assert package in present_anyway or package in text.split("missing()")[0].split(), package


def test_doctor_tells_what_is_wrong_with_a_testbed(monkeypatch: pytest.MonkeyPatch) -> None:
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.testbed import places

    def find(name: str) -> places.Testbed:
        raise NotAllowed("no lab runs here", hint="g5kdeploy lab start")

    monkeypatch.setattr(places, "find", find)
    (finding,) = checks.testbed("lab", Deadline.after(10, "the checks"))
    assert (finding.state, finding.mend) == ("missing", "g5kdeploy lab start")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["vm-1"], [1]),
        (["vm-1.lab.grid5000.fr"], [1]),
        (["exporter"], [1, 2]),
        (["vm-[1-2]", "exporter"], [1, 2]),
        (["collector", "vm-1"], [3, 1]),
        (["all"], [1, 2, 3]),
        (["vm-[2-3].lab.grid5000.fr"], [2, 3]),
        (["vm-*"], [1, 2, 3]),
        (["*.lab.grid5000.fr"], [1, 2, 3]),
        (["vm-?", "!vm-2"], [1, 3]),
        (["!exporter"], [3]),
        (["!vm-[1-2]", "all"], [3]),
    ],
)
def test_nodes_of_a_run(words: list[str], found: list[int]) -> None:
    assert list(nodes.of_run(words, ROLES)) == [f"vm-{number}.lab.grid5000.fr" for number in found]


@pytest.mark.parametrize(
    ("words", "roles"),
    [
        (["vm-9"], ROLES),
        (["expoter"], ROLES),
        (["vm-[1-"], ROLES),
        (["all"], {}),
        (["vm-4*"], ROLES),
        (["all", "!*"], ROLES),
        (["!vm-9"], ROLES),
    ],
)
def test_nodes_that_are_none(words: list[str], roles: dict[str, str]) -> None:
    with pytest.raises(InvalidUse):
        nodes.of_run(words, roles)


def test_a_role_that_is_misspelt_is_told_which_there_are() -> None:
    with pytest.raises(InvalidUse) as caught:
        nodes.of_run(["expoter"], ROLES)
    assert caught.value.hint == "collector is vm-3.lab.grid5000.fr; exporter is vm-[1-2].lab.grid5000.fr"


def test_sets_of_nodes_are_parted_outside_brackets() -> None:
    assert split("a,vm-[1,3-4],b") == ["a", "vm-[1,3-4]", "b"]
    for nothing in ("", ",", " , ", "a,,b", "a,", ",vm-[1,2]"):
        with pytest.raises(InvalidUse, match=r"the list of nodes (names nothing|has an empty word)"):
            split(nothing)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["run", "--phases", ","], "--phases names nothing"),
        (["run", "--phases", ""], "--phases names nothing"),
        (["run", "--phases", "build,,push"], "--phases has an empty word"),
        (["run", "--phases", "biuld"], "there is no phase `biuld`"),
        (["run", "--from", ""], "there is no phase ``"),
        (["run", "--until", ""], "there is no phase ``"),
        (["run", "--sites", ","], "--sites names nothing"),
        (["run", "--exclude-nodes", " , "], "--exclude-nodes names nothing"),
        (["reserve", "--exclude-nodes", ""], "--exclude-nodes names nothing"),
        (["reserve", "--sites", ","], "--sites names nothing"),
        (["plan", "--sites", "lab,"], "--sites has an empty word"),
        (["exec", ",", "--", "reboot"], "the list of nodes names nothing"),
        (["exec", "", "--", "reboot"], "the list of nodes names nothing"),
        (["cp", "x", ":/tmp"], "one side of a copy is on nodes"),
        (["cp", "{file}", ",:/tmp"], "the list of nodes names nothing"),
        (["tunnel", ",", "80"], "the list of nodes names nothing"),
        (["topology", ","], "the list of nodes names nothing"),
        (["topology", ""], "the list of nodes names nothing"),
        (["ssh", ""], "a node's name is empty"),
        (["logs", " "], "a node's name is empty"),
        (["exec", "!", "--", "reboot"], "a node's name is empty"),
    ],
)
def test_an_empty_word_never_means_all(
    args: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["init", str(tmp_path)]) == 0
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    words = [word.format(file=tmp_path / "experiment.yaml") for word in args]
    if "--" in words:
        words[words.index("--") : words.index("--")] = ["--testbed", "lab"]
    else:
        words += ["--testbed", "lab"]
    assert main(words) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


def answer(stdout: str = "", status: int = 0, stderr: str = "") -> Result:
    return Result(stdout, stderr, status, 0.1)


def test_equal_answers_are_shown_together(capsys: pytest.CaptureFixture[str]) -> None:
    results: dict[str, Result | Problem] = {
        "vm-1": answer("6.1\x1b[2J\n"),
        "vm-2": answer("6.1\x1b[2J\n"),
        "vm-3": answer("", 2, "bad"),
        "vm-4": Problem("vm-4 does not answer"),
    }
    show(Screen(), results)
    out, err = capsys.readouterr()
    assert "--- vm-[1-2]\n6.1\n" in out
    assert "--- vm-3 (status 2)" in out
    assert "vm-3: bad" in err
    assert "vm-4: vm-4 does not answer" in err
    assert as_item("vm-4", results["vm-4"])["problem"] == "vm-4 does not answer"
    assert as_item("vm-1", results["vm-1"])["stdout"] == "6.1\n"


def test_the_code_of_many_answers() -> None:
    assert outcome({"a": answer(), "b": answer()}) is ExitCode.DONE
    assert outcome({"a": answer(), "b": answer(status=1)}) is ExitCode.PARTLY
    assert outcome({"a": answer(status=3), "b": answer(status=1)}) is ExitCode.FAILED
    assert outcome({"a": answer(status=3), "b": NotAllowed("no")}) is ExitCode.NOT_ALLOWED


@pytest.fixture
def over(tmp_path: Path) -> Run:
    """A run that is over, with what it collected."""
    assert main(["init", str(tmp_path / "new")]) == 0
    experiment = load(tmp_path / "new")
    run = Run.create(runs_folder(experiment.file), experiment, "lab", "lab")
    run.set_node("vm-1.lab.grid5000.fr", role="server")
    folder = run.node_folder("vm-1.lab.grid5000.fr")
    (folder / "console.log").write_text("Linux\x1b[31m version\n")
    (folder / "journal.export").write_text("__REALTIME_TIMESTAMP=0\n_COMM=init\nMESSAGE=hello\n\n" * 3)
    run.set(released=True)
    return run


def test_logs_and_console_of_a_run_that_is_over(over: Run, capsys: pytest.CaptureFixture[str]) -> None:
    where = ["--experiment", str(over.experiment_file), "--run", over.id]
    assert main(["console", "server", *where]) == 0
    assert capsys.readouterr().out == "Linux version\n"
    assert main(["logs", "vm-1", *where]) == 0
    assert capsys.readouterr().out.count("init: hello") == 3
    assert main(["logs", "vm-1", "-n", "1", *where]) == 0
    assert capsys.readouterr().out.count("init: hello") == 1
    assert main(["console", "vm-2", *where]) == ExitCode.USAGE
    assert "vm-1.lab.grid5000.fr" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command", [["ssh", "vm-1"], ["exec", "all", "--", "true"], ["logs", "vm-1"], ["console", "vm-1"]]
)
def test_without_a_run_or_a_testbed_nothing_is_reached(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command) == ExitCode.USAGE
    assert "--testbed" in capsys.readouterr().err


def test_a_command_on_nodes_wants_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "all", "--timeout", "soon", "--", "true"]) == ExitCode.USAGE
    assert "--timeout" in capsys.readouterr().err


def test_status_needs_a_testbed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status"]) == ExitCode.USAGE
    assert "--testbed" in capsys.readouterr().err


@pytest.mark.parametrize("leaving", [KeyboardInterrupt, Terminated])
@pytest.mark.parametrize(
    ("held", "told"), [([], ""), ([7], "the job stays in the queue"), ([None], "a job may be in the queue")]
)
def test_who_leaves_while_a_job_waits_is_told_that_it_stays(
    held: list[int | None], told: str, leaving: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise leaving

    monkeypatch.setattr("g5kdeploy.workflow.chain.do", interrupted)
    events: list[Event] = []
    session = SimpleNamespace(
        run=SimpleNamespace(id="20261128-1200"),
        experiment=SimpleNamespace(file=Path("/home/me/experiment.yaml")),
        api=None,  # asked for names of --exclude-nodes alone, and there are none
        records=SimpleNamespace(unreleased=lambda run: [SimpleNamespace(job=job) for job in held]),
        emit=Emitter("20261128-1200", "reserve", [events.append]),
    )
    with pytest.raises(leaving):
        phases._do(session, "reserve", {})
    way = "g5kdeploy release /home/me/experiment.yaml takes it back"
    assert [event.detail for event in events] == ([f"{told}; {way}"] if told else [])
