"""How far a node has come, from its reservation to its benchmark."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """In the order in which a node goes through them; `LOST` can be entered from anywhere and left only by deploying again."""

    RESERVED = "reserved"
    DEPLOYED = "deployed"
    BOOTED = "booted"
    INSTRUMENTED = "instrumented"
    LOST = "lost"

    def reached(self, other: Stage) -> bool:
        """Whether a node at this stage has come as far as `other`; one that is lost has come nowhere."""
        order = list(Stage)
        return self is not Stage.LOST and order.index(self) >= order.index(other)
