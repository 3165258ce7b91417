"""What a site says and what we ask of it, in words: refusals, states, reasons, requests, records, paces."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base.problem import Problem
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed import properties, texts
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.problems import ApiProblem
from g5kdeploy.testbed.records import Records, RecordState, unique_name
from g5kdeploy.testbed.request import BELLS, Request, RoleNodes, is_node, payload, resources, walltime_text
from g5kdeploy.testbed.waiting import Pace


def forwarded(message: str, status: int = 400) -> str:
    inner = json.dumps({"message": message, "code": status, "title": "Bad query"}, indent=3)
    return f"Request to http://127.0.0.1/internal/oarapi/jobs.json failed with status {status}: {inner}\n\n"


@pytest.mark.parametrize(
    ("message", "reason", "notices"),
    [
        (
            (
                "# Set walltime to default (3600 s).\n# Filtering out exotic resources (drac).\n"
                "# There are not enough resources for your request\n# Error: please verify your job submission syntax.\n"
            ),
            "the site has not that many nodes of this kind",
            ("Set walltime to default (3600 s).", "Filtering out exotic resources (drac)."),
        ),
        (
            "# Error: cannot recognize the resource description: nodes=\n",
            "cannot recognize the resource description: nodes=",
            (),
        ),
        (
            "OAR_JOB_ID=67\n# Reservation not valid --> KO (Reservation too old)\n",
            "the start that was asked for has passed",
            (),
        ),
        (
            'DBD::Pg::st execute failed: ERROR:  syntax error at or near "1"\nLINE 1: 1\n# Bad resource request (ERROR)\n',
            'the site cannot read the properties or resources asked for: syntax error at or near "1"',
            (),
        ),
        ("Unknown option: walltime\n", "Unknown option: walltime", ()),
        ("[ADMISSION RULE] Error: unknown job type: x\n", "unknown job type: x", ()),
        ("", "the site gave no reason", ()),
    ],
)
def test_refusals_of_the_scheduler(message: str, reason: str, notices: tuple[str, ...]) -> None:
    body = forwarded(message)
    assert texts.oar_message(body) == (message or "Bad query")
    refusal = texts.refusal(message)
    assert refusal.reason == reason
    assert refusal.notices == notices


def test_a_refusal_that_names_another_time() -> None:
    refusal = texts.refusal("# Reservation not valid --> KO (This reservation could run at 2026-11-22 17:35:54)\n")
    assert refusal.could_run_at == "2026-11-22 17:35:54"


@pytest.mark.parametrize(
    ("body", "kind", "said"),
    [
        ("Not Found", "text/plain", "Not Found"),
        ("", "text/plain", "the answer is empty"),
        (
            "<html><title>502 Proxy\n Error</title>",
            "text/html",
            "the answer is a web page (502 Proxy Error), not one of the API",
        ),
        ("<!DOCTYPE html><p>", "text/plain", "the answer is a web page, not one of the API"),
        ('{"status":404,"error":"Not Found"}', "application/json", "Not Found"),
        ("undefined method `x' for nil\n\n    lib/oar.rb:12", "text/plain", "undefined method `x' for nil"),
        ("\x1b[31mred\x1b[0m", "text/plain", "red"),
        ("Request to http://x failed with status 502: not JSON", "text/plain", "not JSON"),
    ],
)
def test_what_other_servers_say(body: str, kind: str, said: str) -> None:
    assert texts.sentence(body, kind) == said


def job(**more: Any) -> Job:
    document = {"uid": 7, "state": "error", "user_uid": "jdoe", "walltime": 60, "events": [], **more}
    return Job.from_document("lab", document)


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (["FRAG_JOB_REQUEST", "WALLTIME"], "its walltime ended"),
        (["FRAG_JOB_REQUEST"], "jdoe deleted it"),
        (["FRAG_JOB_REQUEST", "BESTEFFORT_KILL"], "ended by the site: a besteffort job makes way for others"),
        (["SWITCH_INTO_ERROR_STATE", "WORKING_DIRECTORY"], "working directory"),
        (["ADM_RULES_MSG_OUT", "STRANGE"], "the site ended it: User jdoe"),
        ([], "the site ended it: it gives no reason"),
    ],
)
def test_why_a_job_ended(events: list[str], reason: str) -> None:
    described = [{"type": kind, "description": "User jdoe requested to frag the job 7"} for kind in events]
    assert reason in job(events=described).reason()
    assert job(state="running", events=described).reason() == ""


def test_a_kill_by_root_is_the_sites() -> None:
    event = {"type": "FRAG_JOB_REQUEST", "description": "User root requested to frag the job 7"}
    assert "administrators" in job(events=[event]).reason()
    assert job(state="terminated").reason() == "its command ended by itself"


def test_a_walltime_that_was_changed_is_not_one_that_is_over() -> None:
    changed = {
        "type": "WALLTIME",
        "description": "Walltime changed: 2:0:0 (granted: +1:0:0/pending: 0:0:0/timeout: 0:0:0)",
    }
    killed = {"type": "FRAG_JOB_REQUEST", "description": "User jdoe requested to frag the job 7"}
    over = {
        "type": "WALLTIME",
        "description": "Job [7] reached its walltime (start: 1 + walltime:60 > current time: 62)",
    }
    extended = job(events=[changed, killed])
    assert extended.reason() == "jdoe deleted it"
    assert not extended.walltime_ended
    assert job(events=[changed, killed, over]).walltime_ended


def test_predicted_nodes_and_starts_are_not_believed() -> None:
    waiting = job(state="waiting", started_at=1_796_000_000, assigned_nodes=["vm-1.lab.grid5000.fr"])
    assert waiting.nodes == ()
    assert waiting.started_at is None
    assert waiting.scheduled_at == 1_796_000_000
    running = job(state="running", started_at=100, assigned_nodes=["vm-10.x", "vm-2.x"])
    assert running.nodes == ("vm-2.x", "vm-10.x")
    assert running.ends_at == 160


@pytest.mark.parametrize(
    "document", [None, [], {}, {"uid": "x", "state": 3}, {"uid": 1}, {"uid": 1, "state": "x", "events": 3}]
)
def test_what_is_no_job(document: Any) -> None:
    with pytest.raises(ApiProblem, match="no job"):
        Job.from_document("lab", document)


def a_request(*roles: RoleNodes, **more: Any) -> Request:
    return Request(**{"site": "lab", "roles": roles or (RoleNodes("server", 2),), "walltime": 5400, **more})


def test_the_choosiest_roles_come_first_and_equals_together() -> None:
    roles = (
        RoleNodes("any", 1),
        RoleNodes("clients", 2, cluster="vm"),
        RoleNodes("more", 1),
        RoleNodes("big", 1, cluster="vm", properties="memnode > 1000 or gpu_count > 0"),
        RoleNodes("this", 1, nodes=("vm-3",)),
    )
    assert resources(a_request(*roles)) == (
        "{network_address in ('vm-3.lab.grid5000.fr')}/nodes=1"
        "+{cluster='vm' AND (memnode > 1000 or gpu_count > 0)}/nodes=1"
        "+{cluster='vm'}/nodes=2+nodes=2,walltime=1:30:00"
    )


def test_the_body_of_a_submission() -> None:
    body = payload(
        a_request(queue="production", project="p", exclude=("vm-1",), properties="a=1", at=1_796_025_600), "n"
    )
    assert body["properties"] == "(a=1) AND network_address not in ('vm-1.lab.grid5000.fr')"
    assert body["reservation"] == "2026-11-30 09:00:00"
    assert (body["queue"], body["project"], body["name"]) == ("production", "p", "n")
    assert body["types"] == ["deploy", "origin=g5kdeploy"]
    assert "walltime" not in body
    assert "queue" not in payload(a_request(), "n")
    assert walltime_text(100 * 3600 + 61) == "100:01:01"


@pytest.mark.parametrize(
    "bad",
    [
        a_request(RoleNodes("a", 0)),
        a_request(walltime=0),
        a_request(site="la b"),
        a_request(RoleNodes("a", 2, nodes=("vm-1", "vm-1"))),
        a_request(RoleNodes("a", 1, nodes=("vm'1",))),
        a_request(RoleNodes("a", 1, cluster="x' or 'a'='a")),
        a_request(at=1.0, queue="besteffort"),
        Request(site="lab", roles=(), walltime=60),
    ],
)
def test_requests_that_no_site_could_take(bad: Request) -> None:
    with pytest.raises(InvalidUse):
        payload(bad, "n")


def test_records_survive_and_are_found(tmp_path: Path) -> None:
    records = Records("lab", tmp_path)
    assert records.all() == []
    asked = records.ask(a_request(RoleNodes("s", 1, nodes=("vm-1",)), run="r1", experiment="/x.yaml"), "http://x")
    assert Records("grid5000", tmp_path).all() == []
    again = Records("lab", tmp_path)
    assert again.of(a_request(run="r1")) == asked
    assert again.of(a_request(run="r1", site="nancy")) is None
    assert again.of(a_request()) is None
    known = again.known(asked, job(uid=7, resources_by_type={"vlans": ["4"], "disks": ["disk1.vm-1"]}))
    assert (known.vlans, known.disks) == (("4",), ("disk1.vm-1",))
    assert again.get(known.name) == known
    assert [one.job for one in again.unreleased(experiment="/x.yaml")] == [7]
    assert again.released(known, "over").state is RecordState.RELEASED
    assert again.unreleased() == []
    assert again.get(asked.name) is not None and [one.name for one in again.all()] == [asked.name]
    assert (tmp_path / "released" / f"{asked.name}.json").stat().st_mode & 0o077 == 0


def test_records_that_are_released_are_not_read_at_every_look(tmp_path: Path) -> None:
    records = Records("lab", tmp_path)
    first = records.ask(a_request(run="r1"), "http://x")
    second = records.known(records.ask(a_request(run="r2"), "http://x"), job(uid=7))
    records.released(first, "over")
    (tmp_path / "released" / "g5kdeploy-other.json").write_text("never looked at")
    assert records.unreleased() == [second]
    # As an earlier release left it, or one that ended in between
    text = (tmp_path / f"{second.name}.json").read_text().replace('"known"', '"released"')
    (tmp_path / f"{second.name}.json").write_text(text)
    assert records.unreleased() == []
    assert [path.name for path in tmp_path.glob("*.json")] == []
    ended = records.get(second.name)
    assert ended is not None and ended.released


@pytest.mark.parametrize("content", ["", "{", "[]", '{"version": 1}', '{"version": 99}', "\x00"])
def test_a_file_that_is_no_record_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "g5kdeploy-x.json").write_text(content)
    with pytest.raises(Problem, match=r"g5kdeploy-x\.json"):
        Records("lab", tmp_path).all()


def test_job_names_are_ones_own_and_fit() -> None:
    names = {unique_name("My experiment: über/alles " * 9) for _ in range(50)}
    assert len(names) == 50
    assert all(len(name) <= 100 and name.replace("-", "").isalnum() and name.isascii() for name in names)


def play(starts: float, predictions: Any, launching: float = 5.0) -> tuple[int, float]:
    """How many requests a wait costs, and how late the start is seen, when the job runs at `starts` seconds."""
    pace, now, asked = Pace(), 0.0, 0
    while True:
        waiting = job(state="waiting", scheduled_at=predictions(now))
        state = waiting if now < starts - launching else replace(waiting, state="launching")
        now += pace.next(now, state)
        asked += 1
        if now >= starts:
            return asked, now - starts


@pytest.mark.parametrize("after", [0.0, 1.0, 5.0, 20.0, 57.0])
def test_an_hour_of_waiting_costs_at_most_twenty_requests(after: float) -> None:
    asked, late = play(3600 + after, lambda now: 3600 if now < 3610 else int(now) + 30)
    assert asked <= 20 + (after > 20) * 4
    assert late <= 10


def test_a_prediction_that_moves() -> None:
    asked, late = play(3600, lambda now: 1800 if now < 1790 else 3600)
    assert asked <= 20
    assert late <= 10


@pytest.mark.parametrize("starts", [30, 300, 900, 2000, 3000, 3400])
def test_an_early_start_is_seen_by_asking_alone(starts: float) -> None:
    """A minute and a half is the doorbell's promise; without it, five minutes are."""
    asked, late = play(starts, lambda now: 3600)
    assert asked <= 20
    assert late <= 300


