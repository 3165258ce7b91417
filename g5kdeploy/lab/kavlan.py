"""KaVLAN of one site: the VLANs, which interface is in which, who may use them, and their DHCP servers."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from g5kdeploy.base import files

DEFAULT = "DEFAULT"
ADMINISTRATORS = frozenset({"oar", "root"})


class NotAllowed(Exception):
    """The user has no right on that VLAN."""

    def __init__(self) -> None:
        super().__init__("Not enough privileges on Kavlan resources")


@dataclass(frozen=True)
class Vlan:
    """One VLAN: its id ("4", "DEFAULT") and kavlan's type of it."""

    uid: str
    type: str


def usual_vlans(own_global: int = 10, others: Iterable[int] = ()) -> tuple[Vlan, ...]:
    """A site's VLANs: three local ones, six routed ones, its global one, and the global ones of other sites."""
    return (
        Vlan(DEFAULT, "NULL"),
        *(Vlan(str(number), "kavlan-local") for number in range(1, 4)),
        *(Vlan(str(number), "kavlan") for number in range(4, 10)),
        Vlan(str(own_global), "kavlan-global"),
        *(Vlan(str(number), "kavlan-remote") for number in others),
    )


@dataclass
class Kavlan:
    """The state of a site's VLANs; with `store` it survives restarts. Safe for many threads.

    `interfaces` maps interface names (the node's FQDN for its first interface, `node-eth1.site...` for others) to the
    VLAN that each is in. `holders(vlan)` names the users whose running job holds a VLAN. `on_move(interface, vlan)`
    does the real switching, before the state changes; `on_dhcpd(vlan, action)` starts and stops its DHCP server.
    """

    vlans: tuple[Vlan, ...]
    interfaces: dict[str, str]
    users: dict[str, set[str]] = field(default_factory=dict)
    holders: Callable[[str], Iterable[str]] = lambda vlan: ()
    on_move: Callable[[str, str], None] = lambda interface, vlan: None
    on_dhcpd: Callable[[str, str], None] = lambda vlan, action: None
    store: Path | None = None
    _lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def __post_init__(self) -> None:
        if self.store is not None and self.store.exists():
            kept = files.read_json(self.store)
            self.interfaces.update({name: vlan for name, vlan in kept["interfaces"].items() if name in self.interfaces})
            self.users.update({vlan: set(names) for vlan, names in kept["users"].items()})

    def vlan(self, uid: str) -> Vlan | None:
        """The VLAN of that id."""
        return next((vlan for vlan in self.vlans if vlan.uid == uid), None)

    def inside(self, uid: str) -> list[str]:
        """The interfaces in a VLAN."""
        with self._lock:
            return [name for name, vlan in self.interfaces.items() if vlan == uid]

    def users_of(self, uid: str) -> list[str]:
        """Who may use a VLAN."""
        with self._lock:
            return sorted({*self.users.get(uid, ()), *self.holders(uid)})

    def vlans_of(self, user: str) -> list[str]:
        """The VLANs that a user may use."""
        return [vlan.uid for vlan in self.vlans if user in self.users_of(vlan.uid)]

    def all_users(self) -> list[str]:
        """Everybody who may use any VLAN."""
        return sorted({user for vlan in self.vlans for user in self.users_of(vlan.uid)})

    def require(self, user: str, uid: str) -> None:
        """Raise `NotAllowed` when the user has no right on a VLAN."""
        if user not in ADMINISTRATORS and user not in self.users_of(uid):
            raise NotAllowed

    def move(self, user: str, names: Iterable[object], uid: str) -> dict[str, str]:
        """Put interfaces into a VLAN: by name "ok", "unchanged" or "unknown_node"; raises `NotAllowed`."""
        self.require(user, uid)
        verdicts: dict[str, str] = {}
        with self._lock:
            for name in names:
                if str(name) in verdicts:
                    continue
                if not isinstance(name, str):
                    verdicts[str(name)] = "unchanged"
                elif name not in self.interfaces:
                    verdicts[name] = "unknown_node"
                elif self.interfaces[name] == uid:
                    verdicts[name] = "unchanged"
                else:
                    self.on_move(name, uid)
                    self.interfaces[name] = uid
                    verdicts[name] = "ok"
            self._keep()
        return verdicts

    def note(self, name: str, uid: str) -> None:
        """Somebody else put an interface into a VLAN: kadeploy does, when it boots a node into one."""
        with self._lock:
            if name in self.interfaces and self.interfaces[name] != uid:
                self.interfaces[name] = uid
                self._keep()

    def reset(self, names: Iterable[str]) -> None:
        """Back to the production network, as at the end of a job."""
        self.move("oar", [name for name in names if name in self.interfaces], DEFAULT)

    def dhcpd(self, user: str, uid: str, action: str) -> None:
        """Start or stop a VLAN's DHCP server; raises `NotAllowed`."""
        self.require(user, uid)
        self.on_dhcpd(uid, action)

    def set_user(self, asking: str, uid: str, user: str, allowed: bool) -> None:
        """Give or take a right; only administrators may."""
        if asking not in ADMINISTRATORS:
            raise NotAllowed
        with self._lock:
            rights = self.users.setdefault(uid, set())
            (rights.add if allowed else rights.discard)(user)
            self._keep()

    def _keep(self) -> None:
        if self.store is not None:
            users: Mapping[str, list[str]] = {vlan: sorted(names) for vlan, names in self.users.items()}
            files.write_json(self.store, {"interfaces": self.interfaces, "users": users})
