"""What a job's user is told of its life, where he asked for it: `oarsub --notify [END,ERROR]mail:me@here`."""

from __future__ import annotations

import re
from typing import NamedTuple

OF_STATES = {
    "Running": ("RUNNING", "Job is running."),
    "Terminated": ("END", "Job stopped normally."),
    "Error": ("ERROR", "Job stopped abnormally or an OAR error occured."),
}
"""The tag and the words of the states that are told; OAR's own spelling."""
ASKED = "INFO"
"""The tag of what others want of the job."""

_TAGS = re.compile(r"^\s*\[\s*(.+)\s*\]\s*(mail|exec)\s*:.+$", re.MULTILINE)
_MAIL = re.compile(r"^.*mail\s*:(.+)$", re.MULTILINE)
_EXEC = re.compile(r"^.*exec\s*:([a-zA-Z0-9_./ -]+)$", re.MULTILINE)


class Notice(NamedTuple):
    """One message: a mail to an address, or a command with these words behind it."""

    by_mail: bool
    target: str
    tag: str
    text: str


def notice(method: str, tag: str, text: str) -> Notice | None:
    """The message that is to be sent; None when nobody asked for one of that kind."""
    wanted = _TAGS.search(method)
    if wanted and tag not in (re.sub(r"\s", "", one).upper() for one in wanted[1].split(",")):
        return None
    if mail := _MAIL.search(method):
        return Notice(True, mail[1], tag, text)
    if command := _EXEC.search(method):
        return Notice(False, command[1], tag, text)
    return None
