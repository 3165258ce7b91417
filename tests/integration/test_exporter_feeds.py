"""What comes to the exporter between scrapes: events through rings, cgroups that come and go, ticks of perf events."""

from __future__ import annotations

import ctypes as ct
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from g5kdeploy.exporter import rings
from g5kdeploy.exporter.cgroups import Cgroups, root
from g5kdeploy.exporter.decoders import Decoders
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.exporter import Exporter
from g5kdeploy.exporter.libbpf import Library
from g5kdeploy.exporter.loader import Loader
from g5kdeploy.exporter.modules import Retry
from g5kdeploy.exporter.perf_event import PerfEventError, online, parse
from g5kdeploy.exporter.plan import make_plans
from g5kdeploy.exporter.syscalls import table

REPOSITORY = Path(__file__).parents[2]
CALL = "sched_rr_get_interval"
NUMBER = next(number for number, name in table().items() if name == CALL)
PR_SET_NAME = 15


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("feeds")
    shutil.copytree(REPOSITORY / "bpf" / "include", folder / "include")
    shutil.copy(REPOSITORY / "bpf" / "Makefile", folder)
    for name in ("feeds.*", "absent.*"):
        for file in (REPOSITORY / "tests" / "support" / "bpf").glob(name):
            shutil.copy(file, folder)
    subprocess.run(["make", "--silent", "-C", str(folder)], check=True, timeout=300)
    return folder / "build"


@pytest.fixture
def load(built: Path, tmp_path: Path) -> Iterator[Callable[[str], Exporter]]:
    """The object of tests/support/bpf with these values, by an exporter in this process."""
    with ExitStack() as ending:

        def run(values: str) -> Exporter:
            folder = tmp_path / "config"
            shutil.copytree(built, folder)
            (folder / "feeds.load.yaml").write_text(f"values: {{wanted_nr: {NUMBER}, {values}}}\n")
            library, mistakes = Library(), Mistakes()
            plans = make_plans(folder, ["feeds"], library, mistakes)
            assert mistakes.found == []
            decoders = Decoders(Cgroups())
            decoders.cgroups.watch()
            loaded = Loader(library, decoders).load(plans)
            exporter = Exporter(library, decoders, loaded)
            ending.callback(exporter.close)
            if "feed_call" not in loaded[0].attached:
                pytest.skip(f"this kernel does not take the program: {loaded[0].reasons}")
            return exporter

        yield run


def samples(exporter: Exporter) -> dict[str, float]:
    lines = exporter.scrape().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def until(exporter: Exporter, done: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    end = time.monotonic() + 120
    while not done(found := samples(exporter)):
        assert time.monotonic() < end, found
        time.sleep(0.01)
    return found


def call(name: str, times: int) -> None:
    """The syscall, from a thread of that name, all on one processor: so many fit into its ring as fit into one."""

    def run() -> None:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        ct.CDLL(None).prctl(PR_SET_NAME, name.encode(), 0, 0, 0)
        for _ in range(times):
            os.sched_rr_get_interval(0)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def events(found: dict[str, float]) -> float:
    return sum(value for name, value in found.items() if name.startswith("ebpf_exporter_feed_events_total"))


def lost(found: dict[str, float], reason: str) -> float:
    return found[f'g5k_bpf_events_lost_total{{config="feeds",map="feed_events_total",reason="{reason}"}}']


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (
            "      perf_event_array: true\n      flush_interval: 1000h\n",
            "",
            "the map is a perf_event_array, which a counter",
        ),
        (
            "    - name: feed_calls_total\n",
            "    - name: feed_calls_total\n      perf_event_array: true\n",
            "but the map is none",
        ),
        ("      perf_event_array: true\n", "", "flush_interval belongs to a perf_event_array"),
        ("flush_interval: 1000h", "flush_interval: often", "no duration"),
        ("type: hash", "type: cgrp_storage", "no map of type cgrp_storage"),
        ("type: hash", "type: list", "unknown type list"),
        ("name: feed_cgroups", "name: absent", "no map absent"),
        ("name: feed_cgroups", "name: feed_ticks_total", "no map of type hash"),
        ('["/g5kdeploy-feed-[^/]*/wanted"]', '["("]', "no regular expression"),
        ('["/g5kdeploy-feed-[^/]*/wanted"]', "[]", "no cgroup would ever match"),
        ("cgroup_id_map:\n", "cgroup_id_map:\n  more: 1\n", "unknown key more"),
        ("cgroup_id_map:", "tracing: {spans: []}\ncgroup_id_map:", "tracing spans are not supported"),
    ],
)
def test_what_feeds_a_program_is_checked_before_loading(
    built: Path, tmp_path: Path, old: str, new: str, words: str
) -> None:
    shutil.copy(built / "feeds.bpf.o", tmp_path)
    text = (built / "feeds.yaml").read_text()
    assert old in text
    (tmp_path / "feeds.yaml").write_text(text.replace(old, new))
    mistakes = Mistakes()
    assert make_plans(tmp_path, ["feeds"], Library(), mistakes) == []
    assert any(words in entry for entry in mistakes.found), mistakes.found


