"""Ways onto a kernel: pull a closure, kexec into it, prove what runs."""

from g5kdeploy.boot.boot import Facts, Proof, boot, facts
from g5kdeploy.boot.pull import Source
from g5kdeploy.closure.handover import Handover, new_host_key

__all__ = ["Facts", "Handover", "Proof", "Source", "boot", "facts", "new_host_key"]
