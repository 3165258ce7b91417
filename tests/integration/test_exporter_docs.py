"""What the documentation says about programs and the distribution, done."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_every_program_is_documented() -> None:
    text = (REPOSITORY / "docs" / "programs.md").read_text()
    for file in (REPOSITORY / "bpf").glob("*.yaml"):
        name = file.name.removesuffix(".yaml").removesuffix(".load")
        assert f"| `{name}` |" in text, name


def test_the_exporter_is_a_distribution_of_its_own(tmp_path: Path) -> None:
    skip = shutil.ignore_patterns("__pycache__", "dist")
    shutil.copytree(REPOSITORY / "g5kdeploy" / "exporter", tmp_path / "source", ignore=skip)
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True, timeout=300)
    (wheel,) = (tmp_path / "dist").glob("g5kdeploy_exporter-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    modules = {file.name for file in (REPOSITORY / "g5kdeploy" / "exporter").glob("*.py")}
    assert {file.name for file in (tmp_path / "installed" / "g5kdeploy_exporter").iterdir()} == modules
    entry = next((tmp_path / "installed").glob("*.dist-info/entry_points.txt")).read_text()
    assert "g5kdeploy-exporter = g5kdeploy_exporter.main:main" in entry
    words = [sys.executable, "-P", "-m", "g5kdeploy_exporter", "--version"]
    environment = {"PYTHONPATH": str(tmp_path / "installed"), "PATH": "/usr/bin:/bin"}
    said = subprocess.run(words, capture_output=True, text=True, env=environment, timeout=60, check=True)
    assert said.stdout.startswith("g5kdeploy-exporter ")
