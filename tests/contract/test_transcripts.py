"""The lab answers as the real API server did: every recorded exchange again, over the recorded world."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.api import Server, make_app
from g5kdeploy.lab.oar import Job
from tests.contract import recorded
from tests.contract.player import Now, Player

pytestmark = pytest.mark.skipif(not recorded.FOLDER.is_dir(), reason="needs ../shared: the recorded exchanges")

AT = 1_795_369_500  # when the exchanges over the database were recorded

KNOWN_DIFFERENCES = {
    ("02-reference", 8): "the HTTP server refuses a path that begins with two slashes",
    ("02-reference", 95): "there is no OpenAPI document at /apidocs",
    ("06-jobs-read", 6): "the order of a moldable job's alternatives was undefined on the real server",
    ("06-jobs-read", 32): "the order of a moldable job's alternatives was undefined on the real server",
    ("06-jobs-read", 33): "the order of a moldable job's alternatives was undefined on the real server",
    ("10-deployments", 78): "the order of deployments of the same second was undefined on the real server",
    ("10-deployments", 79): "the order of deployments of the same second was undefined on the real server",
    ("11-environments", 6): "the recording's stand-in for kadeploy knew no user of the name deploy",
    ("31-accesses", 2): "the recorded branch's sets of nodes are not among the recorded data",
    ("31-accesses", 3): "the recorded branch's sets of nodes are not among the recorded data",
    ("31-accesses", 10): "the recorded branch's sets of nodes are not among the recorded data",
    ("13-methods-routes", 113): "robots.txt is no file of the lab: no date, no X-Sendfile",
}
"""Where the lab's answer differs, and why; each is checked to differ still."""

DATABASE = [
    "01-negotiation",
    "02-reference",
    "03-versions",
    "04-conditional",
    "05-status",
    "06-jobs-read",
    "07-job-submit",
    "08-job-delete",
    "09-walltime",
    "10-deployments",
    "11-environments",
    "12-vlans",
    "13-methods-routes",
]


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    now = Now(AT)
    services = recorded.services(Clock(wall=now))
    with Server(make_app(services)) as server:
        yield Player(server.port, now)
    services.deployments.close()


@pytest.fixture(scope="module")
def later_player() -> Iterator[Player]:
    """The same world with what was added for the complements: two nodes, 620 jobs of one user."""
    now = Now(AT)
    bulk = [
        Job(
            id=1000 + number,
            user="bulk",
            state="Terminated",
            queue="default",
            project="",
            command=None,
            directory="/home/bulk",
            properties=None,
            message="",
            walltime=None,
            submitted_at=1_795_000_000,
        )
        for number in range(1, 621)
    ]
    services = recorded.services(Clock(wall=now), {"paradoxe-4": 4, "nowhere-1": 2}, bulk)
    with Server(make_app(services)) as server:
        yield Player(server.port, now)
    services.deployments.close()


def test_over_the_database(player: Player) -> None:
    verify(player, *DATABASE)


def test_complements(later_player: Player) -> None:
    verify(later_player, "30-complements", "31-accesses")


def verify(player: Player, *names: str) -> None:
    """All exchanges of some files are answered alike, but for the known differences, which still differ."""
    wrong, same_again = [], []
    for name, exchange in ((each, one) for each in names for one in recorded.exchanges(each)):
        found = player.play(exchange)
        known = KNOWN_DIFFERENCES.get((name, exchange["n"]))
        request = exchange["request"]
        if found and not known:
            wrong.append(f"{name} {exchange['n']} {request['method']} {request['path']}: {'; '.join(found[:5])}")
        if known and not found:
            same_again.append(f"{name} {exchange['n']} {request['method']} {request['path']}: {known}")
    assert not wrong, "\n".join(wrong)
    assert not same_again, "no longer different: " + "\n".join(same_again)
