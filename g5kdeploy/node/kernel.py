"""What a node's kernel can do for BPF programs: the exporter's probe, sent there, run by the node's Python, and gone again."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.node.remote import Remote

_EXPORTER = Path(__file__).parents[1] / "exporter"
_MAIN = """\
import sys, tempfile, zipfile
from pathlib import Path

with tempfile.TemporaryDirectory() as folder:
    with zipfile.ZipFile(sys.argv[0]) as archive:
        archive.extractall(folder)
    sys.argv[1:] = [folder + "/objects"]
    from g5kdeploy_exporter.kernel_probe import main

    main()
"""
# No Python there is the status that a shell gives for a program it does not find.
_RUN = (
    'f=$(mktemp) || exit 1; trap \'rm -f "$f"\' EXIT; cat > "$f"; '
    'for p in python3 /run/current-system/sw/bin/python3 /usr/bin/python3; do command -v "$p" >/dev/null && '
    '"$p" -c "import sys; sys.exit(sys.version_info < (3, 11))" && { "$p" -B "$f"; exit; }; done; exit 127'
)
_NO_PYTHON = 127


@dataclass(frozen=True)
class Ability:
    """A kind of program or a program of ours, and why it does not work there, if it does not."""

    name: str
    works: bool
    why: str


@dataclass(frozen=True)
class KernelAnswer:
    """What the probe saw. `programs` is empty where there is no libbpf.so.1: then `libbpf` says so."""

    kernel: str
    machine: str
    python: str
    libbpf: str
    btf: bool
    lockdown: str
    config: dict[str, str]
    kinds: tuple[Ability, ...]
    programs: tuple[Ability, ...]


def probe_kernel(remote: Remote, deadline: Deadline) -> KernelAnswer:
    """Ask a node, as root. `Problem` when it has no Python of 3.11, or the probe fails there; the errors of `Remote.run`."""
    done = remote.run(_RUN, deadline, input=_archive(), check=False)
    if done.status == _NO_PYTHON:
        raise Problem(
            f"{remote.name} has no Python of 3.11 or later, so its kernel cannot be asked",
            hint="a base environment may have none: deploy the closure first (g5kdeploy deploy), which brings one",
        )
    lines = done.stdout.strip().splitlines()
    try:
        return _read(json.loads(lines[-1] if lines else ""))
    except (ValueError, KeyError, TypeError) as problem:
        raise Problem(
            f"the probe on {remote.name} ended with status {done.status} and said nothing that can be read",
            cause=done.stderr.strip().splitlines()[-1] if done.stderr.strip() else str(problem),
            hint="it wants root: name the user with --user root",
        ) from None


def _archive() -> bytes:
    """The exporter's modules and the objects that were built, as a zip that Python runs."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("__main__.py", _MAIN)
        for file in sorted(_EXPORTER.glob("*.py")):
            archive.write(file, f"g5kdeploy_exporter/{file.name}")
        for file in sorted((data("bpf") / "build").glob("*.bpf.o")):
            archive.write(file, f"objects/{file.name}")
    return made.getvalue()


def _read(document: dict[str, Any]) -> KernelAnswer:
    kinds, programs = (
        tuple(Ability(str(one["name"]), bool(one["works"]), str(one["why"])) for one in document[key])
        for key in ("kinds", "programs")
    )
    return KernelAnswer(
        kernel=str(document["kernel"]),
        machine=str(document["machine"]),
        python=str(document["python"]),
        libbpf=str(document["libbpf"]),
        btf=bool(document["btf"]),
        lockdown=str(document["lockdown"]),
        config={str(name): str(value) for name, value in document["config"].items()},
        kinds=kinds,
        programs=programs,
    )
