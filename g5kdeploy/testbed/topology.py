"""How nodes hang together: switches, the cables between them, and the nodes' network adapters, from the reference data."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.hardware import clusters_of_known, hardware, of_clusters
from g5kdeploy.testbed.job import natural
from g5kdeploy.testbed.parallel import ask_all_or_fail

ROOT = "gw"  # what a site's router is called
_UPWARD = ("switch", "router", "hpcswitch", "backbone")


@dataclass(frozen=True)
class Adapter:
    """A network adapter of a node; `rate` in bit/s, `switch` "" where the reference data names none.

    `use` is "production" for the one that carries the node's name, "free" for one that a VLAN can be given to, else "".
    """

    node: str
    device: str
    interface: str
    rate: int
    switch: str
    port: str
    use: str


@dataclass(frozen=True)
class Cable:
    """What joins two pieces of equipment; `rate` in bit/s, of all its parts together; 0 where it is not known."""

    upper: str
    lower: str
    rate: int


@dataclass(frozen=True)
class Topology:
    """One site: equipment (name -> kind), cables that make a tree from the router down, others, adapters."""

    site: str
    equipment: dict[str, str]
    tree: tuple[Cable, ...]
    others: tuple[Cable, ...] = ()
    adapters: tuple[Adapter, ...] = field(default_factory=tuple)

    def roots(self) -> list[str]:
        """Equipment that hangs on nothing: the router, and networks apart such as InfiniBand."""
        below = {cable.lower for cable in self.tree}
        return [name for name in self.equipment if name not in below]


def of_site(api: Api, site: str, deadline: Deadline) -> Topology:
    """A whole site; `InvalidUse` when there is none of that name."""
    return _draw(
        api, site, of_clusters(api, site, clusters_of_known(api, site, deadline), deadline), deadline, whole=True
    )


def of_nodes(api: Api, names: Iterable[str], deadline: Deadline) -> list[Topology]:
    """Some nodes, the switches that they hang on, and the way from those to the router; for each of their sites."""
    by_site: dict[str, list[str]] = {}
    for name in names:
        by_site.setdefault(name.split(".")[1], []).append(name)
    drawn = ask_all_or_fail(
        by_site, lambda site: _draw(api, site, hardware(api, by_site[site], deadline), deadline, whole=False)
    )
    return list(drawn.values())


def _draw(api: Api, site: str, nodes: Mapping[str, Mapping[str, Any]], deadline: Deadline, whole: bool) -> Topology:
    documents = {str(d["uid"]): d for d in api.items(f"/sites/{site}/network_equipments", deadline)}
    return draw(site, documents, nodes, whole)


def draw(
    site: str, documents: Mapping[str, Mapping[str, Any]], nodes: Mapping[str, Mapping[str, Any]], whole: bool
) -> Topology:
    """From the documents of the equipment and (by full name) of the nodes; `whole`: switches without nodes as well."""
    plugged = {(p["uid"], p.get("port")): name for name, d in documents.items() for p in _ports(d) if _of_node(p)}
    adapters = tuple(
        adapter for name in sorted(nodes, key=natural) for adapter in _adapters(name, nodes[name], plugged)
    )
    tree, others = _span(documents)
    used = {adapter.switch for adapter in adapters}
    if not whole:
        above = {cable.lower: cable.upper for cable in tree}
        todo = list(used)
        while todo:
            upper = above.get(todo.pop())
            if upper and upper not in used:
                used.add(upper)
                todo.append(upper)
    kept = {
        name: str(documents[name].get("kind", "switch")) if name in documents else "switch"
        for name in sorted({*documents, *used} - {""}, key=natural)
        if whole or name in used
    }
    return Topology(
        site,
        kept,
        tuple(cable for cable in tree if cable.upper in kept and cable.lower in kept),
        tuple(cable for cable in others if cable.upper in kept and cable.lower in kept),
        adapters,
    )


def _ports(document: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """The ports in use, each with its own kind and rate or its line card's."""
    for card in document.get("linecards") or ():
        for port in (card or {}).get("ports") or ():
            if port and port.get("uid"):
                yield {"kind": card.get("kind"), "rate": card.get("rate"), **port}


def _of_node(port: Mapping[str, Any]) -> bool:
    return port.get("kind") == "node"


def _adapters(name: str, document: Mapping[str, Any], plugged: Mapping[tuple[Any, Any], str]) -> Iterator[Adapter]:
    for one in document.get("network_adapters") or ():
        if one.get("management") or not one.get("enabled", True):
            continue
        device = str(one.get("device", ""))
        use = "production" if one.get("network_address") == name else "free" if one.get("mountable") else ""
        yield Adapter(
            name, device, str(one.get("interface", "")), int(one.get("rate") or 0),
            str(one.get("switch") or plugged.get((name.split(".")[0], device), "")), str(one.get("switch_port") or ""), use,
        )  # fmt: skip


def _span(documents: Mapping[str, Mapping[str, Any]]) -> tuple[list[Cable], list[Cable]]:
    """The cables as a tree from the router (then from whatever is left) down, and those that close a circle."""
    rates: dict[tuple[str, str], int] = {}
    for name, document in documents.items():
        seen: dict[str, int] = {}
        for port in (*_ports(document), *(document.get("channels") or {}).values()):
            other = str(port.get("uid", ""))
            if port.get("kind") in _UPWARD and other in documents and other != name:
                seen[other] = seen.get(other, 0) + int(port.get("rate") or 0)
        for other, rate in seen.items():  # each end tells it, and the one may know the rate better
            pair = (min(name, other), max(name, other))
            rates[pair] = max(rates.get(pair, 0), rate)
    beside: dict[str, list[str]] = {name: [] for name in documents}
    for one, other in rates:
        beside[one].append(other)
        beside[other].append(one)
    tree: list[Cable] = []
    met: set[str] = set()
    kinds = {name: str(document.get("kind")) for name, document in documents.items()}
    for start in sorted(documents, key=lambda name: (name != ROOT, kinds[name] != "router", -len(beside[name]), name)):
        if start in met:
            continue
        met.add(start)
        todo = deque([start])
        while todo:
            upper = todo.popleft()
            for lower in sorted(set(beside[upper]) - met, key=natural):
                met.add(lower)
                todo.append(lower)
                tree.append(Cable(upper, lower, rates[min(upper, lower), max(upper, lower)]))
    drawn = {frozenset((cable.upper, cable.lower)) for cable in tree}
    others = [Cable(*pair, rate) for pair, rate in rates.items() if frozenset(pair) not in drawn]
    return tree, others
