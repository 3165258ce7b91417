"""What the driver process is told: the script, its machines, and how to reach and run them."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.qemu import Disk, MachineSpec, UserNet

MEMORY = 768
"""MiB of each machine."""
CABLE = "cable"
"""QEMU's name for a machine's card on the network of all machines; the other card is for SSH alone."""


@dataclass(frozen=True)
class Guest:
    """A local machine. `folder` is its own; `segment` is the multicast group and port that all machines share."""

    name: str
    number: int
    kernel: str
    initrd: str
    append: str
    store: str
    folder: str
    console: str
    segment: str
    host_key: str

    @property
    def address(self) -> str:
        """Its address on the network of all machines: 192.168.1.N, as the NixOS test driver gives them."""
        return f"192.168.1.{self.number}"

    @property
    def macs(self) -> tuple[str, str]:
        """Of the card for SSH, and of the card on the network of all machines."""
        high, low = divmod(self.number, 256)
        return f"52:54:00:12:{high:02x}:{low:02x}", f"52:54:00:13:{high:02x}:{low:02x}"

    def spec(self) -> MachineSpec:
        """As QEMU's room wants it. The port of 127.0.0.1 that leads to its sshd is QEMU's choice."""
        ssh, mac = self.macs
        netdev = f"socket,id={CABLE},mcast={self.segment},localaddr=127.0.0.1"
        return MachineSpec(
            name=self.name,
            folder=Path(self.folder),
            console=Path(self.console),
            kernel=Path(self.kernel),
            initrd=Path(self.initrd),
            append=self.append,
            memory=MEMORY,
            cpus=1,  # as the NixOS test driver has it; emulated, a second one only makes the boot slower
            disks=(Disk(Path(self.store), readonly=True),),
            nics=(UserNet(ssh, {0: 22}),),
            extra=("-netdev", netdev, "-device", f"virtio-net-pci,netdev={CABLE},mac={mac},romfile="),
        )


@dataclass(frozen=True)
class Target:
    """One machine of the script: its name there, its role, the name that SSH reaches it by; `guest` when it is local."""

    name: str
    role: str
    host: str
    guest: Guest | None = None


@dataclass(frozen=True)
class Plan:
    """A run of a script. `marker` begins the lines that are events; `seconds` is what the script has.

    `home`, `user` and `known_hosts` are a `Reach`'s; `folder` takes what the script copies from machines.
    """

    marker: str
    script: str
    folder: str
    seconds: float
    home: str
    user: str | None
    known_hosts: str
    targets: list[Target] = field(default_factory=list)

    def save(self, path: Path) -> None:
        files.write_json(path, asdict(self), 0o600)

    @classmethod
    def load(cls, path: Path) -> Plan:
        value: dict[str, Any] = files.read_json(path)
        targets = [
            Target(**{**target, "guest": Guest(**target["guest"]) if target["guest"] else None})
            for target in value["targets"]
        ]
        return cls(**{**value, "targets": targets})
