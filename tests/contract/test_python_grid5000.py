"""python-grid5000, as it is on PyPI, against the lab: the whole life of an experiment, and what it makes of errors."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from grid5000 import Grid5000
from grid5000.exceptions import (
    Grid5000AuthenticationError,
    Grid5000CreateError,
    Grid5000DeleteError,
    Grid5000GetError,
    Grid5000ParsingError,
)

from tests.contract.scripted import USERS, Lab


@pytest.fixture
def client(lab: Lab) -> Any:
    return Grid5000.from_yaml(str(lab.home / ".python-grid5000.yaml"))


DEPLOY_JOB = {"command": "sleep 365d", "resources": "nodes=2,walltime=01:00:00", "types": ["deploy"], "name": "exp"}


def running_job(lab: Lab, client: Any, **more: Any) -> Any:
    """A job that runs; the scheduler gets the time that it takes."""
    job = client.sites["lab"].jobs.create({**DEPLOY_JOB, **more})
    for _ in range(30):
        job.refresh()
        if job.state == "running":
            return job
        lab.advance(10)
    pytest.fail(f"the job is still {job.state}: {job.events}")


def test_the_credentials_file_is_private(lab: Lab) -> None:
    assert (lab.home / ".python-grid5000.yaml").stat().st_mode & 0o777 == 0o600


def test_reference_data(client: Any) -> None:
    assert client.root.get().uid == "grid5000"
    assert [site.uid for site in client.sites.list()] == ["lab"]
    cluster = client.sites["lab"].clusters["vm"]
    assert cluster.queues == ["admin", "default"]
    nodes = cluster.nodes.list()
    assert [node.uid for node in nodes] == ["vm-1", "vm-2", "vm-3", "vm-4"]
    assert nodes[0].network_adapters[0]["network_address"] == "vm-1.lab.grid5000.fr"
    assert nodes[0].storage_devices[0]["id"] == "disk0"
    assert {one.uid for one in client.sites["lab"].servers.list()} >= {"flab", "dns", "kavlan-1"}
    assert client.sites["lab"].network_equipments["gw"].kind == "router"
    assert client.sites["lab"].pdus.list()[0].uid == "pdu-1"
    assert client.sites["lab"].versions.list()[0].uid == client.root.get().version


def test_a_job_lives_and_dies(lab: Lab, client: Any) -> None:
    jobs = client.sites["lab"].jobs
    job = running_job(lab, client)
    assert len(job.assigned_nodes) == 2
    assert job.user == "jdoe" and job.types == ["deploy"] and job.walltime == 3600
    status = client.sites["lab"].status.list()
    busy = [node for node, state in status.nodes.items() if state["soft"] == "busy"]
    assert sorted(busy) == sorted(job.assigned_nodes)
    assert [one.uid for one in jobs.list(state="running", user="jdoe")] == [job.uid]
    assert jobs.list(name="nobody's") == []
    job.delete()
    lab.advance(60)
    job.refresh()
    assert job.state == "error"
    assert "FRAG_JOB_REQUEST" in {event["type"] for event in job.events}
    with pytest.raises(Grid5000DeleteError) as caught:
        job.delete()
    assert caught.value.response_code == 400 and "already killed" in caught.value.error_message


def test_the_end_of_the_walltime(lab: Lab, client: Any) -> None:
    job = running_job(lab, client, resources="nodes=1,walltime=0:10:0")
    lab.advance(1200)
    job.refresh()
    assert job.state == "error" and "WALLTIME" in {event["type"] for event in job.events}


def test_walltime_is_extended(lab: Lab, client: Any) -> None:
    job = running_job(lab, client)
    with pytest.raises(Grid5000ParsingError):  # the answer is text that says it is JSON: accepted nevertheless
        job.walltime_change.create({"walltime": "+0:30:0"})
    lab.advance(60)
    job.refresh()
    assert job.walltime == 5400


def test_what_oar_refuses(client: Any) -> None:
    with pytest.raises(Grid5000CreateError) as caught:
        client.sites["lab"].jobs.create({"command": "sleep 1", "resources": "nodes=99"})
    assert caught.value.response_code == 400
    assert "There are not enough resources for your request" in caught.value.error_message
    with pytest.raises(Grid5000CreateError) as caught:
        client.sites["lab"].jobs.create({"resources": "nodes=1"})
    assert "you must give a :command to execute on launch" in caught.value.error_message


def test_a_deployment(lab: Lab, client: Any) -> None:
    job = running_job(lab, client)
    site = client.sites["lab"]
    key = "ssh-ed25519 AAAA jdoe@here"
    made = site.deployments.create({"nodes": job.assigned_nodes, "environment": "debian12-min", "key": key})
    assert made.status == "processing" and made.uid.startswith("D-") and not hasattr(made, "result")
    assert lab.deployer.started[0].keys == key
    assert requests.get(made.key, auth=("jdoe", USERS["jdoe"]), timeout=20).text == key
    lab.advance(200)
    made.refresh()
    assert made.status == "terminated"
    assert {state["state"] for state in made.result.values()} == {"OK"}
    assert [one.uid for one in site.deployments.list(status="terminated")] == [made.uid]


def test_a_deployment_that_loses_a_node(lab: Lab, client: Any) -> None:
    job = running_job(lab, client)
    lost, kept = job.assigned_nodes
    lab.deployer.order(lost, ko_at="BootNewEnv", error="no ssh after 300 s")
    made = client.sites["lab"].deployments.create({"nodes": job.assigned_nodes, "environment": "debian12-min"})
    lab.advance(200)
    made.refresh()
    assert made.status == "terminated"
    assert made.result[kept]["state"] == "OK"
    assert made.result[lost]["state"] == "KO" and made.result[lost]["macro"] == "BootNewEnv"
    assert made.result[lost]["error"] == "no ssh after 300 s"


def test_what_kadeploy_refuses(lab: Lab, client: Any) -> None:
    deployments = client.sites["lab"].deployments
    with pytest.raises(Grid5000CreateError) as caught:
        deployments.create({"nodes": ["vm-1.lab.grid5000.fr"], "environment": "debian12-min"})
    assert caught.value.response_code == 400 and "sufficient rights" in caught.value.error_message
    with pytest.raises(Grid5000CreateError) as caught:
        deployments.create({"nodes": ["vm-1.lab.grid5000.fr"], "environment": "nope"})
    assert caught.value.response_code == 400 and "does not exist" in caught.value.error_message


def test_a_cancelled_deployment(lab: Lab, client: Any) -> None:
    job = running_job(lab, client)
    deployments = client.sites["lab"].deployments
    made = deployments.create({"nodes": job.assigned_nodes, "environment": "debian12-min"})
    deployments.delete(made.uid)
    made.refresh()
    assert made.status == "canceled" and lab.deployer.cancelled == [made.uid]


def test_vlans(lab: Lab, client: Any) -> None:
    job = running_job(lab, client, resources="{type='kavlan'}/vlan=1+nodes=1,walltime=1:0:0")
    vlan = job.resources_by_type["vlans"][0]
    (node,) = job.assigned_nodes
    found = client.sites["lab"].vlans[vlan]
    answer = found.nodes.submit([node])
    assert answer[node]["status"] == "success"
    assert [one.uid for one in found.nodes.list()] == [node]
    assert [one.uid for one in found.users.list()] == ["jdoe"]
    other = next(one.uid for one in client.sites["lab"].vlans.list() if one.type == "kavlan" and one.uid != vlan)
    with pytest.raises(Exception, match="Not enough privileges"):
        client.sites["lab"].vlans[other].nodes.submit([node])


def test_a_deployment_into_a_vlan(lab: Lab, client: Any) -> None:
    job = running_job(lab, client, resources="{type='kavlan'}/vlan=1+nodes=1,walltime=1:0:0")
    vlan, (node,) = job.resources_by_type["vlans"][0], job.assigned_nodes
    site = client.sites["lab"]
    order = {"nodes": [node], "environment": "debian12-min"}
    with pytest.raises(Grid5000CreateError, match="Invalid VLAN"):
        site.deployments.create({**order, "vlan": 9 if vlan != "9" else 8})
    site.deployments.create({**order, "vlan": int(vlan)})
    lab.advance(200)
    assert [one.uid for one in site.vlans[vlan].nodes.list()] == [node]
    site.deployments.create(order)
    lab.advance(200)
    assert site.vlans[vlan].nodes.list() == []


def test_a_world_of_939_nodes(big_lab: Lab) -> None:
    client = Grid5000.from_yaml(str(big_lab.home / ".python-grid5000.yaml"))
    deep = requests.get(f"{big_lab.url}/sites?deep=1", auth=("jdoe", USERS["jdoe"]), timeout=60).json()
    clusters = [one for site in deep["items"].values() for one in site["clusters"].values()]
    assert sum(len(cluster["nodes"]) for cluster in clusters) == 939
    for name in ("site1", "site5"):
        site = client.sites[name]
        status = site.status.list()
        usable = {cluster.uid for cluster in site.clusters.list(queues="default") if not cluster.exotic}
        assert all(state["soft"] == "free" for state in status.nodes.values())
        job = site.jobs.create({"command": "sleep 1h", "resources": "nodes=2,walltime=1", "types": ["deploy"]})
        big_lab.advance(60)
        job.refresh()
        assert job.state == "running" and {node.split("-")[0] for node in job.assigned_nodes} <= usable
        assert all(node.split(".")[1] == name for node in job.assigned_nodes)


def test_environments_and_storage(lab: Lab, client: Any) -> None:
    site = client.sites["lab"]
    assert {one.name for one in site.environments.list()} == {"debian12-min", "debian12-std"}
    assert site.metrics.list(nodes="vm-1") == []


def test_a_wrong_password(lab: Lab) -> None:
    stranger = Grid5000(uri=lab.url, username="jdoe", password="wrong", verify_ssl=False)
    with pytest.raises(Grid5000AuthenticationError):
        stranger.root.get()
    answer = requests.get(lab.url + "/sites", timeout=20)
    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"] == 'Basic realm="Grid\'5000 API"'
    assert answer.headers["Content-Type"] == "text/html; charset=iso-8859-1"


def test_unknown_things(client: Any) -> None:
    with pytest.raises(Grid5000GetError) as caught:
        _ = client.sites["nope"]
    assert caught.value.response_code == 404 and caught.value.error_message == "Cannot find resource /sites/nope"
    with pytest.raises(Grid5000GetError) as caught:
        _ = client.sites["lab"].jobs["424242"]
    assert caught.value.error_message == "Couldn't find OAR::Job with 'job_id'=424242"


def test_ordered_faults(lab: Lab, client: Any) -> None:
    lab.faults.answer(503, retry_after=0, path="/sites$")
    assert [site.uid for site in client.sites.list()] == ["lab"]  # retried because of Retry-After
    lab.faults.garbage(path="/sites$")
    with pytest.raises(Exception):  # noqa: B017, PT011 - whatever the library makes of a page of HTML
        client.sites.list()
    lab.faults.order(cut=10, path="/sites$", times=20)
    with pytest.raises(requests.exceptions.RequestException):
        client.sites.list()
    lab.faults.clear()
    before = len(client.sites["lab"].jobs.list())
    lab.faults.lose_answer(path="/jobs$")
    with pytest.raises(requests.exceptions.ConnectionError):
        client.sites["lab"].jobs.create(DEPLOY_JOB)
    assert len(client.sites["lab"].jobs.list(name="exp")) == before + 1


def test_the_server_goes_away_and_comes_back(lab: Lab, client: Any) -> None:
    lab.down()
    with pytest.raises(requests.exceptions.ConnectionError):
        requests.get(lab.url + "/sites", timeout=20)
    lab.up()
    assert [site.uid for site in client.sites.list()] == ["lab"]
