"""The lab's process from outside: start, kill -9, restart, stop; a stand-in for the built environments."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base import debian, files
from g5kdeploy.base.data import data
from g5kdeploy.lab.environments import AT_START
from g5kdeploy.lab.site.namespace import missing
from tests.support.lab import Lab, call, environment

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or bool(missing(True)), reason=f"needs root and namespaces: {missing(True)}"
)
HOSTS = Path("/etc/hosts")


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home whose cache says that the environments are built; nothing here boots them."""
    made = tmp_path / "lab"
    built = made / "cache" / "environments"
    for name in AT_START:
        record = {"key": debian.digest([data("nix") / "debian"]), "append": "", "release": ""}
        for part in ("image", "kernel", "initrd"):
            files.write(built / f"{name}.{part}", part)
            record[part] = str(built / f"{name}.{part}")
        files.write_json(built / f"{name}.json", record)
    yield made
    call(made, "lab", "stop")


def _gone(pid: int) -> bool:
    """Has that process ended, within a minute?"""
    end = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
        time.sleep(0.05)
    return not Path(f"/proc/{pid}").exists()


def _children(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            found += [int(word) for word in (task / "children").read_text().split()]
    return found


def test_a_lab_is_started_once_and_stopped_whole(home: Path) -> None:
    lab = Lab.start(home, "--nodes", "1")
    assert lab.api("GET", "").json()["uid"] == "lab"
    assert lab.api("GET", "clusters/vm/nodes/vm-1").status_code == 200
    credentials = lab.client_home / ".python-grid5000.yaml"
    assert credentials.stat().st_mode & 0o777 == 0o600
    assert lab.ssh("flab", "hostname").stdout == "flab\n"
    env = call(home, "lab", "env").stdout
    assert f"export LAB_HOME={lab.client_home}\n" in env and f"export LAB_URL={lab.record['url']}\n" in env
    again = call(home, "lab", "start", "--nodes", "1", "-o", "json")
    assert json.loads(again.stdout)["pid"] == lab.record["pid"] and "runs already" in again.stderr
    other = call(home, "lab", "start", "--nodes", "3")
    assert other.returncode == 1 and "other settings" in other.stderr and other.stdout == ""
    children = _children(lab.record["pid"])
    assert children
    stopped = call(home, "lab", "stop")
    assert stopped.returncode == 0
    assert all(_gone(pid) for pid in (lab.record["pid"], *children))
    assert str(home) not in HOSTS.read_text()
    assert json.loads(call(home, "lab", "status", "-o", "json").stdout)["state"] == "stopped"
    assert call(home, "lab", "stop").returncode == 0
    without = call(home, "lab", "env")
    assert without.returncode == 1 and "lab start" in without.stderr


def test_two_that_start_it_at_once_get_the_same_lab(home: Path) -> None:
    words = [sys.executable, "-m", "g5kdeploy", "lab", "start", "--nodes", "1", "-o", "json"]
    with contextlib.ExitStack() as both:
        started = [
            both.enter_context(subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(home), cwd="/"))
            for _ in range(2)
        ]
        answers = [json.loads(one.communicate(timeout=300)[0]) for one in started]
    assert [one.returncode for one in started] == [0, 0]
    assert answers[0] == answers[1] == json.loads(call(home, "lab", "status", "-o", "json").stdout)


def test_a_killed_lab_leaves_nothing_and_goes_on_where_it_was(home: Path) -> None:
    lab = Lab.start(home, "--nodes", "1")
    job = lab.submit(resources="nodes=1,walltime=1", types=["deploy"], name="kept")
    lab.wait_job(job, "running")
    assert lab.ssh("flab", "echo mine > file").returncode == 0
    children = _children(lab.record["pid"])
    os.kill(lab.record["pid"], signal.SIGKILL)
    assert all(_gone(pid) for pid in (lab.record["pid"], *children))
    assert json.loads(call(home, "lab", "status", "-o", "json").stdout)["state"] == "stopped"
    again = Lab.start(home, "--nodes", "1")
    assert (again.record["url"], again.record["access"]) == (lab.record["url"], lab.record["access"])
    assert again.job(job)["state"] == "running"
    assert again.ssh("flab", "cat file").stdout == "mine\n"
    assert again.api("DELETE", f"jobs/{job}").status_code == 202
    again.wait_job(job, "error", "terminated")


