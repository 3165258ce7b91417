"""A running lab for tests that boot nodes: the real daemon, started by the real command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from g5kdeploy.base.text import clean, tail

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "g5kdeploy"
"""Where tests keep what takes long to build; the same for all of them."""


def environment(home: Path) -> dict[str, str]:
    """Variables under which commands keep their state in `home` and share the cache of all tests."""
    CACHE.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    if not (home / "cache").exists():
        (home / "cache").symlink_to(CACHE)
    key = home / "config" / "cache-key"
    if not key.exists():  # one key, or every test would sign everything anew, into 100 MB of its own
        (CACHE / key.name).mkdir(exist_ok=True)
        key.parent.mkdir(parents=True, exist_ok=True)
        key.symlink_to(CACHE / key.name)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("G5KDEPLOY_", "XDG_", "LAB_"))}
    return {**kept, "G5KDEPLOY_HOME": str(home), "PYTHONPATH": str(ROOT)}


@dataclass
class Lab:
    """A lab under test. `record` is what `lab status -o json` says; its API is asked about one `site`."""

    home: Path
    record: dict[str, Any]
    site: str = "lab"

    @classmethod
    def start(cls, home: Path, *options: str) -> Lab:
        done = call(home, "lab", "start", *options, "-o", "json", seconds=900)
        assert done.returncode == 0, done.stderr
        return cls(home, json.loads(done.stdout))

    def stop(self) -> None:
        call(self.home, "lab", "stop")

    @property
    def client_home(self) -> Path:
        return Path(self.record["home"])

    @property
    def session(self) -> requests.Session:
        lines = (self.client_home / ".python-grid5000.yaml").read_text().splitlines()
        known = dict(line.split(": ", 1) for line in lines)
        session = requests.Session()
        session.trust_env = False
        session.auth = (known["username"], known["password"])
        return session

    def api(self, method: str, path: str, **more: Any) -> requests.Response:
        with self.session as session:
            return session.request(method, f"{self.record['url']}/sites/{self.site}/{path}", timeout=60, **more)

    def ssh(
        self, host: str, command: str, *, seconds: float = 180, stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        words = ["ssh", "-F", str(self.client_home / ".ssh" / "config"), "-o", "BatchMode=yes"]
        words += ["-o", "ConnectTimeout=60", host, command]
        return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=seconds, check=False)

    def submit(self, **request: Any) -> int:
        answer = self.api("POST", "jobs", json={"command": "sleep 1h", **request})
        assert answer.status_code == 201, answer.text
        return int(answer.json()["uid"])

    def job(self, uid: int) -> dict[str, Any]:
        found: dict[str, Any] = self.api("GET", f"jobs/{uid}").json()
        return found

    def wait_job(self, uid: int, *states: str, seconds: float = 900) -> dict[str, Any]:
        """The job, as soon as it is in one of the states."""
        return _until(lambda: self.job(uid), lambda found: found["state"] in states, f"job {uid} {states}", seconds)

    def deploy(self, **request: Any) -> str:
        key = (self.client_home / ".ssh" / "id_ed25519.pub").read_text()
        answer = self.api("POST", "deployments", json={"key": key, **request})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uid"])

    def wait_deployment(self, uid: str, seconds: float = 900) -> dict[str, Any]:
        """The deployment, as soon as it is over."""
        get = lambda: self.api("GET", f"deployments/{uid}").json()  # noqa: E731
        return _until(get, lambda found: found["status"] != "processing", f"deployment {uid}", seconds)

    def told(self, node: str) -> str:
        """What the lab and a node's console said last, for the message of a failed test."""
        folder = self.home / "state" / "lab"
        logs = (folder / "daemon.log", folder / "nodes" / node.partition(".")[0] / "console.log")
        return "\n".join(clean(tail(log.read_text(errors="replace"), 30)) for log in logs if log.exists())


def call(home: Path, *words: str, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run g5kdeploy as a user does."""
    command = [sys.executable, "-m", "g5kdeploy", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=seconds, env=environment(home), cwd="/", check=False
    )


def _until(get: Any, done: Any, what: str, seconds: float) -> dict[str, Any]:
    end = time.monotonic() + seconds
    while True:
        found: dict[str, Any] = get()
        if done(found):
            return found
        assert time.monotonic() < end, f"gave up on {what}: {found}"
        time.sleep(0.5)
