"""A whole testbed without a machine: the lab's real API and scheduler, a frontend that is an sshd, namespace nodes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

from g5kdeploy.base import debian, files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.closure.build import inputs
from g5kdeploy.closure.manifest import Manifest, PathInfo, RoleClosure
from g5kdeploy.lab.deployments import Deployment, Report
from tests.contract.scripted import HandClock, Lab, Script, ScriptedDeployer
from tests.contract.testbed_world import small_world
from tests.support.nodes import Node
from tests.support.sshd import DEFAULT_PATH, SshServer, make_key, write_ssh_config

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = Path(__file__).with_name("program.py")
PATIENCE = 300.0  # seconds for whatever a test waits for
RELEASE = "6.1.0-closure"
CALLS = 12345

QUICK = {
    "g5kdeploy.testbed.waiting._FIRST": [0.2] * 20,
    "g5kdeploy.testbed.kadeploy._POLLS": [0.2] * 20,
    "g5kdeploy.boot.kexec.POLL_SECONDS": 0.1,
    "g5kdeploy.workflow.measuring.FETCH_EVERY": 0.2,
    "g5kdeploy.workflow.measuring.JOB_EVERY": 0.5,
}
"""Shorter pauses: they are not what is tested here."""

SYSTEM = f"""derivation {{
  name = "faults-system";
  system = "x86_64-linux";
  builder = "/bin/sh";
  args = [ "-c" "PATH=/usr/bin:/bin; mkdir $out; cd $out; touch init kernel initrd; echo {RELEASE} > kernel-release" ];
}}"""

WORKLOAD = f"""echo run >> /node/runs
[ ! -e /node/knobs/hold ] || while [ ! -e /node/go ]; do sleep 0.05; done
echo {CALLS} > /node/calls
echo '{{"calls": {CALLS}}}'
"""


class Deployer(ScriptedDeployer):
    """Deployments that are over in a moment, after which the node really answers as a new system."""

    nodes: dict[str, Node]

    def start(self, deployment: Deployment, report: Report) -> None:
        def told(node: str, step: str, ok: bool | None, text: str) -> None:
            if ok and node in self.nodes:
                init = re.search(
                    r"\binit=(\S+)/init", (deployment.description.get("boot") or {}).get("kernel_params", "")
                )
                self.nodes[node].install(*((RELEASE, init[1]) if init else ()))
            report(node, step, ok, text)

        super().start(deployment, told)

    def _next(self, node: str) -> Script:
        waiting = self._scripts.get(node)
        return super()._next(node) if waiting else Script(step_seconds=0.1)


class Place:
    """The testbed, an experiment, and the command line. `home` is G5KDEPLOY_HOME.

    With `sites` there is one node on each of them, in the place of `count` on the only one. One machine is all frontends.
    """

    def __init__(self, folder: Path, count: int = 2, sites: Sequence[str] = ()) -> None:
        self.folder = folder
        self.home = folder / "g5k"
        self._started: list[subprocess.Popen[str]] = []
        with contextlib.ExitStack() as undo:  # when a part fails, those before it are ended
            self._set_up(folder, count, sites, undo)
            self._undo = undo.pop_all()

    def _set_up(self, folder: Path, count: int, sites: Sequence[str], undo: contextlib.ExitStack) -> None:
        now = time.time()
        world = small_world(*sites, now=now) if sites else None
        self.lab = Lab(folder / "lab", nodes=count, world=world, now=now, pace=100, deployer=self._deployer)
        names = [f"vm{site}-1.{site}.grid5000.fr" for site in sites] or self.lab.node_names(count)
        undo.callback(self.lab.close)
        client = self.home / "state" / "lab" / "home"
        self.lab.write_home(client, "jdoe", "secret")
        key = make_key(client / ".ssh" / "id_ed25519")
        authorized = key.with_suffix(".pub").read_text()
        self.public = folder / "frontend" / "public"
        self.public.mkdir(parents=True)
        self.frontend = self._frontend(authorized, names)
        undo.callback(self.frontend.close)
        with ThreadPoolExecutor(len(names)) as pool:
            made = {
                name: pool.submit(Node, name, folder / name.partition(".")[0], authorized, self.public)
                for name in names
            }
        self.nodes = {name: one.result() for name, one in made.items() if one.exception() is None}
        undo.callback(self._close_nodes)
        for one in made.values():
            one.result()  # raises what went wrong
        self.deployer.nodes = self.nodes
        for node in self.nodes.values():
            (node.folder / "workload").write_text(WORKLOAD)
        hosts = {f"f{site}.{site}.grid5000.fr": self.frontend for site in sites or ("lab",)}
        hosts |= {name: node.sshd for name, node in self.nodes.items()}
        write_ssh_config(
            client,
            *(
                f"Host {name}\n HostName 127.0.0.1\n Port {sshd.port}\n User {sshd.user}\n IdentityFile {key}\n"
                " IdentitiesOnly yes"
                for name, sshd in hosts.items()
            ),
        )
        self.experiment = folder / "experiment" / "experiment.yaml"
        (self.experiment.parent).mkdir()
        self.composition = folder / "composition"  # apart: what is in it is hashed by the build
        self.composition.mkdir()
        (self.composition / "roles.nix").write_text("{ roles.worker = { }; roles.other = { }; }\n")
        self.write()
        self._closure()
        self.lab.up()
        undo.enter_context(self.lab.running(pace=1))

    def _deployer(self, hand: HandClock) -> Deployer:
        self.deployer = Deployer(hand)
        return self.deployer

    def _frontend(self, authorized: str, names: Sequence[str]) -> SshServer:
        home = self.folder / "frontend"
        programs = home / "bin"
        programs.mkdir()
        lines = "".join(f"echo '10.0.0.{number}  STREAM {name}'\n" for number, name in enumerate(names, 1))
        (programs / "getent").write_text("#!/bin/sh\n" + lines)
        (programs / "getent").chmod(0o755)
        inner = f'cd {home} && export HOME="$PWD" && eval "$SSH_ORIGINAL_COMMAND"'
        path = f"{programs}:{DEFAULT_PATH}"
        return SshServer(home / "ssh", authorized, f"ForceCommand sh -c '{inner}'", path=path)

    def write(self, **more: Any) -> None:
        """Write the experiment file: one role on all nodes, but for what `more` says."""
        told: dict[str, Any] = {
            "apiVersion": "g5kdeploy/v1",
            "name": "faults",
            "composition": "../composition",
            "roles": {"worker": {"nodes": len(self.nodes)}},
            "walltime": "1h",
            "benchmark": {"role": "worker", "command": "sh /node/workload", "scrape_interval": 0.2},
        }
        self.experiment.write_text(yaml.safe_dump({**told, **more}))

    def _closure(self) -> None:
        """What the phase build finds unchanged: a closure of one path, and the archive for the nodes."""
        deadline = Deadline.after(PATIENCE, "the test's closure")
        words = [
            "nix-build",
            "--no-out-link",
            "-E",
            SYSTEM,
        ]  # not --add: what is named by its content needs no signature
        path = debian.nix(words, deadline).stdout.strip()
        [info] = json.loads(debian.nix(["nix", "path-info", "--json", path], deadline).stdout)
        role = RoleClosure(path, f"{path}/kernel", f"{path}/initrd", f"{path}/init", "quiet", RELEASE, ("statx",))
        paths = {path: PathInfo(info["narHash"], info["narSize"])}
        built = {"by": "a test", "nix": "", "inputs": "", "lock": {}}
        both = ["other", "worker"]
        for flavour, roles in (("local-store", ["worker"]), ("local-store", both), ("g5k-image", both)):
            manifest = Manifest("x86_64-linux", flavour, dict.fromkeys(roles, role), paths, built)
            key = inputs(self.composition, flavour, roles)
            manifest.save(self.home / "cache" / "closures" / f"{key[:32]}.json")
        self.toplevel = path

        tree = self.folder / "bundle" / "bin"
        tree.mkdir(parents=True)
        (tree / "nix").write_text('#!/bin/sh\nexec nix "$@"\n')
        (tree / "kexec").write_text('#!/bin/sh\nexec /usr/bin/python3 -I /node/bin/node_inside.py kexec "$@"\n')
        for program in tree.iterdir():
            program.chmod(0o755)
        archive = shutil.make_archive(str(self.folder / "bundle"), "gztar", self.folder / "bundle")
        digest = debian.digest([ROOT / "nix" / "debian"])
        files.write(self.home / "cache" / "bundle" / f"{digest[:32]}.path", archive)

    # The command line

    def start(
        self, *words: str, stall: str = "", constants: dict[str, Any] | None = None, watched: int | None = None
    ) -> subprocess.Popen[str]:
        """Start g5kdeploy; stdout and stderr go to files beside each other, stderr to `watched` if that is given.

        Where that is a terminal, it is the process's own.
        """
        number = len(self._started)
        self.mark = self.folder / f"mark-{number}"
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("G5KDEPLOY_", "TEST_"))}
        environ |= {
            "G5KDEPLOY_HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "TEST_CONSTANTS": json.dumps({**QUICK, **(constants or {})}),
            "TEST_STALL": stall,
            "TEST_MARK": str(self.mark),
        }
        paths = [self.folder / f"{name}-{number}" for name in ("stdout", "stderr")]
        with paths[0].open("w") as out, paths[1].open("w") as err:
            process = subprocess.Popen(
                [sys.executable, str(PROGRAM), *words],
                stdout=out, stderr=err if watched is None else watched, stdin=subprocess.DEVNULL, text=True,
                env=environ, cwd=self.folder, start_new_session=True,
                preexec_fn=_take_terminal if watched is not None and os.isatty(watched) else None,
            )  # fmt: skip
        self._started.append(process)
        return process

    def end(self, process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
        """Wait for its end; what it said."""
        code = process.wait(PATIENCE)
        number = self._started.index(process)
        out, err = ((self.folder / f"{name}-{number}").read_text() for name in ("stdout", "stderr"))
        return subprocess.CompletedProcess(process.args, code, out, err)

    def call(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return self.end(self.start(*words, **more))

    def command(self, name: str, *words: str) -> tuple[str, ...]:
        return (name, str(self.experiment), "--testbed", "lab", *words)

    def run(self, *words: str, **more: Any) -> subprocess.CompletedProcess[str]:
        """`g5kdeploy run`, to its end."""
        return self.call(*self.command("run", "-o", "json", *words), **more)

    def begin(self, *words: str, **more: Any) -> subprocess.Popen[str]:
        return self.start(*self.command("run", "-o", "json", *words), **more)

    def until(self, seen: Callable[[], Any], what: str, process: subprocess.Popen[str] | None = None) -> None:
        """Wait until something is so; not longer than a process lives that should bring it about."""
        end = time.monotonic() + PATIENCE
        while not seen():
            if process is not None and process.poll() is not None and not seen():
                done = self.end(process)
                raise AssertionError(f"it ended with {done.returncode} before {what}: {done.stderr}")
            assert time.monotonic() < end, what
            time.sleep(0.02)

    # What is seen

    @property
    def folders(self) -> list[Path]:
        return sorted((self.experiment.parent / "runs").glob("*/run.json"))

    def document(self) -> dict[str, Any]:
        """The newest run's run.json."""
        found: dict[str, Any] = json.loads(self.folders[-1].read_text())
        return found

    def submissions(self) -> int:
        return sum(1 for method, path in self.lab.faults.asked if method == "POST" and path.endswith("/jobs"))

    def held(self) -> Sequence[int]:
        """The jobs that are not over."""
        return [job.id for oar in self.lab.oars.made.values() for job in oar.current()]

    def workloads(self) -> list[int]:
        """How often the workload ran on each node since the beginning."""
        logs = [node.folder / "runs" for node in self.nodes.values()]
        return [len(log.read_text().splitlines()) if log.exists() else 0 for log in logs]

    def order(self, knob: str, node: int | None = None) -> None:
        for name, one in self.nodes.items():
            if node is None or name.startswith(f"vm-{node}."):
                one.order(knob)

    def go(self) -> None:
        for node in self.nodes.values():
            (node.folder / "go").touch()

    def close(self) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait(60)
        self._undo.close()

    def _close_nodes(self) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(Node.close, self.nodes.values()))


def _take_terminal() -> None:
    """In a new process that leads its session: its stderr is its terminal, and it hears when that is closed."""
    fcntl.ioctl(2, termios.TIOCSCTTY, 0)
