"""Reaching machines: SSH through fabric, fan-out, host keys, the state of one node."""

from g5kdeploy.base.nodeset import fold
from g5kdeploy.node.fan import Merged, expand, fan_out, merge
from g5kdeploy.node.kernel import Ability, KernelAnswer, probe_kernel
from g5kdeploy.node.problems import ConnectionLost, HostKeyChanged, LoginRefused, RemoteFailed, Result, Unreachable
from g5kdeploy.node.reach import Reach
from g5kdeploy.node.remote import Remote
from g5kdeploy.node.state import Stage

__all__ = [
    "Ability",
    "ConnectionLost",
    "HostKeyChanged",
    "KernelAnswer",
    "LoginRefused",
    "Merged",
    "Reach",
    "Remote",
    "RemoteFailed",
    "Result",
    "Stage",
    "Unreachable",
    "expand",
    "fan_out",
    "fold",
    "merge",
    "probe_kernel",
]
