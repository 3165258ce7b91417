"""A QEMU machine: start, QMP, console, network, KVM probe. Imports only base."""

from g5kdeploy.qemu.kvm import kvm_works
from g5kdeploy.qemu.machine import Machine, MachineFailed
from g5kdeploy.qemu.spec import Disk, MachineSpec, Share, Tap, UserNet

__all__ = ["Disk", "Machine", "MachineFailed", "MachineSpec", "Share", "Tap", "UserNet", "kvm_works"]
