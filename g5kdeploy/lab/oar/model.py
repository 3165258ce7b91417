"""What the scheduler speaks of: resources, jobs, events, refusals. Times are unix seconds, walltimes seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from g5kdeploy.lab.oar.notices import Notice

NodeState = Literal["Alive", "Absent", "Suspected", "Dead", "Standby"]

NODE_STATES: tuple[NodeState, ...] = ("Alive", "Absent", "Suspected", "Dead", "Standby")

FINAL_STATES = frozenset({"Terminated", "Error"})

OUT_OF_PLAN = frozenset({*FINAL_STATES, "Hold"})
"""States in which a job is not planned."""

Value = str | int | None


@dataclass(frozen=True)
class Resource:
    """One schedulable thing: a core of a node, a disk, a VLAN, a subnet.

    `type` is `default` (cores), `disk`, `kavlan`, `kavlan-local`, `kavlan-global` or `subnet`; `address` is OAR's
    `network_address`, empty for VLANs and subnets (their identity is in `properties["vlan"]`, `["slash_22"]`...).
    `state` is `Standby` where OAR says Absent with `available_upto` in the future: switched off and usable.
    """

    id: int
    type: str
    address: str
    properties: Mapping[str, Value] = field(default_factory=dict)
    state: NodeState = "Alive"


@dataclass(frozen=True)
class Event:
    """A line of a job's history, as `oarstat -e` and the REST API show it."""

    id: int
    job: int
    type: str
    at: int
    description: str


@dataclass(frozen=True)
class Job:
    """A snapshot of a job (of one of its alternatives, when it is moldable); never changes under its reader."""

    id: int
    user: str
    state: str
    """As OAR spells it: Waiting, Hold, toAckReservation, toLaunch, Launching, Running, Finishing, Terminated,
    toError, Error."""
    queue: str
    project: str
    command: str | None
    """As oarstat shows it: `./oarapi.subscript.xxxxx` for a job that came as a `script`."""
    directory: str
    properties: str
    message: str
    walltime: int
    submitted_at: int
    name: str | None = None
    types: tuple[str, ...] = ()
    started_at: int = 0
    """0 until it starts; the requested start for an accepted advance reservation."""
    stopped_at: int = 0
    scheduled_at: int | None = None
    """The predicted (while waiting) or true start; None when none is known, and after the end."""
    exit_code: int | None = None
    """The wait status: `exit 3` is 768."""
    mode: str = "PASSIVE"
    reservation: str = "None"
    """None, toSchedule (asked for), Scheduled (accepted)."""
    requested_start: int = 0
    wanted: str = ""
    """The request after admission, e.g. `-l "{type = 'default'}/host=1,walltime=1:0:0" `."""
    initial_request: str = ""
    events: tuple[Event, ...] = ()
    assigned: tuple[Resource, ...] = ()
    """The resources that it has or had."""
    predicted: tuple[Resource, ...] = ()
    """The resources that it is going to get at `scheduled_at`."""
    script: str | None = None
    """What was sent as `script`: this is to be run, where it is not None, and `command` otherwise."""
    alternative: int = 0
    resubmits: int = 0
    """The job that this one was resubmitted for, or 0."""
    array: int = 0
    """The first job of its array: itself, where it is none."""
    array_index: int = 1
    anterior: tuple[int, ...] = ()
    """The jobs that must be over before this one begins."""
    stdout_file: str = ""
    """Where its output goes; not absolute: in its directory."""
    stderr_file: str = ""

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Assigned and predicted resources together, each once, by id: what the REST API calls assigned."""
        return tuple(sorted({r.id: r for r in (*self.predicted, *self.assigned)}.values(), key=lambda r: r.id))

    @property
    def nodes(self) -> tuple[str, ...]:
        """Addresses of the nodes that it has, in the order of their resources."""
        return tuple(dict.fromkeys(r.address for r in self.assigned if r.type == "default"))


@dataclass(frozen=True)
class Query:
    """Which jobs to list: those with any of the values. None does not filter; an empty sequence matches nothing."""

    users: Sequence[str] | None = None
    names: Sequence[str] | None = None
    projects: Sequence[str] | None = None
    ids: Sequence[int] | None = None
    states: Sequence[str] | None = None
    queues: Sequence[str] | None = None
    arrays: Sequence[int] | None = None
    limit: int | None = None
    offset: int = 0


@dataclass(frozen=True)
class Listing:
    """A page of jobs, newest first; a moldable job is there, and counted, once per alternative."""

    jobs: tuple[Job, ...]
    total: int


class Refused(Exception):
    """OAR said no.

    `status` is what the OAR REST API answers (400, 401, 403, 404, 500), `exit_code` the command's exit status,
    `title` and `message` are the fields of the REST API's JSON; `message` is stdout and stderr joined.
    """

    def __init__(self, status: int, exit_code: int, message: str, title: str = "Bad query") -> None:
        super().__init__(message)
        self.status = status
        self.exit_code = exit_code
        self.message = message
        self.title = title


@dataclass(frozen=True)
class WalltimeStatus:
    """What `GET /jobs/N/walltime` says; the texts are OAR's (`1:0:0`, `UNLIMITED`, `FORBIDDEN`)."""

    job: int
    possible: str
    force: str
    delay_next_jobs: str
    walltime: str | None = None
    """None, as all the following, for a job that is not running."""
    timeout: str | None = None
    granted: str | None = None
    pending: str | None = None
    granted_with_force: str | None = None
    granted_with_delay_next_jobs: str | None = None
    granted_with_whole: str | None = None
    whole: str | None = None
    """Only once a request exists."""


