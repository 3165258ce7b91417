"""What one pass of the scheduler knows: who has which resources when, and what is free for whom."""

from __future__ import annotations

from dataclasses import dataclass, field

from g5kdeploy.lab.oar.gantt import Gantt
from g5kdeploy.lab.oar.inventory import Mask
from g5kdeploy.lab.oar.store import Entry


@dataclass(frozen=True)
class Place:
    """What a job has in the plan."""

    entry: Entry
    start: int
    seconds: int
    mask: Mask


@dataclass
class Plan:
    """The gantts of one pass. `start` is its second: the one after now.

    In `firm` besteffort jobs are not there: all others are planned as if they had gone. `full` has everybody. `lasting` are
    the resources that a reservation may count on: those that are away may be back in time.
    """

    start: int
    usable: Mask
    lasting: Mask
    firm: Gantt = field(init=False)
    full: Gantt = field(init=False)
    inside: dict[int, Gantt] = field(default_factory=dict)
    """Of the containers, by job."""
    places: dict[int, Place] = field(default_factory=dict)
    """Of all jobs that have one, by job."""
    earliest: dict[object, int] = field(default_factory=dict)
    """Where the last job with the very same wish was put: no other can be put earlier."""

    def __post_init__(self) -> None:
        self.firm, self.full = Gantt(self.start, self.usable), Gantt(self.start, self.usable)

    def occupy(self, entry: Entry, start: int, seconds: int, mask: Mask) -> None:
        """Take resources for a job, in all gantts that it concerns."""
        self.places[entry.id] = Place(entry, start, seconds, mask)
        if gantt := self.inside.get(container_of(entry)):
            gantt.occupy(start, seconds, mask)
        self.full.occupy(start, seconds, mask)
        if not entry.has_type("besteffort"):
            self.firm.occupy(start, seconds, mask)
        if entry.has_type("container"):
            self.inside[entry.id] = Gantt(self.start, 0)
            self.inside[entry.id].release(start, seconds, mask)

    def around(self, entry: Entry, resources: Mask) -> Gantt:
        """What of `resources` is free for a job: what those have who give way to it, or share their time with it, is."""
        gantt = Gantt(self.start, resources)
        mine = share(entry)
        for place in self.places.values():
            gives_way = place.entry.has_type("besteffort") and not entry.has_type("besteffort")
            if not gives_way and (mine is None or share(place.entry) != mine):
                gantt.occupy(place.start, place.seconds, place.mask)
        return gantt


def container_of(entry: Entry) -> int:
    """The job inside of which a job is to run; 0 for none."""
    value = entry.type_value("inner") or ""
    return int(value) if value.isdecimal() else 0


def share(entry: Entry) -> tuple[str, str] | None:
    """Jobs with the same share the time of their nodes: of one user or all, of one name or all; None for no sharing."""
    wanted = entry.type_value("timesharing")
    if wanted is None:
        return None
    parts = {part.strip() for part in (wanted or "*,*").split(",")}
    return entry.user if "user" in parts else "*", (entry.name or "*") if "name" in parts else "*"
