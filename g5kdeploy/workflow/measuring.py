"""The phases bench and collect: the workload detached on its nodes, scraped meanwhile, and everything brought back."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable
from typing import Any

from g5kdeploy import collect
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.collect import Outcome, Scraper, Workload, WorkloadResult
from g5kdeploy.events.event import State
from g5kdeploy.events.failure import ExitCode, Failure, InvalidUse
from g5kdeploy.node import RemoteFailed, Stage, fan_out
from g5kdeploy.node.problems import Overflow
from g5kdeploy.workflow.session import Session

START_SECONDS = 120.0
SLACK_SECONDS = 120.0
FETCH_SECONDS = 600.0
JOB_EVERY = 10.0  # seconds between two looks at the job while nodes are out of sight
FETCH_EVERY = 10.0  # seconds between two fetches of samples while the workload runs


class WorkloadFailed(Failure):
    """The workload ended with an error, was ended by its timeout, or vanished with its node."""


def workload(session: Session) -> Workload:
    """The benchmark's workload under its attempt's name: the same name is the same workload, for a later process too."""
    told = session.experiment.benchmark
    if told is None:
        raise InvalidUse(f"{session.experiment.file.name} has no benchmark", hint="add a `benchmark:` to it")
    return Workload(_named(session), told.command, float(told.timeout), files=told.files)


def scraper(session: Session, node: str) -> Scraper:
    """The scraper of a node's own exporter."""
    told = session.experiment.benchmark
    url = f"http://127.0.0.1:{session.experiment.exporter.port}/metrics"
    return Scraper(_named(session), {node: url}, told.scrape_interval if told else 1.0)


def _named(session: Session) -> str:
    attempt = _known(session).get("attempt", 1)
    return session.run.id if attempt == 1 else f"{session.run.id}-{attempt}"


def _known(session: Session) -> dict[str, Any]:
    return dict(session.run.document()["benchmark"] or {})


def _attempt(session: Session) -> Workload:
    """The workload to run or to attach to. One that failed, another measurement, or --again make another attempt.

    Another measurement is one by another role or command, or on nodes that were booted since. What an earlier attempt
    still does is ended, and what came of it is put aside: nothing is counted together.
    """
    asked = workload(session)
    assert session.experiment.benchmark is not None
    known = _known(session)
    number = known.get("attempt", 1)
    boots = {node: session.run.nodes()[node]["facts"].get("boot_id") for node in session.nodes(at_least=Stage.BOOTED)}
    if known:
        before = known.get("boots", {})
        booted_since = any(before.get(node, boot) != boot for node, boot in boots.items())
        other = (known["role"], known["command"]) != (session.experiment.benchmark.role, asked.command)
        if not (known.get("failed") or session.again or other or booted_since):
            return asked
        _end_attempt(session, known["role"], asked)
        _put_aside(session, number)
        number += 1
    role = session.experiment.benchmark.role
    session.run.set(benchmark={"role": role, "command": asked.command, "attempt": number, "boots": boots, "nodes": {}})
    return workload(session)


def _end_attempt(session: Session, role: str, asked: Workload) -> None:
    """End what an attempt still does on the nodes: its workload, and the scrapers; those out of sight are passed over."""
    working = session.nodes(role=role, at_least=Stage.BOOTED)
    scraped = session.instrumented()

    def end(node: str) -> None:
        deadline = session.deadline(START_SECONDS, f"the end of the earlier attempt on {node}")
        remote = session.reach.remote(node)
        if node in working:
            collect.stop_workload(remote, asked, deadline)
        if node in scraped:
            collect.stop_scraper(remote, scraper(session, node), deadline)

    fan_out({*working, *scraped}, end)


def _put_aside(session: Session, number: int) -> None:
    """What came of an attempt, under names with its number."""
    for node in session.run.nodes():
        folder = session.run.node_folder(node)
        for path in (folder / "samples", folder / "files", folder / "workload.log"):
            aside = path.with_stem(f"{path.stem}-{number}")
            while aside.exists():  # of one who was killed here, and whose results were collected once more
                aside = aside.with_stem(f"{aside.stem}-again")
            if path.exists():
                path.rename(aside)
        (session.run.metrics / f"{node}.parquet").unlink(missing_ok=True)


