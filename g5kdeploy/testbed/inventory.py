"""What a site has and who holds it: enough nodes, from when, each site at a glance, and what is ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import NoResources
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.hardware import clusters_of_known, hardware, of_clusters
from g5kdeploy.testbed.job import FINAL, Job, natural
from g5kdeploy.testbed.parallel import ask_all
from g5kdeploy.testbed.planning.landscape import SECURITY, USABLE, span
from g5kdeploy.testbed.planning.wish import Wish, objection
from g5kdeploy.testbed.problems import NotThere
from g5kdeploy.testbed.records import Record, Records
from g5kdeploy.testbed.request import Request, RoleNodes, cluster_of
from g5kdeploy.testbed.roles import fitting, match

__all__ = ["Mine", "SiteStatus", "check_exists", "earliest", "hardware", "mine", "status"]

_LIVE = "waiting,hold,toLaunch,toAckReservation,launching,running,suspended,resuming,finishing,toError"


def _suitable(request: Request, documents: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The nodes that the request's queue, types and walltime admit, whatever the role."""
    wish = _wish(request)
    return {name: document for name, document in documents.items() if not objection(wish, document)}


def _wish(request: Request) -> Wish:
    exclude = frozenset(node.split(".")[0] for node in request.exclude)
    return Wish(request.roles, request.walltime, request.queue, request.types, request.platform, exclude)


def _candidates(api: Api, request: Request, deadline: Deadline) -> Mapping[str, Mapping[str, Any]]:
    """The nodes of the clusters that matter for a request, whether they may serve or not."""
    named = {role.cluster for role in request.roles} | {
        cluster_of(node) for role in request.roles for node in role.nodes if not role.cluster
    }
    anything = any(not role.cluster and not role.nodes for role in request.roles)
    existing = clusters_of_known(api, request.site, deadline)
    for role in request.roles:
        if role.cluster and role.cluster not in existing:
            raise NoResources(
                f"the site {request.site} has no cluster {role.cluster}", hint=f"it has {', '.join(existing)}"
            )
    wanted = {name: document for name, document in existing.items() if anything or name in named}
    return of_clusters(api, request.site, wanted, deadline)


def _filled(
    roles: Sequence[RoleNodes], nodes: Sequence[str], documents: Mapping[str, Mapping[str, Any]], site: str
) -> dict[str, tuple[str, ...]]:
    return match(roles, nodes, fitting(roles, nodes, documents, site))


def check_exists(api: Api, request: Request, deadline: Deadline) -> None:
    """`NoResources`, with the numbers, when the site has not got that many nodes of that kind; nothing is sent."""
    everything = _candidates(api, request, deadline)
    documents = _suitable(request, everything)
    nodes = sorted(documents, key=natural)
    found = _filled(request.roles, nodes, documents, request.site)
    if all(len(found[role.role]) >= role.count for role in request.roles):
        return
    short = [
        f"{role.role} asks for {role.count} and gets {len(found[role.role])}"
        for role in request.roles
        if len(found[role.role]) < role.count
    ]
    by_cluster: dict[str, int] = {}
    for node in nodes:
        by_cluster[cluster_of(node)] = by_cluster.get(cluster_of(node), 0) + 1
    listed = ", ".join(f"{name}: {count}" for name, count in by_cluster.items())
    against = Counter(why for document in everything.values() if (why := objection(_wish(request), document)))
    others = "".join(f"; {count} {why}" for why, count in against.most_common())
    raise NoResources(
        f"the site {request.site} has {len(nodes)} nodes for this reservation, and {request.count} are asked for",
        cause=f"{'; '.join(short)} (nodes that its queue, job types and walltime admit: {listed or 'none'}{others})",
        hint="ask for fewer nodes, another cluster or another site",
    )


