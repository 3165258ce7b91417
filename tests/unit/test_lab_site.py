"""The site's names, files and archives, without namespaces."""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import mailbox
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from g5kdeploy.base import cpio, files, process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab import compose, control
from g5kdeploy.lab.oar.notices import Notice
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import disk, home, jobs, jobscript, names, network, ssh, standard, web
from g5kdeploy.lab.site.images import _link, _long_link
from g5kdeploy.lab.site.names import LAB, SITES

WEST = SITES[1]


def test_names_of_nodes() -> None:
    assert LAB.node(1) == "vm-1.lab.grid5000.fr"
    assert WEST.node(1) == "westa-1.west.grid5000.fr"
    assert LAB.number("vm-12.lab.grid5000.fr") == LAB.number("vm-12") == 12
    for wrong in ("vm-0", "vm-01", "vm-1.other.grid5000.fr", "x-1", "", "vm-1-kavlan-4", "westa-1.west.grid5000.fr"):
        with pytest.raises(ValueError, match=wrong or "^$"):
            LAB.number(wrong)


def test_addresses_are_those_of_the_reference_data() -> None:
    data = compose.data_of(Settings(nodes=3, sites=len(SITES) - 1))
    for site in SITES:
        node = data.nodes(site.site)[1]
        card = node["network_adapters"][0]
        number = site.number(node["uid"])
        assert (card["ip"], card["mac"]) == (site.node_ip(number), site.node_mac(number))
        assert node["kavlan"]["eth0"]["kavlan-4"] == site.node_ip(number, 4)
        assert data.document(f"sites/{site.site}/{site.site}")["frontend_ip"] == site.frontend_ip


def test_no_site_has_the_network_of_another() -> None:
    nets = [net for site in SITES for net in (site.net(), ipaddress.ip_network(site.network.routed_vlans))]
    nets += [ipaddress.ip_network(site.network.subnets) for site in SITES]
    nets += [ipaddress.ip_network(f"{end}/32") for site in SITES for end in site.line]
    assert not [(one, two) for one, two in itertools.combinations(nets, 2) if one.overlaps(two)]
    every = [(site, number) for site in SITES for number in range(1, 65)]
    assert len({site.node_mac(number) for site, number in every}) == len(every)
    for owner in SITES:  # whose global VLAN has nodes of all of them
        vlan = owner.network.own_global
        found = {site.node_ip(number, vlan) for site, number in every} | {owner.gateway(vlan)}
        assert len(found) == len(every) + 1
        assert all(ipaddress.ip_address(address) in owner.net(vlan) for address in found)


@pytest.mark.parametrize("own", SITES, ids=lambda site: site.site)
def test_every_name_is_in_the_hosts_file_once(own: names.Names) -> None:
    lines = names.hosts(own, SITES, 2).splitlines()
    known = [name for line in lines for name in line.split()[1:]]
    assert len(known) == len(set(known))
    assert {"vm-2.lab.grid5000.fr", "public.lab.grid5000.fr", "vm-1-kavlan-4.lab.grid5000.fr"} <= set(known)
    assert {"westa-2.west.grid5000.fr", "westa-2", "public.west.grid5000.fr", "fwest"} <= set(known)
    assert {"westa-2-kavlan-10.west.grid5000.fr", "vm-2-kavlan-11.lab.grid5000.fr"} <= set(known)
    (frontend,) = [line for line in lines if "frontend" in line.split()]
    assert frontend.startswith(f"{own.frontend_ip} {own.frontend} ")


def test_dnsmasq_knows_each_node(tmp_path: Path) -> None:
    text = network.dnsmasq_configuration(LAB, tmp_path, 2)
    assert f"dhcp-host={LAB.node_mac(2)},{LAB.node_ip(2)},vm-2,12h" in text
    assert "interface=production" in text
    vlan = network.dnsmasq_configuration(LAB, tmp_path, 2, 4)
    assert f"{LAB.node_ip(1, 4)},vm-1-kavlan-4" in vlan and "interface=kavlan4" in vlan
    everywhere = network.dnsmasq_configuration(LAB, tmp_path, 2, 10, (LAB, WEST))
    assert f"dhcp-host={WEST.node_mac(2)},{WEST.node_ip(2, 10)},westa-2-kavlan-10,12h" in everywhere