def bench(session: Session) -> dict[str, Any]:
    """Scrape before, run the workload while scraping, scrape after; a workload that is under way is attached to."""
    asked = _attempt(session)
    assert session.experiment.benchmark is not None
    role = session.experiment.benchmark.role
    nodes = session.nodes(role=role, at_least=Stage.BOOTED)
    if not nodes:
        raise InvalidUse(f"no node of role {role} is up", hint="g5kdeploy deploy")
    watched = session.instrumented()
    session.on_nodes(watched, lambda node: _begin_scraping(session, node))
    watch = _job_watch(session)
    ended = threading.Event()
    fetcher = threading.Thread(target=_keep_fetching, args=(session, list(watched), ended), daemon=True)
    fetcher.start()
    try:
        results = session.on_nodes(nodes, lambda node: _work(session, node, asked, watch))
        told = {node: _told(result) for node, result in results.items()}
        failed = any(result.outcome is not Outcome.DONE for result in results.values())
        session.run.set(benchmark={**_known(session), "nodes": told, "failed": failed})
        if failed:  # nodes of which it took the scraper along, as by a full disk, still have something to tell
            for node, answer in fan_out(watched, lambda node: _end_scraping(session, node)).items():
                if isinstance(answer, Problem):
                    session.emit.warn("samples", str(answer), node)
        else:
            session.on_nodes(watched, lambda node: _end_scraping(session, node))
    finally:
        ended.set()
        fetcher.join(FETCH_EVERY)
    _judge(session, results, asked)
    return {"nodes": told}


def _begin_scraping(session: Session, node: str) -> None:
    deadline = session.deadline(START_SECONDS, f"the scraper of {node}")
    remote = session.reach.remote(node)
    collect.start_scraper(remote, scraper(session, node), deadline)
    _scrape(session, node)


def _scrape(session: Session, node: str) -> None:
    deadline = session.deadline(START_SECONDS, f"a scrape of {node}")
    problems = collect.scrape_now(session.reach.remote(node), scraper(session, node), deadline)
    if problem := problems.get(node):
        raise Failure(f"the exporter of {node} cannot be scraped", cause=problem)


def _end_scraping(session: Session, node: str) -> None:
    _scrape(session, node)
    deadline = session.deadline(START_SECONDS, f"the end of the scraper of {node}")
    collect.stop_scraper(session.reach.remote(node), scraper(session, node), deadline)


def _job_watch(session: Session) -> Callable[[Problem], None]:
    """What is done when nodes are out of sight: see whether it is the job that ended, at most every few seconds."""
    lock = threading.Lock()
    asked = -JOB_EVERY

    def watch(problem: Problem) -> None:
        nonlocal asked
        with lock:
            if session.clock.monotonic() - asked < JOB_EVERY:
                return
            asked = session.clock.monotonic()
        session.check_job(problem)

    return watch


def _work(session: Session, node: str, asked: Workload, watch: Callable[[Problem], None]) -> WorkloadResult:
    remote = session.reach.remote(node)
    with session.emit.step("workload", node) as step:
        fresh = collect.start_workload(
            remote, asked, session.deadline(START_SECONDS, f"the workload's start on {node}")
        )
        if not fresh:
            session.emit.note("workload", "is under way or over already: attached to it", node)
        until = session.clock.monotonic() + asked.timeout + SLACK_SECONDS

        def patience() -> Deadline:  # the walltime may be extended meanwhile
            return session.deadline(max(0.0, until - session.clock.monotonic()), f"the workload on {node}")

        said = session.run.node_folder(node) / "workload.log"
        with said.open("w") as log:

            def line(text: str) -> None:
                log.write(text + "\n")
                session.emit.note("workload", text, node)

            result = collect.follow(remote, asked, patience(), line, watch, patience)
        step.text = _words(result)
        if result.outcome is not Outcome.DONE:
            step.state = State.FAILED
    return result


def _keep_fetching(session: Session, nodes: list[str], ended: threading.Event) -> None:
    """Bring samples while the workload runs: what is here survives the node's death."""
    while not ended.wait(FETCH_EVERY):
        with contextlib.suppress(Problem):
            fan_out(nodes, lambda node: _fetch_samples(session, node))


def _fetch_samples(session: Session, node: str) -> collect.Fetched:
    deadline = session.deadline(FETCH_SECONDS, f"the samples of {node}")
    folder = session.run.node_folder(node) / "samples"
    return collect.fetch_samples(session.reach.remote(node), scraper(session, node), folder, deadline)


