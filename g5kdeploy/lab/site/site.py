"""One site put together: namespaces, network, SSH, web, homes, nodes; and what the scheduler asks of it."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from g5kdeploy.base import files, process
from g5kdeploy.base.cpio import Entry
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import commands, names, network, ssh, standard, web
from g5kdeploy.lab.site.names import LAB, Names
from g5kdeploy.lab.site.namespace import Namespace, Stage
from g5kdeploy.lab.site.nodes import Hardware, Node
from g5kdeploy.lab.site.systems import System

log = logging.getLogger(__name__)

BOOT_SECONDS = 600.0  # a node's way to its SSH server, on a busy machine without KVM
GRANT_SECONDS = 300.0
INSIDE = "/run/lab"  # the site's folder, as frontend and gateway see it
OTHERS = "/run/homes"  # the homes of other sites, as the gateway sees them
ACCESS, FRONTEND = "access", "frontend"


class Site:
    """A running site. `environments(name)` gives a registered environment's system, building it when it must.

    `sites` are all of the lab; `outer` is the first of them, which has the gateway and the lines to the others (None: it
    is this one).
    """

    def __init__(
        self,
        settings: Settings,
        places: Places,
        environments: Callable[[str, Deadline], System],
        own: Names = LAB,
        sites: Sequence[Names] = (LAB,),
        outer: Site | None = None,
    ) -> None:
        self.settings = settings
        self.places = places
        self.names = own
        self.folder = places.of(own.site) / "site"
        self.homes = places.homes(own.site)
        self.outer = outer
        self._others = [] if outer else [one.site for one in sites if one != own]
        self.namespace: Namespace = Namespace(outer.namespace if outer else None)
        self.hosts = names.hosts(own, sites, settings.nodes)
        self.network: network.Network = network.Network(
            own, self.namespace, self.folder, settings.nodes, self.hosts, sites, outer.network if outer else None
        )
        hardware = Hardware(settings.memory, settings.cpus)
        self.nodes = {
            own.node(index): Node(own, index, places.nodes / own.short(index), hardware, self.namespace)
            for index in range(1, settings.nodes + 1)
        }
        self.environment = environments
        self._pool = ThreadPoolExecutor(max_workers=max(4, 2 * settings.nodes), thread_name_prefix="node")
        self._management = ""
        self.commands = commands.Commands(own, self.nodes)

    @property
    def hostname(self) -> str:
        """What the frontend calls itself."""
        return self.names.frontend_names[1]

    @property
    def machines(self) -> dict[str, str]:
        """The machines that let users in, with their addresses on the site's network."""
        gateway = {ACCESS: self.names.access_ip} if self.outer is None else {}
        return {**gateway, FRONTEND: self.names.frontend_ip}

    # ---- start and stop --------------------------------------------------------------------------------------------

    def start(self, deadline: Deadline) -> None:
        """Everything but the nodes, which are switched on when a job needs them."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.parent.chmod(0o755)
        self._management = ssh.make_key(self.folder / "management", "management")
        for machine in self.machines:
            self.host_key_of(machine)
        user_home = self._prepare_home()
        self._write_accounts()
        self.commands.start(self.folder / "bin")
        self.namespace.start(self._stage(user_home), deadline)
        if self.outer:
            self._join(self.outer, deadline)
        self.network.start(deadline)
        self.namespace.run(["chown", "-R", f"{standard.UID}:{standard.UID}", str(user_home)], deadline)
        self._start_servers(deadline)

    def _join(self, outer: Site, deadline: Deadline) -> None:
        """A line to the first site, which routes between all."""
        self.namespace.lay_line(self.names.site, "uplink", deadline)
        network, (there, here) = self.names.network, self.names.line
        first = [
            f"address add {there} peer {here} dev {self.names.site}",
            f"link set {self.names.site} up",
            *(
                f"route add {net} via {here} src {outer.names.frontend_ip}"
                for net in (network.production, network.routed_vlans, network.subnets)
            ),
        ]
        own = [
            f"address add {here} peer {there} dev uplink",
            "link set uplink up",
            f"route add default via {there} src {self.names.frontend_ip}",
        ]
        for side, batch in ((outer, first), (self, own)):
            side.namespace.run(["ip", "-batch", "-"], deadline, input="\n".join(batch) + "\n")

    def _prepare_home(self) -> Path:
        """The user's home on the frontend: ~/public, ~/SITE as the gateway has it, keys that open it and the nodes."""
        user = self.settings.user
        found = self.homes / user
        outside = ssh.make_key(self.places.home / ".ssh" / "id_ed25519", f"{user}@outside")
        inside = self.places.folder / "site" / "internal"
        own = ssh.make_key(inside, f"{user}@{LAB.site}")
        if found.exists() and not os.access(found / ".ssh", os.W_OK):
            return found  # made by an earlier start, which gave it to one of the subordinate users
        for folder, mode in ((found, 0o755), (found / "public", 0o755), (found / ".ssh", 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)
        for site in (self.names.site, *self._others):
            if not (found / site).is_symlink():
                (found / site).symlink_to(f"{OTHERS}/{site}/{user}" if site in self._others else ".")
        if not (found / ".ssh" / "id_ed25519").exists():  # one pair of keys for the homes of all sites
            shutil.copy(inside, found / ".ssh" / "id_ed25519")
            files.write(found / ".ssh" / "id_ed25519.pub", f"{own}\n")
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
        files.write(etc / "hosts", self.hosts)
        files.write(etc / "resolv.conf", f"search {self.names.domain}\nnameserver {self.names.gateway()}\n")
        files.write(etc / "nsswitch.conf", "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\n")

    def _stage(self, user_home: Path) -> Stage:
        etc = self.folder / "etc"
        self.places.nodes.mkdir(parents=True, exist_ok=True)
        for site in self._others:
            self.places.homes(site).mkdir(parents=True, exist_ok=True)
        own = (self.names.gateway(), *self.machines.values(), self.names.public_ip)
        return Stage(
            hostname=self.hostname,
            addresses=(*(f"{address}/{self.names.net().prefixlen}" for address in own), self.names.subnet_router),
            taps=tuple(self.names.short(node.index) for node in self.nodes.values()),
            binds={
                f"/home/{self.settings.user}": user_home,
                "/run/site": self.folder / "bin",
                INSIDE: self.folder,
                **{f"{OTHERS}/{site}": self.places.homes(site) for site in self._others},
            },
            files={f"/etc/{file.name}": file for file in sorted(etc.iterdir())},
        )

    def host_key_of(self, machine: str) -> str:
        """The public host key of gateway or frontend."""
        return ssh.make_key(self.folder / f"{machine}_host_key", machine)

    def _sshd(self, name: str) -> list[str]:
        """The words that start an sshd; paths are those that a login shell sees: /home is another one there."""
        key, address = f"{INSIDE}/{name}_host_key", self.machines[name]
        configuration = ssh.sshd_configuration(key, address, [self.settings.user])
        files.write(self.folder / f"sshd_{name}.conf", configuration)
        return [ssh.sshd_program(), "-f", f"{INSIDE}/sshd_{name}.conf", "-E", f"{INSIDE}/sshd_{name}.log"]

    def door_of(self, machine: str) -> list[str]:
        """The words that let a connection from outside in at gateway or frontend, on their standard input and output."""
        return [*self.namespace.enter(mounts=True), *self._sshd(machine), "-i"]

    def _start_servers(self, deadline: Deadline) -> None:
        spawn, logs = self.namespace.spawn, self.folder
        servers = [spawn([*self._sshd(one), "-D"], logs / f"sshd_{one}.log", mounts=True) for one in self.machines]
        words = [web.__name__, self.names.public_ip, "80", str(self.homes)]
        servers.append(spawn([sys.executable, "-m", *words], logs / "web.log"))
        wanted = [*(f"{address}:22" for address in self.machines.values()), f"{self.names.public_ip}:80"]
        while True:
            listening = self.namespace.run(["ss", "-lntH"], deadline).stdout.split()
            missing = [one for one in wanted if one not in listening]
            if not missing:
                return
            for server in servers:
                if server.poll() is not None:
                    raise Problem("a server of the site ended while it started", log=self.folder)
            deadline.sleep(0.1, f"nothing listens on {missing[0]} yet")

    def stop(self) -> None:
        """End everything: nodes, servers, network."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.namespace.stop()  # ends every process inside: servers, commands of jobs, machines too
        for node in self.nodes.values():
            node.power_off()
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
        path = self.homes / self.settings.user / ".ssh" / "authorized_keys"
        return self.namespace.run(["cat", str(path)], Deadline.after(30, "the user's keys")).stdout

    def _host_key(self, node: Node, *, fresh: bool) -> bytes:
        """A node's private host key."""
        path = node.folder / "host_key"
        if fresh:
            path.unlink(missing_ok=True)
        node.folder.mkdir(parents=True, exist_ok=True)
        ssh.make_key(path, node.name)
        return path.read_bytes()

    def identity(self, node: Node, *, fresh: bool = False) -> dict[str, Entry]:
        """What makes a system this node; `fresh`: with a new host key, as every deployment gives."""
        return standard.identity(self.names, node.index, self.hosts, self._host_key(node, fresh=fresh))

    def boot_standard(self, node: Node, deadline: Deadline) -> None:
        """Bring a node into the standard environment; nothing happens when it runs it already."""
        with node.use:
            system = self.environment("standard", deadline)
            if node.on() and node.runs == system.name and node.answers(deadline):
                return
            node.power_off()
            entries = standard.handover(self.identity(node), self.settings.user, self._management)
            node.install(system, entries, deadline, keep=True)
            node.boot(deadline)

    def manage(
        self, node: Node, command: str, deadline: Deadline, input: str | bytes = b"", *, check: bool = True
    ) -> process.Done:
        """A command as root on a node of the standard environment, with the site's own key."""
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "ConnectTimeout=20"]
        argv = ["ssh", "-F", "none", "-i", str(self.folder / "management"), "-o", "IdentitiesOnly=yes"]
        argv += [word for option in options for word in ("-o", option)]
        return self.namespace.run([*argv, f"root@{node.address}", command], deadline, input=input, check=check)

    def open_for(self, addresses: Iterable[str], user: str) -> list[str]:
        """Boot nodes into the standard environment and let the user in; returns those that did not come up."""

        def one(address: str) -> bool:
            node = self.nodes[address]
            try:
                deadline = Deadline.after(BOOT_SECONDS, f"the standard environment on {node.name}")
                self.boot_standard(node, deadline)
                limit = Deadline.after(GRANT_SECONDS, f"{user}'s access to {node.name}")
                self.manage(node, f"lab-access grant {user}", limit, self.user_keys())
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
                    dirty = "dirty" in self.manage(node, f"lab-access revoke {user}", limit).stdout
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
