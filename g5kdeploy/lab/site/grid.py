"""The lab's sites together: the gateway to all of them, their doors to the world outside, and what a client is given."""

from __future__ import annotations

from collections.abc import Callable

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import home, names, ssh
from g5kdeploy.lab.site.nodes import Node
from g5kdeploy.lab.site.site import ACCESS, Site
from g5kdeploy.lab.site.systems import System


class Grid:
    """The running sites, by name; the first has the gateway. `environments` is what a `Site` takes."""

    def __init__(self, settings: Settings, places: Places, environments: Callable[[str, Deadline], System]) -> None:
        self._settings = settings
        self._places = places
        known = names.SITES[: 1 + settings.sites]
        self.first = Site(settings, places, environments, names.LAB, known)
        others = [Site(settings, places, environments, own, known, self.first) for own in known[1:]]
        self.sites = {site.names.site: site for site in (self.first, *others)}
        self._machines = [(site, machine) for site in self.sites.values() for machine in site.machines]
        self._doors: list[ssh.Door] = []
        self._hosts = ""

    @property
    def nodes(self) -> dict[str, Node]:
        """The nodes of all sites, by their full names."""
        return {name: node for site in self.sites.values() for name, node in site.nodes.items()}

    @property
    def names_in_hosts(self) -> bool:
        """Are gateway and frontends known by name outside?"""
        return bool(self._hosts)

    def address(self, machine: str, site: str = names.LAB.site) -> ssh.Address:
        """Where gateway or frontend of a site are from outside."""
        found = self._machines.index((self.sites[site], machine))
        return self._doors[found].address

    def start(self, deadline: Deadline) -> None:
        """The sites, the first one first, and their doors."""
        for site in self.sites.values():
            site.start(deadline)
        self._open_doors()
        self._tell_client()

    def _open_doors(self) -> None:
        """Gateway and frontends on addresses outside, with the same names and ports as the last time where possible."""
        record = self._places.folder / "site" / "doors.json"
        kept = files.read_json(record) if record.exists() else {}
        self._doors = ssh.open_doors(
            [
                (
                    ssh.Address(home.loopback(self._places.folder, number), 0),
                    site.door_of(machine),
                    self._settings.max_startups if machine == ACCESS else 0,
                )
                for number, (site, machine) in enumerate(self._machines, 1)
            ],
            self._places.folder / "site" / "doors.log",
            privileged=self.first.namespace.root,
            remembered=kept.get("ports", []),
        )
        files.write_json(record, {"ports": [door.address.port for door in self._doors]})
        for door in self._doors:
            door.open()

    def _tell_client(self) -> None:
        """Write the SSH settings of LAB_HOME; and as root the names of /etc/hosts, when all listen on port 22."""
        machines = [
            home.Machine(_names(site, machine), door.address, site.machines[machine], site.host_key_of(machine))
            for (site, machine), door in zip(self._machines, self._doors, strict=True)
        ]
        own = self._places.home / ".ssh"
        sites = [site.names for site in self.sites.values()]
        files.write(own / "known_hosts", home.known_hosts(machines), 0o600)
        config = home.ssh_config(self._places.home, self._settings.user, machines[0].outside, sites)
        files.write(own / "config", config, 0o600)
        if self.first.namespace.root and all(door.address.port == 22 for door in self._doors):
            block = home.hosts_block(self._places.folder, machines)
            if home.write_hosts(block):
                self._hosts = block

    def write_credentials(self, url: str) -> None:
        """Put the client's credentials for the API at `url` into LAB_HOME."""
        content = home.credentials(url, self._settings.user, self.password)
        files.write(self._places.home / ".python-grid5000.yaml", content, 0o600)

    @property
    def password(self) -> str:
        """The user's, for the API."""
        return home.password(self._places.folder / "site" / "password")

    def stop(self) -> None:
        """End everything: doors, sites, names."""
        home.remove_hosts(self._hosts)
        for door in self._doors:
            door.close()
        for site in reversed(self.sites.values()):
            site.stop()


def _names(site: Site, machine: str) -> tuple[str, ...]:
    if machine == ACCESS:
        return names.ACCESS, "access"
    alone = ("frontend",) if site.outer is None else ()
    return *site.names.frontend_names, *alone
