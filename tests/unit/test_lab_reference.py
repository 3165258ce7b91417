"""Reference data: its tree and history, what is generated, and what is read from archives."""

from __future__ import annotations

import ipaddress
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab import compose
from g5kdeploy.lab.api import Server
from g5kdeploy.lab.inventory import interfaces, resources
from g5kdeploy.lab.oar import Query, Refused
from g5kdeploy.lab.reference import (
    Commit,
    NodeHardware,
    Reference,
    SiteNetwork,
    beside,
    big_world,
    lab_site,
    load,
    load_any,
)
from g5kdeploy.lab.reference.tree import (
    BeforeHistory,
    NoSuchBranch,
    NoSuchCommit,
    NoSuchReference,
    commit,
    entries,
    expand,
    expand_deep,
    find,
    put,
)
from g5kdeploy.lab.settings import Settings


def tree(**documents: Any) -> dict[str, Any]:
    made: dict[str, Any] = {}
    put(made, "grid5000", {"type": "grid", "uid": "grid5000"})
    for name in ("a", "b"):
        put(made, f"sites/{name}/{name}", {"uid": name, "zeta": 1, "alpha": 2})
    for number in (1, 2, 10):
        put(made, f"sites/a/clusters/c/nodes/c-{number}", {"uid": f"c-{number}"})
    put(made, "sites/a/clusters/c/c", {"uid": "c", "queues": ["default"]})
    put(made, "sites/a/servers/s", {"uid": "s"})
    for path, document in documents.items():
        put(made, path, document)
    return made


@pytest.fixture
def history() -> Reference:
    first, second = tree(), tree(**{"sites/a/clusters/c/nodes/c-2": {"uid": "c-2", "new": True}})
    third = tree(**{"sites/a/clusters/c/nodes/c-2": {"uid": "c-2", "new": True}, "sites/b/b": {"uid": "b", "new": 1}})
    trees = [third, second, first]
    line = [Commit(f"{3 - at}" * 40, 3000 - 1000 * at, f"commit {3 - at}", "J", one) for at, one in enumerate(trees)]
    return Reference({"master": line})


def test_entries_come_in_gits_order() -> None:
    nodes = find(tree(), "sites/a/clusters/c/nodes")
    assert isinstance(nodes, dict)
    assert [name for name, _ in entries(nodes)] == ["c-1.json", "c-10.json", "c-2.json"]


def test_the_last_commit_that_touched_a_path(history: Reference) -> None:
    def touched(path: str) -> str | None:
        found = history.last_touching(path)
        return found.message if found else None

    assert touched("") == "commit 3"
    assert touched("sites/b") == "commit 3"
    assert touched("sites/a") == "commit 2"
    assert touched("sites/a/clusters/c/nodes/c-2") == "commit 2"
    assert touched("sites/a/clusters/c/nodes/c-1") == "commit 1"
    assert touched("sites/nope") is None


def test_versions_of_a_folder_and_of_a_file(history: Reference) -> None:
    assert [one.message for one in history.versions("sites/a")] == ["commit 2", "commit 1"]
    assert [one.message for one in history.versions("sites/a", "2" * 40)] == ["commit 2", "commit 1"]
    # a file seems changed by every commit but the one that brought it, as on the real server
    assert [one.message for one in history.versions("sites/a/clusters/c/nodes/c-1")] == ["commit 3", "commit 2"]
    with pytest.raises(NoSuchReference, match="'nope' cannot be found"):
        history.versions("sites/a", "nope")


def test_commits_by_id_by_moment_and_by_branch(history: Reference) -> None:
    assert history.commit_of("2222").message == "commit 2"
    with pytest.raises(NoSuchCommit):
        history.commit_of("222")
    assert history.commit_at(2500).message == "commit 2"
    with pytest.raises(BeforeHistory):
        history.commit_at(10)
    with pytest.raises(NoSuchBranch, match="origin/testing"):
        history.last_touching("sites", "testing")


def test_flat_and_deep() -> None:
    made = tree()
    item = expand(made["sites"]["a"], "v")
    assert item["subresources"] == ["clusters", "servers"] and item["uid"] == "a" and item["version"] == "v"
    nodes = expand(made["sites"]["a"]["clusters"]["c"]["nodes"], "v")
    assert nodes["total"] == 3 and [node["uid"] for node in nodes["items"]] == ["c-1", "c-10", "c-2"]
    deep = expand_deep(made["sites"]["a"], "sites/a", "v")
    assert list(deep["items"]) == ["alpha", "clusters", "servers", "uid", "zeta"] and deep["total"] == 5
    assert [node["uid"] for node in deep["items"]["clusters"]["c"]["nodes"]] == ["c-1", "c-10", "c-2"]
    assert deep["items"]["servers"] == [{"uid": "s"}]
    assert [node["uid"] for node in expand_deep(made["sites"]["a"]["clusters"]["c"]["nodes"], "n", "v")["items"]] == [
        "c-1",
        "c-10",
        "c-2",
    ]


