"""Deploying on the lab: verdicts, repeats, image problems, lost answers, cancelling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import Failure, NotAllowed
from g5kdeploy.testbed import credentials
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.kadeploy import Verdicts, cancel_on, deploy, in_vlan
from g5kdeploy.testbed.problems import ImageProblem, Unclear
from tests.contract.scripted import Lab

NODES = tuple(f"vm-{n}.lab.grid5000.fr" for n in (1, 2, 3))
PATH = "/sites/lab/deployments"
Deploy = Callable[..., Verdicts]


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def emit(events: list[Event], lab: Lab) -> Emitter:
    return Emitter(sinks=[events.append], clock=lab.clock)


@pytest.fixture
def api(lab: Lab, emit: Emitter) -> Iterator[Api]:
    with Api(credentials.load(lab.home), emit, lab.clock) as api:
        yield api


@pytest.fixture
def run(lab: Lab, api: Api, emit: Emitter) -> Deploy:
    """Deploy on the three nodes of a running job."""
    names = ",".join(f"'{node}'" for node in NODES)
    resources = f"{{network_address in ({names})}}/nodes=3,walltime=4:0:0"
    lab.oar.submit("jdoe", {"command": "sleep 1d", "resources": resources, "type": ["deploy"]})
    lab.advance(30)

    def go(seconds: float = 1800, environment: str = "debian12-min", **more: Any) -> Verdicts:
        deadline = Deadline.after(seconds, "the deployment", lab.clock)
        return deploy(api, "lab", NODES, environment, "ssh-ed25519 AAAA", deadline, emit, **more)

    return go


def posts(lab: Lab) -> int:
    return sum(method == "POST" and path.endswith("/deployments") for method, path in lab.faults.asked)


def started(lab: Lab) -> list[list[str]]:
    return [deployment.nodes for deployment in lab.deployer.started]


def statuses(lab: Lab) -> list[str]:
    return [deployment.status for deployment in lab.services.deployments.every(oldest_first=True)]


def test_all_nodes_deployed(run: Deploy, lab: Lab, events: list[Event]) -> None:
    verdicts = run()
    assert verdicts.ok == NODES
    assert verdicts.ko == {}
    assert len(verdicts.deployments) == 1
    told = [(event.state, event.detail) for event in events if event.node == NODES[0]]
    assert [detail.split("/")[0] for _, detail in told] == [
        "SetDeploymentMiniOS",
        "BroadcastEnv",
        "BootNewEnv",
        "debian12-min",
    ]
    assert told[-1][0] is State.OK
    assert lab.deployer.started[0].keys == "ssh-ed25519 AAAA"


def test_nodes_that_fail_are_tried_again_alone(run: Deploy, lab: Lab, events: list[Event]) -> None:
    lab.deployer.order("vm-2", ko_at="SetDeploymentMiniOS")
    assert run().ok == NODES
    assert started(lab) == [list(NODES), [NODES[1]]]
    assert any("trying again on 1 of 3 nodes" in event.detail for event in events)


def test_a_node_that_stays_lost_is_named_and_terminated_is_no_success(run: Deploy, lab: Lab) -> None:
    lab.deployer.order("vm-3", ko_at="BroadcastEnv", error="the disk is broken", times=3)
    verdicts = run(tries=3)
    assert verdicts.ok == NODES[:2]
    assert set(verdicts.ko) == {NODES[2]}
    assert "BroadcastEnv" in verdicts.ko[NODES[2]]
    assert "the disk is broken" in verdicts.ko[NODES[2]]
    assert statuses(lab) == ["terminated"] * 3


def test_all_nodes_failing_at_the_boot_is_the_images_fault(run: Deploy, lab: Lab) -> None:
    for node in NODES:
        lab.deployer.order(node, ko_at="BootNewEnv", error="no ssh")
    with pytest.raises(ImageProblem, match="no ssh"):
        run()
    assert posts(lab) == 1


def test_one_node_failing_at_the_boot_is_not(run: Deploy, lab: Lab) -> None:
    lab.deployer.order("vm-1", ko_at="BootNewEnv")
    assert run().ok == NODES


def test_all_nodes_lost(run: Deploy, lab: Lab) -> None:
    for node in NODES:
        lab.deployer.order(node, ko_at="BroadcastEnv", times=2)
    with pytest.raises(Failure, match="failed on every node"):
        run()
    assert posts(lab) == 2


def test_a_workflow_that_kadeploy_forgot(run: Deploy, lab: Lab, emit: Emitter) -> None:
    emit.sinks.append(lambda event: lab.services.deployments.running.clear() if event.node else None)
    with pytest.raises(Failure, match="no longer exists on the Kadeploy server"):
        run()


def test_a_workflow_that_broke_stays_processing_until_the_deadline_and_is_cancelled(run: Deploy, lab: Lab) -> None:
    lab.deployer.break_down()
    with pytest.raises(DeadlinePassed, match="vm-1"):
        run(300)
    assert statuses(lab) == ["canceled"]


def test_a_node_that_never_comes_ends_at_the_deadline(run: Deploy, lab: Lab) -> None:
    lab.deployer.order("vm-2", hangs=True)
    with pytest.raises(DeadlinePassed, match=r"vm-2\.lab\.grid5000\.fr is at BootNewEnv"):
        run(600)
    assert lab.deployer.cancelled


def test_an_interruption_cancels(run: Deploy, lab: Lab, emit: Emitter) -> None:
    def interrupt(event: Event) -> None:
        if event.detail.startswith("BroadcastEnv"):
            raise KeyboardInterrupt

    emit.sinks.append(interrupt)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert statuses(lab) == ["canceled"]


def test_an_interruption_before_the_answer_cancels_too(
    run: Deploy, lab: Lab, api: Api, monkeypatch: pytest.MonkeyPatch, events: list[Event]
) -> None:
    """The site has begun; its answer is never read."""
    sent = api.post

    def post(*words: Any) -> Any:
        sent(*words)
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "post", post)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert statuses(lab) == ["canceled"]
    assert any("looking for the deployment" in event.detail for event in events)


def test_an_interruption_before_anything_was_sent_cancels_no_other(
    run: Deploy, lab: Lab, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run().ok == NODES  # the same nodes, but over

    def post(*words: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(api, "post", post)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert statuses(lab) == ["terminated"]
    assert lab.deployer.cancelled == []


def test_nodes_are_put_into_a_vlan(run: Deploy, lab: Lab) -> None:
    job = lab.oar.submit("jdoe", {"command": "sleep 1d", "resources": "{type='kavlan'}/vlan=1,walltime=4:0:0"})
    lab.advance(30)
    (vlan,) = (int(one.properties["vlan"]) for one in lab.oar.job(job.id).assigned)
    lab.deployer.order("vm-2", ko_at="BroadcastEnv")
    assert run(vlan=vlan).ok == NODES
    assert [deployment.vlan for deployment in lab.deployer.started] == [vlan, vlan]
    assert in_vlan(NODES[0], vlan) == f"vm-1-kavlan-{vlan}.lab.grid5000.fr"


def test_somebody_elses_vlan_is_refused(run: Deploy, lab: Lab) -> None:
    with pytest.raises(Failure, match="Invalid VLAN"):
        run(vlan=5)


def test_all_nodes_left_after_a_repeat_may_prove_that_it_is_the_image(run: Deploy, lab: Lab) -> None:
    """One never came to the boot at first; then all that were tried fail there."""
    lab.deployer.order("vm-1", ko_at="SetDeploymentMiniOS")
    for node in NODES:
        lab.deployer.order(node, ko_at="BootNewEnv", error="no ssh", times=2)
    with pytest.raises(ImageProblem):
        run(tries=3)
    assert posts(lab) == 2


def test_what_is_under_way_on_some_nodes_is_cancelled_and_nothing_else(run: Deploy, lab: Lab, api: Api) -> None:
    for nodes in (NODES[:2], NODES[2:]):
        body = {"nodes": list(nodes), "environment": "debian12-min"}
        api.post(PATH, body, Deadline.after(60, "x", lab.clock))
    cancel_on(api, "lab", [NODES[0]], Deadline.after(0, "an interrupt", lab.clock))
    assert statuses(lab) == ["canceled", "processing"]


def test_a_cancelled_deployment_is_no_success(run: Deploy, lab: Lab, emit: Emitter) -> None:
    def cancel(event: Event) -> None:
        if event.detail.startswith("BroadcastEnv"):
            lab.services.deployments.cancel(lab.deployer.started[0].uid)

    emit.sinks.append(cancel)
    with pytest.raises(Failure, match="cancelled"):
        run()


@pytest.mark.parametrize("fault", [{"lost": True}, {"cut": 30}])
def test_a_lost_answer_is_looked_up(run: Deploy, lab: Lab, fault: dict[str, Any]) -> None:
    lab.faults.order(method="POST", path=PATH, **fault)
    assert run().ok == NODES
    assert posts(lab) == 1


def test_a_lasting_silence_ends(run: Deploy, lab: Lab) -> None:
    lab.faults.order(method="POST", path=PATH, lost=True, execute=False, times=10)
    with pytest.raises(Unclear):
        run()
    assert posts(lab) == 2


def test_a_deployment_that_was_left_under_way_is_taken_up(run: Deploy, lab: Lab, api: Api) -> None:
    body = {"nodes": list(NODES), "environment": "debian12-min", "key": "ssh-ed25519 AAAA"}
    left = api.post(PATH, body, Deadline.after(60, "x", lab.clock))["uid"]
    assert run().deployments == (left,)
    assert posts(lab) == 1


def test_another_deployment_on_these_nodes_is_cancelled_first(run: Deploy, lab: Lab, api: Api) -> None:
    body = {"nodes": [NODES[0]], "environment": "debian12-std"}
    api.post(PATH, body, Deadline.after(60, "x", lab.clock))
    assert run().ok == NODES
    assert statuses(lab) == ["canceled", "terminated"]


def test_a_refused_environment_is_told(run: Deploy, lab: Lab) -> None:
    with pytest.raises(Failure, match=r"the environment nope.* does not exist"):
        run(environment="nope")
    with pytest.raises(Failure, match="refuses to deploy ftp://x/y"):
        run(environment="ftp://x/y")
    assert posts(lab) == 2


def test_missing_rights_are_tried_once_more(run: Deploy, lab: Lab) -> None:
    text = "Cannot launch deployment: You do not have sufficient rights to perform the operation on all the nodes\n"
    lab.faults.answer(400, method="POST", path=PATH, body=text)
    assert run().ok == NODES
    for job in lab.oar.current():
        lab.oar.delete(job.id, "jdoe")
    lab.advance(60)
    with pytest.raises(NotAllowed, match="does not let you"):
        run()


def test_an_outage_while_it_goes_on(run: Deploy, lab: Lab, events: list[Event]) -> None:
    lab.faults.answer(502, method="PUT", times=15)
    assert run().ok == NODES
    assert any(event.state is State.WARNING and "goes on meanwhile" in event.detail for event in events)
