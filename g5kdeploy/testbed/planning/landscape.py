"""All that planning needs to know of the sites, asked for in one look and kept as compact intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.hardware import clusters as clusters_of
from g5kdeploy.testbed.hardware import measured
from g5kdeploy.testbed.parallel import ask_all
from g5kdeploy.testbed.planning.slots import Span
from g5kdeploy.testbed.problems import NotThere
from g5kdeploy.testbed.request import cluster_of, full_name

SECURITY = 61  # seconds that OAR keeps between two jobs on a node
USABLE = ("alive", "standby")
_HOLDING = frozenset({"running", "launching", "tolaunch", "finishing", "suspended", "resuming"})
_NO_ACCESS = frozenset({"", "no-access", "besteffort"})
_RECENT = 100  # of our own jobs on a site, newest first: enough for some days' quota


@dataclass(frozen=True, slots=True)
class Node:
    """One node: its reference document, its state ("" when the status does not have it), and who holds it when.

    `firm` are jobs that stay, `weak` besteffort jobs that make way, `repair` those of the administrators (also in
    `firm`); each sorted by begin, with OAR's minute between jobs. `disks` is when some of its further disks are taken,
    with or without the node. `containers`: by number of a container job, when that has the node, and when jobs inside do.
    """

    name: str
    document: Mapping[str, Any]
    state: str = ""
    firm: tuple[Span, ...] = ()
    weak: tuple[Span, ...] = ()
    repair: tuple[Span, ...] = ()
    disks: tuple[Span, ...] = ()
    containers: Mapping[int, tuple[Span, tuple[Span, ...]]] = field(default_factory=dict)

    @property
    def cores(self) -> int:
        return int((self.document.get("architecture") or {}).get("nb_cores") or 0)


@dataclass(frozen=True)
class OwnJob:
    """A job of this user: from when until when, its cores by cluster, and what the policy asks about it."""

    site: str
    begin: float
    end: float
    cores: Mapping[str, int]
    queue: str = "default"
    best_effort: bool = False
    advance: bool = False
    walltime: int = 0
    submitted: float = 0.0


@dataclass(frozen=True)
class Landscape:
    """The sites at one moment. `nodes`: site -> cluster -> nodes; `accesses`: set of nodes -> label, None: not known.

    `troubles` says of sites why they are not in `nodes`.
    """

    now: float
    nodes: Mapping[str, Mapping[str, Sequence[Node]]]
    mine: Sequence[OwnJob] = ()
    accesses: Mapping[str, str] | None = None
    troubles: Mapping[str, str] = field(default_factory=dict)

    def access(self, node: Node) -> str | None:
        """The priority that the user has on a node's set, "" for none or besteffort only, None when not known."""
        if self.accesses is None:
            return None
        label = self.accesses.get(str(node.document.get("nodeset") or cluster_of(node.name)), "")
        return "" if label in _NO_ACCESS else label


def look(api: Api, sites: Sequence[str], deadline: Deadline, only: Iterable[str] = ()) -> Landscape:
    """Ask the sites (all of the testbed when none is named) at once, a dozen requests at a time.

    `only`: clusters that matter, if not all do. A site that does not answer is told in `troubles`; when none does, its
    problem is raised. `InvalidUse` for a site that there is none of.
    """
    known = api.sites(deadline)
    for site in sites:
        if site not in known:
            raise InvalidUse(f"the testbed has no site {site!r}", hint=f"its sites are {', '.join(known)}")
    answers = _asked(api, list(dict.fromkeys(sites)) or known, deadline)
    wanted = [site for what, site in answers if what == "clusters"]
    if not sites:  # one that has no clusters (any more) has nothing to plan with
        wanted = [site for site in wanted if not isinstance(answers["clusters", site], NotThere)]
    troubles: dict[str, Problem] = {
        site: answer for (_, site), answer in answers.items() if site in wanted and isinstance(answer, Problem)
    }
    chosen = frozenset(only)
    clusters: dict[str, dict[str, dict[str, Any]]] = {
        site: {name: one for name, one in answers["clusters", site].items() if not chosen or name in chosen}
        for site in wanted
        if site not in troubles
    }
    documents = ask_all(
        [(site, name) for site, names in clusters.items() for name in names],
        lambda key: api.items(f"/sites/{key[0]}/clusters/{key[1]}/nodes", deadline),
    )
    for (site, _), answer in documents.items():
        if isinstance(answer, Problem) and not isinstance(answer, NotThere):
            troubles.setdefault(site, answer)
    if wanted and all(site in troubles for site in wanted):
        raise troubles[wanted[0]]
    now = deadline.clock.wall()
    nodes: dict[str, dict[str, list[Node]]] = {}
    mine: list[OwnJob] = []
    for site, names in clusters.items():
        if site in troubles:
            continue
        found = {
            name: [measured(cluster, item) for item in items]
            for name, cluster in names.items()
            if isinstance(items := documents[site, name], list)
        }
        told = answers["status", site]
        nodes[site] = site_nodes(site, found, told.get("nodes") or {}, told.get("disks") or {}, now=now)
        cores = {node.name: node.cores for members in nodes[site].values() for node in members}
        mine += [own_job(site, job, cores) for job in answers["jobs", site].get("items") or ()]
    return Landscape(now, nodes, mine, _labels(answers["accesses", ""]), {s: str(p) for s, p in troubles.items()})


