"""oarsub: a command line, and what its script says, become jobs."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from g5kdeploy.lab.oar import script
from g5kdeploy.lab.oar.model import Job, Query, Refused, Scheduler
from g5kdeploy.lab.oar.options import Given
from g5kdeploy.lab.oar.said import Caller, Said, number, usage

OPTIONS = (
    "resource|l=s queue|q=s interactive|I property|p=s reservation|r=s connect|C:i checkpoint=i help|h notify=s type|t=s"
    " directory|d=s name|n=s project=s hold array=i array-param-file=s anterior|a=i signal=i stdout|O=s stderr|E=s"
    " resubmit=i scanscript|S json|J use-job-key|k import-job-key-inline-priv=s import-job-key-from-file|i=s"
    " export-job-key-to-file|e=s version|V v verbose"
)
_PASSED_ON = (
    "resource", "queue", "property", "reservation", "checkpoint", "notify", "type", "directory", "name", "project",
    "anterior", "signal", "stdout", "stderr",
)  # fmt: skip
_SEVERAL = ("resource", "type", "anterior")
_KEY = "# Error: you must set the --use-job-key (or -k) option in order to use other job key related options.\n"
_SYNTAX = "# Error: please verify your job submission syntax.\n"
_PRINTED = re.compile(r"# (?:Filtering|Set walltime|Advance|Reservation)|OAR_JOB_ID=|OAR_ARRAY_ID=")

Read = Callable[[str, str], str | None]
"""The text of a user's file, by its name and the directory that he is in; None when it cannot be read."""


class Submission:
    """Answers oarsub; `read` reads the files that it is told of."""

    def __init__(self, scheduler: Scheduler, read: Read) -> None:
        self._scheduler, self._read = scheduler, read

    def __call__(self, given: Given, caller: Caller) -> Said:
        """Do what the command line says."""
        interactive = "interactive" in given
        if "connect" in given:
            return self._connect(given.last("connect"), caller.user)
        if "resubmit" in given:
            return self._resubmit(number(given.last("resubmit") or ""), caller.user)
        if len(given.rest) != 1 and not (interactive or "reservation" in given or _is_noop(given)):
            return Said(usage("oarsub"), status=5)
        if interactive and "reservation" in given:
            return Said(usage("oarsub"), "# Error: a reservation cannot be interactive.\n", 7)
        if interactive and _is_noop(given):
            return Said(err="# Error: a noop job cannot be interactive.\n", status=17)
        warnings, line = "", caller.line
        if "scanscript" in given and given.rest and not interactive:
            file = given.rest[0].split(" ")[0]
            text = self._read(file, caller.directory)
            if text is None:
                return Said(err=f"[ERROR] Cannot open the file {file}.\n", status=12)
            lines = script.option_lines(text)
            try:
                warnings = script.merge(given, lines, file)
            except script.BadScript as bad:
                return Said(err=str(bad), status=12)
            line += "".join(f"; {one}" for one in lines)
        if "import-job-key-from-file" in given and "use-job-key" not in given:
            return Said(err=warnings + _KEY + _SYNTAX, status=8)
        command = "sleep infinity" if interactive else " ".join(given.rest) or ("true" if _is_noop(given) else None)
        commands = self._array(given, command or "", caller)
        if isinstance(commands, Said):
            return commands
        request: dict[str, object] = {
            name: given.every(name) if name in _SEVERAL else given.last(name) for name in _PASSED_ON if name in given
        }
        if caller.directory and "directory" not in given:
            request["directory"] = caller.directory
        if "hold" in given:
            request["hold"] = True
        request["command"] = command
        try:
            job = self._scheduler.submit(caller.user, request, line, commands)
        except Refused as refused:
            return _refusal(refused, warnings)
        jobs = self.of_array(job.id) if len(commands) > 1 else [job]
        return _accepted(jobs, interactive, "json" in given, warnings)

    def of_array(self, wanted: int) -> list[Job]:
        """The jobs of an array, by number."""
        found = {one.id: one for one in self._scheduler.jobs(Query(arrays=[wanted])).jobs}
        return [found[one] for one in sorted(found)]

    def _array(self, given: Given, command: str, caller: Caller) -> Sequence[str] | Said:
        """The commands of an array's jobs; none where the job is one alone."""
        interactive, file = "interactive" in given, given.last("array-param-file")
        if file and interactive:
            text = "# Error: a parameter file-based array job cannot be interactive.\n"
            return Said(usage("oarsub"), text, 9)
        if file:
            text_of_it = self._read(file, caller.directory)
            if text_of_it is None:
                return Said(err=f"[ERROR] Cannot open the parameter file {file}.\n", status=12)
            commands = [f"{command} {one}" for one in script.parameters(text_of_it)]
        elif "array" in given:
            count = int(given.last("array") or 0)
            if interactive and count != 1:
                return Said(usage("oarsub"), "# Error: an array job cannot be interactive.\n", 8)
            commands = [command] * count
        else:
            return ()
        if not commands:
            return Said(usage("oarsub"), "# Error: an array job must have a positive number of sub-jobs.\n", 6)
        return commands

    def _resubmit(self, wanted: int, user: str) -> Said:
        heading = f"# Resubmitting job {wanted}..."
        try:
            again = self._scheduler.resubmit(wanted, user)
        except Refused as refused:
            return Said(heading, refused.message, refused.exit_code)
        return Said(f"{heading}# DONE\nOAR_JOB_ID={again.id}\n")

    def _connect(self, wanted: str | None, user: str) -> Said:
        running = self._scheduler.jobs(Query(users=[user], states=["Running"])).jobs
        if wanted is None and len(running) > 1:
            known = ", ".join(f"{one.id} ({one.name})" if one.name else str(one.id) for one in running)
            text = f"You have several running jobs. Please provide a job id.\nRunning jobs are: {known}\n"
            return Said(text)
        found = [one.id for one in running if wanted is None or one.id == int(wanted)]
        if found:
            return Said(f"# Connect to OAR job {found[0]} via the first node\n", connect=found[0])
        if wanted is None:
            return Said("No running jobs\n")
        return Said(err=f"# Error: job {wanted} is not running.\n", status=20)


def _is_noop(given: Given) -> bool:
    return any(one in ("noop", "noop=standby") for one in given.every("type"))


def _accepted(jobs: Sequence[Job], interactive: bool, as_json: bool, warnings: str) -> Said:
    first = jobs[0]
    if as_json:
        return Said("".join(f'{{\n   "job_id" : {one.id}\n}}\n' for one in jobs))
    notices = "".join(f"{one.description}\n" for one in first.events if one.type == "ADM_RULES_MSG_OUT")
    text = notices + "".join(f"OAR_JOB_ID={one.id}\n" for one in jobs)
    if len(jobs) > 1:
        text += f"OAR_ARRAY_ID={first.array}\n"
    if first.reservation != "None":
        text += "# Advance reservation request: waiting for validation...\n# Reservation valid --> OK\n"
    if interactive:
        return Said(f"{text}# Interactive mode: waiting...\n", warnings, connect=first.id, ends=True)
    return Said(text, warnings)


def _refusal(refused: Refused, warnings: str) -> Said:
    """What oarsub prints of a refusal: the rules' notices, and then to standard error what is wrong."""
    lines = refused.message.splitlines(keepends=True)
    out = "".join(one for one in lines if _PRINTED.match(one))
    return Said(out, warnings + "".join(one for one in lines if not _PRINTED.match(one)), refused.exit_code)
