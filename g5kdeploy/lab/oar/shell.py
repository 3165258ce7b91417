"""OAR's commands for users, as a frontend has them: oarsub, oarstat, oardel, oarwalltime, oarnodes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from g5kdeploy.lab.oar import listing
from g5kdeploy.lab.oar.model import Job, Query, Refused, Scheduler
from g5kdeploy.lab.oar.options import BadOption, Given, read

_SUBMIT = (
    "resource|l=s queue|q=s interactive|I property|p=s reservation|r=s connect|C:i checkpoint=i help|h notify=s type|t=s"
    " directory|d=s name|n=s project=s hold array=i array-param-file=s anterior|a=i signal=i stdout|O=s stderr|E=s"
    " resubmit=i scanscript|S json|J use-job-key|k import-job-key-inline-priv=s import-job-key-from-file|i=s"
    " export-job-key-to-file|e=s version|V v"
)
_PASSED_ON = (
    "resource", "queue", "property", "reservation", "checkpoint", "notify", "type", "directory", "name", "project",
    "anterior", "signal", "stdout", "stderr",
)  # fmt: skip
_SEVERAL = ("resource", "type", "anterior")
_ABSENT = ("hold", "array", "array-param-file", "resubmit", "scanscript")
"""What the lab's scheduler has not."""
_STAT = "help|h version|V job|j:i full|f state|s user|u:s events|e properties|p json|J"
_NODES = "state|s help|h list|l json|J version|V"
_CHANGE = "force whole delay-next-jobs timeout=i help|h version|V"
_KEY = "# Error: you must set the --use-job-key (or -k) option in order to use other job key related options.\n"
_SYNTAX = "# Error: please verify your job submission syntax.\n"
_PRINTED = re.compile(r"# (?:Filtering|Set walltime|Advance|Reservation)|OAR_JOB_ID=")
_LARGEST = 2**31 - 1
"""Of the numbers that jobs can have."""
VERSION = "OAR version: 2.5.10 (the lab's)\n"

USAGES = {
    "oarsub": "oarsub [options] [-I|-C [<job id>]|-r <start date>[, <end date>]|<script>]",
    "oarstat": "oarstat [-J|-f|-s] [-j [job_id]] [-u [user]] | [-J] [-e|-p] [-j job_id]",
    "oardel": "oardel [options] <job_id> [<job_id> ...]",
    "oarwalltime": "oarwalltime [options] <job_id> [<[+/-]new walltime>]",
    "oarnodes": "oarnodes [-s|-l] [-J] [list of nodes]",
}
_SYNTAX_ERROR = f"Syntax error.\n\nUsage: {USAGES['oarwalltime']}\n"


@dataclass(frozen=True)
class Said:
    """What a command printed, and its exit status.

    `connect` is the job that wants a terminal where its commands run, or 0; `ends`: and that is over with it.
    """

    out: str = ""
    err: str = ""
    status: int = 0
    connect: int = 0
    ends: bool = False


@dataclass(frozen=True)
class _Caller:
    """Who gave a command, where he is ("": at home), and the whole line."""

    user: str
    directory: str
    line: str


