"""The client dies between any two of its steps; what it leaves is found again by the same command, or released."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import NoResources
from g5kdeploy.testbed import credentials, together
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import Request, RoleNodes, apart
from g5kdeploy.testbed.wire import Session
from tests.contract.scripted import Lab

EMIT = Emitter()


class Killed(BaseException):
    """Stands for kill -9: nothing but it is raised, and nobody catches it."""


class Steps:
    """Counts what the client does to the outer world, before and after each deed, and dies at one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.die_at = -1
        monkeypatch.setattr(Session, "send", self._around(Session.send))
        monkeypatch.setattr(files, "write_json", self._around(files.write_json))

    def _around(self, deed: Callable[..., Any]) -> Callable[..., Any]:
        def done(*args: Any, **more: Any) -> Any:
            self._step()
            answer = deed(*args, **more)
            self._step()
            return answer

        return done

    def _step(self) -> None:
        self.count += 1
        if self.count == self.die_at:
            raise Killed

    @contextmanager
    def dying(self, at: int) -> Iterator[None]:
        self.count, self.die_at = 0, at
        try:
            yield
        except Killed:
            pass
        finally:
            self.die_at = -1


def request(run: str) -> Request:
    return Request(site="lab", roles=(RoleNodes("server", 2),), walltime=3600, run=run)


def reserve(lab: Lab, api: Api, records: Records, run: str) -> r.Reservation:
    deadline = Deadline.after(3600, "the reservation", lab.clock)
    return r.wait_running(api, r.reserve(api, request(run), records, deadline, EMIT), records, deadline, EMIT)


def release(lab: Lab, api: Api, records: Records, run: str) -> None:
    for record in records.unreleased(run=run):
        r.release(api, record, records, Deadline.after(3600, "the release", lab.clock), EMIT)


@pytest.mark.parametrize("then", ["the same command", "release"])
def test_a_kill_at_every_step_of_reserve_and_release(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    records = Records("lab", tmp_path / "reservations", lab.clock)
    steps = Steps(monkeypatch)
    with Api(credentials.load(lab.home), clock=lab.clock) as api:
        at = 0
        finished = False
        while not finished:
            at += 1
            run = f"run-{at}"
            with steps.dying(at):
                reserve(lab, api, records, run)
                release(lab, api, records, run)
                finished = True
            if then == "the same command" and not finished:
                reservation = reserve(lab, api, records, run)
                assert [job.id for job in lab.oar.current()] == [reservation.job.id], f"killed at step {at}"
                assert len(records.unreleased(run=run)) == 1
            release(lab, api, records, run)
            lab.advance(10)
            assert [job.id for job in lab.oar.current()] == [], f"killed at step {at}"
            assert records.unreleased() == [], f"killed at step {at}"
    assert at > 15


def on_two_sites(lab: Lab, api: Api, records: Records, run: str, west: int) -> list[r.Reservation]:
    """A job on each site, had together or not at all; `west`: how many nodes are asked for there, of three."""
    roles = (RoleNodes("server", 1), RoleNodes("client", west, site="west"))
    asked = apart(Request(site="east", roles=roles, walltime=3600, run=run))
    deadline = Deadline.after(3600, "the reservation", lab.clock)
    return together.start_all(api, together.reserve_all(api, asked, records, deadline, EMIT), records, deadline, EMIT)


def live(lab: Lab) -> list[str]:
    return [f"{site} {job.id}" for site, oar in lab.oars.made.items() for job in oar.current()]


@pytest.mark.parametrize("west", [1, 4], ids=["both are had", "one is refused"])
def test_a_kill_at_every_step_with_jobs_on_two_sites(
    two_sites: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, west: int
) -> None:
    lab = two_sites
    records = Records("lab", tmp_path / "reservations", lab.clock)
    steps = Steps(monkeypatch)
    with Api(credentials.load(lab.home), clock=lab.clock) as api:
        at = 0
        finished = False
        while not finished:
            at += 1
            run = f"run-{at}"
            with steps.dying(at):
                if west > 3:
                    with pytest.raises(NoResources):
                        on_two_sites(lab, api, records, run, west)
                else:
                    on_two_sites(lab, api, records, run, west)
                finished = True
            if not finished and west > 3:
                with pytest.raises(NoResources):
                    on_two_sites(lab, api, records, run, west)
                assert records.unreleased() == [], f"killed at step {at}"
            elif not finished:
                again = on_two_sites(lab, api, records, run, west)
                assert sorted(live(lab)) == sorted(f"{one.site} {one.job.id}" for one in again), f"killed at step {at}"
            release(lab, api, records, run)
            lab.advance(10)
            assert live(lab) == [], f"killed at step {at}"
            assert records.unreleased() == [], f"killed at step {at}"
    assert at > 15


CHILD = """
import sys
from pathlib import Path
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed import credentials, reservations as r
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import Request, RoleNodes

home, folder = map(Path, sys.argv[1:])
api, records, emit = Api(credentials.load(home)), Records("lab", folder), Emitter()
deadline = Deadline.after(600, "the child")
request = Request(site="lab", roles=(RoleNodes("server", 2),), walltime=3600, run="run-1")
reservation = r.reserve(api, request, records, deadline, emit)
r.wait_running(api, reservation, records, deadline, emit)
"""


@pytest.mark.parametrize(("method", "path"), [("POST", "/jobs$"), ("GET", r"/jobs/\d+$")])
def test_a_real_kill_while_an_answer_is_awaited(lab: Lab, tmp_path: Path, method: str, path: str) -> None:
    folder = tmp_path / "reservations"
    fault = lab.faults.order(method=method, path=path, slow=2.0)
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    child = subprocess.Popen([sys.executable, "-c", CHILD, str(lab.home), str(folder)], env=environ)
    try:
        until = time.monotonic() + 120
        while fault.times and time.monotonic() < until and child.poll() is None:
            time.sleep(0.05)
        assert fault.times == 0, f"the child ended early, with {child.returncode}"
        child.send_signal(signal.SIGKILL)
        assert child.wait(60) == -signal.SIGKILL
    finally:
        if child.poll() is None:
            child.kill()
            child.wait(60)
    records = Records("lab", folder)
    [record] = records.unreleased()
    with Api(credentials.load(lab.home), clock=lab.clock) as api:
        # The request of the dead is carried out all the same; the record knows under which name.
        real = Deadline.after(120, "the job of the dead")
        while (found := r.resume(api, record, records, real)) is None:
            real.sleep(0.2)
        assert found.job.name == record.name
        release(lab, api, records, "run-1")
    lab.advance(10)
    assert lab.oar.current() == ()
    assert records.unreleased() == []


def test_two_commands_at_once_make_one_job(lab: Lab, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    records = Records("lab", tmp_path / "reservations", lab.clock)

    def one(_: int) -> int:
        with Api(credentials.load(lab.home), clock=lab.clock) as api:
            deadline = Deadline.after(3600, "the reservation", lab.clock)
            return r.reserve(api, request("run-1"), records, deadline, EMIT).job.id

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(one, range(4)))) == 1
    assert len(lab.oar.current()) == 1
