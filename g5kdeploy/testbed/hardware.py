"""What nodes are, from the site's reference data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.parallel import ask_all_or_fail
from g5kdeploy.testbed.problems import ApiProblem
from g5kdeploy.testbed.request import cluster_of, full_name

# Not `queues=all`, which leaves out the queue of clusters under test.
_QUEUES = "admin,default,production,abaca,testing,besteffort"


def clusters(api: Api, site: str, deadline: Deadline) -> list[str]:
    """The names of a site's clusters, whatever queue they are in, sorted."""
    return sorted(str(item["uid"]) for item in api.items(f"/sites/{site}/clusters", deadline, queues=_QUEUES))


def of_clusters(api: Api, site: str, names: Iterable[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
    """The reference documents of all nodes of some clusters, by full name."""
    answers = ask_all_or_fail(names, lambda name: api.items(f"/sites/{site}/clusters/{name}/nodes", deadline))
    return {full_name(str(item["uid"]), site): item for items in answers.values() for item in items}


def hardware(api: Api, nodes: Iterable[str], deadline: Deadline) -> dict[str, dict[str, Any]]:
    """The reference description of each node, by full name, for run.json; links are left out.

    Raises `ApiProblem` when a node is not in the reference data.
    """
    wanted = list(nodes)
    by_cluster: dict[tuple[str, str], list[str]] = {}
    for node in wanted:
        by_cluster.setdefault((node.split(".")[1], cluster_of(node)), []).append(node)
    answers = ask_all_or_fail(by_cluster, lambda key: of_clusters(api, key[0], [key[1]], deadline))
    found: dict[str, dict[str, Any]] = {}
    for key, names in by_cluster.items():
        for name in names:
            if name not in answers[key]:
                raise ApiProblem(f"{name} is not in the reference data of {key[0]}")
            found[name] = {field: value for field, value in answers[key][name].items() if field != "links"}
    return {node: found[node] for node in wanted}