class Shell:
    """Runs the commands against a scheduler. `now()` is the time, in unix seconds."""

    def __init__(self, scheduler: Scheduler, now: Callable[[], float]) -> None:
        self._scheduler, self._now = scheduler, now
        self._commands = {
            "oarsub": (_SUBMIT, self._submit),
            "oarstat": (_STAT, self._stat),
            "oardel": ("help|h version|V", self._delete),
            "oarwalltime": (_CHANGE, self._walltime),
            "oarnodes": (_NODES, self._nodes),
        }

    def run(self, name: str, words: Sequence[str], user: str, directory: str = "") -> Said:
        """Run a command of a user who is in that directory ("": at home)."""
        specs, command = self._commands[name]
        try:
            given = read(words, specs, passing=name == "oarwalltime")  # so that a change may begin with a minus
            if "help" in given:
                return Said(_usage(name))
            if "version" in given:
                return Said(VERSION)
            return command(given, _Caller(user, directory, " ".join([name, *words])))
        except BadOption as bad:
            return Said(err=str(bad), status=1)

    def _submit(self, given: Given, caller: _Caller) -> Said:
        interactive = "interactive" in given
        if absent := [name for name in _ABSENT if name in given]:
            return Said(err=f"# Error: the lab's scheduler has no --{absent[0]}.\n", status=1)
        if "connect" in given:
            return self._connect(given.last("connect"), caller.user)
        if len(given.rest) != 1 and not interactive and "reservation" not in given:
            return Said(_usage("oarsub"), status=5)
        if interactive and "reservation" in given:
            return Said(_usage("oarsub"), "# Error: a reservation cannot be interactive.\n", 7)
        if "import-job-key-from-file" in given and "use-job-key" not in given:
            return Said(err=_KEY + _SYNTAX, status=8)
        request: dict[str, object] = {
            name: given.every(name) if name in _SEVERAL else given.last(name) for name in _PASSED_ON if name in given
        }
        if caller.directory and "directory" not in given:
            request["directory"] = caller.directory
        request["command"] = "sleep infinity" if interactive else " ".join(given.rest) or None
        try:
            job = self._scheduler.submit(caller.user, request, caller.line)
        except Refused as refused:
            return _refusal(refused)
        return _accepted(job, interactive, "json" in given)

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

    def _stat(self, given: Given, caller: _Caller) -> Said:
        numbers = [_number(one) for one in given.every("job")]
        if "job" in given and not numbers:
            return Said(err="/!\\ ERROR: No job id provided in command line or environment variables\n", status=1)
        if "events" in given or "properties" in given or "state" in given:
            if not numbers:
                text = "--state can only be used with an id\n" if "state" in given else "No job specified\n"
                return Said(err=text, status=1)
            jobs = self._known(numbers)
            if "state" in given:
                return Said(listing.states(jobs, "json" in given))
            return Said(listing.events(jobs) if "events" in given else listing.properties(jobs))
        if numbers:
            jobs = self._known(numbers)
        else:
            whose = (given.last("user") or caller.user) if "user" in given else None
            every = (one for one in self._scheduler.current() if whose in (None, one.user))
            jobs = sorted(every, key=lambda one: one.id)
        if "json" in given:
            return Said(listing.as_json(jobs))
        return Said("".join(map(listing.full, jobs)) if "full" in given else listing.table(jobs, self._now()))

    def _known(self, numbers: Sequence[int]) -> list[Job]:
        return [job for number in numbers if (job := self._scheduler.job(number)) is not None]

    def _delete(self, given: Given, caller: _Caller) -> Said:
        if not given.rest:
            return Said(_usage("oardel"), status=1)
        out, err, status, registered = "", "", 0, []
        for word in given.rest:
            if not word.isdigit():
                err += f'[ERROR] "{word}" is not a valid job identifier\n'
                status = 4
                continue
            try:
                self._scheduler.delete(_number(word), caller.user)
            except Refused as refused:
                out += f"Deleting the job = {word} ...ERROR.\n"
                err += f"Cannot frag {word} ; {refused.message.partition(' ; ')[2].partition(chr(10))[0]}\n"
                status = refused.exit_code
            else:
                out += f"Deleting the job = {word} ...REGISTERED.\n"
                registered.append(word)
        if registered:
            out += f"The job(s) [ {' '.join(registered)} ] will be deleted in the near future.\n"
        return Said(out, err, status)

    def _walltime(self, given: Given, caller: _Caller) -> Said:
        asking = len(given.rest) == 1 and not given.values
        if not (asking or len(given.rest) == 2) or not given.rest[0].isdigit():
            return Said(_SYNTAX_ERROR, status=4)
        number = _number(given.rest[0])
        timeout = given.last("timeout")
        try:
            if asking:
                state = self._scheduler.walltime(number)
                job = self._scheduler.job(number)
                return Said(listing.walltime(state, job.state if job else ""))
            said = self._scheduler.change_walltime(
                number,
                caller.user,
                given.rest[1],
                force="force" in given,
                delay_next_jobs="delay-next-jobs" in given,
                whole="whole" in given,
                timeout=int(timeout) if timeout else None,
            )
        except Refused as refused:
            if refused.title == "Bad request":
                return Said(_SYNTAX_ERROR, status=4)
            return Said(f"{refused.title}: {_lower(refused.message)}.\n", status=refused.exit_code)
        return Said(f"Accepted: {_lower(said)}.\n")

    def _nodes(self, given: Given, _caller: _Caller) -> Said:
        found = [one for one in self._scheduler.resources() if one.address]
        if given.rest:
            found = [one for one in found if one.address in given.rest]
        if "list" in given:
            return Said("".join(f"{name}\n" for name in sorted({one.address for one in found})))
        if "json" in given:
            return Said(listing.resources_as_json(found))
        if not found:
            return Said("/!\\ No nodes to display...\n")
        return Said(listing.node_states(found) if "state" in given else listing.resources(found))


def _accepted(job: Job, interactive: bool, as_json: bool) -> Said:
    notices = "".join(f"{one.description}\n" for one in job.events if one.type == "ADM_RULES_MSG_OUT")
    if as_json:
        return Said(f'{{\n   "job_id" : {job.id}\n}}\n')
    text = f"{notices}OAR_JOB_ID={job.id}\n"
    if job.reservation != "None":
        text += "# Advance reservation request: waiting for validation...\n# Reservation valid --> OK\n"
    if interactive:
        return Said(f"{text}# Interactive mode: waiting...\n", connect=job.id, ends=True)
    return Said(text)


def _refusal(refused: Refused) -> Said:
    """What oarsub prints of a refusal: the rules' notices, and then to standard error what is wrong."""
    lines = refused.message.splitlines(keepends=True)
    out = "".join(one for one in lines if _PRINTED.match(one))
    return Said(out, "".join(one for one in lines if not _PRINTED.match(one)), refused.exit_code)


def _number(word: str) -> int:
    """A job's number; 0, which no job has, for what cannot be one."""
    number = int(word)
    return number if 0 < number <= _LARGEST else 0


def _usage(name: str) -> str:
    return f"Usage: {USAGES[name]}\n"


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
