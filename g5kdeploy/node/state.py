"""What is known of one node, from its reservation to its benchmark."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from g5kdeploy.events.failure import Failure


class Stage(StrEnum):
    """How far a node has come; `LOST` can be entered from anywhere and left only by deploying again."""

    RESERVED = "reserved"
    DEPLOYED = "deployed"
    BOOTED = "booted"
    INSTRUMENTED = "instrumented"
    LOST = "lost"


_ORDER = (Stage.RESERVED, Stage.DEPLOYED, Stage.BOOTED, Stage.INSTRUMENTED)


class WrongStage(Failure):
    """A step was asked for that the node is not ready for."""


@dataclass
class NodeState:
    """One node's record in a run: its stage, role, and the facts gathered on the way (kernel, boot id, ...)."""

    name: str
    role: str = ""
    stage: Stage = Stage.RESERVED
    facts: dict[str, str] = field(default_factory=dict)
    lost_because: str = ""

    def reach(self, stage: Stage, **facts: str) -> None:
        """Go on to `stage` (the next one), stay in it, or fall back to an earlier one by doing its step again."""
        if stage is Stage.LOST:
            raise ValueError("a node is lost by lose(), which says why")
        if self.stage is Stage.LOST and stage not in (Stage.RESERVED, Stage.DEPLOYED):
            raise WrongStage(f"{self.name} was lost", cause=self.lost_because, hint="deploy it again")
        now = 0 if self.stage is Stage.LOST else _ORDER.index(self.stage)
        if _ORDER.index(stage) > now + 1:
            raise WrongStage(
                f"{self.name} is {self.stage.value}, it cannot become {stage.value} yet",
                cause=f"{_ORDER[now + 1].value} comes first",
            )
        self.stage = stage
        self.lost_because = ""
        self.facts.update(facts)

    def require(self, stage: Stage) -> None:
        """Raise `WrongStage` unless the node has come at least to `stage`."""
        if self.stage is Stage.LOST:
            raise WrongStage(f"{self.name} was lost", cause=self.lost_because, hint="deploy it again")
        if _ORDER.index(self.stage) < _ORDER.index(stage):
            raise WrongStage(f"{self.name} is {self.stage.value}, not yet {stage.value}")

    def lose(self, why: str) -> None:
        self.stage = Stage.LOST
        self.lost_because = why

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "stage": self.stage.value}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> NodeState:
        return cls(**{**value, "stage": Stage(value["stage"])})
