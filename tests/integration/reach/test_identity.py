"""Who we are, and who they are: keys, agents, host keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from g5kdeploy.node import (
    HostKeyChanged,
    LoginRefused,
)
from tests.support.hardware_key import HardwareKey
from tests.support.reaching import LONG, Site, block, own_home, server, soon, until
from tests.support.sshd import SshServer, make_key


def test_a_refused_login_names_what_was_tried(site: Site, tmp_path: Path) -> None:
    other = make_key(tmp_path / "other")
    with own_home(tmp_path, block("n", site.nodes[0], f"IdentityFile {other}")) as reach:
        with pytest.raises(LoginRefused, match=str(other)):
            reach.remote("n", None).run("true", soon())
        with pytest.raises(LoginRefused):
            reach.remote("n", "nobody").run("true", soon())
    with own_home(tmp_path, block("n", site.nodes[0])) as reach, pytest.raises(LoginRefused, match="no key to try"):
        reach.remote("n", None).run("true", soon())


def test_a_key_with_a_passphrase_is_the_agents(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = tmp_path / "locked"
    locked.write_bytes(site.key.read_bytes())
    locked.chmod(0o600)
    subprocess.run(["ssh-keygen", "-q", "-p", "-N", "secret", "-f", locked], check=True, timeout=60)
    text = block("n", site.nodes[0], f"IdentityFile {locked}")
    with own_home(tmp_path, text) as reach, pytest.raises(LoginRefused, match="needs a passphrase"):
        reach.remote("n", None).run("true", soon())
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", tmp_path / "agent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        until((tmp_path / "agent").exists, "the agent listens")
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "agent"))
        subprocess.run(["ssh-add", "-q", site.key], check=True, timeout=60)
        with own_home(tmp_path, text) as reach:
            assert reach.remote("n", None).run("echo in", soon()).stdout == "in\n"
    finally:
        agent.terminate()
        agent.wait(60)


def test_a_new_system_is_trusted_once_and_only_after_forgetting(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            remote = reach.remote("n", None)
            remote.run("true", soon())
            assert (tmp_path / "known").read_text() == f"n {own.host_key}\n"
            own.new_host_key()
            own.cut()
            with pytest.raises(HostKeyChanged, match="n has changed"):
                remote.run("true", soon())
            with pytest.raises(HostKeyChanged):
                remote.wait_ready(soon())
            reach.forget("n")
            remote.wait_ready(soon())
            reach.pin("n", own.host_key)
            assert remote.run("echo same", soon()).stdout == "same\n"
            own.new_host_key()
            reach.pin("n", own.host_key)
            assert remote.run("echo pinned", soon()).stdout == "pinned\n"
    finally:
        own.close()


def test_hashed_names_of_the_users_own_file_count(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    hosts = tmp_path / "hosts"
    hosts.write_text(f"[127.0.0.1]:{own.port} {own.host_key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", hosts], check=True, timeout=60, capture_output=True)
    text = block("n", own, f"IdentityFile {site.key}", f"UserKnownHostsFile {hosts}")
    try:
        with own_home(tmp_path, text) as reach:
            assert reach.remote("n", None).run("echo known", soon()).stdout == "known\n"
            assert not (tmp_path / "known").exists()
            own.new_host_key()
            own.cut()
            with pytest.raises(HostKeyChanged, match=str(hosts)):
                reach.remote("n", None).run("true", soon())
    finally:
        own.close()


def test_a_key_on_hardware_answers_through_its_agent(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("sk")  # a socket's path must be short
    with HardwareKey(folder) as token:
        own = SshServer(folder / "own", token.public)
        try:
            text = block("n", own, f"IdentityAgent {token.socket}")
            with own_home(folder, text) as reach:
                assert reach.remote("n", None).run("echo touched", soon()).stdout == "touched\n"
                assert token.signed == 1
                done = subprocess.run(
                    [*reach.ssh_command("n", None, batch=True), "echo", "by ssh"],
                    capture_output=True, text=True, timeout=LONG, check=False,
                )  # fmt: skip
                assert done.stdout == "by ssh\n", done.stderr
        finally:
            own.close()


def test_an_agent_that_is_away_is_named(site: Site, tmp_path: Path) -> None:
    text = block("n", site.nodes[0], "IdentityAgent ~/.agent/none")
    with (
        own_home(tmp_path, text) as reach,
        pytest.raises(LoginRefused, match=r"the agent at .*/\.agent/none \(No such"),
    ):
        reach.remote("n", None).run("true", soon())
