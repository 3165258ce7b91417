"""Two whole sites without their nodes: real namespaces, sshd, dnsmasq, web servers and commands."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.fetch import over_http
from g5kdeploy.lab.kaenv import Environments, environment
from g5kdeploy.lab.kaenv_command import Kaenv
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import images, postinstall
from g5kdeploy.lab.site.grid import Grid
from g5kdeploy.lab.site.names import LAB, SITES, Names
from g5kdeploy.lab.site.namespace import missing
from g5kdeploy.lab.site.nodes import Node
from g5kdeploy.lab.site.site import ACCESS, FRONTEND, Site
from tests.integration.conftest import Run, no_environment

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(missing(True)), reason=f"needs root and namespaces: {missing(True)}"
)

WEST = SITES[1]


def test_gateway_and_frontend_let_the_user_in(run: Run) -> None:
    for host in ("access.grid5000.fr", "flab.grid5000.fr", "frontend.lab.grid5000.fr", "lab"):
        done = run(host, "id -un; pwd; hostname")
        assert done.stdout.split() == ["jdoe", "/home/jdoe", "flab"], done.stderr


def test_the_frontend_resolves_the_sites_names(run: Run) -> None:
    done = run("flab", "getent hosts vm-2.lab.grid5000.fr public.lab.grid5000.fr vm-1-kavlan-4")
    found = [line.split()[0] for line in done.stdout.splitlines()]
    assert found == [LAB.node_ip(2), LAB.public_ip, LAB.node_ip(1, 4)]


def test_names_are_served_to_nodes_too(site: Site) -> None:
    code = (
        "import socket,struct,sys\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.settimeout(20)\n"
        "q=b'\\x00\\x01\\x01\\x00\\x00\\x01'+bytes(6)"
        "+b''.join(bytes([len(p)])+p.encode() for p in sys.argv[1].split('.'))+b'\\0\\0\\1\\0\\1'\n"
        f"s.sendto(q,('{LAB.gateway()}',53)); print(socket.inet_ntoa(s.recv(512)[-4:]))"
    )
    words = ["python3", "-c", code, "vm-1.lab.grid5000.fr"]
    assert site.namespace.run(words, Deadline.after(60, "a name")).stdout.strip() == LAB.node_ip(1)


def test_files_go_to_the_public_folder_and_come_over_http(run: Run, site: Site, tmp_path: Path) -> None:
    content = tmp_path / "content"
    content.write_bytes(os.urandom(3_000_000))
    done = run("flab", "", program="sftp", input=f"put {content} public/content\n")
    assert done.returncode == 0, done.stderr
    url = f"http://{LAB.public}/~jdoe/content"
    assert run("flab", f"curl -fsS {url} | cmp - public/content").returncode == 0
    kept = tmp_path / "kept"
    site.download(url, kept, Deadline.after(60, "a download"))
    assert kept.read_bytes() == content.read_bytes()
    with pytest.raises(Problem, match="cannot be fetched"):
        site.download(f"{url}x", kept, Deadline.after(60, "a download"))


def test_parallel_readers_are_served(run: Run) -> None:
    readers = " & ".join(["curl -fsS http://public.lab.grid5000.fr/~jdoe/many -o /dev/null || echo lost"] * 16)
    done = run("flab", f"head -c 5000000 /dev/urandom > public/many; {readers} & wait")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_strangers_stay_outside(grid: Grid, tmp_path: Path) -> None:
    key, door = tmp_path / "key", grid.address(ACCESS)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True, timeout=60)
    for user in ("jdoe", "root"):
        words = ["ssh", "-F", "none", "-i", key, "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
        words += ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
        words += ["-p", str(door.port), f"{user}@{door.host}", "id"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 255 and "Permission denied" in done.stderr


@pytest.mark.parametrize("where", ["lab", "west"])
def test_host_keys_are_known_beforehand(grid: Grid, site: Site, where: str) -> None:
    known, door = site.places.home / ".ssh" / "known_hosts", grid.address(FRONTEND, where)
    words = ["ssh", "-F", "none", "-i", site.places.home / ".ssh" / "id_ed25519", "-o", "StrictHostKeyChecking=yes"]
    words += ["-o", f"UserKnownHostsFile={known}", "-o", "BatchMode=yes", "-p", str(door.port)]
    done = subprocess.run(
        [*words, f"jdoe@{door.host}", "hostname"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.stdout == f"f{where}\n", done.stderr


def test_the_frontends_commands_answer(run: Run, site: Site) -> None:
    node = site.nodes[LAB.node(1)]
    node.console.parent.mkdir(parents=True, exist_ok=True)
    node.console.write_text("Linux version 6\nlogin:\n")
    assert run("flab", "kaconsole3 -m vm-1").stdout == "Linux version 6\nlogin:\n"
    assert run("flab", "kaconsole3 -m vm-1 --from 16").stdout == "login:\n"
    assert run("flab", "kapower3 --status -m vm-1.lab.grid5000.fr").stdout == "vm-1.lab.grid5000.fr: off\n"
    wrong = run("flab", "kapower3 --status -m vm-9")
    assert wrong.returncode == 1 and "no such node" in wrong.stderr
    empty = run("flab", "kapower3 --on -m vm-2")
    assert empty.returncode == 1 and "nothing to boot" in empty.stderr


def test_environments_are_registered_on_the_frontend(run: Run, site: Site) -> None:
    known = Environments([environment("debian12-min", next(iter(images.SITES_IMAGES)))])
    site.commands.others["kaenv"] = Kaenv(known, "jdoe", over_http, lambda url: images.unreachable(site, url))
    described = {
        "name": "own",
        "os": "linux",
        "image": {"file": f"http://{LAB.public}/~jdoe/own.tgz", "kind": "tar", "compression": "gzip"},
        "boot": {"kernel": "/vmlinuz"},
        "filesystem": "ext4",
    }
    written = run("flab", "cat > own.yaml; kaenv3 -a own.yaml", input=yaml.safe_dump(described))
    assert written.returncode == 1 and "Unable to grab the file" in written.stderr and "404" in written.stderr
    done = run("flab", "mkdir -p public && touch public/own.tgz && kaenv3 -a own.yaml && kaenv3 -l && kaenv3 -p own")
    listed, _, printed = done.stdout.partition("---\n")
    assert [line.split()[0] for line in listed.splitlines()[2:]] == ["debian12-min", "own"], done.stderr
    assert yaml.safe_load(printed)["image"] == described["image"]
    assert known.find("own", "jdoe", "jdoe") is not None
    done = run("flab", "kaenv3 -d own; kaenv3 -a none.yaml")
    assert done.returncode == 1 and "Unable to grab the file none.yaml" in done.stderr
    assert known.find("own", "jdoe", "jdoe") is None


def test_post_installations_are_fetched_and_run_on_the_node(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public = site.homes / "jdoe" / "public"
    (tmp_path / "run").write_text("#!/bin/sh\n")
    subprocess.run(["tar", "-C", tmp_path, "-czf", public / "post.tgz", "run"], check=True, timeout=60)
    web = f"http://{LAB.public}/~jdoe"
    given = {"archive": f"{web}/post.tgz", "compression": "gzip", "script": "run --now"}
    described = {
        "name": "own",
        "os": "linux",
        "image": {"kind": "tar"},
        "boot": {"kernel": "/vmlinuz"},
        "postinstalls": [{**given, "archive": postinstall.SITES_OWN}, given, {**given, "script": "none"}],
    }
    limit = Deadline.after(120, "post-installations")
    installs = postinstall.fetched(described, site, tmp_path, limit)
    assert [one.script for one in installs] == ["run --now", ""]
    with tarfile.open(installs[0].archive, "r:") as archive:
        assert archive.getnames() == ["run"]
    assert postinstall.fetched({**described, "image": {"kind": "dd"}}, site, tmp_path, limit) == []
    for wrong, words in (
        ({"archive": "local:///post.tgz"}, "cannot be reached"),
        ({"archive": f"{web}/gone.tgz"}, "cannot be fetched"),
        ({"compression": "xz"}, "cannot be unpacked"),
    ):
        with pytest.raises(Problem, match=words):
            postinstall.fetched({**described, "postinstalls": [{**given, **wrong}]}, site, tmp_path, limit)

    commands: list[str] = []
    status = 0

    def manage(node: Node, command: str, deadline: Deadline, input: bytes = b"", *, check: bool = True) -> process.Done:
        commands.append(command)
        return process.Done(("ssh",), status if "--now" in command else 0, "", "no such thing\n", 0.0)

    monkeypatch.setattr(site, "boot_standard", lambda node, deadline: None)
    monkeypatch.setattr(site, "manage", manage)
    node = site.nodes[LAB.node(1)]
    postinstall.run(installs, described, site, node, limit)
    mounted, first, second, unmounted = commands
    assert "mount PARTLABEL=KDPL_DEPLOY_disk0 /mnt/dest" in mounted and unmounted.startswith("umount")
    assert "KADEPLOY_ENV=own" in first and "KADEPLOY_ENV_KERNEL=/vmlinuz" in first and "/rambin/run --now" in first
    assert second == "tar -C /rambin -xf -"
    status = 3
    with pytest.raises(Problem, match="the post-installation run --now failed") as caught:
        postinstall.run(installs, described, site, node, limit)
    assert "no such thing" in str(caught.value.cause)


def test_a_console_that_is_followed_ends_with_its_reader(run: Run, site: Site) -> None:
    node = site.nodes[LAB.node(1)]
    node.console.parent.mkdir(parents=True, exist_ok=True)
    node.console.write_text("begin\n")
    done = run("flab", "kaconsole3 -f -m vm-1 | head -1")
    assert done.stdout == "begin\n"


def test_nodes_move_between_bridges(site: Site) -> None:
    def where(tap: str) -> str:
        return site.namespace.run(["ip", "-o", "link", "show", tap], Deadline.after(60, "a link")).stdout

    assert "master production" in where("vm-2")
    site.network.move(2, 4)
    assert "master kavlan4" in where("vm-2")
    site.network.dhcp(4, False)
    site.network.dhcp(4, True)
    site.network.move(2, None)
    assert "master production" in where("vm-2")


def test_a_job_without_an_environment_gets_no_node(site: Site) -> None:
    assert site.open_for([LAB.node(1)], "jdoe") == [LAB.node(1)]
    site.close_for([LAB.node(1)], "jdoe", deployed=True)


def test_each_site_has_a_frontend_with_a_home_of_its_own(run: Run) -> None:
    for host, name in (("fwest.west.grid5000.fr", "fwest"), ("west", "fwest"), ("flab", "flab")):
        done = run(host, "hostname; echo $(hostname) > own; getent hosts frontend | cut -d ' ' -f 1")
        assert done.stdout.split() == [name, (WEST if name == "fwest" else LAB).frontend_ip], done.stderr
    assert run("flab", "cat own").stdout == "flab\n"
    assert run("access.grid5000.fr", "cat lab/own west/own").stdout == "flab\nfwest\n"


def test_names_of_all_sites_are_known_on_all(run: Run) -> None:
    asked = f"getent hosts {LAB.node(2)} {WEST.node(2)} {WEST.public} vm-1 westa-1"
    wanted = [LAB.node_ip(2), WEST.node_ip(2), WEST.public_ip, LAB.node_ip(1), WEST.node_ip(1)]
    for host in ("flab", "fwest"):
        assert [line.split()[0] for line in run(host, asked).stdout.splitlines()] == wanted


def test_sites_reach_each_other_by_routing(run: Run) -> None:
    for host, other, site in (("flab", "fwest", WEST), ("fwest", "flab", LAB)):
        made = run(other, "echo $(hostname) > public/where")
        assert made.returncode == 0, made.stderr
        assert run(host, f"curl -fsS http://{site.public}/~jdoe/where").stdout == f"{other}\n"
        # The keys of a user's homes open his frontends, as on the real sites; a machine is seen under its own address
        seen = run(host, f"ssh {other} 'echo $SSH_CONNECTION'").stdout.split()
        assert seen[::2] == [(LAB if host == "flab" else WEST).frontend_ip, site.frontend_ip]
    assert run("fwest", "ip route get 172.16.64.1 | head -1").stdout.startswith(f"172.16.64.1 via {WEST.line[0]} ")


PROBE = """
import os, socket, subprocess, sys
print(os.getpid(), flush=True)
sys.stdin.readline()
subprocess.run(["ip", "-batch", "-"], input=sys.argv[1], text=True, check=True)
if sys.argv[2] == "listen":
    server = socket.create_server(("", 7777))
    print("listening", flush=True)
    print(server.accept()[1][0])
