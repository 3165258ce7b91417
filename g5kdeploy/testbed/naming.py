"""Whether the nodes that a user names are nodes of the testbed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.nodeset import fold
from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.hardware import clusters
from g5kdeploy.testbed.parallel import ask_all
from g5kdeploy.testbed.problems import NotThere
from g5kdeploy.testbed.request import cluster_of, full_name, site_of

_NEAR = 3  # names that are offered in place of a wrong one, and wrong ones for which they are


def check_nodes(api: Api, names: Iterable[str], deadline: Deadline) -> None:
    """`InvalidUse`, with the nearest names that there are, when some (full or short) are no node's on any site.

    What a site that does not answer may have is taken to be there.
    """
    wanted = list(dict.fromkeys(names))
    if not wanted:
        return
    known = api.sites(deadline)
    sites = known if any("." not in name for name in wanted) else [s for s in known if s in map(site_of, wanted)]
    answers = ask_all(sites, lambda site: clusters(api, site, deadline))
    if any(isinstance(answer, Problem) and not isinstance(answer, NotThere) for answer in answers.values()):
        return
    there = {site: list(answer) for site, answer in answers.items() if not isinstance(answer, Problem)}
    like = _like({cluster_of(name) for name in wanted}, {cluster for found in there.values() for cluster in found})
    nodes = ask_all(
        [(site, cluster) for site, found in there.items() for cluster in found if cluster in like],
        lambda key: api.items(f"/sites/{key[0]}/clusters/{key[1]}/nodes", deadline),
    )
    existing: set[str] = set()
    for (site, _), items in nodes.items():
        if isinstance(items, Problem):
            return
        for item in items:
            existing |= {str(item["uid"]), full_name(str(item["uid"]), site)}
    unknown = [name for name in wanted if name not in existing]
    if unknown:
        near = [f"near {name}: {', '.join(found)}" for name in unknown[:_NEAR] if (found := _near(name, existing))]
        raise InvalidUse(
            f"the testbed has no node {fold(unknown)}",
            hint="; ".join(near) or "g5kdeploy topology --site SITE shows what a site has",
        )


def _like(words: Iterable[str], clusters: Iterable[str]) -> set[str]:
    """The clusters of those names, and those whose names are near."""
    names = sorted(clusters)
    return {found for word in words for found in difflib.get_close_matches(word, names, _NEAR)}


def _near(name: str, existing: Iterable[str]) -> list[str]:
    """The existing names nearest to one, in its form: full or short."""
    return difflib.get_close_matches(name, sorted(one for one in existing if ("." in one) == ("." in name)), _NEAR)
