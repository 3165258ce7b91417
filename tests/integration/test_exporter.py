"""The exporter as a process, on whatever kernel this is: what the kernel does not allow is told, the rest goes on."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from g5kdeploy.exporter.capabilities import BPF, effective
from g5kdeploy.exporter.cgroups import root
from tests.support.exporting import Running, unshared, words

REPOSITORY = Path(__file__).parents[2]
ACCEPT_OPENMETRICS = "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bpf")
    subprocess.run(["make", "--silent", "-C", str(REPOSITORY / "bpf"), f"BUILD={folder}"], check=True, timeout=300)
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as it is on a node: alone, under its own name."""
    folder = tmp_path_factory.mktemp("packages")
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "g5kdeploy" / "exporter", folder / "g5kdeploy_exporter", ignore=skip)
    return folder


Serve = Callable[..., Running]


@pytest.fixture
def serve(tmp_path: Path, installed: Path) -> Iterator[Serve]:
    started: list[Running] = []

    def run(folder: Path, names: str, *arguments: str, inside: str = "", **environment: str) -> Running:
        log = tmp_path / f"log{len(started)}"
        flags = ["--config.dir", str(folder), "--config.names", names, "--web.listen-address", "127.0.0.1:0"]
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*(["unshare", "-m", "sh", "-c", inside, "sh"] if inside else unshared()), *words(*flags, *arguments)],
                stderr=out,
                env=os.environ | {"PYTHONPATH": str(installed)} | environment,
            )
        running = Running(process, log)
        started.append(running)
        running.wait()
        return running

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def run_once(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(installed)}
    return subprocess.run(words(*arguments), capture_output=True, text=True, env=environment, timeout=120, check=False)


def test_programs_are_loaded_or_the_reason_is_told(built: Path, serve: Serve) -> None:
    running = serve(built, "statx,statx_mock")
    samples = running.samples()
    for name in ("statx", "statx_mock"):
        loaded = samples[f'g5k_bpf_program_loaded{{config="{name}"}}']
        reasons = [sample for sample in samples if sample.startswith(f'g5k_bpf_failure_info{{config="{name}"')]
        assert loaded or reasons, samples
    modes = {x: v for x, v in samples.items() if x.startswith("g5k_bpf_mock_mode{")}
    assert sum(modes.values()) == 1 and len(modes) == 3
    assert running.end() == 0
    assert "Detached" in running.log.read_text()


def test_every_program_there_is(built: Path, serve: Serve) -> None:
    names = sorted(file.name.removesuffix(".bpf.o") for file in built.glob("*.bpf.o"))
    names = [name for name in names if not name.startswith("statx_mock_")]
    running = serve(built, ",".join(names))
    samples = running.samples()
    for name in names:
        reasons = [sample for sample in samples if sample.startswith(f'g5k_bpf_failure_info{{config="{name}"')]
        assert samples[f'g5k_bpf_program_loaded{{config="{name}"}}'] or reasons, name
    if samples['g5k_bpf_program_loaded{config="syscalls"}']:
        (reads,) = [sample for sample in samples if sample.startswith('ebpf_exporter_syscalls_total{call="read"')]
        before = samples[reads]
        Path("/proc/uptime").read_text()
        assert running.samples()[reads] > before
    assert running.end() == 0


