"""What oarsub, oarstat and the others on a frontend ask: the words go to the scheduler, a terminal goes to the job."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from g5kdeploy.lab.oar import Job, Scheduler
from g5kdeploy.lab.oar.model import FINAL_STATES
from g5kdeploy.lab.oar.shell import Shell
from g5kdeploy.lab.oar.submission import Read
from g5kdeploy.lab.site.jobscript import exports, folder, on_node, runs_on_frontend

POLL_SECONDS = 0.5


class OarCommands:
    """Answers the requests of `user`; `now()` is the time, in unix seconds, `read_file` reads what lies on the frontend."""

    def __init__(self, scheduler: Scheduler, user: str, now: Callable[[], float], read_file: Read) -> None:
        self._scheduler, self._user = scheduler, user
        self._shell = Shell(scheduler, now, read_file)

    def __call__(self, request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """What to print (`text`, `warning`), to `run` in the terminal, the job that `ends` with it, and the exit `status`."""
        words = [str(word) for word in request["words"]]
        directory = str(request.get("directory", ""))
        home = f"/home/{self._user}"
        said = self._shell.run(str(request["command"]), words, self._user, "" if directory == home else directory)
        if said.out:
            yield {"text": said.out}
        if said.err:
            yield {"warning": said.err}
        if said.connect:
            if said.ends:
                yield {"ends": str(said.connect)}
            yield from self._terminal(said.connect)
        yield {"status": str(said.status)}

    def _terminal(self, number: int) -> Iterator[dict[str, str]]:
        """Wait for a job's start, then say what puts a terminal where its commands run."""
        last = ""
        while True:
            job = self._scheduler.job(number)
            if job is None or job.state in FINAL_STATES:
                yield {"warning": f"# Error: job {number} is over before a terminal was there.\n", "status": "11"}
                return
            if job.state == "Running":
                yield {"text": "# Starting...\n"}
                yield {"run": _login(job)}
                return
            yield {"text": f"# {job.message}\n" if job.message != last else ""}  # whoever waits may have left
            last = job.message
            time.sleep(POLL_SECONDS)


def _login(job: Job) -> str:
    """The command of a terminal for a job: on the frontend for those of type deploy, else on the first node."""
    if runs_on_frontend(job) or not job.nodes:
        return f'export {exports(job, folder(job))}; exec "${{SHELL:-/bin/bash}}"'
    remote = f'{on_node(job)}; exec "${{SHELL:-/bin/bash}}" -l'
    return f"exec ssh -t {job.nodes[0]} {shlex.quote(remote)}"
