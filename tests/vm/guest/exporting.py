"""What every group of scenarios has: the exporter with some of the programs, and a place for what was seen.

    GROUP.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...

Groups run as root where /run is their own: in a machine that is started for it, or under `unshare`. What each scenario saw
goes to the file OUT, as JSON; so does whatever went wrong, under `error`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

REPOSITORY, PROGRAMS, PACKAGES, OUT = (Path(word) for word in sys.argv[1:5])
WORK = Path("/run/scenarios")
PREFIX = "ebpf_exporter_"
PATIENCE = 300.0


def run(*words: str) -> str:
    done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)}: status {done.returncode}: {done.stderr}")
    return done.stdout


def tried(*words: str) -> bool:
    return subprocess.run(words, capture_output=True, check=False, timeout=PATIENCE).returncode == 0


class Exporter:
    """The exporter with some of the programs; `files` of its configuration are replaced."""

    def __init__(
        self,
        names: str,
        files: dict[str, str] | None = None,
        program: tuple[str, ...] = (sys.executable, "-m", "g5kdeploy.exporter"),
    ) -> None:
        self.folder = Path(f"{WORK}/config-{time.monotonic_ns()}")
        shutil.copytree(PROGRAMS, self.folder)
        for file, text in (files or {}).items():
            (self.folder / file).write_text(text)
        self.log = (self.folder / "log").open("w+")
        flags = ["--config.dir", str(self.folder), "--config.names", names, "--web.listen-address", "127.0.0.1:0"]
        environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}:{PACKAGES}", "PYTHONDONTWRITEBYTECODE": "1"}
        self.process = subprocess.Popen([*program, *flags], stderr=self.log, env=environment)
        end = time.monotonic() + PATIENCE
        while "\n" not in (said := self.text().partition("Listening on ")[2]):
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"the exporter does not serve: {self.text()}")
            time.sleep(0.05)
        self.port = int(said.split("\n", 1)[0].rpartition(":")[2])

    def text(self) -> str:
        return Path(self.log.name).read_text()

    def samples(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return {name: float(value) for name, _, value in (x.rpartition(" ") for x in lines if not x.startswith("#"))}

    def until(self, name: str, least: float) -> dict[str, float]:
        """The samples as soon as one of them has come so far, or as they are when patience is at its end."""
        end = time.monotonic() + PATIENCE
        while (samples := self.samples()).get(name, 0) < least and time.monotonic() < end:
            time.sleep(0.05)
        return samples

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE)


@contextlib.contextmanager
def exporting(names: str, files: dict[str, str] | None = None) -> Iterator[Exporter]:
    exporter = Exporter(names, files)
    try:
        yield exporter
    finally:
        if exporter.process.poll() is None:
            exporter.end()


def tell(scenarios: Mapping[str, Callable[[], dict[str, Any]]], prepare: Callable[[], None]) -> None:
    """Run the scenarios that were asked for, or all of them, and leave what they saw. One that breaks is told, the others run."""
    result: dict[str, Any] = {"kernel": os.uname().release}
    try:
        WORK.mkdir(parents=True, exist_ok=True)
        prepare()
        for name in sys.argv[5:] or scenarios:
            begin = time.monotonic()
            # A machine that does not come to its end says on its console where it was.
            sys.stderr.write(f"{Path(sys.argv[0]).stem}: {name}\n")
            try:
                result[name] = scenarios[name]()
            except Exception:
                result[name] = {"error": traceback.format_exc()}
            result[name]["seconds"] = time.monotonic() - begin
    except BaseException:
        result["error"] = traceback.format_exc()
    OUT.write_text(json.dumps(result))


class Group:
    """Scenarios that share one exporter, which serves all of their programs: scenario X makes the events of program X happen."""

    def __init__(self, prepare: Callable[[], None] | None = None, files: dict[str, str] | None = None) -> None:
        """`files` of the exporter's configuration are replaced."""
        self.scenarios: dict[str, Callable[[], dict[str, Any]]] = {}
        self.prepare = prepare
        self.files = files
        self.exporter: Exporter | None = None

    def scenario(self, function: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
        """Marks a scenario; its function has the program's name."""
        self.scenarios[function.__name__] = function
        return function

    def samples(self) -> dict[str, float]:
        assert self.exporter is not None
        return self.exporter.samples()

    @contextlib.contextmanager
    def watched(self) -> Iterator[dict[str, Any]]:
        """What was served before and after; a scenario may add what it knows itself."""
        seen: dict[str, Any] = {"before": self.samples()}
        yield seen
        seen["after"] = self.samples()

    @contextlib.contextmanager
    def watched_until(self, name: str, least: float) -> Iterator[tuple[dict[str, Any], Callable[[], bool]]]:
        """The same, with a question: has the sum of the samples whose names begin so grown that far? Yes, too, in the end."""
        end = time.monotonic() + PATIENCE

        def total(samples: dict[str, float]) -> float:
            return sum(value for sample, value in samples.items() if sample.startswith(f"{PREFIX}{name}"))

        with self.watched() as seen:
            yield seen, lambda: total(self.samples()) >= total(seen["before"]) + least or time.monotonic() > end

    def run(self) -> None:
        def begin() -> None:
            if self.prepare:
                self.prepare()
            self.exporter = Exporter(",".join(sys.argv[5:] or self.scenarios), self.files)

        tell(self.scenarios, begin)
        if self.exporter:
            OUT.with_suffix(".log").write_text(self.exporter.text())
            self.exporter.end()
