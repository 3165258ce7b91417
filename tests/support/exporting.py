"""The exporter as a process of its own, for tests."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

# A mount namespace with tracefs, which this machine may not have mounted; without the right to make one: as it is.
WITH_TRACEFS = 'mount -t tracefs none /sys/kernel/tracing 2>/dev/null; exec "$@"'


def words(*arguments: str) -> list[str]:
    return [sys.executable, "-P", "-m", "g5kdeploy_exporter", *arguments]


def unshared() -> list[str]:
    """The prefix that gives a process a mount namespace; empty where that is not allowed."""
    if shutil.which("unshare"):
        tried = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
        if tried.returncode == 0:
            return ["unshare", "-m", "sh", "-c", WITH_TRACEFS, "sh"]
    return []


@dataclass
class Running:
    """An exporter that serves."""

    process: subprocess.Popen[bytes]
    log: Path
    port: int = 0

    def wait(self) -> None:
        """Until it says where it listens."""
        end = time.monotonic() + 240
        while "\n" not in (said := self.log.read_text().partition("Listening on ")[2]):
            assert self.process.poll() is None and time.monotonic() < end, self.log.read_text()
            time.sleep(0.02)
        self.port = int(said.split("\n", 1)[0].rpartition(":")[2])

    def get(self, path: str = "/metrics", **headers: str) -> tuple[bytes, dict[str, str]]:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", headers=named)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read(), {name.lower(): value for name, value in answer.headers.items()}

    def samples(self, path: str = "/metrics") -> dict[str, float]:
        lines = self.get(path)[0].decode().splitlines()
        return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)
