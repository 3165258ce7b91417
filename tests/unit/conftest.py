"""What the unit tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.oar_site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A scheduler with three nodes."""
    made = Site(tmp_path)
    yield made
    made.oar.stop()
