"""What a kernel can do for BPF programs: the probe by itself, and what is made of its answer."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any, cast

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.cli.kernel_checks import findings
from g5kdeploy.exporter import bpf_call, kernel_probe
from g5kdeploy.node import Remote, Result, probe_kernel

ROOT = Path(__file__).parents[2]
ANSWER: dict[str, Any] = {
    "kernel": "6.1.0", "machine": "x86_64", "python": "3.11.2", "libbpf": "v1.1", "btf": True, "lockdown": "integrity",
    "config": {"KPROBES": "y", "BPF_KPROBE_OVERRIDE": "n"},
    "kinds": [{"name": "tp", "works": True, "why": ""}, {"name": "override", "works": False, "why": "it is off"}],
    "programs": [{"name": "statx", "works": True, "why": ""}, {"name": "nfs", "works": False, "why": "no module"}],
}  # fmt: skip


class Node:
    """A node that gives one answer, and keeps what it was sent."""

    name = "vm-1.lab.grid5000.fr"

    def __init__(self, status: int, stdout: str = "", stderr: str = "") -> None:
        self.result = Result(stdout, stderr, status, 0.1)
        self.sent = b""

    def run(self, command: str, deadline: Deadline, *, input: bytes, check: bool) -> Result:
        assert not check
        self.sent = input
        return self.result


def ask(node: Node) -> Any:
    return probe_kernel(cast("Remote", node), Deadline.after(60, "the probe"))


def btf(*types: tuple[str, int, int]) -> bytes:
    """A kernel's BTF with these types: (name, kind, members)."""
    strings, body = b"\0", b""
    for name, kind, members in types:
        if b"\0" + name.encode() + b"\0" not in strings:
            strings += name.encode() + b"\0"
        fixed, each = bpf_call._BEHIND.get(kind, (0, 0))
        place = strings.index(b"\0" + name.encode() + b"\0") + 1
        body += struct.pack("<III", place, kind << 24 | members, 0) + bytes(fixed + each * members)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(body), len(body), len(strings)) + body + strings


def test_types_are_found_by_name_and_kind(tmp_path: Path) -> None:
    file = tmp_path / "vmlinux"
    file.write_bytes(
        btf(
            ("int", 1, 0),
            ("list", 4, 3),
            ("wanted", 1, 0),
            ("proto", 13, 2),
            ("wanted", 12, 0),
            ("e", 19, 2),
            ("t", 8, 0),
        )
    )
    assert bpf_call.btf_types({"wanted": bpf_call.BTF_FUNC, "t": bpf_call.BTF_TYPEDEF, "absent": 12}, file) == {
        "wanted": 5,
        "t": 7,
    }


def test_the_kernels_own_types_are_the_ones_that_libbpf_finds() -> None:
    from g5kdeploy.exporter.libbpf import Library

    if not Path("/sys/kernel/btf/vmlinux").exists():
        pytest.skip("needs a kernel with BTF")
    found = bpf_call.btf_types({"task_struct": 4, "vfs_read": bpf_call.BTF_FUNC})
    call = Library().call
    types = call.btf__load_vmlinux_btf
    types.restype = kernel_probe.bpf.ct.c_void_p
    loaded = types()
    assert found == {
        name: call.btf__find_by_name_kind(loaded, name.encode(), kind)
        for name, kind in (("task_struct", 4), ("vfs_read", 12))
    }


def test_every_kind_is_tried_and_nothing_stays_open() -> None:
    code = (
        "import json, os; from g5kdeploy.exporter import kernel_probe as probe; "
        "begin = set(os.listdir('/proc/self/fd')), os.readlink('/proc/self/ns/net'); kinds = probe.kinds(); "
        "assert begin == (set(os.listdir('/proc/self/fd')), os.readlink('/proc/self/ns/net')); print(json.dumps(kinds))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    kinds = json.loads(done.stdout)
    assert [one["name"] for one in kinds] == list(kernel_probe.KINDS)
    assert all(one["works"] != bool(one["why"]) for one in kinds)


@pytest.mark.parametrize(
    ("name", "number", "words", "said"),
    [
        ("kprobe.multi", 95, "", "CONFIG_FPROBE is off"),
        ("override", 22, "unknown func bpf_override_return#58", "CONFIG_BPF_KPROBE_OVERRIDE is off"),
        ("fentry", 1, "", "not permitted"),
        ("probe_write_user", 22, "program of this type cannot use helper bpf_probe_write_user#36", "locked down"),
        ("lsm", 3, "", "lsm="),
        ("tp", 2, "tracefs is not mounted", "tracefs is not mounted"),
        ("xdp", 16, "", "busy"),
    ],
)
def test_why_a_kind_does_not_work(name: str, number: int, words: str, said: str) -> None:
    assert said in kernel_probe._why(name, bpf_call.Refused(number, words))


def test_an_answer_becomes_findings() -> None:
    found = {finding.name: finding for finding in findings(ask(Node(0, json.dumps(ANSWER))))}
    assert (found["override"].state, found["override"].found) == ("warning", "it is off")
    assert found["tp"].state == found["program statx"].state == "ok"
    assert found["program nfs"].found == "no module"
    assert found["lockdown"].state == "warning"
    assert "BPF_KPROBE_OVERRIDE=n" in found["config"].found


def test_a_node_without_libbpf_or_types() -> None:
    answer = ANSWER | {"libbpf": "none: libbpf.so.1 cannot be loaded", "btf": False, "programs": [], "config": {}}
    found = {finding.name: finding for finding in findings(ask(Node(0, json.dumps(answer))))}
    assert (found["libbpf"].state, found["libbpf"].mend) == ("missing", "apt-get install libbpf1")
    assert found["BTF"].state == "missing"
    assert "programs" not in found
    answer["libbpf"] = "v1.1"
    assert (
        "make -C bpf"
        in {finding.name: finding for finding in findings(ask(Node(0, json.dumps(answer))))}["programs"].mend
    )


def test_a_node_that_cannot_be_asked() -> None:
    with pytest.raises(Problem, match="has no Python") as refused:
        ask(Node(127))
    assert "g5kdeploy deploy" in refused.value.hint
    for node in (Node(1, "", "line\nno room"), Node(0, "{}"), Node(0, "[1]"), Node(0, "no JSON")):
        with pytest.raises(Problem, match="said nothing that can be read"):
            ask(node)


def test_what_is_sent_runs_with_nothing_but_python(tmp_path: Path) -> None:
    node = Node(0, json.dumps(ANSWER))
    ask(node)
    assert "g5kdeploy_exporter/kernel_probe.py" in zipfile.ZipFile(io.BytesIO(node.sent)).namelist()
    (tmp_path / "probe").write_bytes(node.sent)
    words = [sys.executable, "-I", "-S", str(tmp_path / "probe")]
    done = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=300, check=True)
    document = json.loads(done.stdout)
    assert document["kernel"] == os.uname().release
    assert [one["name"] for one in document["kinds"]] == list(kernel_probe.KINDS)
