"""Workloads, scrapers and files on a real SSH server, with a stand-in for its systemd."""

from __future__ import annotations

import gzip
import http.server
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.collect import (
    Outcome,
    Scraper,
    Workload,
    fetch_console,
    fetch_files,
    fetch_journal,
    fetch_samples,
    follow,
    scrape_now,
    start_scraper,
    start_workload,
    stop_scraper,
    stop_workload,
    write_parquet,
)
from g5kdeploy.collect.scrape import Damaged, ScraperGone
from g5kdeploy.collect.units import NotStarted
from g5kdeploy.node import Reach, Remote, fan_out
from g5kdeploy.node.remote import Overflow
from tests.support import systemd_shim
from tests.support.sshd import DEFAULT_PATH, SSHD, SshServer, make_key, write_ssh_config

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")

LONG = 180.0


def soon(seconds: float = LONG) -> Deadline:
    return Deadline.after(seconds, "the test")


def until(seen: Callable[[], bool], what: str) -> None:
    deadline = soon()
    while not seen():
        assert not deadline.passed(), what
        time.sleep(0.02)


class Machine:
    """A node: an SSH server whose commands find our stand-in for systemd first."""

    def __init__(self, folder: Path) -> None:
        self.home = folder / "home"
        key = make_key(self.home / ".ssh" / "id_ed25519")
        self.bin = systemd_shim.install(folder / "bin", folder / "state")
        self.units = folder / "state"
        path = f"{self.bin}:{DEFAULT_PATH}"
        self.server = SshServer(folder / "node", key.with_suffix(".pub").read_text(), path=path)
        lines = ("Host n1", "HostName 127.0.0.1", f"Port {self.server.port}", f"User {self.server.user}")
        write_ssh_config(self.home, "\n ".join(lines))

    def reach(self, known: Path) -> Reach:
        return Reach(self.home, known_hosts=known)


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    for supervisor in made.units.glob("*/supervisor"):  # of a test that failed
        os.kill(int(supervisor.read_text()), signal.SIGTERM)
    made.server.close()


@pytest.fixture
def node(machine: Machine, tmp_path: Path) -> Iterator[Remote]:
    with machine.reach(tmp_path / "known") as reach:
        yield reach.remote("n1", None)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(tmp_path / "var")


def named(request: pytest.FixtureRequest) -> str:
    """A unit's name of this test's own."""
    return f"{request.node.name[:60]}-{os.getpid()}".replace("[", "-").replace("]", "")


# --- workloads


