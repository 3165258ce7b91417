"""The testbed of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workflow.place import Place
from tests.support import closures, nodes

WHY_NOT = nodes.missing() or (f"needs {', '.join(closures.missing())}" if closures.missing() else "")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Two nodes, their site, and an experiment on both."""
    yield from _open(tmp_path)


@pytest.fixture
def two_places(tmp_path: Path) -> Iterator[Place]:
    """The same with a node on each of two sites; it knows the public web of the first alone."""
    yield from _open(tmp_path, sites=("lab", "west"))


def _open(folder: Path, **more: Any) -> Iterator[Place]:
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    made = Place(folder, **more)
    try:
        yield made
    finally:
        made.close()