def _asked(api: Api, sites: Sequence[str], deadline: Deadline) -> dict[tuple[str, str], Any]:
    """What each site says, or its problem: ("clusters", site), ("status", site), ("jobs", site); and ("accesses", "").

    A site without clusters is asked for nothing else: its server fails over that.
    """
    me = api.me(deadline)

    def ask(key: tuple[str, str]) -> Any:
        what, site = key
        if what == "clusters":
            return clusters_of(api, site, deadline)
        if what == "status":
            return api.get(f"/sites/{site}/status", deadline, vlans="no", subnets="no")
        if what == "jobs":
            return api.get(f"/sites/{site}/jobs", deadline, user=me, resources="yes", limit=_RECENT)
        return api.accesses(deadline).get(str(api.profile(deadline).get("default_gga") or ""))

    answers: dict[tuple[str, str], Any] = ask_all([*(("clusters", site) for site in sites), ("accesses", "")], ask)
    alive = [site for site in sites if not isinstance(answers["clusters", site], Problem)]
    return answers | ask_all([(what, site) for site in alive for what in ("status", "jobs")], ask)


def _labels(answer: Any) -> dict[str, str] | None:
    """What the user's group may use; None when that could not be learned."""
    if isinstance(answer, Problem) or not isinstance(answer, Mapping):
        return None
    return {str(name): str(one.get("label") or "") for name, one in answer.items() if isinstance(one, Mapping)}


def site_nodes(
    site: str,
    documents: Mapping[str, Sequence[Mapping[str, Any]]],
    nodes: Mapping[str, Any],
    disks: Mapping[str, Any] = MappingProxyType({}),
    *,
    now: float,
) -> dict[str, list[Node]]:
    """A site's nodes by cluster, from its reference documents and what its status says of nodes and disks.

    O(jobs on nodes and disks).
    """
    taken: dict[str, list[Span]] = {}
    for name, told in disks.items():
        node = name.partition(".")[2]
        taken.setdefault(node, []).extend(held for job, held in _held(told, now) if not _best_effort(job))
    found: dict[str, list[Node]] = {}
    for cluster, items in documents.items():
        members = found[cluster] = []
        for document in items:
            name = full_name(str(document["uid"]), site)
            told = nodes.get(name) or {}
            jobs = _held(told, now)
            members.append(
                Node(
                    name,
                    document,
                    str(told.get("hard") or ""),
                    firm=tuple(sorted(held for job, held in jobs if not _best_effort(job))),
                    weak=tuple(sorted(held for job, held in jobs if _best_effort(job))),
                    repair=tuple(sorted(held for job, held in jobs if job.get("queue") == "admin")),
                    disks=tuple(sorted(taken.get(name, ()))),
                    containers=_containers(jobs),
                )
            )
    return found


def _held(told: Mapping[str, Any], now: float) -> list[tuple[Mapping[str, Any], Span]]:
    """The jobs that something has or will have, as far as it is known when."""
    jobs = told.get("reservations") or ()
    return [(job, held) for job in jobs if (held := span(job, now)) is not None]


def _containers(jobs: Sequence[tuple[Mapping[str, Any], Span]]) -> dict[int, tuple[Span, tuple[Span, ...]]]:
    inside: dict[str, list[Span]] = {}
    containers: dict[int, Span] = {}
    for job, held in jobs:
        for kind in job.get("types") or ():
            if kind == "container":
                containers[int(job["uid"])] = held
            elif kind.startswith("inner="):
                inside.setdefault(kind.partition("=")[2], []).append(held)
    return {number: (held, tuple(sorted(inside.get(str(number), ())))) for number, held in containers.items()}


def span(job: Mapping[str, Any], now: float) -> Span | None:
    """When a job holds its nodes; one that only waits says so with a start of 0, and perhaps a prediction."""
    begin = float(job.get("started_at") or job.get("scheduled_at") or 0)
    if not begin:
        return None
    end = begin + float(job.get("walltime") or 0) + SECURITY
    holds = str(job.get("state", "")).lower() in _HOLDING
    return (begin, max(end, now + 1.0)) if holds else (begin, end)


def _best_effort(job: Mapping[str, Any]) -> bool:
    return job.get("queue") == "besteffort" or "besteffort" in (job.get("types") or ())


def own_job(site: str, job: Mapping[str, Any], cores: Mapping[str, int]) -> OwnJob:
    """What the policy needs of a job of ours; `cores`: of each node by full name."""
    begin = float(job.get("started_at") or job.get("scheduled_at") or 0)
    walltime = int(job.get("walltime") or 0)
    by_cluster: dict[str, int] = {}
    for node in job.get("assigned_nodes") or ():
        by_cluster[cluster_of(node)] = by_cluster.get(cluster_of(node), 0) + cores.get(node, 0)
    state = str(job.get("state", "")).lower()
    waits = state in ("waiting", "hold", "toackreservation")
    return OwnJob(
        site=site,
        begin=begin,
        end=float(job.get("stopped_at") or begin + walltime) if begin else 0.0,
        cores=by_cluster,
        queue=str(job.get("queue") or "default"),
        best_effort=_best_effort(job),
        advance=waits and bool(job.get("started_at")),  # only a reservation knows its start before it has begun
        walltime=walltime,
        submitted=float(job.get("submitted_at") or 0),
    )
