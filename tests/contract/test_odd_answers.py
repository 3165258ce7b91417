"""Documents of the API with something odd in them, anywhere: never a traceback, and a sentence that names the URL."""

from __future__ import annotations

import copy
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.cli import topology as drawing
from g5kdeploy.runs.report import _hardware
from g5kdeploy.testbed import (
    firewall,
    hardware,
    holding,
    inventory,
    kadeploy,
    lookup,
    naming,
    planning,
    shapes,
    storage,
)
from g5kdeploy.testbed import reservations as r
from g5kdeploy.testbed import topology as drawn
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.problems import ApiProblem, Unclear
from g5kdeploy.testbed.request import RoleNodes
from tests.contract.testbed_world import World, a_request, nodes

ODD = (None, "a b", 7, 1e300, [], {}, [None], {"a": None})
SHARED = Path(__file__).parents[3] / "shared" / "data"


class Answer:
    """What `requests` would give, of a document."""

    def __init__(self, document: Any) -> None:
        self.content = json.dumps(document).encode()
        self.text = self.content.decode()
        self.status_code, self.headers = 200, {"Content-Type": "application/json"}

    def json(self) -> Any:
        return json.loads(self.content)


class Recorded(Api):
    """An adapter that knows by heart what was answered, and may be told something else."""

    answers: dict[tuple[str, str], Any]
    listening = True

    def _request(self, verb: str, path: str, *rest: Any) -> Any:
        if not self.listening:
            return Answer(self.answers.get((verb, path), {}))
        response = super()._request(verb, path, *rest)
        if response.content:
            self.answers[verb, path] = json.loads(response.content)
        return response


Question = Callable[[Recorded, World, int], Any]


def plan(api: Recorded, world: World, job: int) -> Any:
    land = planning.look(api, [], world.deadline())
    wish = planning.Wish((RoleNodes("s", 2), RoleNodes("t", 1, properties="memnode > 1 and disktype like '%'")), 3600)
    window = planning.window("earliest", 3600, land.now)
    return planning.plan_sites(land, wish, window, [*land.nodes])


def deploy(api: Recorded, world: World, job: int) -> Any:
    deadline = Deadline.after(7200 if api.listening else 60, "a deployment", world.lab.clock)
    return kadeploy.deploy(api, "lab", ["vm-1.lab.grid5000.fr"], "debian12-min", "ssh-ed25519 A", deadline, world.emit)


def a_job(api: Recorded, world: World, job: int) -> Any:
    found = lookup.job(api, "lab", job, world.deadline())
    return found.reason(), found.notices(), found.ending, found.ends_at, found.state_in_words()


def attached(api: Recorded, world: World, job: int) -> Any:
    held = r.attach(api, "lab", job, world.records, world.deadline(), "run", roles=nodes(1))
    return r.assign(api, held, world.deadline())


def pictures(api: Recorded, world: World, job: int) -> Any:
    site = drawn.of_site(api, "lab", world.deadline())
    return drawing.tree(site).lines(), drawing.graph([site])


QUESTIONS: dict[str, Question] = {
    "sites": lambda api, world, job: api.sites(world.deadline()),
    "me": lambda api, world, job: api.profile(world.deadline())["uid"],
    "status": lambda api, world, job: inventory.status(api, world.deadline()),
    "mine": lambda api, world, job: inventory.mine(api, world.records, world.deadline()),
    "exists": lambda api, world, job: inventory.check_exists(api, a_request(), world.deadline()),
    "earliest": lambda api, world, job: inventory.earliest(api, a_request(), world.deadline()),
    "hardware": lambda api, world, job: [
        _hardware(one) for one in hardware.hardware(api, ["vm-1.lab.grid5000.fr"], world.deadline()).values()
    ],
    "holders": lambda api, world, job: holding.holders(api, ["vm-1.lab.grid5000.fr"], world.deadline()),
    "addresses": lambda api, world, job: holding.addresses(api, ["vm-1.lab.grid5000.fr"], world.deadline()),
    "names": lambda api, world, job: naming.check_nodes(api, ["vm-1", "vm-2.lab.grid5000.fr"], world.deadline()),
    "storage": lambda api, world, job: storage.accesses(api, storage.parse("lab", "jdoe"), world.deadline()),
    "firewall": lambda api, world, job: firewall.openings(
        api, lookup.job(api, "lab", job, world.deadline()), world.deadline()
    ),
    "job": a_job,
    "attach": attached,
    "plan": plan,
    "topology": pictures,
    "deploy": deploy,
}


