"""Runs whose environment is a file of the user's, and runs in jobs without a deployment."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from g5kdeploy.lab.kaenv import environment
from tests.integration.workflow.place import Place
from tests.integration.workflow.test_bad_luck import nothing_left, told

WEB = "http://public.lab.grid5000.fr/~"
CURL = f"""#!/bin/sh
for url; do :; done
rest=${{url#{WEB}}}
exec cat "$HOME/public/${{rest#*/}}"
"""


@pytest.fixture
def web(place: Place) -> Place:
    """A site that knows where its public folder is."""
    curl = place.folder / "frontend" / "bin" / "curl"
    curl.write_text(CURL)
    curl.chmod(0o755)

    def fetch(url: str) -> bytes:
        return (place.public / url.removeprefix(WEB).partition("/")[2]).read_bytes()

    place.lab.services.deployments.fetch = fetch
    return place


@pytest.fixture
def own(web: Place) -> Path:
    """An environment's description beside the experiment."""
    place = web
    folder = place.experiment.parent / "env"
    folder.mkdir()
    (folder / "image.tgz").write_bytes(b"an archive")
    image = {"file": "image.tgz", "kind": "tar", "compression": "gzip"}
    described = {"name": "own", "os": "linux", "image": image, "boot": {"kernel": "/vmlinuz"}, "filesystem": "ext4"}
    (folder / "own.yaml").write_text(yaml.safe_dump(described))
    place.write(environment="env/own.yaml")
    return folder


def uploads(done: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in done.stderr.splitlines() if "upload environment" in line]


def test_a_file_is_uploaded_and_deployed_by_its_url(place: Place, own: Path) -> None:
    done = place.run("--until", "deploy", "--keep")
    told(done, 0)
    (deployment,) = place.lab.deployer.started
    assert deployment.environment.startswith(f"{WEB}") and deployment.environment.endswith("-own.yaml")
    image = deployment.description["image"]["file"].rpartition("/")[2]
    assert (place.public / "g5kdeploy" / "environments" / image).read_bytes() == b"an archive"
    (own / "image.tgz").write_bytes(b"another archive")
    told(place.call(*place.command("deploy")), 2, "was not pushed as it is now", "g5kdeploy push")
    told(place.call(*place.command("push")), 0)
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_an_environment_of_somebody_is_deployed_by_his_name(place: Place) -> None:
    place.lab.environments.add(environment("tuned", "http://public/tuned.tar.zst", user="asmith", visibility="shared"))
    place.write(environment="tuned@asmith")
    told(place.run("--until", "deploy", "--keep"), 0)
    (deployment,) = place.lab.deployer.started
    assert deployment.environment == "tuned@asmith"
    assert deployment.description["image"]["file"] == "http://public/tuned.tar.zst"
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_an_environment_that_the_site_cannot_fetch_is_not_asked_for(place: Place, own: Path) -> None:
    place.write(environment=f"{WEB}jdoe/none.yaml")
    told(place.run(), 1, "the site cannot fetch the environment", "none.yaml")
    assert place.lab.deployer.started == []
    nothing_left(place)


def test_an_environment_that_is_not_there_is_a_mistake_in_the_file(place: Place, own: Path) -> None:
    place.write(environment="env/other.yaml")
    done: Any = place.run()
    told(done, 2, "experiment.yaml:", "the environment's description `env/other.yaml` does not exist")
    assert place.submissions() == 0


def test_an_image_that_no_node_boots_is_not_tried_again(place: Place) -> None:
    for node in place.nodes:
        place.lab.deployer.order(node, ko_at="BootNewEnv", error="Kernel panic", step_seconds=0.1)
    told(place.run(), 1, "no node boots the environment debian12-min", "Kernel panic", "the image is at fault")
    assert len(place.lab.deployer.started) == 1
    nothing_left(place)


def test_closures_are_installed_as_images(web: Place) -> None:
    """Each role's by a deployment of its own."""
    place = web
    image: dict[str, Any] = {"flavour": "g5k-image", "roles": {"worker": {"nodes": 1}, "other": {"nodes": 1}}}
    place.write(**image)
    told(place.run("--keep"), 0)
    described = {one.description["name"]: one.description for one in place.lab.deployer.started}
    assert set(described) == {"faults-worker", "faults-other"}
    worker = described["faults-worker"]
    assert (worker["arch"], worker["boot"]["kernel"]) == ("x86_64", f"{place.toplevel}/kernel")
    archive = place.public / "g5kdeploy" / "environments" / worker["image"]["file"].rpartition("/")[2]
    listed = subprocess.run(["tar", "--list", "--file", archive], capture_output=True, text=True, check=True).stdout
    assert {"etc/", "root/", f"{place.toplevel[1:]}/kernel"} <= set(listed.splitlines())
    assert described["faults-other"]["image"] == worker["image"], "what is the same is sent once"
    assert not (place.public / "g5kdeploy" / "cache").exists(), "nothing is pulled"
    for node in place.nodes.values():
        hosts = (node.folder / "hosts").read_text()
        assert "worker1" in hosts and "other1" in hosts
    before = {name: node["facts"] for name, node in place.document()["nodes"].items()}
    assert {facts["current_system"] for facts in before.values()} == {place.toplevel}
    assert sum(place.workloads()) == 1

    place.write(**image, kernel={"params": ["nosmt"]})
    told(place.call(*place.command("build")), 0)
    told(place.call(*place.command("deploy")), 2, "was not pushed as it is now", "g5kdeploy push")
    told(place.call(*place.command("push")), 0)
    told(place.call(*place.command("deploy")), 0, "is deployed anew")
    again = place.lab.deployer.started[-1].description
    assert again["boot"]["kernel_params"].startswith("quiet nosmt init=") and again["image"] == worker["image"]
    for name, node in place.document()["nodes"].items():
        assert node["facts"]["boot_id"] != before[name]["boot_id"]
    told(place.call(*place.command("release")), 0)
    nothing_left(place)


def test_a_job_without_deployment_becomes_root_by_sudo_g5k(place: Place) -> None:
    place.write(job_types=[])
    for node in place.nodes.values():
        node.install()  # the standard environment is there all the time
        (node.folder / "bin" / "sudo-g5k").write_text("#!/bin/sh\necho sudo-g5k >> /node/asked\n")
        (node.folder / "bin" / "sudo").write_text('#!/bin/sh\nprintf "%s\\n" "$*" >> /node/asked\n')
        for name in ("sudo-g5k", "sudo"):
            (node.folder / "bin" / name).chmod(0o755)
    told(place.run("--keep"), 0, "keep the standard environment")
    assert place.lab.deployer.started == []
    place.write(job_types=[], kernel={"params": ["mitigations=off"]})
    told(place.call(*place.command("build")), 0)
    told(place.call(*place.command("push")), 0)
    told(place.call(*place.command("deploy")), 2, "runs with other kernel parameters", "g5kdeploy release")
    told(place.call(*place.command("release")), 0)
    assert place.workloads() == [1, 1]
    key = (place.home / "state" / "lab" / "home" / ".ssh" / "id_ed25519.pub").read_text().strip()
    for node in place.nodes.values():
        asked = (node.folder / "asked").read_text()
        assert asked.startswith("sudo-g5k\n-n sh -c") and key in asked
    nothing_left(place)


def test_a_job_that_may_not_become_root(place: Place) -> None:
    place.write(job_types=[])
    for node in place.nodes.values():
        node.install()
    told(place.run(), 4, "does not make", "it has no sudo-g5k")
    nothing_left(place)


def test_nodes_in_a_vlan_answer_under_their_names_there(place: Place) -> None:
    """Under their plain names nobody answers any more: SSH's settings do not know them."""
    place.write(vlan="routed")
    config = place.home / "state" / "lab" / "home" / ".ssh" / "config"
    known = config.read_text()
    for name in place.nodes:
        assert f"Host {name}\n" in known
        inside = " ".join(name.replace(".", f"-kavlan-{vlan}.", 1) for vlan in range(4, 10))
        known = known.replace(f"Host {name}\n", f"Host {inside}\n")
    config.write_text(known)
    getent = place.folder / "frontend" / "bin" / "getent"
    getent.write_text('#!/bin/sh\nshift\nfor name; do echo "10.4.0.1  STREAM $name"; done\n')
    told(place.run(), 0)
    (deployment,) = place.lab.deployer.started
    assert deployment.vlan in range(4, 10)
    assert place.workloads() == [1, 1]
    name, node = next(iter(place.document()["nodes"].items()))
    assert node["facts"]["address"] == name.replace(".", f"-kavlan-{deployment.vlan}.", 1)
    nothing_left(place)
