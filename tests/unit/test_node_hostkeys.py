"""One policy for host keys, as far as it needs no network."""

from __future__ import annotations

from pathlib import Path

import pytest

from g5kdeploy.events.failure import ExitCode, InvalidUse, exit_code
from g5kdeploy.node import (
    HostKeyChanged,
    fan_out,
)
from g5kdeploy.node.hostkeys import HostKey, HostKeys
from g5kdeploy.node.settings import Hop

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIP/OW9Mz+mU9Eyr8xpHaTVkt4sE1cFKT/iuLqhEi/neE"
OTHER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFZSq7O+TvryStfl1yaXPk0zwnAdllqfvLoZlOxL5ux6"


def hop(name: str = "n1", known: tuple[Path, ...] = ()) -> Hop:
    return Hop(name, "127.0.0.1", 2222, "root", known=known)


def test_the_first_key_is_pinned_and_another_is_refused(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    keys.check(hop(), HostKey.parse(KEY))
    keys.check(hop(), HostKey.parse(KEY))
    with pytest.raises(HostKeyChanged, match=r"n1 has changed.*SHA256:") as caught:
        keys.check(hop(), HostKey.parse(OTHER))
    assert str(tmp_path / "known_hosts") in caught.value.cause
    assert exit_code(caught.value) is ExitCode.NOT_ALLOWED
    assert (tmp_path / "known_hosts").read_text() == f"n1 {KEY}\n"
    assert (tmp_path / "known_hosts").stat().st_mode & 0o777 == 0o600


def test_a_deployment_allows_one_more_first_sight(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    keys.check(hop(), HostKey.parse(KEY))
    HostKeys(tmp_path / "known_hosts").forget("n1")  # by another process
    keys.check(hop(), HostKey.parse(OTHER))
    with pytest.raises(HostKeyChanged):
        keys.check(hop(), HostKey.parse(KEY))
    assert keys.pinned("n1") == (HostKey.parse(OTHER),)


def test_a_pin_is_set_without_a_sight(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    keys.forget("n1")
    keys.pin("n1", HostKey.parse(KEY + " comment"))
    with pytest.raises(HostKeyChanged):
        keys.check(hop(), HostKey.parse(OTHER))
    assert (tmp_path / "known_hosts").read_text() == f"n1 {KEY}\n"


def test_the_users_own_file_vouches_until_the_machine_is_deployed(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text(f"garbage\n[127.0.0.1]:2222 {KEY}\n")
    keys = HostKeys(tmp_path / "known_hosts")
    keys.check(hop(known=(own,)), HostKey.parse(KEY))
    assert not (tmp_path / "known_hosts").exists()  # the user's file stays the one that says so
    with pytest.raises(HostKeyChanged, match=str(own)):
        keys.check(hop(known=(own,)), HostKey.parse(OTHER))
    keys.forget("n1")
    keys.check(hop(known=(own,)), HostKey.parse(OTHER))


@pytest.mark.parametrize("text", ["", "ssh-ed25519", "ssh-dss AAAA", "ssh-ed25519 !!!"])
def test_what_is_no_host_key_is_told(text: str) -> None:
    with pytest.raises(InvalidUse, match="no SSH host key"):
        HostKey.parse(text)


def test_many_threads_pin_many_names(tmp_path: Path) -> None:
    keys = HostKeys(tmp_path / "known_hosts")
    fan_out([f"n{i}" for i in range(40)], lambda name: keys.check(hop(name), HostKey.parse(KEY)), limit=8)
    assert len((tmp_path / "known_hosts").read_text().splitlines()) == 40


def test_a_pin_that_another_process_set_is_seen(tmp_path: Path) -> None:
    keys, other = HostKeys(tmp_path / "known_hosts"), HostKeys(tmp_path / "known_hosts")
    for key in (KEY, OTHER, KEY):  # files of the same length, one after the other
        other.pin("n1", HostKey.parse(key))
        assert keys.known(hop())[0] == (HostKey.parse(key),)
    with (tmp_path / "known_hosts").open("a") as file:  # as `ssh` does at first sight
        file.write(f"n2 {OTHER}\n")
    assert keys.pinned("n2") == (HostKey.parse(OTHER),)
