"""Kadeploy's own API behind the proxy: power, reboots, how deployments go."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.management import Management
from tests.contract.scripted import USERS, Lab

Ask = Callable[..., requests.Response]
NODE = "vm-1.lab.grid5000.fr"


class Machine:
    """A machine that is there, or breaks when it is switched on."""

    def __init__(self, broken: bool = False) -> None:
        self.running, self.broken, self.resets = True, broken, 0

    def on(self) -> bool:
        return self.running

    def power_on(self, deadline: Deadline) -> None:
        if self.broken:
            raise Problem("its disk is empty")
        self.running = True

    def power_off(self) -> None:
        self.running = False

    def reset(self) -> None:
        self.resets += 1

    def answers(self, deadline: Deadline) -> bool:
        return self.resets > 0


@pytest.fixture
def machines(lab: Lab) -> dict[str, Machine]:
    made = {name: Machine(broken="-2." in name) for name in lab.node_names(2)}
    lab.services.management = Management({"lab": made})
    return made


@pytest.fixture
def ask(lab: Lab, machines: dict[str, Machine]) -> Ask:
    lab.oar.submit("jdoe", {"resource": "nodes=4,walltime=2", "type": "deploy", "script": "sleep 2h"})
    lab.advance(30)

    def call(method: str, path: str, user: str = "jdoe", **more: Any) -> requests.Response:
        url = f"{lab.url}/sites/lab/internal/kadeployapi/{path}"
        return requests.request(method, url, auth=(user, USERS[user]), timeout=60, **more)

    return call


def over(ask: Ask, path: str) -> dict[str, Any]:
    end = time.monotonic() + 60
    while not (found := ask("GET", path).json())["done"]:
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return dict(found)


def test_power_is_asked_for_and_switched(ask: Ask, machines: dict[str, Machine]) -> None:
    begun = ask("GET", "power", params={"nodes": NODE}).json()
    wid = begun["wid"]
    assert wid.startswith("P-") and begun["resources"]["state"] == f"/power/{wid}/state"
    whole = over(ask, f"power/{wid}")
    assert whole["nodes"] == {"ok": [NODE], "ko": []} and whole["user"] == "jdoe"
    state = {"macro": None, "micro": None, "state": "ok", "out": "vm-1-bmc: on"}
    assert ask("GET", f"power/{wid}/state").json() == {NODE: state}
    off = ask("PUT", "power", json={"nodes": [NODE], "status": "off", "level": "hard"}).json()["wid"]
    over(ask, f"power/{off}")
    assert not machines[NODE].running
    assert ask("GET", f"power/{off}/state").json()[NODE]["out"] == "vm-1-bmc: off"
    assert [one["wid"] for one in ask("GET", "power").json()] == [wid, off]
    assert ask("GET", f"power/{off}/status").json() == {}
    assert ask("DELETE", f"power/{off}").json() == {"wid": off}
    assert ask("GET", f"power/{off}").status_code == 400


def test_a_node_that_fails_is_told_with_its_reason(ask: Ask) -> None:
    nodes = [NODE, "vm-2.lab.grid5000.fr", "vm-3.lab.grid5000.fr"]
    wid = ask("PUT", "power", json={"nodes": nodes, "status": "on"}).json()["wid"]
    assert over(ask, f"power/{wid}")["nodes"] == {"ok": nodes[:1], "ko": nodes[1:]}
    states = ask("GET", f"power/{wid}/state").json()
    assert states[nodes[1]]["error"] == "its disk is empty"
    assert states[nodes[2]]["error"] == "vm-3.lab.grid5000.fr is played, and has no machine"


def test_several_nodes_of_a_query(ask: Ask) -> None:
    wid = ask("GET", "power", params={"nodes": [NODE, "vm-2.lab.grid5000.fr"]}).json()["wid"]
    assert len(over(ask, f"power/{wid}")["nodes"]["ok"]) == 2


def test_a_reboot_waits_for_its_nodes(ask: Ask, machines: dict[str, Machine]) -> None:
    wid = ask("POST", "reboot", json={"nodes": [NODE], "kind": "simple", "level": "soft"}).json()["wid"]
    assert over(ask, f"reboot/{wid}")["nodes"]["ok"] == [NODE] and machines[NODE].resets == 1
    assert ask("GET", f"power/{wid}").status_code == 400, "it is no power operation"


def test_how_a_deployment_goes(ask: Ask, lab: Lab) -> None:
    lab.deployer.order("vm-2", ko_at="BroadcastEnv", error="disk full")
    body = {"nodes": lab.node_names(2), "environment": "debian12-min"}
    url = f"{lab.url}/sites/lab/deployments"
    wid = requests.post(url, json=body, auth=("jdoe", USERS["jdoe"]), timeout=60).json()["uid"]
    lab.advance(1)
    going = ask("GET", f"deployment/{wid}").json()
    assert (going["done"], going["nodes"]["processing"]) == (False, lab.node_names(2))
    assert [one["wid"] for one in ask("GET", "deployment").json()] == [wid]
    assert list(ask("GET", f"deployment/{wid}/status").json()["vm"]) == ["SetDeploymentMiniOS"]
    lab.advance(200)
    done = ask("GET", f"deployment/{wid}").json()
    assert done["nodes"] == {"ok": [NODE], "ko": ["vm-2.lab.grid5000.fr"]}
    assert ask("GET", f"deployment/{wid}/state").json()["vm-2.lab.grid5000.fr"]["error"] == "disk full"
    assert ask("GET", f"deployment/{wid}/error").json() is None
    stranger = ask("GET", f"deployment/{wid}", user="asmith").json()
    assert stranger["nodes"] == lab.node_names(2)
    assert ask("GET", f"deployment/{wid}/state", user="asmith").status_code == 403


def test_nodes_and_environments(ask: Ask) -> None:
    assert ask("GET", "nodes").json() == [NODE, "vm-2.lab.grid5000.fr"]
    assert [one["name"] for one in ask("GET", "environments").json()] == ["debian12-min", "debian12-std"]


@pytest.mark.parametrize(
    ("method", "path", "body", "user", "code", "words"),
    [
        ("PUT", "power", {"status": "on"}, "jdoe", "2", "Invalid node list -- Parameter 'nodes': mandatory"),
        ("PUT", "power", {"nodes": 1, "status": "on"}, "jdoe", "2", "should be a Array"),
        ("PUT", "power", {"nodes": [], "status": "on"}, "jdoe", "2", "cannot be empty"),
        ("PUT", "power", {"nodes": [NODE], "status": "up"}, "jdoe", "4", "must have a value in (on,off)"),
        ("PUT", "power", {"nodes": [NODE], "status": "on", "level": "x"}, "jdoe", "4", "(soft,hard,very_hard)"),
        ("PUT", "power", {"nodes": [NODE], "status": "on"}, "asmith", "6", "sufficient rights"),
        ("POST", "reboot", {"nodes": [NODE], "kind": "deploy_env"}, "jdoe", "4", "the lab has no deploy_env"),
        ("GET", "power/P-none", None, "jdoe", "1", "Invalid workflow ID"),
    ],
)
def test_what_is_refused(
    ask: Ask, method: str, path: str, body: dict[str, Any] | None, user: str, code: str, words: str
) -> None:
    answer = ask(method, path, user=user, json=body)
    assert (answer.status_code, answer.headers["X-Application-Error-Code"]) == (400, code), answer.text
    assert words in answer.text and answer.headers["Content-Type"].startswith("text/plain")
