"""The lab that contract tests talk to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from g5kdeploy.events.event import Emitter, Event
from g5kdeploy.lab.reference import big_world
from g5kdeploy.testbed import credentials
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.records import Records
from tests.contract.desk import desk, places
from tests.contract.scripted import Lab
from tests.contract.testbed_world import World, small_world

__all__ = ["desk", "places"]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab of four nodes with a clock that is turned by hand, over real HTTP on a port of its own."""
    made = Lab(tmp_path / "lab")
    made.up()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def big_lab(tmp_path: Path) -> Iterator[Lab]:
    """A lab that has 939 nodes in 11 sites, as many as the real one; for planning and for what must be fast."""
    made = Lab(tmp_path / "lab", world=big_world())
    made.up()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def two_sites(tmp_path: Path) -> Iterator[Lab]:
    """A lab of two sites, east and west, with three nodes each; those of the east have a second disk."""
    made = Lab(tmp_path / "lab", world=small_world("east", "west"))
    made.up()
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def world(lab: Lab, tmp_path: Path) -> Iterator[World]:
    """A client on the lab, with its records; its sleeping turns the lab's clock."""
    events: list[Event] = []
    emit = Emitter(sinks=[events.append], clock=lab.clock)
    with Api(credentials.load(lab.home), emit, clock=lab.clock) as api:
        yield World(lab, api, Records("lab", tmp_path / "reservations", clock=lab.clock), events, emit)
