"""Bad luck by order, over the socket of a running lab: what clients then see, and that it can be taken back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.control_socket import Listener, WrongOrder, ask
from g5kdeploy.lab.deployments import MACRO_STEPS, Deployment, Report
from g5kdeploy.lab.orders import Loss, Orders, UnluckyDeployer
from tests.contract.scripted import USERS, Lab

Give = Callable[..., list[str]]


class Steps:
    """A deployer that goes through the steps at once, and takes a problem for the loss of the node, as the lab's does."""

    def start(self, deployment: Deployment, report: Report) -> None:
        for node in map(str, deployment.nodes):
            step = MACRO_STEPS[0]
            try:
                for step in MACRO_STEPS:
                    report(node, step, None, "reboot")
            except Problem as problem:
                report(node, step, False, str(problem))
            else:
                report(node, step, True, "")

    def cancel(self, uid: str) -> None: ...


@pytest.fixture
def give(lab: Lab, tmp_path: Path) -> Iterator[Give]:
    """Gives orders as `g5kdeploy lab fault` does."""
    folder = tmp_path / ("deep" * 40)  # longer than the name of a socket may be
    folder.mkdir()
    deployer = UnluckyDeployer(Steps())
    lab.services.deployments.deployer = deployer
    lab.services.deployments.rights = lambda user, nodes: True
    orders = Orders(lab.faults, deployer, lab.services.oars, lab.node_names())
    listener = Listener(folder / "control", orders.take)
    try:
        yield lambda **order: ask(folder / "control", order, Deadline.after(60, "an order"))
    finally:
        lab.faults.clear()
        listener.stop()


def get(lab: Lab, path: str) -> requests.Response:
    return requests.get(f"{lab.url}{path}", auth=("jdoe", USERS["jdoe"]), timeout=60)


def api(give: Give, path: str = ".*", times: int = 1, **effect: Any) -> list[str]:
    return give(do="api", method=".*", path=path, times=times, **effect)


def test_statuses_by_route_and_count(lab: Lab, give: Give) -> None:
    told = api(give, "/jobs", 2, status=503, body="Server Unavailable", headers={"Retry-After": "0"})
    assert told == [".* /jobs: status 503, 2 times"] == give(do="list")
    assert get(lab, "/sites").status_code == 200
    first, second, third = (get(lab, "/sites/lab/jobs") for _ in range(3))
    assert (first.status_code, first.text, first.headers["Retry-After"]) == (503, "Server Unavailable", "0")
    assert (first.reason, second.status_code, third.status_code) == ("Service Unavailable", 503, 200)
    assert give(do="list") == []


def test_garbage_cut_and_lost_answers(lab: Lab, give: Give) -> None:
    api(give, garbage=True)
    api(give, cut=10)
    api(give, lost=True)
    assert give(do="list") == [
        ".* .*: garbage, status 200, once",
        ".* .*: cut after 10 bytes, once",
        ".* .*: the answer is lost, once",
    ]
    assert get(lab, "/sites").text.startswith("<html>")
    for _ in range(2):
        with pytest.raises(requests.exceptions.RequestException):
            get(lab, "/sites")
    assert get(lab, "/sites").json()["total"] == 1


def test_what_hangs_goes_on_when_the_orders_are_cleared(lab: Lab, give: Give) -> None:
    api(give, "/sites$", hang=True)
    answers: list[requests.Response] = []
    asking = threading.Thread(target=lambda: answers.append(get(lab, "/sites")))
    asking.start()
    while not any(path.endswith("/sites") for _, path in lab.faults.asked):
        asking.join(0.01)
    assert asking.is_alive() and not answers
    api(give, "/never", status=500, body="")
    assert give(do="clear") == [".* /never: status 500, once: taken back"]
    asking.join(60)
    assert answers[0].status_code == 200


def test_a_site_that_is_down(lab: Lab, give: Give) -> None:
    assert give(do="site", site="lab") == ["site lab: down"]
    for path in ("jobs", "jobs/1", "deployments", "status", "vlans?x=1"):
        assert get(lab, f"/sites/lab/{path}").status_code == 503, path
    assert get(lab, "/sites/lab/clusters/vm/nodes").json()["total"] == 4
    give(do="clear")
    assert get(lab, "/sites/lab/jobs").status_code == 200