def test_deep_answers_are_kept_and_may_be_changed(history: Reference) -> None:
    one = history.deep(history.latest, "sites")
    one["links"] = []
    assert "links" not in history.deep(history.latest, "sites")


def test_the_labs_site_tells_the_truth_about_its_machines() -> None:
    hardware, network = NodeHardware(cores=3, memory=2 * 2**30, disk=8 * 10**9), SiteNetwork()
    reference = lab_site(5, hardware, network)
    nodes = reference.nodes("lab")
    assert [node["uid"] for node in nodes] == [f"vm-{number}" for number in range(1, 6)]
    for number, node in enumerate(nodes, 1):
        assert node["architecture"]["nb_cores"] == 3
        assert node["main_memory"]["ram_size"] == 2 * 2**30
        assert node["storage_devices"][0]["size"] == 8 * 10**9
        card = node["network_adapters"][0]
        assert card["ip"] == network.node(number) and card["mac"] == network.mac(number)
        assert node["kavlan"]["eth0"]["kavlan-4"] == network.node_in(4, number)
        assert node["supported_job_types"]["queues"] == ["admin", "default"]


def test_addresses_stay_in_their_networks_and_apart() -> None:
    network = SiteNetwork()
    seen = set()
    for vlan in range(1, 11):
        for number in (1, 40):
            address = ipaddress.ip_address(network.node_in(vlan, number))
            assert address in network.vlan(vlan) and address not in seen
            seen.add(address)
    assert len({network.mac(number) for number in range(1, 600)}) == 599
    subnets = network.subnet_list()
    assert subnets[:2] == ["10.188.0.0/22", "10.188.4.0/22"] and subnets[-1] == "10.190.252.0/22"
    assert len(subnets) == 192  # three of the four /16 networks
    assert len({network.network6(vlan) for vlan in (None, *range(1, 11))}) == 11


def test_the_labs_site_has_what_clients_look_for_around_the_nodes() -> None:
    """Name server, IPv6 numbers, the router's VLANs, the way between the sites: EnOSlib and execo read all of them."""
    reference, network = lab_site(2, NodeHardware(more_cards=1)), SiteNetwork()
    site = reference.document("sites/lab/lab")
    assert site and site["ipv6"] == {"prefix": "2001:660:4406:100::/56", "site_index": 1, "site_global_kavlan": 10}
    assert site["kavlans"]["1"]["network_ipv6"] == "2001:660:4406:180::/64"
    assert site["kavlans"]["4"]["network_ipv6"] == "2001:660:4406:190::/64"
    assert site["kavlans"]["10"]["network_ipv6"] == "2001:660:4406:1a0::/64"
    dns = reference.document("sites/lab/servers/dns")
    assert dns and dns["network_adapters"]["default"]["ip"] == network.gateway
    router = reference.document("sites/lab/network_equipments/gw")
    assert router and router["vlans"]["vlan704"] == {"name": "kavlan-4", "addresses": ["10.56.0.0/18"]}
    plugged = [port["uid"] for port in router["linecards"][1]["ports"] if port]
    assert plugged == ["vm-1", "vm-1", "vm-2", "vm-2", "renater-hub"]
    first, second = reference.nodes("lab")[0]["network_adapters"]
    assert first["mounted"] and not second["mounted"]
    assert [card["ip6"] for card in (first, second)] == ["2001:660:4406:100:1::1", "2001:660:4406:100:1:1:0:1"]
    assert second["name"] == "ens4" and second["ip"] == network.node(101) and second["mac"] == network.mac(101)
    assert interfaces(reference, "lab") == [
        f"vm-{number}{card}.lab.grid5000.fr" for number in (1, 2) for card in ("", "-eth1")
    ]


def test_the_big_world_is_as_big_as_the_real_one_and_always_the_same() -> None:
    world = big_world()
    nodes = [node for site in world.sites() for node in world.nodes(site)]
    assert len(nodes) == 939 and len(world.sites()) == 11
    assert len({(node["network_adapters"][0]["network_address"]) for node in nodes}) == 939
    assert {queue for node in nodes for queue in node["supported_job_types"]["queues"]} >= {
        "default",
        "abaca",
        "testing",
    }
    assert any(node["exotic"] for node in nodes) and any("gpu_devices" in node for node in nodes)
    assert {node["architecture"]["platform_type"] for node in nodes} == {"x86_64", "aarch64"}
    assert big_world().latest.oid == world.latest.oid


