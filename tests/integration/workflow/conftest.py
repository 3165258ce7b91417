"""The testbed of whole runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.workflow.place import Place
from tests.support import closures, nodes

WHY_NOT = nodes.missing() or (f"needs {', '.join(closures.missing())}" if closures.missing() else "")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Two nodes, their site, and an experiment on both."""
    if WHY_NOT:
        pytest.skip(WHY_NOT)
    made = Place(tmp_path)
    try:
        yield made
    finally:
        made.close()
