"""All routes. A path that ends with a suffix (".json") is the path without it; names in it hold no dot."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from werkzeug.exceptions import MethodNotAllowed, NotFound
from werkzeug.routing import BaseConverter, Map, MapAdapter, Rule

from g5kdeploy.lab.api import around, deployments, environments, grants, jobs, kadeployapi, reference, status, vlans
from g5kdeploy.lab.api.answer import Answer, Document
from g5kdeploy.lab.api.call import ESCAPED, Call, HttpError
from g5kdeploy.lab.api.negotiation import VERBS

PARAMETERS_FIRST = frozenset({jobs.__name__, vlans.__name__, environments.__name__})
"""Whose handlers see nothing of a request before its parameters are read: a broken body comes before all else."""

Handler = Callable[..., Answer]
Routes = list[tuple[tuple[str, ...], str, Handler]]


class Plain(BaseConverter):
    """A part of a path without a dot."""

    regex = r"[^/.]+"


class Single(Plain):
    """A version: a second "versions" is none, but asks for those of a resource "versions"."""

    regex = r"(?!versions(?:/|$))[^/.]+"


class Name(BaseConverter):
    """A part of a path, dots and all: a host name, a file name."""

    regex = r"[^/]+"


class Tail(BaseConverter):
    """The rest of a path."""

    regex = r".+"
    part_isolating = False


def health(call: Call, site: str) -> Document:
    """The API server is alive."""
    return Document({"status": "OK"}, fixed=True)


def no_such_method(call: Call, **_: str) -> Answer:
    """A route of its own for the methods that another one does not take."""
    raise HttpError(405, "Method Not Allowed")


_servers = reference.things("servers")
_pdus = reference.things("pdus")
_switches = reference.things("network_equipments")
_backbone = reference.things("network_equipments", of_a_site=False)
S, C, V = (
    "/sites/<plain:site>",
    "/sites/<plain:site>/clusters/<plain:cluster>",
    "/sites/<plain:site>/vlans/<plain:vlan>",
)

VERSIONS: dict[str, Handler] = {
    "/versions": reference.versions,
    "/versions/latest": reference.latest,
    "/versions/<plain:version>": reference.version,
    "/<tail:resource>/versions": reference.versions,
    "/<tail:resource>/versions/latest": reference.latest,
    "/<tail:resource>/versions/<single:version>": reference.version,
}
"""These come first: "versions" is the name of no site, job or VLAN."""
GET: dict[str, Handler] = {
    "/": reference.grid,
    "/accesses": around.accesses,
    "/refrepo": around.refrepo,
    "/network_equipments": _backbone[0],
    "/network_equipments/<plain:thing>": _backbone[1],
    "/sites": reference.sites,
    S: reference.site,
    f"{S}/status": status.of_site,
    f"{S}/health": health,
    f"{S}/network_equipments": _switches[0],
    f"{S}/network_equipments/<plain:thing>": _switches[1],
    f"{S}/pdus": _pdus[0],
    f"{S}/pdus/<plain:thing>": _pdus[1],
    f"{S}/servers": _servers[0],
    f"{S}/servers/<plain:thing>": _servers[1],
    f"{S}/clusters": reference.clusters,
    C: reference.cluster,
    f"{C}/status": status.of_cluster,
    f"{C}/nodes": reference.nodes,
    f"{C}/nodes/<plain:node>": reference.node,
    f"{S}/environments": environments.every,
    f"{S}/environments/<plain:name>": environments.one,
    f"{S}/jobs": jobs.every,
    f"{S}/jobs/<plain:job>": jobs.one,
    f"{S}/jobs/<plain:job>/walltime": jobs.walltime,
    f"{S}/deployments": deployments.every,
    f"{S}/deployments/<plain:uid>": deployments.one,
    f"{S}/vlans": vlans.every,
    f"{S}/vlans/nodes": vlans.all_nodes,
    f"{S}/vlans/nodes/<name:node>": vlans.one_node,
    f"{S}/vlans/users": vlans.all_users,
    f"{S}/vlans/users/<plain:user>": vlans.vlans_of_user,
    V: vlans.one,
    f"{V}/nodes": vlans.nodes_of,
    f"{V}/users": vlans.users_of,
    f"{V}/users/<plain:user>": vlans.user_of_vlan,
}
WRITES: Routes = [
    (("POST",), f"{S}/jobs", jobs.create),
    (("DELETE",), f"{S}/jobs/<plain:job>", jobs.delete),
    (("POST",), f"{S}/jobs/<plain:job>/walltime", jobs.change_walltime),
    (("POST",), f"{S}/deployments", deployments.create),
    (("PUT", "PATCH"), f"{S}/deployments/<plain:uid>", deployments.refresh),
    (("DELETE",), f"{S}/deployments/<plain:uid>", deployments.cancel),
    (("POST",), f"{S}/vlans/nodes", vlans.which),
    (("POST",), f"{V}/nodes", vlans.add),
    (("PUT",), f"{V}/dhcpd", vlans.dhcpd),
    (tuple(VERBS), f"{V}/dhcpd", no_such_method),
    (("PUT", "DELETE"), f"{V}/users/<plain:user>", vlans.set_user),
]
KA = f"{S}/internal/kadeployapi"
WORKFLOW = f"{KA}/<any(deployment, power, reboot):kind>/<plain:wid>"
OTHER_SERVICES: Routes = [
    (("GET",), "/users/users/<name:user>", around.profile),
    (("GET",), "/users/ggas_and_sites", around.groups),
    (("GET",), f"{S}/internal/oarapi/resources/details", around.oar_resources),
    (("GET", "PUT"), f"{KA}/power", kadeployapi.power),
    (("GET", "POST"), f"{KA}/reboot", kadeployapi.reboot),
    (("GET",), f"{KA}/deployment", kadeployapi.deployments),
    (("GET", "DELETE"), WORKFLOW, kadeployapi.operation),
    (("GET",), f"{WORKFLOW}/<any(state, status, logs, error):what>", kadeployapi.operation),
    (("GET",), f"{KA}/nodes", kadeployapi.nodes),
    (("GET",), f"{KA}/environments", kadeployapi.environments),
    (("GET",), f"{S}/metrics", around.metrics),
    (("GET",), f"{S}/files/<name:name>", around.key_file),
    (("GET",), f"{S}/public/<name:user>", around.public),
    (("GET",), f"{S}/public/<name:user>/<tail:path>", around.public),
    (("GET", "POST"), f"{S}/storage/<plain:storage>/<name:user>/access", grants.storage),
    (("DELETE",), f"{S}/storage/<plain:storage>/<name:user>/access/<plain:rule>", grants.storage_rule),
    (("GET", "POST", "DELETE"), f"{S}/firewall/<plain:job>", grants.firewall),
]
"""What the proxy sends elsewhere: the API server itself does not know these paths."""


def _map(routes: Routes) -> MapAdapter:
    rules = [Rule(rule, endpoint=handler, methods=list(methods)) for methods, rule, handler in routes]
    converters: dict[str, type[BaseConverter]] = {"plain": Plain, "single": Single, "name": Name, "tail": Tail}
    return Map(rules, converters=converters, strict_slashes=False, merge_slashes=False).bind("lab")


def _reads(table: dict[str, Handler]) -> Routes:
    return [(("GET",), rule, handler) for rule, handler in table.items()]


_versions = _map(_reads(VERSIONS))
_inside = _map([*_reads(GET), *WRITES])
_outside = _map([*_reads(GET), *WRITES, *OTHER_SERVICES])


def find(method: str, path: str, alone: bool) -> tuple[Handler, dict[str, Any], str | None]:
    """Handler, the parts of the path, and its suffix, if it has one; raises werkzeug's exceptions when no route takes it.

    `alone`: the API server by itself, without the services that the proxy has beside it.
    """
    wanted = "GET" if method == "HEAD" else method
    for adapter in (_versions, _inside if alone else _outside):
        for at, suffix in _readings(path):
            try:
                handler, parts = adapter.match(at, wanted)
            except (NotFound, MethodNotAllowed):
                continue
            return handler, {name: _unescaped(part) for name, part in parts.items()}, suffix
    raise NotFound


def _unescaped(part: str) -> str:
    for character, stand_in in ESCAPED.items():
        part = part.replace(stand_in, character)
    return part


def _readings(path: str) -> list[tuple[str, str | None]]:
    """The path as it is, and without the suffix of its last part."""
    head, _, last = path.rpartition("/")
    stem, _, suffix = last.partition(".")
    readings: list[tuple[str, str | None]] = [(path, None)]
    if suffix and stem and "." not in suffix:
        readings.append((f"{head}/{stem}", suffix))
    return readings
