"""The closures of every role as local machines, under the test script."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.base.cpio import ALIGNMENT, Entry
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.closure.handover import Handover, new_host_key
from g5kdeploy.closure.image import squash
from g5kdeploy.closure.manifest import Manifest
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import fan_out
from g5kdeploy.qemu import Machine as Qemu
from g5kdeploy.vmtest import junit, verdict
from g5kdeploy.vmtest.names import machines_of
from g5kdeploy.vmtest.plan import Guest, Plan, Target
from g5kdeploy.vmtest.supervise import JUNIT, LOG, Supervisor
from g5kdeploy.vmtest.verdict import Verdict
from g5kdeploy.vmtest.virtual import stop_all

MOST = 200
"""Machines in one test: their addresses are those of one /24."""
STATE = "machines"
"""The folder, in the test's own, of what is there only while machines run: keys, disks, sockets."""
_UNCOMPRESSED = ("-noI", "-noD", "-noF", "-noX")


def run_local(
    manifest: Manifest,
    counts: Mapping[str, int],
    script: Path,
    folder: Path,
    deadline: Deadline,
    emit: Emitter,
    timeout: float,
    *,
    reuse: bool = True,
) -> Verdict:
    """Boot the closures of each role as local machines (`counts`: role → machines) and run the script on them.

    The script has `timeout` seconds, booting included. `folder` is left with junit.xml, output.log and the machines'
    consoles; the machines are ended whatever happens. With `reuse` an earlier verdict on the same systems, counts and
    script is taken instead. Raises `ScriptFailed`, `DeadlinePassed` and what QEMU's room raises.
    """
    roles = machines_of(counts)
    if len(roles) > MOST:
        raise InvalidUse(f"{len(roles)} machines are too many for this one", cause=f"at most {MOST} can be addressed")
    toplevels = {role: manifest.roles[role].toplevel for role in counts}
    key = verdict.key_of(toplevels, counts, script.read_text(encoding="utf-8", errors="replace"))
    folder.mkdir(parents=True, exist_ok=True)
    if reuse and (found := verdict.find(key)) is not None:
        junit.write(folder / JUNIT, script.stem, found.parts)
        emit.emit("", script.name, State.SKIPPED, found.words)
        return found
    with _state(folder) as state:
        targets = _targets(manifest, roles, folder, state, deadline, emit)
        plan = Plan(
            marker=f"@{secrets.token_hex(8)}@",
            script=str(script),
            folder=str(folder),
            seconds=timeout,
            home=str(state / "home"),
            user="root",
            known_hosts=str(state / "known_hosts"),
            targets=targets,
        )
        plan.save(state / "plan.json")
        try:
            given = Supervisor(plan, folder, emit).run(state / "plan.json", deadline)
        finally:
            stop_all([Qemu(target.guest.spec()) for target in targets if target.guest is not None])
    verdict.keep(key, given)
    return given


@contextlib.contextmanager
def _state(folder: Path) -> Iterator[Path]:
    """A fresh folder for keys, disks and sockets, removed at the end; what a killed test left there is ended first.

    One test at a time in a folder: the caller sees to that.
    """
    state = folder / STATE
    _clear(state)
    for console in (folder / "consoles").glob("*.log"):
        console.unlink()
    (folder / LOG).unlink(missing_ok=True)
    state.mkdir(mode=0o700)
    try:
        yield state
    finally:
        _clear(state)


def _clear(state: Path) -> None:
    if state.exists():
        with contextlib.suppress(Problem, TypeError, KeyError):
            left = Plan.load(state / "plan.json")
            stop_all([Qemu(target.guest.spec()) for target in left.targets if target.guest is not None])
        shutil.rmtree(state)


def _targets(
    manifest: Manifest, roles: Mapping[str, str], folder: Path, state: Path, deadline: Deadline, emit: Emitter
) -> list[Target]:
    """Everything that the machines are made of: one disk a role, and what each is handed over."""
    secret, public = new_host_key()
    files.write(state / "home" / ".ssh" / "id_ed25519", secret, 0o600)

    def disk(role: str) -> Path:
        with emit.step(f"disk of {role}"):
            image = state / f"{role}.squashfs"
            # Read back once, by an emulated processor: not worth compressing
            squash(manifest.closure(role), image, deadline.within(600, f"the disk of {role}"), *_UNCOMPRESSED)
            return image

    disks = {}
    for role, made in fan_out(sorted(set(roles.values())), disk).items():
        if isinstance(made, Problem):
            raise made
        disks[role] = made
    segment = _segment()
    hosts = _hosts(roles)
    targets = []
    for number, (name, role) in enumerate(roles.items(), start=1):
        closure = manifest.roles[role]
        own = state / name
        host_secret, host_public = new_host_key()
        guest = Guest(
            name=name,
            number=number,
            kernel=closure.kernel,
            initrd=str(own / "initrd"),
            append=f"{closure.params} init={closure.init} store=/dev/vda",
            store=str(disks[role]),
            folder=str(own),
            console=str(folder / "consoles" / f"{name}.log"),
            segment=segment,
            host_key=host_public,
        )
        given = Handover(name, host_secret, host_public, f"{public}\n", hosts, _network(guest))
        initrd = Path(closure.initrd).read_bytes()
        files.write(own / "initrd", initrd + bytes(-len(initrd) % ALIGNMENT) + given.archive(), 0o600)
        targets.append(Target(name, role, name, guest))
    return targets


def _segment() -> str:
    """A multicast group and port of the loopback that nobody else is on."""
    group = ".".join(["239", *(str(1 + secrets.randbelow(254)) for _ in range(3))])
    return f"{group}:{20000 + secrets.randbelow(10000)}"


def _hosts(roles: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Address → names: a machine's own, and its role's for the first machine of a role."""
    hosts: dict[str, tuple[str, ...]] = {}
    seen: set[str] = set()
    for number, (name, role) in enumerate(roles.items(), start=1):
        more = () if role in seen else (f"{role}1", role)
        seen.add(role)
        hosts[f"192.168.1.{number}"] = tuple(dict.fromkeys((name, *more)))
    return hosts


def _network(guest: Guest) -> dict[str, Entry]:
    """What systemd-networkd is told: fixed addresses, so that nothing waits for DHCP."""
    addresses = dict(zip(guest.macs, ("10.0.2.15/24", f"{guest.address}/24"), strict=True))
    return {
        f"etc/systemd/network/10-{number}.network": Entry(
            f"[Match]\nMACAddress={mac}\n[Network]\nAddress={address}\nLinkLocalAddressing=no\n".encode()
        )
        for number, (mac, address) in enumerate(addresses.items())
    }
