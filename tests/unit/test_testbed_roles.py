"""Which nodes of a job play which roles."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from g5kdeploy.testbed.job import natural
from g5kdeploy.testbed.request import RoleNodes
from g5kdeploy.testbed.roles import fitting, match


def test_a_matching_gives_way_where_it_must() -> None:
    nodes = sorted([f"a-{n}.lab.grid5000.fr" for n in (10, 2, 1)], key=natural)
    roles = (RoleNodes("any", 1), RoleNodes("rest", 1), RoleNodes("first", 1, nodes=("a-1",)))
    found = match(roles, nodes, fitting(roles, nodes, {}, "lab"))
    assert found["first"] == ("a-1.lab.grid5000.fr",)
    assert sorted(found["any"] + found["rest"], key=natural) == nodes[1:]
    plain = (RoleNodes("server", 1), RoleNodes("client", 2))
    assert match(plain, nodes, fitting(plain, nodes, {}, "lab")) == {
        "server": tuple(nodes[:1]),
        "client": tuple(nodes[1:]),
    }


def largest(counts: list[int], nodes: int, fits: set[tuple[int, int]]) -> int:
    """How many places can be filled at best: Kuhn's algorithm, place by place."""
    places = [role for role, count in enumerate(counts) for _ in range(count)]
    holder: dict[int, int] = {}

    def fill(place: int, seen: set[int]) -> bool:
        for node in range(nodes):
            if (places[place], node) in fits and node not in seen:
                seen.add(node)
                if node not in holder or fill(holder[node], seen):
                    holder[node] = place
                    return True
        return False

    return sum(fill(place, set()) for place in range(len(places)))


@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5),
    st.integers(0, 9),
    st.sets(st.tuples(st.integers(0, 4), st.integers(0, 8))),
)
def test_a_matching_is_the_largest(wanted: list[tuple[int, int]], count: int, pairs: set[tuple[int, int]]) -> None:
    roles = [RoleNodes(f"r{n}", nodes, least=min(nodes, least)) for n, (nodes, least) in enumerate(wanted)]
    nodes = [f"n{n}" for n in range(count)]
    found = match(roles, nodes, lambda role, node: (int(role.role[1:]), int(node[1:])) in pairs)
    given_away = [node for names in found.values() for node in names]
    assert len(given_away) == len(set(given_away)) == largest([role.count for role in roles], count, pairs)
    assert sum(min(len(found[role.role]), role.needed) for role in roles) == largest(
        [role.needed for role in roles], count, pairs
    )
    for role in roles:
        assert len(found[role.role]) <= role.count
        assert list(found[role.role]) == sorted(found[role.role], key=natural)
        assert all((int(role.role[1:]), int(node[1:])) in pairs for node in found[role.role])


def test_many_nodes_are_matched_with_one_question_for_each_and_role() -> None:
    nodes = [f"a-{n}.lab.grid5000.fr" for n in range(1500)]
    roles = (RoleNodes("client", 1000), RoleNodes("server", 400), RoleNodes("last", 100, nodes=("a-7",) * 100))
    asked: list[str] = []
    fits = fitting(roles, nodes, {}, "lab")
    found = match(roles, nodes, lambda role, node: bool(asked.append(node)) or fits(role, node))
    assert [len(found[role.role]) for role in roles] == [1000, 400, 1]
    assert len(asked) == len(nodes) * len(roles)
