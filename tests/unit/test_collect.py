"""Units, the scraper's program, segments and samples: what needs no node."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.collect import Outcome, Scraper, Workload, scraper_program, write_parquet
from g5kdeploy.collect.fetch import _pattern
from g5kdeploy.collect.samples import Exposition, scrapes
from g5kdeploy.collect.scrape import Damaged, _batches, program, unpacked
from g5kdeploy.collect.workload import _result
from g5kdeploy.events.failure import InvalidUse

LONG = 120.0


# --- the words that start a unit


def properties(words: list[str]) -> list[str]:
    return [words[index + 1] for index, word in enumerate(words) if word == "-p"]


def test_a_workload_has_a_unit_a_slice_and_a_deadline_of_its_own() -> None:
    words = Workload("run-1", "bench", 30.5, {"SECRET": "s3cret"}, user="jane", slice="g5kdeploy-w").unit.systemd_run()
    assert "--unit=g5kdeploy-workload-run-1.service" in words
    assert "--slice=g5kdeploy-w.slice" in words
    assert words[-2:] == ["/bin/sh", "/var/lib/g5kdeploy/workload-run-1/program"]
    assert {
        "RuntimeMaxSec=30.5",
        "User=jane",
        "Delegate=yes",
        "StandardOutput=append:/var/lib/g5kdeploy/workload-run-1/stdout",
    } <= set(properties(words))
    assert any(word.startswith("ExecStopPost=+/bin/sh") for word in properties(words))
    assert "s3cret" not in " ".join(words)  # what everybody on the node can read


def test_a_workload_and_a_scraper_may_have_one_name() -> None:
    one, other = Workload("run-1", "true", 1).unit, Scraper("run-1", {"n1": "http://127.0.0.1/"}).unit
    assert one.unit != other.unit
    assert one.folder != other.folder


def test_a_scraper_starts_again_when_it_fails() -> None:
    words = Scraper("s", {"n1": "http://127.0.0.1:9435/metrics"}, 0.5).unit.systemd_run()
    assert "Restart=on-failure" in properties(words)
    assert not any("RuntimeMaxSec" in word for word in words)


@pytest.mark.parametrize("name", ["a/b", "a b", "é", "x" * 200])
def test_a_name_that_cannot_be_a_units_is_refused(name: str) -> None:
    with pytest.raises(InvalidUse):
        Workload(name, "true", 1).unit.systemd_run()


def test_a_variable_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidUse, match="A-B"):
        _ = Workload("w", "true", 1, {"A-B": "x"}).unit


@pytest.mark.parametrize("targets", [{"n 1": "http://x/"}, {"n1": "https://x/"}, {"n1": "file:///etc"}])
def test_a_target_that_cannot_be_scraped_is_refused(targets: dict[str, str]) -> None:
    with pytest.raises(InvalidUse, match="cannot be scraped"):
        _ = Scraper("s", targets).unit


# --- how a workload ended


BOOTS = {"boot": "b", "boot_now": "b", "now": "30.0", "started": "10.0"}


@pytest.mark.parametrize(
    ("report", "outcome", "status", "detail"),
    [
        ({"result": "success", "code": "exited", "status": "0"}, Outcome.DONE, 0, ""),
        ({"result": "exit-code", "code": "exited", "status": "3"}, Outcome.FAILED, 3, "exit status 3"),
        ({"result": "signal", "code": "killed", "status": "SEGV"}, Outcome.FAILED, None, "killed by SIGSEGV"),
        ({"result": "success", "code": "killed", "status": "TERM"}, Outcome.FAILED, None, "killed by SIGTERM"),
        ({"result": "oom-kill", "code": "killed", "status": "KILL"}, Outcome.FAILED, None, "ran out of memory"),
        ({"result": "timeout", "code": "killed", "status": "TERM"}, Outcome.TIMEOUT, None, "timeout of 5 s"),
        ({}, Outcome.LOST, None, "left no exit status"),
        ({"boot_now": "other"}, Outcome.LOST, None, "rebooted"),
        ({"boot": "", "started": ""}, Outcome.LOST, None, "no trace"),
    ],
)
def test_every_end_has_its_outcome(report: dict[str, str], outcome: Outcome, status: int | None, detail: str) -> None:
    ended = {"ended": "20.0"} if "result" in report else {}
    result = _result(Workload("w", "true", 5), {**BOOTS, **ended, **report})
    assert (result.outcome, result.status) == (outcome, status)
    assert detail in result.detail
    if "result" in report:
        assert result.seconds == 10


@pytest.mark.parametrize(("ended", "seconds"), [("-5000.0", 12.5), ("900000.0", 12.5), ("22.6", 12.6)])
def test_a_clock_that_is_set_meanwhile_changes_no_duration(ended: str, seconds: float) -> None:
    report = {"result": "success", "code": "exited", "status": "0", "since": "100.00", "until": "112.50"}
    result = _result(Workload("w", "true", 5), {**BOOTS, **report, "ended": ended})
    assert round(result.seconds, 3) == seconds


# --- the scraper's program, on bare sockets


def serve(*answers: bytes) -> tuple[int, Callable[[], list[bytes]]]:
    """A port on which the n-th connection gets the n-th answer and is closed; and the requests that came."""
    import socket

    listener = socket.create_server(("127.0.0.1", 0))
    requests: list[bytes] = []

    def run() -> None:
        with listener:
            for answer in answers:
                wire, _ = listener.accept()
                with wire:
                    requests.append(wire.recv(65536))
                    wire.sendall(answer)

    thread = threading.Thread(target=run)
    thread.start()

    def done() -> list[bytes]:
        thread.join(LONG)
        return requests

    return listener.getsockname()[1], done


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\n\r\nup 1\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 1\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nup \r\n2;x=y\r\n1\n\r\n0\r\n\r\n",
    ],
)
def test_an_answer_is_read_to_its_end(answer: bytes) -> None:
    port, done = serve(answer)
    assert scraper_program.read(f"http://127.0.0.1:{port}/metrics?x=1", LONG) == b"up 1\n"
    assert done()[0].startswith(b"GET /metrics?x=1 HTTP/1.0\r\nHost: 127.0.0.1:")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "not HTTP"),
        (b"garbage\r\n\r\n", "not HTTP"),
        (b"HTTP/1.0 503 Service Unavailable\r\n\r\nno", "HTTP status 503 Service Unavailable"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nup 1\n", "5 of 9 bytes"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nup", "cut"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "cut"),
    ],
)
def test_an_answer_that_is_none_or_cut_is_an_error(answer: bytes, said: str) -> None:
    port, done = serve(answer)
    with pytest.raises(ValueError, match=said):
        scraper_program.read(f"http://127.0.0.1:{port}/", LONG)
    done()


def test_an_exporter_that_does_not_answer_is_given_up() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OSError, match="time"):
        scraper_program.read(f"http://127.0.0.1:{silent.getsockname()[1]}/", 0.3)


def test_segments_are_whole_and_in_order(tmp_path: Path) -> None:
    folder = tmp_path / "segments"
    segments = scraper_program.Segments(folder)
    segments.close()
    assert list(folder.iterdir()) == []
    for text in (b"one", b"two"):
        segments.add(text)
        segments.add(b"more")
        assert not segments.due()
        segments.close()
    assert [gzip.decompress(path.read_bytes()) for path in sorted(folder.iterdir())] == [b"onemore", b"twomore"]
    segments.add(b"x" * scraper_program.SIZE)
    assert segments.due()


def test_a_bare_interpreter_can_run_the_scraper() -> None:
    """Debian's python3-minimal lacks these, among others."""
    code = f"import runpy, sys; runpy.run_path({scraper_program.__file__!r}); print(' '.join(sys.modules))"
    loaded = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True, timeout=LONG
    ).stdout.split()
    missing = {"json", "gzip", "bz2", "lzma", "http", "urllib.request", "xml", "asyncio", "shutil", "concurrent",
               "multiprocessing", "dataclasses_json", "difflib", "queue", "random", "secrets", "uuid"}  # fmt: skip
    assert missing & set(loaded) == set()
    assert program() == Path(scraper_program.__file__).read_text()


