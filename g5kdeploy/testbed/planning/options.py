"""Where the experiment could start, and when: each acceptable combination with its earliest start and its verdict."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed import properties
from g5kdeploy.testbed.job import natural
from g5kdeploy.testbed.planning import calendar, policy
from g5kdeploy.testbed.planning.landscape import SECURITY, USABLE, Landscape, Node
from g5kdeploy.testbed.planning.moments import Window
from g5kdeploy.testbed.planning.notes import remarks
from g5kdeploy.testbed.planning.slots import Need, Span, first_fit, merged, starts
from g5kdeploy.testbed.planning.wish import OTHER_QUEUE, Wish, objection
from g5kdeploy.testbed.request import RoleNodes, cluster_of, full_name
from g5kdeploy.testbed.roles import match

_KINDS = 8  # kinds of roles: planning takes twice as long for each further one
_QUIET = 9  # spans without working hours to look into for a start that the policy allows
_AT_ONCE = 60.0  # a start within so many seconds needs no advance reservation


@dataclass(frozen=True)
class Option:
    """One way to have the experiment: `roles` are those to ask for, `nodes` those that are free then.

    `start` in unix time; `allowed` is the earliest start in this combination that the policy allows, None when none was
    found; `standby` nodes are switched off, `evicted` are held by besteffort jobs that would be ended.
    """

    site: str
    cluster: str
    roles: tuple[RoleNodes, ...]
    start: float
    nodes: tuple[str, ...]
    verdict: policy.Verdict
    allowed: float | None
    standby: int = 0
    evicted: int = 0
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.site}/{self.cluster}"


@dataclass(frozen=True)
class Plan:
    """The options, the best first; and why there are none in other places: (site, cluster or "", reason)."""

    options: tuple[Option, ...]
    without: tuple[tuple[str, str, str], ...]


@dataclass
class _Site:
    """A site while it is planned for."""

    name: str
    clusters: Mapping[str, Sequence[Node]]
    usable: dict[str, Node] = field(default_factory=dict)
    windows: dict[str, list[Span]] = field(default_factory=dict)
    with_disks: dict[str, list[Span]] = field(default_factory=dict)
    """The windows of nodes with their disks, where those are not the same."""
    reasons: dict[str, str] = field(default_factory=dict)

    def free(self, name: str, start: float, disks: bool) -> bool:
        """Whether a job can begin on that node then."""
        spans = self.with_disks.get(name) if disks else None
        return any(begin <= start <= end for begin, end in (self.windows[name] if spans is None else spans))


def plan(land: Landscape, wish: Wish, window: Window, *, advance: bool | None = None) -> Plan:
    """All options in a window of starts. O(E log E) for E jobs on nodes, in each combination of clusters.

    `advance`: whether an advance reservation is meant; None: unless the start is at once. Raises `InvalidUse` for too
    many kinds of roles.
    """
    kinds = {role.kind for role in wish.roles}
    if len(kinds) > _KINDS:
        raise InvalidUse(
            f"planning takes at most {_KINDS} kinds of roles, here are {len(kinds)}",
            cause="roles are of one kind when they have the same cluster and properties",
        )
    if window.first < land.now:  # the sites took a while to answer
        window = replace(window, first=land.now, last=max(window.last, land.now))
    options: list[Option] = []
    without = [(site, "", f"does not answer: {trouble}") for site, trouble in land.troubles.items()]
    for name in sorted(land.nodes):
        site = _prepared(land, wish, window, name)
        found = _of_site(land, wish, window, site, advance)
        options += found
        served = {option.cluster for option in found}
        without += [(name, cluster, why) for cluster, why in site.reasons.items() if cluster not in served]
    options.sort(key=lambda one: (one.start, one.standby > 0, one.evicted > 0, not one.verdict.allowed, one.name))
    return Plan(tuple(options), tuple(without))


def _prepared(land: Landscape, wish: Wish, window: Window, name: str) -> _Site:
    """Which nodes of a site will do at all, and when a job could begin on each."""
    site = _Site(name, land.nodes[name])
    length = float(wish.walltime + SECURITY)
    for cluster, nodes in site.clusters.items():
        refused: dict[str, int] = {}
        for node in nodes:
            why = objection(wish, node.document) or _no_access(land, wish, node) or _outside(wish, node)
            if why.startswith(OTHER_QUEUE) and (label := land.access(node)) is not None:
                why += f" (your access there is {label})" if label else " (open to you for besteffort jobs only)"
            if not why and node.state not in USABLE:
                why = f"is {node.state or 'unknown to the status'}"
            if why:
                refused[why] = refused.get(why, 0) + 1
                continue
            site.usable[node.name] = node
            _open(wish, window, site, node, length)
        if refused:
            whole = len(refused) == 1 and next(iter(refused.values())) == len(nodes)
            site.reasons[cluster] = (
                next(iter(refused)) if whole else ", ".join(f"{count} {why}" for why, count in refused.items())
            )
    return site


def _open(wish: Wish, window: Window, site: _Site, node: Node, length: float) -> None:
    """Note when a job of `length` seconds could begin on a node: around all others, or in a container that has it."""
    first, last = window.first, window.last
    held: Sequence[Span] = sorted((*node.firm, *node.weak)) if wish.best_effort else node.firm
    if wish.inner is not None:
        (begin, end), held = node.containers[wish.inner]
        first, last = max(first, begin), min(last, end - length)
    if first > last:
        site.windows[node.name] = []
        return
    site.windows[node.name] = starts(held, first, last, length)
    if node.disks and any(role.disks for role in wish.roles):
        site.with_disks[node.name] = starts(sorted((*held, *node.disks)), first, last, length)


def _outside(wish: Wish, node: Node) -> str:
    if wish.inner is None or wish.inner in node.containers:
        return ""
    return f"is not in the container {wish.inner}"


def _no_access(land: Landscape, wish: Wish, node: Node) -> str:
    if wish.best_effort or wish.queue not in ("production", "abaca"):
        return ""
    return "is open to you for besteffort jobs only" if land.access(node) == "" else ""


def _of_site(land: Landscape, wish: Wish, window: Window, site: _Site, advance: bool | None) -> list[Option]:
    """The options of one site: each cluster for the roles that name none, then a mixture if that starts earlier."""
    pinned = {role.cluster for role in wish.roles if role.cluster}
    free_roles = any(not role.cluster and not role.nodes for role in wish.roles)
    if missing := pinned - set(site.clusters):
        site.reasons = {"": f"has no cluster {', '.join(sorted(missing))}"}
        return []
    fits = _fitting(wish.roles, site)
    found: list[Option] = []
    if free_roles:
        for cluster in site.clusters:
            roles = tuple(role if role.cluster or role.nodes else replace(role, cluster=cluster) for role in wish.roles)
            label = "+".join(sorted({*pinned, cluster}))
            option = _option(land, wish, window, site, (label, roles, cluster), fits, advance)
            if option:
                found.append(option)
    label = "any" if free_roles else "+".join(sorted(pinned)) or "any"
    if free_roles and len(site.clusters) < 2:
        return found
    best = min((option.start for option in found), default=math.inf)
    mixed = _option(land, wish, window, site, (label, wish.roles, ""), fits, advance)
    if mixed and mixed.start < best:
        found.append(mixed)
    return found


def _fitting(roles: Sequence[RoleNodes], site: _Site) -> dict[str, frozenset[str]]:
    """Role -> the site's usable nodes that will do for it; a property that cannot be told is taken as met."""
    told_of = functools.cache(
        lambda condition: properties.matching(condition, {n: node.document for n, node in site.usable.items()})
    )
    found = {}
    for role in roles:
        names = frozenset(site.usable)
        if role.nodes:
            names &= {full_name(name, site.name) for name in role.nodes}
        if role.cluster:
            names = frozenset(name for name in names if cluster_of(name) == role.cluster)
        if role.condition and (met := told_of(role.condition)) is not None:
            names &= met
        found[role.role] = names
    return found


