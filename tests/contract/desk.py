"""A user at the command line, in front of the lab's API and scheduler under a clock that runs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from g5kdeploy.base import folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli.main import main
from g5kdeploy.testbed import credentials, waiting
from g5kdeploy.testbed.api import Api
from tests.contract.scripted import Lab
from tests.contract.testbed_world import small_world
from tests.support.sshd import SshServer, frontend


@dataclass
class Desk:
    """A user's desk: an experiment file, the commands, and the lab behind them."""

    lab: Lab
    file: Path
    capsys: pytest.CaptureFixture[str]
    frontend: SshServer

    def write(self, **more: Any) -> None:
        told = {
            "apiVersion": "g5kdeploy/v1",
            "name": "desk",
            "roles": {"server": {"nodes": 1}, "client": {"nodes": 1}},
            "walltime": "1h",
        }
        self.file.write_text(yaml.safe_dump({**told, **more}, sort_keys=False))
        (self.file.parent / "roles.nix").write_text("{ }")

    def call(self, name: str, *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
        """The command's answer and what it said, when it ended with that exit code."""
        got = main([name, *words, "--testbed", "lab", "-o", "json"])
        out, err = self.capsys.readouterr()
        assert got == code, err
        return (json.loads(out) if out else {}), err

    def on_run(self, name: str, *words: str, code: int = 0) -> tuple[dict[str, Any], str]:
        return self.call(name, *words, str(self.file), code=code)

    def document(self) -> dict[str, Any]:
        newest = max((self.file.parent / "runs").glob("*/run.json"))
        found: dict[str, Any] = json.loads(newest.read_text())
        return found

    def by_hand(self, site: str = "lab", **more: Any) -> int:
        """A job that something else submits."""
        body = {"command": "sleep 1d", "resources": "nodes=2,walltime=1:0:0", "types": ["deploy"], **more}
        with Api(credentials.load(self.lab.home)) as api:
            return int(api.post(f"/sites/{site}/jobs", body, Deadline.after(60, "a job by hand"))["uid"])

    def wait(self, seen: Callable[[], bool]) -> None:
        """Until it is so, for five minutes at most."""
        until = time.monotonic() + 300
        while not seen():
            assert time.monotonic() < until
            time.sleep(0.05)

    def live(self) -> list[int]:
        return [job.id for job in self.lab.oar.current()]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    monkeypatch.setattr(waiting, "_FIRST", (0.1,) * 20)
    yield from _desk(Lab(tmp_path / "lab", now=time.time(), pace=100), tmp_path, capsys)


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    """The same in front of two sites, east and west, with three nodes each."""
    monkeypatch.setattr(waiting, "_FIRST", (0.1,) * 20)
    now = time.time()
    world = small_world("east", "west", now=now)
    yield from _desk(Lab(tmp_path / "lab", world=world, now=now, pace=100), tmp_path, capsys)


def _desk(lab: Lab, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Desk]:
    lab.up()
    names = " ".join(f"f{site}.{site}.grid5000.fr" for site in lab.reference.sites())
    home = folders.state() / "lab" / "home"
    lab.write_home(home, "jdoe", "secret")
    try:
        with frontend(home, tmp_path / "frontend", names) as sshd, lab.running(pace=1):
            made = Desk(lab, tmp_path / "experiment.yaml", capsys, sshd)
            made.write()
            yield made
    finally:
        lab.close()
