"""status, ssh, exec, logs, console and doctor over real HTTP and real OpenSSH servers that stand for a lab."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from g5kdeploy.base import folders
from g5kdeploy.cli import checks, status
from g5kdeploy.cli.main import main
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.experiment import load
from g5kdeploy.runs import Run, runs_folder
from tests.support.scripted_site import PASSWORD, USER, ScriptedSite, served
from tests.support.sshd import DEFAULT_PATH, SSHD, SshServer, make_key, write_ssh_config

pytestmark = pytest.mark.skipif(SSHD is None, reason="needs sshd")

ROOT = Path(__file__).parents[2]
NODES = ("vm-1.lab.grid5000.fr", "vm-2.lab.grid5000.fr")
PROGRAMS = {
    "kaconsole3": 'printf "Debian \\033[31m%s\\r\\nlogin:\\n" "$2"',
    "journalctl": 'echo "journal $*"',
    "whoareyou": 'echo "$NODE"',
}


@dataclass
class Lab:
    """A lab's home, an API, and a run with two nodes."""

    home: Path
    experiment: Path
    run: Run
    user: str


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lab]:
    home = folders.state() / "lab" / "home"
    key = make_key(home / ".ssh" / "id_ed25519").with_suffix(".pub").read_text()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:{DEFAULT_PATH}"
    hosts = (*NODES, "flab.lab.grid5000.fr", "access.grid5000.fr")
    servers = [SshServer(tmp_path / name, key, f"SetEnv NODE={name}", path=path) for name in hosts]
    for server, name in zip(servers, hosts, strict=True):  # sshd takes the first SetEnv alone
        config = server.folder / "sshd_config"
        lines = (
            config.read_text().replace(f"\nSetEnv NODE={name}", "").replace("SetEnv HOME", f"SetEnv NODE={name} HOME")
        )
        config.write_text(lines)
    write_ssh_config(
        home,
        *(
            f"Host {name}\n HostName 127.0.0.1\n Port {server.port}\n User {server.user}\n IdentityFile {home}/.ssh/id_ed25519"
            for server, name in zip(servers, hosts, strict=True)
        ),
    )
    assert main(["init", str(tmp_path / "new")]) == 0
    experiment = load(tmp_path / "new")
    run = Run.create(runs_folder(experiment.file), experiment, "lab", "lab")
    for node, role in zip(NODES, ("server", "client"), strict=True):
        run.set_node(node, role=role)
    site = ScriptedSite()
    monkeypatch.setattr(status, "lab_runs", lambda: True)
    with served(site) as url:
        credentials = home / ".python-grid5000.yaml"
        credentials.write_text(f"uri: {url}/stable\nusername: {USER}\npassword: {PASSWORD}\n")
        credentials.chmod(0o600)
        yield Lab(home, experiment.file, run, servers[0].user)
    for server in servers:
        server.close()


def where(lab: Lab) -> list[str]:
    return ["--experiment", str(lab.experiment)]


def test_exec_shows_equal_answers_together(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "all", "-l", lab.user, *where(lab), "--", "echo", "same  words"]) == 0
    assert capsys.readouterr().out == "--- vm-[1-2].lab.grid5000.fr\nsame  words\n"


def test_exec_gathers_what_differs_and_what_failed(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    line = 'whoareyou; test "$NODE" = vm-1.lab.grid5000.fr'
    assert main(["exec", "vm-[1-2]", "-l", lab.user, *where(lab), "-o", "json", "--", line]) == ExitCode.PARTLY
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(item["name"], item["status"], item["stdout"]) for item in items] == [
        (NODES[0], 0, f"{NODES[0]}\n"),
        (NODES[1], 1, f"{NODES[1]}\n"),
    ]


def test_ssh_becomes_openssh(lab: Lab) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "g5kdeploy", "ssh", "-l", lab.user, *where(lab), "client", "whoareyou; exit 7"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout) == (7, f"{NODES[1]}\n"), done.stderr


def test_ssh_wants_one_node(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ssh", *where(lab), "all"]) == ExitCode.USAGE
    assert "2 nodes" in capsys.readouterr().err


def test_console_is_the_sites_and_cleaned(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["console", "server", *where(lab)]) == 0
    assert capsys.readouterr().out == f"Debian {NODES[0]}\nlogin:\n"


def test_console_of_a_testbeds_node_without_a_run(
    lab: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["console", NODES[1], "--testbed", "lab"]) == 0
    assert NODES[1] in capsys.readouterr().out


def test_logs_are_the_nodes_journal(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from g5kdeploy.node import Reach

    real = Reach.remote
    monkeypatch.setattr(Reach, "remote", lambda self, name, user="root": real(self, name, lab.user))
    assert main(["logs", "vm-1", "-u", "ssh", "-n", "5", *where(lab)]) == 0
    assert capsys.readouterr().out == "journal --no-pager --output=short-iso --boot --unit=ssh --lines=5\n"


@pytest.mark.usefixtures("lab")
def test_status_of_a_testbed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--testbed", "lab", "-o", "name"]) == 0
    assert capsys.readouterr().out == "lab\n"


@pytest.mark.usefixtures("lab")
def test_status_of_what_is_ours(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--mine", "--testbed", "lab"]) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "nothing is reserved, and nothing is on record" in err


def test_when_no_lab_runs_the_disk_is_asked(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "lab_runs", lambda: False)
    assert main(["status", "--mine"]) == 0
    err = capsys.readouterr().err
    assert "no lab runs here" in err and "nothing is on record" in err


def test_doctor_looks_at_a_testbed_that_is_named(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "kvm", lambda deadline: checks.Finding("kvm", "warning", "not tried"))
    main(["doctor", "--testbed", "lab", "-o", "json"])
    found = {item["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    for name in ("credentials", "API", "SSH", "clock"):
        assert found[name]["state"] == "ok", found[name]
    (lab.home / ".python-grid5000.yaml").chmod(0o644)
    assert main(["doctor", "--testbed", "lab", "-o", "json"]) == ExitCode.FAILED
    found = {item["name"]: item for item in json.loads(capsys.readouterr().out)["items"]}
    assert found["credentials"]["mend"].startswith("chmod 600")
    assert "API" not in found
