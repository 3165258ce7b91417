"""What is granted to a job's nodes for as long as the job runs: openings of the firewall, mounts of a storage."""

from __future__ import annotations

import ipaddress
from typing import Any

from g5kdeploy.lab.api.answer import Document, Empty
from g5kdeploy.lab.api.call import Call, HttpError
from g5kdeploy.lab.api.ruby import to_i

PROTOCOLS = ("tcp", "udp", "tcp+udp", "icmpv6", "all")
WITHOUT_PORTS = ("icmpv6", "all")
IPV6 = "-ipv6"


def firewall(call: Call, site: str, job: str) -> Document | Empty:
    """Openings of the site's firewall towards a job's nodes: read, add, take all away."""
    found = call.scheduler(site).job(to_i(job))
    if found is None:
        raise HttpError(404, "Not Found")
    key = (site, found.id)
    if found.state != "Running":
        call.services.firewall_rules.pop(key, None)
    rules = call.services.firewall_rules.setdefault(key, []) if found.state == "Running" else []
    if call.method == "GET":
        return Document(list(rules))
    call.authenticated()
    call.only(found.user)
    if found.state != "Running":
        raise HttpError(403, f"Job {found.id} is not running")
    if call.method == "DELETE":
        rules.clear()
        return Empty(204, typed=False)
    body = call.body
    if not isinstance(body, list) or not all(isinstance(rule, dict) and rule.get("addr") for rule in body):
        raise HttpError(422, "A list of rules with addr, port and proto should be provided")
    known = _known(call, site, set(found.nodes))
    rules += [_opening(rule, known) for rule in body]
    return Document(list(rules), status=201)


def _known(call: Call, site: str, nodes: set[str]) -> dict[str, str]:
    """The networks of one address that a job's nodes have in IPv6, by the names and addresses that ask for them."""
    found: dict[str, str] = {}
    for node in call.services.reference.nodes(site):
        name = f"{node['uid']}.{site}.grid5000.fr"
        for card in node["network_adapters"] if name in nodes else ():
            if card.get("mounted") and (address := card.get("ip6")):
                names = (f"{node['uid']}{IPV6}.{site}.grid5000.fr", address)
                found.update(dict.fromkeys(names, f"{address}/128"))
    return found


def _opening(rule: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """A rule with its addresses and ports as lists; 403 for a node that is not the job's, 422 for what is none."""
    asked, protocol = _listed(rule["addr"]), str(rule.get("proto", "tcp+udp"))
    if strange := [address for address in asked if str(address) not in known]:
        raise HttpError(403, f"{strange[0]} is not an IPv6 address of the job's nodes")
    addresses = [known[str(address)] for address in asked]
    if protocol not in PROTOCOLS:
        raise HttpError(422, f"proto must be one of {', '.join(PROTOCOLS)}")
    ports = _listed(rule.get("port") or [])
    if bool(ports) == (protocol in WITHOUT_PORTS):
        raise HttpError(422, f"port must {'not ' if ports else ''}be given with proto {protocol}")
    if not all(str(port).isdecimal() and 0 < int(port) < 1 << 16 for port in ports):
        raise HttpError(422, "port must be a number from 1 to 65535")
    made: dict[str, Any] = {"addr": addresses, "proto": protocol}
    if ports:
        made["port"] = [int(port) for port in ports]
    if rule.get("src_addr"):
        made["src_addr"] = _listed(rule["src_addr"])
        for source in made["src_addr"]:
            _network(source, 6)
    return made


def storage(call: Call, site: str, storage: str, user: str) -> Document | Empty:
    """Rules for who may mount a home or a group storage: read, add. A rule ends with its job, or at its time."""
    call.site(site)
    name = call.authenticated() if user == "~" else user
    rules = call.services.storage_rules.setdefault((site, storage, name), {})
    for uid in [uid for uid, rule in rules.items() if not _lasts(call, rule["termination"])]:
        del rules[uid]
    if call.method == "GET":
        return Document(dict(rules))
    if storage == "home":
        call.only(name)
    asker = call.authenticated()
    body = call.params
    addresses = _listed(body.get("ipv4") or body.get("hosts") or [])
    if not addresses:
        raise HttpError(422, "ipv4 is missing")
    if body.get("ipv4"):
        for address in addresses:
            _network(address, 4)
    end = body.get("termination")
    if not isinstance(end, dict) or not _lasts(call, end, asker):
        raise HttpError(422, "termination must name a running job of yours and its site, or a time to come")
    kind = f"u_{end['until']}" if end.get("until") else f"j_{end['job']}-{end['site']}"
    number = next(n for n in range(1, len(rules) + 2) if f"G5k-{storage}_{name}_{kind}_{n}" not in rules)
    uid = f"G5k-{storage}_{name}_{kind}_{number}"
    server = f"nfs.{site}.grid5000.fr" if storage == "home" else f"{storage}.{site}.grid5000.fr"
    rules[uid] = {"ipv4": addresses, "termination": end, "nfs_address": f"{server}:/export/{storage}/{name}"}
    return Document({uid: rules[uid]}, status=201)


def storage_rule(call: Call, site: str, storage: str, user: str, rule: str) -> Empty:
    """Take a storage rule away."""
    call.site(site)
    name = call.authenticated() if user == "~" else user
    if storage == "home":
        call.only(name)
    call.authenticated()
    if call.services.storage_rules.get((site, storage, name), {}).pop(rule, None) is None:
        raise HttpError(404, "Not Found")
    return Empty(204, typed=False)


def _lasts(call: Call, end: dict[str, Any], owner: str | None = None) -> bool:
    """Whether what ends a rule is still to come; with `owner`, its job must be theirs."""
    if end.get("until"):
        return float(to_i(str(end["until"]))) > call.services.clock.wall()
    oar = call.services.oars.get(str(end.get("site", "")))
    job = oar.job(to_i(str(end.get("job", "")))) if oar is not None else None
    return job is not None and job.state == "Running" and owner in (None, job.user)


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _network(text: Any, version: int) -> None:
    """422 unless it is an address or a network of that version of IP."""
    try:
        found = ipaddress.ip_network(str(text), strict=False)
    except ValueError as error:
        raise HttpError(422, f"{text} is no address") from error
    if found.version != version:
        raise HttpError(422, f"{text} is no IPv{version} address")
