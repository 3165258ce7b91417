"""Environments by name, VLANs and their rights, accounts, media types, and what else stands behind the lab's API."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest
import yaml

from g5kdeploy.lab import accepting
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.fetch import from_homes, public_file
from g5kdeploy.lab.kaenv import Environments, environment
from g5kdeploy.lab.kaenv_command import Kaenv
from g5kdeploy.lab.kavlan import Kavlan, NotAllowed, usual_vlans


@pytest.fixture
def environments() -> Environments:
    return Environments(
        [
            environment("debian12", "server:///a", version=1),
            environment("debian12", "server:///b", version=2),
            environment("debian12", "server:///arm", version=3, arch="aarch64"),
            environment("mine", "server:///c", user="jdoe", visibility="private", alias="alias-of-mine"),
            environment("debian12", "server:///own", user="asmith", visibility="private"),
        ]
    )


def test_a_name_means_ones_own_environment_first_then_the_newest_public_one(environments: Environments) -> None:
    def image(*wanted: str | None) -> str | None:
        found = environments.find(*wanted)  # type: ignore[arg-type]
        return found["image"]["file"] if found else None

    assert image("debian12", None, "jdoe", None, "x86_64") == "server:///b"
    assert image("debian12", None, "jdoe", "1", None) == "server:///a"
    assert image("debian12", None, "asmith") == "server:///own"
    assert image("debian12", "deploy", "asmith", None, "aarch64") == "server:///arm"
    assert image("alias-of-mine", None, "jdoe") == "server:///c"
    assert image("mine", "jdoe", "asmith") is None
    assert image("nope", None, "jdoe") is None


def test_lists_show_what_one_may_see(environments: Environments) -> None:
    assert [one["version"] for one in environments.seen()] == [2, 3]
    assert len(environments.seen(latest=False)) == 3
    assert [one["name"] for one in environments.seen("jdoe", "jdoe")] == ["mine"]
    assert environments.seen("jdoe", "asmith") == []
    environments.add(environment("mine", "server:///new", user="jdoe", visibility="shared"))
    assert [one["image"]["file"] for one in environments.seen("jdoe", "asmith")] == ["server:///new"]


DESCRIBED = """\
name: tuned
version: 3
description: Debian with everything that one could ever want to measure on all of the nodes of a site
os: linux
image: {file: http://public/tuned.tar.zst, kind: tar, compression: zstd}
boot: {kernel: /vmlinuz, initrd: /initrd.img}
filesystem: ext4
partition_type: 131
"""


class Kaenv3:
    """`kaenv3` of a user; nothing that is called gone.* can be fetched."""

    def __init__(self, environments: Environments, user: str = "jdoe") -> None:
        self._kaenv = Kaenv(
            environments, user, lambda url: DESCRIBED.encode(), lambda url: "404" if "gone" in url else ""
        )

    def __call__(self, operation: str, word: str, **more: object) -> str:
        (answer,) = self._kaenv({"operation": operation, "word": word, **more})
        return answer.get("text", f"error: {answer.get('error')}")


def test_kaenv3_adds_lists_prints_and_deletes(environments: Environments) -> None:
    kaenv3 = Kaenv3(environments)
    assert kaenv3("add", DESCRIBED) == ""
    lines = kaenv3("list", "%").splitlines()
    assert lines[0].split() == ["Name", "Version", "User", "Description"]
    rows = [line.split()[:3] for line in lines[2:]]
    assert rows[:2] == [["debian12", "2", "deploy"], ["debian12", "3", "deploy"]]
    assert rows[2:] == [["mine", "2026110100", "jdoe"], ["tuned", "3", "jdoe"]]
    assert lines[-1].endswith("...") and max(map(len, lines)) <= 80
    assert len(kaenv3("list", "debian%", all_versions=True).splitlines()) == 2 + 3
    assert kaenv3("list", "none%") == "No environment has been found\n"
    printed = yaml.safe_load(kaenv3("print", "tuned"))
    assert printed["image"] == {"file": "http://public/tuned.tar.zst", "kind": "tar", "compression": "zstd"}
    assert (printed["visibility"], printed["version"]) == ("private", 3) and "user" not in printed
    assert yaml.safe_load(kaenv3("print", "debian12", env_version="1"))["image"]["file"] == "server:///a"
    found = environments.find("tuned", "jdoe", "jdoe")
    assert found is not None and found["user"] == "jdoe"
    assert "does not exist" in Kaenv3(environments, "asmith")("print", "tuned")
    assert kaenv3("delete", "tuned") == ""
    assert kaenv3("print", "tuned") == "error: The environment 'tuned' does not exist"


def test_a_shared_environment_is_somebody_elses_by_his_name(environments: Environments) -> None:
    assert Kaenv3(environments)("add", DESCRIBED.replace("os:", "visibility: shared\nos:")) == ""
    other = Kaenv3(environments, "asmith")
    assert yaml.safe_load(other("print", "tuned", env_user="jdoe"))["name"] == "tuned"
    assert "Only administrators" in other("delete", "tuned", env_user="jdoe")
    assert environments.find("tuned", "jdoe", "asmith") is not None
    assert environments.find("tuned", None, "asmith") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a list", "should be a Hash"),
        ("name: [", "Invalid environment specification"),
        (DESCRIBED.replace("linux", "minix"), "Invalid value 'minix'"),
        (DESCRIBED.replace("os:", "visibility: public\nos:"), 'Only administrators can use the "public" tag'),
        (DESCRIBED.replace("tuned.tar", "gone.tar"), "Unable to grab the file http://public/gone.tar.zst (404)"),
    ],
)
def test_what_kaenv3_does_not_take(environments: Environments, text: str, words: str) -> None:
    said = Kaenv3(environments)("add", text)
    assert said.startswith("error: ") and words in said
    assert environments.find("tuned", None, "jdoe") is None


def test_added_environments_outlive_the_lab(tmp_path: Path) -> None:
    site = [environment("debian12", "server:///a")]
    store = tmp_path / "environments.json"
    kaenv3 = Kaenv3(Environments(site, store))
    assert kaenv3("add", "http://public/tuned.yaml") == ""
    assert "already been recorded" in kaenv3("add", DESCRIBED)
    again = Environments(site, store)
    assert [one["name"] for one in again.seen("jdoe", "jdoe")] == ["tuned"]
    assert len(again.seen()) == 1
    assert Kaenv3(again)("delete", "tuned") == ""
    assert Environments(site, store).seen("jdoe", "jdoe") == []


def kavlan(store: Path | None = None, moved: list[tuple[str, str]] | None = None) -> Kavlan:
    def on_move(interface: str, vlan: str) -> None:
        if moved is not None:
            moved.append((interface, vlan))

    return Kavlan(
        usual_vlans(),
        {"vm-1": "DEFAULT", "vm-2": "4"},
        holders=lambda vlan: ["jdoe"] if vlan == "4" else [],
        on_move=on_move,
        store=store,
    )


def test_moving_nodes_between_vlans(tmp_path: Path) -> None:
    moved: list[tuple[str, str]] = []
    made = kavlan(tmp_path / "kavlan.json", moved)
    assert made.move("jdoe", ["vm-1", "vm-2", "vm-9"], "4") == {
        "vm-1": "ok",
        "vm-2": "unchanged",
        "vm-9": "unknown_node",
    }
    assert moved == [("vm-1", "4")] and made.inside("4") == ["vm-1", "vm-2"]
    with pytest.raises(NotAllowed):
        made.move("asmith", ["vm-1"], "4")
    again = kavlan(tmp_path / "kavlan.json")
    assert again.interfaces["vm-1"] == "4"
    again.reset(["vm-1", "vm-2", "vm-77"])
    assert again.inside("DEFAULT") == ["vm-1", "vm-2"]


def test_a_move_that_fails_changes_nothing() -> None:
    made = kavlan()

    def broken(interface: str, vlan: str) -> None:
        raise OSError("no such bridge")

    made.on_move = broken
    with pytest.raises(OSError, match="no such bridge"):
        made.move("jdoe", ["vm-1"], "4")
    assert made.interfaces["vm-1"] == "DEFAULT"


def test_rights_on_vlans() -> None:
    made = kavlan()
    assert made.users_of("4") == ["jdoe"] and made.vlans_of("jdoe") == ["4"]
    with pytest.raises(NotAllowed):
        made.set_user("jdoe", "5", "asmith", True)
    made.set_user("oar", "5", "asmith", True)
    assert made.all_users() == ["asmith", "jdoe"]
    made.set_user("oar", "5", "asmith", False)
    assert made.users_of("5") == []


def test_passwords() -> None:
    accounts = Accounts({"jdoe": "secret"})
    assert accounts.check("jdoe", "secret")
    assert (
        not accounts.check("jdoe", "") and not accounts.check("nobody", "") and not accounts.check("nobody", "secret")
    )


def test_public_urls_are_files_of_the_homes(tmp_path: Path) -> None:
    public = tmp_path / "jdoe" / "public"
    public.mkdir(parents=True)
    (public / "x y").write_text("found")
    (tmp_path / "jdoe" / "secret").write_text("secret")
    fetch = from_homes({"lab": tmp_path})
    assert fetch("http://public.lab.grid5000.fr/~jdoe/x%20y") == b"found"
    assert b"404" in fetch("http://public.lab/~jdoe/nothing")
    assert b"404" in fetch("http://public.lab/~jdoe/..%2fsecret")
    assert public_file(tmp_path, "..", "x") is None and public_file(tmp_path, "", "x") is None


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that is bound and never listened on: connections are refused for sure."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def test_a_server_that_is_not_there(refusing_port: int) -> None:
    fetch = from_homes({"lab": Path("/nowhere")})
    with pytest.raises(OSError, match="ECONNREFUSED, Failed to open TCP connection to 127"):
        fetch(f"http://127.0.0.1:{refusing_port}/x")


def test_a_want_of_descriptors_is_not_the_end_of_a_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "REST", 0.0)
    near, far = socket.socketpair()

    class Listener:
        """First there is no descriptor, then one, and then it is shut."""

        outcomes: ClassVar = [OSError(errno.EMFILE, "Too many open files"), near, OSError(errno.EINVAL, "Invalid")]

        def accept(self) -> tuple[socket.socket, str]:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, OSError):
                raise outcome
            return outcome, ""

    with far:
        assert list(accepting.connections(cast("socket.socket", Listener()))) == [near]
    assert near.fileno() == -1 and "Too many open files" in caplog.text
