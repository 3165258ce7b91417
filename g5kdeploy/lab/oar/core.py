"""The scheduler's present: live jobs, resources, clock and hooks, and the few moves that all its parts make."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.oar import notices
from g5kdeploy.lab.oar.admission import Rules
from g5kdeploy.lab.oar.grammar import Alternative
from g5kdeploy.lab.oar.inventory import Inventory, Mask, Wish
from g5kdeploy.lab.oar.model import FINAL_STATES, OUT_OF_PLAN, Command, Hooks, Job, NodeState
from g5kdeploy.lab.oar.store import Entry, Store

STEP = 0.2
"""Seconds between two steps of a job's life, on the real site."""

HOLDING = ("toLaunch", "Launching", "Running", "Finishing")
"""States in which a job has its resources."""

_log = logging.getLogger(__name__)


class Core:
    """What the parts of the scheduler share. Used under its owner's lock alone, `outcome` and its thread excepted."""

    def __init__(
        self, store: Store, inventory: Inventory, clock: Clock, pace: float, hooks: Hooks, frontend: str
    ) -> None:
        self.store = store
        self.inventory = inventory
        self.clock = clock
        self.pace = pace
        self.hooks = hooks
        self.live: dict[int, Entry] = {}
        self.ended: list[Entry] = []
        """Jobs that are over or held and still in the plan: the next pass makes it anew, without them."""
        self.commands: dict[int, Command] = {}
        self.wanted_at: float | None = clock.wall()
        """Since when there is something to plan; None when nothing has changed since the last pass."""
        self.last_pass = clock.wall() - 5.0  # nothing to wait for, nothing overdue
        self.last_patrol = 0.0
        self.threaded = False
        self.rules = Rules()
        self.frontend = frontend
        self.directories: Callable[[str, str], str] = lambda _user, _path: ""
        self.wake: Callable[[], None] = lambda: None
        self.snapshot: Callable[[Entry], Job]
        self._outcomes: dict[tuple[int, str], Any] = {}
        self._late: list[tuple[Entry, str, str]] = []
        self._running: set[tuple[int, str]] = set()
        self._guard = threading.Lock()
        self.reload()

    def reload(self) -> None:
        """Take the live jobs from the store: at the start, and after a step that failed half-way."""
        self.live = {entry.id: entry for entry in self.store.live()}
        self.ended = self.store.out_of_plan()

    def wall(self) -> float:
        return self.clock.wall()

    def now(self) -> int:
        return int(self.clock.wall())

    def pause(self, seconds: float) -> float:
        """The moment at which a pause that begins now is over."""
        return self.clock.wall() + seconds / self.pace

    def ask_for_pass(self) -> None:
        """Something has changed that others may wait for."""
        if self.wanted_at is None:
            self.wanted_at = self.clock.wall()

    def move(self, entry: Entry, state: str, *, due: float = 0.0) -> None:
        """Bring a job into a state; its next step is due then."""
        entry.state = state
        entry.due = due
        if state in FINAL_STATES:
            entry.stopped_at = max(entry.stopped_at, entry.started_at)
            self.ended.append(entry)
            self.live.pop(entry.id, None)
            self.commands.pop(entry.id, None)
            self.ask_for_pass()
        self._note_priority(entry)
        self.store.log_state(entry, self.now())
        self.store.save(entry)
        if state in notices.OF_STATES:
            self._tell(entry, *notices.OF_STATES[state])

    def _tell(self, entry: Entry, tag: str, text: str) -> None:
        """Tell a job's user, if he asked for that; beside the scheduling thread."""
        notice = notices.notice(entry.notify, tag, text)
        if notice is None:
            return
        if notice.by_mail:
            self.event(entry, "USER_MAIL_NOTIFICATION", f"[Judas] Send a mail to {notice.target} --> {tag}")
        job, tell = self.snapshot(entry), self.hooks.on_notice
        if tell:
            self.beside(entry.id, f"notice-{tag}", lambda: self._told(entry, tell(job, notice)))

    def _told(self, entry: Entry, result: str) -> None:
        if result:
            with self._guard:
                self._late.append((entry, "USER_EXEC_NOTIFICATION", result))
            self.wake()

    def note_late(self) -> None:
        """Note what came of things that nobody waited for."""
        with self._guard:
            late, self._late = self._late, []
        for entry, kind, text in late:
            self.event(entry, kind, text)

    def _note_priority(self, entry: Entry) -> None:
        """Nodes with jobs that give way or share their time are taken last: said when such a job starts and ends."""
        if not (entry.has_type("besteffort") or entry.has_type("timesharing")):
            return
        begun = self.store.has_event(entry.id, "SCHEDULER_PRIORITY_UPDATED_START")
        kind = "START" if entry.state == "toLaunch" else "STOP" if entry.state in FINAL_STATES else ""
        if kind and begun == (kind == "STOP"):
            text = f"Scheduler priority for job {entry.id} updated (network_address/resource_id)"
            self.event(entry, f"SCHEDULER_PRIORITY_UPDATED_{kind}", text)

    def drop_ended(self) -> None:
        """Take the jobs that are over, or held, out of the plan."""
        for entry in self.ended:
            if entry.state in OUT_OF_PLAN:
                entry.scheduled_at, entry.predicted = None, 0
                self.store.save(entry)
        self.ended.clear()

    def event(self, entry: Entry, kind: str, description: str) -> None:
        self.store.add_event(entry.id, kind, self.now(), description)

    def set_state(self, address: str, state: NodeState) -> Mask:
        """Change the state of a node, and keep it; the set of its resources."""
        self.store.set_node_state(address, state)
        self.ask_for_pass()
        return self.inventory.set_state(address, state)

    def frag(self, entry: Entry, user: str) -> None:
        """Note that `user` asked for the end of a job; the next step of a live one is to end it."""
        self.store.add_frag(entry.id, user, self.now())
        text = f"User {user} requested to frag the job {entry.id}"
        self.event(entry, "FRAG_JOB_REQUEST", text)
        self._tell(entry, notices.ASKED, f"Your job was asked to be deleted - {text}")
        if entry.state not in (*FINAL_STATES, "Finishing", "toError") and entry.stage != "suspect":
            entry.stage = "kill"
            entry.due = self.pause(STEP)
            self.store.save(entry)

    def resubmit(self, entry: Entry) -> Entry:
        """A new job like this one, waiting."""
        again = Entry(
            user=entry.user,
            queue=entry.queue,
            project=entry.project,
            types=entry.types,
            command=entry.command,
            directory=entry.directory,
            properties=entry.properties,
            message="",
            submitted_at=self.now(),
            alternatives=[replace(alternative) for alternative in entry.alternatives],
            name=entry.name,
            script=entry.script,
            initial_request=entry.initial_request,
            resubmits=entry.id,
            reservation=entry.reservation,
            requested_start=entry.requested_start,
            started_at=entry.started_at if entry.reservation != "None" else 0,
            array=entry.array,
            array_index=entry.array_index,
            anterior=entry.anterior,
            checkpoint=entry.checkpoint,
            signal=entry.signal,
            notify=entry.notify,
            stdout=entry.stdout,
            stderr=entry.stderr,
        )
        self.admit(again)
        for other in self.live.values():
            if entry.id in other.anterior:
                other.anterior = tuple(again.id if number == entry.id else number for number in other.anterior)
                self.store.save(other)
        return again

    def admit(self, entry: Entry) -> None:
        """Keep a new job among the live ones."""
        self.store.add(entry)
        self.live[entry.id] = entry
        self.ask_for_pass()

    def wish(self, entry: Entry, alternative: Alternative, ahead: bool = False) -> Wish:
        """What an alternative of a job asks for; `ahead`: not in the near future. Raises `pgtext.BadFilter`."""
        return Wish(tuple(self.inventory.tree(group, entry.properties, ahead) for group in alternative.groups))

    def outcome(self, job: int, kind: str, work: Callable[[], Any]) -> Any | None:
        """Do `work` beside the scheduling thread, once; None until it is done, then (error or None, value), once."""
        key = (job, kind)
        with self._guard:
            if key in self._outcomes:
                return self._outcomes.pop(key)
            if key in self._running:
                return None
            self._running.add(key)
        if self.threaded:
            threading.Thread(target=self._do, args=(key, work), name=f"oar-{kind}-{job}", daemon=True).start()
            return None
        self._do(key, work)
        with self._guard:
            return self._outcomes.pop(key)

    def beside(self, job: int, kind: str, work: Callable[[], Any]) -> None:
        """Do `work` beside the scheduling thread; nobody waits for it."""
        if self.threaded:
            threading.Thread(target=_attempt, args=((job, kind), work), name=f"oar-{kind}-{job}", daemon=True).start()
        else:
            _attempt((job, kind), work)

    def _do(self, key: tuple[int, str], work: Callable[[], Any]) -> None:
        result = _attempt(key, work)
        with self._guard:
            self._running.discard(key)
            self._outcomes[key] = result
        self.wake()


def _attempt(key: tuple[int, str], work: Callable[[], Any]) -> tuple[Exception | None, Any]:
    try:
        return None, work()
    except Exception as error:  # noqa: BLE001 - whatever a hook raises ends its job, never the scheduler
        _log.warning("job %d: %s failed: %s", key[0], key[1], error)
        return error, None
