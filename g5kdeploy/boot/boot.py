"""Bring one node to a closure: pull it, boot its kernel, and prove that this is what runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.boot import kexec, memory, pull
from g5kdeploy.boot.problems import BootFailed, WrongSystem
from g5kdeploy.boot.pull import SCRATCH, SCRATCH_LABEL, Source
from g5kdeploy.closure import Manifest, RoleClosure
from g5kdeploy.closure.handover import Handover, hosts_file
from g5kdeploy.closure.image import STORE, Image
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.node import Reach, Remote

PULL_SECONDS = 600.0
TELL_SECONDS = 10.0
BOOT_SECONDS = 300.0


@dataclass(frozen=True)
class Facts:
    """What a node says of itself: the boot's id, `uname -r`, and the toplevel that it runs ("" outside of ours)."""

    boot_id: str
    release: str
    system: str


@dataclass(frozen=True)
class Proof:
    """What ran before and what runs now, and the seconds between; `changed` is false when nothing had to be done."""

    before: Facts
    after: Facts
    seconds: float
    changed: bool = True


def facts(remote: Remote, deadline: Deadline) -> Facts:
    """Ask a node what it runs."""
    said = remote.run(
        "cat /proc/sys/kernel/random/boot_id; uname -r; readlink /run/current-system || echo", deadline
    ).stdout.split("\n")
    return Facts(said[0].strip(), said[1].strip(), said[2].strip())


def boot(
    reach: Reach,
    node: str,
    manifest: Manifest,
    role: str,
    source: Source,
    handover: Handover,
    deadline: Deadline,
    emit: Emitter,
    image: Image | None = None,
) -> Proof:
    """Boot a role's closure on `node`, which root reaches now; on return the closure's own system answers.

    With `image` the role's store is kept in memory (g5k-ramdisk) instead of on the scratch partition. A node that runs
    the closure already is left alone. Raises the problems of this room, and what a `Remote` raises.
    """
    closure = manifest.roles[role]
    remote = reach.remote(node)
    before = facts(remote, deadline)
    if before.system == closure.toplevel:
        emit.emit(node, "boot", State.SKIPPED, f"unchanged: runs {before.release}")
        return Proof(before, before, 0.0, changed=False)
    began = deadline.clock.monotonic()
    with emit.step("fetch bundle", node):
        bundle = pull.fetch_bundle(remote, source, deadline.within(PULL_SECONDS, f"the bundle on {node}"))
    load = _prepare(remote, manifest, role, source, bundle, image, deadline, emit)
    with emit.step("kexec", node) as step:
        load(handover.archive())
        # From here on the node must show the key that was handed to it
        kexec.jump(remote, bundle, deadline)
        reach.pin(node, handover.host_public)
        patience = deadline.within(BOOT_SECONDS, f"{node} in its new kernel")
        kexec.await_system(reach.remote(node), before.boot_id, patience, lambda last: None)
        after = facts(reach.remote(node), patience)
        step.text = f"{before.release} → {after.release}"
    prove(node, closure, before, after)
    return Proof(before, after, deadline.clock.monotonic() - began)


def arrived(
    reach: Reach,
    node: str,
    closure: RoleClosure,
    hosts: Mapping[str, tuple[str, ...]],
    earlier: str,
    deadline: Deadline,
    emit: Emitter,
) -> Proof:
    """A role's closure that kadeploy brought to `node` as its image: prove that it runs, and tell it the others' names.

    `earlier`: the id of a boot that must not be this one any more; "" for none.
    """
    remote = reach.remote(node)
    before = Facts(earlier, "", "")
    with emit.step("image", node) as step:
        after = facts(remote, deadline)
        prove(node, closure, before, after)
        remote.run("cat > /etc/hosts", deadline, input=hosts_file(hosts).encode())
        step.text = f"runs {after.release}"
    return Proof(before, after, 0.0)


class _Told:
    """Tells now and then how far a pull is."""

    def __init__(self, node: str, count: int, deadline: Deadline, emit: Emitter) -> None:
        self.begun = 0
        self._node, self._count, self._emit, self._clock = node, count, emit, deadline.clock
        self._told = self._clock.monotonic()

    def __call__(self, begun: int) -> None:
        self.begun = begun
        if self._clock.monotonic() - self._told > TELL_SECONDS:
            self._told = self._clock.monotonic()
            self._emit.note("pull", f"{begun} of {self._count} paths", self._node)


def _prepare(
    remote: Remote,
    manifest: Manifest,
    role: str,
    source: Source,
    bundle: str,
    image: Image | None,
    deadline: Deadline,
    emit: Emitter,
) -> Callable[[bytes], None]:
    """Get the store onto the node; what is left is to load the kernel, with a hand-over behind its initrd."""
    closure = manifest.roles[role]
    patience = deadline.within(PULL_SECONDS, f"the closure on {remote.name}")
    if image is not None:
        with emit.step("fetch image", remote.name):
            kernel, *initrds = memory.fetch_image(remote, image, source, patience)
        store = f"initrd:/{STORE}"
    elif pull.scratch(remote, deadline):
        with emit.step("pull", remote.name) as step:
            paths = manifest.closure(role)
            copying = _Told(remote.name, len(paths), deadline, emit)
            pull.pull(remote, closure.toplevel, paths, source, bundle, manifest.size(role), patience, copying)
            step.text = f"{copying.begun} of {len(paths)} paths" if copying.begun else "all there"
        store, kernel, *initrds = (
            f"PARTLABEL={SCRATCH_LABEL}", f"{SCRATCH}{closure.kernel}", f"{SCRATCH}{closure.initrd}"
        )  # fmt: skip
    else:
        raise BootFailed(
            f"{remote.name} has no scratch partition",
            cause=f"no partition is labelled {SCRATCH_LABEL}",
            hint="flavour: g5k-ramdisk keeps the store in memory",
        )
    return lambda extra: kexec.load(remote, closure, bundle, store, kernel, initrds, extra, deadline)


def prove(node: str, closure: RoleClosure, before: Facts, after: Facts) -> None:
    """Raise `WrongSystem` unless the boot is another one, and kernel and system are the closure's."""
    wrong = []
    if after.boot_id == before.boot_id:
        wrong.append("it did not reboot: the boot id is the old one")
    if closure.release and after.release != closure.release:
        wrong.append(f"its kernel is {after.release}, not {closure.release}")
    if after.system != closure.toplevel:
        wrong.append(f"its system is {after.system or 'none of ours'}, not {closure.toplevel}")
    if wrong:
        raise WrongSystem(f"{node} does not run its closure", cause="; ".join(wrong))
