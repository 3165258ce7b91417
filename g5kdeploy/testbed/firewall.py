"""Openings of a site's firewall: ports of a job's nodes that the Internet reaches, over IPv6, while the job runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.problems import Unclear

PROTOCOLS = ("tcp+udp", "tcp", "udp", "icmpv6", "all")


@dataclass(frozen=True)
class Opening:
    """One rule as the site has it: names or networks, ports (none: all), protocol, where it may come from ("": anywhere)."""

    site: str
    job: int
    addresses: tuple[str, ...]
    ports: tuple[str, ...]
    protocol: str
    source: tuple[str, ...]


def openings(api: Api, job: Job, deadline: Deadline) -> list[Opening]:
    """The rules of a job."""
    return _read(job, api.get(_path(job), deadline))


def open_ports(
    api: Api, job: Job, nodes: Sequence[str], ports: Sequence[int], protocol: str, source: str, deadline: Deadline
) -> list[Opening]:
    """Open ports (none: all, with the protocol "all") of some of the job's nodes; all rules of the job then."""
    rule: dict[str, Any] = {"addr": [by_ipv6(node) for node in nodes], "proto": protocol}
    if ports:
        rule["port"] = list(ports)
    if source:
        rule["src_addr"] = source
    try:
        api.post(_path(job), [rule], deadline)
    except Unclear:
        there = openings(api, job, deadline)
        if not any(
            set(map(str, ports)) <= set(one.ports) and one.protocol == protocol and len(one.addresses) >= len(nodes)
            for one in there
        ):
            raise
        return there
    return openings(api, job, deadline)


def close(api: Api, job: Job, deadline: Deadline) -> None:
    """Take all rules of a job away; connections that stand go on."""
    api.delete(_path(job), deadline)


def by_ipv6(node: str) -> str:
    """The name that has the node's IPv6 address: vm-1-ipv6.lab.grid5000.fr."""
    host, _, domain = node.partition(".")
    return f"{host}-ipv6.{domain}"


def _path(job: Job) -> str:
    return f"/sites/{job.site}/firewall/{job.id}"


def _read(job: Job, answer: Sequence[Mapping[str, Any]]) -> list[Opening]:
    return [
        Opening(
            job.site,
            job.id,
            _texts(rule.get("addr")),
            _texts(rule.get("port")),
            str(rule.get("proto", "")),
            _texts(rule.get("src_addr")),
        )
        for rule in answer
    ]


def _texts(value: Any) -> tuple[str, ...]:
    """A value or a list of them."""
    return tuple(map(str, value)) if isinstance(value, list) else () if value is None else (str(value),)
