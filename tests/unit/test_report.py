"""Samples, report and provenance of a run, from data made here."""

from __future__ import annotations

import gzip
import json
import math
import re
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from g5kdeploy.experiment import load
from g5kdeploy.runs import Run, drawing, journal, samples
from g5kdeploy.runs.provenance import write_crate, write_sbom
from g5kdeploy.runs.report import write_report

NODE = "vm-1.lab.grid5000.fr"
WORKLOAD = {"cgroup": "/g5kdeploy.slice/g5kdeploy-workload.slice/bench.service"}
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)

Row = tuple[datetime, str, str, str, float]


def scrape(second: int, values: dict[tuple[str, tuple[tuple[str, str], ...]], float], up: bool = True) -> list[Row]:
    time = BEGAN + timedelta(seconds=second)
    rows: list[Row] = [(time, NODE, "up", "{}", float(up))]
    rows += [
        (time, NODE, metric, json.dumps(dict(labels), sort_keys=True), value)
        for (metric, labels), value in values.items()
    ]
    return rows


def histogram_values(counts: list[int], total: float) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Cumulative buckets with bounds 1 µs, 2 µs, 4 µs, ..., +Inf."""
    labels = tuple(WORKLOAD.items())
    values: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
    seen = 0
    for index, count in enumerate(counts):
        seen += count
        bound = "+Inf" if index == len(counts) - 1 else repr(1e-6 * 2**index)
        values["latency_seconds_bucket", (*labels, ("le", bound))] = seen
    values["latency_seconds_count", labels] = seen
    values["latency_seconds_sum", labels] = total
    values["calls_total", labels] = seen
    return values


def test_a_series_that_appears_later_began_at_nothing() -> None:
    rows = scrape(0, {("other_total", ()): 7.0}) + scrape(
        1, {("other_total", ()): 9.0, **histogram_values([1, 2, 3], 9.0)}
    )
    found = samples.of_rows(rows)
    assert found.increase("calls_total") == 6
    assert found.increase("other_total") == 2
    assert found.increase("calls_total", node="another") == 0
    assert found.increase("calls_total", cgroup=WORKLOAD["cgroup"]) == 6
    assert found.scrapes == {NODE: 2}
    assert found.count == len(rows)


def test_the_first_scrape_that_came_through_is_the_ground() -> None:
    rows = scrape(0, {}, up=False) + scrape(1, {("a_total", ()): 100.0}) + scrape(2, {("a_total", ()): 130.0})
    found = samples.of_rows(rows)
    assert found.increase("a_total") == 30
    assert (found.failed, found.scrapes) == ({NODE: 1}, {NODE: 2})


def test_a_counter_that_was_reset_goes_on_counting() -> None:
    rows = [
        row for second, value in enumerate((10.0, 15.0, 2.0, 4.0)) for row in scrape(second, {("a_total", ()): value})
    ]
    assert samples.of_rows(rows).increase("a_total") == 9


def test_a_histogram_is_exact() -> None:
    rows = scrape(0, {("x", ()): 1.0}) + scrape(1, histogram_values([0, 5, 3, 0, 2], 12e-6))
    (found,) = samples.of_rows(rows).histograms()
    assert (found.node, found.metric, found.labels, found.count) == (NODE, "latency_seconds", WORKLOAD, 10)
    assert [bucket.count for bucket in found.buckets] == [0, 5, 3, 0, 2]
    assert [bucket.count for bucket in found.trimmed()] == [5, 3, 0, 2]
    assert found.mean() == pytest.approx(1.2e-6)
    assert found.quantile(0.5) == pytest.approx(2e-6)
    assert found.quantile(0.25) == pytest.approx(1.5e-6)
    assert found.quantile(1.0) == pytest.approx(8e-6), "what lies above the last bound is told as that bound"


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=40))
def test_buckets_add_up_whatever_they_hold(counts: list[int]) -> None:
    rows = scrape(0, {("x", ()): 1.0}) + scrape(1, histogram_values(counts, 1.0))
    found = samples.of_rows(rows).histograms()
    if sum(counts) == 0:
        assert found == []
        return
    (one,) = found
    assert [bucket.count for bucket in one.buckets] == counts
    assert one.count == sum(counts)
    picture = ET.fromstring(drawing.svg(one))
    bars = [element for element in picture if element.get("class") == "bar"]
    assert len(bars) == len(one.trimmed())
    heights = [float(bar.get("height", "")) for bar in bars]
    assert all(height >= 0 for height in heights) and max(heights) > 0


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (5.12e-7, "512 ns"), (1.024e-6, "1.02 µs"), (2.5e-3, "2.5 ms"), (3, "3 s"), (math.inf, "∞")],
)
def test_times_on_an_axis(value: float, text: str) -> None:
    assert drawing.seconds_text(value) == text


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "roles.nix").write_text("{ }")
    file = tmp_path / "experiment.yaml"
    file.write_text("apiVersion: g5kdeploy/v1\nname: small\nroles: {server: {nodes: 1}}\n")
    run = Run.create(tmp_path / "runs", load(file), "lab", "lab")
    with run.phase("build", "key") as record:
        record.detail = "150 paths"
    run.set_node(
        NODE, role="server", stage="booted", facts={"release_before": "6.1-cloud", "release_after": "6.1-amd64"}
    )
    run.set(
        closures={"server": {"toplevel": "/nix/store/abc-nixos-system-server"}},
        job={"id": 42, "site": "lab"},
        benchmark={
            "role": "server",
            "command": "statx_bench <x>",
            "nodes": {NODE: {"outcome": "done", "status": 0, "seconds": 1.25}},
        },
    )
    rows = scrape(0, {("x", ()): 1.0}) + scrape(1, histogram_values([0, 5, 3, 0, 2], 12e-6))
    write_rows(run, rows)
    return run


def write_rows(run: Run, rows: list[Row]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    columns = zip(*rows, strict=True)
    run.metrics.mkdir(exist_ok=True)
    parquet.write_table(
        pa.table(dict(zip(("time", "node", "metric", "labels", "value"), columns, strict=True))),
        run.metrics / "a.parquet",
    )


class Page(HTMLParser):
    """What a browser would see, and what it would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.text = ""
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        assert tag not in ("script", "link", "iframe")

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_report_tells_all_and_needs_no_network(run: Run) -> None:
    run.warn("a <b>node</b> was lost")
    run.set_node(NODE, hardware={"processor": {"model": "Intel Xeon"}, "main_memory": {"ram_size": 8 << 30}})
    (run.node_folder(NODE) / "workload.log").write_text('starting\n{"calls": 10}\n')
    (run.node_folder(NODE) / "a: %odd# name?.txt").write_text("x")
    page = Page()
    text = write_report(run).read_text()
    page.feed(text)
    for words in ("150 paths", "6.1-cloud", "6.1-amd64", "/nix/store/abc-nixos-system-server", "latency_seconds",
                  "10 observations", "a <b>node</b> was lost", "statx_bench <x>", '{"calls": 10}', "Xeon"):  # fmt: skip
        assert words in page.text, words
    assert "<svg" in text
    assert not [address for address in page.addresses if re.match(r"[a-z]+:|//|/", address)]
    assert not re.search(r"url\(|@import", text)
    for address in page.addresses:
        assert (run.folder / unquote(address)).exists(), address


