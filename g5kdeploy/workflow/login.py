"""Whether the site lets us in over SSH: asked before a job is, because nodes that cannot be reached are of no use."""

from __future__ import annotations

import threading

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import Failure, exit_code
from g5kdeploy.node import Remote

SECONDS = 90.0
WAKE_SECONDS = 0.5


class Login:
    """One login on a frontend, begun at once and in the background; what runs later goes over the same connection."""

    def __init__(self, frontend: Remote, deadline: Deadline) -> None:
        self._frontend = frontend
        self._deadline = deadline.within(SECONDS, f"a login on {frontend.name}")
        self._error: BaseException | None = None
        self._done = threading.Event()
        threading.Thread(target=self._try, name="login", daemon=True).start()

    def _try(self) -> None:
        try:
            self._frontend.run("true", self._deadline)
        except BaseException as error:  # noqa: BLE001  carried to the thread that asks
            self._error = error
        finally:
            self._done.set()

    def check(self) -> None:
        """Return when we were let in. Raises `Failure`, with the exit code of what went wrong, when we were not."""
        while not self._done.wait(WAKE_SECONDS):  # no wait without an end: an interrupt just before it would be lost
            pass
        error = self._error
        if error is None:
            return
        if not isinstance(error, Problem):
            raise error
        failure = Failure(
            f"nothing was reserved: the nodes could not be reached, as {self._frontend.name} does not let us in",
            cause=str(error),
            hint=error.hint,
        )
        failure.code = exit_code(error)
        raise failure from error
