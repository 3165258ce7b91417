"""Scrapers on a real SSH server, with a stand-in for its systemd."""

from __future__ import annotations

import gzip
import http.server
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from g5kdeploy.collect import (
    Scraper,
    fetch_samples,
    scrape_now,
    start_scraper,
    stop_scraper,
    write_parquet,
)
from g5kdeploy.collect.scrape import Damaged, ScraperGone
from g5kdeploy.node import Remote
from tests.support.collecting import Machine, named, soon, until
from tests.support.sshd import SSHD

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")


class Exporter:
    """An HTTP server whose counter the test moves, and that counts its answers."""

    def __init__(self) -> None:
        self.value = 0
        self.answered = 0
        exporter = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                exporter.answered += 1
                self.wfile.write(f'# TYPE calls_total counter\ncalls_total{{a="b"}} {exporter.value}\n'.encode())

            def log_message(self, *words: object) -> None:
                """Quiet."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/metrics"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def exporter() -> Iterator[Exporter]:
    made = Exporter()
    yield made
    made.close()


def values(parquet: Path, node: str, metric: str) -> list[float]:
    import pyarrow.parquet as pq

    rows = pq.read_table(parquet).to_pylist()
    return [row["value"] for row in rows if (row["node"], row["metric"]) == (node, metric)]


def test_a_counter_is_exact_between_two_scrapes_asked_for(
    node: Remote, exporter: Exporter, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    targets = {"n1": exporter.url, "n2": "http://127.0.0.1:1/metrics"}
    scraper = Scraper(named(request), targets, 3600, base=base)
    assert start_scraper(node, scraper, soon()) is True
    assert start_scraper(node, scraper, soon()) is False
    errors = scrape_now(node, scraper, soon())
    assert errors["n1"] == ""
    assert "refused" in errors["n2"]
    first = fetch_samples(node, scraper, tmp_path / "segments", soon())
    assert first.new == first.segments > 0
    exporter.value = 12345
    scrape_now(node, scraper, soon())
    second = fetch_samples(node, scraper, tmp_path / "segments", soon())
    assert (second.new, second.segments) == (1, first.segments + 1)
    assert second.bytes > 0
    assert fetch_samples(node, scraper, tmp_path / "segments", soon()).new == 0
    stop_scraper(node, scraper, soon())
    write_parquet(tmp_path / "segments", tmp_path / "m.parquet")
    seen = values(tmp_path / "m.parquet", "n1", "calls_total")
    assert (seen[0], seen[-1]) == (0, 12345)
    assert set(values(tmp_path / "m.parquet", "n2", "up")) == {0}
    with pytest.raises(ScraperGone, match="does not run"):
        scrape_now(node, scraper, soon())


def test_stopping_closes_the_last_segment(
    node: Remote, exporter: Exporter, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scraper = Scraper(named(request), {"n1": exporter.url}, 0.05, base=base)
    start_scraper(node, scraper, soon())
    scrape_now(node, scraper, soon())
    exporter.value = 7
    before = exporter.answered
    until(lambda: exporter.answered > before + 1, "the scraper reads at its interval")
    stop_scraper(node, scraper, soon())
    fetch_samples(node, scraper, tmp_path / "s", soon())
    assert not list(Path(scraper.unit.folder, "segments").glob("*.part"))
    write_parquet(tmp_path / "s", tmp_path / "m.parquet")
    assert 7 in values(tmp_path / "m.parquet", "n1", "calls_total")


def test_a_scraper_that_is_killed_comes_back_and_goes_on(
    machine: Machine, node: Remote, exporter: Exporter, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    scraper = Scraper(named(request), {"n1": exporter.url}, 3600, base=base)
    start_scraper(node, scraper, soon())
    scrape_now(node, scraper, soon())
    main = int((machine.units / scraper.unit.unit / "state").read_text().split()[1])
    os.kill(main, signal.SIGKILL)
    exporter.value = 5
    scrape_now(node, scraper, soon())
    stop_scraper(node, scraper, soon())
    fetch_samples(node, scraper, tmp_path / "s", soon())
    write_parquet(tmp_path / "s", tmp_path / "m.parquet")
    seen = values(tmp_path / "m.parquet", "n1", "calls_total")
    assert (seen[0], seen[-1]) == (0, 5)


def test_a_damaged_segment_is_told_and_the_good_ones_come(node: Remote, base: str, tmp_path: Path) -> None:
    scraper = Scraper("damaged", {"n1": "http://x/"}, base=base)
    assert fetch_samples(node, scraper, tmp_path / "s", soon()).segments == 0
    there = Path(scraper.unit.folder, "segments")
    there.mkdir(parents=True)
    (there / "1.gz").write_bytes(gzip.compress(b"#scrape 1 1 n1 0 \n\n"))
    (there / "2.gz").write_bytes(gzip.compress(b"#scrape 1 1 n1 0 \n\n")[:-3])
    (there / "3.part").write_bytes(b"not yet")
    with pytest.raises(Damaged, match=r"2\.gz"):
        fetch_samples(node, scraper, tmp_path / "s", soon())
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["1.gz"]