def test_resources_for_the_scheduler() -> None:
    network = SiteNetwork()
    found = resources(lab_site(2, NodeHardware(cores=2), network), "lab", network)
    cores = [one for one in found if one.type == "default"]
    assert [(one.address, one.properties["cpuset"]) for one in cores] == [
        ("vm-1.lab.grid5000.fr", 0),
        ("vm-1.lab.grid5000.fr", 1),
        ("vm-2.lab.grid5000.fr", 0),
        ("vm-2.lab.grid5000.fr", 1),
    ]
    assert {one.type for one in found} == {"default", "kavlan", "kavlan-local", "kavlan-global", "subnet"}
    assert len({one.id for one in found}) == len(found)


def archive(folder: Path, name: str, documents: dict[str, Any]) -> Path:
    root = folder / "repository" / "data" / "grid5000"
    for path, document in documents.items():
        file = root / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
    made = folder / name
    with tarfile.open(made, "w:xz" if name.endswith("xz") else "w") as tar:
        tar.add(folder / "repository", arcname="reference-repository-1")
    return made


def test_archives_and_folders_are_read_alike(tmp_path: Path) -> None:
    documents = {"grid5000": {"uid": "grid5000"}, "sites/x/x": {"uid": "x"}, "sites/x/clusters/c/c": {"uid": "c"},
                 "sites/x/clusters/c/nodes/c-1": {"uid": "c-1"}}  # fmt: skip
    packed = load(archive(tmp_path, "data.tar.xz", documents), now=1000)
    unpacked = load(tmp_path / "repository", now=1000)
    assert packed.latest.oid == unpacked.latest.oid
    assert [node["uid"] for node in packed.nodes("x")] == ["c-1"]


def test_real_data_beside_the_labs_own_site() -> None:
    both = beside(lab_site(2), big_world(40, 3))
    assert set(both.sites()) == {"lab", "site1", "site2", "site3"}
    assert sum(len(both.nodes(site)) for site in both.sites()) == 42
    assert "vm" in both.document("accesses/nodesets")


def test_sites_of_reference_data_alone_are_free_and_take_nothing() -> None:
    both = beside(lab_site(2), big_world(40, 3))
    schedulers = compose.others(both)
    assert set(schedulers) == {"site1", "site2", "site3"}
    site = schedulers["site1"]
    nodes = {one.address for one in site.resources() if one.type == "default"}
    assert len(nodes) == len(both.nodes("site1")) and site.current() == () and site.jobs(Query()).total == 0
    with pytest.raises(Refused, match="boots none of them"):
        site.submit("jdoe", {"script": "sleep 1"})


def test_sites_of_reference_data_alone_have_the_vlans_and_subnets_of_their_documents() -> None:
    both = beside(lab_site(2), big_world(40, 3))
    schedulers = compose.others(both)
    resources = schedulers["site2"].resources()
    assert {one.properties["vlan"] for one in resources if one.type == "kavlan-global"} == {"11"}
    assert next(one.properties["subnet_address"] for one in resources if one.type == "subnet") == "10.132.0.0"
    kavlan = compose.kavlans_of(both, schedulers)["site2"]
    assert {vlan.uid: vlan.type for vlan in kavlan.vlans if vlan.type.startswith(("kavlan-g", "kavlan-r"))} == {
        "11": "kavlan-global",
        "10": "kavlan-remote",
        "12": "kavlan-remote",
    }
    assert set(kavlan.inside("DEFAULT")) == {f"{node['uid']}.site2.grid5000.fr" for node in both.nodes("site2")}
    assert SiteNetwork.described({"uid": "untold"}) == SiteNetwork()


def test_the_settings_name_the_data(tmp_path: Path) -> None:
    documents = {"sites/x/x": {"uid": "x"}, "sites/x/clusters/c/c": {"uid": "c"}}
    made = archive(tmp_path, "data.tar", documents)
    assert set(compose.data_of(Settings(reference=str(made))).sites()) == {"lab", "x"}
    assert compose.data_of(Settings(nodes=3)).sites() == ["lab"]


def test_an_archive_behind_a_url(tmp_path: Path) -> None:
    made = archive(tmp_path, "data.tar.xz", {"sites/x/x": {"uid": "x"}})

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        known = environ["PATH_INFO"] == "/data.tar.xz"
        start_response("200 OK" if known else "404 Not Found", [("Content-Type", "application/octet-stream")])
        return [made.read_bytes()] if known else [b"nothing here"]

    deadline = Deadline.after(60, "the reference data")
    with Server(app) as server:
        assert load_any(f"{server.url}/data.tar.xz", deadline).sites() == ["x"]
        with pytest.raises(Problem, match="404"):
            load_any(f"{server.url}/other.tar.xz", deadline)