def _told(result: WorkloadResult) -> dict[str, Any]:
    return {
        "outcome": result.outcome.value,
        "status": result.status,
        "signal": result.signal,
        "started": result.started,
        "seconds": round(result.seconds, 3),
    }


def _words(result: WorkloadResult) -> str:
    how = f"status {result.status}" if result.status is not None else result.signal or result.detail
    return f"{result.outcome.value}, {how}" if result.outcome is not Outcome.DONE else f"done in {result.seconds:.1f} s"


def _judge(session: Session, results: dict[str, WorkloadResult], asked: Workload) -> None:
    """Raise when a workload did not end well: after everything that it left was noted down."""
    bad = {node: result for node, result in results.items() if result.outcome is not Outcome.DONE}
    if not bad:
        return
    first = next(iter(bad))
    error = WorkloadFailed(
        f"the workload failed on {', '.join(bad)}",
        cause="\n".join(f"{node}: {_words(result)}" for node, result in bad.items()),
        hint=f"`{asked.command}` is what was run; its own words are in the log",
        log=session.run.node_folder(first) / "workload.log",
    )
    if all(result.outcome is Outcome.TIMEOUT for result in bad.values()):
        error.code = ExitCode.DEADLINE
    raise error


def collect_all(session: Session) -> dict[str, Any]:
    """Bring back samples, journals, consoles and the workload's files; what cannot be had is said, and the rest kept."""
    nodes = session.nodes(at_least=Stage.BOOTED)
    with_exporter = session.instrumented()
    missing: dict[str, list[str]] = {}

    def fetch(node: str) -> None:
        with session.emit.step("collect", node) as step:
            missing[node] = _fetch_node(session, node, node in with_exporter)
            step.text = "" if not missing[node] else f"not there: {'; '.join(missing[node])}"

    answers = fan_out(nodes, fetch)
    failed = {node: answer for node, answer in answers.items() if isinstance(answer, Problem)}
    counted = write_metrics(session)
    session.run.set(samples={"count": counted})
    session.run.warn(*(f"{node}: {what}" for node, lost in missing.items() for what in lost))
    if failed:
        session.check_job(next(iter(failed.values())))
        session.lose(failed)
    return {"samples": counted, "nodes": list(nodes)}


def _fetch_node(session: Session, node: str, scraped: bool) -> list[str]:
    """Everything of one node; what did not come, in words."""
    remote = session.reach.remote(node)
    folder = session.run.node_folder(node)
    deadline = session.deadline(FETCH_SECONDS, f"the files of {node}")
    if scraped:
        _fetch_samples(session, node)
    missing: list[str] = []

    def one(what: str, fetch: Callable[[], object]) -> None:
        try:
            fetch()
        except (RemoteFailed, Overflow) as problem:  # the node is there, and may have the others
            missing.append(f"{what}: {problem}")

    def files() -> None:
        assert told is not None
        came = collect.fetch_files(remote, told.files, folder / "files", deadline)
        missing.extend(f"{path}: {why}" for path, why in came.missing.items())

    one("its journal", lambda: collect.fetch_journal(remote, folder / "journal.export.gz", deadline))
    one("its console", lambda: collect.fetch_console(remote, folder / "console.log", deadline))
    told = session.experiment.benchmark
    if told is not None and told.files and session.run.nodes()[node]["role"] == told.role:
        one("its files", files)
    return missing


def keep_what_is_here(session: Session) -> None:
    """Make results of the samples that were fetched so far, without asking the nodes for more."""
    session.run.set(samples={"count": write_metrics(session)})


def write_metrics(session: Session) -> int:
    """Parquet files of all samples that are here, of lost nodes too; the number of samples."""
    total = 0
    session.run.metrics.mkdir(exist_ok=True)
    for node in sorted(session.run.nodes()):
        segments = session.run.node_folder(node) / "samples"
        if segments.is_dir() and any(segments.iterdir()):
            total += collect.write_parquet(segments, session.run.metrics / f"{node}.parquet")
    return total


def workload_words(session: Session, node: str) -> dict[str, Any] | None:
    """What a workload said of itself, when its last line is JSON."""
    log = session.run.node_folder(node) / "workload.log"
    if not log.exists():
        return None
    for line in reversed(log.read_text(errors="replace").splitlines()):
        with contextlib.suppress(ValueError):
            value = json.loads(line)
            if isinstance(value, dict):
                return value
    return None