def test_nodes_are_lost_at_a_step_and_others_are_not(lab: Lab, give: Give) -> None:
    give(do="node", node="vm-1", ko_at="BroadcastEnv", text="disk full")
    assert give(do="list") == ["vm-1.lab.grid5000.fr: lost in BroadcastEnv: disk full, once"]
    nodes = lab.node_names(2)
    body = {"nodes": nodes, "environment": "debian12-min"}
    results = []
    for _ in range(2):
        made = requests.post(
            f"{lab.url}/sites/lab/deployments", json=body, auth=("jdoe", USERS["jdoe"]), timeout=60
        ).json()
        results.append(get(lab, f"/sites/lab/deployments/{made['uid']}").json()["result"])
    lost = {"macro": "BroadcastEnv", "micro": "reboot", "state": "KO", "error": "disk full"}
    assert results[0][nodes[0]] == lost
    assert [results[0][nodes[1]]["state"], results[1][nodes[0]]["state"]] == ["OK", "OK"]


def test_a_node_that_is_held_up_goes_on_when_the_orders_are_cleared() -> None:
    deployer = UnluckyDeployer(Steps())
    deployer.order(Loss("a", "BootNewEnv", "", delay=600.0))
    said: list[tuple[str, bool | None]] = []
    deployment = Deployment("D-1", "lab", "jdoe", "x", ["a"])
    report = threading.Thread(target=deployer.start, args=(deployment, lambda _, step, ok, __: said.append((step, ok))))
    report.start()
    while len(said) < 3:
        report.join(0.01)
    assert report.is_alive()
    deployer.clear()
    report.join(60)
    assert said[-1] == ("BootNewEnv", True)


def test_a_job_is_killed_and_a_node_changes_its_state(lab: Lab, give: Give) -> None:
    job = lab.oar.submit("jdoe", {"resource": "nodes=1,walltime=1", "script": "sleep 1h", "type": ["deploy"]})
    lab.advance(20)
    assert give(do="job", job=job.id, site="lab") == [f"job {job.id}: killed"]
    lab.advance(20)
    killed = lab.oar.job(job.id)
    assert killed and killed.state == "Error"
    assert any("User root requested" in event.description for event in killed.events)
    assert give(do="node", node="vm-2", state="dead") == ["vm-2.lab.grid5000.fr: Dead"]
    assert get(lab, "/sites/lab/status").json()["nodes"]["vm-2.lab.grid5000.fr"]["hard"] == "dead"
    with pytest.raises(Problem, match="cannot be killed"):
        give(do="job", job=job.id, site="lab")


@pytest.mark.parametrize(
    ("order", "words"),
    [
        ({"do": "dance"}, "takes no order"),
        ({"do": "site", "site": "mars"}, "no site mars"),
        ({"do": "node", "node": "vm-9", "state": "Dead"}, "no node vm-9"),
        ({"do": "node", "node": "vm-1", "state": "Sleepy"}, "can be Sleepy"),
        ({"do": "node", "node": "vm-1", "ko_at": "Dinner"}, "no step Dinner"),
        ({"do": "api", "method": ".*", "path": "(", "times": 1, "status": 500}, "no regular expression"),
        ({"do": "api", "method": "*", "path": ".*", "times": 1, "status": 500}, "no regular expression"),
    ],
)
def test_wrong_orders_say_what_is_wrong(lab: Lab, give: Give, order: dict[str, Any], words: str) -> None:
    with pytest.raises(WrongOrder, match=words):
        give(**order)
    assert give(do="list") == [] and get(lab, "/sites").status_code == 200


def test_an_order_that_fails_is_not_called_wrong(give: Give) -> None:
    with pytest.raises(Problem, match="the order failed") as raised:
        give(do="job")
    assert not isinstance(raised.value, WrongOrder)


def test_no_lab_listens(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="takes no orders"):
        ask(tmp_path / "control", {"do": "list"}, Deadline.after(60, "an order"))


def test_the_next_job_waits_for_a_node_that_boots_slowly(lab: Lab, give: Give) -> None:
    assert give(do="node", node="vm-1", state="standby", delay=500.0) == [
        "vm-1.lab.grid5000.fr: 500 s longer in its boot, once",
        "vm-1.lab.grid5000.fr: Standby",
    ]
    assert give(do="list") == ["vm-1.lab.grid5000.fr: 500 s longer in its boot, once"]
    deployer = lab.services.deployments.deployer
    assert isinstance(deployer, UnluckyDeployer)
    waking = threading.Thread(target=deployer.wake, args=(["vm-1.lab.grid5000.fr", "vm-2.lab.grid5000.fr"],))
    waking.start()
    while give(do="list"):
        waking.join(0.01)
    assert waking.is_alive()
    give(do="clear")
    waking.join(60)
    assert not waking.is_alive()
    deployer.wake(["vm-1.lab.grid5000.fr"])  # not slow any more
