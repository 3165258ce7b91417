"""The search for a slot, against trying every moment."""

from __future__ import annotations

import itertools
import math

from hypothesis import given, settings
from hypothesis import strategies as st

from g5kdeploy.testbed.planning.slots import Need, Span, first_fit, starts

HORIZON = 30

spans = st.lists(
    st.tuples(st.integers(-5, HORIZON), st.integers(0, 8)).map(lambda one: (float(one[0]), float(sum(one)))),
    max_size=5,
).map(sorted)
nodes = st.lists(spans, min_size=1, max_size=5).map(lambda found: {f"n-{n}": one for n, one in enumerate(found)})


def free(held: list[Span], moment: float, length: float) -> bool:
    return all(end <= moment or begin >= moment + length for begin, end in held)


Able = dict[bool, set[str]]
"""The nodes that are free without their disks, and with them."""


def can_serve(needs: list[Need], able: Able) -> bool:
    """Whether some way of giving out the nodes serves all; by trying."""
    if not needs:
        return True
    own = sorted(needs[0].nodes & able[needs[0].disks])
    return any(
        can_serve(needs[1:], {disks: names - set(some) for disks, names in able.items()})
        for some in itertools.combinations(own, needs[0].count)
    )


@settings(max_examples=150, deadline=None)
@given(held=spans, first=st.integers(0, 10), more=st.integers(0, 20), length=st.integers(1, 6))
def test_the_starts_of_a_node(held: list[Span], first: int, more: int, length: int) -> None:
    last = first + more
    found = starts(held, float(first), float(last), float(length))
    assert all(a <= b for a, b in found)
    for moment in range(first, last + 1):
        assert any(a <= moment <= b for a, b in found) == free(held, moment, length)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), world=nodes, disks=nodes, first=st.integers(0, 10), length=st.integers(1, 6))
def test_the_first_fit_is_the_one_that_trying_finds(
    data: st.DataObject, world: dict[str, list[Span]], disks: dict[str, list[Span]], first: int, length: int
) -> None:
    """`disks`: when further disks are taken, of some of the nodes."""
    sets = st.sets(st.sampled_from(sorted(world))).map(frozenset)
    needs = data.draw(st.lists(st.builds(Need, st.integers(1, 3), sets, st.booleans()), min_size=1, max_size=3))
    last = data.draw(st.sampled_from((float(first), float(first + 9), math.inf)))
    whole = {name: sorted([*held, *disks.get(name, ())]) for name, held in world.items()}
    windows = {name: starts(held, float(first), last, float(length)) for name, held in world.items()}
    with_disks = {name: starts(whole[name], float(first), last, float(length)) for name in disks.keys() & world.keys()}

    def able(moment: int) -> Able:
        return {
            apart: {name for name, spans in held.items() if free(spans, moment, length)}
            for apart, held in ((False, world), (True, whole))
        }

    end = int(min(last, 3 * HORIZON))
    moments = range(first, end + 1)
    expected = next((float(moment) for moment in moments if can_serve(needs, able(moment))), None)
    assert first_fit(needs, windows, with_disks) == expected
