"""The scheduler of the lab: OAR as the clients of a Grid'5000 site meet it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.lab.oar.model import Hooks, Job, Listing, NodeState, Query, Resource, WalltimeStatus


class Oar:
    """A site's scheduler. Thread-safe; everything that it knows is in the store, so that a new process goes on with it.

    store: the sqlite file; made when absent. resources: the site's, at every start (states are kept in the store).
    users: whether a login has an account (without one, `Refused` with status 401).
    pace: >1 shortens the pauses of the scheduler (between passes), never walltimes or dates.
    """

    def __init__(
        self,
        store: Path,
        resources: Iterable[Resource],
        clock: Clock = SYSTEM,
        pace: float = 1.0,
        hooks: Hooks | None = None,
        users: Callable[[str], bool] = lambda _user: True,
    ) -> None: ...

    def start(self) -> None:
        """Start the scheduling thread; returns at once."""

    def stop(self) -> None:
        """Stop it. Jobs go on: the next start finds them."""

    def tick(self) -> None:
        """Do all that is due now, once, on the caller's thread: for tests with an injected clock."""

    def submit(self, user: str, request: Mapping[str, object]) -> Job:
        """Admit a job; returns it in Waiting (an advance reservation: once it is accepted).

        Keys, as g5k-api sends them to OAR: `script` or `command`, `resource` or `resources` (text or list: moldable),
        `property`/`properties`, `type`/`types` (text or list), `reservation`, `directory`, `project`, `name`, `queue`,
        `notify`, `signal`, `checkpoint`, `stdout`, `stderr`,
        `import-job-key-from-file`. Any other key is an option that OAR does not know: `Refused` with status 500. None and empty values of known keys are the defaults.
        """
        raise Unready

    def job(self, number: int) -> Job | None:
        raise Unready

    def jobs(self, query: Query) -> Listing:
        raise Unready

    def current(self) -> tuple[Job, ...]:
        raise Unready

    def delete(self, number: int, user: str) -> str:
        raise Unready

    def walltime(self, number: int) -> WalltimeStatus:
        raise Unready

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
        raise Unready

    def resources(self) -> tuple[Resource, ...]:
        raise Unready

    def set_state(self, address: str, state: NodeState) -> None:
        raise Unready


class Unready(Exception):
    """The engine's insides are still to come."""
