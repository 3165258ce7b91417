"""OAR's commands for users, as a frontend has them: oarsub, oarstat, oardel, oarhold, oarresume, oarwalltime, oarnodes."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

from g5kdeploy.lab.oar import listing
from g5kdeploy.lab.oar.model import Job, Refused, Scheduler
from g5kdeploy.lab.oar.options import BadOption, Given, read
from g5kdeploy.lab.oar.said import USAGES, Caller, Said, number, usage
from g5kdeploy.lab.oar.submission import OPTIONS, Read, Submission

_STAT = (
    "help|h version|V job|j:i full|f state|s user|u:s events|e properties|p json|J yaml|Y array:i"
    " compact|c gantt|g=s accounting=s sql=s xml|X dumper|D format=s"
)
_DELETE = "help|h version|V array checkpoint|c signal|s=s besteffort|b sql=s force-terminate-finishing-job"
_HOLD = "help|h version|V array sql=s running|r"
_RESUME = "help|h version|V array sql=s"
_NODES = "state|s help|h list|l json|J yaml|Y version|V sql=s resource|r=i xml|X dumper|D events|e=s"
_CHANGE = "force whole delay-next-jobs timeout=i help|h version|V"
_ABSENT = {
    "oarsub": ("xml", "yaml", "dumper"),
    "oarstat": ("compact", "gantt", "accounting", "sql", "xml", "dumper", "format"),
    "oardel": ("sql",),
    "oarhold": ("sql",),
    "oarresume": ("sql",),
    "oarnodes": ("sql", "resource", "xml", "dumper", "events"),
}
"""Options that the real commands have and these have not."""
_FOR_MASTERS = (
    ("force-terminate-finishing-job", 8, "--force-terminate-finishing-job"),
    ("besteffort", 8, "-b"),
)
"""Options of oardel that are not for users: exit status, and how it names them."""
VERSION = "OAR version: 2.5.10 (the lab's)\n"

_SYNTAX_ERROR = f"Syntax error.\n\nUsage: {USAGES['oarwalltime']}\n"


class Shell:
    """Runs the commands against a scheduler. `now()` is the time, in unix seconds; `read_file` reads files of users."""

    def __init__(
        self, scheduler: Scheduler, now: Callable[[], float], read_file: Read = lambda _name, _directory: None
    ) -> None:
        self._scheduler, self._now = scheduler, now
        self._submission = Submission(scheduler, read_file)
        hold = functools.partial(self._hold, scheduler.hold, "Hold")
        resume = functools.partial(self._hold, scheduler.resume, "Resume")
        self._commands: dict[str, tuple[str, Callable[[Given, Caller], Said]]] = {
            "oarsub": (OPTIONS, self._submission),
            "oarstat": (_STAT, self._stat),
            "oardel": (_DELETE, self._delete),
            "oarhold": (_HOLD, hold),
            "oarresume": (_RESUME, resume),
            "oarwalltime": (_CHANGE, self._walltime),
            "oarnodes": (_NODES, self._nodes),
        }

    def run(self, name: str, words: Sequence[str], user: str, directory: str = "") -> Said:
        """Run a command of a user who is in that directory ("": at home)."""
        specs, command = self._commands[name]
        try:
            given = read(words, specs, passing=name == "oarwalltime")  # so that a change may begin with a minus
            if "help" in given:
                return Said(usage(name))
            if "version" in given:
                return Said(VERSION)
            if absent := [one for one in _ABSENT.get(name, ()) if one in given]:
                return Said(err=f"{name}: the lab's scheduler has no --{absent[0]}.\n", status=1)
            return command(given, Caller(user, directory, " ".join([name, *words])))
        except BadOption as bad:
            return Said(err=str(bad), status=1)

    def _stat(self, given: Given, caller: Caller) -> Said:
        numbers = [number(one) for one in given.every("job")]
        array = int(given.last("array") or 0)
        if array and numbers:
            text = "/!\\ ERROR: Conflicting Job IDs and Array IDs (--array and -j cannot be used together)\n"
            return Said(err=text, status=1)
        if "job" in given and not numbers:
            return Said(err="/!\\ ERROR: No job id provided in command line or environment variables\n", status=1)
        of_array = self._submission.of_array(array) if array else []
        if "events" in given or "properties" in given or "state" in given:
            if not numbers and not array:
                text = "--state can only be used with an id\n" if "state" in given else "No job specified\n"
                return Said(err=text, status=1)
            jobs = of_array or self._known(numbers)
            if "state" in given:
                return Said(listing.states(jobs, "json" in given))
            return Said(listing.events(jobs) if "events" in given else listing.properties(jobs))
        if numbers or array:
            jobs = of_array or self._known(numbers)
        else:
            whose = (given.last("user") or caller.user) if "user" in given else None
            every = (one for one in self._scheduler.current() if whose in (None, one.user))
            jobs = sorted(every, key=lambda one: one.id)
        if "json" in given or "yaml" in given:
            return Said(listing.document(jobs, as_yaml="yaml" in given))
        if "full" in given:
            return Said("".join(map(listing.full, jobs)))
        return Said(listing.table(jobs, self._now(), arrays="array" in given))

    def _known(self, numbers: Sequence[int]) -> list[Job]:
        return [job for one in numbers if (job := self._scheduler.job(one)) is not None]

    def _wanted(self, given: Given) -> tuple[list[str], str]:
        """The jobs that are meant, those of arrays with `--array`; and what is wrong with the words."""
        wanted: list[str] = []
        wrong = ""
        for word in given.rest:
            if not word.isdigit():
                kind = "job array identifier" if "array" in given else "job identifier"
                wrong += f'[ERROR] "{word}" is not a valid {kind}\n'
            elif "array" not in given:
                wanted.append(word)
            elif found := self._submission.of_array(number(word)):
                wanted += [str(one.id) for one in found]
            else:
                wrong += f'[ERROR] "{word}" is not a valid array job\n'
        return wanted, wrong

    def _delete(self, given: Given, caller: Caller) -> Said:
        if not given.rest:
            return Said(usage("oardel"), status=1)
        wanted, err = self._wanted(given)
        if "checkpoint" in given or "signal" in given:
            name = None if "checkpoint" in given else given.last("signal")
            return self._signal(wanted, caller.user, name, err)
        for option, status, said in _FOR_MASTERS:
            if option in given:
                return Said(err=f"{err}You must be oar or root to use the {said} option\n", status=status)
        out, status, registered = "", 4 if err else 0, []
        for one in wanted:
            try:
                self._scheduler.delete(number(one), caller.user)
            except Refused as refused:
                out += f"Deleting the job = {one} ...ERROR.\n"
                err += f"Cannot frag {one} ; {refused.message.partition(' ; ')[2].partition(chr(10))[0]}\n"
                status = refused.exit_code
            else:
                out += f"Deleting the job = {one} ...REGISTERED.\n"
                registered.append(one)
        if registered:
            out += f"The job(s) [ {' '.join(registered)} ] will be deleted in the near future.\n"
        return Said(out, err, status)

    def _signal(self, wanted: Sequence[str], user: str, name: str | None, err: str) -> Said:
        """Signals for jobs: checkpoints where no name is given."""
        out, status = "", 4 if err else 0
        for one in wanted:
            begin = (
                f"Checkpointing the job {one} ..." if name is None else f"Signaling the job {one} with {name} signal.\n"
            )
            what = "checkpoint" if name is None else "signal"
            try:
                host = self._scheduler.signal(number(one), user, name)
            except Refused as refused:
                out += f"{begin}ERROR.\n"
                err += f"Cannot {what} {one} ; {refused.message}\n"
                status = refused.exit_code
            else:
                how = "checkpoint itself" if name is None else f"signal itself with {name}"
                out += f"{begin}DONE.\nThe job {one} was notified to {how} on {host}.\n"
        return Said(out, err, status)

    def _hold(self, do: Callable[[int, str], None], word: str, given: Given, caller: Caller) -> Said:
        if not given.rest:
            return Said(usage(f"oar{word.lower()}"), status=1)
        wanted, err = self._wanted(given)
        out, status = "", 2 if err else 0
        for one in wanted:
            if "running" in given and (why := self._runs_on(number(one), caller.user)):
                err += why if why.startswith("This") else f"/!\\ Cannot hold {one}: {why}.\n"
                status = 2 if why.startswith("This") else 1
                continue
            try:
                do(number(one), caller.user)
            except Refused as refused:
                err += refused.message
                status = refused.exit_code
            else:
                out += f"[{one}] {word} request was sent to the OAR server.\n"
        return Said(out, err, status)

    def _runs_on(self, wanted: int, user: str) -> str:
        """Why a job that may run already cannot be held; "" for a master's wish."""
        job = self._scheduler.job(wanted)
        kinds = {kind.partition("=")[0] for kind in job.types} if job else set()
        for kind in ("cosystem", "deploy"):
            if kind in kinds:
                return f"This job is of the {kind} type. We cannot suspend this kind of jobs.\n"
        if job and user not in ("root", "oar"):
            return "only oar or root users can use '-r' option"
        return ""

    def _walltime(self, given: Given, caller: Caller) -> Said:
        asking = len(given.rest) == 1 and not given.values
        if not (asking or len(given.rest) == 2) or not given.rest[0].isdigit():
            return Said(_SYNTAX_ERROR, status=4)
        wanted = number(given.rest[0])
        timeout = given.last("timeout")
        try:
            if asking:
                state = self._scheduler.walltime(wanted)
                job = self._scheduler.job(wanted)
                return Said(listing.walltime(state, job.state if job else ""))
            said = self._scheduler.change_walltime(
                wanted,
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

    def _nodes(self, given: Given, _caller: Caller) -> Said:
        found = [one for one in self._scheduler.resources() if one.address]
        if given.rest:
            found = [one for one in found if one.address in given.rest]
        if "list" in given:
            return Said("".join(f"{name}\n" for name in sorted({one.address for one in found})))
        if "json" in given or "yaml" in given:
            return Said(listing.resource_document(found, as_yaml="yaml" in given))
        if not found:
            return Said("/!\\ No nodes to display...\n")
        return Said(listing.node_states(found) if "state" in given else listing.resources(found))


def _lower(text: str) -> str:
    return text[0].lower() + text[1:]
