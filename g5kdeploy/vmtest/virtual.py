"""A local machine: QEMU below, SSH through a port of 127.0.0.1."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Iterable
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.base.text import clean, tail
from g5kdeploy.node import Reach, Remote
from g5kdeploy.qemu import Machine as Qemu
from g5kdeploy.qemu import MachineFailed
from g5kdeploy.vmtest.machine import PATIENCE, Machine
from g5kdeploy.vmtest.plan import CABLE, Guest
from g5kdeploy.vmtest.wire import Wire

GREETING_SECONDS = 30.0
"""How long a guest that took the connection has for its greeting: emulated, on a busy host, an sshd is slow to start."""
POLL_SECONDS = 0.5
_DEAD = re.compile(r"Kernel panic - not syncing.*|^stage 1: (?!store at ).*", re.MULTILINE)


class Ways:
    """The SSH settings of all local machines in one home; ports become known when machines are switched on."""

    def __init__(self, home: Path, known_hosts: Path) -> None:
        self.home = home
        self.known_hosts = known_hosts
        self._ports: dict[str, int] = {}
        self._lock = threading.Lock()

    def reach(self, name: str, port: int, host_key: str) -> Reach:
        """A way to one machine, which must show that host key."""
        with self._lock:
            self._ports[name] = port
            blocks = "".join(
                f"Host {each}\n  HostName 127.0.0.1\n  Port {number}\n  User root\n"
                "  IdentityFile ~/.ssh/id_ed25519\n  IdentitiesOnly yes\n"
                for each, number in self._ports.items()
            )
            files.write(self.home / ".ssh" / "config", blocks)
        reach = Reach(self.home, "root", self.known_hosts)
        reach.pin(name, host_key)
        return reach


class VirtualMachine(Machine):
    """One of the script's machines that runs here. `port`: that of 127.0.0.1 which leads to its sshd."""

    def __init__(self, guest: Guest, ways: Ways, wire: Wire, deadline: Deadline, out_dir: Path) -> None:
        super().__init__(guest.name, wire, deadline, out_dir)
        self.qemu = Qemu(guest.spec())
        self._guest = guest
        self._ways = ways
        self._lock = threading.RLock()
        self._reach: Reach | None = None
        self._boot: _Boot | None = None
        self._console_from = 0

    @property
    def booted(self) -> bool:
        """Is it switched on?"""
        return self.qemu.alive()

    def remote(self) -> Remote:
        self.start()
        with self._lock:
            boot, reach = self._boot, self._reach
        assert boot is not None and reach is not None
        boot.wait(self._deadline)
        return reach.remote(self.name)

    def start(self, allow_reboot: bool = True) -> None:
        with self._lock:
            if self.qemu.alive() and self._boot is not None:
                return
            console = self.qemu.spec.console
            self._console_from = console.stat().st_size if console.exists() else 0
            self._hang_up()
            self.qemu.start(self._deadline.within(60, f"the start of {self.name}"))
            port = _forwarded(self.qemu)
            self._reach = self._ways.reach(self.name, port, self._guest.host_key)
            self._boot = _Boot(self, self._reach.remote(self.name), port, self._wire, self._deadline)

    def shutdown(self) -> None:
        if not self.qemu.alive():
            return
        with self.nested("shutting down"):
            self.execute("systemctl poweroff", check_return=False)
            self.wait_for_shutdown()

    def reboot(self) -> None:
        with self.nested("rebooting"):
            remote = self.remote()
            before = remote.boot_id(self._deadline.within(PATIENCE, f"the boot id of {self.name}"))
            self.execute("systemctl reboot", check_return=False)
            remote.disconnect()
            with self._lock:
                assert self._boot is not None
                self._boot = _Boot(self, remote, self._boot.port, self._wire, self._deadline, before)

    def crash(self) -> None:
        with self.nested("cutting the power"):
            self.close()

    def block(self) -> None:
        self._cable(False)

    def unblock(self) -> None:
        self._cable(True)

    def _cable(self, plugged: bool) -> None:
        with self.nested(f"{'plugging in' if plugged else 'pulling'} the network cable"):
            self.start()
            self.qemu.qmp("set_link", name=CABLE, up=plugged)

    def wait_for_shutdown(self) -> None:
        with self.nested("waiting until it is off"):
            self.retry(lambda _: not self.qemu.alive(), PATIENCE, "the end of the machine", lambda: self._said(5))
        self.close()

    def forward_port(self, host_port: int, guest_port: int) -> None:
        """Let a port of 127.0.0.1 here lead to a port of the machine."""
        self.start()
        said = self.send_monitor_command(f"hostfwd_add net0 tcp:127.0.0.1:{int(host_port)}-:{int(guest_port)}")
        if said.strip():
            raise MachineFailed(f"port {host_port} does not lead to {self.name}", cause=clean(said))

    def send_monitor_command(self, command: str) -> str:
        """A command of QEMU's monitor, and what it said."""
        self._wire.call(self.name, f"QEMU's monitor: {command}")
        return _monitor(self.qemu, command)

    def get_console_log(self) -> str:
        with contextlib.suppress(FileNotFoundError), self.qemu.spec.console.open("rb") as file:
            file.seek(self._console_from)
            return clean(file.read().decode(errors="replace"))
        return ""

    def _said(self, lines: int) -> str:
        return tail(self.get_console_log(), lines)

    def _hang_up(self) -> None:
        if self._boot is not None:
            self._boot.off = True
        if self._reach is not None:
            self._reach.close()
        self._reach = self._boot = None

    def close(self) -> None:
        """Cut the power and close the connections; nothing happens when it is off."""
        with self._lock:
            if self._boot is not None:
                self._boot.off = True
            self.qemu.stop()  # first: whatever a connection waits for, the machine is gone
            self._hang_up()


