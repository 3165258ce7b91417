"""The world in which the real server's exchanges were recorded, rebuilt behind the lab's API."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.deployments import Deployment, Deployments, Report
from g5kdeploy.lab.fetch import over_http
from g5kdeploy.lab.kaenv import Environments
from g5kdeploy.lab.kavlan import Kavlan, Vlan
from g5kdeploy.lab.oar import Event, Job, Listing, NodeState, Query, Refused, Resource, WalltimeStatus
from g5kdeploy.lab.reference import Commit, Reference, load
from g5kdeploy.lab.reference.tree import Tree, put
from g5kdeploy.lab.services import SiteServices

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FOLDER = SHARED / "data" / "transcripts" / "g5k-api"
RECORDED_AT = 1_795_368_276  # what the relative times of world-jobs.json count from
INSTALLED_AT = 1_795_368_117  # when the recording server's code was installed: its Last-Modified
ITS_NODES = {"paradoxe-1": 4, "paradoxe-10": 4, "paradoxe-2": 4, "paradoxe-3": 4, "parasilo-1": 2, "parasilo-2": 2,
             "roazhon4-1": 2}  # fmt: skip
ITS_STATES: dict[str, NodeState] = {"paradoxe-10": "Standby", "paradoxe-3": "Absent", "parasilo-2": "Suspected",
                                    "roazhon4-1": "Dead", "paradoxe-4": "Dead"}  # fmt: skip
COMMITS = (  # oldest first: id, unix time, message, and what was not there yet
    ("610a295711763016c2730cfd936cb5583464c40e", 1_773_997_200, "[judge] initial import"),
    ("8a4d7252880691c88d6fb2b86934966a3556590e", 1_774_089_000, "[rennes] paradoxe-2: second commit"),
    ("5baad11688022559e27e1d89f0c13ae6d89a0e27", 1_774_177_200, "[nantes] site description"),
)


def exchanges(name: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (FOLDER / f"{name}.jsonl").read_text().splitlines()]


def fqdn(node: str) -> str:
    return f"{node}.rennes.grid5000.fr"


def resources(more_nodes: Mapping[str, int] = {}) -> list[Resource]:
    """The site's resources at the recording; `more_nodes` came later."""
    numbers = itertools.count(1)
    found = []
    for node, cores in {**ITS_NODES, **more_nodes}.items():
        comment = None if node in more_nodes else "hw failure" if node == "paradoxe-3" else "OK"
        for core in range(cores):
            properties = {"cluster": node.split("-")[0], "host": fqdn(node), "cpuset": core, "comment": comment}
            found.append(Resource(next(numbers), "default", fqdn(node), properties, ITS_STATES.get(node, "Alive")))
    for vlan in (*range(1, 10), 16):
        kind = "kavlan-local" if vlan < 4 else "kavlan-global" if vlan == 16 else "kavlan"
        found.append(Resource(next(numbers), kind, "", {"vlan": str(vlan)}))
    for third in (16, 20, 24):
        properties = {"subnet_address": f"10.158.{third}.0", "subnet_prefix": 22}
        found.append(Resource(next(numbers), "subnet", "", properties))
    for node, disk in itertools.product(("parasilo-1", "parasilo-2"), (1, 2)):
        path = f"/dev/disk/by-path/pci-0000:02:00.0-scsi-0:0:{disk}:0"
        properties = {"cluster": "parasilo", "host": fqdn(node), "disk": f"disk{disk}.{node}", "diskpath": path}
        found.append(Resource(next(numbers), "disk", fqdn(node), properties))
    return found


def picked(name: str, everything: list[Resource]) -> list[Resource]:
    """The resources that a name in world-jobs.json means."""
    if name.startswith("v"):
        return [one for one in everything if "vlan" in one.type and one.properties["vlan"] == name[1:]]
    if name.startswith("s"):
        return [[one for one in everything if one.type == "subnet"][int(name[1:])]]
    if name.startswith("disk"):
        return [one for one in everything if one.type == "disk" and one.properties["disk"] == name]
    match = re.fullmatch(r"([\w-]+)(?:\[(\d*):(\d*)\])?", name)
    assert match
    cores = [one for one in everything if one.type == "default" and one.address == fqdn(match[1])]
    return cores[int(match[2] or 0) : int(match[3]) if match[3] else None]