@pytest.mark.parametrize("section", ["perf_event/type=1,confg=0", "perf_event/", "perf_event/type=x"])
def test_sections_that_name_no_event(section: str) -> None:
    with pytest.raises(PerfEventError, match="is not one of type=NUMBER"):
        parse(section)


def test_cpus_that_are_online(tmp_path: Path) -> None:
    (tmp_path / "online").write_text("0-2,5\n")
    assert online(tmp_path / "online") == [0, 1, 2, 5]


def test_every_event_of_a_ring_is_counted(load: Callable[[str], Exporter]) -> None:
    name = f"ring{os.getpid()}"
    exporter = load(f"wanted_comm: {name}")
    call(name, 1234)
    call("bystander", 10)
    found = until(exporter, lambda found: events(found) >= 1234)
    assert found[f'ebpf_exporter_feed_events_total{{syscall="{CALL}",number="0"}}'] == 1234
    assert events(found) == 1234
    assert [lost(found, reason) for reason in ("ring_full", "too_many", "too_short")] == [0, 0, 0]


def test_what_a_full_ring_loses_is_counted(load: Callable[[str], Exporter]) -> None:
    """Nobody empties it meanwhile; when somebody does, the kernel says how many there was no room for."""
    name = f"full{os.getpid()}"
    exporter = load(f"wanted_comm: {name}")
    ring = exporter.loaded[0].rings["feed_events_total"]
    with ring._lock:
        call(name, 30000)
    end = time.monotonic() + 120
    made = 30000
    while True:  # a processor's loss is told with its next event
        call(name, 1)
        made += 1
        found = samples(exporter)
        if lost(found, "ring_full") and events(found) + lost(found, "ring_full") >= made:
            break
        assert time.monotonic() < end, found
    assert lost(found, "ring_full") > 1000


