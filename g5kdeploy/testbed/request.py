"""What is asked of a site: nodes for roles, for how long, from when; and the OAR request that says so."""

from __future__ import annotations

import datetime as dt
import functools
import re
from dataclasses import dataclass, replace
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from g5kdeploy.base.nodeset import NAME
from g5kdeploy.events.failure import Failure, InvalidUse

VLANS = {"local": "kavlan-local", "routed": "kavlan", "global": "kavlan-global"}
"""The kinds of KaVLAN, and OAR's types of resources for them."""
BELLS = ".g5kdeploy/started"
"""The folder in the user's home where a job leaves a file of its name when it begins."""
ORIGIN = "origin=g5kdeploy"
_NAME = re.compile(NAME)
_HAS_DISKS = "disk_reservation_count > 0"
_DOMAIN = "grid5000.fr"


@dataclass(frozen=True)
class RoleNodes:
    """How many nodes a role needs, and which will do: of one cluster, by name, or by OAR properties (SQL).

    `site`: where, if not just anywhere; `least` are enough to go on with (0: all of them); with `disks` the nodes'
    further disks are reserved as well.
    """

    role: str
    count: int
    cluster: str = ""
    properties: str = ""
    nodes: tuple[str, ...] = ()
    site: str = ""
    least: int = 0
    disks: bool = False

    @property
    def needed(self) -> int:
        """How many it cannot do without."""
        return self.least or self.count

    @property
    def condition(self) -> str:
        """What its nodes must meet, as SQL on OAR's properties; "" for nothing."""
        if self.disks and self.properties:
            return f"({self.properties}) AND {_HAS_DISKS}"
        return _HAS_DISKS if self.disks else self.properties

    @property
    def kind(self) -> tuple[str, str, tuple[str, ...], bool]:
        """Roles of one kind take the same nodes."""
        return self.cluster, self.properties, self.nodes, self.disks


@dataclass(frozen=True)
class Request:
    """One reservation on one site. `walltime` in seconds, `at` in unix time (None: as soon as possible).

    `vlan` is a kind of KaVLAN ("": none), `subnets` a prefix length and how many; `platform` is what the nodes must be
    able to run, as reference data names it ("": anything).
    `run` and `experiment` say what it is for: a second `reserve` with the same run finds the job again.
    """

    site: str
    roles: tuple[RoleNodes, ...]
    walltime: int
    queue: str = "default"
    types: tuple[str, ...] = ("deploy",)
    properties: str = ""
    project: str = ""
    at: float | None = None
    exclude: tuple[str, ...] = ()
    vlan: str = ""
    subnets: tuple[int, int] | None = None
    platform: str = ""
    command: str = "sleep infinity"
    label: str = "experiment"
    run: str = ""
    experiment: str = ""

    @property
    def count(self) -> int:
        """How many nodes in all."""
        return sum(role.count for role in self.roles)


def apart(request: Request) -> tuple[Request, ...]:
    """One request for each site that the roles name, the request's own first: that of the roles which name none.

    A global VLAN reaches all sites, and is asked for once.
    """
    by_site: dict[str, list[RoleNodes]] = {request.site: []}
    for role in request.roles:
        by_site.setdefault(role.site or request.site, []).append(role)
    parts = [replace(request, site=site, roles=tuple(roles)) for site, roles in by_site.items() if roles]
    if request.vlan == "global":
        parts[1:] = [replace(part, vlan="") for part in parts[1:]]
    return tuple(parts)


def full_name(node: str, site: str) -> str:
    """`vm-1` as the API says it: `vm-1.lab.grid5000.fr`; raises `InvalidUse` for what can be no node's name."""
    if not _NAME.fullmatch(node):
        raise InvalidUse(f"{node!r} is no node's name")
    return node if "." in node else f"{node}.{site}.{_DOMAIN}"


def cluster_of(node: str) -> str:
    """`paradoxe-1.rennes.grid5000.fr` is a node of `paradoxe`."""
    return node.split(".")[0].rsplit("-", 1)[0]


def is_node(name: str) -> bool:
    """Whether a machine's full name is that of a node, and not of a frontend or a gateway, which have no number."""
    return re.match(r"[a-z0-9]+-\d", name) is not None


def site_of(node: str) -> str:
    """`paradoxe-1.rennes.grid5000.fr` is a node of `rennes`."""
    return node.split(".")[1]


def frontend_of(site: str) -> str:
    """The frontend of a site by its full name."""
    return f"f{site}.{site}.grid5000.fr"


def walltime_text(seconds: int) -> str:
    """OAR's H:M:S, with as many hours as it takes."""
    return f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"


@functools.cache
def paris_zone() -> ZoneInfo:
    """The zone of OAR's strings, whatever the site's or the user's is."""
    try:
        return ZoneInfo("Europe/Paris")
    except ZoneInfoNotFoundError as error:
        raise Failure("this machine knows no time zones", cause=str(error), hint="apt-get install tzdata") from error