def _option(
    land: Landscape,
    wish: Wish,
    window: Window,
    site: _Site,
    place: tuple[str, tuple[RoleNodes, ...], str],
    fits: Mapping[str, frozenset[str]],
    advance: bool | None,
) -> Option | None:
    """The option of one combination: label, roles, and the cluster of those that named none ("": any)."""
    label, roles, cluster = place
    inside = frozenset(n.name for n in site.clusters.get(cluster, ())) if cluster else frozenset()
    kinds: dict[tuple[Any, ...], frozenset[str]] = {}
    needs = []
    for role, wished in zip(roles, wish.roles, strict=True):
        key = role.kind
        if key not in kinds:
            kinds[key] = fits[role.role] & inside if role.cluster != wished.cluster else fits[role.role]
        needs.append(Need(role.count, kinds[key], role.disks))
    short = [need for need in merged(needs) if len(need.nodes) < need.count]
    if short:
        told_before = site.reasons.get(label, "")
        if not told_before or any(need.nodes for need in short):
            numbers = f"{len(short[0].nodes)} of {short[0].count} nodes will do"
            site.reasons[label] = f"{numbers} ({told_before})" if told_before else numbers
        return None
    start = first_fit(needs, site.windows, site.with_disks)
    if start is None:
        reason = "not enough nodes are free for the whole walltime at that time"
        site.reasons[label] = f"{reason} ({site.reasons[label]})" if label in site.reasons else reason
        return None
    chosen = _chosen(wish, site, roles, needs, start)
    case = _case(land, wish, site, chosen, start, advance)
    verdict = policy.judge(case, land.mine)
    allowed = start if verdict.allowed else _allowed(land, wish, window, site, needs, case)
    standby = sum(site.usable[name].state == "standby" for name in chosen)
    evicted = sum(_held(site.usable[name].weak, start, wish.walltime) for name in chosen) if wish.evicts else 0
    involved = [node for one in {cluster_of(name) for name in chosen} for node in site.clusters[one]]
    notes = tuple(remarks(involved, standby, evicted, start, allowed, label == "any"))
    return Option(site.name, label, roles, start, tuple(chosen), verdict, allowed, standby, evicted, notes)


