"""Programs by the distribution's BCC: compiled from source, and attached to whatever matches a pattern."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.exporting import Running, unshared

REPOSITORY = Path(__file__).parents[2]
PYTHON = "/usr/bin/python3"  # whose package bcc is
# BCC looks for the headers of the running kernel below /lib/modules: those of the distribution, put there for one process.
WITH_HEADERS = """
mount -t tracefs none /sys/kernel/tracing 2>/dev/null
mount -t tmpfs none /lib/modules && mkdir "/lib/modules/$(uname -r)" || exit 1
ln -s "$HEADERS" "/lib/modules/$(uname -r)/build" && ln -s "$COMMON" "/lib/modules/$(uname -r)/source"
exec "$@"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is loaded here."""
    folder = tmp_path_factory.mktemp("bpf")
    shutil.copytree(REPOSITORY / "bpf" / "include", folder / "include")
    sources = REPOSITORY / "bpf", REPOSITORY / "tests" / "support" / "bpf"
    wanted = "Makefile", "statx.*", "openat_errors.*", "pattern.*"
    for file in (file for source in sources for name in wanted for file in source.glob(name)):
        shutil.copy(file, folder)
    subprocess.run(["make", "--silent", "-C", str(folder)], check=True, timeout=300)
    return folder / "build"


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """For the distribution's Python, with the exporter as it is on a node, and headers as if they were this kernel's."""
    common = sorted(Path("/usr/src").glob("linux-headers-*-common"))
    headers = Path(str(common[-1]).replace("-common", "-amd64")) if common else Path("/absent")
    modules = [PYTHON, "-c", "import bcc, yaml, prometheus_client; bcc.BPF"]
    there = headers.exists() and subprocess.run(modules, capture_output=True, check=False).returncode == 0
    if not there or not unshared():
        pytest.skip("needs root, python3-bpfcc, python3-prometheus-client and linux-headers-amd64 of the distribution")
    packages = tmp_path / "packages"
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "g5kdeploy" / "exporter", packages / "g5kdeploy_exporter", ignore=skip)
    return os.environ | {"PYTHONPATH": str(packages), "HEADERS": str(headers), "COMMON": str(common[-1])}


@contextmanager
def running(folder: Path, names: str, environment: dict[str, str], log: Path, *more: str) -> Iterator[Running]:
    flags = ["--config.dir", str(folder), "--config.names", names, "--web.listen-address", "127.0.0.1:0", *more]
    words = ["unshare", "-m", "sh", "-c", WITH_HEADERS, "sh", PYTHON, "-m", "g5kdeploy_exporter", *flags]
    with log.open("wb") as out:
        process = subprocess.Popen(words, stderr=out, env=environment)
    try:
        found = Running(process, log)
        found.wait()
        yield found
        assert found.end() == 0, log.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def test_a_program_that_comes_as_source_is_compiled_by_bcc(
    built: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with running(built, "statx,openat_errors", environment, tmp_path / "log") as exporter:
        before = exporter.samples()
        if not before['g5k_bpf_program_loaded{config="openat_errors"}']:
            pytest.skip(f"this kernel does not take the program: {exporter.log.read_text()}")
        for _ in range(7):
            with pytest.raises(IsADirectoryError):
                os.open(tmp_path, os.O_WRONLY)
        name = 'ebpf_exporter_openat_errors_total{errno="EISDIR"}'
        assert exporter.samples()[name] - before.get(name, 0) >= 7
        assert before['g5k_bpf_program_loaded{config="statx"}'] == 1


def test_an_object_is_attached_by_bcc_to_all_that_matches(
    built: Path, environment: dict[str, str], tmp_path: Path
) -> None:
    with running(built, "pattern", environment, tmp_path / "log", "--backend", "bcc") as exporter:
        before = exporter.samples()
        if not before['g5k_bpf_program_loaded{config="pattern"}']:
            pytest.skip(f"this kernel does not take the program: {exporter.log.read_text()}")
        assert "pattern: attached by BCC to 2" in exporter.log.read_text()
        for _ in range(5):
            os.getpgid(0)
            os.getppid()
        after = exporter.samples()
        for call in ("getpgid", "getppid"):
            name = f'ebpf_exporter_pattern_calls_total{{syscall="{call}"}}'
            assert after[name] - before.get(name, 0) >= 5


def test_without_bcc_a_pattern_is_told_to_need_it(built: Path, environment: dict[str, str], tmp_path: Path) -> None:
    with running(built, "pattern", environment, tmp_path / "log") as exporter:
        samples = exporter.samples()
        if not samples['g5k_bpf_program_loaded{config="pattern"}']:
            pytest.skip(f"this kernel does not take the program: {exporter.log.read_text()}")
        reasons = [name for name in samples if name.startswith('g5k_bpf_failure_info{config="pattern"')]
        assert len(reasons) == 1 and "--backend bcc attaches to all that matches" in reasons[0]
