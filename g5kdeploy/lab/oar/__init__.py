"""The lab's scheduler: OAR as it was observed, as a library without HTTP."""

from g5kdeploy.lab.oar.engine import Oar
from g5kdeploy.lab.oar.model import (
    Command,
    DirectoryMissing,
    Event,
    Hooks,
    Job,
    Listing,
    NodeState,
    NoOutput,
    Query,
    Refused,
    Resource,
    Scheduler,
    WalltimeStatus,
)

__all__ = [
    "Command",
    "DirectoryMissing",
    "Event",
    "Hooks",
    "Job",
    "Listing",
    "NoOutput",
    "NodeState",
    "Oar",
    "Query",
    "Refused",
    "Resource",
    "Scheduler",
    "WalltimeStatus",
]