def test_it_takes_as_many_descriptors_as_it_may_have(built: Path, serve: Serve) -> None:
    """The usual limit is not enough for perf events on each of many CPUs."""
    if not unshared():
        pytest.skip("needs the right to make a mount namespace")
    running = serve(built, "statx", inside='ulimit -Sn 64; exec "$@"')
    limits = Path(f"/proc/{running.process.pid}/limits").read_text()
    (files,) = [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max open files")]
    assert files[0] == files[1] != "64"


@contextmanager
def own_cgroup() -> Iterator[Path]:
    """A new cgroup of v2 below the one that we are in; skips where none can be made."""
    top = root()
    own = [line[4:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::/")]
    if top is None or not own:
        pytest.skip("needs cgroup v2")
    folder = top / own[0] / f"g5kdeploy-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as problem:
        pytest.skip(f"needs a cgroup of its own: {problem}")
    try:
        yield folder
    finally:
        for child in folder.iterdir():
            if child.is_dir():
                child.rmdir()
        folder.rmdir()


def test_the_calls_of_a_cgroup_are_counted_exactly(built: Path, serve: Serve, tmp_path: Path) -> None:
    """All of them, and nobody else's, whoever calls meanwhile."""
    for name in ("statx_bench", "bystander"):
        source = REPOSITORY / "composition" / "statx" / "workload" / f"{name}.c"
        subprocess.run(["gcc", "-O2", "-static", "-o", str(tmp_path / name), str(source)], check=True, timeout=300)
    running = serve(built, "statx")
    attached = [v for n, v in running.samples().items() if n.startswith("ebpf_exporter_ebpf_program_attached")]
    if attached != [1, 1]:
        pytest.skip(f"this kernel does not take the program: {running.log.read_text()}")
    enter = 'echo $$ > "$1/cgroup.procs" && exec "$2" --calls 2000 --path / --hold 1'
    with own_cgroup() as folder:
        bystander = subprocess.Popen([str(tmp_path / "bystander"), "/"], stdout=subprocess.DEVNULL)
        try:
            bench = ["sh", "-c", enter, "sh", str(folder), str(tmp_path / "statx_bench")]
            said = json.loads(subprocess.check_output(bench, timeout=120))
        finally:
            bystander.terminate()
            bystander.wait()
        samples = running.samples()
    own = f'cgroup="{said["cgroup"]}"'
    assert samples[f"ebpf_exporter_statx_calls_total{{{own}}}"] == 2000
    assert samples[f"ebpf_exporter_statx_latency_seconds_count{{{own}}}"] == 2000
    assert samples[f'ebpf_exporter_statx_latency_seconds_bucket{{{own},le="+Inf"}}'] == 2000


def test_what_clients_may_ask_for(built: Path, serve: Serve) -> None:
    running = serve(built, "statx", "--debug")
    text, headers = running.get()
    assert headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert {family.name for family in read_text(text.decode())} > {"g5k_bpf_program_loaded", "process_cpu_seconds"}

    text, headers = running.get(Accept=ACCEPT_OPENMETRICS)
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert text.endswith(b"# EOF\n")
    assert list(read_openmetrics(text.decode()))

    packed, headers = running.get(Accept_Encoding="deflate, gzip;q=0.5")
    assert headers["content-encoding"] == "gzip"
    assert b"g5k_bpf_program_loaded" in gzip.decompress(packed)
    assert "content-encoding" not in running.get(Accept_Encoding="gzip;q=0, br")[1]

    only = running.samples("/metrics?name[]=g5k_bpf_program_loaded&name[]=absent")
    assert list(only) == ['g5k_bpf_program_loaded{config="statx"}']
    assert b"/metrics" in running.get("/")[0]
    running.get("/maps")
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        running.get("/absent")
    refused.value.close()


def test_an_idle_client_stops_nobody(built: Path, serve: Serve) -> None:
    running = serve(built, "statx")
    with socket.create_connection(("127.0.0.1", running.port)) as idle:
        idle.sendall(b"GET /met")
        answers: list[int] = []
        threads = [threading.Thread(target=lambda: answers.append(len(running.samples()))) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(answers) == 8 and min(answers) > 10
    assert running.end(signal.SIGINT) == 0


def test_systemd_is_told_when_it_is_ready(built: Path, serve: Serve, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.bind(str(tmp_path / "notify"))
        notified.settimeout(60)
        running = serve(built, "statx", NOTIFY_SOCKET=str(tmp_path / "notify"))
        said = ""
        while "READY=1" not in said:
            said = notified.recv(4096).decode()
        assert running.samples()
        running.end()
        while "STOPPING=1" not in said:
            said = notified.recv(4096).decode()


def test_a_socket_from_systemd(built: Path, installed: Path, tmp_path: Path) -> None:
    """As systemd does it: the socket is descriptor 3, and the process is named in the environment."""
    flags = ["--config.dir", str(built), "--config.names", "statx", "--web.listen-address", "fd://0"]
    script = 'eval "exec 3<&$FD"; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
    with socket.create_server(("127.0.0.1", 0)) as listening, (tmp_path / "log").open("wb") as log:
        port = listening.getsockname()[1]
        environment = os.environ | {"PYTHONPATH": str(installed), "FD": str(listening.fileno())}
        process = subprocess.Popen(
            ["bash", "-c", script, "bash", *words(*flags)], pass_fds=[listening.fileno()], env=environment, stderr=log
        )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=120) as answer:
                assert b"g5k_bpf_program_loaded" in answer.read()
        finally:
            process.terminate()
            assert process.wait(60) == 0


def test_every_mistake_is_told_with_its_line(built: Path, installed: Path, tmp_path: Path) -> None:
    folder = tmp_path / "c"
    shutil.copytree(built, folder)
    file = folder / "statx.yaml"
    file.write_text(file.read_text().replace("size: 8", "size: 4", 1).replace("exp2", "log2"))
    done = run_once(installed, "--config.dir", str(folder), "--config.names", "statx,absent", "--config.check")
    assert done.returncode == 2
    assert f"{file}:3: statx_calls_total: its labels describe 4 bytes" in done.stderr
    assert f"{file}:26: unknown bucket_type log2" in done.stderr
    assert f"{folder / 'absent.yaml'}:1: cannot be read" in done.stderr
    assert "Traceback" not in done.stderr and "Started" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "sentence"),
    [
        (["--config.names", "x"], 2, "--config.dir"),
        (["--config.dir", "/absent", "--config.names", "x"], 2, "there is no such folder"),
        (["--config.dir", "/", "--config.names", "x", "--unknown"], 2, "unrecognized"),
        (["--config.dir", "BUILT", "--config.names", "statx", "--web.listen-address", "nowhere"], 2, "no address"),
        (["--config.dir", "BUILT", "--config.names", "statx", "--web.listen-address", "fd://0"], 1, "was not passed"),
        (["--config.dir", "BUILT", "--config.names", "statx", "--web.telemetry-path", "x"], 2, "no path"),
        (
            ["--config.dir", "BUILT", "--config.names", "statx", "--web.config.file", "/absent"],
            2,
            "/absent:1: cannot be",
        ),
        (["--config.dir", "/", "--config.names", "x", "--capabilities.keep", "cap_root"], 2, "unknown capability"),
        (["--version"], 0, ""),
        (["--help"], 0, ""),
    ],
)
def test_exit_codes(built: Path, installed: Path, arguments: list[str], status: int, sentence: str) -> None:
    done = run_once(installed, *(str(built) if word == "BUILT" else word for word in arguments))
    assert done.returncode == status, done.stderr
    assert sentence in done.stderr and "Traceback" not in done.stderr


def test_a_port_that_is_taken(built: Path, installed: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        flags = ["--config.dir", str(built), "--config.names", "statx", "--web.listen-address", address]
        done = run_once(installed, *flags)
    assert done.returncode == 1
    assert f"cannot listen on {address}" in done.stderr


def test_strict_wants_everything(built: Path, installed: Path, tmp_path: Path) -> None:
    """A program whose tracepoint no kernel has: without --config.strict the rest goes on, with it nothing does."""
    shutil.copytree(REPOSITORY / "bpf" / "include", tmp_path / "include")
    shutil.copy(REPOSITORY / "bpf" / "Makefile", tmp_path)
    source = (REPOSITORY / "bpf" / "statx.bpf.c").read_text().replace("sys_enter_statx", "sys_enter_never")
    (tmp_path / "never.bpf.c").write_text(source)
    shutil.copy(built / "statx.yaml", tmp_path / "never.yaml")
    subprocess.run(["make", "--silent", "-C", str(tmp_path)], check=True, timeout=300)
    flags = ["--config.dir", str(tmp_path / "build"), "--config.names", "never", "--config.check"]
    assert run_once(installed, *flags).returncode == 0
    done = run_once(installed, *flags, "--config.strict")
    assert done.returncode == 1
    assert "not everything loads and attaches: never" in done.stderr


# No tracepoints, and a folder of ours where the kernel lists its modules.
WITHOUT_TRACEFS = """
for place in /sys/kernel/tracing /sys/kernel/debug/tracing /sys/kernel/debug; do umount -l $place 2>/dev/null; done
mount --bind "$MODULES" /sys/module || exit 1
exec "$@"
"""


def threads(process: subprocess.Popen[bytes]) -> dict[int, set[int]]:
    """The effective and permitted capabilities of a process's threads, by their ids; the main thread's is the process's."""
    found: dict[int, set[int]] = {}
    for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
        told = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
        found[int(told["Pid"])] = {int(told["CapEff"], 16), int(told["CapPrm"], 16)}
    return found


def statx_calls(running: Running) -> float:
    return sum(v for n, v in running.samples().items() if n.startswith("ebpf_exporter_statx_calls_total"))


def test_a_program_waits_for_its_module_and_rights_are_kept_as_long(built: Path, serve: Serve, tmp_path: Path) -> None:
    """Only by the thread that loads; once it is attached, by none."""
    if not unshared():
        pytest.skip("needs the right to make a mount namespace")
    folder = tmp_path / "modules"
    (folder / "ext4").mkdir(parents=True)
    running = serve(built, "statx", inside=WITHOUT_TRACEFS, MODULES=str(folder))
    samples = running.samples()
    if not samples['g5k_bpf_program_loaded{config="statx"}']:
        pytest.skip(f"this kernel does not take the program: {running.log.read_text()}")
    assert samples['g5k_bpf_program_waiting{config="statx"}'] == 1
    assert [v for n, v in samples.items() if n.startswith("ebpf_exporter_ebpf_program_attached")] == [0, 0]
    kept = {0, 1 << BPF}  # what serving takes, on kernels of any age
    end = time.monotonic() + 240
    main = running.process.pid
    while not all(bits <= kept for tid, bits in threads(running.process).items() if tid != main):
        assert time.monotonic() < end, running.log.read_text()
        time.sleep(0.05)
    assert not threads(running.process)[main] <= kept

    mount = ["nsenter", "-t", str(running.process.pid), "-m", "mount", "-t", "tracefs", "none", "/sys/kernel/tracing"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs tracefs")
    (folder / "nfs").mkdir()
    while (samples := running.samples())['g5k_bpf_program_waiting{config="statx"}']:
        assert time.monotonic() < end, running.log.read_text()
        time.sleep(0.05)
    assert samples['g5k_bpf_retries_total{config="statx"}'] == 1
    assert [v for n, v in samples.items() if n.startswith("ebpf_exporter_ebpf_program_attached")] == [1, 1]
    while "Capabilities kept" not in running.log.read_text():
        assert time.monotonic() < end, running.log.read_text()
        time.sleep(0.05)
    while not all(bits <= kept for bits in threads(running.process).values()):
        assert time.monotonic() < end, threads(running.process)
        time.sleep(0.05)
    before = statx_calls(running)
    subprocess.run(["stat", str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    assert statx_calls(running) > before
    assert running.end() == 0


@pytest.mark.parametrize(("keep", "left"), [("none", 0), ("cap_syslog,cap_bpf", 1 << 34 | 1 << BPF)])
def test_capabilities_that_are_asked_for_are_kept(built: Path, serve: Serve, keep: str, left: int) -> None:
    left &= effective()
    running = serve(built, "statx", "--capabilities.keep", keep)
    end = time.monotonic() + 240
    while "Capabilities kept" not in running.log.read_text():
        assert running.process.poll() is None and time.monotonic() < end, running.log.read_text()
        time.sleep(0.02)
    while not all(bits <= {left} for bits in threads(running.process).values()) and not os.geteuid():
        assert time.monotonic() < end, threads(running.process)
        time.sleep(0.02)
    assert running.samples() and running.end() == 0
