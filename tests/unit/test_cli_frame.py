"""The command line's frame: start-up time, exit codes, problems as sentences, what all commands have."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from g5kdeploy.base import files
from g5kdeploy.base.files import Held
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.cli import table
from g5kdeploy.cli.main import Terminated, main, root
from g5kdeploy.events import failure
from g5kdeploy.events.failure import ExitCode

ROOT = Path(__file__).parents[2]
HEAVY = ("paramiko", "rich", "pydantic", "requests", "grid5000", "fabric", "yaml", "jinja2", "pyarrow", "ClusterShell",
         "prometheus_client", "cheroot", "werkzeug")  # fmt: skip


def walk(command: click.Command, words: tuple[str, ...]) -> list[tuple[tuple[str, ...], click.Command]]:
    found = [(words, command)]
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            found += walk(child, (*words, name))
    return found


def commands() -> list[tuple[tuple[str, ...], click.Command]]:
    return [entry for name in table.MODULES for entry in walk(command_of(name), (name,))]


def command_of(name: str) -> click.Command:
    found = root.get_command(click.Context(root), name)
    assert found is not None
    return found


def python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_table_is_what_the_commands_say() -> None:
    for name in table.MODULES:
        command = command_of(name)
        assert command.name == name
        assert command.short_help == table.SHORT_HELPS[name]


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    for words, _ in commands():
        assert main([*words, "--help"]) == 0
        text = capsys.readouterr().out
        assert "Example:" in text, words
        assert f"g5kdeploy {words[0]}" in text.split("Example:")[1], words


def test_help_is_as_wide_as_the_terminal(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((60, 24)))
    assert main(["--help"]) == 0
    assert "  From one experiment file to a reproducible run on\n" in capfd.readouterr().out


def test_help_imports_nothing_heavy() -> None:
    code = f"""
import sys
from g5kdeploy.cli.main import main
assert main(["--help"]) == 0
print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = python(code)
    assert "heavy: []" in done.stdout, done.stdout + done.stderr
    for name in table.SHORT_HELPS:
        assert re.search(rf"^  {name}\s", done.stdout, re.MULTILINE), name


def test_a_commands_module_imports_nothing_heavy() -> None:
    names = sorted({module.partition(":")[0] for module in table.MODULES.values()})
    code = f"""
import importlib, sys
for name in {names!r}:
    importlib.import_module(name)
print("heavy:", [name for name in {HEAVY!r} if name in sys.modules])
"""
    done = python(code)
    assert "heavy: []" in done.stdout, done.stdout + done.stderr


