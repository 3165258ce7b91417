"""Runs as the only process of a machine: loads the programs, makes their events happen, notes what was served.

    init=PYTHON -- programs.py REPOSITORY BINARIES SITE_PACKAGES

What it saw goes to the share `out` as result.json; then the machine is switched off.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from pathlib import Path
from typing import Any

import mocking

REPOSITORY, BINARIES, PACKAGES = (Path(word) for word in sys.argv[1:4])
WORK = Path("/run/t")
MOCKED, OTHER = WORK / "override", WORK / "other"
PORT = 9435
EXPORTER = (sys.executable, "-m", "g5kdeploy.exporter")
TRUE: list[int] = []
"""When the mocked file was really written."""


def mount(kind: str, source: str, where: str, options: str = "") -> None:
    words = ["mount", "-t", kind, *(["-o", options] if options else []), source, where]
    subprocess.run(words, check=True)


def prepare() -> None:
    os.environ["PATH"] = "/usr/sbin:/usr/bin:/sbin:/bin"
    mount("proc", "proc", "/proc")
    mount("sysfs", "sysfs", "/sys")
    mount("tmpfs", "tmpfs", "/run")
    if not os.path.ismount("/dev"):
        mount("devtmpfs", "devtmpfs", "/dev")
    mount("tracefs", "tracefs", "/sys/kernel/tracing")
    mount("cgroup2", "cgroup2", "/sys/fs/cgroup")
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    WORK.mkdir()
    for file in (MOCKED, OTHER):
        file.write_text("true\n")
    Path("/run/out").mkdir()
    mount("9p", "out", "/run/out", "trans=virtio,version=9p2000.L")


class Exporter:
    """The exporter on a configuration folder of its own."""

    def __init__(self, name: str, programs: str, files: dict[str, str], program: tuple[str, ...] = EXPORTER) -> None:
        folder = WORK / f"config-{name}"
        shutil.copytree(REPOSITORY / "bpf" / "build", folder)
        for file, text in files.items():
            (folder / file).write_text(text)
        self.log = (WORK / f"{name}.log").open("w+")
        words = [*program, "--config.dir", str(folder), "--config.names", programs]
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"}
        begun = time.monotonic()
        self.process = subprocess.Popen(
            [*words, "--web.listen-address", f"127.0.0.1:{PORT}"], stderr=self.log, env=environment
        )
        while "Listening on" not in self.text() and self.process.poll() is None and time.monotonic() < begun + 600:
            time.sleep(0.1)
        self.seconds = time.monotonic() - begun

    def text(self) -> str:
        return Path(self.log.name).read_text()

    def samples(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{PORT}/metrics", timeout=300) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(300)


def mock(name: str, alternatives: str, number: int, backwards: bool) -> dict[str, Any]:
    """The mock in one of its modes, attached before or after the program that counts, through all cases."""
    before = mocking.programs()
    names, program = ("statx_mock,statx", mocking.REVERSED) if backwards else ("statx,statx_mock", EXPORTER)
    exporter = Exporter(name, names, mocking.settings(alternatives, MOCKED), program)
    seen = mocking.go_through(exporter, BINARIES / "mock_cases", MOCKED, OTHER, number, before)
    return {"true": TRUE[0], "seconds": exporter.seconds, **seen}


def counting() -> dict[str, Any]:
    """Calls of a cgroup while a bystander calls, too; first everybody's, then those of one cgroup's subtree alone."""
    seen: dict[str, Any] = {}
    tree = Path("/sys/fs/cgroup/counted")
    tree.mkdir()
    for name, settings in (("everybody", ""), ("one", f"filter: {{cgroup: {tree}}}\n")):
        exporter = Exporter(name, "statx", {"statx.load.yaml": settings} if settings else {})
        bystander = subprocess.Popen([str(BINARIES / "bystander"), str(OTHER)], stdout=subprocess.PIPE)

        def enter() -> None:
            (tree / "cgroup.procs").write_text(str(os.getpid()))

        bench = [str(BINARIES / "statx_bench"), "--calls", "5000", "--hold", "1", "--path", str(OTHER)]
        said = json.loads(subprocess.check_output(bench, preexec_fn=enter))
        Path(said["cgroup"]).rmdir()  # gone before anybody asks for its name
        bystander.terminate()
        calls = json.loads(bystander.communicate()[0])["calls"]
        seen[name] = {"said": said, "bystander": calls, "samples": exporter.samples(), "log": exporter.text()}
        seen[name]["status"] = exporter.end(signal.SIGTERM)
    return seen


def main() -> None:
    result: dict[str, Any] = {"kernel": os.uname().release}
    both = f"{mocking.OVERRIDE}, {mocking.REWRITE}"
    try:
        prepare()
        TRUE.append(mocking.modification(MOCKED))
        result["kernel_probe"] = mocking.kernel(REPOSITORY, REPOSITORY / "bpf" / "build")
        result["counting"] = counting()
        result["override"] = mock("override", both, signal.SIGKILL, False)
        result["override_reversed"] = mock("override_reversed", both, signal.SIGTERM, True)
        result["rewrite"] = mock("rewrite", mocking.REWRITE, signal.SIGTERM, False)
        result["rewrite_reversed"] = mock("rewrite_reversed", mocking.REWRITE, signal.SIGKILL, True)
    except BaseException:
        result["error"] = traceback.format_exc()
    Path("/run/out/result.json").write_text(json.dumps(result))
    os.sync()
    ctypes.CDLL(None).reboot(0x4321FEDC)


main()
