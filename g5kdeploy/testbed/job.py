"""A job as the API tells it, and what its state and its events mean in words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.text import clean
from g5kdeploy.testbed.problems import ApiProblem

FINAL = frozenset({"terminated", "error"})
# Before these are left behind, `assigned_nodes` may be a mere prediction.
_PREDICTED = frozenset({"waiting", "hold", "toackreservation"})
_STATES = {
    "waiting": "waiting for free nodes",
    "hold": "held back",
    "toackreservation": "waiting for the site to confirm the start",
    "tolaunch": "about to start",
    "launching": "starting",
    "running": "running",
    "suspended": "suspended",
    "resuming": "resuming",
    "finishing": "ending",
    "toerror": "ending",
    "terminated": "ended",
    "error": "ended",
}
# The first type that a job's events contain tells why it ended.
_REASONS = {
    "BESTEFFORT_KILL": "ended by the site: a besteffort job makes way for others",
    "WALLTIME": "its walltime ended",
    "WORKING_DIRECTORY": "the site could not enter its working directory, often a home that a node has not mounted",
    "PING_CHECKER_NODE_SUSPECTED": "a node did not answer the site when the job should start",
    "EXTERMINATE_JOB": "ended by the site",
}


@dataclass(frozen=True)
class JobEvent:
    """Something that happened to a job: OAR's type and text, unix time."""

    type: str
    description: str
    created_at: int


@dataclass(frozen=True)
class Job:
    """One job. Times in unix seconds, None while there are none; walltime in seconds; nodes by full name, sorted."""

    id: int
    site: str
    name: str
    user: str
    state: str
    walltime: int
    queue: str
    types: tuple[str, ...]
    submitted_at: int
    scheduled_at: int | None
    started_at: int | None
    stopped_at: int | None
    message: str
    nodes: tuple[str, ...]
    vlans: tuple[str, ...]
    subnets: tuple[str, ...]
    disks: tuple[str, ...]
    events: tuple[JobEvent, ...]

    @classmethod
    def from_document(cls, site: str, document: Mapping[str, Any]) -> Job:
        """From what `GET /sites/S/jobs/N` answers; nodes are only believed once the job has them."""
        try:
            state = str(document["state"]).lower()
            by_type = document.get("resources_by_type") or {}
            predicted = state in _PREDICTED
            return cls(
                id=int(document["uid"]),
                site=site,
                name=str(document.get("name", "")),
                user=str(document.get("user_uid") or document.get("user") or ""),
                state=state,
                walltime=int(document.get("walltime") or 0),
                queue=str(document.get("queue", "")),
                types=tuple(document.get("types") or ()),
                submitted_at=int(document.get("submitted_at") or 0),
                scheduled_at=document.get("scheduled_at")
                or (document.get("started_at") if predicted else None)
                or None,
                # An accepted advance reservation gives its future start here, and a refused one as well.
                started_at=None if predicted else document.get("started_at") or None,
                stopped_at=document.get("stopped_at") or None,
                message=clean(str(document.get("message", ""))),
                nodes=() if predicted else tuple(sorted(set(document.get("assigned_nodes") or ()), key=natural)),
                vlans=() if predicted else tuple(str(vlan) for vlan in by_type.get("vlans") or ()),
                subnets=() if predicted else tuple(by_type.get("subnets") or ()),
                disks=() if predicted else tuple(sorted(by_type.get("disks") or ())),
                events=tuple(
                    JobEvent(str(e.get("type")), clean(str(e.get("description", ""))), int(e.get("created_at") or 0))
                    for e in document.get("events") or ()
                ),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ApiProblem(f"the site {site} answers with something that is no job", cause=repr(error)) from error

    @property
    def over(self) -> bool:
        return self.state in FINAL

    @property
    def ending(self) -> bool:
        """Whether it is over, or somebody has asked for its end: no use to anyone any more."""
        asked = any(event.type == "FRAG_JOB_REQUEST" for event in self.events)
        return self.over or asked or self.state in ("finishing", "toerror")

    @property
    def running(self) -> bool:
        return self.state == "running"

    @property
    def ends_at(self) -> int | None:
        """When the walltime ends (unix time), None before the start."""
        return self.started_at + self.walltime if self.started_at else None

    def state_in_words(self) -> str:
        """The state as a person says it: "waiting for free nodes", "starting"."""
        return _STATES.get(self.state, self.state)

    def reason(self) -> str:
        """Why it ended (by its owner, its walltime, a besteffort preemption, the site); "" while it is not over."""
        if not self.over:
            return ""
        types = {event.type for event in self.events if not _changes_walltime(event)}
        if reason := next((words for kind, words in _REASONS.items() if kind in types), ""):
            return reason
        for event in self.events:
            if event.type == "FRAG_JOB_REQUEST":
                who = event.description.removeprefix("User ").split(" ")[0]
                return (
                    f"{who} deleted it"
                    if who and who != "root"
                    else "the site's administrators or a dead node ended it"
                )
        if self.state == "terminated":
            return "its command ended by itself"
        told = [event.description for event in self.events if not event.type.startswith("ADM_RULES")]
        # Before anything happens to a job its message is a mere summary, R=4,W=1:0:0,...
        message = "" if self.message.startswith("R=") else self.message
        return f"the site ended it: {told[-1] if told else message or 'it gives no reason'}"

    @property
    def walltime_ended(self) -> bool:
        return self.over and any(event.type == "WALLTIME" and not _changes_walltime(event) for event in self.events)

    def notices(self) -> list[str]:
        """What the site's admission rules said to this submission."""
        return [
            line.lstrip("# ")
            for event in self.events
            if event.type in ("ADM_RULES_MSG_OUT", "ADM_RULES_MSG_ERR")
            for line in event.description.splitlines()
            if line.strip("# ")
        ]


def _changes_walltime(event: JobEvent) -> bool:
    """OAR writes WALLTIME when a walltime is over, and when one was changed."""
    return event.type == "WALLTIME" and event.description.startswith("Walltime changed")


def natural(node: str) -> tuple[tuple[int, str], ...]:
    """A sorting key under which vm-2 comes before vm-10."""
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in node.replace(".", "-").split("-"))
