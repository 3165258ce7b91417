"""What nodes are, from the site's reference data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.parallel import ask_all_or_fail
from g5kdeploy.testbed.problems import ApiProblem, NotThere
from g5kdeploy.testbed.request import cluster_of, full_name

_WATTMETERS = ("wattmetre_power_watt", "pdu_outlet_power_watt")  # the metrics by which OAR's property is filled
# Not `queues=all`, which leaves out the queue of clusters under test.
_QUEUES = "admin,default,production,abaca,testing,besteffort"


def clusters(api: Api, site: str, deadline: Deadline) -> dict[str, dict[str, Any]]:
    """A site's clusters, whatever queue they are in: name -> reference document, sorted."""
    items = api.items(f"/sites/{site}/clusters", deadline, queues=_QUEUES)
    return {str(item["uid"]): item for item in sorted(items, key=lambda item: str(item["uid"]))}


def clusters_of_known(api: Api, site: str, deadline: Deadline) -> dict[str, dict[str, Any]]:
    """The same, for a site that a user named: `InvalidUse` when there is none of that name."""
    try:
        return clusters(api, site, deadline)
    except NotThere as problem:
        names = ", ".join(api.sites(deadline))
        raise InvalidUse(f"the testbed has no site {site!r}", hint=f"its sites are {names}") from problem


def measured(cluster: Mapping[str, Any], node: Mapping[str, Any]) -> dict[str, Any]:
    """A node's document with what only its cluster's tells: whether its power is measured, `wattmeter`."""
    names = {str(metric.get("name")) for metric in cluster.get("metrics") or ()}
    return {**node, "wattmeter": not names.isdisjoint(_WATTMETERS)}


def of_clusters(
    api: Api, site: str, known: Mapping[str, Mapping[str, Any]], deadline: Deadline
) -> dict[str, dict[str, Any]]:
    """The reference documents of all nodes of some clusters (name -> its own document), by full name."""
    answers = ask_all_or_fail(known, lambda name: api.items(f"/sites/{site}/clusters/{name}/nodes", deadline))
    return {
        full_name(str(item["uid"]), site): measured(known[name], item)
        for name, items in answers.items()
        for item in items
    }


def hardware(api: Api, nodes: Iterable[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
    """The reference description of each node, by full name, for run.json; links are left out.

    Raises `ApiProblem` when a node is not in the reference data.
    """
    wanted = list(nodes)
    by_cluster: dict[tuple[str, str], list[str]] = {}
    for node in wanted:
        by_cluster.setdefault((node.split(".")[1], cluster_of(node)), []).append(node)
    sites = ask_all_or_fail({site for site, _ in by_cluster}, lambda site: clusters(api, site, deadline))
    answers = ask_all_or_fail(
        by_cluster, lambda key: of_clusters(api, key[0], {key[1]: sites[key[0]].get(key[1], {})}, deadline)
    )
    found: dict[str, dict[str, Any]] = {}
    for key, names in by_cluster.items():
        for name in names:
            if name not in answers[key]:
                raise ApiProblem(f"{name} is not in the reference data of {key[0]}")
            found[name] = {field: value for field, value in answers[key][name].items() if field != "links"}
    return {node: found[node] for node in wanted}