def test_without_a_prediction_the_pace_slows_down() -> None:
    asked, late = play(3600, lambda now: None)
    assert asked <= 20
    assert late <= 400


def test_a_job_that_starts_at_once_is_seen_at_once() -> None:
    assert play(0.7, lambda now: None, 0.0)[1] <= 1
    assert play(10.6, lambda now: None, 0.2)[1] <= 6


def test_properties_from_reference_data() -> None:
    documents = {
        f"gpu-{n}.lab.grid5000.fr": {
            "architecture": {"platform_type": "x86_64", "nb_procs": 2, "nb_cores": 32, "nb_threads": 64},
            "processor": {"model": "Intel Xeon", "version": "Gold 5218"},
            "main_memory": {"ram_size": 64 << 30},
            "network_adapters": [{"interface": "Ethernet", "mounted": True, "rate": 25_000_000_000}],
            "gpu_devices": {"nvidia0": {"model": "A100"}} if n > 1 else None,
            "supported_job_types": {"deploy": True},
        }
        for n in (1, 2)
    }
    two = frozenset(documents)
    one = frozenset({"gpu-2.lab.grid5000.fr"})
    assert properties.matching("memnode >= 65536 and core_count = 32 and eth_rate >= 25", documents) == two
    assert properties.matching("gpu_model = 'A100' AND gpu_count > 0", documents) == one
    assert properties.matching("cputype LIKE '%Gold%' and deploy = 'YES'", documents) == two
    assert properties.matching("no_such_property = 1", documents) is None
    assert properties.matching("1 = 1); DROP TABLE nodes; --", documents) is None
    assert properties.matching("1", {}) == frozenset()


