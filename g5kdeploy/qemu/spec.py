"""What a machine is made of, and the command line that says so to QEMU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

QEMU = "qemu-system-x86_64"


@dataclass(frozen=True)
class Disk:
    """A virtio disk. `snapshot`: what the guest writes is thrown away when the machine ends."""

    path: Path
    format: str = "raw"
    readonly: bool = False
    snapshot: bool = False
    serial: str = ""


@dataclass(frozen=True)
class Tap:
    """A virtio network card on a tap device that exists already, in the namespace that `MachineSpec.prefix` enters."""

    interface: str
    mac: str


@dataclass(frozen=True)
class UserNet:
    """A virtio network card on QEMU's own user-mode network (10.0.2.0/24).

    `forward` maps ports of 127.0.0.1 to ports of the guest; `restrict` keeps the guest from reaching anything else.
    """

    mac: str
    forward: Mapping[int, int] = field(default_factory=dict)
    restrict: bool = True


@dataclass(frozen=True)
class Share:
    """A folder of the host that the guest mounts by `tag` over 9p."""

    path: Path
    tag: str
    readonly: bool = True


@dataclass(frozen=True)
class MachineSpec:
    """One machine. `memory` in MiB; `folder` is its own and holds the QMP and console sockets and its record.

    `console` is the file to which everything that the serial console says is appended. `prefix` are words before
    QEMU's own, such as `nsenter --target 42 --net`. `extra` are QEMU options for what has no field here.
    """

    name: str
    folder: Path
    console: Path
    kernel: Path
    initrd: Path | None = None
    append: str = ""
    memory: int = 1024
    cpus: int = 2
    disks: tuple[Disk, ...] = ()
    nics: tuple[Tap | UserNet, ...] = ()
    shares: tuple[Share, ...] = ()
    prefix: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


def _value(text: str | Path) -> str:
    """A value inside a comma separated QEMU option: a comma is written twice."""
    return str(text).replace(",", ",,")


def _disk(number: int, disk: Disk) -> list[str]:
    drive = f"file={_value(disk.path)},format={disk.format},if=none,id=disk{number},cache=unsafe,discard=unmap"
    if disk.readonly:
        drive += ",readonly=on"
    if disk.snapshot:
        drive += ",snapshot=on"
    device = f"virtio-blk-pci,drive=disk{number}{',addr=0x4' if number == 0 else ''}"
    if disk.serial:
        device += f",serial={_value(disk.serial)}"
    return ["-drive", drive, "-device", device]


def _nic(number: int, nic: Tap | UserNet) -> list[str]:
    if isinstance(nic, Tap):
        net = f"tap,id=net{number},ifname={_value(nic.interface)},script=no,downscript=no"
    else:
        net = f"user,id=net{number}" + (",restrict=on" if nic.restrict else "")
        net += "".join(f",hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in nic.forward.items())
    slot = ",addr=0x3" if number == 0 else ""  # the same name, ens3, whatever else the machine has
    return ["-netdev", net, "-device", f"virtio-net-pci,netdev=net{number},mac={nic.mac},romfile={slot}"]


def _share(number: int, share: Share) -> list[str]:
    option = f"local,path={_value(share.path)},mount_tag={_value(share.tag)},id=share{number}"
    option += f",security_model=none,multidevs=remap{',readonly=on' if share.readonly else ''}"
    return ["-virtfs", option]


PATIENT = "no_timer_check"
"""To Linux, for emulated machines: where the host is busy their timer ticks late, and the kernel would panic at its start."""


def accelerator(kvm: bool) -> list[str]:
    """KVM, or emulation that also survives a kexec: QEMU spins for a long time after one when its cache is large.

    Emulated AVX is slower than the SSE that programs use without it: hashing a store takes twice as long with it.
    """
    if kvm:
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", "tcg,thread=multi,tb-size=96", "-cpu", "max,la57=off,avx=off,avx2=off"]


def command_line(spec: MachineSpec, kvm: bool, sockets: str) -> list[str]:
    """QEMU's whole command line; `sockets` is a short path of the machine's folder, which unix sockets need."""
    words = [*spec.prefix, QEMU, "-name", _value(spec.name), *accelerator(kvm)]
    words += ["-m", f"{spec.memory}M", "-smp", str(spec.cpus)]
    words += ["-nodefaults", "-no-user-config", "-display", "none", "-device", "virtio-rng-pci"]
    words += ["-kernel", str(spec.kernel), "-append", spec.append if kvm else f"{PATIENT} {spec.append}"]
    if spec.initrd is not None:
        words += ["-initrd", str(spec.initrd)]
    console = f"socket,id=console,path={sockets}/console.sock,server=on,wait=off"
    words += ["-chardev", f"{console},logfile={_value(spec.console)},logappend=on", "-serial", "chardev:console"]
    words += ["-qmp", f"unix:{sockets}/qmp.sock,server=on,wait=off"]
    for number, disk in enumerate(spec.disks):
        words += _disk(number, disk)
    for number, nic in enumerate(spec.nics):
        words += _nic(number, nic)
    for number, share in enumerate(spec.shares):
        words += _share(number, share)
    return words + list(spec.extra)
