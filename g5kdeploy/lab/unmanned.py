"""Sites of real reference data whose nodes are not there: they can be planned for, and nothing runs on them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

from g5kdeploy.lab.oar import Job, Listing, NodeState, Query, Refused, Resource, WalltimeStatus

REFUSAL = "# Error: the nodes of this site exist in its reference data alone; this lab boots none of them.\n"


class Unmanned:
    """A scheduler without nodes to schedule: everything is free, nothing is accepted. Its resources come when asked."""

    def __init__(self, resources: Callable[[], Sequence[Resource]]) -> None:
        self._make = resources

    @functools.cached_property
    def _resources(self) -> tuple[Resource, ...]:
        return tuple(self._make())

    def submit(self, user: str, request: Mapping[str, object], line: str = "", commands: Sequence[str] = ()) -> Job:
        raise Refused(400, 1, REFUSAL)

    def resubmit(self, number: int, user: str) -> Job:
        raise Refused(400, 1, REFUSAL)

    def hold(self, number: int, user: str) -> None:
        raise Refused(400, 1, REFUSAL)

    def resume(self, number: int, user: str) -> None:
        raise Refused(400, 1, REFUSAL)

    def job(self, number: int) -> Job | None:
        return None

    def jobs(self, query: Query) -> Listing:
        return Listing((), 0)

    def current(self) -> tuple[Job, ...]:
        return ()

    def delete(self, number: int, user: str) -> str:
        raise Refused(500, 1, REFUSAL, "Oar server error")

    def signal(self, number: int, user: str, name: str | None) -> str:
        raise Refused(400, 1, REFUSAL)

    def walltime(self, number: int) -> WalltimeStatus:
        raise Refused(500, 1, REFUSAL, "Oar server error")

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
        raise Refused(500, 1, REFUSAL, "Oar server error")

    def resources(self) -> tuple[Resource, ...]:
        return self._resources

    def set_state(self, address: str, state: NodeState) -> None:
        """Nothing here can be switched."""