class Command(Protocol):
    """The command of a running job, as the scheduler watches it."""

    def poll(self) -> int | None:
        """The wait status (`exit 3` is 768, killed by signal 9 is 9) once it has ended, None before."""

    def kill(self) -> None:
        """Ask it to end, and return at once; `poll` tells when it has."""


@runtime_checkable
class Signalled(Protocol):
    """A command that takes signals; others are not told."""

    def signal(self, number: int, told: str) -> None:
        """Send it a signal, and return at once; `told` is what its errors say of it (`SIGNALED with USR1`)."""


class DirectoryMissing(Exception):
    """Raised by `run_command` when the job's directory is not there: the job ends in Error."""


class NoOutput(Exception):
    """Raised by `run_command` when the job cannot write its output into its directory: the job ends in Error."""


@dataclass(frozen=True)
class Hooks:
    """What the scheduler needs from the site's machines. Each may take its time: none runs on the scheduling thread."""

    on_launch: Callable[[Job], Iterable[str] | None] = lambda _job: None
    """Before Running: make the nodes ready for the job; returns the addresses of those that do not answer."""
    on_end: Callable[[Job], None] = lambda _job: None
    """After the end, in Finishing: bring the nodes back (the standard environment after a deploy job)."""
    run_command: Callable[[Job, bool], Command] | None = None
    """Start the job's command (on the frontend for deploy and cosystem jobs). True: the scheduler was restarted under a
    running job, find the command again. Raises `DirectoryMissing`, `NoOutput`. None: `sleep` and `exit` are played on the clock."""
    on_notice: Callable[[Job, Notice], str] | None = None
    """Send a user a message; what came of a command that was run for it, for the job's history."""


class Scheduler(Protocol):
    """The scheduler as the REST API sees it: `Oar`, or a stand-in over made-up jobs."""

    def submit(self, user: str, request: Mapping[str, object], line: str = "", commands: Sequence[str] = ()) -> Job:
        """Admit a job, or raise `Refused`. `request` has the keys of OAR's REST API (`engine.Oar.submit`).

        `line`: the command line that asked for it, where it was one. `commands`: those of an array, a job for each.
        """

    def resubmit(self, number: int, user: str) -> Job:
        """Submit a job that is over once more, or raise `Refused`."""

    def hold(self, number: int, user: str) -> None:
        """Keep a waiting job from being planned, or raise `Refused`."""

    def resume(self, number: int, user: str) -> None:
        """Let a job that is held wait again, or raise `Refused`."""

    def job(self, number: int) -> Job | None: ...

    def jobs(self, query: Query) -> Listing: ...

    def current(self) -> tuple[Job, ...]:
        """Every job that is not over, with its resources: for the status of a site."""

    def delete(self, number: int, user: str) -> str:
        """Ask for a job's end; oardel's text (`Deleting the job = N ...REGISTERED.`...), or `Refused`."""

    def signal(self, number: int, user: str, name: str | None) -> str:
        """Send a signal to a running job, None: the one for checkpoints. The machine it goes to, or `Refused`."""

    def walltime(self, number: int) -> WalltimeStatus: ...

    def change_walltime(
        self,
        number: int,
        user: str,
        walltime: str,
        *,
        force: bool = False,
        delay_next_jobs: bool = False,
        whole: bool = False,
        timeout: int | None = None,
    ) -> str:
        """Ask for another walltime (`+0:30:0`, `-0:10:0`, `2:0:0`); OAR's text, or `Refused`."""

    def resources(self) -> tuple[Resource, ...]: ...

    def set_state(self, address: str, state: NodeState) -> None:
        """Change the state of a node and of its disks; jobs on a node that is set Dead or Absent are killed."""