def test_bad_luck_is_ordered_while_it_runs(home: Path) -> None:
    nothing = call(home, "lab", "fault", "list")
    assert nothing.returncode == 1 and "no lab runs" in nothing.stderr
    lab = Lab.start(home, "--nodes", "1")
    for words, why in (
        (("api", "--hang", "--status", "500"), "one alone"),
        (("api", "--path", "(", "--hang"), "no regular expression"),
        (("node", "vm-2", "--state", "Dead"), "no node vm-2"),
    ):
        wrong = call(home, "lab", "fault", *words)
        assert wrong.returncode == 2 and why in wrong.stderr and "Traceback" not in wrong.stderr
    done = call(home, "lab", "fault", "api", "--path", "/jobs$", "--status", "502", "--text", "Bad Gateway")
    assert (done.returncode, done.stdout) == (0, ".* /jobs$: status 502, once\n")
    assert (lab.api("GET", "jobs").status_code, lab.api("GET", "jobs").status_code) == (502, 200)
    assert call(home, "lab", "fault", "node", "vm-1", "--ko-at", "BootNewEnv").returncode == 0
    assert "lost in BootNewEnv" in call(home, "lab", "fault", "list").stdout
    assert call(home, "lab", "fault", "site", "lab").returncode == 0
    assert lab.api("GET", "status").status_code == 503
    assert "taken back" in call(home, "lab", "fault", "clear").stdout
    assert lab.api("GET", "status").status_code == 200
    unknown = call(home, "lab", "fault", "job", "7")
    assert unknown.returncode == 1 and "cannot be killed" in unknown.stderr and "Traceback" not in unknown.stderr


def test_what_cannot_start_says_why(home: Path) -> None:
    wrong = call(home, "lab", "start", "--nodes", "0")
    assert wrong.returncode == 2 and "1 to 64 nodes" in wrong.stderr and "Traceback" not in wrong.stderr
    lost = call(home, "lab", "start", "--reference", "/no/such/archive.tar")
    assert lost.returncode == 1 and "/no/such/archive.tar" in lost.stderr and "Traceback" not in lost.stderr
    assert json.loads(call(home, "lab", "status", "-o", "json").stdout)["state"] == "stopped"


