"""The site with a real OAR behind the API server, as transcripts 20 to 24 saw it, and how its answers are compared."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.deployments import Deployments
from g5kdeploy.lab.kaenv import Environments
from g5kdeploy.lab.oar import Oar, Resource
from g5kdeploy.lab.oar.model import Value
from g5kdeploy.lab.services import SiteServices
from tests.contract import recorded

CLUSTERS = {"paradoxe": (4, 4, 0), "parasilo": (4, 4, 0), "drac": (1, 4, 4)}  # nodes, cores of each, GPUs of each
USERS = ("jdoe", "asmith", "abc", "mtest", "root", "oar")


def resources() -> list[Resource]:
    numbers, cpus, gpus = itertools.count(1), itertools.count(1), itertools.count(1)
    found = []
    for cluster, (nodes, cores, gpu_count) in CLUSTERS.items():
        for number in range(1, nodes + 1):
            address = recorded.fqdn(f"{cluster}-{number}")
            cpu = next(cpus)
            for core in range(cores):
                at = next(numbers)
                properties: dict[str, Value] = {
                    "cluster": cluster, "host": address, "network_address": address, "cpu": cpu, "core": at,
                    "cpuset": core, "comment": "", "core_count": cores, "deploy": "YES", "besteffort": "YES",
                    "exotic": "YES" if cluster == "drac" else "NO", "maintenance": "NO", "production": "NO",
                    "gpu_count": gpu_count, "gpu": next(gpus) if gpu_count else None, "memnode": 65536,
                }  # fmt: skip
                found.append(Resource(at, "default", address, properties))
    for kind, vlans in (("kavlan-local", range(1, 5)), ("kavlan", range(4, 8))):
        found += [Resource(next(numbers), kind, "", {"vlan": str(vlan)}) for vlan in vlans]
    for third in range(16, 48, 4):
        properties = {"subnet_address": f"10.158.{third}.0", "subnet_prefix": 22, "slash_22": third // 4 + 1}
        found.append(Resource(next(numbers), "subnet", "", properties))
    return found


def services(folder: Path, clock: Clock) -> SiteServices:
    environments = Environments()
    return SiteServices(
        reference=recorded.reference(),
        oars={"rennes": Oar(folder / "oar.sqlite", resources(), clock=clock, users=USERS.__contains__)},
        accounts=Accounts(dict.fromkeys(USERS, "secret")),
        deployments=Deployments(":memory:", recorded.StandInKadeploy(), environments, rights=lambda user, nodes: True),
        environments=environments,
        clock=clock,
        trust_proxy=True,
        public_url="https://api.grid5000.fr",
    )


TIMES = {"submitted_at", "scheduled_at", "started_at", "stopped_at", "created_at"}


def comparable(value: Any, numbers: dict[str, str], key: str = "") -> Any:
    """An answer without what may differ: moments, numbers of events, random file names; job numbers translated."""
    if isinstance(value, dict):
        kept = {name: comparable(one, numbers, name) for name, one in value.items()}
        if "type" in kept and "description" in kept:
            kept.pop("uid", None)
        return kept
    if isinstance(value, list):
        found = [comparable(one, numbers, key) for one in value]
        # the order of events of one second was undefined
        return sorted(found, key=lambda one: (one["type"], one["description"])) if key == "events" else found
    if key in TIMES and value:
        return "some time"
    if key in ("uid", "job_id"):
        return numbers.get(str(value), str(value))
    return text(value, numbers) if isinstance(value, str) else value


def text(value: str, numbers: dict[str, str]) -> str:
    """Texts with the same translation; the inner JSON of a refusal in one order."""
    value = re.sub(r"http://127\.0\.0\.1:\d+|https://api\.grid5000\.fr", "https://host", value)
    value = re.sub(r"oarapi\.subscript\.\w+", "oarapi.subscript.XXXXX", value)
    value = re.sub(r"\(-0:19:5\d\)", "(-0:19:5x)", value)  # down to what had elapsed
    for word in (r"/jobs/", r"[Jj]ob ", r"job = ", r"\[ ", r"OAR_JOB_ID=", r"frag ", r"oardel ", r"bipbip "):
        value = re.sub(rf"({word})(\d+)", lambda match: match[1] + numbers.get(match[2], match[2]), value)
    if match := re.match(r"(?s)(Request to \S+ failed with status \d+: )(\{.*\})(\s*)$", value):
        try:
            return match[1] + json.dumps(json.loads(match[2], strict=False), sort_keys=True) + match[3]
        except ValueError:
            return value
    return value
