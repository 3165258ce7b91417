"""Commands of jobs, really run: on the frontend for deploy and cosystem jobs, else on the first node."""

from __future__ import annotations

import os
import posixpath
import shlex
import signal
import subprocess
import threading

from g5kdeploy.base import process
from g5kdeploy.base.clock import SYSTEM
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.lab.oar.admission import FORBIDDEN, MISSING, at_home
from g5kdeploy.lab.oar.commands import play
from g5kdeploy.lab.oar.model import Command, DirectoryMissing, Job, NoOutput
from g5kdeploy.lab.site import standard
from g5kdeploy.lab.site.site import Site

ON_FRONTEND = frozenset({"deploy", "cosystem", "noop"})
KILLED = 15  # the wait status of a command that SIGTERM ended
_USER = ("setpriv", f"--reuid={standard.UID}", f"--regid={standard.UID}", "--clear-groups", "--")


GONE = 255
"""ssh's exit status when the connection was lost."""


class Lost:
    """A command that ended with an earlier daemon: its job goes on to its walltime, as one that sleeps would."""

    def __init__(self) -> None:
        self._killed = threading.Event()

    def poll(self) -> int | None:
        return KILLED if self._killed.is_set() else None

    def kill(self) -> None:
        self._killed.set()


class Running:
    """A command under way; `poll` gives its wait status."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is None:
            return None
        return code << 8 if 0 <= code < 128 else (code - 128 if code >= 128 else -code)

    def kill(self) -> None:
        try:
            os.killpg(self._process.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        threading.Thread(target=self._make_sure, daemon=True).start()

    def _make_sure(self) -> None:
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return


def directory(site: Site, path: str) -> str:
    """What the frontend says of a directory: "" when the user can write in it."""
    deadline = Deadline.after(20, f"the directory {path}")
    if not _test(site, "-d", path, deadline):
        return MISSING
    return "" if _test(site, "-w", path, deadline) else FORBIDDEN


def _test(site: Site, what: str, path: str, deadline: Deadline) -> bool:
    words = [*site.namespace.enter(mounts=True), *_USER, "test", what, path]
    return process.run(words, deadline, check=False).returncode == 0


def contents(site: Site, user: str, name: str, folder: str) -> str | None:
    """The text of a file on the frontend, as its user reads it from a folder ("": his home); None where he cannot."""
    path = posixpath.join(folder or f"/home/{user}", at_home(user, name))
    words = [*site.namespace.enter(mounts=True), *_USER, "cat", "--", path]
    done = process.run(words, Deadline.after(20, f"the file {path}"), check=False)
    return done.stdout if done.returncode == 0 else None


def run(site: Site, job: Job, again: bool) -> Command:
    """Start a job's command as its user; raises `DirectoryMissing`, `NoOutput`. `again`: it was started by an earlier daemon.

    One that would run on a node which is not there is played.
    """
    if not runs_on_frontend(job) and not set(job.nodes) <= site.nodes.keys():
        return play(job, again, SYSTEM)
    if again or not job.command:
        return Lost()
    deadline = Deadline.after(20, f"the directory of job {job.id}")
    if not _test(site, "-d", job.directory, deadline):
        raise DirectoryMissing(job.directory)
    if not _test(site, "-w", job.directory, deadline):
        raise NoOutput(job.directory)
    words = [*_USER, "/bin/bash", "-lc", _script(job)]
    log, environment = site.folder / "jobs.log", _environment(site, job.user)
    return Running(site.namespace.spawn(words, log, mounts=True, env=environment))


def runs_on_frontend(job: Job) -> bool:
    """Do a job's commands run on the frontend, and not on its first node?"""
    return bool({kind.partition("=")[0] for kind in job.types} & ON_FRONTEND)


def _script(job: Job) -> str:
    """What runs on the frontend as the user: the command itself, or an ssh that takes it to the first node.

    A script lies beside the job's output, as on the real site; homes are not mounted on the nodes, so it is sent there.
    """
    name = f"OAR.{job.name}.{job.id}" if job.name else f"OAR.{job.id}"
    nodefile = f"{job.directory}/.oar-nodes-{job.id}"
    listed = "".join(f"{resource.address}\n" for resource in job.assigned if resource.type == "default")
    command = job.command or ":"
    lines = [
        f"cd {shlex.quote(job.directory)} || exit 1",
        f"printf %s {shlex.quote(listed)} > {shlex.quote(nodefile)}",
        f"trap {shlex.quote(f'rm -f {shlex.quote(nodefile)}')} EXIT",
        f"export OAR_NODEFILE={shlex.quote(nodefile)} OAR_NODE_FILE={shlex.quote(nodefile)} {exports(job)}",
    ]
    if job.script is not None:
        file = shlex.quote(command)
        lines.append(f"printf '%s\\n' {shlex.quote(job.script)} > {file}; chmod +x {file}")
    if not runs_on_frontend(job) and job.nodes:
        body = job.script if job.script is not None else command
        remote = shlex.quote(f"export {exports(job)}; bash -s; s=$?; [ $s -ne {GONE} ] || s=1; exit $s")
        command = f"printf '%s\\n' {shlex.quote(body)} | ssh -o BatchMode=yes {job.nodes[0]} {remote}"
        # A node that left its kernel tells nobody how the command ended: the job goes on until it is killed
        command += f"; s=$?; [ $s -ne {GONE} ] || exec sleep infinity; exit $s"
    lines.append(f"( {command}\n) > {shlex.quote(name + '.stdout')} 2> {shlex.quote(name + '.stderr')}")
    return "\n".join(lines)


def exports(job: Job) -> str:
    """The variables that a job's commands find, as words for the shell's `export`."""
    values = {
        "OAR_JOB_ID": str(job.id),
        "OAR_JOBID": str(job.id),
        "OAR_JOB_NAME": job.name or "",
        "OAR_ARRAY_ID": str(job.array),
        "OAR_ARRAYID": str(job.array),
        "OAR_ARRAY_INDEX": str(job.array_index),
        "OAR_ARRAYINDEX": str(job.array_index),
        "OAR_PROJECT_NAME": job.project,
        "OAR_JOB_WALLTIME_SECONDS": str(job.walltime),
        "OAR_USER": job.user,
        "OAR_WORKING_DIRECTORY": job.directory,
    }
    return " ".join(f"{key}={shlex.quote(value)}" for key, value in values.items())


def _environment(site: Site, user: str) -> dict[str, str]:
    path = "/run/site/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"HOME": f"/home/{user}", "USER": user, "LOGNAME": user, "PATH": path, "HOSTNAME": site.hostname}
