"""What the usage policy of Grid'5000 says of a job: yes or no, and why.

The rules of the default queue: on working days from 9:00 to 19:00 (Paris) a user gets, of each cluster and each day, at
most 2 hours of all its cores; jobs do not run across 9:00 or 19:00, save those across 19:00 that are submitted at 17:00
or later on that day; jobs of at most an hour, submitted less than 10 minutes before they start, do not count in the
quota. Nights, weekends and French public holidays are free. The sites enforce little of this themselves: whoever breaks
it hears from the administrators afterwards.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from g5kdeploy.base.text import human_seconds
from g5kdeploy.testbed.planning import calendar
from g5kdeploy.testbed.planning.landscape import OwnJob

QUOTA = 2 * 3600.0  # seconds on all cores of a cluster
LATE = 17  # o'clock: jobs submitted from then on may run across 19:00
SHORT, SOON = 3600, 600  # seconds
RESERVATIONS = 2  # advance reservations that a user may have waiting on a site
SILVER, BRONZE = 48 * 3600, 24 * 3600  # how far ahead groups of those levels may reserve, seconds


@dataclass(frozen=True)
class Verdict:
    """What the policy says; `why` is for yes and no."""

    allowed: bool
    why: str


@dataclass(frozen=True)
class Case:
    """A job to be judged. `cores` that it takes of each cluster, `totals`: all cores of each cluster."""

    site: str
    start: float
    walltime: int
    submitted: float
    cores: Mapping[str, int]
    totals: Mapping[str, int]
    queue: str = "default"
    types: Sequence[str] = ()
    advance: bool = False

    @property
    def end(self) -> float:
        return self.start + self.walltime


def judge(case: Case, mine: Sequence[OwnJob] = ()) -> Verdict:
    """The verdict on one job, beside the user's other ones; the first rule that says no is the reason."""
    if case.queue == "besteffort" or "besteffort" in case.types:
        if case.advance:
            return Verdict(False, "a besteffort job cannot be reserved in advance")
        return Verdict(True, "besteffort jobs may run at any time")
    if case.queue != "default":
        if case.advance and case.queue in ("production", "abaca"):
            return Verdict(False, f"the queue {case.queue} takes no advance reservations")
        return Verdict(True, f"the rules for working hours are those of the default queue, not of {case.queue}")
    hours = calendar.working(case.start, case.end)
    for rule in (_types(case, hours), _crossing(case), _quota(case, hours, mine), _ahead(case, mine)):
        if rule:
            return Verdict(False, rule)
    provisos = _level(case)
    return Verdict(True, "; ".join(filter(None, (_praise(case, hours), provisos))))


def _types(case: Case, hours: Mapping[dt.date, float]) -> str:
    if "night" in case.types and hours:
        return "a job of type night does not run in working hours"
    if "day" in case.types and sum(hours.values()) < case.walltime:
        return "a job of type day runs in working hours only"
    return ""


def _crossing(case: Case) -> str:
    for day, hour in calendar.crossed(case.start, case.end):
        starts_today = calendar.day_of(case.start) == day
        late = calendar.clock(day, LATE) <= case.submitted
        if hour == calendar.EVENING and starts_today and late and calendar.day_of(case.submitted) == day:
            continue
        advice = " (allowed when submitted at 17:00 or later on that day)" if hour == calendar.EVENING else ""
        return f"it would run across {hour}:00 of {day:%a %d %b} in Paris{advice}"
    return ""


def _counts(walltime: float, start: float, submitted: float) -> bool:
    """Whether a job counts in the quota."""
    return walltime > SHORT or start - submitted >= SOON


def _quota(case: Case, hours: Mapping[dt.date, float], mine: Sequence[OwnJob]) -> str:
    if not _counts(case.walltime, case.start, case.submitted):
        return ""
    for day, seconds in hours.items():
        for cluster, cores in case.cores.items():
            limit = QUOTA * case.totals.get(cluster, 0)
            used = sum(_used(job, case.site, cluster, day) for job in mine)
            if used + seconds * cores > limit:
                own = f", and your other jobs of that day take {_core_hours(used)}" if used else ""
                return (
                    f"it would take {_core_hours(seconds * cores)} of {cluster} in working hours of {day:%a %d %b}{own}; "
                    f"the limit is {_core_hours(limit)} (2 h of all its cores)"
                )
    return ""


def _used(job: OwnJob, site: str, cluster: str, day: dt.date) -> float:
    """Core-seconds that a job of ours counts on a day."""
    if job.site != site or job.queue != "default" or job.best_effort or not job.begin or cluster not in job.cores:
        return 0.0
    if not _counts(job.walltime, job.begin, job.submitted):
        return 0.0
    return calendar.working(job.begin, job.end).get(day, 0.0) * job.cores[cluster]


def _ahead(case: Case, mine: Sequence[OwnJob]) -> str:
    if not case.advance or case.start - case.submitted <= SHORT:
        return ""
    waiting = sum(job.advance and job.site == case.site and job.begin - case.submitted > SHORT for job in mine)
    if waiting >= RESERVATIONS:
        return f"you have {waiting} advance reservations on {case.site} already, and {RESERVATIONS} is the most"
    return ""


def _level(case: Case) -> str:
    """What depends on the level of the user's group, which the API does not tell."""
    ahead = case.start - case.submitted
    if not case.advance or ahead <= BRONZE:
        return ""
    groups = "gold" if ahead > SILVER else "gold or silver"
    return f"starts {human_seconds(ahead)} ahead: only for groups of level {groups}"


def _praise(case: Case, hours: Mapping[dt.date, float]) -> str:
    if not hours:
        names = {calendar.holiday(day) for day in calendar.days(case.start, case.end)} - {""}
        return "outside working hours" + (f" ({', '.join(sorted(names))})" if names else "")
    if not _counts(case.walltime, case.start, case.submitted):
        return "at most an hour and at once: not counted in the quota"
    return "within the daily quota"


def _core_hours(core_seconds: float) -> str:
    hours = core_seconds / 3600
    return f"{hours:.1f} core-hours" if hours < 10 and hours != int(hours) else f"{hours:.0f} core-hours"
