"""What `kavlan` and `g5k-subnets` answer on a frontend, of jobs of the scripted lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from g5kdeploy.lab.network_command import Subnets, Vlans
from tests.contract.scripted import Lab

DOMAIN = "lab.grid5000.fr"
Answers = Callable[[Mapping[str, Any]], Iterator[dict[str, str]]]


def job(lab: Lab, resource: str) -> int:
    """A job that runs."""
    made = lab.oar.submit("jdoe", {"resource": f"{resource},walltime=1", "command": "sleep 1h", "type": ["deploy"]})
    lab.advance(60)
    return made.id


def said(answers: Answers, **request: Any) -> dict[str, str]:
    return {name: value for answer in answers(request) for name, value in answer.items()}


@pytest.fixture
def vlans(lab: Lab) -> Vlans:
    return Vlans(lab.oar, lab.services.kavlans["lab"], lab.network, DOMAIN, "jdoe")


@pytest.fixture
def subnets(lab: Lab) -> Subnets:
    return Subnets(lab.oar, lab.network, DOMAIN)


def test_the_vlan_of_a_job_its_names_and_its_network(lab: Lab, vlans: Vlans) -> None:
    number = job(lab, "{type='kavlan'}/vlan=1+nodes=2")
    assert said(vlans, operation="id", job=number) == {"text": "4\n", "status": "0"}
    names = "".join(f"vm-{node}-kavlan-4.{DOMAIN}\n" for node in (1, 2))
    assert said(vlans, operation="nodes", job=number)["text"] == names
    assert said(vlans, operation="range", job=number)["text"] == "10.56.0.0/18\n"
    assert said(vlans, operation="gateway", vlan="1")["text"] == "192.168.207.254\n"
    assert said(vlans, operation="start", job=number) == {"text": "", "status": "0"}


def test_a_job_without_a_vlan(lab: Lab, vlans: Vlans) -> None:
    number = job(lab, "nodes=1")
    assert said(vlans, operation="id", job=number) == {"text": "no vlan found\n", "status": "1"}
    assert said(vlans, operation="set", job=number)["error"] == "No VLAN found, abort!"
    assert said(vlans, operation="id")["error"] == "no job specified, use -j"
    assert said(vlans, operation="id", job="77")["error"] == "there is no job 77"
    assert said(vlans, operation="range", vlan="99")["error"] == "abort: bad VLAN id (99)"


def test_nodes_are_moved_by_who_holds_the_vlan(lab: Lab, vlans: Vlans) -> None:
    kavlan = lab.services.kavlans["lab"]
    refused = "User does not have appropriate rights on VLAN, abort"
    assert said(vlans, operation="set", vlan="4", nodes=["vm-1"])["error"] == refused
    assert said(vlans, operation="stop", vlan="4")["error"] == refused
    number = job(lab, "{type='kavlan'}/vlan=1+nodes=2")
    done = said(vlans, operation="set", job=number)
    assert done["text"] == "all nodes are configured in the vlan 4\n"
    assert kavlan.inside("4") == [f"vm-{node}.{DOMAIN}" for node in (1, 2)]
    assert said(vlans, operation="set", vlan="4", nodes=["vm-3"], quiet=True) == {"text": "", "status": "0"}
    assert "vm-9" in said(vlans, operation="set", vlan="4", nodes=["vm-9"])["error"]


def test_the_subnets_of_a_job(lab: Lab, subnets: Subnets) -> None:
    number = job(lab, "slash_22=2+nodes=1")
    assert said(subnets, job=number)["text"] == "10.188.0.0/22\n10.188.4.0/22\n"
    assert said(subnets, job=number, summarize=True)["text"] == "10.188.0.0/21\n"
    everything = said(subnets, job=number, columns="pbngGd", summarize=True)["text"].rstrip().split("\t")
    assert everything == [
        "10.188.0.0/21", "10.191.255.255", "255.252.0.0", "10.191.255.254", "10.188.0.0", f"dns.{DOMAIN}",
        "172.16.79.254",
    ]  # fmt: skip
    addresses = said(subnets, job=number, columns="im")["text"].splitlines()
    assert addresses[0] == "10.188.0.1\t00:16:3E:BC:00:01" and addresses[-1] == "10.188.7.254\t00:16:3E:BC:07:FE"
    assert said(subnets, job=job(lab, "nodes=1"))["error"].endswith("has no subnets")
