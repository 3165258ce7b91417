"""Durations on the command line."""

from __future__ import annotations

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.experiment.duration import seconds_of, walltime_of


def seconds(text: str, flag: str, *, of_walltime: bool = False) -> int:
    """A flag's duration in seconds; `InvalidUse` names the flag."""
    try:
        return walltime_of(text) if of_walltime else seconds_of(text)
    except ValueError as error:
        raise InvalidUse(f"{flag}: {error}") from error