def places(value: Any, depth: int = 0) -> Iterator[tuple[Any, ...]]:
    """The places in a document; of a list, those in its first item alone."""
    yield ()
    items = (
        list(value.items())
        if isinstance(value, Mapping)
        else list(enumerate(value))[:1]
        if isinstance(value, list)
        else []
    )
    for key, inner in items:
        if key != "links" and depth < 7:
            yield from ((key, *rest) for rest in places(inner, depth + 1))


def put(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    if not place:
        return value
    changed = copy.deepcopy(document)
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return changed


@pytest.mark.parametrize("question", QUESTIONS)
def test_whatever_is_odd_is_told(world: World, question: str) -> None:
    running = world.running(a_request(roles=nodes(2)))
    world.reserve(a_request(run="run-2", roles=nodes(4)))
    names, deadline = ["vm-1.lab.grid5000.fr"], world.deadline()
    storage.allow(world.api, storage.parse("lab", "jdoe"), running.job, ["10.0.0.1"], deadline)
    firewall.open_ports(world.api, running.job, names, [80], "tcp", "", deadline)
    ask = QUESTIONS[question]
    with Recorded(world.api.credentials, world.emit, clock=world.lab.clock) as api:
        api.answers = {}
        ask(api, world, running.job.id)
        assert api.answers
        good, api.listening = api.answers, False
        told = 0
        for key, document in good.items():
            for place in places(document):
                for odd in ODD:
                    api.answers = {**good, key: put(document, place, odd)}
                    try:
                        ask(api, world, running.job.id)
                    except Problem as problem:
                        told += str(problem).startswith(f"{api.uri}{key[1]} does not answer as the API does: ")
                    except Exception as error:
                        raise AssertionError(f"{key[0]} {key[1]}, {place} = {odd!r}") from error
        assert told > 0


@pytest.mark.parametrize(
    ("path", "document", "said"),
    [
        ("/sites", {"items": [None]}, "items[0] is null, not a mapping"),
        ("/sites", {"items": [{"uid": "lab"}, "odd"]}, "items[1] is 'odd', not a mapping"),
        ("/sites", {"items": [{"name": "lab"}]}, "items[0].uid is missing"),
        ("/sites", [], "it is [], not a mapping"),
        ("/sites/lab/status", {"disks": {}}, "nodes is missing"),
        ("/sites/lab/jobs/1", {"uid": 1}, "state is missing"),
        ("/sites/lab/jobs/1", {"uid": 1, "state": "running", "assigned_nodes": [None]}, "assigned_nodes[0] is null"),
        ("/users/users/~", {"email": "a@b"}, "uid is missing"),
    ],
)
def test_what_is_odd_is_named(path: str, document: Any, said: str) -> None:
    with pytest.raises(ApiProblem, match=r"https://api/3\.0.* does not answer as the API does") as caught:
        shapes.check(path, document, f"https://api/3.0{path}")
    assert said in caught.value.cause


def test_an_odd_answer_to_a_submission_forgets_no_job(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job may be there: it is looked for, as after an answer that was lost."""
    answer = Api._answer

    def odd(self: Api, response: Any, path: str) -> Any:
        assert answer(self, response, path)["uid"]  # it was taken
        return answer(self, Answer({"uid": None, "state": "waiting"}), path)  # type: ignore[arg-type]

    monkeypatch.setattr(Api, "_answer", odd)
    with pytest.raises(Unclear):
        world.api.post("/sites/lab/jobs", {"command": "sleep 1", "resources": "nodes=1"}, world.deadline())
    held = world.reserve(a_request(run="run-3"))
    assert held.job.name == held.record.name
    assert [record.job for record in world.records.unreleased()] == [held.job.id]


def test_the_real_testbeds_documents_are_not_odd() -> None:
    archive = SHARED / "grid5000-reference.tar.xz"
    if not archive.exists():
        pytest.skip("needs ../shared")
    seen = 0
    with tarfile.open(archive) as tar:
        for member in tar:
            parts = member.name.partition("grid5000/")[2].removesuffix(".json").split("/")
            kind = "/".join(part if index % 2 == 0 else "x" for index, part in enumerate(parts[:-1]))
            if member.isfile() and kind in ("sites/x/clusters/x/nodes", "sites/x/network_equipments"):
                document = json.load(tar.extractfile(member))  # type: ignore[arg-type]
                shapes.check(f"/{kind}", {"items": [document], "total": 1}, member.name)
                seen += 1
    assert seen > 900