def earliest(api: Api, request: Request, deadline: Deadline) -> float | None:
    """The earliest start (unix time) that the status lets expect; None when none can be told.

    Nodes that are switched off to save energy count as usable, absent and suspected ones do not. Jobs that wait count
    when the site predicts their start.
    """
    documents = _suitable(request, _candidates(api, request, deadline))
    answer = api.get(f"/sites/{request.site}/status", deadline, disks="no", vlans="no", subnets="no")
    now = deadline.clock.wall()
    start = max(now, request.at or now)
    busy: dict[str, list[tuple[float, float]]] = {}
    for name, node in (answer.get("nodes") or {}).items():
        if name in documents and node.get("hard") in USABLE:
            busy[name] = [held for job in node.get("reservations") or () if (held := span(job, now)) is not None]
    moments = sorted({start, *(end for spans in busy.values() for _, end in spans if end > start)})
    fits = fitting(request.roles, list(busy), documents, request.site)
    for moment in moments:
        until = moment + request.walltime + SECURITY
        free = [
            name
            for name in sorted(busy, key=natural)
            if all(end <= moment or begin >= until for begin, end in busy[name])
        ]
        found = match(request.roles, free, fits)
        if all(len(found[role.role]) >= role.count for role in request.roles):
            return moment
    return None


@dataclass(frozen=True)
class SiteStatus:
    """One site at a glance; `problem` says why there are no figures."""

    site: str
    nodes: int = 0
    free: int = 0
    busy: int = 0
    unusable: int = 0
    problem: str = ""


def status(api: Api, deadline: Deadline, sites: Sequence[str] = ()) -> list[SiteStatus]:
    """All sites (or those named) at once; a dead one does not spoil the rest."""

    def one(site: str) -> SiteStatus:
        if not sites and not _has_clusters(api, site, deadline):
            return SiteStatus(site)  # its server fails over the status
        answer = api.get(f"/sites/{site}/status", deadline, disks="no", vlans="no", subnets="no", job_details="no")
        nodes = list((answer.get("nodes") or {}).values())
        usable = [node for node in nodes if node.get("hard") in USABLE]
        free = sum(node.get("soft") == "free" for node in usable)
        return SiteStatus(site, len(nodes), free, len(usable) - free, len(nodes) - len(usable))

    answers = ask_all(sites or api.sites(deadline), one)
    return [
        SiteStatus(site, problem=str(answer)) if isinstance(answer, Problem) else answer
        for site, answer in answers.items()
    ]


def _has_clusters(api: Api, site: str, deadline: Deadline) -> bool:
    """Whether a site of the testbed has any; one that was given up stays in the reference data without."""
    try:
        return bool(api.items(f"/sites/{site}/clusters", deadline))
    except NotThere:
        return False


@dataclass(frozen=True)
class Mine:
    """A job of ours or a record of one, or both."""

    site: str
    job: Job | None
    record: Record | None
    words: str


def mine(api: Api, records: Records, deadline: Deadline) -> tuple[list[Mine], list[str]]:
    """All jobs of this user on all sites, joined with the records on disk; and the sites that could not be asked."""
    me = api.me(deadline)
    held = records.unreleased()
    sites = sorted({*api.sites(deadline), *(record.site for record in held)})

    def one(site: str) -> list[Job]:
        items = api.items(f"/sites/{site}/jobs", deadline, user=me, resources="yes")
        return [Job.from_document(site, item) for item in items if str(item.get("state", "")).lower() not in FINAL]

    answers = ask_all(sites, one)
    found: list[Mine] = []
    matched: set[str] = set()
    for site, answer in answers.items():
        for job in answer if not isinstance(answer, Problem) else ():
            record = next((r for r in held if r.site == site and (r.job == job.id or r.name == job.name)), None)
            if record:
                matched.add(record.name)
            found.append(Mine(site, job, record, job.state_in_words()))
    for record in held:
        if record.name not in matched:
            dead = isinstance(answers.get(record.site), Problem)
            words = "the site could not be asked" if dead else "on record here, but the site has no live job of it"
            found.append(Mine(record.site, None, record, words))
    return found, [f"{site}: {answer}" for site, answer in answers.items() if isinstance(answer, Problem)]