class _Boot:
    """A thread that waits until a machine answers, so that machines boot side by side whatever the script waits for."""

    def __init__(
        self, machine: VirtualMachine, remote: Remote, port: int, wire: Wire, deadline: Deadline, before: str = ""
    ) -> None:
        self.port = port
        self.off = False
        """Set when the machine is switched off on purpose: that it does not come up is no problem then."""
        self._machine = machine
        self._remote = remote
        self._wire = wire
        self._deadline = deadline
        self._before = before
        self._done = threading.Event()
        self._problem: Problem | None = None
        self._seen = "nothing listens on its SSH port"
        threading.Thread(target=self._run, name=f"boot {machine.name}", daemon=True).start()

    def wait(self, deadline: Deadline) -> None:
        """Return when the machine answers; raise what kept it from that."""
        if not self._done.wait(deadline.remaining()):
            raise deadline.error(self._explained())
        if self._problem is not None:
            raise self._problem

    def _explained(self) -> str:
        return f"{self._machine.name} does not answer: {self._seen}; its console: {tail(self._machine.get_console_log(), 5)}"

    def _run(self) -> None:
        began = time.monotonic()
        self._wire.send("boot", machine=self._machine.name)
        try:
            self._await()
        except Problem as problem:
            self._problem = problem
        finally:
            said = str(self._problem) if self._problem else ""
            seconds = time.monotonic() - began
            self._wire.send("booted", machine=self._machine.name, seconds=seconds, problem=said, off=self.off)
            self._done.set()

    def _await(self) -> None:
        while True:
            self._check()
            try:
                if _greets(self._machine.qemu, self.port, self._deadline.within(GREETING_SECONDS, "a greeting")):
                    attempt = self._deadline.within(60, f"the first command on {self._machine.name}")
                    if self._remote.boot_id(attempt) != self._before:
                        return
                    self._seen = "it goes on with its old boot"
            except (DeadlinePassed, Problem) as problem:
                self._seen = str(problem)
            self._remote.disconnect()
            self._deadline.sleep(POLL_SECONDS, self._explained())

    def _check(self) -> None:
        name, console = self._machine.name, self._machine.qemu.spec.console
        if not self._machine.qemu.alive():
            cause = tail(self._machine.get_console_log(), 10)
            raise MachineFailed(f"{name} went off before it was up", cause=cause, log=console)
        if not self._before and (dead := _DEAD.search(self._machine.get_console_log())):
            raise MachineFailed(f"{name} cannot boot", cause=dead[0].strip(), log=console)


def _greets(qemu: Qemu, port: int, deadline: Deadline) -> bool:
    """Does an SSH server answer? QEMU takes the connection long before the guest can, and asks the guest only once."""
    try:
        with socket.create_connection(("127.0.0.1", port), 1.0) as channel:
            while not deadline.passed():
                with contextlib.suppress(TimeoutError):
                    return channel.recv(4) == b"SSH-"
                if not re.search(r"TCP\[ESTABLISHED\].*\s22\b", _monitor(qemu, "info usernet")):
                    return False
    except OSError:
        pass
    return False


def _monitor(qemu: Qemu, command: str) -> str:
    return str(qemu.qmp("human-monitor-command", **{"command-line": command}))


def _forwarded(qemu: Qemu) -> int:
    """The port of 127.0.0.1 that QEMU chose for the guest's port 22."""
    said = _monitor(qemu, "info usernet")
    found = re.search(r"TCP\[HOST_FORWARD\]\s+\d+\s+127\.0\.0\.1\s+(\d+)\s+\S+\s+22\b", said)
    if found is None:
        raise MachineFailed(f"QEMU does not say which port leads to {qemu.spec.name}", cause=clean(said))
    return int(found[1])


def stop_all(machines: Iterable[VirtualMachine | Qemu]) -> None:
    """End machines, all at once."""
    threads = [
        threading.Thread(target=machine.close if isinstance(machine, VirtualMachine) else machine.stop)
        for machine in machines
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
