"""EnOSlib and execo as they are on PyPI, in an environment of their own, against the lab."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from g5kdeploy.lab.reference import NodeHardware, lab_site
from tests.contract.scripted import USERS, Lab
from tests.support import foreign

pytestmark = foreign.installed


def run(lab: Lab, script: str, **environ: str) -> Any:
    """What a script says that is run as the lab's user."""
    return foreign.said(script, home=lab.home, folder=lab.folder, **environ)


def test_enoslib_reserves_deploys_and_destroys(lab: Lab) -> None:
    """One node is lost at first: EnOSlib deploys that one again."""
    lab.deployer.order("vm-3", ko_at="SetDeploymentMiniOS", error="the BMC does not answer")
    with lab.running(pace=30):
        seen = run(lab, "enoslib_life.py")
    assert len(seen["free"]) == 4
    assert seen["name"] == "enoslib-life" and "deploy" in seen["types"] and seen["again"]
    assert len(seen["nodes"]) == 2 and seen["roles"]["client"] == ["vm-3.lab.grid5000.fr"]
    assert len(seen["roles"]["server"]) == 1
    first, second = lab.deployer.started
    assert sorted(map(str, first.nodes)) == seen["nodes"] and second.nodes == ["vm-3.lab.grid5000.fr"]
    assert first.keys == "ssh-ed25519 AAAA enoslib"
    assert seen["deployed"] == ["vm-3.lab.grid5000.fr"] and seen["lost"] == []  # of the last attempt
    assert seen["left"] == []


def test_enoslib_has_networks_disks_and_a_slot_for_two(tmp_path: Path) -> None:
    """Nodes with a second card and a second disk; EnOSlib asks at the real time."""
    hardware = NodeHardware(cores=2, more_cards=1, more_disks=1)
    lab = Lab(tmp_path / "lab", world=lab_site(4, hardware), now=time.time())
    lab.up()
    try:
        with lab.running(pace=1):
            seen = run(lab, "enoslib_networks.py")
    finally:
        lab.close()
    assert seen["disks"] == [f"disk1.vm-{number}.lab.grid5000.fr" for number in (1, 2)]
    assert seen["networks"]["prod"] == ["172.16.64.0/20", "2001:660:4406:100::/64"]
    assert seen["networks"]["kavlan"][0] == "10.56.0.0/18" and len(seen["networks"]["slash_22"]) == 1
    assert seen["block"] == 64
    assert seen["around"] == ["172.16.79.254", "172.16.79.254", "10.191.255.254"] and seen["mac"].startswith(
        "00:16:3E:"
    )
    assert seen["moved"] == [f"vm-{number}-eth1.lab.grid5000.fr" for number in (1, 2)]
    opened = seen["firewall"].pop("addresses")
    assert len(opened) == 1 and opened[0] in {f"2001:660:4406:100:1::{number}/128" for number in (1, 2)}
    assert seen["firewall"] == {"port": [80, 443], "proto": "tcp+udp"} and seen["closed"] == []
    assert seen["metrics"] == ["prom_node_load1"]
    assert seen["home"] == [True]
    assert seen["hint"] == 3661  # when the job is over, and OAR's minute and second between two jobs
    left, right = seen["starts"]
    assert left == right >= 3600


def test_execo_sees_the_reference_data_and_plans(lab: Lab) -> None:
    lab.hand.now = time.time()  # execo plans from the real clock on
    held = lab.oar.submit(
        "jdoe", {"resource": "{network_address='vm-2.lab.grid5000.fr'}/nodes=1,walltime=2", "script": "sleep 2h"}
    )
    lab.advance(60)
    seen = run(lab, "execo_planning.py", LAB_URI=lab.url, LAB_USER="jdoe", LAB_PASSWORD=USERS["jdoe"])
    assert seen["sites"] == ["lab"] and seen["clusters"] == ["vm"] and seen["queues"] == ["admin", "default"]
    assert seen["hosts"] == ["vm-1", "vm-2", "vm-3", "vm-4"] and seen["cores"] == 2
    assert seen["long"] == "vm-1.lab.grid5000.fr" and "gw" in seen["equipments"]
    assert seen["vlans"] == ["kavlan-10", *(f"kavlan-{number}" for number in range(4, 10))]
    assert seen["network"] == ["10.56.0.0", "18"] and seen["fastest"] == "vm-2"
    assert held.state == "Waiting"
    busy = [node for node, count in seen["busy"].items() if count]
    assert busy == ["vm-2.lab.grid5000.fr"] and len(seen["busy"]) == 4
    assert seen["first slot"] >= 2
