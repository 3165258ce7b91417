"""The wheel alone, outside any checkout: what the commands need at run time is inside it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

CODE = """
import sys
from pathlib import Path
import g5kdeploy
assert Path(g5kdeploy.__file__).is_relative_to(sys.argv[1]), g5kdeploy.__file__
from g5kdeploy.base.data import data
for name in ("nix", "bpf", "composition"):
    assert data(name).is_relative_to(sys.argv[1]), data(name)
from g5kdeploy.cli.main import main
assert main(["init", "made"]) == 0
assert main(["config", "show", "made", "--origin"]) == 0
from g5kdeploy.experiment import load, schema
assert schema.FILE.read_text() == schema.text()
from g5kdeploy.runs import Run, runs_folder
from g5kdeploy.runs.report import write_report
experiment = load(Path("made"))
assert write_report(Run.create(runs_folder(experiment.file), experiment, "lab", "lab")).exists()
assert load(data("composition") / "statx").test_script
"""


def test_the_wheel_is_complete(tmp_path: Path) -> None:
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("needs a checkout")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("g5kdeploy-*.whl")
    place = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    (entries,) = place.glob("*.dist-info/entry_points.txt")
    assert "g5kdeploy = g5kdeploy.cli.main:process" in entries.read_text()
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(place)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(place)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
