"""Kadeploy's operations beside deployments: power, and reboots; each a workflow that can be asked how far it is."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem

POWER, REBOOT = "power", "reboot"
_PREFIXES = {POWER: "P-", REBOOT: "R-"}
_MICRO = {POWER: "power", REBOOT: "reboot"}
SWITCH_SECONDS, BOOT_SECONDS = 60.0, 600.0
KEPT = 1000
"""So many operations are remembered; the oldest that are over are forgotten first."""


class Machine(Protocol):
    """A node as its management controller sees it."""

    def on(self) -> bool: ...

    def power_on(self, deadline: Deadline) -> None: ...

    def power_off(self) -> None: ...

    def reset(self) -> None: ...

    def answers(self, deadline: Deadline) -> bool: ...


@dataclass
class Operation:
    """One workflow. `states` by node: macro and micro step, state (`ok`, `ko`, ...), what was said (`out`, `error`)."""

    wid: str
    kind: str
    user: str
    nodes: list[str]
    started_at: float
    states: dict[str, dict[str, Any]] = field(default_factory=dict)
    seconds: float | None = None
    """How long it took; None while it is under way."""


class Management:
    """Switches and reboots the nodes that have machines, by site and name. The steps of an operation run in threads."""

    def __init__(self, machines: Mapping[str, Mapping[str, Machine]]) -> None:
        self._machines = machines
        self._operations: dict[str, Operation] = {}
        self._lock = threading.Lock()

    def known(self, site: str) -> list[str]:
        """The nodes of a site that have machines."""
        return list(self._machines.get(site, {}))

    def power(self, site: str, user: str, nodes: list[str], do: str) -> Operation:
        """Switch nodes `on` or `off`, or ask for their `status`; returns at once."""

        def switch(name: str, machine: Machine) -> str:
            if do == "on":
                machine.power_on(Deadline.after(SWITCH_SECONDS, f"power for {name}"))
            elif do == "off":
                machine.power_off()
            return f"{name.partition('.')[0]}-bmc: {'on' if machine.on() else 'off'}"

        return self._begin(POWER, f"Power{do.capitalize()}", site, user, nodes, switch)

    def reboot(self, site: str, user: str, nodes: list[str]) -> Operation:
        """Press the reset button of nodes, and wait for their SSH servers; returns at once."""

        def press(name: str, machine: Machine) -> str:
            deadline = Deadline.after(BOOT_SECONDS, f"{name} after its reset")
            machine.reset()
            while not machine.answers(deadline):
                if deadline.passed():
                    raise deadline.error()
                deadline.sleep(1.0)
            return ""

        return self._begin(REBOOT, "Simple", site, user, nodes, press)

    def get(self, kind: str, wid: str) -> Operation | None:
        """An operation; None when there is none of that kind and number."""
        with self._lock:
            found = self._operations.get(wid)
        return found if found is not None and found.kind == kind else None

    def every(self, kind: str) -> list[Operation]:
        """All operations of a kind, as they began."""
        with self._lock:
            return [one for one in self._operations.values() if one.kind == kind]

    def forget(self, wid: str) -> None:
        """Forget an operation; what it began goes on."""
        with self._lock:
            self._operations.pop(wid, None)

    def _begin(
        self, kind: str, macro: str, site: str, user: str, nodes: list[str], work: Callable[[str, Machine], str]
    ) -> Operation:
        one = Operation(f"{_PREFIXES[kind]}{uuid.uuid4()}", kind, user, nodes, time.time())
        one.states = {node: {"macro": macro, "micro": _MICRO[kind], "state": "IN_PROGRESS"} for node in nodes}
        with self._lock:
            over = [wid for wid, other in self._operations.items() if other.seconds is not None]
            for wid in over[: max(0, len(self._operations) - KEPT)]:
                del self._operations[wid]
            self._operations[one.wid] = one
        threading.Thread(target=self._run, args=(one, site, work), name=one.wid, daemon=True).start()
        return one

    def _run(self, one: Operation, site: str, work: Callable[[str, Machine], str]) -> None:
        began = time.monotonic()

        def at(node: str) -> None:
            machine = self._machines.get(site, {}).get(node)
            try:
                if machine is None:
                    raise Problem(f"{node} is played, and has no machine")
                said = work(node, machine)
            except Problem as problem:
                one.states[node] = {**one.states[node], "state": "ko", "error": str(problem)}
            else:
                one.states[node] = {"macro": None, "micro": None, "state": "ok", **({"out": said} if said else {})}

        with ThreadPoolExecutor(max_workers=min(len(one.nodes), 32), thread_name_prefix=one.wid) as pool:
            list(pool.map(at, one.nodes))
        one.seconds = round(time.monotonic() - began, 2)
