"""When waiting programs are tried again, and when no more."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.exporter import modules, reasons, xdp_watch
from g5kdeploy.exporter.config import Config
from g5kdeploy.exporter.libbpf import LibbpfError, Program
from g5kdeploy.exporter.load_settings import LoadSettings
from g5kdeploy.exporter.loader import Loaded
from g5kdeploy.exporter.modules import Retry, loaded_modules
from g5kdeploy.exporter.plan import Candidate, Plan
from g5kdeploy.exporter.xdp import XdpSettings


class Kernel:
    """Stands for the loader: a program attaches once its module is there."""

    def __init__(self, wanted: str) -> None:
        self.wanted = wanted
        self.there = {"ext4"}
        self.tried = 0

    def again(self, loaded: Loaded) -> bool:
        self.tried += 1
        if self.wanted in self.there:
            loaded.attached.add("read")
            loaded.waiting.clear()
        return True

    def modules(self) -> frozenset[str]:
        return frozenset(self.there)


def waiting() -> Loaded:
    config = Config("nfs", Path("nfs.yaml"), (), ())
    plan = Plan("nfs", LoadSettings(), (Candidate(config),))
    return Loaded("nfs", plan, config, programs=[Program("read", "kprobe/nfs_read", 0)], waiting={"read"})


def retry(kernel: Any, loaded: list[Loaded]) -> Retry:
    return Retry(kernel, loaded, kernel.modules)


def test_a_program_is_tried_when_a_module_came_and_not_before() -> None:
    kernel, one = Kernel("nfs"), waiting()
    again = retry(kernel, [one])
    assert again.look() == [] and kernel.tried == 0
    kernel.there.add("sunrpc")
    assert again.look() == [] and kernel.tried == 1
    kernel.there.remove("sunrpc")
    assert again.look() == [] and kernel.tried == 1
    kernel.there.add("nfs")
    assert again.look() == [one] and kernel.tried == 2
    kernel.there.add("nfsd")
    assert again.look() == [] and kernel.tried == 2 and one.attempts == 2


def test_nothing_is_tried_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "_MOST_ATTEMPTS", 3)
    kernel, one = Kernel("never"), waiting()
    again = retry(kernel, [one])
    for number in range(10):
        kernel.there.add(f"module{number}")
        again.look()
    assert kernel.tried == 3 and not one.waiting


def test_only_failures_in_a_row_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modules, "_MOST_ATTEMPTS", 3)
    kernel, one = Kernel("nfs"), waiting()
    again = retry(kernel, [one])
    for number in range(10):
        kernel.there ^= {"nfs"}
        kernel.there.add(f"module{number}")
        again.look()
        one.attached, one.waiting = set(), {"read"}
    assert kernel.tried == 10


class Watcher:
    """Stands for the loader of a program that watches the XDP program on a device."""

    def __init__(self) -> None:
        self.library = self
        self.number = 0
        self.watching = 0

    def again(self, loaded: Loaded) -> bool:
        self.watching = self.number
        loaded.watched["verdict"] = xdp_watch.Watch(loaded.programs[0], "eth0", self.number, None)  # type: ignore[arg-type]
        loaded.attached.add("verdict")
        loaded.waiting.clear()
        return True

    def let_go(self, loaded: Loaded) -> None:
        if self.number != self.watching:
            loaded.watched.clear()
            loaded.attached.clear()
            loaded.waiting.add("verdict")


def test_an_xdp_program_that_comes_is_watched_and_one_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Watcher()
    monkeypatch.setattr(modules, "program_on", lambda library, device: library.number if device == "eth0" else 0)
    config = Config("v", Path("v.yaml"), (), ())
    plan = Plan("v", LoadSettings(xdp=XdpSettings("eth0")), (Candidate(config),))
    one = Loaded("v", plan, config, programs=[Program("verdict", "fexit", 0)], waiting={"verdict"})
    again = Retry(kernel, [one], frozenset)  # type: ignore[arg-type]
    assert again.look() == [] and again.needed
    for number in (7, 8):
        kernel.number = number
        assert again.look() == [one] and kernel.watching == number
        assert again.look() == [] and again.needed
    kernel.number = 0
    assert again.look() == [] and one.waiting


def test_waiting_is_given_up_when_the_rights_are() -> None:
    one = waiting()
    again = retry(Kernel("nfs"), [one])
    again.give_up("no rights")
    assert not again.waiting


def test_modules_are_read_from_their_folder(tmp_path: Path) -> None:
    (tmp_path / "modules" / "nfs").mkdir(parents=True)
    assert loaded_modules(tmp_path / "modules") == {"nfs"}
    assert loaded_modules(tmp_path / "absent") == frozenset()


@pytest.mark.parametrize(
    ("number", "section", "words", "may"),
    [
        (errno.ENOENT, "kprobe/nfs_read", "", True),
        (errno.ENOENT, "raw_tp/nfs4_read", "", True),
        (errno.EINVAL, "kprobe/nfs_read", "", False),
        (errno.ENOENT, "xdp/eth0", "", False),
        (errno.ENOENT, "tp/nfs4/nfs4_read", "", True),
        (errno.EINVAL, "tp/sched/sched_switch", "", False),
        (errno.ESRCH, "", "prog 'x': failed to find kernel BTF type ID of 'nfs_file_read': -3", True),
        (errno.EINVAL, "", "nfs_file_read is not found in vmlinux BTF", True),
        (errno.EINVAL, "", "R1 invalid mem access 'scalar'", False),
    ],
)
def test_what_may_come_with_a_module(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, section: str, words: str, may: bool
) -> None:
    (tmp_path / "events" / "sched" / "sched_switch").mkdir(parents=True)
    monkeypatch.setattr(reasons, "_TRACEFS", (tmp_path,))
    monkeypatch.setattr(reasons, "_KPROBES", tmp_path)
    program = Program("p", section, 0) if section else None
    assert reasons.may_come(LibbpfError("x", number, words), program) is may
