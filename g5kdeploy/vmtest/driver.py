"""The process that a test script runs in: `python -m g5kdeploy.vmtest.driver PLAN PARENT`. It ends with 0 when it passed."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_seconds
from g5kdeploy.node import Reach
from g5kdeploy.vmtest.deployed import DeployedMachine
from g5kdeploy.vmtest.errors import TimeUp
from g5kdeploy.vmtest.machine import Machine
from g5kdeploy.vmtest.plan import Plan
from g5kdeploy.vmtest.script import Script
from g5kdeploy.vmtest.virtual import VirtualMachine, Ways, stop_all
from g5kdeploy.vmtest.wire import Wire

_PR_SET_PDEATHSIG = 1
AGAIN_SECONDS = 5.0
LEAVE_SECONDS = 5.0
"""How long a script may take to unwind once the machines are gone."""
PATIENCE_BEYOND = 30.0
"""How much longer than the script a wait may take: so that the time is over in the script, with the line that waits."""


def end_with_parent(parent: int) -> None:
    """Be told to end when the process that started us is gone, however that came: the machines must not stay."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit(143)


def limit(seconds: float) -> None:
    """Raise `TimeUp` in the script when its time is over; again and again, should it be swallowed."""

    def over(number: int, frame: FrameType | None) -> None:
        raise TimeUp(f"the script was not done within {human_seconds(seconds)}")

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_SECONDS)


def leave_when_told(machines: Sequence[VirtualMachine]) -> None:
    """On TERM: the script ends, and the machines do so whatever the script is in the middle of, or swallows."""

    def go(number: int) -> None:
        stop_all(machines)
        threading.main_thread().join(LEAVE_SECONDS)
        os._exit(128 + number)

    def told(number: int, frame: FrameType | None) -> None:
        threading.Thread(target=go, args=(number,), name="leave", daemon=True).start()
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, told)


def run(plan: Plan, parent: int) -> bool:
    """Run the plan's script for the process `parent`; True when it passed. No local machine is left when this returns."""
    wire = Wire(plan.marker)
    deadline = Deadline.after(plan.seconds + PATIENCE_BEYOND, "the test script")
    folder = Path(plan.folder)
    ways = Ways(Path(plan.home), Path(plan.known_hosts))
    reach = Reach(Path(plan.home), plan.user, Path(plan.known_hosts))
    machines: list[Machine] = [
        VirtualMachine(target.guest, ways, wire, deadline, folder)
        if target.guest is not None
        else DeployedMachine(target.name, target.host, reach, wire, deadline, folder)
        for target in plan.targets
    ]
    local = [machine for machine in machines if isinstance(machine, VirtualMachine)]
    script = Script(Path(plan.script), machines, {target.name: target.role for target in plan.targets}, wire)
    leave_when_told(local)
    end_with_parent(parent)
    try:
        limit(plan.seconds)
        passed = script.run()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        reach.close()
        stop_all(local)
    return passed


def main() -> int:
    """The process: its exit status."""
    return 0 if run(Plan.load(Path(sys.argv[1])), int(sys.argv[2])) else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads that still wait for a machine have nothing to say any more
