"""The common start of several sites, against looking at every moment."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from g5kdeploy.testbed.planning import Landscape, Wish, plan_sites, window
from g5kdeploy.testbed.planning.landscape import SECURITY, site_nodes
from g5kdeploy.testbed.planning.together import parted
from g5kdeploy.testbed.request import RoleNodes

NOW = 1_795_510_800.0  # Tuesday 2026-11-24 10:00 in Paris
HOUR = 3600.0
SITES = ("a", "b", "c")

jobs = st.tuples(st.integers(0, 30), st.integers(1, 8))  # begin and length, in half hours
nodes = st.lists(st.lists(jobs, max_size=4), min_size=1, max_size=3)


def landscape(held: dict[str, list[list[tuple[int, int]]]]) -> Landscape:
    """Sites of one cluster `v`, whose nodes have those jobs."""
    found: dict[str, Any] = {}
    for site, members in held.items():
        documents = [
            {
                "uid": f"v-{number}",
                "architecture": {"nb_cores": 4, "platform_type": "x86_64"},
                "supported_job_types": {"deploy": True, "besteffort": True, "queues": ["default"]},
            }
            for number in range(1, len(members) + 1)
        ]
        status = {
            f"v-{number}.{site}.grid5000.fr": {
                "hard": "alive",
                "reservations": [
                    {"state": "waiting", "scheduled_at": NOW + begin * HOUR / 2, "walltime": length * HOUR / 2}
                    for begin, length in some
                ],
            }
            for number, some in enumerate(members, 1)
        }
        found[site] = site_nodes(site, {"v": documents}, status, now=NOW)["v"]
    return Landscape(NOW, {site: {"v": members} for site, members in found.items()})


def first(held: dict[str, list[list[tuple[int, int]]]], counts: dict[str, int], walltime: float) -> float | None:
    """The earliest moment at which every site has so many nodes free for the whole walltime; by trying all ends."""
    spans = {
        site: [[(NOW + b * HOUR / 2, NOW + (b + n) * HOUR / 2 + SECURITY) for b, n in some] for some in members]
        for site, members in held.items()
    }
    moments = sorted({NOW, *(end for members in spans.values() for some in members for _, end in some)})
    for moment in moments:
        until = moment + walltime + SECURITY
        if all(
            sum(all(end <= moment or begin >= until for begin, end in some) for some in spans[site]) >= count
            for site, count in counts.items()
        ):
            return moment
    return None


@given(
    held=st.fixed_dictionaries(dict.fromkeys(SITES, nodes)),
    counts=st.dictionaries(st.sampled_from(SITES), st.integers(1, 3), min_size=2, max_size=3),
    hours=st.integers(1, 4),
)
def test_it_is_the_earliest_there_is(
    held: dict[str, list[list[tuple[int, int]]]], counts: dict[str, int], hours: int
) -> None:
    land = landscape(held)
    roles = tuple(RoleNodes(f"r{site}", count, site=site) for site, count in counts.items())
    wish = Wish(roles, int(hours * HOUR))
    found = plan_sites(land, wish, window("earliest", wish.walltime, NOW), ("a",))
    possible = all(count <= len(held[site]) for site, count in counts.items())
    expected = first(held, counts, wish.walltime) if possible else None
    assert [option.start for option in found.options] == ([] if expected is None else [expected])
    for option in found.options:
        assert len(option.nodes) == sum(counts.values())
        assert option.allowed is None or option.allowed >= option.start


def test_roles_without_a_site_go_to_each_of_the_homes_together() -> None:
    land = landscape({"a": [[], []], "b": [[], []], "c": [[(0, 8)], []]})
    wish = Wish((RoleNodes("fixed", 1, site="c"), RoleNodes("x", 1), RoleNodes("y", 1)), int(HOUR))
    found = plan_sites(land, wish, window("earliest", wish.walltime, NOW), ("a", "b", "c"))
    assert [option.name for option in found.options] == ["a+c/v+v", "b+c/v+v"], "c alone has not enough"
    assert [reason[0] for reason in found.without] == ["c"]
    assert {role.role: role.site for role in found.options[0].roles} == {"fixed": "c", "x": "a", "y": "a"}
    assert list(parted(wish, "c")) == ["c"]