# --- segments into samples


def segment(*records: tuple[float, str, str, bytes]) -> bytes:
    text = b"".join(
        f"#scrape {time:.6f} 0.25 {node} {len(body)} {error}\n".encode() + body + b"\n"
        for time, node, error, body in records
    )
    return gzip.compress(text)


BODY = b"""# HELP calls_total Calls
# TYPE calls_total counter
calls_total{cgroup="/a \\"quoted\\", b",z="1"} 1e3
calls_total 2
# TYPE h histogram
h_bucket{le="+Inf"} +Inf
h_count NaN

stamped 5 1700000000000
"""


@pytest.fixture
def table(tmp_path: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1-1.gz").write_bytes(segment((1000.5, "n1", "", BODY), (1000.5, "n2", "refused: no", b"")))
    (tmp_path / "s" / "1-2.gz").write_bytes(segment((1001.5, "n1", "", BODY), (1001.5, "n2", "", b"<html>\n")))
    count = write_parquet(tmp_path / "s", tmp_path / "metrics" / "m.parquet")
    rows = pq.read_table(tmp_path / "metrics" / "m.parquet").to_pylist()
    assert count == len(rows)
    assert list((tmp_path / "metrics").iterdir()) == [tmp_path / "metrics" / "m.parquet"]
    return rows


def test_samples_are_as_they_were_said(table: list[dict[str, Any]]) -> None:
    first = [row for row in table if row["node"] == "n1"][:7]
    assert {row["time"] for row in first} == {datetime.fromtimestamp(1000.5, UTC)}
    assert [(row["metric"], json.loads(row["labels"])) for row in first] == [
        ("calls_total", {"cgroup": '/a "quoted", b', "z": "1"}),
        ("calls_total", {}),
        ("h_bucket", {"le": "+Inf"}),
        ("h_count", {}),
        ("stamped", {}),
        ("up", {}),
        ("scrape_duration_seconds", {}),
    ]
    values = [row["value"] for row in first]
    assert values[:3] == [1000, 2, float("inf")]
    assert values[3] != values[3]
    assert values[4:] == [5, 1, 0.25]
    assert len([row for row in table if row["metric"] == "calls_total"]) == 4


def test_an_exporter_that_is_away_or_talks_nonsense_is_down(table: list[dict[str, Any]]) -> None:
    assert [row["value"] for row in table if row["node"] == "n2" and row["metric"] == "up"] == [0, 0]


def test_no_segments_make_an_empty_table(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    assert write_parquet(tmp_path / "none", tmp_path / "m.parquet") == 0
    assert pq.read_table(tmp_path / "m.parquet").column_names == ["time", "node", "metric", "labels", "value"]


def test_row_groups_join_to_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pyarrow.parquet as pq

    from g5kdeploy.collect import samples

    monkeypatch.setattr(samples, "ROWS", 3)
    (tmp_path / "1.gz").write_bytes(segment(*((float(i), "n", "", b"x 1\n") for i in range(1, 6))))
    assert write_parquet(tmp_path, tmp_path / "m.parquet") == 15
    assert pq.read_table(tmp_path / "m.parquet").num_rows == 15


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_a_segment_that_was_cut_is_damaged(cut: int) -> None:
    whole = segment((1.0, "n1", "", BODY))
    assert next(iter(scrapes(unpacked(whole, "x"), "x"))).body == BODY
    with pytest.raises(Damaged, match=r"x\.gz is damaged"):
        unpacked(whole[:-cut], "x.gz")


@pytest.mark.parametrize("text", [b"what\n", b"#scrape 1 1 n 100 \nshort", b"#scrape 1 1 n x \n\n", b"#scrape 1"])
def test_a_text_that_is_no_segment_is_damaged(text: bytes) -> None:
    with pytest.raises(Damaged, match="no segment"):
        list(scrapes(text, "x"))


def test_a_series_is_parsed_once() -> None:
    exposition = Exposition()
    for value in (1.0, 2.0):
        assert exposition.samples(f'x{{a="b"}} {value}\n'.encode()) == [("x", '{"a":"b"}', value)]
    with pytest.raises(ValueError, match="float"):
        exposition.samples(b'x{a="b"} many\n')


def test_batches_are_small_enough() -> None:
    names = [(f"{i}", 3 << 20) for i in range(5)]
    assert [len(batch) for batch in _batches(names)] == [2, 2, 1]
    assert [len(batch) for batch in _batches([("a", 1 << 30), ("b", 1)])] == [1, 1]
    assert [len(batch) for batch in _batches([(str(i), 1) for i in range(1001)])] == [500, 500, 1]
    assert _batches([]) == []


def test_a_pattern_keeps_its_stars_and_nothing_else() -> None:
    assert _pattern("/a b/*.c") == "'/a b/'*.c"
    assert _pattern("x;rm -rf $HOME") == "'/x;rm '-'rf $HOME'"