def paris(moment: float) -> str:
    """A moment as OAR writes it: `2026-11-27 19:00:00` in Paris."""
    return dt.datetime.fromtimestamp(moment, paris_zone()).strftime("%Y-%m-%d %H:%M:%S")


def from_paris(text: str) -> float:
    """The moment that OAR wrote: `2026-11-27 19:00:00` in Paris, as unix time."""
    return dt.datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=paris_zone()).timestamp()


def told(moment: float) -> str:
    """A moment in the user's zone, and in Paris where that is another: `2026-11-27 18:00:00 (19:00:00 in Paris)`.

    Where it is another day there, that day is said too.
    """
    here = dt.datetime.fromtimestamp(moment).astimezone()
    there = here.astimezone(paris_zone())
    text = here.strftime("%Y-%m-%d %H:%M:%S")
    if here.utcoffset() == there.utcoffset():
        return text
    form = "%H:%M:%S" if here.date() == there.date() else "%Y-%m-%d %H:%M:%S"
    return f"{text} ({there.strftime(form)} in Paris)"


def conditions(role: RoleNodes, site: str) -> list[str]:
    """The SQL conditions that a role's nodes must meet, all of them."""
    found = []
    if role.nodes:
        names = ",".join(f"'{full_name(node, site)}'" for node in role.nodes)
        found.append(f"network_address in ({names})")
    if role.disks:
        found.append("(type='default' or type='disk')")
    if role.cluster:
        if not _NAME.fullmatch(role.cluster):
            raise InvalidUse(f"role {role.role}: {role.cluster!r} is no cluster's name")
        found.append(f"cluster='{role.cluster}'")
    if role.condition:
        found.append(f"({role.condition})")
    return found


def resources(request: Request) -> str:
    """OAR's resource description: VLAN and subnets, then roles of one kind together, the choosiest first.

    Else others would take their nodes.
    """
    groups: dict[tuple[str, ...], int] = {}
    ranks: dict[tuple[str, ...], int] = {}
    for role in request.roles:
        key = tuple(conditions(role, request.site))
        groups[key] = groups.get(key, 0) + role.count
        ranks[key] = (4 if role.nodes else 0) + (2 if role.properties or role.disks else 0) + (1 if role.cluster else 0)
    parts = [f"{{type='{VLANS[request.vlan]}'}}/vlan=1"] if request.vlan else []
    if request.subnets:
        parts.append(f"{{type='subnet'}}/slash_{request.subnets[0]}={request.subnets[1]}")
    parts += [
        (f"{{{' AND '.join(key)}}}/" if key else "") + f"nodes={groups[key]}"
        for key in sorted(groups, key=lambda key: -ranks[key])
    ]
    return f"{'+'.join(parts)},walltime={walltime_text(request.walltime)}"


def payload(request: Request, name: str) -> dict[str, Any]:
    """The JSON body for `POST /sites/S/jobs`, under a job name that finds it again."""
    check(request)
    properties = [f"({request.properties})"] if request.properties else []
    if request.exclude:
        names = ",".join(f"'{full_name(node, request.site)}'" for node in request.exclude)
        properties.append(f"network_address not in ({names})")
    body: dict[str, Any] = {
        "name": name,
        # A home that is full or read-only must not end the job, whatever the user's shell: no redirection of a builtin
        "command": f"mkdir -p {BELLS} && touch {BELLS}/{name}; {request.command}",
        "resources": resources(request),
        "types": [*request.types, ORIGIN],
        # Without these every job leaves two files in the user's home.
        "stdout": "/dev/null",
        "stderr": "/dev/null",
    }
    if properties:
        body["properties"] = " AND ".join(properties)
    if request.queue != "default":
        body["queue"] = request.queue
    if request.project:
        body["project"] = request.project
    if request.at is not None:
        body["reservation"] = paris(request.at)
    return body


def check(request: Request) -> None:
    """`InvalidUse` for a request that no site could take, before anything is sent."""
    if not request.roles or any(role.count < 1 for role in request.roles):
        raise InvalidUse("a reservation needs at least one role, and each role at least one node")
    if request.walltime < 1:
        raise InvalidUse("the walltime must be at least one second")
    if not _NAME.fullmatch(request.site):
        raise InvalidUse(f"{request.site!r} is no site's name")
    if request.vlan and request.vlan not in VLANS:
        raise InvalidUse(f"{request.vlan!r} is no kind of VLAN", hint=", ".join(VLANS))
    for role in request.roles:
        if role.nodes and len(set(role.nodes)) < role.count:
            raise InvalidUse(f"role {role.role} asks for {role.count} nodes and names {len(set(role.nodes))}")
    if request.at is not None and ("besteffort" in request.types or request.queue == "besteffort"):
        raise InvalidUse("a besteffort job cannot start at a given time", hint="leave out the start, or besteffort")
