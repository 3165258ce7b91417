"""The lab answers as the real server did: every recorded exchange again, over the world in which it was recorded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from g5kdeploy.base.problem import Problem
from tests.contract import recorded, replay

needs_shared = pytest.mark.skipif(not recorded.FOLDER.is_dir(), reason="needs ../shared: the recorded exchanges")
SCRIPT = Path(__file__).parents[2] / "scripts" / "replay-exchanges"

WHICH = "which of several equal nodes a job gets was up to the database's order of rows"
TESTING = "the recorded site planned its queue testing after queue default"
FURTHER = "the plan is a pass further than it was"

KNOWN_DIFFERENCES: dict[tuple[str, int], str] = {
    ("02-reference", 95): "there is no OpenAPI document at /apidocs",
    ("20-oar-submit", 55): WHICH,
    ("22-oar-jobs-after", 31): FURTHER,
    ("22-oar-jobs-after", 32): FURTHER,
    ("22-oar-jobs-after", 47): FURTHER,
    ("22-oar-jobs-after", 10): WHICH,
    ("22-oar-jobs-after", 27): WHICH,
    ("22-oar-jobs-after", 28): TESTING,
    ("22-oar-jobs-after", 29): WHICH,
    ("24-oar-refused-reservations", 1): "the submission of this job is not among the recorded exchanges",
    ("24-oar-refused-reservations", 6): "most of the jobs in this list are not among the recorded exchanges",
}
"""Where the lab's answer differs, and why; each is checked to differ still."""


@needs_shared
def test_every_recorded_exchange() -> None:
    wrong, same_again, played = [], [], 0
    for one, found in replay.replay(sorted(recorded.FOLDER.glob("*.jsonl"))):
        played += 1
        known = KNOWN_DIFFERENCES.get((one.stem, one.n))
        request = one.recorded["request"]
        text = f"{one.stem} {one.n} {request['method']} {request['path']}"
        if found and not known:
            wrong.append(f"{text}: {'; '.join(found[:5])}")
        if known and not found:
            same_again.append(f"{text}: {known}")
    assert played == 867
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong)
    assert not same_again, "no longer different: " + "\n".join(same_again)


@needs_shared
def test_a_part_alone_finds_the_state_that_the_rest_made(tmp_path: Path) -> None:
    """A file that holds some of a recording: what came before it is beside the world, and is played and not judged."""
    kept = [
        one
        for one in recorded.exchanges("10-deployments")
        if one["request"]["method"] == "GET" and "/deployments/D-" in one["request"]["path"]
    ]
    condition = [one for one in recorded.exchanges("04-conditional") if one["response"]["status"] == 304]
    for name, some in (("10-deployments", kept), ("04-conditional", condition)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f"{json.dumps(one)}\n" for one in some))
    found = list(replay.replay(sorted(tmp_path.glob("*.jsonl")), recorded.FOLDER))
    assert len(found) == len(kept) + len(condition) > 10
    assert not [(one.stem, one.n, what) for one, what in found if what]


@needs_shared
def test_the_script_says_what_differs(tmp_path: Path) -> None:
    told = [one for one in recorded.exchanges("06-jobs-read") if one["n"] in (0, 21)]
    told[1]["response"]["status"] = 418
    file = tmp_path / "06-jobs-read.jsonl"
    file.write_text("".join(f"{json.dumps(one)}\n" for one in told))
    for name in replay.WORLD_FILES:
        shutil.copy(recorded.FOLDER / name, tmp_path / name)
    run = subprocess.run([sys.executable, SCRIPT, file], capture_output=True, text=True, timeout=120, check=True)
    assert run.stdout.splitlines() == [f"{file} 21 list: status 200, not 418", "2 exchanges, 1 differ"]


def test_a_file_without_its_world_is_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "06-jobs-read.jsonl"
    file.write_text("")
    with pytest.raises(Problem, match=r"world-jobs\.json"):
        list(replay.replay([file]))
    file.write_text('{"n": 1}\n')
    with pytest.raises(Problem, match="recorded exchanges"):
        list(replay.replay([file]))


def test_replay_on_a_world_made_here(tmp_path: Path) -> None:
    """The same without the recordings: a world of a few documents, a deployment whose uid was another one there."""
    documents: dict[str, dict[str, object]] = {
        "grid5000": {"uid": "grid5000"},
        "sites/nantes/nantes": {"uid": "nantes"},
    }
    cluster = "sites/rennes/clusters/paradoxe"
    documents |= {"sites/rennes/rennes": {"uid": "rennes"}, f"{cluster}/paradoxe": {"uid": "paradoxe"}}
    documents |= {f"{cluster}/nodes/paradoxe-2": {"uid": "paradoxe-2"}}
    for path, document in documents.items():
        file = tmp_path / "data" / "grid5000" / f"{path}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document))
    with tarfile.open(tmp_path / "world-reference.tar.xz", "w:xz") as archive:
        archive.add(tmp_path / "data", "data")
    (tmp_path / "world-jobs.json").write_text('{"jobs": []}')
    services = {
        "environments": [], "environments_of_jdoe": [], "vlans": {"items": []}, "vlan_users": {}, "nodes_in_vlans": {},
        "users_of_the_unix_system": ["jdoe"],
    }  # fmt: skip
    (tmp_path / "world-services.json").write_text(json.dumps(services))
    uid, where = "D-0cf6ee9a-1f23-4f0e-9d38-7d5b2c6a4f11", "/sites/rennes/deployments"
    asked = {"nodes": ["a-1"], "environment": "x"}
    shown = {
        "uid": uid, "site_uid": "rennes", "user_uid": "jdoe", "status": "processing", **asked, "created_at": 1795369600,
        "updated_at": 1795369600, "disable_disk_partitioning": False, "disable_bootloader_install": False,
        "ignore_nodes_deploying": False, "links": "no matter",
    }  # fmt: skip
    by_jdoe = [["X-Api-User-Cn", "jdoe"], ["Accept", "application/json"]]
    text = json.dumps(asked)
    posting = [*by_jdoe, ["Content-Type", "application/json"], ["Content-Length", str(len(text))]]
    made = {
        "n": 3, "name": "make", "request": {"method": "POST", "path": where, "headers": posting, "body": text},
        "response": {"status": 201, "headers": [], "body": json.dumps(shown)},
    }  # fmt: skip
    read = {
        "n": 5, "name": "read", "request": {"method": "GET", "path": f"{where}/{uid}", "headers": by_jdoe, "body": None},
        "response": {"status": 200, "headers": [], "body": json.dumps(shown)},
    }  # fmt: skip
    file = tmp_path / "part" / "10-deployments.jsonl"
    file.parent.mkdir()
    file.write_text(json.dumps(read) + "\n")
    (tmp_path / file.name).write_text(json.dumps(made) + "\n" + json.dumps(read) + "\n")
    ((one, found),) = replay.replay([file], tmp_path)
    assert (one.n, one.judged) == (5, True)
    assert [what for what in found if not what.startswith("header")] == [
        f"body: .links is {str(links())[:100]!r}, not 'no matter'"
    ]


def links() -> list[dict[str, str]]:
    """The links of the first deployment of the lab's stand-in for kadeploy."""
    own, kind = "/sites/rennes", "application/vnd.grid5000.item+json"
    uid = "D-00000000-0000-4000-8000-000000000001"
    return [
        {"rel": "self", "href": f"{own}/deployments/{uid}", "type": kind},
        {"rel": "parent", "href": own, "type": kind},
    ]