def test_dnsmasq_takes_its_configuration(tmp_path: Path) -> None:
    files.write(tmp_path / "hosts", names.hosts(WEST, SITES, 2))
    files.write(tmp_path / "conf", network.dnsmasq_configuration(WEST, tmp_path, 2))
    done = subprocess.run(["dnsmasq", "--test", "-C", tmp_path / "conf"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_ssh_settings_lead_through_the_gateway(tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(home.ssh_config(tmp_path, "jdoe", ssh.Address("127.1.2.1", 2201), (LAB, WEST)))

    def ask(host: str) -> dict[str, str]:
        done = subprocess.run(["ssh", "-G", "-F", config, host], capture_output=True, text=True, timeout=60, check=True)
        return dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)

    gateway = ask("access.grid5000.fr")
    assert (gateway["hostname"], gateway["port"], gateway["user"]) == ("127.1.2.1", "2201", "jdoe")
    assert gateway.get("proxyjump", "none") == "none"
    frontends = ("flab.grid5000.fr", "lab", "frontend.lab.grid5000.fr", "fwest.west.grid5000.fr", "west")
    for host in (*frontends, "vm-1.lab.grid5000.fr", "vm-2", "westa-1.west.grid5000.fr", "westa-1"):
        assert ask(host)["proxyjump"] == "access.grid5000.fr"
    for node in ("vm-1.lab.grid5000.fr", "westa-1.west.grid5000.fr"):
        assert ask(node)["stricthostkeychecking"] in ("false", "no")
    assert ask("lab.grid5000.fr")["stricthostkeychecking"] not in ("false", "no")


def _machines(prefix: str, port: int = 22) -> list[home.Machine]:
    """A gateway and a frontend."""
    access, frontend = ssh.Address(f"{prefix}.1", port), ssh.Address(f"{prefix}.2", 22)
    return [
        home.Machine((names.ACCESS,), access, LAB.access_ip, "ssh-ed25519 AAAA access"),
        home.Machine(LAB.frontend_names, frontend, LAB.frontend_ip, "ssh-ed25519 BBBB frontend"),
    ]


def test_known_hosts_has_outside_names_with_their_port() -> None:
    text = home.known_hosts(_machines("127.1.2", 2201))
    assert "[127.1.2.1]:2201 ssh-ed25519 AAAA\n" in text and ",127.1.2.2 ssh-ed25519 BBBB\n" in text


def test_etc_hosts_gets_and_loses_one_block(tmp_path: Path) -> None:
    file, folder = tmp_path / "hosts", tmp_path / "lab"
    folder.mkdir()
    before = b"127.0.0.1 localhost\r\n# caf\xe9"  # whatever else is in it stays as it is
    file.write_bytes(before)
    block = home.hosts_block(folder, _machines("127.1.2"))
    assert home.write_hosts(block, file) and home.write_hosts(block, file)
    assert file.read_bytes() == before + b"\n" + block.encode()
    assert not home.write_hosts(block.replace("127.1.2.1", "127.9.9.9"), file)
    home.remove_hosts(block, file)
    assert file.read_bytes() == before + b"\n"
    assert not home.write_hosts(block, tmp_path / "absent")


def test_names_of_a_lab_that_was_killed_are_removed_and_those_of_a_running_one_stay(tmp_path: Path) -> None:
    file, alive = tmp_path / "hosts", tmp_path / "alive"
    gone = home.hosts_block(tmp_path / "gone", _machines("127.1.2"))
    stays = home.hosts_block(alive, _machines("127.3.2"))
    file.write_text("127.0.0.1 localhost\n" + gone + "10.0.0.1 mine\n" + stays)
    with files.lock(alive / "lock", "the lab"):
        home.remove_stale(file)
    assert file.read_text() == "127.0.0.1 localhost\n10.0.0.1 mine\n" + stays
    home.remove_stale(file)
    assert file.read_text() == "127.0.0.1 localhost\n10.0.0.1 mine\n"


def test_labs_have_addresses_of_their_own() -> None:
    found = [home.loopback(Path(folder), number) for folder in ("/a", "/b") for number in (1, 2, 3)]
    assert len(set(found)) == 6 and found[0] == home.loopback(Path("/a"), 1)
    assert all(address.startswith("127.") for address in found)


def test_the_handover_is_an_archive_that_cpio_reads(tmp_path: Path) -> None:
    entries = standard.handover(
        standard.identity(LAB, 1, "127.0.0.1 localhost\n", b"secret"), "jdoe", "ssh-ed25519 AAAA management"
    )
    done = subprocess.run(
        ["cpio", "-idm", "--quiet"], input=cpio.archive(entries), cwd=tmp_path, capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    key = tmp_path / "handover/etc/ssh/ssh_host_ed25519_key"
    assert key.read_bytes() == b"secret" and key.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "handover/etc/hostname").read_text() == "vm-1\n"
    wants = tmp_path / "handover/etc/systemd/system/multi-user.target.wants/lab-accounts.service"
    assert wants.is_symlink()
    for script in ("usr/local/sbin/lab-access", "usr/local/bin/sudo-g5k", "usr/local/sbin/lab-sudo"):
        subprocess.run(["sh", "-n", tmp_path / "handover" / script], check=True, timeout=60)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        (Settings(nodes=0), "1 to 64"),
        (Settings(nodes=65), "1 to 64"),
        (Settings(memory=64), "256"),
        (Settings(pace=0.5), "pace"),
        (Settings(cpus=0), "processor"),
        (Settings(sites=5), "up to 4 sites"),
    ],
)
def test_settings_that_no_lab_can_have(settings: Settings, word: str) -> None:
    with pytest.raises(Problem, match=word):
        settings.check()


