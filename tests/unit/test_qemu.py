"""Command lines, and the answers of the KVM probe, without any machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from g5kdeploy.base import files, folders
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.qemu import Disk, Machine, MachineFailed, MachineSpec, Share, Tap, UserNet, kvm, qmp
from g5kdeploy.qemu.spec import accelerator, command_line


def spec(folder: Path, **more: object) -> MachineSpec:
    return MachineSpec("m", folder, folder / "console.log", folder / "kernel", **more)  # type: ignore[arg-type]


def test_a_command_line_says_everything_that_was_asked_for(tmp_path: Path) -> None:
    machine = spec(
        tmp_path,
        initrd=tmp_path / "initrd",
        append="console=ttyS0",
        memory=512,
        cpus=3,
        disks=(Disk(Path("/a,b"), snapshot=True, serial="disk0"), Disk(Path("/ro"), "qcow2", readonly=True)),
        nics=(Tap("tap1", "52:54:00:00:00:01"), UserNet("52:54:00:00:00:02", {2222: 22})),
        shares=(Share(Path("/nix"), "nix"),),
        prefix=("nsenter", "--"),
        extra=("-no-reboot",),
    )
    words = command_line(machine, False, "/proc/self/fd/9")
    assert words[:3] == ["nsenter", "--", "qemu-system-x86_64"]
    assert words[-1] == "-no-reboot"
    line = " ".join(words)
    assert "-m 512M -smp 3" in line
    assert "file=/a,,b,format=raw" in line and "snapshot=on" in line and "serial=disk0" in line
    assert "file=/ro,format=qcow2" in line and "readonly=on" in line
    assert "tap,id=net0,ifname=tap1" in line and "mac=52:54:00:00:00:01" in line
    assert "hostfwd=tcp:127.0.0.1:2222-:22" in line and "restrict=on" in line
    assert "local,path=/nix,mount_tag=nix" in line
    assert "unix:/proc/self/fd/9/qmp.sock" in line
    assert f"logfile={tmp_path}/console.log,logappend=on" in line


def test_an_emulated_kernel_does_not_mind_a_late_timer(tmp_path: Path) -> None:
    machine = spec(tmp_path, append="console=ttyS0 -- words of init")
    words = command_line(machine, False, ".")
    assert words[words.index("-append") + 1] == "no_timer_check console=ttyS0 -- words of init"
    words = command_line(machine, True, ".")
    assert words[words.index("-append") + 1] == machine.append


def test_without_kvm_the_translation_cache_is_small() -> None:
    assert "tcg,thread=multi,tb-size=96" in accelerator(False)
    assert accelerator(True)[:2] == ["-accel", "kvm"]


def test_the_first_network_card_and_disk_keep_their_places(tmp_path: Path) -> None:
    words = command_line(spec(tmp_path, disks=(Disk(Path("/d")),), nics=(Tap("t", "52:54:00:00:00:01"),)), False, ".")
    assert any("virtio-net-pci" in word and "addr=0x3" in word for word in words)
    assert any("virtio-blk-pci" in word and "addr=0x4" in word for word in words)


def test_the_probes_answer_is_kept_for_this_boot(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    answer = [True]

    def boots(deadline: Deadline) -> bool:
        asked.append(1)
        return answer[0]

    monkeypatch.setattr(kvm, "_identity", lambda: "boot 1")
    monkeypatch.setattr(kvm, "_guest_boots", boots)
    monkeypatch.setattr(kvm.os, "access", lambda path, mode: True)
    deadline = Deadline.after(60, "a test")
    assert kvm.kvm_works(deadline) and kvm.kvm_works(deadline)
    assert len(asked) == 1
    monkeypatch.setattr(kvm, "_identity", lambda: "boot 2")
    answer[0] = False
    assert not kvm.kvm_works(deadline) and not kvm.kvm_works(deadline)
    assert len(asked) == 2


@pytest.mark.parametrize("record", ["", "[]", '"x"', '{"identity": "boot 1", "works": false, "at": 0}'])
def test_a_damaged_or_old_record_is_asked_again(record: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files.write(folders.cache() / "kvm.json", record)
    monkeypatch.setattr(kvm, "_identity", lambda: "boot 1")
    monkeypatch.setattr(kvm, "_guest_boots", lambda deadline: True)
    monkeypatch.setattr(kvm.os, "access", lambda path, mode: True)
    assert kvm.kvm_works(Deadline.after(60, "a test"))
    assert json.loads((folders.cache() / "kvm.json").read_text())["works"] is True


def test_no_device_no_kvm(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> str:
        raise FileNotFoundError

    monkeypatch.setattr(kvm, "_identity", nothing)
    assert not kvm.kvm_works(Deadline.after(60, "a test"))


def test_the_boot_sector_fits() -> None:
    assert len(kvm._SECTOR) == 512 and kvm._SECTOR.endswith(b"\x55\xaa")


def test_a_machine_that_was_never_started_is_off(tmp_path: Path) -> None:
    machine = Machine(spec(tmp_path))
    assert not machine.alive() and machine.pid is None and machine.console_text() == ""
    machine.stop()
    with pytest.raises(qmp.QmpFailed):
        machine.qmp("query-status")


def test_a_record_of_a_process_that_is_gone_means_off(tmp_path: Path) -> None:
    machine = Machine(spec(tmp_path))
    for record in ({"pid": 1, "began": "other"}, {"pid": 2**22 - 1, "began": ""}, {"pid": "x"}, [], 3):
        files.write_json(tmp_path / "machine.json", record)
        assert not machine.alive()


def test_qemu_missing_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g5kdeploy.qemu.machine.kvm_works", lambda deadline: False)
    monkeypatch.setattr("g5kdeploy.qemu.spec.QEMU", "no-such-qemu")
    with pytest.raises(MachineFailed) as failed:
        Machine(spec(tmp_path)).start(Deadline.after(60, "a test"))
    assert "qemu-system-x86" in failed.value.hint


def test_qemu_that_refuses_is_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("g5kdeploy.qemu.machine.kvm_works", lambda deadline: False)
    program = tmp_path / "qemu"
    program.write_text("#!/bin/sh\necho 'qemu: no such kernel' >&2; exit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr("g5kdeploy.qemu.spec.QEMU", str(program))
    with pytest.raises(Problem) as failed:
        Machine(spec(tmp_path)).start(Deadline.after(60, "a test"))
    assert "no such kernel" in failed.value.cause
