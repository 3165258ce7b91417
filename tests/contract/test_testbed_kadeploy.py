"""Deploying: verdicts, repeats, image problems, lost answers, cancelling."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from werkzeug.wrappers import Response

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import Failure, NotAllowed
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.credentials import Credentials
from g5kdeploy.testbed.kadeploy import Verdicts, deploy
from g5kdeploy.testbed.problems import ImageProblem, Unclear
from tests.support.faulty import FaultyProxy, proxied
from tests.support.scripted_site import PASSWORD, USER, ScriptedSite, served
from tests.support.virtual import VirtualTime

NODES = tuple(f"vm-{n}.lab.grid5000.fr" for n in (1, 2, 10))
OK = {"macro": None, "micro": None, "state": "OK"}
Deploy = Callable[..., Verdicts]


@pytest.fixture
def site() -> ScriptedSite:
    return ScriptedSite()


@pytest.fixture
def proxy(site: ScriptedSite) -> Iterator[FaultyProxy]:
    with served(site) as url, proxied(url) as proxy:
        yield proxy


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def emit(events: list[Event], time: VirtualTime) -> Emitter:
    return Emitter(sinks=[events.append], clock=time.clock)


@pytest.fixture
def run(proxy: FaultyProxy, emit: Emitter, time: VirtualTime) -> Iterator[Deploy]:
    with Api(Credentials(f"{proxy.url}/stable", USER, PASSWORD, timeout=20), emit, time.clock) as api:

        def go(seconds: float = 1800, **more: Any) -> Verdicts:
            deadline = Deadline.after(seconds, "the deployment", time.clock)
            return deploy(api, "lab", NODES, "debian12-min", "ssh-ed25519 AAAA", deadline, emit, **more)

        yield go


def ko(macro: str, error: str = "it broke") -> dict[str, Any]:
    return {"macro": macro, "micro": "reboot", "state": "KO", "error": error}


def test_all_nodes_deployed(run: Deploy, site: ScriptedSite, events: list[Event]) -> None:
    steps = iter(["SetDeploymentMiniOS", "BroadcastEnv", "BootNewEnv"])

    def refresh(deployment: dict[str, Any]) -> None:
        if (step := next(steps, None)) is None:
            site.deployed(deployment)
        else:
            state = {"macro": step, "micro": None, "state": "IN_PROGRESS"}
            deployment["result"] = dict.fromkeys(deployment["nodes"], state)

    site.on_refresh = refresh
    verdicts = run()
    assert verdicts.ok == NODES
    assert verdicts.ko == {}
    assert [e.step for e in events if e.node == NODES[0]] == ["deploy"] * 4
    assert [e.detail for e in events if e.node == NODES[0]][:3] == ["SetDeploymentMiniOS", "BroadcastEnv", "BootNewEnv"]


def test_nodes_that_fail_are_tried_again_alone(run: Deploy, site: ScriptedSite, proxy: FaultyProxy) -> None:
    asked: list[list[str]] = []

    def refresh(deployment: dict[str, Any]) -> None:
        asked.append(deployment["nodes"])
        results = dict.fromkeys(deployment["nodes"], OK)
        if len(asked) == 1:
            results[NODES[1]] = ko("SetDeploymentMiniOS")
        deployment.update(result=results, status="terminated")

    site.on_refresh = refresh
    assert run().ok == NODES
    assert asked == [list(NODES), [NODES[1]]]


def test_a_node_that_stays_lost_is_named_and_terminated_is_no_success(run: Deploy, site: ScriptedSite) -> None:
    def refresh(deployment: dict[str, Any]) -> None:
        results = {n: ko("BroadcastEnv") if n == NODES[2] else OK for n in deployment["nodes"]}
        deployment.update(result=results, status="terminated")

    site.on_refresh = refresh
    verdicts = run(tries=3)
    assert verdicts.ok == NODES[:2]
    assert verdicts.ko == {NODES[2]: "KO at BroadcastEnv/reboot: it broke"}
    assert len(verdicts.deployments) == 3


def test_all_nodes_failing_at_the_boot_is_the_images_fault(run: Deploy, site: ScriptedSite, proxy: FaultyProxy) -> None:
    site.on_refresh = lambda d: d.update(
        status="terminated", result={n: ko("BootNewEnv", "no ssh") for n in d["nodes"]}
    )
    with pytest.raises(ImageProblem, match="no ssh"):
        run()
    assert proxy.count("POST .*/deployments") == 1


def test_all_nodes_lost(run: Deploy, site: ScriptedSite, proxy: FaultyProxy) -> None:
    site.on_refresh = lambda d: d.update(status="terminated", result={n: ko("BroadcastEnv") for n in d["nodes"]})
    with pytest.raises(Failure, match="failed on every node"):
        run()
    assert proxy.count("POST .*/deployments") == 2


def test_a_node_without_a_verdict_is_not_deployed(run: Deploy, site: ScriptedSite) -> None:
    site.on_refresh = lambda d: d.update(status="terminated", result={NODES[0]: OK})
    assert set(run().ko) == set(NODES[1:])


def test_a_workflow_in_error_tells_its_output(run: Deploy, site: ScriptedSite) -> None:
    site.on_refresh = lambda d: d.update(
        status="error", output="The deployment no longer exists on the Kadeploy server"
    )
    with pytest.raises(Failure, match="no longer exists"):
        run()


def test_a_workflow_that_stays_processing_ends_at_the_deadline_and_is_cancelled(
    run: Deploy, site: ScriptedSite
) -> None:
    site.on_refresh = lambda d: None
    with pytest.raises(DeadlinePassed, match="vm-1"):
        run(300)
    assert [d["status"] for d in site.deployments.values()] == ["canceled"]


def test_an_interruption_cancels(run: Deploy, site: ScriptedSite, emit: Emitter) -> None:
    def interrupt(event: Event) -> None:
        if event.detail == "BroadcastEnv":
            raise KeyboardInterrupt

    emit.sinks.append(interrupt)
    site.on_refresh = lambda d: d.update(result={n: {"macro": "BroadcastEnv", "state": "IN_PROGRESS"} for n in NODES})
    with pytest.raises(KeyboardInterrupt):
        run()
    assert [d["status"] for d in site.deployments.values()] == ["canceled"]


def test_a_cancelled_deployment_is_no_success(run: Deploy, site: ScriptedSite) -> None:
    site.on_refresh = lambda d: d.update(status="canceled")
    with pytest.raises(Failure, match="cancelled"):
        run()


def test_a_lost_answer_is_looked_up(run: Deploy, proxy: FaultyProxy) -> None:
    proxy.fault("POST .*/deployments", "drop")
    assert run().ok == NODES
    assert proxy.count("POST .*/deployments") == 1


def test_a_lasting_silence_ends(run: Deploy, proxy: FaultyProxy) -> None:
    proxy.fault("POST .*/deployments", "refuse", times=10)
    with pytest.raises(Unclear):
        run()
    assert proxy.count("POST .*/deployments") == 2


def test_a_deployment_that_was_left_under_way_is_taken_up(run: Deploy, site: ScriptedSite, proxy: FaultyProxy) -> None:
    left = {"uid": "D-1", "status": "processing", "nodes": list(NODES), "environment": "debian12-min"}
    site.deployments["D-1"] = left
    assert run().deployments == ("D-1",)
    assert proxy.count("POST") == 0


def test_another_deployment_on_these_nodes_is_cancelled_first(run: Deploy, site: ScriptedSite) -> None:
    site.deployments["D-1"] = {"uid": "D-1", "status": "processing", "nodes": [NODES[0]], "environment": "other"}
    assert run().ok == NODES
    assert site.deployments["D-1"]["status"] == "canceled"


@pytest.mark.parametrize("status", [400, 500])
def test_a_refused_environment_is_told(run: Deploy, site: ScriptedSite, proxy: FaultyProxy, status: int) -> None:
    text = "Cannot launch deployment: Invalid environment specification -- the environment X::: does not exist"
    site.on_deploy = lambda d: Response(text, status, mimetype="text/plain")
    with pytest.raises(Failure, match="X::: does not exist"):
        run()
    assert proxy.count("POST") == 1


def test_missing_rights_are_tried_once_more(run: Deploy, site: ScriptedSite, proxy: FaultyProxy) -> None:
    text = "Cannot launch deployment: You do not have sufficient rights to perform the operation on all the nodes\n"
    answers = iter([Response(text, 400, mimetype="text/plain")])
    site.on_deploy = lambda d: next(answers, None)
    assert run().ok == NODES
    site.on_deploy = lambda d: Response(text, 400, mimetype="text/plain")
    with pytest.raises(NotAllowed, match="does not let you"):
        run()


def test_an_outage_while_it_goes_on(run: Deploy, proxy: FaultyProxy, events: list[Event]) -> None:
    proxy.fault("PUT", status=502, times=15)
    assert run().ok == NODES
    assert any(e.state is State.WARNING and "goes on meanwhile" in e.detail for e in events)
