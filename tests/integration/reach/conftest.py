"""The site that the tests of this folder reach into: made once for each file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from g5kdeploy.node import Reach, Remote
from tests.support.reaching import Site
from tests.support.sshd import SSHD


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    if SSHD is None:
        pytest.skip("needs sshd")
    made = Site(tmp_path_factory.mktemp("site"))
    yield made
    made.close()


@pytest.fixture
def reach(site: Site, tmp_path: Path) -> Iterator[Reach]:
    with Reach(site.home, known_hosts=tmp_path / "known_hosts") as made:
        yield made


@pytest.fixture
def node(site: Site, reach: Reach) -> Remote:
    return reach.remote("n1", site.user)


@pytest.fixture
def direct(site: Site, reach: Reach) -> Remote:
    return reach.remote("direct", site.user)
