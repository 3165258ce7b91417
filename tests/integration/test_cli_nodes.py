"""status, ssh, exec, logs, console and doctor over real HTTP and real OpenSSH servers that stand for a lab."""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from g5kdeploy.base import folders
from g5kdeploy.cli import checks, status
from g5kdeploy.cli.main import main
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.experiment import load
from g5kdeploy.exporter import kernel_probe
from g5kdeploy.node import kernel, many
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
    bin: Path  # programs of its machines


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
        yield Lab(home, experiment.file, run, servers[0].user, programs)
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


def test_exec_says_that_a_signal_ended_it(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "all", "-l", lab.user, *where(lab), "--", "kill -9 $$"]) == ExitCode.FAILED
    assert capsys.readouterr().out == "--- vm-[1-2].lab.grid5000.fr (killed by a signal)\n"


def test_exec_lets_the_frontend_do_the_work_of_many(
    lab: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = lab.home / ".ssh" / "config"
    way = f"ProxyCommand ssh -F {config} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -W %h:%p"
    blocks = config.read_text().split("Host ")
    config.write_text("Host ".join(f"{text} {way} access.grid5000.fr\n" if "vm-" in text else text for text in blocks))
    words = ["exec", "all", "-l", lab.user, *where(lab), "--", "whoareyou"]
    assert main(words) == 0  # pins the host keys
    directly = capsys.readouterr().out
    cache = tmp_path / "flab.lab.grid5000.fr" / "home" / ".cache"
    assert not cache.exists()
    monkeypatch.setattr(many, "run_on", functools.partial(many.run_on, tree_from=2))
    assert main(words) == 0
    assert capsys.readouterr().out == directly
    assert [path.suffix for path in (cache / "g5kdeploy").iterdir()] == [".pyz"]


def test_a_frontend_is_entered_as_who_the_user_is_there(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    config = lab.home / ".ssh" / "config"
    text = config.read_text().replace(f"User {lab.user}", "User somebody")  # whom no server takes
    config.write_text(text)
    names = ("flab.lab.grid5000.fr", "access.grid5000.fr", NODES[0])
    words = ["exec", ",".join(names), "--experiment", "/nowhere", "--testbed", "lab", "-o", "json"]
    main([*words, "--", "true"])
    problems = {item["name"]: item["problem"] for item in json.loads(capsys.readouterr().out)["items"]}
    assert list(problems) == list(names)
    assert all(f"somebody@{name} takes none of the keys" in problems[name] for name in names[:2]), problems
    assert "somebody" not in problems[NODES[0]]
    assert main([*words, "-l", lab.user, "--", "true"]) == 0


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


def test_doctor_tries_what_a_nodes_kernel_can_do(
    lab: Lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    built = tmp_path / "bpf" / "build"
    make = ["make", "--silent", "-C", str(ROOT / "bpf"), f"BUILD={built}", f"{built}/statx.bpf.o"]
    subprocess.run(make, check=True, timeout=300)
    (built / "broken.bpf.o").write_bytes(b"no object")
    monkeypatch.setattr(kernel, "data", lambda name: tmp_path / name)
    words = ["doctor", "--node", "vm-1", "-l", lab.user, *where(lab), "-o", "json"]
    code = main(words)
    out, err = capsys.readouterr()
    found = {item["name"]: item for item in json.loads(out)["items"]}
    assert found["kernel"]["found"].startswith(os.uname().release)
    here = {one["name"]: one for one in kernel_probe.kinds()}
    assert here.keys() < found.keys()
    if os.geteuid() == 0:
        assert all((found[name]["state"] == "ok") == one["works"] for name, one in here.items()), (here, found)
        assert all(found[name]["found"] == (one["why"] or "works") for name, one in here.items()), (here, found)
    missing = [item for item in found.values() if item["state"] == "missing"]
    assert code == (ExitCode.FAILED if missing else ExitCode.DONE), err
    if found["libbpf"]["state"] == "ok":
        assert found["program statx"]["found"]
        assert "no BPF object" in found["program broken"]["found"]
    assert main(["doctor", "--node", "all", *where(lab)]) == ExitCode.USAGE
    assert "2 nodes" in capsys.readouterr().err


def test_cp_to_all_nodes_and_back_into_a_folder_each(
    lab: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("content")
    there = tmp_path / "far" / "$HOME"
    assert main(["cp", str(tmp_path / "file"), f"all:{there}", "-l", lab.user, *where(lab), "-o", "json"]) == 0
    items = json.loads(capsys.readouterr().out)["items"]
    assert [(item["name"], item["verdict"], item["files"], item["bytes"]) for item in items] == [
        (name, "copied", 1, 7) for name in NODES
    ]
    assert there.read_text() == "content"
    assert main(["cp", f"vm-[1-2]:{there}", str(tmp_path / "back"), "-l", lab.user, *where(lab)]) == 0
    for name in NODES:
        assert (tmp_path / "back" / name / "$HOME").read_text() == "content"
    out, err = capsys.readouterr()
    assert out.splitlines()[0].split() == ["NAME", "VERDICT", "FILES", "BYTES", "SECONDS"]
    assert err == ""
    assert main(["cp", f"server:{there}", str(tmp_path / "one"), "-l", lab.user, *where(lab)]) == 0
    assert (tmp_path / "one").read_text() == "content"


def test_cp_that_fails_on_some_nodes_says_which(lab: Lab, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    far = tmp_path / "far"
    call = ["cp", f"all:{far}/*", str(tmp_path / "back"), "-l", lab.user, *where(lab)]
    assert main(call) == ExitCode.FAILED
    out, err = capsys.readouterr()
    assert out.count("failed") == 2
    assert err.count("nothing there") == 1  # told once for both
    far.mkdir(mode=0o755)
    (far / "here").write_text("here")
    once = tmp_path / "once"
    # The nodes of this test share their files: whichever comes first takes the only one.
    program = lab.bin / "tar"
    program.write_text(f'#!/bin/sh\nmkdir {once} 2>/dev/null || exit 3\nexec /usr/bin/tar "$@"\n')
    program.chmod(0o755)
    assert main([*call, "-o", "json"]) == ExitCode.PARTLY
    items = json.loads(capsys.readouterr().out)["items"]
    assert sorted(item["verdict"] for item in items) == ["copied", "failed"]
    came = next(item["name"] for item in items if item["verdict"] == "copied")
    assert (tmp_path / "back" / came / "here").read_text() == "here"


def test_cp_wants_one_side_on_nodes(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["a", "b"], ["vm-1:a", "vm-2:b"], ["a", "vm-1:b", "c"], ["vm-1:a", "vm-2:b", "c"], ["./x:y", "z"]):
        assert main(["cp", *words, *where(lab)]) == ExitCode.USAGE
    assert "one side of a copy is on nodes" in capsys.readouterr().err


def test_tunnel_brings_ports_here_until_it_is_ended(lab: Lab) -> None:
    with served(ScriptedSite()) as url:
        far = url.rpartition(":")[2].strip("/")
        process = subprocess.Popen(
            [sys.executable, "-m", "g5kdeploy", "tunnel", "all", far, "-l", lab.user, *where(lab), "-o", "jsonl"],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert process.stdout is not None
            items = [json.loads(process.stdout.readline()) for _ in NODES]
            assert [(item["name"], item["port"]) for item in items] == [(name, int(far)) for name in NODES]
            for item in items:
                with pytest.raises(urllib.error.HTTPError, match=r"HTTP Error 40\d"):
                    urllib.request.urlopen(item["url"], timeout=180)
        finally:
            process.terminate()
            process.stdout.close()
            assert process.wait(180) == ExitCode.TERMINATED


def test_tunnel_says_what_cannot_be(lab: Lab, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tunnel", "all", "8080:80", *where(lab)]) == ExitCode.USAGE
    assert main(["tunnel", "server", "http", *where(lab)]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "2 nodes cannot have the same port" in err and "`http` is no port" in err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert main(["tunnel", "server", f"{port}:80", "-l", lab.user, *where(lab)]) == ExitCode.FAILED
    assert f"port {port} of this machine cannot be had" in capsys.readouterr().err
