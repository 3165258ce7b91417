"""What `kavlan` and `g5k-subnets` on the frontend ask: the VLANs and subnets of a job, and moves between VLANs."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from g5kdeploy.lab.kavlan import DEFAULT, Kavlan, NotAllowed
from g5kdeploy.lab.oar import Job, Scheduler
from g5kdeploy.lab.reference import SiteNetwork

NO_VLAN = "no vlan found\n"


class Failed(Exception):
    """A request that cannot be met; its words."""


def _job(scheduler: Scheduler, request: Mapping[str, Any]) -> Job:
    """The job that a request names."""
    number = str(request.get("job") or "")
    if not number:
        raise Failed("no job specified, use -j")
    job = scheduler.job(int(number)) if number.isdigit() and len(number) < 10 else None
    if job is None:
        raise Failed(f"there is no job {number}")
    return job


def _answered(answer: Callable[[Mapping[str, Any]], str], request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
    try:
        said = answer(request)
        yield {"text": said}
        yield {"status": "1" if said == NO_VLAN else "0"}
    except Failed as failed:
        yield {"error": str(failed)}


class Vlans:
    """Answers `kavlan` of `user` on a site, by its domain."""

    def __init__(self, scheduler: Scheduler, kavlan: Kavlan, network: SiteNetwork, domain: str, user: str) -> None:
        self._scheduler, self._kavlan, self._network = scheduler, kavlan, network
        self._domain, self._user = domain, user

    def __call__(self, request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """`{"text": ...}` to print and the exit status, or `{"error": ...}`."""
        operations = {
            "id": self._id,
            "nodes": self._nodes,
            "range": lambda asked: f"{self._network.vlan(self._number(asked))}\n",
            "gateway": lambda asked: f"{self._network.vlan(self._number(asked))[-2]}\n",
            "set": self._set,
            "start": self._dhcpd,
            "stop": self._dhcpd,
        }
        yield from _answered(operations[str(request["operation"])], request)

    def _of(self, job: Job) -> list[str]:
        return [str(one.properties["vlan"]) for one in job.assigned if one.type.startswith("kavlan")]

    def _vlan(self, request: Mapping[str, Any]) -> str:
        """The VLAN that is named, else that of the job."""
        if wanted := str(request.get("vlan") or ""):
            found = DEFAULT if wanted.upper() == DEFAULT else wanted
            if self._kavlan.vlan(found) is None:
                raise Failed(f"abort: bad VLAN id ({wanted})")
            return found
        if not (held := self._of(_job(self._scheduler, request))):
            raise Failed("No VLAN found, abort!")
        return held[0]

    def _number(self, request: Mapping[str, Any]) -> int:
        vlan = self._vlan(request)
        if vlan == DEFAULT:
            raise Failed(f"abort: bad VLAN id ({vlan})")
        return int(vlan)

    def _id(self, request: Mapping[str, Any]) -> str:
        return "".join(f"{vlan}\n" for vlan in self._of(_job(self._scheduler, request))) or NO_VLAN

    def _nodes(self, request: Mapping[str, Any]) -> str:
        vlan = self._vlan(request)
        names = [name.partition(".")[0] for name in _job(self._scheduler, request).nodes]
        suffix = "" if vlan == DEFAULT else f"-kavlan-{vlan}"
        return "".join(f"{name}{suffix}.{self._domain}\n" for name in names)

    def _set(self, request: Mapping[str, Any]) -> str:
        vlan = self._vlan(request)
        given: Sequence[str] = request.get("nodes") or _job(self._scheduler, request).nodes
        names = [name if "." in name else f"{name}.{self._domain}" for name in given]
        try:
            verdicts = self._kavlan.move(self._user, names, vlan)
        except NotAllowed:
            raise Failed("User does not have appropriate rights on VLAN, abort") from None
        if unknown := [name for name, verdict in verdicts.items() if verdict == "unknown_node"]:
            raise Failed(f"ERROR : Node {unknown[0]} not present in the configuration")
        return "" if request.get("quiet") else f"all nodes are configured in the vlan {vlan}\n"

    def _dhcpd(self, request: Mapping[str, Any]) -> str:
        try:
            self._kavlan.dhcpd(self._user, str(self._number(request)), str(request["operation"]))
        except NotAllowed:
            raise Failed("User does not have appropriate rights on VLAN, abort") from None
        return ""


class Subnets:
    """Answers `g5k-subnets` on a site, by its domain."""

    def __init__(self, scheduler: Scheduler, network: SiteNetwork, domain: str) -> None:
        self._scheduler, self._network, self._domain = scheduler, network, domain

    def __call__(self, request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """A line for each subnet of a job, or for each of their addresses, with the `columns` that are asked for."""
        yield from _answered(self._lines, request)

    def _lines(self, request: Mapping[str, Any]) -> str:
        job = _job(self._scheduler, request)
        held = [one.properties for one in job.assigned if one.type == "subnet"]
        subnets = [ipaddress.IPv4Network(f"{one['subnet_address']}/{one['subnet_prefix']}") for one in held]
        if not subnets:
            raise Failed(f"job {job.id} has no subnets")
        columns = str(request.get("columns") or "p")
        if request.get("summarize"):
            subnets = list(ipaddress.collapse_addresses(subnets))
        if set(columns) & {"i", "m"}:
            return "".join(self._line(columns, subnet, host) for subnet in subnets for host in subnet.hosts())
        return "".join(self._line(columns, subnet, subnet.network_address) for subnet in subnets)

    def _line(self, columns: str, subnet: ipaddress.IPv4Network, address: ipaddress.IPv4Address) -> str:
        """The columns in their order, with tabs between them; all but the first and last are the same for a whole site."""
        site = ipaddress.IPv4Network(self._network.subnets)
        known = {
            "p": str(subnet),
            "i": str(address),
            "b": str(site.broadcast_address),
            "n": str(site.netmask),
            "g": self._network.subnet_gateway,
            "G": str(site.network_address),
            "d": f"dns.{self._domain}\t{self._network.servers()['dns']}",
            "m": "00:16:3E:" + ":".join(f"{part:02X}" for part in address.packed[1:]),
        }
        return "\t".join(known[name] for name in known if name in columns) + "\n"