def jobs(everything: list[Resource]) -> list[Job]:
    """The jobs in the database at the recording."""
    made: list[Job] = []
    events = itertools.count(9001)
    for one in json.loads((FOLDER / "world-jobs.json").read_text())["jobs"]:
        number, submitted = one["job_id"], RECORDED_AT - 7200 + one["job_id"]
        taken = tuple(resource for name in one["resources"] for resource in picked(name, everything))
        starting = one["start"] or one["state"] in ("toLaunch", "Launching")
        predicted = one["predicted_start"]
        job = Job(
            id=number,
            user=one["user"],
            state=one["state"],
            queue=one["queue"],
            project=one["project"],
            command=one["command"],
            directory=f"/home/{one['user']}",
            properties=one["properties"],
            message=one["message"],
            walltime=one["walltime"],
            submitted_at=submitted,
            name=one["name"],
            types=tuple(one["types"]),
            started_at=RECORDED_AT + one["start"] if starting else 0,
            stopped_at=RECORDED_AT + one["stop"] if one["stop"] else 0,
            scheduled_at=None if predicted is None else RECORDED_AT + predicted,
            exit_code=one["exit_code"],
            mode=one["job_type"],
            reservation=one["reservation"],
            events=tuple(
                Event(next(events), number, kind, submitted + 200 + at, text)
                for at, (kind, text) in enumerate(one["events"])
            ),
            assigned=taken if one["assigned"] else (),
            predicted=() if one["assigned"] else taken,
        )
        made += [
            dataclasses.replace(job, walltime=job.walltime * (at + 1), alternative=at)
            for at in range(one["alternatives"])
        ]
    return made


class StoredJobs:
    """A `Scheduler` over jobs that never change: the database alone, without an OAR behind it."""

    def __init__(self, everything: list[Resource], jobs: list[Job]) -> None:
        self.everything, self.all = everything, jobs

    def submit(self, user: str, request: Mapping[str, object]) -> Job:
        raise Refused(500, 1, "no OAR here")

    def job(self, number: int) -> Job | None:
        return next((job for job in self.all if job.id == number), None)

    def jobs(self, query: Query) -> Listing:
        found = [
            job
            for job in sorted(self.all, key=lambda job: (-job.id, job.alternative))
            if query.user in (None, job.user)
            and query.name in (None, job.name)
            and query.project in (None, job.project)
            and query.id in (None, job.id)
            and (query.states is None or job.state in query.states)
            and query.queue in (None, job.queue)
        ]
        end = None if query.limit is None else query.offset + query.limit
        return Listing(tuple(found[query.offset : end]), len(found))

    def current(self) -> tuple[Job, ...]:
        return tuple(job for job in self.all if job.state not in ("Terminated", "Error"))

    def delete(self, number: int, user: str) -> str:
        raise Refused(500, 1, "no OAR here")

    def walltime(self, number: int) -> WalltimeStatus:
        raise Refused(500, 1, "no OAR here")

    def change_walltime(
        self,
        number: int,
        user: str,
        walltime: str,
        *,
        force: bool = False,
        delay_next_jobs: bool = False,
        whole: bool = False,
        timeout: int | None = None,
    ) -> str:
        raise Refused(500, 1, "no OAR here")

    def resources(self) -> tuple[Resource, ...]:
        return tuple(self.everything)

    def set_state(self, address: str, state: NodeState) -> None:
        raise Refused(500, 1, "no OAR here")


class StandInKadeploy:
    """The recording's kadeploy: agrees to everything, and is further with a deployment at each refresh."""

    def __init__(self) -> None:
        self.refreshes: dict[str, int] = {}

    def start(self, deployment: Deployment, report: Report) -> None:
        self.report = report

    def cancel(self, uid: str) -> None:
        pass


class RecordedDeployments(Deployments):
    """Deployments over that stand-in: first refresh under way, second done; some uids fail or are forgotten."""

    def refresh(self, uid: str) -> None:
        one = self.get(uid)
        if one is not None and one.uid in self.running:
            number = int(one.uid[-2:])
            if number == 3:
                self.running[one.uid].broken = "broken"
            elif number == 4:
                del self.running[one.uid]
            elif one.result is not None:
                for node in one.nodes:
                    self.running[one.uid].report(node, "BootNewEnv", True, "")
        super().refresh(uid)

    def deploying(self) -> set[str]:
        return set()


class StandInKavlan(Kavlan):
    """The recording's kavlan: says yes, and forgets it at once; one user, of whom nobody else had heard."""

    def move(self, user: str, names: Iterable[object], uid: str) -> dict[str, str]:
        before = dict(self.interfaces)
        verdicts = super().move(user, names, uid)
        self.interfaces = before
        return verdicts

    def all_users(self) -> list[str]:
        return ["snoir"]


