"""When and where a reservation starts, when the user says so: the plan's best option, as the policy has it."""

from __future__ import annotations

from dataclasses import replace

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import NoResources, NotAllowed
from g5kdeploy.experiment import Experiment
from g5kdeploy.testbed import planning, reservations
from g5kdeploy.testbed.problems import Refused
from g5kdeploy.testbed.request import Request, RoleNodes, told
from g5kdeploy.testbed.reservations import Reservation
from g5kdeploy.workflow.session import Session

WARN, ENFORCE, IGNORE = POLICIES = ("warn", "enforce", "ignore")
_AT_ONCE = 60.0  # a start within so many seconds needs no advance reservation


def wish(experiment: Experiment) -> planning.Wish:
    """What the experiment asks for, whatever the site."""
    roles = tuple(RoleNodes(name, role.nodes, role.cluster, role.properties) for name, role in experiment.roles.items())
    return planning.Wish(roles, experiment.walltime, experiment.queue, experiment.job_types)


def pinned(experiment: Experiment) -> tuple[str, ...]:
    """The clusters that matter, when every role names one; else none: all do."""
    clusters = {role.cluster for role in experiment.roles.values()}
    return () if "" in clusters else tuple(sorted(clusters))


def placed(session: Session, asked: Request, at: str, policy: str, deadline: Deadline) -> tuple[Request, float | None]:
    """The same request with its start, and the cluster that is free then; `at` "": as soon as possible, policy only.

    And the latest start that would do as well, None when no other one would.

    Raises `NoResources` when nothing is free in that window, `NotAllowed` when the policy says no and is enforced.
    """
    window = planning.window(at or "earliest", asked.walltime, session.clock.wall())
    land = planning.look(session.api, [asked.site], deadline, pinned(session.experiment))
    told_wish = wish(session.experiment)
    found = planning.plan(land, told_wish, window, advance=False if not at or window.word == "now" else None)
    if not found.options:
        raise nothing(found, at or "earliest")
    option = found.options[0]
    start = option.start
    if not option.verdict.allowed and policy != IGNORE:
        if policy == ENFORCE:
            option, start = _lawful(found, at)
        else:
            session.emit.warn("reserve", f"the usage policy says no: {option.verdict.why}")
    for note in option.notes:
        session.emit.note("reserve", note)
    session.emit.note("reserve", f"planned on {option.name} from {told(start)}")
    if not at:
        return asked, None
    if window.word in planning.WORDS and start - land.now <= _AT_ONCE:
        return replace(asked, roles=option.roles, at=None), None
    return replace(asked, roles=option.roles, at=start), None if policy == ENFORCE else window.last


def submitted(
    session: Session, asked: Request, latest: float | None, deadline: Deadline
) -> tuple[Request, Reservation]:
    """Reserve; when the site refuses and names a later start that is not after `latest`, reserve with that one.

    Somebody else may have taken the nodes since the plan was made. Answers the request that was taken.
    """
    try:
        return asked, reservations.reserve(session.api, asked, session.records, deadline, session.emit)
    except Refused as refused:
        could = refused.could_run_at
        if asked.at is None or latest is None or could is None or not asked.at < could <= latest:
            raise
        session.emit.note("reserve", f"refused for {told(asked.at)}; the site says that it could run at {told(could)}")
    later = replace(asked, at=could)
    return later, reservations.reserve(session.api, later, session.records, deadline, session.emit)


def _lawful(found: planning.Plan, at: str) -> tuple[planning.Option, float]:
    """The earliest option that the policy allows; without a start of the user's own, waiting is no way out."""
    lawful = [
        (start, number)
        for number, option in enumerate(found.options)
        if (start := option.allowed) is not None and (at or option.verdict.allowed)
    ]
    if lawful:
        start, number = min(lawful)
        return found.options[number], start
    raise NotAllowed(
        "the usage policy does not allow this reservation",
        cause=found.options[0].verdict.why,
        hint="--at night, --at weekend or a shorter --walltime; --policy warn reserves all the same",
    )


def nothing(found: planning.Plan, at: str) -> NoResources:
    """That there is no option, with each place's reason."""
    places = [f"{site}{'/' + cluster if cluster else ''}: {why}" for site, cluster, why in found.without]
    return NoResources(
        f"nowhere can these nodes be had with --at {at}",
        cause="; ".join(places) or "no cluster has such nodes",
        hint="--at earliest, more --sites, fewer nodes, or a shorter --walltime",
    )
