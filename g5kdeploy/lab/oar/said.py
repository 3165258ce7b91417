"""What OAR's commands have in common: who asked, what is said, and how each is used."""

from __future__ import annotations

from dataclasses import dataclass

_LARGEST = 2**31 - 1
"""Of the numbers that jobs can have."""

USAGES = {
    "oarsub": "oarsub [options] [-I|-C [<job id>]|-r <start date>[, <end date>]|<script>]",
    "oarstat": "oarstat [-J|-Y|-f|-s] [-j [job_id]|--array array_id] [-u [user]] | [-J] [-e|-p] [-j job_id]",
    "oardel": "oardel [options] <job_id> [<job_id> ...]",
    "oarhold": "oarhold [--array] <job_id> [<job_id> ...]",
    "oarresume": "oarresume [--array] <job_id> [<job_id> ...]",
    "oarwalltime": "oarwalltime [options] <job_id> [<[+/-]new walltime>]",
    "oarnodes": "oarnodes [-s|-l] [-J|-Y] [list of nodes]",
}


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
class Caller:
    """Who gave a command, where he is ("": at home), and the whole line."""

    user: str
    directory: str
    line: str


def usage(name: str) -> str:
    """How a command is used, in a line."""
    return f"Usage: {USAGES[name]}\n"


def number(word: str) -> int:
    """A job's number; 0, which no job has, for what cannot be one."""
    found = int(word)
    return found if 0 < found <= _LARGEST else 0