class AnyEnvironment(Environments):
    def find(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"name": "any"}


def reference() -> Reference:
    """The recorded reference data with its three commits, and the branch `testing`."""
    last = load(FOLDER / "world-reference.tar.xz").latest.tree
    second = copy.deepcopy(last)
    second["sites"]["nantes"]["nantes.json"] = type(second["grid5000.json"])({"before": "the last commit"})
    first = copy.deepcopy(second)
    nodes = first["sites"]["rennes"]["clusters"]["paradoxe"]["nodes"]
    nodes["paradoxe-2.json"] = type(nodes["paradoxe-2.json"])({"before": "the second commit"})
    trees = (first, second, last)
    line = [Commit(oid, at, text, "Jane Doe", tree) for (oid, at, text), tree in zip(COMMITS, trees, strict=True)]
    other = copy.deepcopy(last)
    rennes = other["sites"]["rennes"]["rennes.json"].document
    rennes["description"] = "testing branch"
    branch = Commit("3cbc6bd3c62f4484ded8d145a69aedae1734a91b", 1_774_263_600, "testing", "Jane Doe", other)
    newest_first = line[::-1]
    branches = {"master": newest_first, "testing": [branch, *newest_first], "acc": [accesses_branch(last)]}
    return Reference(branches, INSTALLED_AT, checked_out=("master", "acc"))


def accesses_branch(last: Tree) -> Commit:
    """The branch with accesses: some of the sets of nodes, known sites only, and the one document for explorers."""
    tree = copy.deepcopy(last)
    known = set(ums()["sites"])
    nodesets = tree["accesses"]["nodesets.json"].document
    shown = next(one for one in exchanges("31-accesses") if one["request"]["path"] == "/accesses?branch=acc")
    some_group = next(iter(json.loads(shown["response"]["body"]).values()))
    for name, by_priority in list(nodesets.items()):
        if name not in some_group:
            del nodesets[name]
        for holders in by_priority.values():
            holders["sites"] = [site for site in holders["sites"] if site in known]
    answer = next(one for one in exchanges("31-accesses") if one["request"]["path"].startswith("/refrepo?branch=acc"))
    document = json.loads(answer["response"]["body"])
    put(tree, "accesses/refrepo", {key: value for key, value in document.items() if key != "version"})
    return Commit(document["version"], 1_774_263_600, "accesses", "Jane Doe", tree)


def ums() -> dict[str, Any]:
    """What the user management said of groups and sites."""
    found: dict[str, Any] = json.loads((SHARED / "data" / "g5k-api" / "ums-ggas_and_sites.json").read_text())
    return found


def fetch(url: str) -> bytes:
    """The recording's web servers: descriptions on one port, keys anywhere, nothing elsewhere."""
    if url.endswith("/envs/ok.yaml"):
        return b"name: ok\n"
    if ":8901/" in url:
        return b"<html>not found</html>"
    return b"ssh-rsa A a\n" if "/k.pub" in url else over_http(url)


def services(clock: Clock, more_nodes: Mapping[str, int] = {}, more_jobs: list[Job] | None = None) -> SiteServices:
    """All of it behind one API server, as it stood behind the proxy."""
    kept = json.loads((FOLDER / "world-services.json").read_text())
    groups = ums()
    everything = resources(more_nodes)
    environments = AnyEnvironment([*kept["environments"], *kept["environments_of_jdoe"]])
    numbers = itertools.count(1)
    vlans = tuple(Vlan(one["uid"], one["type"]) for one in kept["vlans"]["items"])
    kavlan = StandInKavlan(
        vlans, dict(kept["nodes_in_vlans"]), {vlan: set(users) for vlan, users in kept["vlan_users"].items()}
    )
    return SiteServices(
        reference=reference(),
        oars={"rennes": StoredJobs(everything, [*jobs(everything), *(more_jobs or [])])},
        accounts=Accounts(
            dict.fromkeys(kept["users_of_the_unix_system"], "secret"),
            groups={one["name"]: one["site"] for one in groups["ggas"]},
            sites=tuple(groups["sites"]),
        ),
        deployments=RecordedDeployments(
            ":memory:",
            StandInKadeploy(),
            environments,
            rights=lambda user, nodes: True,
            fetch=fetch,
            end_hook=False,
            clock=clock,
            new_uid=lambda: f"D-00000000-0000-4000-8000-{next(numbers):012d}",
        ),
        environments=environments,
        kavlans={"rennes": kavlan},
        clock=clock,
        trust_proxy=True,
        public_url="https://api.grid5000.fr",
    )
