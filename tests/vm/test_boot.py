"""Two machines in the base environment that come to a closure made up on the spot: over a scratch partition, and in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.boot import Facts, Source, boot, facts
from g5kdeploy.boot.problems import BootFailed, NoRoom, PathTampered
from g5kdeploy.closure import Bundle, Manifest, build, push, push_bundle
from g5kdeploy.closure.handover import Handover, new_host_key
from g5kdeploy.closure.image import push_image
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.node import Reach, Remote
from g5kdeploy.qemu import Machine
from tests.support.closures import GUEST_SEES_HOST, Frontend, base_machine, compose, missing, shared_cache

pytestmark = [
    pytest.mark.vm,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(missing(vm=True)), reason=f"needs {missing(vm=True)}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the store is /nix"),
]


def soon(seconds: float = 1500) -> Deadline:
    return Deadline.after(seconds, "a test")


@dataclass
class Site:
    """A closure in the cache of a frontend, and the way to its machines."""

    home: Path
    folder: Path
    manifest: Manifest
    frontend: Frontend
    reach: Reach
    source: Source

    def handover(self, name: str) -> Handover:
        secret, public = new_host_key()
        return Handover(name, secret, public, self.frontend.authorized, {"10.9.8.7": ("somebody-else",)})

    def machine(self, name: str, *, memory: int, scratch: bool) -> Machine:
        return base_machine(name, self.folder / name, self.frontend, soon(), memory=memory, scratch=scratch)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("boot")
    with pytest.MonkeyPatch.context() as patch:
        home = shared_cache(folder / "home")
        patch.setenv("G5KDEPLOY_HOME", str(home))
        manifest = build(compose(folder / "composition", "booted"), None, soon(), Emitter())
        frontend = Frontend(folder, ["disk-1", "memory-1"])
        try:
            with Reach(frontend.client) as reach:
                remote = reach.remote("frontend", None)
                pushed = push(manifest, ["made"], remote, soon(), Emitter())
                bundle = push_bundle(remote, soon(), Emitter())
                source = Source(f"http://{GUEST_SEES_HOST}:{frontend.web.port}", pushed.path, bundle, pushed.public_key)
                yield Site(home, folder, manifest, frontend, reach, source)
        finally:
            frontend.close()


@pytest.fixture(autouse=True)
def _home(_guards: None, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G5KDEPLOY_HOME", str(site.home))


def _answers_as_made_up(site: Site, node: str, before: Facts) -> Facts:
    """The node runs the closure's kernel, its service, as the one it was told to be; what it says."""
    role = site.manifest.roles["made"]
    remote: Remote = site.reach.remote(node)
    after = facts(remote, soon())
    assert after.boot_id != before.boot_id
    assert before.release != after.release == role.release
    assert after.system == role.toplevel
    said = remote.run(
        "hostname; grep somebody-else /etc/hosts; systemctl is-system-running --wait; systemctl --failed --no-legend; "
        "made-up-script; bash -c 'exec 3<>/dev/tcp/127.0.0.1/4567; cat <&3'",
        soon(),
    ).stdout.splitlines()
    assert said == [node, "10.9.8.7 somebody-else", "running", "booted", "booted"]
    return after


def test_a_node_pulls_onto_its_scratch_partition_and_proves_what_it_runs(site: Site) -> None:
    machine = site.machine("disk-1", memory=1536, scratch=True)
    try:
        remote = site.reach.remote("disk-1")
        remote.wait_ready(soon())
        before = facts(remote, soon())
        for absent in ("nix", "kexec"):
            assert remote.run(f"command -v {absent}", soon(), check=False).status != 0, (
                f"{absent} is in the environment"
            )
        words = [site.reach, "disk-1", site.manifest, "made"]
        handover = site.handover("disk-1")

        wrong = Source(
            site.source.web, site.source.cache, Bundle(site.source.bundle.path, "0" * 64), site.source.public_key
        )
        with pytest.raises(PathTampered):
            boot(*words, wrong, handover, soon(), Emitter())
        assert facts(remote, soon()) == before, "a node that refused goes on running"

        events: list[Event] = []
        proof = boot(*words, site.source, handover, soon(), Emitter(sinks=[events.append]))
        assert proof.changed and proof.before == before
        assert proof.after == _answers_as_made_up(site, "disk-1", before)
        done = [event.step for event in events if event.state is State.OK]
        assert done == ["fetch bundle", "pull", "kexec"]
        key = site.reach.remote("disk-1").run("cat /etc/ssh/ssh_host_ed25519_key.pub", soon()).stdout
        assert key.split()[:2] == handover.host_public.split()[:2]

        again = boot(*words, site.source, site.handover("disk-1"), soon(), Emitter())
        assert not again.changed and again.after == proof.after
    except BaseException as error:
        error.add_note(machine.console_text(6000))
        raise
    finally:
        machine.stop()


def test_a_node_without_a_scratch_partition_carries_its_store_in_memory(site: Site) -> None:
    machine = site.machine("memory-1", memory=2048, scratch=False)
    try:
        remote = site.reach.remote("memory-1")
        remote.wait_ready(soon())
        before = facts(remote, soon())
        words = [site.reach, "memory-1", site.manifest, "made", site.source, site.handover("memory-1")]
        with pytest.raises(BootFailed, match="no scratch partition"):
            boot(*words, soon(), Emitter())

        image = push_image(site.manifest, "made", site.reach.remote("frontend", None), soon(), Emitter())
        remote.run("mkdir -p /run/eat && mount -t tmpfs -o size=95% eat /run/eat", soon())
        remote.run("head -c 1500M /dev/zero > /run/eat/x", soon())
        with pytest.raises(NoRoom, match="memory is too small"):
            boot(*words, soon(), Emitter(), image)
        remote.run("umount /run/eat", soon())

        proof = boot(*words, soon(), Emitter(), image)
        assert proof.after == _answers_as_made_up(site, "memory-1", before)
    except BaseException as error:
        error.add_note(machine.console_text(6000))
        raise
    finally:
        machine.stop()
