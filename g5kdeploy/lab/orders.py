"""Bad luck by order, while a lab runs: faults of its API, nodes lost in a deployment, jobs killed, sites down."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.control_socket import WrongOrder
from g5kdeploy.lab.deployments import MACRO_STEPS, Deployment, Report
from g5kdeploy.lab.deployments import Deployer as Inner
from g5kdeploy.lab.faults import GATEWAY_PAGE, LONGEST, Fault, Faults
from g5kdeploy.lab.oar import Refused, Scheduler
from g5kdeploy.lab.oar.model import NODE_STATES

FOR_EVER = 10**9
ITS_OWN = "jobs|deployments|environments|vlans|status|internal|metrics|storage|firewall|public|files"
"""What of a site is served by the site itself; its reference data comes from anywhere."""
DOWN_PAGE = (
    "<html><head><title>503 Service Unavailable</title></head><body><h1>Service Unavailable</h1>"
    "<p>The server is temporarily unable to service your request.</p></body></html>"
)


@dataclass
class Loss:
    """A node that is lost, or held up, in a macro step of its next `times` deployments."""

    node: str
    step: str
    text: str
    times: int = 1
    delay: float = 0.0
    """Seconds for which it is held up; it is lost only when this is 0."""

    def told(self) -> str:
        """What happens, in words."""
        return f"{self.delay:g} s longer in {self.step}" if self.delay else f"lost in {self.step}: {self.text}"


class UnluckyDeployer:
    """A deployer with orders: which nodes it loses in which step of their next deployments."""

    def __init__(self, inner: Inner) -> None:
        self._inner = inner
        self._losses: list[Loss] = []
        self._sleepers: dict[str, float] = {}
        self._lock = threading.Lock()
        self._cleared = threading.Event()

    def order(self, loss: Loss) -> None:
        """Order what happens to a node."""
        with self._lock:
            self._losses.append(loss)

    def let_sleep(self, node: str, seconds: float) -> None:
        """Order that the next job has to wait so long for this node to be on."""
        with self._lock:
            self._sleepers[node] = seconds

    def wake(self, nodes: Iterable[str]) -> None:
        """Switch nodes on for a job: returns when the slowest is."""
        with self._lock:
            cleared = self._cleared
            slowest = max((self._sleepers.pop(node, 0.0) for node in nodes), default=0.0)
        cleared.wait(slowest)

    def orders(self) -> list[Loss]:
        """What is still ordered."""
        with self._lock:
            sleeping = [Loss(node, "its boot", "", delay=seconds) for node, seconds in self._sleepers.items()]
            return [*(one for one in self._losses if one.times > 0), *sleeping]

    def clear(self) -> None:
        """Take all orders back; what is held up goes on."""
        with self._lock:
            self._losses.clear()
            self._sleepers.clear()
            self._cleared.set()
            self._cleared = threading.Event()

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin a deployment; an order counts for the deployment that its node is in when it begins."""
        mine: dict[str, Loss] = {}
        with self._lock:
            cleared = self._cleared
            for node in map(str, deployment.nodes):
                loss = next((one for one in self._losses if one.times > 0 and one.node == node), None)
                if loss is not None:
                    loss.times -= 1
                    mine[node] = loss

        def told(node: str, step: str, ok: bool | None, text: str) -> None:
            report(node, step, ok, text)
            loss = mine.get(node)
            if loss is None or ok is not None or step != loss.step:
                return
            del mine[node]
            if not loss.delay:
                raise Problem(loss.text)  # the deployer takes it for what became of the node
            cleared.wait(loss.delay)

        self._inner.start(deployment, told)

    def cancel(self, uid: str) -> None:
        """Give up on a deployment."""
        self._inner.cancel(uid)


