"""Commands of jobs, really run: on the frontend for deploy and cosystem jobs, else on the first node."""

from __future__ import annotations

import contextlib
import logging
import os
import posixpath
import shlex
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from g5kdeploy.base import process
from g5kdeploy.base.clock import SYSTEM
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.oar.admission import FORBIDDEN, MISSING, at_home
from g5kdeploy.lab.oar.commands import play
from g5kdeploy.lab.oar.model import Command, DirectoryMissing, Job, NoOutput
from g5kdeploy.lab.oar.notices import Notice
from g5kdeploy.lab.oar.text import date
from g5kdeploy.lab.site import jobscript, standard
from g5kdeploy.lab.site.site import Site

KILLED = 15  # the wait status of a command that SIGTERM ended
_USER = ("setpriv", f"--reuid={standard.UID}", f"--regid={standard.UID}", "--clear-groups", "--")
_REMEMBER = 'echo $$ > "$0"; exec "$@"'
"""Keeps the number of the process that a program becomes, as the site sees it."""
_SECONDS = 30.0
"""For what is done beside a running command."""
RETRY = 5.0
"""Seconds after which a signal is sent again for which there was no process yet, as OAR does."""
_mailing = threading.Lock()

_log = logging.getLogger(__name__)


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

    def __init__(self, site: Site, job: Job, process: subprocess.Popen[bytes]) -> None:
        self._site, self._job, self._process = site, job, process

    def poll(self) -> int | None:
        code = self._process.poll()
        if code is None:
            return None
        return code << 8 if code >= 0 else -code

    def signal(self, number: int, told: str) -> None:
        """Send it to the shell that runs the command, and tell that in the job's errors; both beside the caller.

        A command that is only about to begin gets it once it has begun.
        """
        threading.Thread(target=self._signal, args=(number, told), daemon=True).start()

    def _signal(self, number: int, told: str) -> None:
        job = self._job
        if jobscript.runs_on_frontend(job):
            words = ["sh", "-c", f'kill -s {number} "$(cat "$0")"', f"{jobscript.folder(job)}/pid"]
        else:
            there = f"kill -s {number} $(cat {jobscript.there(job)}/pid)"
            words = [*_USER, "ssh", "-o", "BatchMode=yes", job.nodes[0], there]
        while self._process.poll() is None:
            done = _inform(self._site, job, words)
            if done is not None and done.returncode == 0:
                self._tell(told)
                return
            time.sleep(RETRY)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        threading.Thread(target=self._tell, args=("KILLED",), daemon=True).start()

    def _tell(self, what: str) -> None:
        """A line behind what the command wrote to its errors, as OAR has it."""
        _, errors = jobscript.output(self._job)
        line = f"## OAR [{date(time.time())}] Job {self._job.id} {what} ##"
        _inform(self._site, self._job, [*_USER, "sh", "-c", f"echo {shlex.quote(line)} >> {shlex.quote(errors)}"])


def _inform(site: Site, job: Job, words: list[str]) -> process.Done | None:
    """Run something small on the frontend; what goes wrong is in the daemon's log."""
    deadline = Deadline.after(_SECONDS, f"job {job.id}")
    try:
        done = process.run(
            [*site.namespace.enter(mounts=True), *words], deadline, check=False, env=_environment(site, job.user)
        )
    except (Problem, OSError) as error:
        _log.warning("job %d: %s", job.id, error)
        return None
    if done.returncode:
        _log.warning("job %d: %s ended with %d: %s", job.id, shlex.join(words), done.returncode, done.stderr.strip())
    return done


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
    if not jobscript.runs_on_frontend(job) and not set(job.nodes) <= site.nodes.keys():
        return play(job, again, SYSTEM)
    _write_files(site, job)
    if again or not job.command:
        return Lost()
    deadline = Deadline.after(20, f"the directory of job {job.id}")
    if not _test(site, "-d", job.directory, deadline):
        raise DirectoryMissing(job.directory)
    for file in dict.fromkeys(jobscript.output(job)):  # such as /dev/null, in a directory that is not the user's
        if not _test(site, "-w", file, deadline) and (
            _test(site, "-e", file, deadline) or not _test(site, "-w", posixpath.dirname(file), deadline)
        ):
            raise NoOutput(file)
    shell = ["/bin/bash", "-lc", jobscript.script(job)]
    words = ["sh", "-c", _REMEMBER, f"{jobscript.folder(job)}/pid", *_USER, *shell]
    log, environment = site.folder / "jobs.log", _environment(site, job.user)
    return Running(site, job, site.namespace.spawn(words, log, mounts=True, env=environment))


def _outside(site: Site, job: Job) -> Path:
    return site.folder / "jobs" / str(job.id)


def _write_files(site: Site, job: Job) -> None:
    folder = _outside(site, job)
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in jobscript.files(job).items():
        (folder / name).write_text(text)


def forget(site: Site, job: Job) -> None:
    """Remove what a job's commands were told in files, once it is over."""
    shutil.rmtree(_outside(site, job), ignore_errors=True)


def tell(site: Site, job: Job, notice: Notice) -> str:
    """Send a user a message: a mail into the mailbox beside the site's logs, or a command of his on the frontend.

    Returns what came of a command, in OAR's words; nothing for a mail.
    """
    if notice.by_mail:
        _mail(site.folder / "mail", job, notice, site.names.site)
        return ""
    about = (str(job.id), *([job.name] if job.name else []), notice.tag)
    done = _inform(site, job, [*_USER, *shlex.split(notice.target), *about, notice.text])
    status = done.returncode if done else jobscript.GONE
    ended = (status, 0) if status >= 0 else (0, -status)
    return (
        f"Launched user notification command: ssh -x -T {site.names.frontend} OARDO_BECOME_USER={job.user} oardodo "
        f'{notice.target} {job.id} {job.name or ""} {notice.tag} \\"{notice.text}\\" > /dev/null 2>&1; '
        "exit value = {}, signal num = {}, dumped core = 0".format(*ended)
    )


def _mail(box: Path, job: Job, notice: Notice, where: str) -> None:
    """Put a mail into a mailbox. Only this process writes there; the mailbox's own lock would refuse, not wait."""
    import mailbox
    from email.message import EmailMessage
    from email.utils import formatdate

    message = EmailMessage()
    message["From"], message["To"], message["Date"] = "oar", notice.target.strip(), formatdate(localtime=True)
    message["Subject"] = f"*OAR* [{notice.tag}]: {job.id} ({job.name or ''}) on {where}"
    message.set_content(notice.text)
    with _mailing, contextlib.closing(mailbox.mbox(box)) as boxed:
        boxed.add(message)


def _environment(site: Site, user: str) -> dict[str, str]:
    path = "/run/site/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
    return {"HOME": f"/home/{user}", "USER": user, "LOGNAME": user, "PATH": path, "HOSTNAME": site.hostname}