def test_no_arguments_are_a_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Phases:" in capsys.readouterr().out
    assert main(["-V"]) == 0
    assert re.fullmatch(r"g5kdeploy \d+\.\d+\.\d+\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["biuld"], "Did you mean `build`?"),
        (["no-such-thing"], "There is no command"),
        (["doctor", "--no-such-option"], "No such option"),
        (["completion"], "Missing argument"),
        (["completion", "tcsh"], "tcsh"),
        (["completion"], "Choose from: bash, zsh, fish"),
        (["config"], "Usage: g5kdeploy config"),
        (["lab", "fault"], "Usage: g5kdeploy lab fault"),
        (["--nonsense"], "No such option"),
        (["run", "a\0b"], r"has a NUL byte: 'a\x00b'"),
        (["-v", "status"], "options stand behind the command: g5kdeploy COMMAND -v"),
    ],
)
def test_wrong_use(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert said in err and out == ""
    assert "Traceback" not in err
    assert "error: Usage" not in err


def test_help_is_a_command_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["run"], ["lab", "fault"]):
        assert main([*words, "--help"]) == 0
        expected = capsys.readouterr().out
        assert main(["help", *words]) == 0
        assert capsys.readouterr().out == expected


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException | Callable[[], None]) -> int:
    """The exit code of a command that raises."""

    def callback() -> None:
        if isinstance(error, BaseException):
            raise error
        error()

    monkeypatch.setattr(table.LazyGroup, "get_command", lambda *_: click.Command("doctor", callback=callback))
    return main(["doctor"])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Problem("it broke"), 1),
        (failure.Failure("it broke"), 1),
        (failure.InvalidUse("wrong"), 2),
        (click.UsageError("wrong"), 2),
        (click.ClickException("wrong"), 2),
        (ValueError("a bug"), 3),
        (OSError(errno.ENOSPC, "no space"), 1),
        (PermissionError(errno.EACCES, "no", "/x"), 1),
        (OSError(errno.EBADF, "a bug"), 3),
        (failure.NotAllowed("no"), 4),
        (failure.NoResources("none"), 6),
        (Held("held"), 7),
        (failure.TimeOver("late"), 9),
        (DeadlinePassed("late"), 9),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (Terminated(), 143),
        (click.exceptions.Exit(5), 5),
        (SystemExit(4), 4),
    ],
)
def test_the_table_of_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(monkeypatch, error) == code
    err = capsys.readouterr().err
    assert "Traceback" not in err
    if isinstance(error, Problem):
        assert err.startswith("error: ")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed_are_no_bug(closed: str, tmp_path: Path) -> None:
    words = ["sh", "-c", f'exec "$0" -m g5kdeploy config show -o json {closed}', sys.executable]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "G5KDEPLOY_HOME": str(tmp_path)}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=env, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_full_disk_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert raising(monkeypatch, lambda: files.write(tmp_path / "record.json", "x")) == ExitCode.FAILED
    assert list(tmp_path.glob("*record*")) == list(tmp_path.glob(".*record*")) == []
    assert capsys.readouterr().err.splitlines() == [
        f"error: {tmp_path / 'record.json'} cannot be used",
        "cause: No space left on device",
        "hint: make room there; G5KDEPLOY_HOME puts state and cache elsewhere, --runs the runs",
    ]


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENAMETOOLONG, "a name has at most 255 bytes, a path at most 4095"),
        (errno.EMFILE, "ulimit -n says how many files a process may open"),
        (errno.EACCES, "G5KDEPLOY_HOME puts state and cache elsewhere, --runs the runs"),
    ],
)
def test_the_machines_faults_have_their_hints(
    number: int, hint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise OSError(number, os.strerror(number), "/some/where")

    assert raising(monkeypatch, fail) == ExitCode.FAILED
    assert capsys.readouterr().err.splitlines() == [
        "error: /some/where cannot be used",
        f"cause: {os.strerror(number)}",
        f"hint: {hint}",
    ]


def test_a_home_that_is_a_file_is_no_bug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("G5KDEPLOY_HOME", str(tmp_path / "file"))
    assert main(["lab", "start"]) == ExitCode.FAILED
    err = capsys.readouterr().err
    assert "cannot be used" in err and "cause: Not a directory" in err
    assert "Traceback" not in err
    assert main(["doctor", "-o", "json"]) == ExitCode.FAILED
    found = {one["name"]: one for one in json.loads(capsys.readouterr().out)["items"]}
    assert found["state folder"]["mend"] == "set G5KDEPLOY_HOME to a folder"


def test_every_exit_code_is_in_the_documentation_and_only_those() -> None:
    text = (ROOT / "docs" / "exit-codes.md").read_text()
    documented = {int(number) for number in re.findall(r"^\| (\d+) \|", text, re.MULTILINE)}
    assert documented == {int(code) for code in ExitCode}


def test_what_a_command_returns_is_the_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for value, code in ((None, 0), (ExitCode.PARTLY, 5), (ExitCode.DONE, 0)):
        made = click.Command("doctor", callback=lambda value=value: value)
        monkeypatch.setattr(table.LazyGroup, "get_command", lambda *_, made=made: made)
        assert main(["doctor"]) == code


def test_a_problem_is_told_in_four_lines(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    problem = Problem("it broke", cause="first\nsecond \x1b[31mred", hint="mend it", log=Path("/x/y.log"))
    assert raising(monkeypatch, problem) == 1
    assert capsys.readouterr().err == "error: it broke\ncause: first\n  second red\nhint: mend it\nlog: /x/y.log\n"


def test_a_bug_is_written_down_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("G5KDEPLOY_PASSWORD", "hunter2")
    assert raising(monkeypatch, RuntimeError("with hunter2 inside")) == ExitCode.BUG
    err = capsys.readouterr().err
    log = Path(re.findall(r"^log: (.*)$", err, re.MULTILINE)[0])
    report = log.read_text()
    assert "Traceback" in report and "g5kdeploy doctor" in report and "Python 3." in report
    assert "hunter2" not in report + err
    assert "Traceback" not in err
    assert log.stat().st_mode & 0o077 == 0


def test_a_bug_about_what_is_no_text_is_written_down(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert raising(monkeypatch, RuntimeError(os.fsdecode(b"caf\xe9"))) == ExitCode.BUG
    log = Path(re.findall(r"^log: (.*)$", capsys.readouterr().err, re.MULTILINE)[0])
    assert "caf\\udce9" in log.read_text()


def test_a_bug_that_cannot_be_written_down_is_still_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("G5KDEPLOY_HOME", str(tmp_path / "file" / "below"))
    assert raising(monkeypatch, RuntimeError("oh")) == ExitCode.BUG
    assert "RuntimeError: oh" in capsys.readouterr().err


def test_a_reader_who_goes_away_is_no_bug() -> None:
    code = """
import sys
from g5kdeploy.cli.main import main
sys.exit(main(["config", "show", "-o", "json"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        said = process.stderr.read().decode()
        process.wait(120)
    assert said == ""
    assert process.returncode == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 143), (signal.SIGINT, 130)])
def test_signals_unwind_and_have_their_codes(number: signal.Signals, code: int, tmp_path: Path) -> None:
    script = """
import sys, time, click
from g5kdeploy.cli import table
from g5kdeploy.cli.main import main
def wait():
    try:
        print("ready", flush=True)
        time.sleep(100)
    finally:
        print("cleaned up", flush=True)
table.LazyGroup.get_command = lambda *_: click.Command("doctor", callback=wait)
sys.exit(main(["doctor"]))
"""
    with subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert out == "cleaned up\n"
    assert process.returncode == code
    assert err.strip() in ("interrupted", "terminated")


def test_under_nohup_a_closed_terminal_ends_nothing() -> None:
    code = """
import os, signal, click
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from g5kdeploy.cli import table
from g5kdeploy.cli.main import main
table.LazyGroup.get_command = lambda *_: click.Command("doctor", callback=lambda: os.kill(os.getpid(), signal.SIGHUP))
raise SystemExit(main(["doctor"]))
"""
    assert python(code).returncode == 0


def test_a_terminal_that_knows_no_such_letters() -> None:
    code = """
import click, sys
from g5kdeploy.cli import table
from g5kdeploy.cli.main import main
table.LazyGroup.get_command = lambda *_: click.Command("doctor", callback=lambda: print("5 \xb5s \u2588"))
sys.exit(main(["doctor"]))
"""
    done = python(code, PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stdout) == (0, "5 ?s ?\n"), done.stderr
