from __future__ import annotations

import errno
from pathlib import Path

import pytest

from g5kdeploy.exporter import reasons
from g5kdeploy.exporter.libbpf import LibbpfError, Program

LOG = """\
libbpf: prog 'mock': BPF program load failed: Invalid argument
libbpf: prog 'mock': -- BEGIN PROG LOAD LOG --
0: (b7) r0 = 0
; a line of the source
{words}
processed 281 insns (limit 1000000) max_states_per_insn 1
-- END PROG LOAD LOG --
libbpf: failed to load object 'mock'
"""
ROOT = (1 << 41) - 1


@pytest.mark.parametrize(
    ("number", "words", "reason"),
    [
        (22, LOG.format(words="unknown func bpf_override_return#58"), "CONFIG_BPF_KPROBE_OVERRIDE is off"),
        (22, LOG.format(words="program of this type cannot use helper bpf_override_return#58"), "KPROBE_OVERRIDE"),
        (
            22,
            LOG.format(words="program of this type cannot use helper bpf_probe_write_user#36"),
            "locked down (integrity)",
        ),
        (22, LOG.format(words="unknown func bpf_loop#181"), "does not have the helper bpf_loop"),
        (
            22,
            "failed to resolve CO-RE relocation <byte_off> [34] struct statx.stx_subvol (0:23 @ offset 160)",
            "no statx.stx_subvol",
        ),
        (
            13,
            LOG.format(words="R1 invalid mem access 'scalar'"),
            "the kernel refused it: 0: (b7) r0 = 0 | R1 invalid mem access 'scalar'",
        ),
        (1, "", "the kernel does not permit it"),
    ],
)
def test_why_a_program_does_not_load(monkeypatch: pytest.MonkeyPatch, number: int, words: str, reason: str) -> None:
    monkeypatch.setattr(reasons, "capabilities", lambda: ROOT)
    monkeypatch.setattr(reasons, "lockdown", lambda: "integrity")
    monkeypatch.setattr(reasons, "_BTF", Path("/dev/null"))
    assert reason in reasons.explain_load(LibbpfError("x", number, words))


def test_missing_capabilities_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reasons, "capabilities", lambda: 1 << 39)
    monkeypatch.setattr(reasons, "_BTF", Path("/dev/null"))
    assert reasons.explain_load(LibbpfError("x", errno.EPERM)) == "capability missing: CAP_PERFMON"
    helper = LOG.format(words="cannot use helper bpf_probe_write_user#36")
    assert "CAP_SYS_ADMIN" in reasons.explain_load(LibbpfError("x", 22, helper))


def test_a_kernel_without_types_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reasons, "_BTF", tmp_path / "vmlinux")
    assert "no BTF" in reasons.explain_load(LibbpfError("x", errno.ESRCH, ""))


def program(section: str) -> Program:
    return Program("p", section, 0)


def test_why_a_tracepoint_does_not_attach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    problem = LibbpfError("x", errno.ENOENT)
    monkeypatch.setattr(reasons, "_TRACEFS", (tmp_path / "tracing",))
    assert "tracefs is not mounted" in reasons.explain_attach(problem, program("tp/nfs/nfs4_read"))
    (tmp_path / "tracing" / "events").mkdir(parents=True)
    assert "no tracepoint nfs/nfs4_read" in reasons.explain_attach(problem, program("tp/nfs/nfs4_read"))


def test_why_a_probe_does_not_attach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(reasons, "_KPROBES", tmp_path / "kprobe")
    monkeypatch.setattr(reasons, "capabilities", lambda: ROOT)
    problem = LibbpfError("x", errno.ENOENT)
    assert "no kprobes" in reasons.explain_attach(problem, program("ksyscall/statx"))
    (tmp_path / "kprobe").mkdir()
    assert "no function nfs_read" in reasons.explain_attach(problem, program("kprobe/nfs_read"))
    assert "may be overridden" in reasons.explain_attach(LibbpfError("x", errno.EINVAL), program("kprobe/f"))
    assert "cannot hook functions" in reasons.explain_attach(LibbpfError("x", 524), program("fexit/f"))
    assert "not attached by themselves" in reasons.explain_attach(LibbpfError("x", errno.EOPNOTSUPP), program("tc"))
    assert "does not permit" in reasons.explain_attach(LibbpfError("x", errno.EPERM), program("fentry/f"))
