"""Lets a script of this folder be run as it stands: in the checkout's .venv, which is made first where there is none.

A script imports this module before anything that is not Python's own.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

sys.path.insert(0, str(ROOT))
if importlib.util.find_spec("cheroot") is None:
    venv = ROOT / ".venv"
    if Path(sys.prefix) == venv:
        sys.exit(f"error: {venv} is not whole\nhint: rm -r .venv; scripts/setup")
    code = subprocess.run([ROOT / "scripts" / "setup"], check=False).returncode
    if code:
        sys.exit(code)
    python = str(venv / "bin" / "python")
    os.execv(python, [python, *sys.argv])