else:
    socket.create_connection((sys.argv[2], 7777), 60)
"""


@contextlib.contextmanager
def _plugged_in(site: Site, number: int, talk: str) -> Iterator[subprocess.Popen[str]]:
    """A machine in the place of a node: it has its network card, its address and its router, and listens, or connects."""
    own, deadline = site.names, Deadline.after(120, "a machine on the network")
    batch = [
        f"link set eth0 address {own.node_mac(number)} up",
        f"address add {own.node_ip(number)}/{own.net().prefixlen} dev eth0",
        f"route add default via {own.gateway()}",
    ]
    words = [*site.namespace.enter(), "unshare", "--net", sys.executable, "-c", PROBE, "\n".join(batch), talk]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as machine:
        try:
            assert machine.stdin and machine.stdout
            pid = machine.stdout.readline().strip()
            plug = f"link add plug{number} type veth peer name eth0 netns {pid}\nlink set plug{number} master production up\n"
            site.namespace.run(["ip", "-batch", "-"], deadline, input=plug)
            machine.stdin.write("go\n")
            machine.stdin.flush()
            yield machine
        finally:
            machine.kill()


@pytest.mark.parametrize(("here", "there"), [("lab", "west"), ("west", "lab")])
def test_nodes_of_one_site_reach_those_of_the_other(grid: Grid, here: str, there: str) -> None:
    with _plugged_in(grid.sites[there], 1, "listen") as server:
        assert server.stdout and server.stdout.readline() == "listening\n"
        with _plugged_in(grid.sites[here], 2, grid.sites[there].names.node_ip(1)) as client:
            assert client.wait(120) == 0
        assert server.stdout.readline().strip() == grid.sites[here].names.node_ip(2), "under its own address"


def test_a_site_has_the_nodes_of_its_own(grid: Grid, run: Run) -> None:
    west = grid.sites["west"]
    assert list(west.nodes) == [WEST.node(1), WEST.node(2)] and set(west.nodes) < set(grid.nodes)
    assert run("fwest", "kapower3 --status -m westa-1").stdout == "westa-1: off\n"
    assert run("fwest", "kapower3 --status -m vm-1").returncode == 1
    west.network.move(1, 4)
    where = west.namespace.run(["ip", "-o", "link", "show", "westa-1"], Deadline.after(60, "a link")).stdout
    assert "master kavlan4" in where
    west.network.move(1, None)


@pytest.mark.parametrize("owner", [LAB, WEST], ids=lambda site: site.site)
def test_a_global_vlan_is_one_network_on_all_sites(grid: Grid, owner: Names) -> None:
    """A node is moved into it on the site that it does not come from: from there its router is next door."""
    other = grid.sites["west" if owner == LAB else "lab"]
    vlan, deadline = owner.network.own_global, Deadline.after(120, "a global VLAN")
    other.network.move(1, vlan)
    other.network.move(2, vlan)
    address = f"{other.names.node_ip(1, vlan)}/{owner.net(vlan).prefixlen}"
    other.namespace.run(["ip", "address", "add", address, "dev", f"kavlan{vlan}"], deadline)
    route = other.namespace.run(["ip", "route", "get", owner.gateway(vlan)], deadline).stdout
    assert " via " not in route and f"dev kavlan{vlan} " in route
    reach = f"import socket; socket.create_connection(('{owner.gateway(vlan)}', 53), 60)"
    other.namespace.run(["python3", "-c", reach], deadline)
    for number in (1, 2):
        other.network.move(number, None)


def test_nothing_of_stopped_sites_is_left(hosts: Path, tmp_path: Path) -> None:
    made = Grid(Settings(nodes=1, sites=1), Places(tmp_path / "lab"), no_environment)
    before = hosts.read_text()
    made.start(Deadline.after(240, "the sites"))
    holders = [site.namespace._pid for site in made.sites.values()]
    for site in made.sites.values():
        inside = site.namespace.run(["ss", "-lntH"], Deadline.after(60, "sockets")).stdout
        assert f"{site.names.public_ip}:80" in inside
    made.stop()
    assert not any(Path(f"/proc/{holder}").exists() for holder in holders)
    assert hosts.read_text() == before
    made.stop()  # a second time does no harm
