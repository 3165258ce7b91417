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
from tests.contract.oar_player import chanceless, directories
from tests.contract.player import MUST_DIFFER, Now, Player, by_name, differences
from tests.contract.scripted import HandClock

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


def services(folder: Path, clock: Clock, world: Path = recorded.FOLDER) -> SiteServices:
    """That site; its scheduler's store is in `folder`, its reference data in `world`."""
    environments = Environments()
    return SiteServices(
        reference=recorded.reference(world),
        oars={
            "rennes": Oar(
                folder / "oar.sqlite", resources(), clock=clock, users=USERS.__contains__, directories=directories
            )
        },
        accounts=Accounts(dict.fromkeys(USERS, "secret")),
        deployments=Deployments(":memory:", recorded.StandInKadeploy(), environments, rights=lambda user, nodes: True),
        environments=environments,
        clock=clock,
        trust_proxy=True,
        public_url="https://api.grid5000.fr",
    )


TURNS = (
    ("20-oar-submit", 0, 0),
    ("21-oar-life", 0, 29),
    ("20-oar-submit", 1, 1),
    ("21-oar-life", 30, 42),
    ("20-oar-submit", 2, 2),
    ("21-oar-life", 43, 999),
    ("20-oar-submit", 3, 999),
    ("22-oar-jobs-after", 0, 999),
    ("23-oar-reservations", 0, 999),
    ("24-oar-refused-reservations", 0, 999),
)
"""The files were recorded in turns: file, first and last exchange."""
PATIENCE = 120  # seconds of the site's clock for a job to reach the state that was recorded
STATES = ("waiting", "tolaunch", "launching", "running", "finishing", "terminated", "error")

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
    value = chanceless(value)
    value = re.sub(r"\(-0:19:5\d\)", "(-0:19:5x)", value)  # down to what had elapsed
    for word in (r"/jobs/", r"[Jj]ob ", r"job = ", r"\[ ", r"OAR_JOB_ID=", r"frag ", r"oardel ", r"bipbip "):
        value = re.sub(rf"({word})(\d+)", lambda match: match[1] + numbers.get(match[2], match[2]), value)
    if match := re.match(r"(?s)(Request to \S+ failed with status \d+: )(\{.*\})(\s*)$", value):
        try:
            return match[1] + json.dumps(json.loads(match[2], strict=False), sort_keys=True) + match[3]
        except ValueError:
            return value
    return value


class OarPlayer(Player):
    """Turns the site's clock to where the record was, and knows which of its jobs stands for which recorded one."""

    def __init__(self, port: int, services: SiteServices, hand: HandClock) -> None:
        super().__init__(port, Now(0))
        self.oar, self.hand = services.oars["rennes"], hand
        self.ours: dict[str, str] = {}

    def turn(self, to: float) -> None:
        while self.hand.now < to:
            self.hand.turn(min(1.0, to - self.hand.now))
            self.oar.tick()  # type: ignore[attr-defined]

    def play_in(self, file: str, exchange: dict[str, Any]) -> list[str]:
        """Let the site come to where it was, ask, and return what differs; see `Player.play`."""
        if "23-oar-reservations" in file and exchange["request"]["method"] == "POST":
            self.clear()
        theirs, wanted = exchange["response"], value(exchange["response"]["body"])
        request = dict(exchange["request"])
        request["path"] = re.sub(r"(?<=/jobs/)\d+", lambda one: self.ours.get(one[0], one[0]), request["path"])
        if theirs["status"] == 201:
            self.turn(wanted["submitted_at"])
        self.turn(told(wanted))
        if "/walltime" not in request["path"] and isinstance(wanted, dict) and "state" in wanted:
            self.wait_for(wanted)
        elif exchange["name"] == "walltime of a running job":
            self.wait_for({"uid": 37, "state": "running"})
        return self.once(request, theirs, wanted)

    def wait_for(self, wanted: dict[str, Any]) -> None:
        """Turn the clock until the job is as far as it was."""
        number = int(self.ours.get(str(wanted["uid"]), "0"))
        late = self.hand.now + PATIENCE
        while self.hand.now < late:
            job = self.oar.job(number)
            if job is None or wanted["state"] not in STATES or job.state.lower() not in STATES:
                return
            if STATES.index(job.state.lower()) >= STATES.index(wanted["state"]):
                return
            self.turn(self.hand.now + 1)

    def clear(self) -> None:
        """Delete all jobs, as was done between the reservations."""
        for job in self.oar.current():
            self.oar.delete(job.id, job.user)
        self.turn(self.hand.now + 3)

    def once(self, request: dict[str, Any], theirs: dict[str, Any], wanted: Any) -> list[str]:
        status, headers, body = self.ask(request)
        got = value(body)
        if status == theirs["status"] == 201:
            self.ours[str(wanted["uid"])] = str(got["uid"])
        if status == theirs["status"] == 400 and "OAR_JOB_ID=" in str(wanted):
            numbers = [re.search(r"OAR_JOB_ID=(\d+)", str(one)) for one in (wanted, got)]
            if all(numbers):
                self.ours[numbers[0][1]] = numbers[1][1]  # type: ignore[index]
        names = {ours: recorded for recorded, ours in self.ours.items()}
        found = [] if status == theirs["status"] else [f"status {status}, not {theirs['status']}"]
        theirs_headers, ours = (by_name(some) for some in (theirs["headers"], headers))
        for name in sorted({*theirs_headers, *ours} - MUST_DIFFER):
            was = text(theirs_headers.get(name, ""), {})
            now = text(ours.get(name, ""), names)
            if was != now:
                found.append(f"header {name}: {now!r}, not {was!r}")
        return found + differences(comparable(wanted, {}), comparable(got, names))


def value(body: str | None) -> Any:
    """The JSON value of a body, or its text."""
    try:
        return json.loads(body or "")
    except ValueError:
        return body or ""


def told(value: Any) -> int:
    """The latest moment that a status or a list of jobs tells of; else 0: what a job tells is a second too coarse."""
    if not isinstance(value, dict):
        return 0
    if isinstance(value.get("uid"), int) and value["uid"] > 10**9:
        return int(value["uid"])
    events = [event for job in value.get("items") or () for event in job.get("events") or ()]
    return max((int(event["created_at"]) for event in events), default=0)
