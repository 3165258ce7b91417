"""Kadeploy's work, done on machines: bring an environment onto nodes, in three macro steps, all nodes at once."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from g5kdeploy.base.cpio import Entry
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.deployments import MACRO_STEPS, NO_RIGHTS, Deployment, Report
from g5kdeploy.lab.description import BadDescription, checked
from g5kdeploy.lab.site import disk, postinstall, standard
from g5kdeploy.lab.site.images import Images
from g5kdeploy.lab.site.nodes import Node
from g5kdeploy.lab.site.site import Site
from g5kdeploy.lab.site.systems import System

log = logging.getLogger(__name__)

MINI_OS, BROADCAST, BOOT = MACRO_STEPS
PAUSES = {MINI_OS: 100.0, BROADCAST: 30.0, BOOT: 0.0}
"""Seconds that the real thing takes for what the lab does at once: reboots into a deployment system, a broadcast."""
BROADCAST_SECONDS = 600.0
BOOT_SECONDS = 600.0
Content = tuple[System, list[postinstall.PostInstall]]
"""What comes onto each node's disk: a system, and what is run over it before its first boot."""


def refusal(wanted: Deployment) -> str:
    """Why kadeploy does not take a deployment, "" when it does: a description that is none, or a partition that nodes lack."""
    try:
        checked(wanted.description)
    except BadDescription as bad:
        return f"Invalid environment specification -- {bad}"
    part = f"{wanted.block_device or disk.NAME}{wanted.partition_label or 'DEPLOY'}"
    return "" if part == f"{disk.NAME}DEPLOY" else f"{NO_RIGHTS} -- deployment on partition {part}"


class Deployer:
    """Deploys onto a site's nodes. `pace` divides the pauses."""

    def __init__(self, site: Site, images: Images, pace: float) -> None:
        self._site = site
        self._images = images
        self._pace = pace
        self._running: dict[str, tuple[threading.Event, frozenset[str]]] = {}
        self._lock = threading.Lock()

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin, and return at once."""
        stopped = threading.Event()
        with self._lock:
            self._running[deployment.uid] = (stopped, frozenset(map(str, deployment.nodes)))
        work = _Work(self._site, self._images, self._pace, deployment, report, stopped)
        threading.Thread(target=self._run, args=(work,), name=f"deployment {deployment.uid}", daemon=True).start()

    def _run(self, work: _Work) -> None:
        try:
            work.run()
        finally:
            with self._lock:
                self._running.pop(work.deployment.uid, None)

    def cancel(self, uid: str) -> None:
        """Give up on a deployment at its next step; a node that is booting stays off."""
        with self._lock:
            stopped, _ = self._running.get(uid, (None, ()))
        if stopped is not None:
            stopped.set()

    def abandon(self, nodes: Iterable[str]) -> None:
        """Give up on the deployments of these nodes: their job is over."""
        gone = set(nodes)
        with self._lock:
            for stopped, deployed in self._running.values():
                if gone & deployed:
                    stopped.set()

    def stop(self) -> None:
        """Give up on all."""
        with self._lock:
            for stopped, _ in self._running.values():
                stopped.set()


class _Work:
    """One deployment under way."""

    def __init__(
        self, site: Site, images: Images, pace: float, deployment: Deployment, report: Report, stopped: threading.Event
    ) -> None:
        self.deployment = deployment
        self._site = site
        self._images = images
        self._pace = pace
        self._report = report
        self._stopped = stopped

    def run(self) -> None:
        names = [str(name) for name in self.deployment.nodes]
        self._images.folder.mkdir(parents=True, exist_ok=True)
        with (
            tempfile.TemporaryDirectory(dir=self._images.folder) as folder,
            ThreadPoolExecutor(max_workers=len(names) + 1, thread_name_prefix="deploy") as pool,
        ):
            # fetched and unpacked once, while the nodes go through their first step
            content = pool.submit(self._content, Path(folder))
            list(pool.map(lambda name: self._guarded(name, content), names))

    def _content(self, folder: Path) -> Content:
        deadline = Deadline.after(BROADCAST_SECONDS, f"the image of {self.deployment.environment}")
        installs = postinstall.fetched(self.deployment.description, self._site, folder, deadline)
        return self._images.system(self.deployment, deadline), installs

    def _guarded(self, name: str, content: Future[Content]) -> None:
        step, begun = MINI_OS, ""

        def begin(macro: str, micro: str) -> None:
            nonlocal step, begun
            if self._stopped.is_set():
                raise Problem("the deployment was canceled")
            step = macro
            self._report(name, macro, None, micro)
            if macro != begun:
                self._stopped.wait(PAUSES[macro] / self._pace)
            begun = macro

        try:
            node = self._site.nodes.get(name)
            if not name.endswith(f".{self._site.names.domain}"):
                raise Problem(f"{name} is no node of this site")
            if node is None:
                self._play(begin)
            else:
                with node.use:
                    self._one(node, content, begin)
        except Problem as problem:
            log.warning("deployment %s lost %s in %s: %s", self.deployment.uid, name, step, problem)
            self._report(name, step, False, str(problem))
        except Exception as error:
            log.exception("deployment %s lost %s in %s", self.deployment.uid, name, step)
            self._report(name, step, False, f"internal error: {error}")
            raise
        else:
            self._report(name, BOOT, True, "")

    def _play(self, begin: Callable[[str, str], None]) -> None:
        """A node that is not there goes through the steps in time."""
        for step in MACRO_STEPS:
            begin(step, "reboot")

    def _one(self, node: Node, content: Future[Content], begin: Callable[[str, str], None]) -> None:
        deadline = Deadline.after(BROADCAST_SECONDS, f"the image on {node.name}")
        begin(MINI_OS, "reboot")
        node.power_off()
        parts = node.ensure_disk(deadline)
        if self.deployment.reformat_tmp:
            disk.make_ext4(parts[disk.TMP], deadline, label="scratch")
        begin(BROADCAST, "send_environment")
        system, installs = content.result(deadline.remaining())
        node.install(system, self._entries(node), deadline)
        if installs:
            begin(BROADCAST, "manage_user_post_install")
            patience = Deadline.after(BOOT_SECONDS, f"the post-installations on {node.name}")
            postinstall.run(installs, self.deployment.description, self._site, node, patience)
            node.boots(system, system.initrd)
        begin(BOOT, "reboot")
        node.vlan = self.deployment.vlan or None
        self._site.network.move(node.index, node.vlan)
        self._boot(node)

    def _entries(self, node: Node) -> dict[str, Entry]:
        """Name and host key of the node, and the user's key for root."""
        entries = self._site.identity(node, fresh=True)
        if self.deployment.keys.strip():
            entries |= standard.root_keys(self.deployment.keys)
        return entries

    def _boot(self, node: Node) -> None:
        node.boot(Deadline.after(BOOT_SECONDS, f"{node.name}'s boot of {self.deployment.environment}"), self._stopped)


class BySite:
    """Hands each deployment to the deployer of its site; what is asked of a site that has none, to the first."""

    def __init__(self, deployers: Mapping[str, Deployer]) -> None:
        self._deployers = deployers

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin, and return at once."""
        first = next(iter(self._deployers.values()))
        self._deployers.get(deployment.site_uid, first).start(deployment, report)

    def cancel(self, uid: str) -> None:
        """Give up on a deployment, whoever has it."""
        for one in self._deployers.values():
            one.cancel(uid)
