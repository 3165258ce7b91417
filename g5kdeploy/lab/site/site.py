"""The site put together: namespaces, network, SSH, web, homes, nodes; and what the scheduler asks of it."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from g5kdeploy.base import files, process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import commands, home, names, network, ssh, standard, web
from g5kdeploy.lab.site.namespace import Namespace, Stage
from g5kdeploy.lab.site.nodes import Hardware, Node
from g5kdeploy.lab.site.systems import System

log = logging.getLogger(__name__)

BOOT_SECONDS = 600.0  # a node's way to its SSH server, on a busy machine without KVM
GRANT_SECONDS = 300.0
INSIDE = "/run/lab"  # the site's folder, as frontend and gateway see it


class Site:
    """A running site. `environments(name)` gives a registered environment's system, building it when it must."""

    def __init__(self, settings: Settings, places: Places, environments: Callable[[str, Deadline], System]) -> None:
        self.settings = settings
        self.places = places
        self.folder = places.folder / "site"
        self.namespace = Namespace()
        self.network = network.Network(self.namespace, self.folder, settings.nodes)
        hardware = Hardware(settings.memory, settings.cpus)
        self.nodes = {
            names.node(index): Node(index, places.nodes / f"{names.CLUSTER}-{index}", hardware, self.namespace)
            for index in range(1, settings.nodes + 1)
        }
        self.environment = environments
        self._doors: list[ssh.Door] = []
        self._servers: list[subprocess.Popen[bytes]] = []
        self._pool = ThreadPoolExecutor(max_workers=max(4, 2 * settings.nodes), thread_name_prefix="node")
        self._hosts = ""
        self._management = ""
        self.commands = commands.Commands(self.nodes)

    # ---- start and stop --------------------------------------------------------------------------------------------

    def start(self, deadline: Deadline) -> None:
        """Everything but the nodes, which are switched on when a job needs them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.places.folder.chmod(0o755)
        self._management = ssh.make_key(self.folder / "management", "management")
        host_keys = {name: ssh.make_key(self.folder / f"{name}_host_key", name) for name in ("access", "frontend")}
        user_home = self._prepare_home()
        self._write_accounts()
        self.commands.start(self.folder / "bin")
        self.namespace.start(self._stage(user_home), deadline)
        self.network.start(deadline)
        self.namespace.run(["chown", "-R", f"{standard.UID}:{standard.UID}", str(user_home)], deadline)
        self._start_servers(deadline)
        self._open_doors(host_keys)

    def _prepare_home(self) -> Path:
        """The user's home on the frontend: ~/public, ~/lab as the gateway has it, keys that open it and the nodes."""
        user = self.settings.user
        found = self.places.homes / user
        outside = ssh.make_key(self.places.home / ".ssh" / "id_ed25519", f"{user}@outside")
        if found.exists() and not os.access(found / ".ssh", os.W_OK):
            return found  # made by an earlier start, which gave it to one of the subordinate users
        for folder, mode in ((found, 0o755), (found / "public", 0o755), (found / ".ssh", 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        if not (found / names.SITE).is_symlink():
            (found / names.SITE).symlink_to(".")
        own = ssh.make_key(found / ".ssh" / "id_ed25519", f"{user}@{names.FRONTEND_NAMES[1]}")
        authorized = found / ".ssh" / "authorized_keys"
        lines = authorized.read_text().splitlines() if authorized.exists() else []
        lines += [key for key in (outside, own) if key not in lines]
        files.write(authorized, "\n".join(lines) + "\n", 0o600)
        config = "Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile /dev/null\n  LogLevel ERROR\n"
        if not (found / ".ssh" / "config").exists():
            files.write(found / ".ssh" / "config", config, 0o600)
        return found

    def _write_accounts(self) -> None:
        """The accounts that frontend and gateway know, and the names."""
        user, uid = self.settings.user, standard.UID
        system = "root:x:0:0:root:/root:/bin/bash\nsshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        nobody = "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
        etc = self.folder / "etc"
        files.write(etc / "passwd", f"{system}{nobody}{user}:x:{uid}:{uid}::/home/{user}:/bin/bash\n")
        files.write(etc / "group", f"root:x:0:\nnogroup:x:65534:\n{user}:x:{uid}:\n")
        files.write(etc / "shadow", "".join(f"{name}:*:19000:0:99999:7:::\n" for name in ("root", "sshd", user)), 0o640)
        files.write(etc / "hosts", names.hosts(self.settings.nodes))
        files.write(etc / "resolv.conf", f"search {names.DOMAIN}\nnameserver {names.gateway()}\n")
        files.write(etc / "nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")

    def _stage(self, user_home: Path) -> Stage:
        etc = self.folder / "etc"
        self.places.nodes.mkdir(parents=True, exist_ok=True)
        return Stage(
            hostname=names.FRONTEND_NAMES[1],
            addresses=network.addresses(),
            taps=tuple(network.tap(index) for index in range(1, self.settings.nodes + 1)),
            binds={
                f"/home/{self.settings.user}": user_home,
                "/run/site": self.folder / "bin",
                INSIDE: self.folder,
            },
            files={f"/etc/{file.name}": file for file in sorted(etc.iterdir())},
        )

    def _sshd(self, name: str, address: str) -> list[str]:
        """The words that start an sshd; paths are those that a login shell sees: /home is another one there."""
        configuration = ssh.sshd_configuration(f"{INSIDE}/{name}_host_key", address, [self.settings.user])
        files.write(self.folder / f"sshd_{name}.conf", configuration)
        return [ssh.sshd_program(), "-f", f"{INSIDE}/sshd_{name}.conf", "-E", f"{INSIDE}/sshd_{name}.log"]

    def _start_servers(self, deadline: Deadline) -> None:
        spawn, logs = self.namespace.spawn, self.folder
        for name, address in (("access", names.ACCESS_IP), ("frontend", names.FRONTEND_IP)):
            self._servers.append(spawn([*self._sshd(name, address), "-D"], logs / f"sshd_{name}.log", mounts=True))
        words = [web.__name__, names.PUBLIC_IP, "80", str(self.places.homes)]
        self._servers.append(spawn([sys.executable, "-m", *words], logs / "web.log"))
        wanted = [f"{names.ACCESS_IP}:22", f"{names.FRONTEND_IP}:22", f"{names.PUBLIC_IP}:80"]
        while True:
            listening = self.namespace.run(["ss", "-lntH"], deadline).stdout.split()
            missing = [one for one in wanted if one not in listening]
            if not missing:
                return
            for server in self._servers:
                if server.poll() is not None:
                    raise Problem("a server of the site ended while it started", log=self.folder)
            deadline.sleep(0.1, f"nothing listens on {missing[0]} yet")

    def _open_doors(self, host_keys: dict[str, str]) -> None:
        """Gateway and frontend on addresses outside, with the same names and ports as the last time where possible."""
        record = self.folder / "doors.json"
        kept = files.read_json(record) if record.exists() else {}
        enter = self.namespace.enter(mounts=True)
        access, frontend = home.loopback(self.places.folder)
        wanted = [
            (
                ssh.Address(access, 0),
                [*enter, *self._sshd("access", names.ACCESS_IP), "-i"],
                self.settings.max_startups,
            ),
            (ssh.Address(frontend, 0), [*enter, *self._sshd("frontend", names.FRONTEND_IP), "-i"], 0),
        ]
        self._doors = ssh.open_doors(
            wanted,
            self.folder / "doors.log",
            privileged=self.namespace.root,
            remembered=kept.get("ports", []),
        )
        self.access, self.frontend = (door.address for door in self._doors)
        files.write_json(record, {"ports": [door.address.port for door in self._doors]})
        for door in self._doors:
            door.open()
        own = self.places.home / ".ssh"
        known = home.known_hosts(self.access, self.frontend, host_keys["access"], host_keys["frontend"])
        files.write(own / "known_hosts", known, 0o600)
        files.write(own / "config", home.ssh_config(self.places.home, self.settings.user, self.access), 0o600)
        if self.namespace.root and self.access.port == self.frontend.port == 22:
            block = home.hosts_block(self.places.folder, self.access, self.frontend)
            if home.write_hosts(block):
                self._hosts = block

    @property
    def names_in_hosts(self) -> bool:
        """Are gateway and frontend known by name outside?"""
        return bool(self._hosts)

    def write_credentials(self, url: str) -> None:
        """Put the client's credentials for the API at `url` into LAB_HOME."""
        secret = home.password(self.folder / "password")
        content = home.credentials(url, self.settings.user, secret)
        files.write(self.places.home / ".python-grid5000.yaml", content, 0o600)

    def stop(self) -> None:
        """End everything: nodes, servers, doors, network, names."""
        home.remove_hosts(self._hosts)
        for door in self._doors:
            door.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.namespace.stop()  # ends every process inside, machines too
        for node in self.nodes.values():
            node.power_off()
        self.network.stop()
        for server in self._servers:
            process.stop(server)
        self.commands.stop()

    # ---- what scheduler and API ask for ------------------------------------------------------------------------------

    def download(self, url: str, to: Path, deadline: Deadline) -> None:
        """Fetch a large file into `to`, as a machine of the site sees it."""
        words = ["curl", "--fail", "--silent", "--show-error", "--location", "--", url]
        with to.open("wb") as file:
            child = subprocess.Popen(
                [*self.namespace.enter(mounts=True), *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
            try:
                _, said = child.communicate(timeout=deadline.remaining())
            except subprocess.TimeoutExpired as error:
                raise deadline.error(f"{url} was still being fetched") from error
            finally:
                process.stop(child)
        if child.returncode != 0:
            raise Problem(f"{url} cannot be fetched", cause=said.decode(errors="replace").strip())

    def user_keys(self) -> str:
        """The public keys with which the user reaches the nodes of his jobs."""
        path = self.places.homes / self.settings.user / ".ssh" / "authorized_keys"
        return self.namespace.run(["cat", str(path)], Deadline.after(30, "the user's keys")).stdout

    def host_key(self, node: Node, *, fresh: bool) -> bytes:
        """A node's private host key; `fresh`: a new one, as every deployment gets."""
        path = node.folder / "host_key"
        if fresh:
            path.unlink(missing_ok=True)
        node.folder.mkdir(parents=True, exist_ok=True)
        ssh.make_key(path, node.name)
        return path.read_bytes()

    def boot_standard(self, node: Node, deadline: Deadline) -> None:
        """Bring a node into the standard environment; nothing happens when it runs it already."""
        with node.use:
            system = self.environment("standard", deadline)
            if node.on() and node.runs == system.name and node.answers(deadline):
                return
            node.power_off()
            key = self.host_key(node, fresh=False)
            user = self.settings.user
            entries = standard.handover(node.index, self.settings.nodes, key, user, self._management)
            node.install(system, entries, deadline, keep=True)
            node.boot(deadline)

    def _manage(self, node: Node, words: list[str], deadline: Deadline, keys: str = "") -> str:
        """A command as root on a node of the standard environment, with the site's own key."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20"]
        argv = ["ssh", "-F", "none", "-i", str(self.folder / "management"), "-o", "IdentitiesOnly=yes"]
        argv += [word for option in options for word in ("-o", option)]
        return self.namespace.run([*argv, f"root@{node.address}", *words], deadline, input=keys).stdout

    def open_for(self, addresses: Iterable[str], user: str) -> list[str]:
        """Boot nodes into the standard environment and let the user in; returns those that did not come up."""

        def one(address: str) -> bool:
            node = self.nodes[address]
            try:
                deadline = Deadline.after(BOOT_SECONDS, f"the standard environment on {node.name}")
                self.boot_standard(node, deadline)
                limit = Deadline.after(GRANT_SECONDS, f"{user}'s access to {node.name}")
                self._manage(node, ["lab-access", "grant", user], limit, self.user_keys())
            except Problem as problem:
                log.warning("%s is not ready for a job: %s", address, problem)
                return False
            return True

        asked = [address for address in addresses if address in self.nodes]
        return [address for address, ready in zip(asked, self._pool.map(one, asked), strict=True) if not ready]

    def close_for(self, addresses: Iterable[str], user: str, *, deployed: bool) -> None:
        """Take nodes back at a job's end. Deployed ones, and those where the user was root, lose disk and power."""

        def one(address: str) -> None:
            node = self.nodes[address]
            dirty = deployed
            if not deployed and node.on():
                limit = Deadline.after(GRANT_SECONDS, f"the end of {user}'s access to {node.name}")
                try:
                    dirty = "dirty" in self._manage(node, ["lab-access", "revoke", user], limit)
                except Problem as problem:
                    log.warning("%s is started anew: %s", address, problem)
                    dirty = True
            with node.use:
                if dirty:
                    node.forget()
                node.vlan = None
                with contextlib.suppress(Problem):
                    self.network.move(node.index, None)

        list(self._pool.map(one, [address for address in addresses if address in self.nodes]))
