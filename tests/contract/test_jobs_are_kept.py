"""Commands on jobs in bad luck and company: no node is held for nothing, and none is taken from anybody."""

from __future__ import annotations

import errno
import threading
from contextlib import closing

import pytest

from g5kdeploy.base import folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.node import Reach
from g5kdeploy.runs import Run
from g5kdeploy.runs.document import Document
from g5kdeploy.testbed.records import Records
from g5kdeploy.testbed.request import BELLS
from g5kdeploy.workflow import doorbell
from tests.contract.desk import Desk
from tests.support.sshd import SSHD

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")

VM = "vm-{}.lab.grid5000.fr"


def test_nothing_is_reserved_where_the_nodes_could_not_be_reached(desk: Desk) -> None:
    authorized = desk.frontend.folder / "authorized_keys"
    known = authorized.read_text()
    authorized.write_text("")
    _, said = desk.on_run("reserve", code=ExitCode.NOT_ALLOWED)
    assert "nothing was reserved" in said and "takes none of the keys: tried" in said
    assert (desk.live(), Records("lab").unreleased()) == ([], [])
    authorized.write_text(known)
    desk.frontend.refuse()
    _, said = desk.on_run("reserve", code=ExitCode.FAILED)
    assert "nothing was reserved" in said and "refused the connection" in said
    assert (desk.live(), Records("lab").unreleased()) == ([], [])
    desk.frontend.listen()
    before = desk.frontend.connections
    desk.on_run("reserve")
    assert desk.frontend.connections == before + 1
    assert len(desk.live()) == 1
    desk.frontend.refuse()
    desk.on_run("reserve")  # the job is there already: nothing to check


def test_submitted_now_and_waited_for_later(desk: Desk) -> None:
    desk.by_hand(resources="nodes=4,walltime=0:1:0")
    answer, _ = desk.on_run("reserve", "--no-wait")
    assert f"job {answer['job']} on lab is waiting for free nodes" in answer["state"]
    assert desk.document()["phases"]["reserve"]["state"] == "partly"
    assert desk.document()["nodes"] == {}
    _, said = desk.on_run("reserve", "--no-wait", "--wait", "1h", code=ExitCode.USAGE)
    assert "contradict" in said
    blocker = next(job.id for job in desk.lab.oar.current() if job.id != answer["job"])
    desk.lab.oar.delete(blocker, "jdoe")
    later, _ = desk.on_run("reserve")
    assert later["job"] == answer["job"]
    assert set(desk.document()["nodes"]) == {VM.format(1), VM.format(2)}
    assert desk.document()["phases"]["reserve"]["state"] == "done"


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_keeps_no_nodes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.on_run("reserve")
    with monkeypatch.context() as here:
        here.setattr(Document, "change", full)
        here.setattr(Records, "save", full)
        _, said = desk.on_run("release", code=ExitCode.FAILED)
    assert "No space left" in said and "lab was asked to end job" in said
    desk.wait(lambda: not desk.live())
    assert desk.document()["released"] is False
    desk.on_run("release")
    assert desk.document()["released"] is True


def test_a_report_that_cannot_be_written_keeps_no_nodes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g5kdeploy.runs.report.write_report", full)
    _, said = desk.on_run("run", "--phases", "reserve,bench,report,release", code=ExitCode.USAGE)
    assert "has no benchmark" in said and "No space left" in said
    assert desk.live() == []
    assert desk.document()["released"] is True


def test_a_run_that_somebody_works_on_is_not_closed_under_him(desk: Desk) -> None:
    answer, _ = desk.on_run("reserve")
    desk.lab.oar.delete(answer["job"], "jdoe")
    desk.wait(lambda: not desk.live())
    with Run.open(desk.file.parent / "runs" / desk.document()["id"]).lock():
        _, said = desk.on_run("reserve", code=ExitCode.HELD)
    assert "is in use" in said
    again, _ = desk.on_run("reserve")
    assert again["job"] != answer["job"]


def test_the_frontend_tells_of_a_start(desk: Desk) -> None:
    """The job leaves a file of its name in the home; whoever listens hears of it, and takes the file away."""
    home = folders.state() / "lab" / "home"
    place = desk.frontend.folder / "home" / BELLS
    with closing(Reach(home, None)) as reach:
        frontend = reach.remote("flab.lab.grid5000.fr", None)
        rung = doorbell.listen([(frontend, "g5kdeploy-x-1")], Deadline.after(240, "the test"))
        desk.wait(place.is_dir)
        assert not rung.is_set()
        (place / "g5kdeploy-x-1").touch()
        assert rung.wait(240)
        desk.wait(lambda: not list(place.iterdir()))


def test_a_frontend_that_is_away_tells_nothing(desk: Desk) -> None:
    desk.frontend.refuse()
    with closing(Reach(folders.state() / "lab" / "home", None)) as reach:
        frontend = reach.remote("flab.lab.grid5000.fr", None)
        rung = doorbell.listen([(frontend, "g5kdeploy-x-1")], Deadline.after(240, "the test"))
        desk.wait(lambda: not any(thread.name == "doorbell" for thread in threading.enumerate()))
        assert not rung.is_set()
