"""Plays recorded scenarios of the real OAR against the lab's scheduler, on a clock of its own."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.oar import Hooks, Job, Oar, Refused, Resource
from g5kdeploy.lab.oar.admission import FORBIDDEN, MISSING
from g5kdeploy.lab.oar.said import USAGES
from g5kdeploy.lab.oar.shell import Shell
from g5kdeploy.lab.oar.text import PARIS

RECORDED = Path(__file__).parents[2].parent / "shared" / "data" / "transcripts" / "oar"
TICK = 0.1
DOMAIN = "rennes.grid5000.fr"


@dataclass
class FakeTime:
    """A clock that moves when told to; sleeping moves it."""

    now: float = 1_795_368_609.0

    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def run(self, oar: Oar, seconds: float) -> None:
        """Let the scheduler live for so long."""
        until = self.now + seconds
        while self.now < until:
            oar.tick()
            self.now = min(until, self.now + TICK)
        oar.tick()


def recorded_site() -> list[Resource]:
    """The site of the recordings: two clusters of 4 nodes with 4 cores, an exotic node with 4 GPUs, VLANs, subnets."""
    resources: list[Resource] = []

    def add(kind: str, address: str, **properties: Any) -> None:
        resources.append(Resource(len(resources) + 1, kind, address, properties))

    for cluster in ("paradoxe", "parasilo"):
        for node in range(1, 5):
            for core in range(4):
                address = f"{cluster}-{node}.{DOMAIN}"
                number = len(resources) + 1
                add("default", address, cluster=cluster, core=number, cpuset=str(core), gpu=None, gpu_count=0)
    for gpu in range(1, 5):
        add("default", f"drac-1.{DOMAIN}", cluster="drac", core=32 + gpu, gpu=gpu, gpu_count=4, exotic="YES")
    for vlan in range(1, 5):
        add("kavlan-local", "", vlan=str(vlan))
    for vlan in range(4, 8):
        add("kavlan", "", vlan=str(vlan))
    for subnet in range(8):
        add("subnet", "", slash_22=f"10.158.{4 * subnet}.0/22")
    return resources


def directories(user: str, path: str) -> str:
    """The folders of the recording's frontend."""
    if path in (f"/home/{user}", "/tmp", "/var/tmp"):
        return ""
    return FORBIDDEN if path in ("/", "/home", "/root", "/etc", "/usr", "/var") else MISSING


@dataclass
class Answer:
    """What the scheduler said to one step: exit code or HTTP status, and the words."""

    code: int
    text: str
    errors: str = ""


