"""What servers say, made into sentences: OAR's refusals, admission notices, web pages, and garbage."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from g5kdeploy.base.text import clean

_FORWARDED = re.compile(r"^Request to (\S*) failed with status (\d+): ?(.*)$", re.DOTALL)
_COULD_RUN = re.compile(r"could run at (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)")
_COLUMN = re.compile(r'column "?([^"\s]+)"? does not exist')
_SQL = re.compile(r"DBD::Pg::\w+ \w+ failed: ERROR:\s+([^\n]*)")
_KO = re.compile(r"Reservation not valid --> KO \((.*)\)")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_NOTICE = re.compile(
    r"^# (Filtering out|Set walltime|Warning|INFO|HINT)|^HINT|^\[ADMISSION RULE\] (Modify|Set|Info)", re.IGNORECASE
)
_NOISE = re.compile(
    r"please verify your job submission syntax|waiting for validation|^OAR_JOB_ID=|^Oar server error|^LINE \d|^\s*\^"
)
_LONGEST = 600


@dataclass(frozen=True)
class Refusal:
    """Why OAR said no, in a sentence; the notices that came with it; when it could run instead (Paris time)."""

    reason: str
    notices: tuple[str, ...] = ()
    could_run_at: str = ""


def oar_message(body: str) -> str | None:
    """What OAR itself said, from an answer in which the API forwards it; None when it is none of OAR's."""
    match = _FORWARDED.match(body.strip())
    if match is None:
        return None
    try:
        inner = json.loads(match[3])
    except ValueError:
        return match[3].strip()
    return str(inner.get("message") or inner.get("title") or "") if isinstance(inner, dict) else match[3].strip()


def refusal(message: str) -> Refusal:
    """OAR's output when it refuses a submission, sorted into the reason and what merely came along."""
    lines = [line.rstrip() for line in clean(message).splitlines() if line.strip()]
    notices = tuple(line.lstrip("# ") for line in lines if _NOTICE.search(line))
    could = _COULD_RUN.search(message)
    if "There are not enough resources" in message:
        return Refusal("the site has not that many nodes of this kind", notices)
    if match := _COLUMN.search(message):
        return Refusal(f"the site knows no property or resource named {match[1]}", notices)
    if match := _SQL.search(message):
        return Refusal(f"the site cannot read the properties or resources asked for: {match[1]}", notices)
    if could:
        return Refusal(f"the nodes are taken then; it could run at {could[1]} (Paris time)", notices, could[1])
    if match := _KO.search(message):
        said = match[1]
        return Refusal(
            {
                "Reservation too old": "the start that was asked for has passed",
                "This reservation cannot run": "it cannot run in that window",
            }.get(said, said),
            notices,
        )
    if "You can only access the required resources in besteffort" in message:
        return Refusal("you may use these nodes in besteffort only: queue besteffort, or another cluster", notices)
    rest = [line for line in lines if not _NOTICE.search(line) and not _NOISE.search(line)]
    words = "; ".join(re.sub(r"^#\s*(Error:\s*)?|^\[ADMISSION RULE\] (Error: )?", "", line) for line in rest)
    return Refusal(_short(words) or "the site gave no reason", notices)


def sentence(body: str, content_type: str = "") -> str:
    """An error's body as one short sentence, whatever it is."""
    said = clean(body).strip()
    if not said:
        return "the answer is empty"
    if "html" in content_type.lower() or said[:300].lower().lstrip().startswith(("<!doctype", "<html")):
        title = _TITLE.search(said)
        return f"the answer is a web page{_titled(title[1]) if title else ''}, not one of the API"
    if (forwarded := oar_message(said)) is not None:
        return refusal(forwarded).reason if forwarded else "the site's scheduler gave no reason"
    if said.startswith("{"):
        try:
            value = json.loads(said)
        except ValueError:
            value = None
        if isinstance(value, dict) and (words := value.get("message") or value.get("error")):
            said = str(words)
    # Uncaught errors of the server drag an excerpt of its source along: the first paragraph says it all.
    return _short(said.split("\n\n")[0].replace("\n", " "))


def _titled(title: str) -> str:
    return f" ({_short(' '.join(title.split()), 80)})"


def _short(text: str, longest: int = _LONGEST) -> str:
    return text if len(text) <= longest else text[: longest - 1].rstrip() + "…"


def excerpt(body: bytes) -> str:
    """The beginning of something that is no text of ours, fit to be shown."""
    return _short(" ".join(clean(body[:200].decode(errors="replace")).split()), 80) or "nothing"