def test_an_archive_without_reference_data_is_a_problem(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="holds no reference data"):
        load(archive(tmp_path, "data.tar", {"other/x": {}}))
    (tmp_path / "broken").write_bytes(b"no archive")
    with pytest.raises(Problem, match="cannot be read"):
        load(tmp_path / "broken")


def test_an_id_that_comes_from_the_content() -> None:
    assert commit(tree(), 1, "m").oid == commit(tree(), 2, "n").oid != commit(tree(**{"sites/z/z": {}}), 1, "m").oid


SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "grid5000-reference.tar.xz"


@pytest.mark.skipif(not SHARED.is_file(), reason="needs ../shared: the real reference data")
def test_the_real_reference_data() -> None:
    real = load(SHARED)
    assert sum(len(real.nodes(site)) for site in real.sites()) == 939
    deep = real.deep(real.latest, "")
    assert set(deep["items"]) >= {"accesses", "sites", "uid"}


def test_jobs_of_a_file_stand_on_the_site_that_has_their_nodes(tmp_path: Path) -> None:
    both = beside(lab_site(2), big_world(40, 3))
    node = str(both.nodes("site2")[0]["uid"])
    common = {
        "user": "jdoe", "name": None, "queue": "default", "types": [], "walltime": 3600, "stop": 0, "project": "p",
        "command": "sleep 1", "message": "", "exit_code": None, "reservation": "None", "events": [["A", "b"]],
        "job_type": "PASSIVE", "properties": "",
    }  # fmt: skip
    running = {"job_id": 7, "state": "Running", "resources": [f"{node}[0:1]", "v4"], "start": -60, "assigned": True}
    waiting = {"job_id": 8, "state": "Waiting", "resources": [node], "start": 0, "assigned": False, "alternatives": 2}
    file = tmp_path / "jobs.json"
    jobs = [{**common, **running, "predicted_start": -60}, {**common, **waiting, "predicted_start": 3600}]
    file.write_text(json.dumps({"jobs": jobs}))
    site = compose.others(both, str(file))["site2"]
    found = site.job(7)
    assert found and found.nodes == (f"{node}.site2.grid5000.fr",)
    assert [one.type for one in found.assigned] == ["default", "kavlan"]
    assert time.time() - 90 < found.started_at < time.time() - 30 and found.events[0].type == "A"
    assert site.jobs(Query()).total == 3 and site.jobs(Query(states=["Running"])).jobs == (found,)
    assert [job.id for job in site.current()] == [7, 8, 8] and site.jobs(Query(limit=1, offset=2)).jobs[0].id == 7
    with pytest.raises(Refused):
        site.submit("jdoe", {"script": "sleep 1"})


def test_a_job_of_a_file_need_not_say_everything(tmp_path: Path) -> None:
    both = beside(lab_site(2), big_world(40, 3))
    node = str(both.nodes("site2")[0]["uid"])
    file = tmp_path / "jobs.json"
    running = {"job_id": 7, "user": "asmith", "state": "Running", "resources": [node], "start": -1800}
    file.write_text(json.dumps({"jobs": [running, {"job_id": 8, "state": "Waiting", "resources": [node]}]}))
    site = compose.others(both, str(file))["site2"]
    found, waiting = site.job(7), site.job(8)
    assert found and (found.user, found.walltime, found.nodes) == ("asmith", 3600, (f"{node}.site2.grid5000.fr",))
    assert waiting and not waiting.assigned and waiting.scheduled_at is None


def test_a_file_of_jobs_that_cannot_be_used_is_a_problem(tmp_path: Path) -> None:
    file, both = tmp_path / "jobs.json", beside(lab_site(2), big_world(40, 3))
    for content, words in (("no", "cannot be read"), ('{"jobs": [{"job_id": 1, "resources": ["x-1"]}]}', "no site")):
        file.write_text(content)
        with pytest.raises(Problem, match=words):
            compose.others(both, str(file))
    node = str(both.nodes("site2")[0]["uid"])
    file.write_text(json.dumps({"jobs": [{"job_id": 1, "resources": [node]}]}))
    with pytest.raises(Problem, match="job 1 of the file of jobs lacks something") as caught:
        compose.others(both, str(file))
    assert caught.value.cause == "it has no state"
    file.write_text(json.dumps({"jobs": [{"job_id": 1, "resources": [node], "state": "Running", "start": "soon"}]}))
    with pytest.raises(Problem, match="job 1 of the file of jobs is no job"):
        compose.others(both, str(file))
    with pytest.raises(Problem, match="reference data"):
        Settings(jobs=str(file)).check()