@dataclass
class Player:
    """One scenario, played; `answers` by step, `ids` from recorded job numbers to ours."""

    scenario: dict[str, Any]
    folder: Path
    silent_nodes: set[str] = field(default_factory=set)
    time: FakeTime = field(default_factory=FakeTime)
    ids: dict[int, int] = field(default_factory=dict)
    answers: list[Answer | None] = field(default_factory=list)

    def play(self, linger: float = 120.0) -> Oar:
        """Do every step at its time, then let the jobs live on."""
        self.silent_nodes |= silent_nodes(self.scenario)
        begin = dt.datetime.strptime(self.scenario["started"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=PARIS).timestamp()
        self.time.now = begin - 10
        self.oar = Oar(
            self.folder / "oar.sqlite",
            recorded_site(),
            self.time.clock(),
            hooks=Hooks(on_launch=self._silent),
            users=lambda user: user != "nosuchuser",
            directories=directories,
        )
        self.time.run(self.oar, 10)
        for step in self.scenario["steps"]:
            at = begin + step["t"] - step["seconds"]
            if at > self.time.now:
                self.time.run(self.oar, at - self.time.now)
            self.answers.append(self._do(step))
        self.time.run(self.oar, linger)
        self.learn()
        return self.oar

    def _silent(self, job: Job) -> list[str]:
        return [address for address in job.nodes if address in self.silent_nodes]

    def ours(self, number: int) -> int:
        """Our number for a recorded job; of no use for one that was never there."""
        if number not in self.ids:
            self.learn()
        return self.ids.get(number, number)

    def learn(self) -> None:
        """Find the jobs that came by resubmission: they are told in the events of those that they came from."""
        told = re.compile(r"(?:=> |new id = )(\d+)\)")
        for recorded, job in self.scenario["jobs"].items():
            mine = self.oar.job(self.ids[int(recorded)]) if int(recorded) in self.ids else None
            theirs = [int(match[1]) for e in job["events"] if (match := told.search(e["description"]))]
            here = [int(match[1]) for e in (mine.events if mine else ()) if (match := told.search(e.description))]
            self.ids.update(zip(theirs, here, strict=False))

    def _do(self, step: dict[str, Any]) -> Answer | None:
        if step["kind"] == "cli":
            return self._command(step)
        return self._http(step) if "request_headers" in step else None

    def _command(self, step: dict[str, Any]) -> Answer | None:
        words = [word for word in shlex.split(step["command"].partition(" | ")[0]) if word != "|"]
        name = words[0].rpartition("/")[2]
        if name == "oarnodesetting" and {"-h", "-s"} <= {*words}:
            address, state = words[words.index("-h") + 1], words[words.index("-s") + 1]
            self.silent_nodes.discard(address)
            self.oar.set_state(address, state)  # type: ignore[arg-type]
        if name not in USAGES or self._is_elsewhere(step):
            return None
        if name == "oarsub":
            words[1:-1] = self._numbered(words[1:-1])
        else:
            words[1:] = [str(self.ours(int(word))) if word.isdigit() else word for word in words[1:]]
        shell = Shell(self.oar, lambda: self.time.now)
        done = shell.run(name, words[1:], step["user"])
        self._learn_number(step["stdout"], done.out)
        return Answer(done.status, done.out + done.err, done.err)

    @staticmethod
    def _is_elsewhere(step: dict[str, Any]) -> bool:
        """Steps that say what other recordings did meanwhile, or how a key's file was read."""
        return re.fullmatch(r"oarstat|oarnodes -e .*|oarsub .* -k .*", step["command"]) is not None

    def _numbered(self, words: list[str]) -> list[str]:
        """The words of a submission, with our numbers for the jobs that they name."""
        found: list[str] = []
        for word in words:
            if match := re.fullmatch(r"(inner=|--anterior=|--resubmit=|-a)(\d+)", word):
                word = f"{match[1]}{self.ours(int(match[2]))}"
            elif word.isdecimal() and found and found[-1] in ("-a", "--anterior", "--resubmit", "-C"):
                word = str(self.ours(int(word)))
            found.append(word)
        return found

    def _learn_number(self, recorded: str, text: str) -> None:
        theirs, here = (re.findall(r"OAR_JOB_ID=(\d+)", one) for one in (recorded, text))
        self.ids.update(zip(map(int, theirs), map(int, here), strict=False))

    def _submit(self, user: str, request: dict[str, Any], said: str) -> Answer:
        try:
            job = self.oar.submit(user, request)
        except Refused as error:
            self._learn_number(said, error.message)
            return Answer(error.status, error.message)
        notices = "".join(f"{e.description}\n" for e in job.events if e.type == "ADM_RULES_MSG_OUT")
        text = f"{notices}OAR_JOB_ID={job.id}\n"
        if job.reservation != "None":
            text += "# Advance reservation request: waiting for validation...\n# Reservation valid --> OK\n"
        self._learn_number(said, text)
        return Answer(201, text)

    def _http(self, step: dict[str, Any]) -> Answer | None:
        user = step["request_headers"].get("X-REMOTE-IDENT")
        body = step["request_body"]
        number = re.search(r"/jobs/(\d+)", step["path"])
        ours = self.ours(int(number[1])) if number else 0
        told = isinstance(body, dict | None) and isinstance(step["body"], dict)
        if user is None or not told or step["method"] in ("GET", "PUT"):
            return None  # not the scheduler's business: authentication, JSON, routes
        body = body or {}
        try:
            if step["method"] == "DELETE":
                return Answer(202, self.oar.delete(ours, user))
            if body.get("method") == "walltime-change":
                return self._change(ours, user, body)
            if number:
                action = re.search(r"/jobs/\d+/(\w+)", step["path"])
                self._act(ours, user, action[1] if action else str(body.get("method")))
                return None
            answer = step["body"]
            said = str(answer.get("cmd_output", answer.get("message", "")))
            return self._submit(user, {**body, **self._named(body)}, said)
        except Refused as error:
            return Answer(error.status, error.message)

    def _named(self, body: dict[str, Any]) -> dict[str, Any]:
        """The fields of a submission that name jobs, with our numbers."""
        named: dict[str, Any] = {}
        if "type" in body:
            kinds = body["type"] if isinstance(body["type"], list) else [body["type"]]
            named["type"] = self._numbered([str(kind) for kind in kinds])
        for name in ("anterior", "dependencies"):
            if str(body.get(name, "")).isdecimal():
                named[name] = self.ours(int(body[name]))
        return named

    def _act(self, ours: int, user: str, what: str) -> None:
        """What OAR's own API does with a job besides; its words are not ours."""
        act = next((act for begin, act in _DONE.items() if what.startswith(begin)), None)
        with contextlib.suppress(Refused):
            if act:
                getattr(self.oar, act)(ours, user, *([None] if act == "signal" else []))

    def _change(self, ours: int, user: str, body: dict[str, Any]) -> Answer | None:
        if "walltime" not in body:
            return None
        # the recorded server took the JSON `true` for "no"; g5k-api sends YES
        return Answer(202, self.oar.change_walltime(ours, user, body["walltime"]))

    def translate(self, text: str) -> str:
        """A recorded text in our numbers: jobs by `ids`, moments blanked."""
        text = re.sub(r"\b179\d{7}\b", "T", text)
        return re.sub(r"\b\d+\b", lambda m: str(self.ids.get(int(m[0]), m[0])), text)


def silent_nodes(scenario: dict[str, Any]) -> set[str]:
    """The nodes that did not answer, as the events of a scenario's jobs tell."""
    told = re.compile(r"OAR suspects nodes for the job \d+: (.*)")
    events = (event for job in scenario["jobs"].values() for event in job.get("events", ()))
    return {name for event in events if (match := told.search(event["description"])) for name in match[1].split()}


_DONE = {"hold": "hold", "resum": "resume", "delet": "delete", "checkpoint": "signal"}
"""What OAR's own API calls what our scheduler does, by its first letters."""


def chanceless(text: str) -> str:
    """A text without what is drawn by lot or depends on the moment: a script's name, a challenge, when it was inserted."""
    text = re.sub(r"oarapi\.subscript\.\w+", "oarapi.subscript.XXXXX", text)
    text = re.sub(r"(VALUES \(,')\d+(','',''\))", r"\1N\2", text)
    return re.sub(r"(VALUES \(,'Waiting',)\w+", r"\1T", text)


def said(step: dict[str, Any]) -> str:
    """All the words of a recorded step."""
    if step["kind"] == "cli":
        text = str(step["stdout"] + step["stderr"])
        return text[: text.index("Usage:") + 6] if "Usage:" in text else text
    body = step["body"]
    return str(body.get("oardel_output", body.get("cmd_output", body.get("message"))))


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RECORDED / name).read_text())
    return found
