"""What can go wrong between us and a testbed, in the words of the field."""

from __future__ import annotations

from g5kdeploy.events.failure import ExitCode, Failure, NoResources


class ApiProblem(Failure):
    """The API could not be reached, or its answer is not one; `status` is the HTTP status, 0 without an answer.

    `repeats` is how often it makes sense to ask again (0: the answer will not change), `retry_after` the server's own
    wish in seconds, `sent` whether the request can have arrived, `body` what was answered.
    """

    def __init__(
        self,
        what: str,
        *,
        cause: str = "",
        hint: str = "",
        url: str = "",
        status: int = 0,
        repeats: int = 0,
        retry_after: float | None = None,
        sent: bool = True,
        body: str = "",
    ) -> None:
        super().__init__(what, cause=cause, hint=hint)
        self.url = url
        self.status = status
        self.repeats = repeats
        self.retry_after = retry_after
        self.sent = sent
        self.body = body

    @property
    def passing(self) -> bool:
        """Whether it may be over by itself: an outage, not an answer."""
        return self.repeats > 0


class Unclear(ApiProblem):
    """A request was sent, and nobody can say whether it was done."""


class NotThere(ApiProblem):
    """The API answers, and does not know this thing (404)."""


class Refused(NoResources):
    """The site refused a reservation; `could_run_at` is the start that it named instead (unix time), if it did."""

    def __init__(self, what: str, *, cause: str = "", hint: str = "", could_run_at: float | None = None) -> None:
        super().__init__(what, cause=cause, hint=hint)
        self.could_run_at = could_run_at


class JobOver(Failure):
    """The job ended while its nodes were still needed; the code is 9 when its walltime ended it."""

    def __init__(self, what: str, *, cause: str = "", hint: str = "", walltime: bool = False) -> None:
        super().__init__(what, cause=cause, hint=hint)
        if walltime:
            self.code = ExitCode.DEADLINE


class ImageProblem(Failure):
    """Every node failed at the boot of the environment: the image is at fault, not the nodes."""