def test_a_workload_runs_detached_and_is_followed(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    command = "echo \"$WORD\"; echo oops >&2; printf 'no newline'; pwd > where; exit 3"
    workload = Workload(named(request), command, LONG, {"WORD": "it's $HOME"}, base=base)
    lines: list[str] = []
    assert start_workload(node, workload, soon()) is True
    result = follow(node, workload, soon(), lines.append)
    assert (result.outcome, result.status) == (Outcome.FAILED, 3)
    assert result.ended >= result.started > 1e9
    assert sorted(lines) == ["it's $HOME", "no newline", "oops"]
    assert Path(workload.unit.folder, "work", "where").read_text().strip() == f"{workload.unit.folder}/work"
    assert start_workload(node, workload, soon()) is False  # it is over, and is not run again
    again: list[str] = []
    assert follow(node, workload, soon(), again.append) == result
    assert sorted(again) == sorted(lines)


def test_a_workload_that_succeeds(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "true", LONG, base=base)
    start_workload(node, workload, soon())
    assert follow(node, workload, soon()).outcome is Outcome.DONE


def test_a_workload_that_hangs_is_ended_by_its_node(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "echo began; sleep 1000 & sleep 1000", 0.5, base=base)
    start_workload(node, workload, soon())
    result = follow(node, workload, soon())
    assert (result.outcome, result.status, result.signal) == (Outcome.TIMEOUT, None, "TERM")
    assert "timeout of 0.5 s" in result.detail


def test_a_workload_that_dies_of_a_signal(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "kill -SEGV $$", LONG, base=base)
    start_workload(node, workload, soon())
    result = follow(node, workload, soon())
    assert (result.outcome, result.signal) == (Outcome.FAILED, "SEGV")


def test_many_starts_at_once_are_one(
    machine: Machine, node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    workload = Workload(named(request), f"echo ran >> {tmp_path}/ran", LONG, base=base)
    answers = fan_out([str(i) for i in range(6)], lambda name: start_workload(node, workload, soon()))
    assert sorted(map(bool, answers.values())) == [False] * 5 + [True], answers
    assert follow(node, workload, soon()).outcome is Outcome.DONE
    assert (tmp_path / "ran").read_text() == "ran\n"


def test_a_client_that_died_is_followed_by_another(
    machine: Machine, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    go = tmp_path / "go"
    command = f"echo first; while [ ! -e {go} ]; do sleep 0.05; done; echo last"
    workload = Workload(named(request), command, LONG, base=base)
    with machine.reach(tmp_path / "known") as first:
        assert start_workload(first.remote("n1", None), workload, soon()) is True
        with pytest.raises(DeadlinePassed):
            follow(first.remote("n1", None), workload, soon(1))
    lines: list[str] = []
    with machine.reach(tmp_path / "known") as second:
        assert start_workload(second.remote("n1", None), workload, soon()) is False
        go.touch()
        assert follow(second.remote("n1", None), workload, soon(), lines.append).outcome is Outcome.DONE
    assert lines == ["first", "last"]


def test_no_line_is_lost_or_doubled_when_the_connection_breaks(
    machine: Machine, node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    go = tmp_path / "go"
    command = (
        f"for i in 1 2 3; do echo line $i; done; while [ ! -e {go} ]; do sleep 0.05; done; echo half-; echo -n done"
    )
    workload = Workload(named(request), command, LONG, base=base)
    start_workload(node, workload, soon())
    lines: list[str] = []

    def out(line: str) -> None:
        lines.append(line)
        if line == "line 3":
            machine.server.cut()
            go.touch()

    assert follow(node, workload, soon(), out).outcome is Outcome.DONE
    assert lines == ["line 1", "line 2", "line 3", "half-", "done"]


def test_a_workload_is_stopped(node: Remote, base: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), f"touch {tmp_path}/began; sleep 1000", LONG, base=base)
    start_workload(node, workload, soon())
    until((tmp_path / "began").exists, "it began")
    stop_workload(node, workload, soon())
    stop_workload(node, workload, soon())
    result = follow(node, workload, soon())
    assert (result.outcome, result.signal) == (Outcome.FAILED, "TERM")


def test_a_workload_whose_node_rebooted_is_lost(node: Remote, base: str, request: pytest.FixtureRequest) -> None:
    workload = Workload(named(request), "true", LONG, base=base)
    assert follow(node, workload, soon()).outcome is Outcome.LOST  # never started
    start_workload(node, workload, soon())
    follow(node, workload, soon())
    folder = Path(workload.unit.folder)
    (folder / "status").unlink()
    assert "left no exit status" in follow(node, workload, soon()).detail
    (folder / "boot").chmod(0o600)
    (folder / "boot").write_text("another\n")
    result = follow(node, workload, soon())
    assert result.outcome is Outcome.LOST
    assert "rebooted" in result.detail
    assert start_workload(node, workload, soon()) is False  # it had begun: not a second time


def test_a_unit_that_systemd_refuses_is_told(
    machine: Machine, node: Remote, base: str, request: pytest.FixtureRequest
) -> None:
    workload = Workload(named(request), "true", LONG, slice="x y --what", base=base)
    bad = workload.unit
    object.__setattr__(bad, "argv", ("--unheard-of",))
    from g5kdeploy.collect import units

    with pytest.raises(NotStarted, match="unheard-of") as caught:
        units.start(node, bad, soon())
    assert "journalctl -u" in caught.value.hint


# --- scrapers


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


# --- files, journal, console


def test_files_come_under_their_own_paths(node: Remote, tmp_path: Path) -> None:
    out = tmp_path / "out dir"
    (out / "deep").mkdir(parents=True)
    (out / "a.json").write_text("{}")
    (out / "b.json").write_bytes(b"\0" * 1000)
    (out / "deep" / "c'd.txt").write_text("c")
    (out / "away").symlink_to("/etc/passwd")
    (out / "near").symlink_to("a.json")
    got = fetch_files(
        node, [f"{out}/*.json", f"{out}/deep", f"{out}/away", f"{out}/near", "/nothing/*.x"], tmp_path / "to", soon()
    )
    inside = str(out).lstrip("/")
    assert set(got.came) == {f"{inside}/{name}" for name in ("a.json", "b.json", "deep/c'd.txt", "near")}
    assert (tmp_path / "to" / inside / "b.json").read_bytes() == b"\0" * 1000
    assert (tmp_path / "to" / inside / "deep" / "c'd.txt").read_text() == "c"
    assert got.missing["/nothing/*.x"] == "nothing there"
    assert "away" in " ".join(got.missing)
    assert [path.name for path in (tmp_path / "to").iterdir()] == [inside.split("/")[0]]  # nothing left aside


def test_what_came_earlier_is_not_lost_to_what_comes_now(node: Remote, tmp_path: Path) -> None:
    out, to = tmp_path / "out", tmp_path / "to"
    inside = to / str(out).lstrip("/")

    def fetch(**files: str | None) -> list[str]:
        """A new folder with files (None: empty folders), brought as a whole and once more by name."""
        shutil.rmtree(out, ignore_errors=True)
        for name, text in files.items():
            path = out / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.mkdir() if text is None else path.write_text(text)
        got = fetch_files(node, [str(out), f"{out}/*"], to, soon())
        assert not got.missing
        return [str(Path("/", name).relative_to(out)) for name in got.came]

    assert fetch(a="file", b__c="below", d="same") == ["a", "b/c", "d"]
    assert fetch(a__x="below", b="file", d="new") == ["a/x", "b", "d"]
    assert fetch(a="file again", e=None) == ["a"]
    assert {str(path.relative_to(inside)): path.read_text() for path in inside.rglob("*") if path.is_file()} == {
        "a": "file again",
        "a.earlier": "file",
        "a.earlier-2/x": "below",
        "b": "file",
        "b.earlier/c": "below",
        "d": "new",
    }


def test_a_link_to_a_folder_and_what_is_behind_it_come(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "out" / "v1").mkdir(parents=True)
    (tmp_path / "out" / "v1" / "result").write_text("1")
    (tmp_path / "out" / "current").symlink_to("v1")
    got = fetch_files(node, [f"{tmp_path}/out", f"{tmp_path}/out/current/result"], tmp_path / "to", soon())
    inside = tmp_path / "to" / str(tmp_path / "out").lstrip("/")
    assert (inside / "current").readlink() == Path("v1")
    assert (inside / "current" / "result").read_text() == (inside / "v1" / "result").read_text() == "1"
    assert not got.missing


def test_too_many_bytes_do_not_come(node: Remote, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(500_000))
    with pytest.raises(Overflow, match="more than"):
        fetch_files(node, [f"{tmp_path}/big"], tmp_path / "to", soon(), limit=100_000)
    assert list((tmp_path / "to").iterdir()) == []
    assert fetch_files(node, [], tmp_path / "to", soon()).came == ()


def test_journal_and_console(machine: Machine, node: Remote, tmp_path: Path) -> None:
    journalctl = machine.bin / "journalctl"
    journalctl.write_text('#!/bin/sh\necho "$@"\n')
    journalctl.chmod(0o755)
    size = fetch_journal(node, tmp_path / "nodes" / "n1" / "journal.gz", soon())
    packed = (tmp_path / "nodes" / "n1" / "journal.gz").read_bytes()
    assert len(packed) == size
    assert gzip.decompress(packed) == b"--boot --no-pager --quiet --output=export\n"
    fetch_journal(node, tmp_path / "journal", soon(), form="json")
    assert "--output=json" in (tmp_path / "journal").read_text()
    fetch_console(node, tmp_path / "console", soon())
    assert "--dmesg" in (tmp_path / "console").read_text()
