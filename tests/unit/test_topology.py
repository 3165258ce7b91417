"""Pictures of sites: made by hand, and the real ones."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.cli.topology import graph, tree
from g5kdeploy.testbed.topology import Cable, draw

REAL = Path(__file__).parents[3] / "shared" / "data" / "grid5000-reference.tar.xz"


def adapter(device: str, node: str = "", **more: Any) -> dict[str, Any]:
    told = {"device": device, "interface": "Ethernet", "rate": 10**10, "mountable": True, "switch": "sw-a", **more}
    return {**told, "network_address": f"{node}.s.grid5000.fr" if node else None}


def world() -> tuple[dict[str, Any], dict[str, Any]]:
    """A router, two switches that are also joined to each other, an InfiniBand of its own, and four nodes."""
    equipment = {
        "gw": {
            "kind": "router",
            "linecards": [
                {},
                {
                    "rate": 10**10,
                    "kind": "node",
                    "ports": [{}, {"uid": "sw-a", "kind": "switch"}, {"uid": "renater", "kind": "backbone"}],
                },
            ],
            "channels": {"lag1": {"uid": "sw-b", "kind": "switch", "rate": 2 * 10**10}},
        },
        "sw-a": {
            "kind": "switch",
            "linecards": [{"rate": 10**10, "ports": [{"uid": "gw", "kind": "router"}] * 4 + [{"uid": "sw-b", "kind": "switch"}]}],
        },
        "sw-b": {"kind": "switch"},
        "ib": {"kind": "hpcswitch", "linecards": [{"kind": "node", "ports": [{"uid": "n-1", "port": "ib0"}]}]},
        "empty": {"kind": "switch"},
    }  # fmt: skip
    nodes = {f"n-{i}.s.grid5000.fr": {"network_adapters": [adapter("eth0", f"n-{i}")]} for i in (1, 2, 3)}
    nodes["n-1.s.grid5000.fr"]["network_adapters"] += [
        adapter("eth1", switch="sw-b", switch_port="7"),
        adapter("ib0", switch=None, interface="InfiniBand", rate=10**11),
        adapter("bmc", management=True),
        adapter("eth2", enabled=False),
    ]
    nodes["m-1.s.grid5000.fr"] = {"network_adapters": [adapter("eth0", "m-1", switch=None, rate=None)]}
    return equipment, nodes


def test_a_picture_of_a_site() -> None:
    assert tree(draw("s", *world(), whole=True)).lines() == [
        "s",
        "├─ empty (switch)",
        "├─ gw (router)",
        "│  ├─ sw-a (switch) 40 Gbit/s",
        "│  │  ├─ → sw-b 10 Gbit/s",
        "│  │  └─ n-[1-3] eth0 10 Gbit/s (production)",
        "│  └─ sw-b (switch) 20 Gbit/s",
        "│     ├─ → sw-a 10 Gbit/s",
        "│     └─ n-1 eth1 10 Gbit/s, port 7 (free)",
        "├─ ib (hpcswitch)",
        "│  └─ n-1 ib0 100 Gbit/s, InfiniBand (free)",
        "└─ on no switch that is known",
        "   └─ m-1 eth0 (production)",
    ]


def test_a_picture_of_some_nodes_has_their_way_to_the_router_and_no_more() -> None:
    equipment, nodes = world()
    some = draw("s", equipment, {"n-2.s.grid5000.fr": nodes["n-2.s.grid5000.fr"]}, whole=False)
    assert some.equipment == {"gw": "router", "sw-a": "switch"}
    assert some.tree == (Cable("gw", "sw-a", 4 * 10**10),)
    assert some.others == ()


def test_a_graph_is_one_for_graphviz() -> None:
    text = graph([draw('s"', *world(), whole=True)])
    assert text.startswith('graph "s\\"" {')
    assert '"sw-a.s\\"" -- "sw-b.s\\"" [label="10 Gbit/s"];' in text
    assert text.count(" -- ") == 3 + 5
    if dot := shutil.which("dot"):
        subprocess.run([dot, "-Tsvg"], input=text.encode(), capture_output=True, timeout=120, check=True)


@pytest.mark.skipif(not REAL.exists(), reason="needs ../shared")
def test_every_real_site_hangs_on_its_router() -> None:
    equipment: dict[str, dict[str, Any]] = {}
    nodes: dict[str, dict[str, Any]] = {}
    with tarfile.open(REAL) as tar:
        for member in tar:
            words = member.name.split("/")
            if len(words) < 5 or not member.name.endswith(".json") or words[-2] not in ("network_equipments", "nodes"):
                continue
            site, uid = words[3], words[-1].removesuffix(".json")
            file = tar.extractfile(member)
            assert file is not None
            into = equipment if words[-2] == "network_equipments" else nodes
            into.setdefault(site, {})[uid if into is equipment else f"{uid}.{site}.grid5000.fr"] = json.load(file)
    assert len(nodes) >= 11
    for site, documents in nodes.items():
        drawn = draw(site, equipment[site], documents, whole=True)
        known = [one for one in drawn.adapters if one.switch]
        assert {one.node for one in known} == set(documents), "every node is on some switch"
        assert drawn.roots()[0] == "gw" or "gw" in drawn.roots()
        lines = "\n".join(tree(drawn).lines())
        assert "Gbit/s (production)" in lines
        assert len(drawn.tree) + len(drawn.roots()) == len(drawn.equipment)  # each hangs on one, or is a root
