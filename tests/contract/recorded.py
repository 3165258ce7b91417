"""The world in which the real server's exchanges were recorded, rebuilt behind the lab's API."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab import seed
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.deployments import Deployment, Deployments, Report
from g5kdeploy.lab.fetch import over_http
from g5kdeploy.lab.kaenv import Environments
from g5kdeploy.lab.kavlan import Kavlan, Vlan
from g5kdeploy.lab.oar import Job, Listing, NodeState, Query, Resource
from g5kdeploy.lab.reference import Commit, Reference, load
from g5kdeploy.lab.reference.tree import Tree, put
from g5kdeploy.lab.services import SiteServices

SHARED = Path(__file__).resolve().parents[2].parent / "shared"
FOLDER = SHARED / "data" / "transcripts" / "g5k-api"
RECORDED_AT = 1_795_368_276  # what the relative times of world-jobs.json count from
MANY = 500  # rows for which the recording's database sorted
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


def exchanges(name: str, folder: Path = FOLDER) -> list[dict[str, Any]]:
    """The exchanges of one file; none where the file is not there."""
    file = folder / f"{name}.jsonl"
    return [json.loads(text) for text in file.read_text().splitlines()] if file.exists() else []


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


class RecordedJobs(seed.StoredJobs):
    """The recording's database: where it had to sort, the alternatives of a moldable job came out the other way."""

    def jobs(self, query: Query) -> Listing:
        found = super().jobs(query)
        sorts = len(query.states or ()) > 1 or (query.limit or 0) + query.offset >= MANY
        return (
            Listing(tuple(sorted(found.jobs, key=lambda job: (-job.id, -job.alternative))), found.total)
            if sorts
            else found
        )


class AnyEnvironment(Environments):
    """The recording's kadeploy knew the environments of one user by his name, and every name."""

    def seen(self, owner: str | None = None, asking: str | None = None, latest: bool = True) -> list[dict[str, Any]]:
        return [] if owner == "deploy" else super().seen(owner, asking, latest)

    def find(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"name": "any"}


def reference(folder: Path = FOLDER) -> Reference:
    """The recorded reference data with its three commits, and its branches."""
    last = load(folder / "world-reference.tar.xz").latest.tree
    second = copy.deepcopy(last)
    nantes = second["sites"]["nantes"]["nantes.json"].document
    nantes["description"] = nantes.get("description", "").rstrip()  # a space came with the last commit
    first = copy.deepcopy(second)
    nodes = first["sites"]["rennes"]["clusters"]["paradoxe"]["nodes"]
    nodes["paradoxe-2.json"].document.pop("comment", None)  # which the second commit added
    trees = (first, second, last)
    line = [Commit(oid, at, text, "Jane Doe", tree) for (oid, at, text), tree in zip(COMMITS, trees, strict=True)]
    other = copy.deepcopy(last)
    rennes = other["sites"]["rennes"]["rennes.json"].document
    rennes["description"] = "testing branch"
    branch = Commit("3cbc6bd3c62f4484ded8d145a69aedae1734a91b", 1_774_263_600, "testing", "Jane Doe", other)
    newest_first = line[::-1]
    branches = {"master": newest_first, "testing": [branch, *newest_first]}
    if accesses := accesses_branch(last, folder):
        branches["acc"] = [accesses]
    return Reference(branches, INSTALLED_AT, checked_out=("master", "acc"))


def accesses_branch(last: Tree, folder: Path) -> Commit | None:
    """The branch with accesses, of which nothing is left but what was answered from it; None where that is missing."""
    answers = {
        one["request"]["path"].partition("?")[0]: json.loads(one["response"]["body"])
        for one in exchanges("31-accesses", folder)
        if "branch=acc" in one["request"]["path"] and one["response"]["status"] == 200
    }
    if not {"/accesses", "/refrepo"} <= answers.keys():
        return None
    tree = copy.deepcopy(last)
    nodesets: dict[str, dict[str, dict[str, list[str]]]] = {}
    for group, levels in answers["/accesses"].items():
        for nodeset, level in levels.items():
            holders = nodesets.setdefault(nodeset, {}).setdefault(level["label"], {"ggas": [], "sites": []})
            holders["ggas"].append(group)
    put(tree, "accesses/nodesets", nodesets)
    document = answers["/refrepo"]
    put(tree, "accesses/refrepo", {key: value for key, value in document.items() if key != "version"})
    return Commit(document["version"], 1_774_263_600, "accesses", "Jane Doe", tree)


def ums(folder: Path = FOLDER) -> dict[str, Any]:
    """What the user management said of groups and sites; nobody, where that was not kept."""
    for place in (folder, folder.resolve().parents[1] / "g5k-api", FOLDER.parents[1] / "g5k-api"):
        kept = place / "ums-ggas_and_sites.json"
        if kept.exists():
            found: dict[str, Any] = json.loads(kept.read_text())
            return found
    return {"ggas": [], "sites": []}


def fetch(url: str) -> bytes:
    """The recording's web servers: descriptions on one port, keys anywhere, nothing elsewhere."""
    if url.endswith("/envs/ok.yaml"):
        return b"name: ok\n"
    if ":8901/" in url:
        return b"<html>not found</html>"
    return b"ssh-rsa A a\n" if "/k.pub" in url else over_http(url)


MORE_NODES = {"paradoxe-4": 4, "nowhere-1": 2}
"""What came to the site before the last files were recorded."""


def more_jobs() -> list[Job]:
    """620 jobs of one user, which came to the database then."""
    return [
        Job(
            id=1000 + number,
            user="bulk",
            state="Terminated",
            queue="default",
            project="",
            command=None,
            directory="/home/bulk",
            properties=None,  # type: ignore[arg-type]
            message="",
            walltime=None,  # type: ignore[arg-type]
            submitted_at=1_795_000_000,
        )
        for number in range(1, 621)
    ]


def services(clock: Clock, folder: Path = FOLDER, later: bool = False) -> SiteServices:
    """All of it behind one API server, as it stood behind the proxy; `later`: when the last files were recorded."""
    kept = json.loads((folder / "world-services.json").read_text())
    groups = ums(folder)
    everything = resources(MORE_NODES if later else {})
    jobs = seed.jobs(seed.read(folder / "world-jobs.json"), everything, RECORDED_AT)
    environments = AnyEnvironment([*kept["environments"], *kept["environments_of_jdoe"]])
    numbers = itertools.count(1)
    vlans = tuple(Vlan(one["uid"], one["type"]) for one in kept["vlans"]["items"])
    kavlan = StandInKavlan(
        vlans, dict(kept["nodes_in_vlans"]), {vlan: set(users) for vlan, users in kept["vlan_users"].items()}
    )
    return SiteServices(
        reference=reference(folder),
        oars={"rennes": RecordedJobs(lambda: everything, [*jobs, *(more_jobs() if later else [])])},
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
