"""What is remembered between scrapes is bounded, and scrapes that come together cost one reading."""

from __future__ import annotations

import gzip
import re
import threading
import time
from pathlib import Path
from typing import Any

from g5kdeploy.exporter import decoders as decoders_module
from g5kdeploy.exporter import exporter as exporter_module
from g5kdeploy.exporter.cgroups import Cgroups
from g5kdeploy.exporter.collector import MetricReader
from g5kdeploy.exporter.config import Config, Counter, Decoder, Label
from g5kdeploy.exporter.decoders import Decoders, Rows
from g5kdeploy.exporter.exporter import Exporter
from g5kdeploy.exporter.libbpf import Library, Map
from g5kdeploy.exporter.load_settings import LoadSettings
from g5kdeploy.exporter.loader import Loaded
from g5kdeploy.exporter.plan import Candidate, Plan

LABEL = Label("a", 8, 0, (Decoder("uint"),))


class Table:
    """A map in which other keys stand at every reading."""

    def __init__(self, size: int) -> None:
        self.map = Map("m", 1, 8, 8, size)
        self.size = size
        self.at = 0

    def read(self) -> Any:
        self.at += self.size
        return [(number.to_bytes(8, "little"), 1) for number in range(self.at, self.at + self.size)]


def test_keys_that_never_come_again_are_forgotten(tmp_path: Path) -> None:
    config = Config("x", tmp_path / "x.yaml", (Counter("m", "M", (LABEL,)),), ())
    loaded = Loaded("x", Plan("x", LoadSettings(), (Candidate(config),)), config)
    table: Any = Table(500)
    reader = MetricReader(loaded, config.counters[0], table, Decoders(Cgroups(tmp_path)))
    for _ in range(50):
        family = reader.family()
        assert family is not None and len(family.lines) == 500
        assert len(reader._rows._known) <= 2 * 500 + 1000
        assert len(reader._prefixes) <= 2 * 500 + 1000 + 500


def test_a_key_that_no_decoder_understands_is_left_out_and_counted(tmp_path: Path, caplog: Any) -> None:
    label = Label("a", 8, 0, (Decoder("string"), Decoder("errno")))
    config = Config("x", tmp_path / "x.yaml", (Counter("m", "M", (label,)),), ())
    loaded = Loaded("x", Plan("x", LoadSettings(), (Candidate(config),)), config)
    table: Any = Table(0)
    table.read = lambda: [(b"1" + bytes(7), 5), (b"evil\n}\0\0", 1), (b"2" + bytes(7), 6)]
    reader = MetricReader(loaded, config.counters[0], table, Decoders(Cgroups(tmp_path)))
    for _ in range(3):
        family = reader.family()
        assert family is not None and family.lines == ['{a="EPERM"} 5', '{a="ENOENT"} 6']
    assert reader.losses["undecodable"] == 3
    assert caplog.text.count("a key is left out") == 1


def test_only_so_many_rows_are_remembered(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(decoders_module, "_MOST_ROWS", 10)
    rows = Rows(Decoders(Cgroups(tmp_path)), (LABEL,))
    for number in range(100):
        assert rows.decode(number.to_bytes(8, "little")) == (str(number),)
    assert len(rows._known) == 10


def test_only_so_many_keys_that_are_left_out_are_remembered(tmp_path: Path) -> None:
    wanted = re.compile(rb"^[0-9]$")
    decoders = Decoders(Cgroups(tmp_path))
    label = Label("a", 8, 0, (Decoder("uint"), Decoder("regexp", regexps=(wanted,))))
    for most, kept in ((3, 3), (0, 0)):
        decoders.most_left_out = most
        rows = Rows(decoders, (label,))
        for _ in range(2):
            found = [rows.decode(number.to_bytes(8, "little")) for number in range(30)]
            assert [labels for labels in found if labels] == [(str(number),) for number in range(10)]
        assert len(rows._left_out) == kept and len(rows._known) == 10


class Queue:
    """A lock that knows how many want it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.wanted = 0
        self._count = threading.Lock()

    def __enter__(self) -> None:
        with self._count:
            self.wanted += 1
        self.lock.acquire()

    def __exit__(self, *_: object) -> None:
        self.lock.release()


def test_scrapes_that_come_together_share_reading_writing_and_packing(monkeypatch: Any) -> None:
    exporter = Exporter(Library(), Decoders(Cgroups()), [])
    queue: Any = Queue()
    exporter._lock = queue
    packed: list[int] = []
    pack = gzip.compress
    monkeypatch.setattr(
        exporter_module.gzip, "compress", lambda text, **settings: (packed.append(len(text)), pack(text, **settings))[1]
    )
    bodies = []
    wait = [threading.Thread(target=lambda: bodies.append(exporter.body(True, frozenset(), True))) for _ in range(12)]
    with queue:
        for thread in wait:
            thread.start()
        end = time.monotonic() + 120
        while queue.wanted < 13 and time.monotonic() < end:
            time.sleep(0.01)
    for thread in wait:
        thread.join(120)
    assert len(bodies) == 12 and len(set(bodies)) == 1 and len(packed) == 1
    assert b"g5k_bpf_scrape_seconds_count 1.0\n" in gzip.decompress(bodies[0].text)
    assert b"g5k_bpf_scrape_seconds_count 2.0\n" in exporter.scrape()


def test_answers_of_one_reading_do_not_pile_up() -> None:
    exporter = Exporter(Library(), Decoders(Cgroups()), [])
    snapshot = exporter._snapshot()
    for number in range(100):
        snapshot.begun = float("inf")  # nothing newer is read
        exporter.body(False, frozenset({f"name{number}"}), False)
    assert len(snapshot.bodies) <= 16
