"""Test scripts on local machines that boot real closures: what the script may do to them, and that none stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from g5kdeploy.base.text import tail
from g5kdeploy.vmtest.local import STATE
from tests.support.closures import missing
from tests.support.lab import ROOT, call, environment

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(
        bool(missing()) or shutil.which("qemu-system-x86_64") is None, reason=f"needs {missing()}, QEMU"
    ),
]

EXPERIMENT = """
apiVersion: g5kdeploy/v1
name: pair
roles:
  pair: {nodes: 2}
check: {timeout: 20m}
"""
ROLES = """
{
  roles.pair = {
    count = 2;
    kernel = "linux-image-cloud-amd64";
    files."/etc/motd" = "made up on the spot\\n";
  };
}
"""


class Project:
    """An experiment and the user who tests it, without a lab: credentials of one are there, nothing is asked of it."""

    def __init__(self, folder: Path, composition: Path) -> None:
        self.folder = composition
        self.home = folder / "home"
        credentials = self.home / "state" / "lab" / "home" / ".python-grid5000.yaml"
        credentials.parent.mkdir(parents=True)
        credentials.write_text("uri: http://127.0.0.1:1\nusername: nobody\npassword: none\n")
        credentials.chmod(0o600)

    def call(self, *words: str, seconds: float = 2000) -> subprocess.CompletedProcess[str]:
        command, *more = words
        return call(
            self.home, command, str(self.folder / "experiment.yaml"), "--testbed", "lab", *more, seconds=seconds
        )

    @property
    def run(self) -> Path:
        return max((self.folder / "runs").glob("2*"))

    def cases(self) -> dict[str, str]:
        """Name → passed, failure or error, as JUnit has it."""
        cases = ET.parse(self.run / "vmtest" / "junit.xml").findall(".//testcase")
        return {str(case.get("name")): case[0].tag if len(case) else "passed" for case in cases}

    def machines(self) -> list[int]:
        """QEMU processes of ours."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = path.read_bytes()
            except OSError:
                continue
            if b"qemu-system" in words and str(self.folder).encode() in words:
                found.append(int(path.parent.name))
        return found


def made_up(folder: Path, script: str) -> Project:
    composition = folder / "pair"
    composition.mkdir()
    for name, text in (("experiment.yaml", EXPERIMENT), ("roles.nix", ROLES), ("test.py", script)):
        (composition / name).write_text(text)
    project = Project(folder, composition)
    done = project.call("build")
    assert done.returncode == 0, done.stderr
    return project


def test_the_demos_script_passes(tmp_path: Path) -> None:
    composition = tmp_path / "statx"
    shutil.copytree(ROOT / "composition" / "statx", composition, ignore=shutil.ignore_patterns("runs"))
    project = Project(tmp_path, composition)
    done = project.call("build")
    assert done.returncode == 0, done.stderr
    done = project.call("vmtest", "--again", "-o", "json")  # really, whatever verdict other tests left in their cache
    folder = project.run / "vmtest"
    assert done.returncode == 0, done.stderr + tail((folder / "output.log").read_text(), 40)
    told: dict[str, Any] = json.loads(done.stdout)
    assert told["reused"] is False
    cases = project.cases()
    assert next(iter(cases)) == "main" and len(cases) > 3 and set(cases.values()) == {"passed"}
    assert {path.name for path in (folder / "consoles").iterdir()} == {"exporter.log", "collector.log"}
    assert not (folder / STATE).exists() and not project.machines()


SCRIPT = """
start_all()
boot_id = "cat /proc/sys/kernel/random/boot_id"

with subtest("names"):
    assert pair is pair1
    assert [m.succeed("hostname").strip() for m in machines] == ["pair1", "pair2"]
    pair1.wait_for_unit("multi-user.target")
    pair1.wait_for_open_port(22, addr="pair2")
    pair2.wait_until_succeeds("ping -c 1 -W 5 pair")
    assert pair1.get_unit_info("ssh.service")["ActiveState"] == "active"

with subtest("a cable that is pulled"):
    pair2.block()
    pair1.wait_until_fails("ping -c 1 -W 2 pair2")
    pair2.succeed("true")
    pair2.unblock()
    pair1.wait_until_succeeds("ping -c 1 -W 5 pair2")

with subtest("power"):
    before = [m.succeed(boot_id) for m in machines]
    pair1.reboot()
    pair2.crash()
    assert not pair2.booted
    pair2.start()
    pair2.wait_for_console_text("stage 2: handing over to systemd")
    assert pair1.succeed(boot_id) != before[0] and pair2.succeed(boot_id) != before[1]
    pair2.shutdown()
    assert not pair2.booted

with subtest("what the composition does not do"):
    pair1.succeed("cat /etc/motd; exit 3")
"""


def test_a_failed_subtest_is_exit_code_1_and_tells_all(tmp_path: Path) -> None:
    project = made_up(tmp_path, SCRIPT)
    done = project.call("vmtest")
    log = project.run / "vmtest" / "output.log"
    assert done.returncode == 1, done.stderr + tail(log.read_text(), 40)
    assert "failed in the subtest “what the composition does not do”" in done.stderr, done.stderr
    assert "made up on the spot" in done.stderr
    line = SCRIPT.splitlines().index('    pair1.succeed("cat /etc/motd; exit 3")') + 1
    assert f"test.py:{line}: pair1: " in done.stderr
    assert project.cases() == {
        "main": "failure",
        "names": "passed",
        "a cable that is pulled": "passed",
        "power": "passed",
        "what the composition does not do": "failure",
    }
    assert not project.machines()


def test_machines_do_not_outlive_a_killed_command(tmp_path: Path) -> None:
    project = made_up(tmp_path, "import time\nstart_all()\nprint('both are on')\ntime.sleep(1000)\n")
    words = [sys.executable, "-m", "g5kdeploy", "vmtest", str(project.folder), "--testbed", "lab"]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(words, stdout=said, stderr=said, env=environment(project.home), cwd="/")
    try:
        _until(lambda: "both are on" in (tmp_path / "said").read_text(), process)
        assert len(project.machines()) == 2
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        _until(lambda: not project.machines(), None)
    finally:
        process.kill()
        process.wait(60)


def _until(seen: Any, process: subprocess.Popen[bytes] | None) -> None:
    end = time.monotonic() + 300
    while not seen():
        assert time.monotonic() < end
        assert process is None or process.poll() is None
        time.sleep(0.1)
