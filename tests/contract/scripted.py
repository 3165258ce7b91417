"""A lab for tests: the real API and the real scheduler, a clock that is turned by hand, nodes that follow a script."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.api import Server, make_app
from g5kdeploy.lab.deployments import MACRO_STEPS, Deployment, Deployments, Report
from g5kdeploy.lab.faults import Faults
from g5kdeploy.lab.inventory import interfaces, resources
from g5kdeploy.lab.kaenv import Environments, environment
from g5kdeploy.lab.kavlan import DEFAULT, Kavlan, usual_vlans
from g5kdeploy.lab.oar import Oar
from g5kdeploy.lab.oar.admission import GRID5000
from g5kdeploy.lab.reference import NodeHardware, Reference, SiteNetwork, lab_site
from g5kdeploy.lab.services import SiteServices

TUESDAY = 1_795_510_800.0  # 2026-11-24 10:00 in Paris
STEP_SECONDS = 40.0
USERS = {"jdoe": "secret", "asmith": "other"}


class HandClock:
    """Time that stands still until somebody turns it, or sleeps: a submission that waits for its validation does."""

    def __init__(self, now: float = TUESDAY) -> None:
        self.now = now
        self._lock = threading.Lock()

    def turn(self, seconds: float) -> None:
        with self._lock:
            self.now += seconds

    def as_clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self.turn)


@dataclass
class Script:
    """What happens to a node in its next deployments: lost in step `ko_at` with `error`, or slow, or never ready."""

    ko_at: str | None = None
    error: str = "The node did not answer"
    step_seconds: float = STEP_SECONDS
    times: int = 1
    hangs: bool = False


@dataclass
class _Run:
    deployment: Deployment
    report: Report
    began: float
    scripts: dict[str, Script]
    ended: set[str] = field(default_factory=set)


class ScriptedDeployer:
    """Deploys nothing, and reports it in time: every macro step takes as long as the script of the node says."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.started: list[Deployment] = []
        self.cancelled: list[str] = []
        self._scripts: dict[str, list[Script]] = {}
        self._broken: list[str] = []
        self._runs: dict[str, _Run] = {}
        self._lock = threading.Lock()

    def order(self, node: str, **script: Any) -> None:
        """Order what happens to a node; without an order it is deployed after three steps of 40 s."""
        name = node if "." in node else f"{node}.lab.grid5000.fr"
        self._scripts.setdefault(name, []).append(Script(**script))

    def break_down(self, text: str = "kascade died") -> None:
        """The next deployment's workflow breaks down as a whole."""
        self._broken.append(text)

    def start(self, deployment: Deployment, report: Report) -> None:
        with self._lock:
            self.started.append(deployment)
            scripts = {str(node): self._next(str(node)) for node in deployment.nodes}
            if self._broken:
                report("", MACRO_STEPS[0], False, self._broken.pop(0))
                return
            self._runs[deployment.uid] = _Run(deployment, report, self.clock.now, scripts)

    def cancel(self, uid: str) -> None:
        with self._lock:
            self.cancelled.append(uid)
            self._runs.pop(uid, None)

    def tick(self) -> None:
        """Report what has happened by now."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            for node, script in run.scripts.items():
                if node not in run.ended:
                    self._advance(run, node, script)
            if len(run.ended) == len(run.scripts):
                with self._lock:
                    self._runs.pop(run.deployment.uid, None)

    def _advance(self, run: _Run, node: str, script: Script) -> None:
        at = int((self.clock.now - run.began) / script.step_seconds)
        if script.ko_at is not None and at > MACRO_STEPS.index(script.ko_at):
            run.ended.add(node)
            run.report(node, script.ko_at, False, script.error)
        elif at >= len(MACRO_STEPS) and not script.hangs:
            run.ended.add(node)
            run.report(node, MACRO_STEPS[-1], True, "")
        else:
            run.report(node, MACRO_STEPS[min(at, len(MACRO_STEPS) - 1)], None, "reboot")

    def _next(self, node: str) -> Script:
        waiting = self._scripts.get(node, [])
        if not waiting:
            return Script()
        waiting[0].times -= 1
        return waiting.pop(0) if waiting[0].times < 1 else waiting[0]


class Oars(Mapping[str, Oar]):
    """A scheduler for each site, made when it is first asked for: a world of sites costs nothing until then."""

    def __init__(
        self, folder: Path, reference: Reference, network: SiteNetwork, hand: HandClock, pace: float = 1.0
    ) -> None:
        self.folder, self.reference, self.network, self.hand, self.pace = folder, reference, network, hand, pace
        self.made: dict[str, Oar] = {}
        self._lock = threading.Lock()

    def __getitem__(self, site: str) -> Oar:
        if site not in self:
            raise KeyError(site)
        with self._lock:
            if site not in self.made:
                found = resources(self.reference, site, self.network)
                store = self.folder / f"{site}.sqlite"
                self.made[site] = Oar(
                    store,
                    found,
                    clock=self.hand.as_clock(),
                    pace=self.pace,
                    users=USERS.__contains__,
                    rules=GRID5000,
                )
            return self.made[site]

    def __contains__(self, site: object) -> bool:
        return site in self.reference.sites()

    def __iter__(self) -> Iterator[str]:
        return iter(self.reference.sites())

    def __len__(self) -> int:
        return len(self.reference.sites())


class Lab:
    """A running lab. `home` is what a client takes for its HOME, `url` the API as that client knows it.

    Without a `world` it is the site `lab` with its `nodes`; `oar` is the scheduler of the (first) site. It begins at
    `now` (unix time); `pace` is the scheduler's.
    """

    def __init__(
        self,
        folder: Path,
        nodes: int = 4,
        world: Reference | None = None,
        *,
        now: float = TUESDAY,
        pace: float = 1.0,
        deployer: Callable[[HandClock], ScriptedDeployer] = ScriptedDeployer,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.home = folder / "home-of-jdoe"
        self.hand = HandClock(now)
        self.network = SiteNetwork()
        self.reference = world or lab_site(nodes, NodeHardware(cores=2), self.network)
        self.oars = Oars(folder, self.reference, self.network, self.hand, pace)
        first = self.reference.sites()[0]
        self.oar = self.oars[first]
        self.deployer = deployer(self.hand)
        self.environments = Environments(
            environment(name, f"server:///grid5000/images/{name}.tar.zst") for name in ("debian12-min", "debian12-std")
        )
        vlans = Kavlan(usual_vlans(), dict.fromkeys(interfaces(self.reference, first), DEFAULT), holders=self._holders)
        kavlans = {first: vlans}
        self.services = SiteServices(
            reference=self.reference,
            oars=self.oars,
            accounts=Accounts(USERS),
            deployments=Deployments(
                folder / "deployments.sqlite",
                self.deployer,
                self.environments,
                rights=lambda user, names: self.services.may_deploy(user, names),
                kavlans=kavlans,
                clock=self.hand.as_clock(),
            ),
            environments=self.environments,
            kavlans=kavlans,
            homes={"lab": folder / "homes"},
            clock=self.hand.as_clock(),
        )
        self.faults = Faults(make_app(self.services))
        self._turning = threading.RLock()
        self._holder = socket.socket()  # keeps the port for this lab while its server is down
        self._holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        self._holder.bind(("127.0.0.1", 0))
        self.port = int(self._holder.getsockname()[1])
        self.server: Server | None = None
        self.url = f"http://127.0.0.1:{self.port}/stable"
        self.write_home(self.home, "jdoe", USERS["jdoe"])

    def write_home(self, home: Path, user: str, password: str) -> None:
        """A home folder with credentials in the form that python-grid5000 reads."""
        lines = [f"uri: {self.url}", f"username: {user}", f"password: {password}", "verify_ssl: false", "timeout: 20"]
        files.write(home / ".python-grid5000.yaml", "\n".join(lines) + "\n", mode=0o600)

    def node_names(self, count: int = 4) -> list[str]:
        return [f"vm-{number}.lab.grid5000.fr" for number in range(1, count + 1)]

    def _holders(self, vlan: str) -> list[str]:
        return [
            job.user
            for job in self.oar.current()
            if job.state == "Running" and any(one.properties.get("vlan") == vlan for one in job.assigned)
        ]

    def up(self) -> None:
        """Start answering."""
        if self.server is None:
            self.server = Server(self.faults, port=self.port)
            self.server.reuse_port()
            self.server.start()

    def down(self) -> None:
        """Stop answering: connections are refused, on the same port, until `up`."""
        if self.server is not None:
            self.server.stop()
            self.server = None

    def close(self) -> None:
        self.down()
        for oar in self.oars.made.values():
            oar.stop()
        self.services.deployments.close()
        self._holder.close()

    def advance(self, seconds: float) -> None:
        """Turn the clock, in small steps; scheduler and deployer do at each what is due."""
        with self._turning:
            end = self.hand.now + seconds
            while self.hand.now < end:
                self.hand.turn(min(end - self.hand.now, max(1.0, seconds / 100)))
                for oar in list(self.oars.made.values()):
                    oar.tick()
                self.deployer.tick()

    @property
    def clock(self) -> Clock:
        """For a client in a test: its sleeping turns the lab's clock, so that nobody waits."""
        return Clock(monotonic=lambda: self.hand.now, wall=lambda: self.hand.now, sleep=self.advance)

    @contextlib.contextmanager
    def running(self, pace: float = 60.0) -> Iterator[None]:
        """Let the clock run by itself, `pace` times as fast as the real one: for clients that sleep for real."""
        over = threading.Event()

        def turn() -> None:
            last = time.monotonic()
            while not over.wait(0.02):
                now = time.monotonic()
                self.advance((now - last) * pace)
                last = now

        thread = threading.Thread(target=turn, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(60)