@dataclass
class Orders:
    """Takes orders as mappings, `{"do": "api", ...}`, and says what was done; `schedulers` are by site."""

    faults: Faults
    deployer: UnluckyDeployer
    schedulers: Mapping[str, Scheduler]
    nodes: Iterable[str]

    def take(self, order: Mapping[str, Any]) -> list[str]:
        """Do what is ordered; lines that say so. Raises `WrongOrder`, or `Problem` for what cannot be done."""
        wanted = dict(order)
        kind = wanted.pop("do", "")
        if kind not in ("api", "node", "job", "site", "list", "clear"):
            raise WrongOrder(f"a lab takes no order {kind!r}")
        lines: list[str] = getattr(self, f"_{kind}")(**wanted)
        return lines

    def _api(self, method: str, path: str, times: int, **effect: Any) -> list[str]:
        if effect.pop("hang", False):
            effect["hang"] = threading.Event()
        if effect.pop("garbage", False):
            effect.update(status=effect.get("status") or 200, body=GATEWAY_PAGE, type="text/html")
        for pattern in (method, path):
            try:
                re.compile(pattern)
            except re.error as error:
                raise WrongOrder(f"{pattern!r} is no regular expression", cause=str(error)) from error
        made = self.faults.order(method=method, path=path, times=times, **effect)
        return [_line(made)]

    def _node(
        self, node: str, ko_at: str = "", text: str = "", times: int = 1, delay: float = 0.0, state: str = ""
    ) -> list[str]:
        name = self._name(node)
        done = []
        if ko_at:
            if ko_at not in MACRO_STEPS:
                raise WrongOrder(f"kadeploy has no step {ko_at}", hint=", ".join(MACRO_STEPS))
            loss = Loss(name, ko_at, text or "The node did not answer", times, delay)
            self.deployer.order(loss)
            done.append(_line(loss))
        elif delay:
            self.deployer.let_sleep(name, delay)
            done.append(_line(Loss(name, "its boot", "", delay=delay)))
        if state:
            found = next((one for one in NODE_STATES if one.lower() == state.lower()), None)
            if found is None:
                raise WrongOrder(f"no node can be {state}", hint=", ".join(NODE_STATES))
            self._scheduler(name.split(".")[1]).set_state(name, found)
            done.append(f"{name}: {found}")
        return done

    def _name(self, node: str) -> str:
        for name in self.nodes:
            if node in (name, name.split(".")[0]):
                return name
        raise WrongOrder(f"the lab has no node {node}", hint="g5kdeploy lab status")

    def _job(self, job: int, site: str) -> list[str]:
        try:
            self._scheduler(site).delete(job, "root")
        except Refused as error:
            raise Problem(f"job {job} of {site} cannot be killed", cause=error.message.strip()) from error
        return [f"job {job}: killed"]

    def _scheduler(self, site: str) -> Scheduler:
        if site not in self.schedulers:
            raise WrongOrder(f"the lab has no site {site}", hint=f"its sites are {', '.join(self.schedulers)}")
        return self.schedulers[site]

    def _site(self, site: str) -> list[str]:
        self._scheduler(site)
        where = rf"^/[^/]+/sites/{re.escape(site)}/({ITS_OWN})(/|\?|$)"
        self.faults.order(path=where, times=FOR_EVER, status=503, body=DOWN_PAGE, type="text/html")
        return [f"site {site}: down"]

    def _list(self) -> list[str]:
        return [*map(_line, self.faults.orders()), *map(_line, self.deployer.orders())]

    def _clear(self) -> list[str]:
        lines = [f"{line}: taken back" for line in self._list()]
        self.faults.clear()
        self.deployer.clear()
        return lines


def _line(order: Fault | Loss) -> str:
    """An order in one line: what, whom, how often."""
    where = order.node if isinstance(order, Loss) else f"{order.method} {order.path}"
    often = "from now on" if order.times > FOR_EVER // 2 else "once" if order.times == 1 else f"{order.times} times"
    return f"{where}: {order.told()}, {often}"


__all__ = ["LONGEST", "Loss", "Orders", "UnluckyDeployer"]
