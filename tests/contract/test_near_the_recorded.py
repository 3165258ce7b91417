"""Requests near the recorded ones, over the same world: what the real server's code answered to them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.api import Server, make_app
from tests.contract import recorded, replay
from tests.contract.player import Now, Player, by_name
from tests.contract.test_transcripts import needs_shared

S = "/sites/rennes"
NODES = f"{S}/vlans/4/nodes"
MYENV = f"{S}/environments/myenv_x86_64_1_jdoe"
NOT_TO_BE_LISTED = "Not allowed to list other users environments, because you are seen as an anonymous one"


@pytest.fixture(scope="module")
def player() -> Iterator[Player]:
    now = Now(replay.AT)
    services = recorded.services(Clock(wall=now))
    try:
        with Server(make_app(services)) as server:
            yield Player(server.port, now)
    finally:
        services.deployments.close()


@needs_shared
@pytest.mark.parametrize(
    ("method", "path", "user", "body", "status", "text", "headers"),
    [
        # who is refused before the answer begins has none of its headers
        ("GET", f"{S}/environments?user=jdoe", "anonymous", None, 403, NOT_TO_BE_LISTED, {"allow": None}),
        ("GET", f"{MYENV}?user", "anonymous", None, 403, NOT_TO_BE_LISTED, {"cache-control": "no-cache"}),
        ("GET", f"{S}/environments?user", "jdoe", None, 200, '"total":5', {"allow": "GET"}),
        ("POST", NODES, "jdoe", "[true, 1]", 200, '{"true":{"status":"unchanged",', {"allow": "POST"}),
        ("POST", NODES, "jdoe", '[["a"]]', 200, r'{"[\"a\"]":{"status":"unchanged",', {}),
    ],
)
def test_answer(
    player: Player, method: str, path: str, user: str, body: str | None, status: int, text: str, headers: dict[str, str]
) -> None:
    sent = [["X-Api-Version", "stable"], ["X-Api-User-Cn", user], ["Accept", "application/json"]]
    if body is not None:
        sent += [["Content-Type", "application/json"], ["Content-Length", str(len(body))]]
    got, got_headers, answer = player.ask({"method": method, "path": path, "headers": sent, "body": body})
    assert (got, text in answer) == (status, True), answer
    for name, value in headers.items():
        assert by_name(got_headers).get(name) == value, name
