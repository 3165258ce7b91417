"""A deployed node as one of the script's machines: what is somebody else's hardware is left alone."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean
from g5kdeploy.node import Reach, Remote
from g5kdeploy.vmtest.errors import Unsupported
from g5kdeploy.vmtest.machine import Machine
from g5kdeploy.vmtest.wire import Wire

READY_SECONDS = 300.0
CONSOLE_SECONDS = 20.0
_REFUSED = {
    "shutdown": "nobody would switch the node on again",
    "reboot": "the node would come up in its environment, and not in the closure",
    "crash": "the node's power belongs to the site",
    "block": "the node's cable belongs to the site",
    "unblock": "the node's cable belongs to the site",
    "wait_for_shutdown": "nobody would switch the node on again",
    "forward_port": "the node's network belongs to the site",
    "send_monitor_command": "the node is no QEMU machine",
}


class DeployedMachine(Machine):
    """A node that runs its closure; `node` is its full name."""

    def __init__(self, name: str, node: str, reach: Reach, wire: Wire, deadline: Deadline, out_dir: Path) -> None:
        super().__init__(name, wire, deadline, out_dir)
        self.node = node
        self._reach = reach
        self._ready = False

    booted = True

    def remote(self) -> Remote:
        remote = self._reach.remote(self.node)
        if not self._ready:
            remote.wait_ready(self._deadline.within(READY_SECONDS, f"an answer of {self.node}"))
            self._ready = True
        return remote

    def start(self, allow_reboot: bool = True) -> None:
        self._wire.call(self.name, f"{self.node} is up already")

    def _refuse(self, call: str) -> Unsupported:
        hint = "vmtest does it, on local machines"
        return Unsupported(self.name, call, f"{_REFUSED[call]} ({self.node} is deployed)", hint)

    def shutdown(self) -> None:
        raise self._refuse("shutdown")

    def reboot(self) -> None:
        raise self._refuse("reboot")

    def crash(self) -> None:
        raise self._refuse("crash")

    def block(self) -> None:
        raise self._refuse("block")

    def unblock(self) -> None:
        raise self._refuse("unblock")

    def wait_for_shutdown(self) -> None:
        raise self._refuse("wait_for_shutdown")

    def forward_port(self, host_port: int, guest_port: int) -> None:
        raise self._refuse("forward_port")

    def send_monitor_command(self, command: str) -> str:
        raise self._refuse("send_monitor_command")

    def get_console_log(self) -> str:
        """What the site's kaconsole3 shows, where it does without a terminal."""
        labels = self.node.split(".")
        why = "the site does not show the node's console"
        if len(labels) < 2:
            raise Unsupported(self.name, "get_console_log", why, "journalctl -k says it, too")
        frontend = f"f{labels[1]}.{'.'.join(labels[1:])}"
        plain = re.sub(r"-kavlan-\d+(?=\.)", "", self.node)  # a console has the node's own name, whatever its VLAN
        command = f"timeout 10 kaconsole3 -m {shlex.quote(plain)} </dev/null"
        try:
            deadline = self._deadline.within(CONSOLE_SECONDS, f"the console of {self.node}")
            result = self._reach.remote(frontend, None).run(command, deadline, check=False)
        except Problem as problem:
            raise Unsupported(
                self.name, "get_console_log", f"{why}: {problem}", "journalctl -k says it, too"
            ) from problem
        if not result.stdout.strip():
            cause = f"{why}: {clean(result.stderr).strip() or 'it is empty'}"
            raise Unsupported(self.name, "get_console_log", cause, "journalctl -k says it, too")
        return clean(result.stdout)
