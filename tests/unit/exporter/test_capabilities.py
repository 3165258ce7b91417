"""What is kept of the capabilities, and that it is gone from every thread."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from g5kdeploy.exporter.capabilities import BPF, SYSLOG, Rights, needed, parse, text
from g5kdeploy.exporter.config import Config, Counter, Decoder, Label

REPOSITORY = Path(__file__).parents[3]


def config(*decoders: str) -> Config:
    label = Label("a", 8, 0, tuple(Decoder(name) for name in decoders))
    return Config("x", Path("x.yaml"), (Counter("c", "C", (label,)),), ())


def test_lists_of_names() -> None:
    assert parse("needed") is None
    assert parse("none") == 0
    assert parse("cap_bpf, CAP_SYSLOG,perfmon") == 1 << 39 | 1 << 34 | 1 << 38
    assert parse("all") == (1 << 41) - 1
    assert text(1 << 39 | 1 << 34) == "cap_syslog,cap_bpf" and text(0) == "none"
    with pytest.raises(ValueError, match="unknown capability 'cap_root'"):
        parse("cap_root")


def test_what_serving_needs() -> None:
    assert needed([config("uint")], "6.1.0-32-amd64") == 0
    assert needed([config("uint"), config("ksym")], "6.1.0-32-amd64") == 1 << SYSLOG
    assert needed([config("kstack")], "5.10.0-9-amd64") == 1 << SYSLOG | 1 << BPF
    assert needed([config("hex")], "5.19.0") == 0
    assert needed([config("hex")], "unheard of") == 1 << BPF


@pytest.mark.parametrize(
    ("words", "explicit", "load"),
    [
        ("needed", False, False),
        ("all", True, True),
        ("none", True, False),
        ("cap_bpf", True, False),
        ("cap_bpf,cap_perfmon", True, True),
        ("cap_sys_admin", True, True),
    ],
)
def test_what_is_kept_is_enough_to_load_or_not(words: str, explicit: bool, load: bool) -> None:
    rights = Rights(words, 0)
    assert (rights.explicit, rights.load) == (explicit, load)


SCRIPT = """
import threading
from pathlib import Path
from g5kdeploy.exporter.capabilities import drop, effective, text
lines = []
def tell():
    status = Path("/proc/thread-self/status").read_text().splitlines()
    lines.append({n: int(v, 16) for n, v in (x.split(":") for x in status if x.startswith(("CapEff", "CapPrm", "CapInh")))})
keep = effective() & -effective()  # the lowest that we have
left = drop(keep)
tell()
thread = threading.Thread(target=tell)
thread.start()
thread.join()
assert left == keep and lines[0] == lines[1], lines
assert lines[0]["CapEff"] == lines[0]["CapPrm"] == keep, lines
assert drop(0) == 0 and effective() == 0
print(text(keep))
"""


def test_they_are_gone_from_the_thread_and_from_those_it_starts() -> None:
    said = subprocess.run(
        [sys.executable, "-c", SCRIPT], cwd=REPOSITORY, capture_output=True, text=True, timeout=120, check=False
    )
    assert said.returncode == 0, said.stderr