def test_the_report_tells_the_programs_modes_and_counters(run: Run) -> None:
    rows = [
        *scrape(0, {("statx_mock_total", (("event", "mocked"),)): 2.0}),
        *scrape(
            1,
            {
                ("g5k_bpf_program_loaded", (("config", "statx_mock"),)): 1.0,
                ("g5k_bpf_program_loaded", (("config", "xdp"),)): 0.0,
                ("g5k_bpf_mock_mode", (("config", "statx_mock"), ("mode", "override"))): 0.0,
                ("g5k_bpf_mock_mode", (("config", "statx_mock"), ("mode", "exit_rewrite"))): 1.0,
                ("statx_mock_total", (("event", "mocked"),)): 2.0,
            },
        ),
    ]
    write_rows(run, rows)
    page = Page()
    page.feed(write_report(run).read_text())
    words = " ".join(page.text.split())
    assert f"statx_mock {NODE} loaded exit_rewrite" in words
    assert f"xdp {NODE} not loaded" in words
    assert f"statx_mock_total event=mocked {NODE} 0 2" in words  # it grew by nothing meanwhile, and stands at 2


def test_a_report_of_a_run_that_has_nothing_yet(tmp_path: Path, run: Run) -> None:
    empty = Run.create(tmp_path / "runs", load(tmp_path), "lab", "lab")
    assert "0 samples" in write_report(empty).read_text()


