"""The life of a job from launch to end: one function a state, each doing the step that is due."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from g5kdeploy.lab.oar.admission import MISSING
from g5kdeploy.lab.oar.commands import play
from g5kdeploy.lab.oar.core import STEP, Core
from g5kdeploy.lab.oar.model import Command, DirectoryMissing, Job, NoOutput
from g5kdeploy.lab.oar.store import Entry

PATROL = 10.0
"""Seconds between two looks for jobs that are past their walltime."""

KILL = 1.0
"""Seconds that the end of a killed job takes."""

UNFINISHED = 99
"""The exit code with which the command of an idempotent job asks to be begun again."""

ENOUGH = 60
"""Seconds that such a job must have run, or it would come again and again at once."""

INSIST = 20.0
"""Seconds after which a job that was asked to end and did not is asked again."""

_BEGUN = {"": "begun", "vain": "begun in vain"}
"""The stage of a job whose command has begun, by the one before."""

_ON_FRONTEND = ("deploy", "cosystem")
"""Types of jobs whose commands run there."""

SUSPECT = "One or several nodes are not responding correctly"


def step(core: Core) -> bool:
    """Do what is due now for every live job; whether anything was."""
    moved = False
    wall = core.wall()
    for entry in list(core.live.values()):
        due = entry.due <= wall if entry.due else entry.state in _WATCHED
        if due and _STEPS[entry.state](core, entry):
            moved = True
    return moved


def patrol(core: Core, otherwise: Callable[[Core, Entry, int], None]) -> bool:
    """End the jobs whose walltime is over, every `PATROL` seconds; `otherwise(core, job, now)` sees the other running ones."""
    if core.wall() < core.last_patrol + PATROL / core.pace:
        return False
    core.last_patrol = core.wall()
    now = core.now()
    for entry in list(core.live.values()):
        over = entry.state == "Running" and now > entry.started_at + entry.walltime
        if entry.state == "Running" and not over:
            otherwise(core, entry, now)
        if entry.stage in ("vain", "begun in vain") and now > core.store.fragged_at(entry.id) + INSIST / core.pace:
            entry.stage = "kill"
            entry.due = core.wall()
            core.store.save(entry)
        if over and not core.store.is_fragged(entry.id):
            core.frag(entry, "root")
            span = f"start: {entry.started_at} + walltime:{entry.walltime} > current time: {now}"
            core.event(entry, "WALLTIME", f"Job [{entry.id}] reached its walltime ({span})")
            _kill_running(core, entry)
    return True


def _waiting(core: Core, entry: Entry) -> bool:
    """A job that waits has nothing due but its end."""
    if entry.stage != "kill":
        return False
    entry.message = "Job killed by Leon directly"
    core.move(entry, "Error")
    return True


def _acknowledged(core: Core, entry: Entry) -> bool:
    core.move(entry, "Waiting", due=entry.due if entry.stage == "kill" else 0.0)
    core.ask_for_pass()
    return True


def _refused(core: Core, entry: Entry) -> bool:
    core.move(entry, "Error")
    return True


def _to_launch(core: Core, entry: Entry) -> bool:
    if entry.stage == "kill":
        return _kill_in_vain(core, entry)
    core.move(entry, "Launching")
    return True


def _kill_in_vain(core: Core, entry: Entry) -> bool:
    """What is to be killed is not there yet: the job goes on, until `patrol` sees that it was not ended."""
    if entry.has_type("noop"):
        _kill_running(core, entry)
        return True
    core.event(entry, "SEND_KILL_JOB", _kill_text(core, entry))
    entry.stage = "vain"
    entry.due = core.pause(STEP) if entry.state == "toLaunch" else 0.0
    core.store.save(entry)
    return True


def _launching(core: Core, entry: Entry) -> bool:
    if entry.stage == "suspect":
        return _end_suspected(core, entry)
    if entry.stage == "kill":
        return _kill_in_vain(core, entry)
    job = core.snapshot(entry)
    result = core.outcome(entry.id, "launch", lambda: tuple(core.hooks.on_launch(job) or ()))
    if result is None:
        return False
    error, silent = result
    checked = not any(entry.has_type(name) for name in (*_ON_FRONTEND, "noop"))
    if error is not None or (silent and checked):
        silent = tuple(silent or job.nodes)
        _suspect(core, entry, silent, last=entry.reservation == "None" or set(job.nodes) <= set(silent))
        if entry.stage == "suspect":
            return True
    for address in {r.address for r in job.assigned if r.state == "Standby"} - {*silent}:
        core.set_state(address, "Alive")  # it was switched on for this job
    core.move(entry, "Running")
    return True


def _suspect(core: Core, entry: Entry, addresses: tuple[str, ...], *, last: bool) -> None:
    """Nodes do not answer; `last`: the job ends for it. A reservation begins on those that do."""
    entry.message = SUSPECT
    if last and entry.reservation != "None":
        text = f"There is no alive node for the reservation {entry.id}."
        core.event(entry, "RESERVATION_NO_NODE", text)
    text = f"[bipbip] OAR suspects nodes for the job {entry.id}: {' '.join(addresses)}"
    core.event(entry, "PING_CHECKER_NODE_SUSPECTED", text)
    for address in addresses:
        core.set_state(address, "Suspected")
    if last:
        entry.stage = "suspect"
        entry.due = core.pause(STEP)
    core.store.save(entry)


def _end_suspected(core: Core, entry: Entry) -> bool:
    """A job whose nodes did not answer is over, and comes again; not on the frontend, where it would fail again."""
    core.move(entry, "Error")
    on_frontend = any(entry.has_type(name) for name in _ON_FRONTEND)
    if entry.reservation == "None" and entry.command and not on_frontend and not core.store.is_resubmitted(entry.id):
        new = core.resubmit(entry)
        text = f"[NodeChangeState] Resubmiting job {entry.id} => {new.id}) (due to event PING_CHECKER_NODE_SUSPECTED)\n"
        core.event(entry, "RESUBMIT_JOB_AUTOMATICALLY", text)
    return True


def _running(core: Core, entry: Entry) -> bool:
    if entry.stage == "kill":
        _kill_running(core, entry)
        return True
    if not entry.has_type("noop") and not _has_command(core, entry):
        return entry.state != "Running"
    command = core.commands.get(entry.id)
    status = command.poll() if command else None
    if entry.stage == "killed":
        if command is None or status is not None:
            _finish(core, entry, "Error", killed=True)
            return True
        entry.due = core.pause(STEP)
        return False
    if status is None:
        return False
    entry.exit_code = status
    _finish(core, entry, "Terminated")
    return True


def _has_command(core: Core, entry: Entry) -> bool:
    """Start the command, or find it again after a restart; False while that goes on, or when it ended the job."""
    if entry.id in core.commands:
        return True
    again = entry.stage in _BEGUN.values()
    result = core.outcome(entry.id, "command", _starter(core, core.snapshot(entry), again or entry.stage == "killed"))
    if result is None:
        return False
    error, command = result
    if error is not None:
        _finish(core, entry, "Error")
        node = "".join(_hosts(core, entry)[:1])
        if isinstance(error, DirectoryMissing):
            text = f"Cannot go into the working directory {entry.directory} of the job on node {node}"
            core.event(entry, "WORKING_DIRECTORY", f"[bipbip {entry.id}] {text}")
        elif isinstance(error, NoOutput):
            text = f"Cannot create .stdout and .stderr files in {entry.directory} on the node {node}"
            core.event(entry, "OUTPUT_FILES", f"[bipbip {entry.id}] {text}")
        return False
    core.commands[entry.id] = command
    if entry.stage == "killed":  # killed by a process that is gone, perhaps before it could say so
        command.kill()
    if entry.stage in _BEGUN:
        entry.stage = _BEGUN[entry.stage]
        core.store.save(entry)
    return True


def _starter(core: Core, job: Job, again: bool) -> Callable[[], Command]:
    if core.hooks.run_command is None:
        return partial(_play, core, job, again)
    return partial(core.hooks.run_command, job, again)


def _play(core: Core, job: Job, again: bool) -> Command:
    trouble = core.directories(job.user, job.directory)
    if trouble:
        raise DirectoryMissing if trouble == MISSING else NoOutput
    return play(job, again, core.clock)


def _kill_running(core: Core, entry: Entry) -> None:
    if entry.has_type("noop"):
        entry.message = "NOOP job killed by Leon"
        entry.stopped_at = core.now()
        core.move(entry, "Terminated")
        job = core.snapshot(entry)
        core.beside(entry.id, "end", lambda: core.hooks.on_end(job))
        return
    core.event(entry, "SEND_KILL_JOB", _kill_text(core, entry))
    if command := core.commands.get(entry.id):
        command.kill()
    entry.stage = "killed"
    entry.due = core.pause(KILL)
    core.store.save(entry)


def _kill_text(core: Core, entry: Entry) -> str:
    return f"[Leon] Send the kill TERM signal to oarexec on {first_host(core, entry)} for job {entry.id}"


def first_host(core: Core, entry: Entry) -> str:
    """Where the job's command runs: on its first node, or on the frontend."""
    hosts = _hosts(core, entry)
    return core.frontend if not hosts or any(entry.has_type(name) for name in _ON_FRONTEND) else hosts[0]