def test_further_sites_take_reservations_and_deployments(home: Path) -> None:
    lab = Lab.start(home, "--nodes", "1", "--sites", "2", "--pace", "100")
    assert lab.record["nodes"] == ["vm-1.lab.grid5000.fr", "westa-1.west.grid5000.fr", "easta-1.east.grid5000.fr"]
    asked = {"command": "sleep 1h", "resources": "{cluster='westb'}/nodes=2,walltime=1", "types": ["deploy"]}
    made = lab.session.post(f"{lab.record['url']}/sites/west/jobs", json=asked, timeout=60)
    assert made.status_code == 201, made.text
    where = f"{lab.record['url']}/sites/west"

    def until(path: str, key: str, wanted: Any) -> dict[str, Any]:
        end = time.monotonic() + 120
        while time.monotonic() < end:
            found: dict[str, Any] = lab.session.get(f"{where}/{path}", timeout=60).json()
            if found.get(key) == wanted:
                return found
            time.sleep(0.1)
        pytest.fail(f"{path} is not {wanted}")

    job = until(f"jobs/{made.json()['uid']}", "state", "running")
    assert [node.partition(".")[2] for node in job["assigned_nodes"]] == ["west.grid5000.fr"] * 2
    assert lab.session.get(f"{lab.record['url']}/sites/east/jobs", timeout=60).json()["total"] == 0
    # The global VLAN of a site has nodes of all: who holds it there may deploy into it here
    body = {"nodes": job["assigned_nodes"], "environment": "debian12-min", "vlan": 10}
    refused = lab.session.post(f"{where}/deployments", json=body, timeout=60)
    assert (refused.status_code, "Invalid VLAN" in refused.text) == (400, True)
    holder = lab.submit(resources="{type='kavlan-global'}/vlan=1,walltime=1", types=["deploy"])
    assert lab.wait_job(holder, "running", "error")["resources_by_type"]["vlans"] == ["10"]
    kinds = {vlan["uid"]: vlan["type"] for vlan in lab.session.get(f"{where}/vlans", timeout=60).json()["items"]}
    assert (kinds["10"], kinds["11"], kinds["12"]) == ("kavlan-global-remote", "kavlan-global", "kavlan-global-remote")
    order = ("node", job["assigned_nodes"][0], "--ko-at", "BroadcastEnv")
    assert call(home, "lab", "fault", *order).returncode == 0
    begun = lab.session.post(f"{where}/deployments", json=body, timeout=60)
    assert begun.status_code == 201, begun.text
    result = until(f"deployments/{begun.json()['uid']}", "status", "terminated")["result"]
    assert [result[node]["state"] for node in job["assigned_nodes"]] == ["KO", "OK"]
    elsewhere = lab.session.post(f"{lab.record['url']}/sites/east/deployments", json={**body, "vlan": 0}, timeout=60)
    lost = until(f"deployments/{elsewhere.json()['uid']}", "status", "terminated")["result"]
    assert {one["error"] for one in lost.values()} == {f"{node} is no node of this site" for node in lost}
    disks = {**asked, "resources": "{type='disk'}/host=1/disk=1+{cluster='westb'}/nodes=1,walltime=1", "types": []}
    held = lab.session.post(f"{where}/jobs", json=disks, timeout=60)
    assert held.status_code == 201, held.text
    # A command runs on the site's own frontend; one for nodes that are not there is played
    assert lab.session.delete(f"{where}/jobs/{made.json()['uid']}", timeout=60).status_code == 202
    one = {**asked, "resources": "{cluster='westb'}/nodes=1,walltime=1"}
    here = {**one, "command": "hostname > public/ran", "types": ["cosystem"]}
    until(f"jobs/{lab.session.post(f'{where}/jobs', json=here, timeout=60).json()['uid']}", "state", "terminated")
    read = lab.session.get(f"{where}/public/jdoe/ran", timeout=60)
    assert (read.text, lab.api("GET", "public/jdoe/ran").status_code) == ("fwest\n", 404)
    played = {**one, "command": "exit 3", "types": []}
    until(f"jobs/{lab.session.post(f'{where}/jobs', json=played, timeout=60).json()['uid']}", "exit_code", 768)


def test_a_gateway_stands_few_logins_at_once(home: Path) -> None:
    lab = Lab.start(home, "--nodes", "1", "--max-startups", "2")
    host, _, port = lab.record["access"].rpartition(":")
    with contextlib.ExitStack() as stack:
        greetings = []
        for _ in range(3):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=60))
            greetings.append(connection.makefile("rb").readline())
        assert [greeting.startswith(b"SSH-2.0-") for greeting in greetings] == [True, True, False]
        assert greetings[2] == b"Exceeded MaxStartups\r\n"
    words = [
        "ssh",
        "-F",
        str(lab.client_home / ".ssh" / "config"),
        "-o",
        "ControlMaster=no",
        "access.grid5000.fr",
        "cat",
    ]
    end = time.monotonic() + 300
    with contextlib.ExitStack() as stack:
        logged_in: list[subprocess.Popen[bytes]] = []
        while len(logged_in) < 3:  # more than may wait at once: those who are in do not count
            assert time.monotonic() < end
            one = stack.enter_context(subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            assert one.stdin and one.stdout
            stack.callback(one.kill)
            with contextlib.suppress(BrokenPipeError):
                one.stdin.write(b"here\n")
                one.stdin.flush()
            if one.stdout.readline() == b"here\n":
                logged_in.append(one)
