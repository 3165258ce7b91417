"""Samples from exporters: a scraper detached on a node, and its closed segments fetched from there."""

from __future__ import annotations

import re
import secrets
import shlex
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.collect import units
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.node import Remote, RemoteFailed

_BATCH = 8 << 20  # bytes of segments that travel at once
_TARGET = re.compile(r"[A-Za-z0-9._:-]+")


class ScraperGone(Failure):
    """The scraper does not run, or does not answer."""


class Damaged(Failure):
    """A segment did not arrive as it was written."""


@dataclass(frozen=True)
class Scraper:
    """What is scraped: node name → URL as seen from the scraping node ("http://127.0.0.1:9435/metrics").

    `interval` in seconds. `name` identifies it on its node: the same name is the same scraper. `base` is the folder
    on the node that has a folder for each unit.
    """

    name: str
    targets: Mapping[str, str]
    interval: float = 1.0
    base: str = units.BASE

    @property
    def unit(self) -> units.Unit:
        """The transient unit that it is on its node."""
        for node, url in self.targets.items():
            if not _TARGET.fullmatch(node) or not url.startswith("http://"):
                raise InvalidUse(f"`{node}={url}` cannot be scraped", cause="wanted: a node's name, an http:// URL")
        words = " ".join(shlex.quote(f"{node}={url}") for node, url in self.targets.items())
        name = f"scraper-{self.name}"
        folder = f"{self.base}/{name}"
        find = 'python=$(command -v python3 || echo /run/current-system/sw/bin/python3)\nexec "$python"'
        return units.Unit(
            name=name,
            program=f"{find} -I {folder}/scraper.py {folder} {self.interval:g} {words}\n",
            argv=("/bin/sh", "{folder}/program"),
            slice="g5kdeploy-collect",
            properties=("Restart=on-failure", "RestartSec=1", "StartLimitIntervalSec=0"),
            files={"scraper.py": program()},
            base=self.base,
        )


@dataclass(frozen=True)
class Fetched:
    """What one fetch brought: new segments, their bytes, and all segments there are now in the local folder."""

    new: int
    bytes: int
    segments: int


def program() -> str:
    """The text of the program that runs on the node."""
    return Path(__file__).with_name("scraper_program.py").read_text()


def start_scraper(remote: Remote, scraper: Scraper, deadline: Deadline) -> bool:
    """Start it detached; True when it was started now, False when it runs already."""
    return units.start(remote, scraper.unit, deadline) == units.STARTED


# The write waits for the scraper to open its end; one that is gone never does, so systemd is asked first and meanwhile.
# What was written to one that died before it read is gone with it: the wish is repeated to the next.
_SCRAPE_NOW = """\
runs() {{ case "$(systemctl show -p ActiveState --value {unit})" in active|activating) ;; *) exit 4;; esac; }}
cd {folder} 2>/dev/null || exit 4
runs
[ -p control ] || mkfifo control 2>/dev/null || [ -p control ] || exit 4
wish() {{ timeout $1 sh -c 'echo {token} > control'; }}
wish {seconds} || exit 5
i=0
while [ ! -e done/{token} ]; do
  i=$((i + 1)); [ $i -le {rounds} ] || exit 5
  [ $((i % 25)) -ne 0 ] || {{ runs; wish 5; }}
  sleep 0.2
done
cat done/{token}; rm -f done/{token}
"""

# On a full disk it could not even say so.
_LAST_WORDS = """\
cd {folder} 2>/dev/null || exit 0
tail -n 3 stderr
date 2>&1 > room.$$ | sed 's/^date: //'
rm -f room.$$
"""