def test_the_crate_names_every_file(run: Run) -> None:
    run.manifest_file.write_text("{}")
    write_report(run)
    crate = json.loads(write_crate(run).read_text())
    by_id = {entity["@id"]: entity for entity in crate["@graph"]}
    assert by_id["ro-crate-metadata.json"]["conformsTo"] == {"@id": "https://w3id.org/ro/crate/1.1"}
    parts = {part["@id"] for part in by_id["./"]["hasPart"]}
    assert parts == {"run.json", "experiment.yaml", "metrics/a.parquet", "report.html", "closure.json"}
    assert all(part in by_id for part in parts)
    assert write_crate(run).exists(), "again, over itself"


def test_the_sbom_lists_packages_and_paths(run: Run) -> None:
    run.manifest_file.write_text(
        json.dumps(
            {
                "paths": {"/nix/store/abc-x": {"nar_hash": "sha256-aaa", "nar_size": 12, "references": []}},
                "built": {"lock": {"libc6": {"version": "2.36", "sha256": "ab" * 32, "file": "libc6.deb"}}},
            }
        )
    )
    sbom = json.loads(write_sbom(run).read_text())
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.5")
    library, path = sbom["components"]
    assert library["purl"] == "pkg:deb/debian/libc6@2.36"
    assert library["hashes"] == [{"alg": "SHA-256", "content": "ab" * 32}]
    assert path["name"] == "/nix/store/abc-x"


def test_an_sbom_without_a_manifest_is_empty(run: Run) -> None:
    assert json.loads(write_sbom(run).read_text())["components"] == []


def test_a_collected_journal_can_be_read(tmp_path: Path) -> None:
    binary = b"line one\nline two"
    export = (
        b"__REALTIME_TIMESTAMP=1764346000000000\n_HOSTNAME=vm-1\nSYSLOG_IDENTIFIER=sshd\n_PID=7\n"
        b"_SYSTEMD_UNIT=ssh.service\nMESSAGE=hello \x1b[31mred\n\n"
        b"__REALTIME_TIMESTAMP=1764346001000000\n_HOSTNAME=vm-1\n_COMM=systemd\nUNIT=bench.service\nMESSAGE\n"
        + len(binary).to_bytes(8, "little")
        + binary
        + b"\n\n"
    )
    plain, zipped, cut = (tmp_path / name for name in ("a.export", "b.export.gz", "c.export.gz"))
    plain.write_bytes(export)
    zipped.write_bytes(gzip.compress(export))
    cut.write_bytes(gzip.compress(export)[:-12])
    for path in (plain, zipped):
        first, second = journal.lines(journal.read(path))
        assert first.endswith(" vm-1 sshd[7]: hello red")
        assert second.endswith(" vm-1 systemd: line one\n    line two")
        assert list(journal.lines(journal.read(path), "bench")) == [second]
    assert len(list(journal.read(cut))) <= 2
