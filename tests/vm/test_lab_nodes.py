"""One lab with two real nodes: a job in the standard environment, deployments that work and that do not, power, VLANs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.lab.site import disk
from g5kdeploy.lab.site.names import LAB
from g5kdeploy.lab.site.namespace import missing
from tests.support import foreign
from tests.support.images import tar_image
from tests.support.lab import CACHE, Lab, call

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(os.geteuid() != 0 or bool(missing(True)), reason=f"needs root and namespaces: {missing(True)}"),
]

WALLTIME = "0:50:0"
STANDING = "cat $OAR_NODEFILE; trap 'echo asked' USR1; while :; do sleep 2; done"


@dataclass
class Booted:
    """A lab with a job of each kind running, its deployment done."""

    lab: Lab
    standard_job: int
    standard: str
    deployed: str
    result: dict[str, dict[str, str]]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    home = tmp_path_factory.mktemp("lab")
    try:
        yield Lab.start(home, "--nodes", "2", "--sites", "1", "--memory", "768", "--pace", "60")
    finally:
        call(home, "lab", "stop")


@pytest.fixture(scope="module")
def booted(lab: Lab) -> Booted:
    """Both nodes boot at the same time: one for a job without deployment, one into an environment."""
    deploying = lab.submit(resources=f"nodes=1,walltime={WALLTIME}", types=["deploy"], name="deploying")
    (deployed,) = lab.wait_job(deploying, "running", "error")["assigned_nodes"]
    deployment = lab.deploy(nodes=[deployed], environment="debian12-min")
    standing = lab.submit(resources=f"nodes=1,walltime={WALLTIME}", name="standing", command=STANDING)
    result = lab.wait_deployment(deployment)
    job = lab.wait_job(standing, "running", "error", "terminated")
    (standard,) = job["assigned_nodes"]
    assert job["state"] == "running", lab.told(standard)
    return Booted(lab, standing, standard, deployed, result["result"])


def test_a_deployed_node_lets_root_in_with_the_given_key(booted: Booted) -> None:
    assert booted.result == {booted.deployed: {"macro": None, "micro": None, "state": "OK"}}
    done = booted.lab.ssh(
        f"root@{booted.deployed}",
        # The partition is formatted at the first boot, beside everything else: SSH may be there before it is.
        "id -un; hostname; findmnt -no PARTLABEL /nix; systemctl start scratch.mount; findmnt -n /scratch",
    )
    words = done.stdout.split()
    assert words[:2] == ["root", booted.deployed.partition(".")[0]], done.stderr
    assert "/scratch" in words and "ext4" in words
    refused = booted.lab.ssh(booted.deployed, "id")
    assert refused.returncode == 255 and "Permission denied" in refused.stderr


def test_clients_see_which_nodes_are_deployed(booted: Booted) -> None:
    """By the partition of the root, as EnOSlib and execo look for it; and Ansible finds a whole Python."""
    enoslib = "mount | grep -q '^/dev/.*3 on / '"
    execo = "! (mount | grep -E '^/dev/[[:alpha:]]+2 on / ')"
    python = "python3 -c 'import ctypes, http.client, json, multiprocessing, ssl'"
    for command in (enoslib, execo, python):
        done = booted.lab.ssh(f"root@{booted.deployed}", command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    assert [booted.lab.ssh(booted.standard, command).returncode for command in (enoslib, execo, python)] == [1, 1, 0]


@foreign.installed
def test_enoslib_takes_over_a_deployed_node(booted: Booted, tmp_path: Path) -> None:
    """It finds the job by its name, deploys nothing anew, and its Ansible works there."""
    before = booted.lab.api("GET", "deployments").json()["total"]
    home = booted.lab.client_home
    own = home / ".ssh"
    seen = foreign.said(
        "enoslib_nodes.py",
        "deploying",
        home=home,
        folder=tmp_path,
        key=own / "id_ed25519",
        seconds=1200,  # each of its modules takes half a minute on an emulated machine, and several where the host is busy
        ANSIBLE_SSH_ARGS=f"-F {own}/config",
    )
    assert seen["nodes"] == [booted.deployed] and seen["cores"] >= 1
    assert seen["addresses"] == [LAB.node_ip(int(booted.deployed.partition(".")[0].removeprefix("vm-")))]
    assert booted.lab.api("GET", "deployments").json()["total"] == before


def test_a_deployed_node_reads_the_public_folder_at_once(booted: Booted) -> None:
    made = booted.lab.ssh("flab", "head -c 20000000 /dev/urandom > public/data; sha256sum < public/data")
    read = "curl -fsS http://public.lab.grid5000.fr/~jdoe/data | sha256sum"
    assert booted.lab.ssh(f"root@{booted.deployed}", read).stdout == made.stdout != ""


def test_files_reach_a_node_over_sftp(booted: Booted, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content\n")
    config = booted.lab.client_home / ".ssh" / "config"
    words = ["sftp", "-F", str(config), "-o", "BatchMode=yes", "-b", "-", f"root@{booted.deployed}"]
    script = f"put {tmp_path}/file /scratch/file\n"
    done = subprocess.run(words, input=script, capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    assert booted.lab.ssh(f"root@{booted.deployed}", "cat /scratch/file").stdout == "content\n"


def test_the_user_of_a_job_is_let_in_and_sudo_g5k_makes_him_root(booted: Booted) -> None:
    lab, node = booted.lab, booted.standard
    assert lab.ssh(node, "id -un").stdout == "jdoe\n", lab.told(node)
    assert lab.ssh(f"root@{node}", "id").returncode == 255
    assert lab.ssh(node, "sudo -n id").returncode != 0
    done = lab.ssh(node, "sudo-g5k id -un && sudo-g5k && sudo id -un")
    assert done.stdout == "root\nroot\n", done.stderr
    assert lab.ssh(f"root@{node}", "id -un").stdout == "root\n"
    assert lab.ssh("flab", f"ssh {node} hostname").stdout == f"{node.partition('.')[0]}\n"


def test_the_jobs_command_runs_on_its_node(booted: Booted) -> None:
    done = booted.lab.ssh(booted.standard, "tr '\\0' ' ' < /proc/$(pgrep -u jdoe -x sleep)/environ")
    assert f"OAR_JOB_ID={booted.standard_job}" in done.stdout, done.stderr
    output = f"OAR.standing.{booted.standard_job}.stdout"
    asked = (
        f"oardel -s USR1 {booted.standard_job}; for i in $(seq 60); do grep -q asked {output} && break; sleep 1; done"
    )
    said = booted.lab.ssh("flab", f"{asked}; cat {output}")
    assert said.stdout.splitlines()[-2:] == [booted.standard, "asked"], (said.stdout, said.stderr)


def test_consoles_are_shown_on_the_frontend_and_here(booted: Booted) -> None:
    text = booted.lab.ssh("flab", f"kaconsole3 -m {booted.deployed}").stdout
    assert "handing over to systemd" in text
    done = call(booted.lab.home, "lab", "console", booted.deployed)
    assert "handing over to systemd" in done.stdout and "\x1b" not in done.stdout


def test_a_node_in_a_vlan_has_left_the_production_network(booted: Booted) -> None:
    """The move is the switch's: the node asks for an address there by itself."""
    lab, node = booted.lab, booted.deployed
    holder = lab.submit(resources=f"{{type='kavlan'}}/vlan=1,walltime={WALLTIME}", types=["deploy"], name="vlan")
    (vlan,) = lab.wait_job(holder, "running", "error")["resources_by_type"]["vlans"]
    moved = lab.api("POST", f"vlans/{vlan}/nodes", json=[node])
    assert moved.json()[node]["status"] == "success", moved.text
    lost = lab.ssh("flab", f"timeout 10 ssh -o ConnectTimeout=8 root@{node} true")
    assert lost.returncode != 0
    lab.api("DELETE", f"jobs/{holder}")
    lab.wait_job(holder, "error", "terminated")
    found = lab.ssh(f"root@{node}", "hostname")
    assert found.returncode == 0, "the end of the VLAN's job brings the node back: " + found.stderr


