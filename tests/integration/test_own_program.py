"""The page "Write your own program in five minutes", step by step."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.exporting import Running, unshared, words

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "own-program.md"
EXPORTER = "sudo g5kdeploy-exporter "


def run(command: str, folder: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done


def test_the_steps_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files are written, its commands are run; but the exporter is this tree's, and its port a free one."""
    shutil.copytree(REPOSITORY / "bpf" / "include", tmp_path / "bpf" / "include")
    shutil.copy(REPOSITORY / "bpf" / "Makefile", tmp_path / "bpf")
    packages = tmp_path / "packages"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "g5kdeploy" / "exporter", packages / "g5kdeploy_exporter", ignore=skip)
    monkeypatch.setenv("PYTHONPATH", str(packages))
    text = PAGE.read_text()
    files = re.findall(r"^`(bpf/[\w.]+)`\n\n```\w+\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert [name for name, _ in files] == ["bpf/openat.bpf.c", "bpf/openat.yaml"]
    for name, content in files:
        (tmp_path / name).write_text(content)
    commands = [
        line
        for block in re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        for line in block.splitlines()
    ]
    assert [command.split()[0] for command in commands] == ["make", "sudo", "sudo", "cat", "curl"]
    make, check, serve, event, ask = commands

    run(make, tmp_path)
    checked = [*unshared(), *words(*check.removeprefix(EXPORTER).split())]
    done = subprocess.run(checked, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "Config check successful" in done.stderr

    flags = serve.removeprefix(EXPORTER).removesuffix(" &").replace(":9435", ":0").split()
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen([*unshared(), *words(*flags)], cwd=tmp_path, stderr=out, env=dict(os.environ))
    running = Running(process, log)
    try:
        running.wait()
        attached = [v for n, v in running.samples().items() if n.startswith("ebpf_exporter_ebpf_program_attached")]
        if attached != [1]:
            pytest.skip(f"this kernel does not take the program: {log.read_text()}")
        run(event, tmp_path)
        said = run(ask.replace(":9435", f":{running.port}"), tmp_path).stdout.splitlines()
        assert said[:2] == re.findall(r"^# (?:HELP|TYPE) .*$", text, re.MULTILINE)
        assert re.fullmatch(r'ebpf_exporter_openat_calls_total\{cgroup="/[^"]*"\} [1-9]\d*', said[2]), said
        assert running.end() == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
