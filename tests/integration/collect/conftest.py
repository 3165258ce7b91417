"""A machine for all tests of a file, and a folder of its own for each test."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from g5kdeploy.node import Remote
from tests.support.collecting import Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    made = Machine(tmp_path_factory.mktemp("machine"))
    yield made
    for supervisor in made.units.glob("*/supervisor"):  # of a test that failed
        os.kill(int(supervisor.read_text()), signal.SIGTERM)
    made.server.close()


@pytest.fixture
def node(machine: Machine, tmp_path: Path) -> Iterator[Remote]:
    with machine.reach(tmp_path / "known") as reach:
        yield reach.remote("n1", None)


@pytest.fixture
def base(tmp_path: Path) -> str:
    return str(tmp_path / "var")
