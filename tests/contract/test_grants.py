"""firewall, storage and topology as commands, against the lab's API: what is granted ends with the job."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from g5kdeploy.base import folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli.main import main
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.testbed import credentials, firewall, storage
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.lookup import job as look
from tests.contract.scripted import Lab

VM = "vm-{}.lab.grid5000.fr"


class Desk:
    """The commands of a user who has a job on two nodes of the lab."""

    def __init__(self, lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
        self.lab = lab
        self.capsys = capsys
        lab.write_home(folders.state() / "lab" / "home", "jdoe", "secret")
        self.number = self.reserve("jdoe")

    def reserve(self, user: str) -> int:
        body = {"command": "sleep 1d", "resources": "nodes=2,walltime=1:0:0", "types": ["deploy"]}
        answer = requests.post(f"{self.lab.url}/sites/lab/jobs", json=body, auth=(user, "secret"), timeout=60)
        assert answer.status_code == 201, answer.text
        number = int(answer.json()["uid"])
        self.until(number, "running")
        return number

    def until(self, number: int, *states: str) -> None:
        for _ in range(200):
            if self.state(number) in states:
                return
            self.lab.advance(10)
        pytest.fail(f"job {number} does not become {states}")

    def state(self, number: int) -> str:
        answer = requests.get(f"{self.lab.url}/sites/lab/jobs/{number}", auth=("jdoe", "secret"), timeout=60)
        return str(answer.json()["state"])

    def end(self) -> None:
        requests.delete(f"{self.lab.url}/sites/lab/jobs/{self.number}", auth=("jdoe", "secret"), timeout=60)
        self.until(self.number, "error", "terminated")

    def call(self, *words: str, code: int = 0) -> tuple[list[dict[str, Any]], str]:
        got = main([*words, "--testbed", "lab", "-o", "json"])
        out, err = self.capsys.readouterr()
        assert got == code, err
        return (json.loads(out)["items"] if out else []), err


@pytest.fixture
def desk(lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: Any) -> Desk:
    monkeypatch.chdir(tmp_path_factory.mktemp("empty"))
    return Desk(lab, capsys)


def test_ports_are_opened_listed_and_closed(desk: Desk) -> None:
    (made,), _ = desk.call("firewall", "open", "vm-[1-2].lab.grid5000.fr", "80", "443", "--protocol", "tcp")
    assert (made["job"], made["site"], made["protocol"]) == (desk.number, "lab", "tcp")
    assert made["addresses"] == ["2001:660:4406:100:1::1/128", "2001:660:4406:100:1::2/128"]
    assert made["ports"] == ["80", "443"]
    both, _ = desk.call("firewall", "open", VM.format(1), "--protocol", "all", "--from", "2001:db8::/64")
    assert [one["source"] for one in both] == [[], ["2001:db8::/64"]]
    assert desk.call("firewall", "list", VM.format(2))[0] == both
    left, said = desk.call("firewall", "close", VM.format(1))
    assert left == [] and f"job {desk.number} on lab are closed" in said
    assert desk.call("firewall", "list", VM.format(1))[0] == []


def test_what_cannot_be_opened(desk: Desk) -> None:
    for words, code, text in (
        ((VM.format(1),), ExitCode.USAGE, "goes with ports"),
        ((VM.format(1), "80", "--protocol", "all"), ExitCode.USAGE, "goes without ports"),
        ((VM.format(3), "80"), ExitCode.USAGE, "in no running job of jdoe"),
        ((VM.format(1), "80", "--from", "10.0.0.1"), ExitCode.FAILED, "no IPv6 address"),
    ):
        _, said = desk.call("firewall", "open", *words, code=code)
        assert text in said
    assert main(["firewall", "open", VM.format(1), "70000", "--testbed", "lab"]) == ExitCode.USAGE


def test_the_site_opens_nothing_of_others_and_nothing_after_the_job(desk: Desk) -> None:
    url = f"{desk.lab.url}/sites/lab/firewall/{desk.number}"
    mine = {"addr": "vm-1-ipv6.lab.grid5000.fr", "port": 80, "proto": "tcp"}
    for body, status in (
        ([{**mine, "addr": "vm-3-ipv6.lab.grid5000.fr"}], 403),
        ([{**mine, "addr": VM.format(1)}], 403),
        ([{**mine, "proto": "sctp"}], 422),
        ([{**mine, "port": 0}], 422),
        (mine, 422),
        ([{**mine, "addr": "2001:660:4406:100:1::1"}], 201),  # that of vm-1
        ([mine], 201),
    ):
        assert requests.post(url, json=body, auth=("jdoe", "secret"), timeout=60).status_code == status
    with Api(credentials.load(desk.lab.home)) as api:
        deadline = Deadline.after(60, "the test")
        job = look(api, "lab", desk.number, deadline)
        assert [one.ports for one in firewall.openings(api, job, deadline)] == [("80",), ("80",)]
        desk.end()
        assert firewall.openings(api, job, deadline) == []
    assert requests.post(url, json=[mine], auth=("jdoe", "secret"), timeout=60).status_code == 403


def test_a_home_is_mounted_until_the_job_ends(desk: Desk) -> None:
    (made,), _ = desk.call("storage", "allow", "vm-[1-2].lab.grid5000.fr")
    assert made["storage"] == "lab:home/jdoe"
    assert made["until"] == f"job {desk.number} on lab ends"
    assert len(made["addresses"]) == 2 and made["mount"].endswith("/jdoe")
    assert desk.call("storage", "allow", VM.format(1))[0] == [made]  # it may already
    assert desk.call("storage", "list", "lab")[0] == [made]
    (group,), _ = desk.call("storage", "allow", VM.format(1), "lab:storage1/mygroup")
    assert group["storage"] == "lab:storage1/mygroup"
    _, said = desk.call("storage", "revoke", "lab", "nope", code=ExitCode.FAILED)
    assert f"it has {made['id']}" in said
    assert desk.call("storage", "revoke", "lab", made["id"])[0] == []
    desk.end()
    assert desk.call("storage", "list", "lab:storage1/mygroup")[0] == []


def test_the_site_lets_nobody_mount_without_an_end(desk: Desk) -> None:
    url = f"{desk.lab.url}/sites/lab/storage/home/jdoe/access"
    job = {"job": desk.number, "site": "lab"}
    for body, status in (
        ({"ipv4": ["10.0.0.1"]}, 422),
        ({"ipv4": ["10.0.0.1"], "termination": {"job": 4711, "site": "lab"}}, 422),
        ({"ipv4": ["10.0.0.1"], "termination": {"until": 1}}, 422),
        ({"ipv4": ["::1"], "termination": job}, 422),
        ({"ipv4": [], "termination": job}, 422),
        ({"ipv4": "10.0.0.1", "termination": job}, 201),
        ({"ipv4": ["10.0.0.2"], "termination": {"until": int(desk.lab.clock.wall()) + 60}}, 201),
    ):
        assert requests.post(url, json=body, auth=("jdoe", "secret"), timeout=60).status_code == status
    with Api(credentials.load(desk.lab.home)) as api:
        rules = storage.accesses(api, storage.parse("lab", "jdoe"), Deadline.after(60, "the test"))
    assert [(one.addresses, one.job) for one in rules] == [(("10.0.0.1",), desk.number), (("10.0.0.2",), 0)]
    desk.lab.advance(61)
    assert [one["addresses"] for one in desk.call("storage", "list", "lab")[0]] == [["10.0.0.1"]]


def test_what_is_no_storage_is_told(desk: Desk) -> None:
    _, said = desk.call("storage", "list", "lab:home", code=ExitCode.USAGE)
    assert "`lab:home` is no storage" in said
    _, said = desk.call("storage", "list", "nowhere", code=ExitCode.USAGE)
    assert "nowhere" in said


def test_a_picture_of_nodes_and_of_a_site(desk: Desk) -> None:
    assert main(["topology", "vm-[1-2].lab.grid5000.fr", "--testbed", "lab"]) == 0
    assert desk.capsys.readouterr().out.splitlines() == [
        "lab",
        "└─ gw (router)",
        "   └─ vm-[1-2] eth0 1 Gbit/s (production)",
    ]
    items, _ = desk.call("topology", "--site", "lab")
    assert [(one["node"], one["switch"], one["rate"]) for one in items] == [
        (VM.format(n), "gw", 10**9) for n in range(1, 5)
    ]
    assert main(["topology", VM.format(1), "--testbed", "lab", "--dot"]) == 0
    out = desk.capsys.readouterr().out
    assert '"gw.lab" -- "vm-1.lab.grid5000.fr" [label="eth0 1 Gbit/s"];' in out
    assert desk.call("topology", VM.format(1), "--site", "lab", code=ExitCode.USAGE)[0] == []
    _, said = desk.call("topology", "--site", "nowhere", code=ExitCode.USAGE)
    assert "the testbed has no site 'nowhere'" in said
    assert "its sites are lab" in said


def test_nothing_granted_is_said(desk: Desk) -> None:
    assert desk.call("storage", "list", "lab") == ([], "no rules\n")
    assert desk.call("firewall", "list", VM.format(1)) == ([], "nothing is open\n")
