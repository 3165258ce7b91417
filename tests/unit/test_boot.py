"""The hand-over, the proof of a boot, what Nix's words mean, and the wait for a new kernel: with nodes that are scripted."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.base.cpio import Entry
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.boot import Facts, kexec, pull
from g5kdeploy.boot.boot import prove
from g5kdeploy.boot.problems import (
    BootFailed,
    CacheUnreachable,
    KexecNotStarted,
    NoRoom,
    NotAnswering,
    PathTampered,
    SignatureRefused,
    WrongSystem,
)
from g5kdeploy.closure import Bundle, RoleClosure
from g5kdeploy.closure.handover import Handover, new_host_key
from g5kdeploy.node import ConnectionLost, HostKeyChanged, LoginRefused, Remote, RemoteFailed, Unreachable
from g5kdeploy.node.problems import Result

STORE = "/nix/store"
TOP = f"{STORE}/{'a' * 32}-nixos-system-r"
LEAF = f"{STORE}/{'b' * 32}-leaf"
ROLE = RoleClosure(TOP, f"{LEAF}/bzImage", f"{LEAF}/initrd", f"{TOP}/init", "quiet", "6.1.0", ("statx",))


# ---- hand-over and proof -----------------------------------------------------------------------------------------------


def test_a_handover_has_everything_that_makes_a_node_itself() -> None:
    secret, public = new_host_key()
    handover = Handover(
        "vm-1", secret, public, "ssh-ed25519 AAAA me\n", {"10.0.0.2": ("vm-2", "b")}, {"etc/motd": Entry(b"hi")}
    )
    content = handover.archive()
    for word in (b"handover/etc/hostname", b"10.0.0.2 vm-2 b\n", b"OPENSSH PRIVATE KEY", b"AAAA me", b"etc/motd"):
        assert word in content
    assert len(content) % 4 == 0
    assert secret not in repr(handover)
    assert public.startswith("ssh-ed25519 ")


BEFORE = Facts("id-1", "6.1.0-amd64", "")


@pytest.mark.parametrize(
    ("after", "said"),
    [
        (Facts("id-1", "6.1.0", TOP), "did not reboot"),
        (Facts("id-2", "6.1.0-amd64", TOP), "its kernel is 6.1.0-amd64, not 6.1.0"),
        (Facts("id-2", "6.1.0", ""), "its system is none of ours"),
        (Facts("id-2", "6.1.0", LEAF), f"its system is {LEAF}"),
    ],
)
def test_whatever_does_not_match_is_no_proof(after: Facts, said: str) -> None:
    with pytest.raises(WrongSystem) as caught:
        prove("vm-1", ROLE, BEFORE, after)
    assert said in str(caught.value)


def test_a_proof_wants_another_boot_the_kernel_and_the_system() -> None:
    prove("vm-1", ROLE, BEFORE, Facts("id-2", "6.1.0", TOP))


SAID = [
    (f"error: cannot add path '{TOP}' because it lacks a valid signature", SignatureRefused),
    (f"error: cannot add path '{TOP}' because it lacks a signature by a trusted key", SignatureRefused),
    (f"error: hash mismatch importing path '{TOP}';\n  specified: sha256:1\n  got: sha256:2", PathTampered),
    ("error: failed to decompress: Zstd compressed data is truncated", PathTampered),
    ("error: input compressed data is damaged", PathTampered),
    ("error: writing to file: No space left on device", NoRoom),
    ("error: unable to download 'http://h/x.narinfo': Couldn't connect to server (7)", CacheUnreachable),
    (f"error: path '{TOP}' does not exist in binary cache 'http://h'", CacheUnreachable),
    (f"error: path '{TOP}' is required, but there is no substituter that can build it", CacheUnreachable),
    ("error: something that nobody has seen before", BootFailed),
]


@pytest.mark.parametrize(("said", "kind"), SAID)
def test_what_nix_says_is_told_as_what_it_means(said: str, kind: type[BootFailed]) -> None:
    source = pull.Source("http://public", "~u/cache", Bundle("~u/bundle", "00"), "k:1")
    problem = pull._explained("vm-1", RemoteFailed("vm-1", "nix copy", Result("", said, 1, 1.0)), source)
    assert type(problem) is kind
    assert problem.cause and said.splitlines()[0] in problem.cause


# ---- leaving the old kernel ----------------------------------------------------------------------------------------------


class Node:
    """A node as a kexec sees it: each question takes the next answer, the last one for ever; time passes by itself."""

    name = "vm-1"

    def __init__(self, *answers: str | Problem) -> None:
        self.answers = list(answers)
        self.now = 0.0
        self.commands: list[str] = []
        self.clock = Clock(monotonic=lambda: self.now, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        self.now += seconds

    def deadline(self, seconds: float) -> Deadline:
        return Deadline.after(seconds, "the new kernel", self.clock)

    def boot_id(self, deadline: Deadline) -> str:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, str):
            return answer
        if isinstance(answer, DeadlinePassed):
            self.now = deadline.at
        raise answer

    def run(self, command: str, deadline: Deadline, check: bool = True) -> Result:
        self.commands.append(command)
        answer = self.answers[0]
        if "kexec" in command and isinstance(answer, Problem):
            raise answer
        return Result("", "nothing was loaded", 1 if "kexec" in command else 0, 0.1)

    def disconnect(self) -> None:
        self.now += 0.1


def wait(node: Node, seconds: float = 300) -> str:
    heard: Callable[[str], None] = lambda last: None  # noqa: E731
    return kexec.await_system(cast("Remote", node), "id-1", node.deadline(seconds), heard)


def test_a_node_is_waited_for_through_everything_that_a_boot_looks_like() -> None:
    node = Node(
        "id-1",
        HostKeyChanged("still the old key"),
        ConnectionLost("gone"),
        Unreachable("no route"),
        DeadlinePassed("no answer"),
        DeadlinePassed("no answer"),
        "id-2",
    )
    assert wait(node) == "id-2"
    assert node.now > 45, "a slow machine is given more time with each attempt"


def test_an_old_system_that_goes_on_answering_did_not_kexec() -> None:
    with pytest.raises(KexecNotStarted, match="did not leave its old kernel"):
        wait(Node("id-1"))


@pytest.mark.parametrize("answer", [Unreachable("no route"), DeadlinePassed("no answer")])
def test_a_node_that_does_not_come_back_ends_the_wait(answer: Problem) -> None:
    node = Node(answer)
    with pytest.raises(NotAnswering, match="did not come back"):
        wait(node)
    assert 300 <= node.now < 400


def test_a_system_that_lets_nobody_in_is_told_at_once() -> None:
    node = Node(LoginRefused("no key fits"))
    with pytest.raises(NotAnswering, match="lets nobody in"):
        wait(node)
    assert node.now < 5


@pytest.mark.parametrize("answer", [ConnectionLost("gone"), DeadlinePassed("quiet"), Unreachable("no route")])
def test_silence_after_the_jump_is_what_is_hoped_for(answer: Problem) -> None:
    node = Node(answer)
    kexec.jump(cast("Remote", node), "/run/bundle", node.deadline(300))
    assert [command.split()[0] for command in node.commands] == ["cd", "exec"]


def test_a_kexec_that_says_no_is_told_with_its_words() -> None:
    node = Node("id-1")
    with pytest.raises(KexecNotStarted, match="nothing was loaded"):
        kexec.jump(cast("Remote", node), "/run/bundle", node.deadline(300))


class Disk:
    """A node whose scratch partition is as `said`."""

    name = "vm-1"

    def __init__(self, status: int, stdout: str, stderr: str = "") -> None:
        self._result = Result(stdout, stderr, status, 0.1)

    def run(self, command: str, deadline: Deadline, check: bool = True) -> Result:
        return self._result


@pytest.mark.parametrize(("said", "there"), [("none\n", False), ("ext4\n", True)])
def test_a_scratch_partition_is_there_or_not(said: str, there: bool) -> None:
    assert pull.scratch(cast("Remote", Disk(0, said)), Deadline.after(60, "a test")) is there


@pytest.mark.parametrize(
    ("disk", "said"), [(Disk(0, "xfs\n"), "xfs, not ext4"), (Disk(1, "", "mount: bad superblock"), "superblock")]
)
def test_a_scratch_partition_that_stage_1_cannot_read_is_refused(disk: Disk, said: str) -> None:
    with pytest.raises(BootFailed, match="cannot hold a store") as caught:
        pull.scratch(cast("Remote", disk), Deadline.after(60, "a test"))
    assert said in caught.value.cause
