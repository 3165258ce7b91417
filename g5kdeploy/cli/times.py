"""Durations on the command line."""

from __future__ import annotations

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.experiment.duration import seconds_of


def seconds(text: str, flag: str) -> int:
    """A flag's duration in seconds; `InvalidUse` names the flag."""
    try:
        return seconds_of(text)
    except ValueError as error:
        raise InvalidUse(f"{flag}: {error}") from error