def _hosts(core: Core, entry: Entry) -> list[str]:
    """A job's nodes."""
    return sorted({r.address for r in core.inventory.named(entry.assigned) if r.address and r.type == "default"})


def _finish(core: Core, entry: Entry, final: str, *, killed: bool = False) -> None:
    """Begin the end: the nodes are brought back, then the job comes into its final state."""
    entry.stopped_at = core.now()
    kind = "SWITCH_INTO_TERMINATE_STATE" if final == "Terminated" else "SWITCH_INTO_ERROR_STATE"
    core.event(entry, kind, f"[bipbip {entry.id}] Ask to change the job state")
    entry.stage = final
    core.move(entry, "Finishing", due=core.pause(STEP))
    if killed and all(entry.has_type(name) for name in ("besteffort", "idempotent")):
        _resubmit_preempted(core, entry)


def _resubmit_preempted(core: Core, entry: Entry) -> None:
    """A besteffort job that had to make way comes again."""
    if core.store.has_event(entry.id, "BESTEFFORT_KILL"):
        new = core.resubmit(entry)
        why = f"the job {entry.id} is a besteffort and idempotent job so we resubmit it (new id = {new.id})"
        core.event(entry, "RESUBMIT_JOB_AUTOMATICALLY", f"[bipbip {entry.id}] {why}")