@pytest.mark.parametrize("sought", ["not enough resources", "cannot recognize", "Reservation too old"])
def test_recorded_refusals_become_sentences(sought: str) -> None:
    folder = Path(__file__).parents[3] / "shared" / "data" / "transcripts" / "g5k-api"
    if not folder.is_dir():
        pytest.skip("needs ../shared")
    seen = 0
    for path in sorted(folder.glob("2*.jsonl")):
        for line in path.read_text().splitlines():
            body = json.loads(line)["response"]["body"] or ""
            if body.startswith("Request to ") and sought in body:
                said = texts.sentence(body)
                assert "{" not in said and "\\n" not in said and len(said) < 300
                assert said != "the site gave no reason"
                seen += 1
    assert seen


@pytest.mark.parametrize("shell", ["sh", "bash"])
@pytest.mark.parametrize("home_is_full", [False, True])
def test_a_job_lives_on_and_rings_where_it_can(shell: str, home_is_full: bool, tmp_path: Path) -> None:
    if home_is_full:
        (tmp_path / BELLS.partition("/")[0]).write_text("no folder can be made here")
    asked = Request("lab", (RoleNodes("server", 1),), 60, command="echo lives")
    command = payload(asked, "g5kdeploy-one")["command"]
    done = subprocess.run([shell, "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "lives\n"
    assert (tmp_path / BELLS / "g5kdeploy-one").exists() is not home_is_full


@pytest.mark.parametrize(
    ("name", "node"),
    [
        ("paradoxe-1.rennes.grid5000.fr", True),
        ("paradoxe-12-kavlan-4.rennes.grid5000.fr", True),
        ("paradoxe-1-ipv6.rennes.grid5000.fr", True),
        ("frennes.rennes.grid5000.fr", False),
        ("frontend.rennes.grid5000.fr", False),
        ("access.grid5000.fr", False),
        ("access-north.grid5000.fr", False),
    ],
)
def test_a_nodes_name_has_a_number(name: str, node: bool) -> None:
    assert is_node(name) is node
