"""When and where a reservation starts, when the user says so: the plan's best option, as the policy has it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.events.failure import NoResources, NotAllowed
from g5kdeploy.experiment import Experiment
from g5kdeploy.node import expand, fold
from g5kdeploy.testbed import planning, together
from g5kdeploy.testbed.planning.wish import PLATFORM
from g5kdeploy.testbed.problems import Refused
from g5kdeploy.testbed.request import Request, RoleNodes, apart, cluster_of, told
from g5kdeploy.testbed.reservations import Reservation
from g5kdeploy.workflow.session import Session

WARN, ENFORCE, IGNORE = POLICIES = ("warn", "enforce", "ignore")
_AT_ONCE = 60.0  # a start within so many seconds needs no advance reservation
_TRIES = 4  # starts that the sites name when they refuse are tried so often
_NIX_NAMES = {"powerpc64le": "ppc64le"}  # where Nix names a platform otherwise than reference data


def roles(experiment: Experiment) -> tuple[RoleNodes, ...]:
    """The nodes that the experiment's roles ask for."""
    return tuple(
        RoleNodes(name, one.nodes, one.cluster, one.conditions, unfolded(one.names), one.site, one.min or 0, one.disks)
        for name, one in experiment.roles.items()
    )


def unfolded(words: Iterable[str]) -> tuple[str, ...]:
    """The names in folded sets of nodes, each once."""
    return tuple(dict.fromkeys(name for word in words for name in expand(word)))


def wish(experiment: Experiment, platform: str = PLATFORM) -> planning.Wish:
    """What the experiment asks for, whatever the site."""
    exclude = frozenset(node.split(".")[0] for node in unfolded(experiment.exclude_nodes))
    return planning.Wish(
        roles(experiment), experiment.walltime, experiment.queue, experiment.job_types, platform, exclude
    )


def platform(manifest: Path) -> str:
    """What the closures of a manifest are built for, as reference data names it; of what will be built, where none is."""
    if not manifest.exists():
        return PLATFORM
    name = Manifest.load(manifest).system.removesuffix("-linux")
    return _NIX_NAMES.get(name, name)


def pinned(experiment: Experiment) -> tuple[str, ...]:
    """The clusters that matter, when every role names one (or nodes of one); else none: all do."""
    clusters: set[str] = set()
    for role in experiment.roles.values():
        named = {cluster_of(name) for name in unfolded(role.names)}
        clusters |= {role.cluster} if role.cluster or not named else named
    return () if "" in clusters else tuple(sorted(clusters))


def sites_of(experiment: Experiment, homes: Sequence[str]) -> list[str]:
    """The sites to look at: those that roles name, and those that the other roles may go to; none: all."""
    named = [role.site for role in experiment.roles.values() if role.site]
    free = any(not role.site for role in experiment.roles.values())
    return list(dict.fromkeys([*(homes if free else ()), *named])) if homes or not free else []


def placed(
    session: Session, asked: Request, at: str, policy: str, deadline: Deadline, sites: Sequence[str] | None = None
) -> tuple[Request, float | None]:
    """The same request with its start, and site and cluster that are free then; `at` "": as soon as possible.

    `sites`: where roles may go that name no site (None: to the request's; none: to any). And the latest start that would
    do as well, None when no other one would.

    Raises `NoResources` when nothing is free in that window, `NotAllowed` when the policy says no and is enforced.
    """
    window = planning.window(at or "earliest", asked.walltime, session.clock.wall())
    homes = [asked.site] if sites is None else sites
    land = planning.look(session.api, sites_of(session.experiment, homes), deadline, pinned(session.experiment))
    told_wish = wish(session.experiment, asked.platform or PLATFORM)
    advance = False if not at or window.word == "now" else None
    found = planning.plan_sites(land, told_wish, window, homes or [*land.nodes], advance=advance)
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
    if not at and sites is None:
        return asked, None
    there = replace(asked, site=option.site.split("+")[0], roles=option.roles)
    if not at or (window.word in planning.WORDS and start - land.now <= _AT_ONCE):
        return replace(there, at=None), None
    return replace(there, at=start), None if policy == ENFORCE else window.last


def submitted(
    session: Session, asked: Request, latest: float | None, deadline: Deadline
) -> tuple[Request, list[Reservation]]:
    """Reserve on all sites; when one refuses and names a later start that is not after `latest`, with that one.

    Somebody else may have taken the nodes since the plan was made. Answers the request that was taken.
    """
    for last in range(_TRIES):
        try:
            return asked, together.reserve_all(session.api, apart(asked), session.records, deadline, session.emit)
        except Refused as refused:
            could = refused.could_run_at
            if (
                asked.at is None
                or latest is None
                or could is None
                or not asked.at < could <= latest
                or last == _TRIES - 1
            ):
                raise
            begin = told(asked.at)
            session.emit.note("reserve", f"refused for {begin}; the site says that it could run at {told(could)}")
            asked = replace(asked, at=could)
    raise AssertionError("the last try ends with jobs or an error")


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
    """That there is no option, with each place's reason; clusters of a site with the same one are told together."""
    alike: dict[tuple[str, str], list[str]] = {}
    for site, cluster, why in found.without:
        alike.setdefault((site, why), []).extend([cluster] if cluster else [])
    places = [f"{site}{'/' + fold(them) if them else ''}: {why}" for (site, why), them in alike.items()]
    return NoResources(
        f"nowhere can these nodes be had with --at {at}",
        cause="; ".join(places) or "no cluster has such nodes",
        hint=("" if at == "earliest" else "--at earliest, ") + "more --sites, fewer nodes, or a shorter --walltime",
    )
