"""Completion in the user's shell: scripts, commands and options, what this disk knows."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from g5kdeploy.cli.main import main
from g5kdeploy.experiment import load
from g5kdeploy.runs import Run, runs_folder

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert "_G5KDEPLOY_COMPLETE" in script
    if shutil.which(shell):
        done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr


def completed(line: str, word: int) -> str:
    """What is offered for a word of a line, in a process of its own."""
    code = "import sys; from g5kdeploy.cli.main import main; sys.exit(main())"
    asked = {"_G5KDEPLOY_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(word)}
    env = {**os.environ, "PYTHONPATH": str(ROOT), **asked}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stderr == ""
    return done.stdout


def test_completion_knows_the_commands_and_their_options() -> None:
    assert completed("g5kdeploy do", 1).split() == ["plain,doctor"]
    assert completed("g5kdeploy doctor --te", 2).split() == ["plain,--testbed"]


def test_completion_offers_what_this_disk_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "roles.nix").write_text("{ }")
    file = tmp_path / "experiment.yaml"
    file.write_text("apiVersion: g5kdeploy/v1\nname: a\nroles: {server: {nodes: 1}}\n")

    def offered(*words: str) -> list[str]:
        monkeypatch.setenv("_G5KDEPLOY_COMPLETE", "bash_complete")
        monkeypatch.setenv("COMP_WORDS", shlex.join(["g5kdeploy", *words]))
        monkeypatch.setenv("COMP_CWORD", str(len(words)))
        main([])
        out, err = capsys.readouterr()
        assert err == ""
        return [line.removeprefix("plain,") for line in out.splitlines() if line]

    given = ("--experiment", str(tmp_path))
    assert offered("ssh", *given, "") == []  # no run yet, and no word about it
    run = Run.create(runs_folder(file), load(file), "lab", "lab")
    run.set_node("vm-1.lab.grid5000.fr", role="server")
    assert offered("ssh", *given, "") == ["server", "vm-1", "all"]
    assert offered("exec", *given, "v") == ["vm-1"]
    assert offered("report", str(tmp_path), "--run", run.id[:8]) == [run.id]
    assert offered("run", "--until", "re") == ["reserve", "report", "release"]
    assert offered("no-such-command", "x") == []