def test_only_so_many_different_events_are_kept(
    load: Callable[[str], Exporter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rings, "_MOST_ROWS", 50)
    name = f"many{os.getpid()}"
    exporter = load(f"wanted_comm: {name}, unique: 1")
    call(name, 80)
    found = until(exporter, lambda found: events(found) + lost(found, "too_many") >= 80)
    assert (events(found), lost(found, "too_many")) == (50, 30)


def test_counts_are_flushed(load: Callable[[str], Exporter]) -> None:
    name = f"flush{os.getpid()}"
    exporter = load(f"wanted_comm: {name}")
    call(name, 3)
    until(exporter, lambda found: events(found) == 3)
    ring = exporter.loaded[0].rings["feed_events_total"]
    now = ring._clock() + 1000 * 3600
    ring._clock = lambda: now
    assert events(samples(exporter)) == 0
    call(name, 2)
    until(exporter, lambda found: events(found) == 2)


def test_a_program_at_the_ticks_of_a_clock(load: Callable[[str], Exporter]) -> None:
    exporter = load("unique: 0")
    loaded = exporter.loaded[0]
    if "feed_tick" not in loaded.attached:
        pytest.skip(f"this machine does not take it: {loaded.reasons}")

    def ticked(found: dict[str, float]) -> bool:
        sum(range(100_000))  # the clock ticks for processors that are not idle
        return found["ebpf_exporter_feed_ticks_total"] > 3

    until(exporter, ticked)


def test_the_cgroups_that_match_are_in_the_map_as_they_come_and_go(load: Callable[[str], Exporter]) -> None:
    top = root()
    if top is None:
        pytest.skip("needs cgroup v2")
    folder = top / f"g5kdeploy-feed-{os.getpid()}"
    try:
        (folder / "wanted").mkdir(parents=True)
    except OSError as problem:
        pytest.skip(f"needs cgroups of its own: {problem}")
    try:
        (folder / "other").mkdir()
        exporter = load("unique: 0")
        entries = 'g5k_bpf_map_entries{config="feeds",map="feed_cgroups"}'
        assert samples(exporter)[entries] == 1
        (folder / "wanted_too").mkdir()
        until(exporter, lambda found: found[entries] == 2)
        script = "import os, sys; open(sys.argv[1] + '/cgroup.procs', 'w').write('0'); os.sched_rr_get_interval(0)"
        for name in ("wanted", "wanted_too", "other"):
            subprocess.run(["python3", "-c", script, str(folder / name)], check=True, timeout=120)
        calls = {n: v for n, v in samples(exporter).items() if n.startswith("ebpf_exporter_feed_calls_total")}
        assert calls == {
            f'ebpf_exporter_feed_calls_total{{cgroup="{folder / name}"}}': 1 for name in ("wanted", "wanted_too")
        }
        (folder / "wanted_too").rmdir()
        until(exporter, lambda found: found[entries] == 1)
    finally:
        for child in ("wanted", "wanted_too", "other", "."):
            if (folder / child).is_dir():
                (folder / child).rmdir()


def test_an_object_that_does_not_load_for_want_of_a_function_is_loaded_anew_when_a_module_comes(built: Path) -> None:
    """In vain, as no module has it; the reason stays, and so does the wait."""
    library, mistakes, modules = Library(), Mistakes(), {"ext4"}
    (plan,) = make_plans(built, ["absent"], library, mistakes)
    loader = Loader(library, Decoders(Cgroups()))
    (loaded,) = loader.load([plan])
    if not loaded.waiting:
        pytest.skip(f"this kernel does not take the program: {loaded.reasons}")
    exporter = Exporter(library, loader.decoders, [loaded])
    again = Retry(loader, [loaded], lambda: frozenset(modules))
    modules.add("nfs")
    assert again.look() == [] and loaded.attempts == 1
    found = samples(exporter)
    assert found['g5k_bpf_program_waiting{config="absent"}'] == 1
    assert found['g5k_bpf_retries_total{config="absent"}'] == 1
    assert found['g5k_bpf_program_loaded{config="absent"}'] == 0
    (reason,) = (name for name in found if name.startswith('g5k_bpf_failure_info{config="absent"'))
    assert "g5kdeploy_never_there, or its module is not loaded" in reason
    exporter.close()


def test_objects_that_are_loaded_side_by_side_are_each_refused_for_their_own_reason(
    built: Path, tmp_path: Path
) -> None:
    names = [f"absent{number}" for number in range(6)]
    for number, name in enumerate(names):
        for suffix in (".bpf.o", ".yaml"):
            content = (built / f"absent{suffix}").read_bytes()
            content = content.replace(b"absent_total", b"absen%d_total" % number)
            (tmp_path / f"{name}{suffix}").write_bytes(content.replace(b"never_there", b"never_ther%d" % number))
    library, mistakes = Library(), Mistakes()
    plans = make_plans(tmp_path, names, library, mistakes)
    assert mistakes.found == []
    loaded = Loader(library, Decoders(Cgroups())).load(plans)
    assert [one.name for one in loaded] == names
    if not all(one.waiting for one in loaded):
        pytest.skip(f"this kernel does not take such a program: {loaded[0].reasons}")
    for number, one in enumerate(loaded):
        assert f"g5kdeploy_never_ther{number}, or its module is not loaded" in one.reasons[one.name]
