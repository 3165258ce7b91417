"""The scheduler of the lab: OAR as the clients of a Grid'5000 site meet it."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.lab.oar import admission, holding, insertion, life, planning, records, signals, siterules, walltimes
from g5kdeploy.lab.oar.core import HOLDING, STEP, Core
from g5kdeploy.lab.oar.inventory import Inventory
from g5kdeploy.lab.oar.model import (
    FINAL_STATES,
    NODE_STATES,
    Hooks,
    Job,
    Listing,
    NodeState,
    Query,
    Refused,
    Resource,
    WalltimeStatus,
)
from g5kdeploy.lab.oar.store import Change, Entry, Store, read_entries, read_events

_log = logging.getLogger(__name__)

_WAITING = "# Advance reservation request: waiting for validation...\n"
_NO_USER = "Oardodo error: 52: [OARDODO] ERROR: Cannot get information regarding the target user (Success)\n\n"
_BETWEEN = ("toAckReservation", "toError")


class Oar:
    """A site's scheduler. Thread-safe; everything that it knows is in the store, so that a new process goes on with it.

    store: the sqlite file; made when absent. resources: the site's, at every start (states are kept in the store).
    users: whether a login has an account (without one, `Refused` with status 401).
    pace: >1 shortens the pauses of the scheduler (between passes), never walltimes or dates.
    frontend: the name of the machine on which the commands of deploy jobs run, for the texts of events.
    rules: what of the site's rules others lack.
    directories: what the frontend says of a user's directory, "" when he can write in it (`admission.MISSING`...).
    """

    def __init__(
        self,
        store: Path,
        resources: Iterable[Resource],
        clock: Clock = SYSTEM,
        pace: float = 1.0,
        hooks: Hooks | None = None,
        users: Callable[[str], bool] = lambda _user: True,
        frontend: str = "127.0.0.1",
        directories: Callable[[str, str], str] = lambda _user, _path: "",
        rules: admission.Rules = admission.Rules(),  # noqa: B008 - it never changes
    ) -> None:
        self._store = Store(store)
        self._inventory = Inventory(resources, self._store.node_states())
        self._core = Core(self._store, self._inventory, clock, pace, hooks or Hooks(), frontend)
        self._core.snapshot = functools.partial(records.snapshot, inventory=self._inventory)
        self._core.wake = self._wake
        self._users = users
        self._directories = self._core.directories = directories
        self._core.rules = rules
        self._changed = threading.Condition(threading.RLock())
        self._reading = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = False
        self._stirred = False

    def start(self) -> None:
        """Start the scheduling thread; returns at once."""
        self._stopping = False
        self._core.threaded = True
        self._thread = threading.Thread(target=self._run, name="oar", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop it, and close the store: this object is done. Jobs go on: the next one finds them."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread:
            self._thread.join()
            self._thread = None
        with self._changed, self._reading:
            self._store.close()

    def tick(self) -> None:
        """Do all that is due now, once, on the caller's thread: for tests with an injected clock."""
        with self._changed:
            try:
                with self._store.transaction():
                    self._do_due()
            except BaseException:
                self._core.reload()
                raise
            finally:
                self._changed.notify_all()

    def _do_due(self) -> None:
        core = self._core
        core.note_late()
        for _ in range(100):  # a step makes others due at the same moment only a few times
            moved = life.step(core)
            moved = life.patrol(core, signals.remind) or moved
            if core.wall() >= planning.next_at(core):
                planning.run_pass(core)
                moved = True
            if not moved:
                return

    def _run(self) -> None:
        while not self._stopping:
            pause = 0.0
            try:
                self.tick()
            except Exception:  # noqa: BLE001 - logged; a scheduler that is gone would be worse than a lost step
                _log.exception("a step of the scheduler failed; it goes on from its store")
                pause = 1.0
            with self._changed:
                if not self._stirred and not self._stopping:
                    self._changed.wait(max(pause, self._idle_seconds()))
                self._stirred = False

    def _idle_seconds(self) -> float:
        """Until something is due, in seconds of the clock."""
        core = self._core
        wall = core.wall()
        moments = [planning.next_at(core)]
        if any(entry.state == "Running" for entry in core.live.values()):
            moments += [wall + STEP, core.last_patrol + life.PATROL / core.pace]
        moments += [entry.due for entry in core.live.values() if entry.due]
        return max(0.005, min(moments) - wall)

    def _wake(self) -> None:
        """Something happened beside the scheduling thread: a hook has returned."""
        with self._changed:
            self._stir()

    def submit(self, user: str, request: Mapping[str, object], line: str = "", commands: Sequence[str] = ()) -> Job:
        """Admit a job; returns it in Waiting (an advance reservation: once it is accepted), of an array the first one.

        Keys, as g5k-api sends them to OAR: `script` or `command`, `resource` or `resources` (text or list: moldable),
        `property`/`properties`, `type` (text or list), `reservation`, `directory`, `project`, `name`, `queue`,
        `notify`, `signal`, `checkpoint`, `stdout`, `stderr`, `import-job-key-from-file`. Any other key is an option
        that OAR does not know: `Refused` with status 500. None and empty values are the defaults. `line` is what the
        job shows as its request, when it came as a command line. `commands` are those of an array: a job for each.
        """
        if not self._users(user):
            raise Refused(401, 52, _NO_USER, "Permission denied")
        if not line:  # the REST API goes there itself; oarsub leaves that to the job
            admission.check_directory(user, request, self._directories)
        with self._changed:
            core = self._core
            order = admission.read(user, request, core.wall())
            siterules.admit(order, self._inventory, lambda: self._reservations_of(user), self._containers, core.rules)
            siterules.check_keys(order)
            entries = records.entries(order, core.now(), line, commands)
            for entry in entries:
                insertion.check(order, entry)
            with self._store.transaction():
                for entry in entries:
                    entry.array = entries[0].id
                    core.admit(entry)
                if order.notices:
                    core.event(entries[0], "ADM_RULES_MSG_OUT", "\n".join(order.notices))
            self._stir()
            for entry in entries if order.reservation else ():
                self._await_validation(entry)
                if entry.state == "Error" and entry.stage != "kill":
                    output = f"{order.output()}OAR_JOB_ID={entry.id}\n{_WAITING}"
                    raise Refused(400, 10, f"{output}# Reservation not valid --> KO ({entry.message})\n")
        return self._shown(entries[0])

    def _shown(self, entry: Entry) -> Job:
        job = self.job(entry.id)
        assert job is not None
        return job

    def _stir(self) -> None:
        """Something has changed: the scheduling thread is to look at once."""
        self._stirred = True
        self._changed.notify_all()

    def resubmit(self, number: int, user: str) -> Job:
        """Submit a job that is over once more; `Refused` otherwise."""
        with self._changed:
            with self._store.transaction():
                again = holding.resubmit(self._core, number, user)
            self._stir()
        return self._shown(again)

    def hold(self, number: int, user: str) -> None:
        """Keep a waiting job from being planned; `Refused` otherwise."""
        with self._changed:
            with self._store.transaction():
                holding.hold(self._core, number, user)
            self._stir()

    def resume(self, number: int, user: str) -> None:
        """Let a job that is held wait again; `Refused` otherwise."""
        with self._changed:
            with self._store.transaction():
                holding.resume(self._core, number, user)
            self._stir()

    def _reservations_of(self, user: str) -> int:
        return sum(
            e.user == user and e.reservation != "None" and e.state in ("Waiting", "Hold")
            for e in self._core.live.values()
        )

    def _containers(self) -> dict[int, bool]:
        """The jobs that may be named as containers, and whether each is a reservation."""
        there = (e for e in self._core.live.values() if e.state not in ("toError", "Finishing"))
        return {e.id: e.reservation != "None" for e in there if e.has_type("container")}

    def _await_validation(self, entry: Entry) -> None:
        """Wait, as oarsub does, for the pass that accepts or refuses a reservation."""
        while (entry.reservation == "toSchedule" and entry.state == "Waiting") or entry.state in _BETWEEN:
            if self._stopping:
                raise Refused(500, 11, "# Error: cannot connect to executor. Is OAR started?\n", "Oar server error")
            if self._thread:
                self._changed.wait(1.0)
            else:
                self.tick()
                self._core.clock.sleep(STEP / 2)
            entry = self._core.live.get(entry.id, entry)

    def job(self, number: int) -> Job | None:
        """One job; None when there is none of that number."""
        with self._reading:
            found = read_entries(self._store.reader, "id = ?", (number,))
            events = read_events(self._store.reader, [number])
        return records.snapshot(found[0], self._inventory, events.get(number, ())) if found else None

    def jobs(self, query: Query) -> Listing:
        """The jobs that pass a query, newest first."""
        conditions: list[str] = []
        values: list[object] = []
        for column, wanted in (
            ("user", query.users),
            ("name", query.names),
            ("project", query.projects),
            ("id", query.ids),
            ("state", query.states),
            ("queue", query.queues),
            ("COALESCE(NULLIF(array, 0), id)", query.arrays),
        ):
            if wanted is not None:
                conditions.append(f"{column} IN ({', '.join('?' for _ in wanted)})")
                values += wanted
        where = " AND ".join(conditions) or "1"
        table = f"FROM jobs JOIN alternatives ON job = id WHERE {where}"
        page = (-1 if query.limit is None else query.limit, query.offset)
        with self._reading:
            reader = self._store.reader
            reader.execute("BEGIN")
            try:
                total = reader.execute(f"SELECT COUNT(*) {table}", values).fetchone()[0]
                rows = reader.execute(
                    f"SELECT id, number {table} ORDER BY id DESC, number LIMIT ? OFFSET ?",
                    (*values, *page),
                ).fetchall()
                numbers = sorted({row[0] for row in rows})
                entries = self._read(numbers)
                events = read_events(reader, numbers)
            finally:
                reader.execute("COMMIT")
        jobs = tuple(
            records.snapshot(entries[n], self._inventory, events.get(n, ()), alternative) for n, alternative in rows
        )
        return Listing(jobs, total)

    def _read(self, numbers: list[int]) -> dict[int, Entry]:
        found: dict[int, Entry] = {}
        for begin in range(0, len(numbers), 500):
            part = tuple(numbers[begin : begin + 500])
            where = f"id IN ({', '.join('?' for _ in part)})"
            found |= {entry.id: entry for entry in read_entries(self._store.reader, where, part)}
        return found

    def current(self) -> tuple[Job, ...]:
        """Every job that is not over, with its resources and without its events: for the status of a site."""
        marks = ", ".join("?" for _ in FINAL_STATES)
        with self._reading:
            entries = read_entries(self._store.reader, f"state NOT IN ({marks}) ORDER BY id", tuple(FINAL_STATES))
        return tuple(records.snapshot(entry, self._inventory) for entry in entries)

    def states(self, number: int) -> tuple[tuple[str, int], ...]:
        """The states that a job went through, each with its time."""
        query = "SELECT state, at FROM states WHERE job = ? ORDER BY rowid"
        with self._reading:
            return tuple(self._store.reader.execute(query, (number,)).fetchall())

    def delete(self, number: int, user: str) -> str:
        """Ask for a job's end; oardel's text, or `Refused`."""
        with self._changed:
            entry = self._core.live.get(number) or self._store.entry(number)
            if entry is None or user not in (entry.user, "root", "oar"):
                raise _undeletable(number, 1, "You are not the right user.")
            if self._store.is_fragged(number):
                raise _undeletable(number, 6, "This job was already killed.")
            with self._store.transaction():
                self._core.frag(entry, user)
            self._stir()
        registered = f"Deleting the job = {number} ...REGISTERED.\n"
        return f"{registered}The job(s) [ {number} ] will be deleted in the near future.\n"

    def signal(self, number: int, user: str, name: str | None) -> str:
        """Send a signal to a running job, None: the one for checkpoints. The machine it goes to, or `Refused`."""
        with self._changed, self._store.transaction():
            return signals.ask(self._core, number, user, name)

    def walltime(self, number: int) -> WalltimeStatus:
        """What can be changed of a job's walltime, and what was; `Refused` (404) for no such job."""
        with self._changed:
            return walltimes.status(self._known(number))

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
        """Ask for another walltime (`+0:30:0`, `-0:10:0`, `2:0:0`); OAR's text, or `Refused`. timeout: seconds."""
        with self._changed:
            entry = self._known(number)
            change = Change(0, force, delay_next_jobs, whole, -1 if timeout is None else timeout)
            with self._store.transaction():
                text = walltimes.request(self._core, entry, user, walltime, change)
            self._stir()
            return text

    def _known(self, number: int) -> Entry:
        entry = self._core.live.get(number) or self._store.entry(number)
        if entry is None:
            raise Refused(404, 4, f"Could not find job {number}", "Not found")
        return entry

    def resources(self) -> tuple[Resource, ...]:
        """All resources of the site, by id, in their present states."""
        with self._changed:
            return tuple(self._inventory.by_id[i] for i in sorted(self._inventory.by_id))

    def set_state(self, address: str, state: NodeState) -> None:
        """Change the state of a node and of its disks; jobs on a node that is set Dead or Absent are killed.

        Raises `ValueError` for an unknown state, `KeyError` for an unknown address.
        """
        if state not in NODE_STATES:
            raise ValueError(f"{state} is no state of a node: {', '.join(NODE_STATES)}")
        with self._changed, self._store.transaction():
            if address not in self._inventory.nodes:
                raise KeyError(address)
            core = self._core
            mask = core.set_state(address, state)
            for entry in list(core.live.values()) if state in ("Dead", "Absent") else ():
                hit = entry.state in HOLDING and entry.assigned & mask and not {"noop", "cosystem"} & {*entry.types}
                if hit and not self._store.is_fragged(entry.id):
                    core.frag(entry, "root")
            self._stir()


def _undeletable(number: int, exit_code: int, reason: str) -> Refused:
    text = (
        f"Oardel command exited with status {exit_code << 8}: Deleting the job = {number} ...ERROR.\n"
        f"Cannot frag {number} ; {reason}\n. (Command was: /usr/lib/oar/oardodo/oardodo oardel {number})."
    )
    return Refused(400, exit_code, text, "Oardel error")