def scrape_now(remote: Remote, scraper: Scraper, deadline: Deadline) -> dict[str, str]:
    """One scrape of every target, begun after this call and safely in a closed segment when it returns.

    Called before a workload starts and after it ended, it makes the difference of a counter exact.
    Returns per target "" or what went wrong. Raises `ScraperGone`.
    """
    seconds = max(1, int(deadline.remaining() * 0.45))  # for each of two waits
    script = _SCRAPE_NOW.format(
        unit=scraper.unit.unit,
        folder=shlex.quote(scraper.unit.folder),
        seconds=seconds,
        rounds=seconds * 5,
        token=secrets.token_hex(8),
    )
    result = remote.run(script, deadline, check=False)
    if result.status != 0:
        said = remote.run(
            _LAST_WORDS.format(folder=shlex.quote(scraper.unit.folder)), deadline, check=False
        ).stdout.strip()
        raise ScraperGone(
            f"the scraper on {remote.name} {'does not run' if result.status == 4 else 'does not answer'}",
            cause=said or result.stderr.strip(),
            hint=f"g5kdeploy ssh {remote.name}, then: systemctl status {scraper.unit.unit}",
        )
    answers = (line.partition(" ") for line in result.stdout.splitlines())
    return {node: error for node, _, error in answers}


def stop_scraper(remote: Remote, scraper: Scraper, deadline: Deadline) -> None:
    """Stop it; its last segment is closed first."""
    units.stop(remote, scraper.unit, deadline)


def fetch_samples(remote: Remote, scraper: Scraper, folder: Path, deadline: Deadline) -> Fetched:
    """Bring the segments that are not in `folder` yet, verified; call it as often as wanted."""
    folder.mkdir(parents=True, exist_ok=True)
    there = f"{scraper.unit.folder}/segments"
    # One `wc` for all of them; the directory may be empty, or not made yet.
    listed = remote.run(f"cd {shlex.quote(there)} 2>/dev/null && wc -c *.gz 2>/dev/null; true", deadline).stdout
    sizes = {name: int(size) for size, name in _words(listed) if name.endswith(".gz") and "/" not in name}
    wanted = [(name, sizes[name]) for name in sorted(sizes) if not (folder / name).exists()]
    total = 0
    for batch in _batches(wanted):
        total += sum(size for _, size in batch)
        _bring(remote, there, batch, folder, deadline)
    return Fetched(len(wanted), total, len(list(folder.glob("*.gz"))))


def _words(text: str) -> list[list[str]]:
    return [words for line in text.splitlines() if len(words := line.split()) == 2 and words[0].isdigit()]


def _batches(wanted: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    """Few enough bytes to hold in memory, few enough names for a command line."""
    batches: list[list[tuple[str, int]]] = []
    room = 0
    for name, size in wanted:
        if not batches or size > room or len(batches[-1]) >= 500:
            batches.append([])
            room = _BATCH
        batches[-1].append((name, size))
        room -= size
    return batches


def _bring(remote: Remote, there: str, batch: Sequence[tuple[str, int]], folder: Path, deadline: Deadline) -> None:
    """Fetch some segments in one go, check each against its own check sum, and put them in their place."""
    names = " ".join(shlex.quote(name) for name, _ in batch)
    try:
        data = remote.run(f"cd {shlex.quote(there)} && cat -- {names}", deadline).data
    except RemoteFailed as failed:
        raise Damaged(f"the samples of {remote.name} cannot be read", cause=failed.cause) from failed
    at = 0
    for name, size in batch:
        segment = data[at : at + size]
        at += size
        unpacked(segment, f"{remote.name}:{there}/{name}")
        files.write(folder / name, segment)


def unpacked(segment: bytes, where: str) -> bytes:
    """The text of a segment; raises `Damaged` when it is cut or its check sum does not fit."""
    unpacker = zlib.decompressobj(31)
    try:
        text = unpacker.decompress(segment) + unpacker.flush()
    except zlib.error as error:
        raise Damaged(f"{where} is damaged", cause=str(error)) from error
    if not unpacker.eof:
        raise Damaged(f"{where} is damaged", cause="it ends too early")
    return text