def _packed(files: dict[str, bytes]) -> bytes:
    """A compressed archive of programs."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


def _public(lab: Lab) -> Path:
    return lab.home / "state" / "lab" / "homes" / "jdoe" / "public"


def _archive(lab: Lab, name: str, kernel: bytes | Path) -> str:
    """Publish an image whose only file is a kernel; returns the URL of its description."""
    public = _public(lab)
    content = kernel.read_bytes() if isinstance(kernel, Path) else kernel
    (public / f"{name}.tgz").write_bytes(_packed({"boot/vmlinuz": content}))
    (public / f"{name}.yaml").write_text(
        f"name: {name}\nversion: 1\narch: x86_64\nvisibility: private\nos: linux\n"
        f"image:\n  file: http://{LAB.public}/~jdoe/{name}.tgz\n  kind: tar\n  compression: gzip\n"
        f"boot:\n  kernel: /boot/{'none' if name == 'nokernel' else 'vmlinuz'}\n  kernel_params: quiet panic=5\n"
        "filesystem: ext4\npartition_type: 131\n"
    )
    return f"http://{LAB.public}/~jdoe/{name}.yaml"


def _verdict(lab: Lab, node: str, environment: str, **more: int) -> dict[str, str]:
    return dict(lab.wait_deployment(lab.deploy(nodes=[node], environment=environment, **more))["result"][node])


def test_images_that_cannot_boot_are_ko_in_their_step(booted: Booted) -> None:
    lab, node = booted.lab, booted.deployed
    built = json.loads((CACHE / "environments" / "debian12-min.json").read_text())
    by_hand = lab.ssh("flab", f"kadeploy3 -a {_archive(lab, 'nokernel', b'x')} -m {node} -k", seconds=600)
    words = by_hand.stdout.splitlines()
    assert words[words.index("The deployment failed on nodes") + 1].startswith(f"{node} ("), by_hand.stderr
    assert "no /boot/none" in by_hand.stdout and "[BootNewEnv]" not in by_hand.stdout
    garbage = _verdict(lab, node, _archive(lab, "garbage", b"not a kernel" * 1000))
    assert (garbage["state"], garbage["macro"]) == ("KO", "BootNewEnv")
    panics = _verdict(lab, node, _archive(lab, "panics", Path(built["kernel"])))
    assert (panics["state"], panics["macro"]) == ("KO", "BootNewEnv")
    assert "panic" in panics["error"]


POST_INSTALL = b"""#!/bin/bash
echo "$1 $KADEPLOY_ENV $KADEPLOY_OS_KIND" > "$KADEPLOY_ENV_EXTRACTION_DIR/etc/post-install"
"""


def test_an_archive_of_ones_own_is_registered_and_deployed_by_its_name(booted: Booted) -> None:
    """Unpacked onto the node's partition, its post-installation run over it, and its own kernel booted with the parameters
    of its description; in a VLAN."""
    lab, node = booted.lab, booted.deployed
    holder = lab.submit(resources=f"{{type='kavlan'}}/vlan=1,walltime={WALLTIME}", types=["deploy"], name="vlan")
    (vlan,) = lab.wait_job(holder, "running", "error")["resources_by_type"]["vlans"]
    public, web = _public(lab), f"http://{LAB.public}/~jdoe"
    described = tar_image(public / "own.tar.zst")
    described["image"]["file"] = f"{web}/own.tar.zst"
    (public / "post.tgz").write_bytes(_packed({"post/run": POST_INSTALL}))
    described["postinstalls"] = [{"archive": f"{web}/post.tgz", "compression": "gzip", "script": "post/run seen"}]
    added = lab.ssh("flab", "kaenv3 -a /dev/stdin && kaenv3 -l own", stdin=yaml.safe_dump({"name": "own", **described}))
    assert "jdoe" in added.stdout, added.stderr
    verdict = _verdict(lab, node, "own@jdoe", vlan=int(vlan))
    assert verdict["state"] == "OK", f"{verdict}\n{lab.told(node)}"
    inside = node.replace(".", f"-kavlan-{vlan}.", 1)
    done = lab.ssh(f"root@{inside}", "hostname; findmnt -no PARTLABEL,FSTYPE /nix; cat /proc/cmdline /etc/post-install")
    hostname, partition, line, post = done.stdout.splitlines()
    assert hostname == node.partition(".")[0], done.stderr
    assert partition.split()[0] == "KDPL_DEPLOY_disk0" and partition.split()[1] in ("ext3", "ext4")
    assert described["boot"]["kernel_params"] in line
    assert post == "seen own linux"


def test_a_node_of_a_further_site_is_deployed_and_reads_what_another_site_has(lab: Lab) -> None:
    west = replace(lab, site="west")
    job = west.submit(resources=f"{{cluster='westa'}}/nodes=1,walltime={WALLTIME}", types=["deploy"], name="further")
    (node,) = west.wait_job(job, "running", "error")["assigned_nodes"]
    verdict = west.wait_deployment(west.deploy(nodes=[node], environment="debian12-min"))["result"][node]
    assert verdict["state"] == "OK", f"{verdict}\n{lab.told(node)}"
    assert lab.ssh("flab", "echo from lab > public/where").returncode == 0
    read = f"hostname; getent hosts {LAB.node(1)} | cut -d ' ' -f 1; curl -fsS http://{LAB.public}/~jdoe/where"
    done = lab.ssh(f"root@{node}", read)
    assert done.stdout.split() == [node.partition(".")[0], LAB.node_ip(1), "from", "lab"], done.stderr
    assert lab.ssh("fwest", f"kapower3 --status -m {node}").stdout == f"{node}: on\n"
    assert west.api("DELETE", f"jobs/{job}").status_code == 202
    west.wait_job(job, "error", "terminated")
    assert lab.ssh("fwest", f"kapower3 --status -m {node}").stdout == f"{node}: off\n"


def test_power_is_switched_from_the_frontend(booted: Booted) -> None:
    lab, node = booted.lab, booted.standard
    assert lab.ssh("flab", f"kapower3 --status -m {node}").stdout == f"{node}: on\n"
    assert lab.ssh("flab", f"kapower3 --off -m {node}").stdout == f"{node}: off\n"
    assert lab.ssh("flab", f"kapower3 --on -m {node}").stdout == f"{node}: on\n"


def test_after_the_job_the_user_is_out(booted: Booted) -> None:
    """The last one: it ends the job in the standard environment, where the user was root."""
    lab, node = booted.lab, booted.standard
    assert lab.api("DELETE", f"jobs/{booted.standard_job}").status_code == 202
    lab.wait_job(booted.standard_job, "error", "terminated")
    assert lab.ssh("flab", f"kapower3 --status -m {node}").stdout == f"{node}: off\n"
    place = lab.home / "state" / "lab" / "nodes" / node.partition(".")[0]
    assert not (place / "node.json").exists()
    system = disk.partitions(place / "disk", Deadline.after(60, "the partitions"))[disk.PROD]
    with system.disk.open("rb") as content:
        content.seek(system.offset)
        assert content.read(2**20) == bytes(2**20), "nothing is left of the system that the user could change"