def test_settings_are_kept_and_unknown_ones_ignored(tmp_path: Path) -> None:
    Settings(nodes=3).save(tmp_path / "s")
    assert Settings.load(tmp_path / "s") == Settings(nodes=3)
    files.write_json(tmp_path / "s", {"nodes": 4, "from_the_future": True})
    assert Settings.load(tmp_path / "s").nodes == 4
    assert Settings.load(tmp_path / "none") == Settings()


def test_without_a_lab_there_is_none(tmp_path: Path) -> None:
    places = Places(tmp_path / "lab")
    assert control.status(places) is None
    files.write_json(places.record, {"pid": 1})  # a number that another program has now
    assert control.status(places) is None
    files.write(places.record, "{")
    assert control.status(places) is None


def test_exports_can_be_read_by_a_shell(tmp_path: Path) -> None:
    record = {"home": str(tmp_path / "it's here"), "url": "http://127.0.0.1:1/stable", "user": "jdoe", "site": "lab"}
    script = control.exports(record) + 'printf %s "$LAB_HOME"'
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == record["home"]


def test_the_web_server_stays_in_public_folders(tmp_path: Path) -> None:
    from werkzeug.test import Client

    public = tmp_path / "jdoe" / "public"
    (public / "folder").mkdir(parents=True)
    (public / "x.narinfo").write_text("StorePath: x\n")
    (tmp_path / "jdoe" / "private").write_text("private")
    (tmp_path / "outside").write_text("outside")
    (public / "link").symlink_to(tmp_path / "outside")
    (public / "within").symlink_to("x.narinfo")
    client = Client(web.make_app(tmp_path))

    def ask(path: str, method: str = "GET", **headers: str) -> tuple[int, bytes, str]:
        with client.open(path, method=method, headers=headers) as answer:
            return answer.status_code, answer.get_data(), answer.headers["Content-Type"]

    status, body, kind = ask("/~jdoe/x.narinfo")
    assert (status, body) == (200, b"StorePath: x\n") and kind.startswith("text/x-nix-narinfo")
    assert ask("/~jdoe/within")[0] == 200
    assert ask("/~jdoe/x.narinfo", Range="bytes=0-4")[:2] == (206, b"Store")
    assert ask("/~jdoe/x.narinfo", "HEAD")[:2] == (200, b"")
    assert b"folder/" in ask("/~jdoe/")[1]
    for path in (
        "/~jdoe/../private",
        "/~jdoe/%2e%2e/private",
        "/~/x",
        "/jdoe/x",
        "/~nobody/x",
        "/~jdoe/none",
        "/~../x",
    ):
        assert ask(path)[0] == 404, path
    assert ask("/~jdoe/link")[0] == 403
    assert ask("/~jdoe/x.narinfo", "POST")[0] == 405


