"""Foreign clients of the testbed, as they are on PyPI, in an environment of their own: EnOSlib and execo."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_PYTHON = _ROOT / ".venv-foreign" / "bin" / "python"
_SCRIPTS = _ROOT / "tests" / "contract" / "foreign"

installed = pytest.mark.skipif(not _PYTHON.exists(), reason="needs .venv-foreign: scripts/setup test makes it")


# An OpenSSH that they start looks for keys in the account's own home, whatever HOME says
_LEND = 'ssh-add -q "$1" && shift && exec "$@"'


def said(
    script: str, *words: str, home: Path, folder: Path, key: Path | None = None, seconds: float = 400, **environ: str
) -> Any:
    """What a script says, as JSON on stdout, in the foreign environment with the lab's home as HOME; an agent has `key`."""
    agent = ["ssh-agent", "sh", "-c", _LEND, "sh", key] if key else []
    env = {"HOME": str(home), "PATH": os.environ["PATH"], "LANG": "C.UTF-8", "ANSIBLE_LOCAL_TEMP": str(folder)}
    done = subprocess.run(
        [*agent, _PYTHON, _SCRIPTS / script, *words],
        env={**env, **environ},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return json.loads(done.stdout.splitlines()[-1])