def _resubmit_unfinished(core: Core, entry: Entry) -> None:
    """An idempotent job that says by its exit code that it has not done all comes again, if it did something."""
    unfinished = entry.exit_code is not None and entry.exit_code >> 8 == UNFINISHED
    if not (unfinished and entry.has_type("idempotent") and entry.reservation == "None" and entry.command):
        return
    if core.store.is_resubmitted(entry.id) or core.store.has_event(entry.id, "SEND_KILL_JOB"):
        return
    if entry.stopped_at - entry.started_at > ENOUGH:
        new = core.resubmit(entry)
        why = "type idempotent & exit code = 99 & duration > 60s"
        text = f"[NodeChangeState] Resubmiting job {entry.id} => {new.id} ({why})"
        core.event(entry, "RESUBMIT_JOB_AUTOMATICALLY", text)


def _finishing(core: Core, entry: Entry) -> bool:
    job = core.snapshot(entry)
    result = core.outcome(entry.id, "end", lambda: core.hooks.on_end(job))
    if result is None:
        entry.due = 0.0
        return False
    if result[0] is not None:
        for address in job.nodes:
            core.set_state(address, "Suspected")
    _resubmit_unfinished(core, entry)
    core.move(entry, entry.stage)
    return True


_STEPS: dict[str, Callable[[Core, Entry], bool]] = {
    "Waiting": _waiting,
    "Hold": _waiting,
    "toAckReservation": _acknowledged,
    "toError": _refused,
    "toLaunch": _to_launch,
    "Launching": _launching,
    "Running": _running,
    "Finishing": _finishing,
}
_WATCHED = ("Launching", "Running", "Finishing")
