"""Ways onto a kernel: pull a closure, kexec into it, prove what runs."""

from g5kdeploy.boot.boot import Facts, Proof, arrived, boot, facts
from g5kdeploy.boot.pull import Source
from g5kdeploy.closure.handover import Handover, new_host_key

__all__ = ["Facts", "Handover", "Proof", "Source", "arrived", "boot", "facts", "new_host_key"]