def test_links_in_images_are_read_from_debugfs() -> None:
    said = 'Inode: 13   Type: symlink    Mode:  0777\nFast link dest: "boot/vmlinuz-6.1"\n'
    assert _link(said) == "boot/vmlinuz-6.1"
    assert _link("Type: symlink") is None


def test_a_link_too_long_for_its_inode_is_read_from_its_block(tmp_path: Path) -> None:
    target = f"/nix/store/{'x' * 80}/bzImage"
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "kernel").symlink_to(target)
    image = tmp_path / "image"
    deadline = Deadline.after(60, "a filesystem")
    words = ["mke2fs", "-t", "ext4", "-q", "-F", "-d", tmp_path / "tree", image, "4M"]
    process.run(words, deadline)
    where = disk.Partition(image, 0, image.stat().st_size)
    assert _link(disk.debugfs(where, ["stat /kernel"], deadline)) is None
    assert _long_link(where, "/kernel", tmp_path / "link", deadline) == target


def _fake_job(folder: Path) -> Any:
    node = SimpleNamespace(id=1, type="default", address="vm-1.lab.grid5000.fr", properties={"core": 1})
    return SimpleNamespace(
        id=7, name="", directory=str(folder), assigned=[node], command="work", types=[], nodes=[node.address],
        script=None, user="jdoe", project="", walltime=60, queue="default", array=7, array_index=1,
        stdout_file="OAR.7.stdout", stderr_file="OAR.7.stderr",
    )  # fmt: skip


def _start_job(folder: Path, ssh: str) -> subprocess.Popen[bytes]:
    """A job's command on the frontend, with an `ssh` that is ours."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / "ssh").write_text(f"#!/bin/sh\n{ssh}\n")
    (folder / "bin" / "ssh").chmod(0o755)
    environ = {"PATH": f"{folder / 'bin'}:/usr/bin:/bin", "HOME": str(folder)}
    return subprocess.Popen(
        ["/bin/bash", "-c", jobscript.script(_fake_job(folder))], env=environ, start_new_session=True
    )


@pytest.mark.parametrize(("end", "seen"), [("exit 0", 0), ("exit 3", 3), ("exit 255", 1), ("kill -9 $$", -9)])
def test_a_jobs_command_ends_the_job_with_its_own_status(
    tmp_path: Path, end: str, seen: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What runs on the node comes on stdin; the last word of ssh is what to do there."""
    monkeypatch.setattr(jobscript, "there", lambda job: str(tmp_path / "there"))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "work").write_text(f"#!/bin/sh\ncat $OAR_NODEFILE; echo $$; {end}\n")
    (tmp_path / "bin" / "work").chmod(0o755)
    process = _start_job(tmp_path, 'for word; do :; done; exec bash -c "$word"')
    assert process.wait(60) == seen
    said, number = (tmp_path / "OAR.7.stdout").read_text(), (tmp_path / "there" / "pid").read_text()
    assert said == f"vm-1.lab.grid5000.fr\n{number}"  # signals are sent to that very process
    told = (tmp_path / "there" / "resources").read_text()
    assert told == " id = '1' , type = 'default' , network_address = 'vm-1.lab.grid5000.fr' , core = '1'\n"


def test_mails_that_come_together_all_arrive(tmp_path: Path) -> None:
    told = Notice(True, "jdoe@here", "END", "Job stopped normally.")
    site: Any = SimpleNamespace(folder=tmp_path, names=LAB)
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda number: jobs.tell(site, _fake_job(tmp_path), told), range(40))) == {""}
    with contextlib.closing(mailbox.mbox(tmp_path / "mail")) as box:
        assert [letter["Subject"] for letter in box] == ["*OAR* [END]: 7 () on lab"] * 40


def test_a_job_goes_on_when_its_node_leaves_its_kernel(tmp_path: Path) -> None:
    process = _start_job(tmp_path, "exit 255")
    try:
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