def _chosen(wish: Wish, site: _Site, roles: Sequence[RoleNodes], needs: Sequence[Need], start: float) -> list[str]:
    """Nodes that are free at `start`, for all roles: alive before standby, unheld before those of besteffort jobs."""

    def liking(name: str) -> tuple[Any, ...]:
        node = site.usable[name]
        weak = wish.evicts and _held(node.weak, start, wish.walltime)
        return node.state != "alive", weak, natural(name)

    total = wish.count
    ranked: dict[tuple[frozenset[str], bool], list[str]] = {}
    for need in needs:
        if (key := (need.nodes, need.disks)) not in ranked:
            free = (name for name in need.nodes if site.free(name, start, need.disks))
            ranked[key] = sorted(free, key=liking)[:total]  # no matching needs more of one kind
    if len(ranked) == 1:
        return next(iter(ranked.values()))
    sets = {role.role: frozenset(ranked[need.nodes, need.disks]) for role, need in zip(roles, needs, strict=True)}
    everyone = sorted(frozenset().union(*sets.values()), key=liking)
    found = match(roles, everyone, lambda role, node: node in sets[role.role])
    return [node for names in found.values() for node in names]


def _held(spans: Sequence[Span], start: float, walltime: float) -> bool:
    return any(begin < start + walltime and end > start for begin, end in spans)


def _case(
    land: Landscape, wish: Wish, site: _Site, chosen: Sequence[str], start: float, advance: bool | None
) -> policy.Case:
    cores: dict[str, int] = {}
    for name in chosen:
        cores[cluster_of(name)] = cores.get(cluster_of(name), 0) + site.usable[name].cores
    ahead = start - land.now > _AT_ONCE if advance is None else advance
    return policy.Case(
        site=site.name,
        start=start,
        walltime=wish.walltime,
        submitted=land.now,
        cores=cores,
        totals={cluster: sum(node.cores for node in site.clusters[cluster]) for cluster in cores},
        queue=wish.queue,
        types=wish.types,
        advance=ahead and not wish.best_effort,
    )


def _allowed(
    land: Landscape, wish: Wish, window: Window, site: _Site, needs: Sequence[Need], case: policy.Case
) -> float | None:
    """The earliest start outside working hours, within the window, that the policy has nothing against."""
    names = frozenset().union(*(need.nodes for need in needs))
    for _, (begin, end) in zip(range(_QUIET), calendar.quiet(land.now), strict=False):
        first, last = max(begin, window.first), min(end - wish.walltime, window.last)
        if first > window.last:
            return None
        if first > last:
            continue
        clipped = [
            {
                name: [(max(a, first), min(b, last)) for a, b in windows[name] if a <= last and b >= first]
                for name in names & windows.keys()
            }
            for windows in (site.windows, site.with_disks)
        ]
        start = first_fit(needs, *clipped)
        if (
            start is not None
            and policy.judge(replace(case, start=start, advance=not wish.best_effort), land.mine).allowed
        ):
            return start
    return None
