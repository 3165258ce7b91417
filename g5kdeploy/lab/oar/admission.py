"""What may be submitted, as oarsub reads it; the site's rules come after (`siterules`)."""

from __future__ import annotations

import posixpath
import random
import re
import string
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from g5kdeploy.lab.oar import grammar
from g5kdeploy.lab.oar.grammar import Alternative, Reservation
from g5kdeploy.lab.oar.model import Refused
from g5kdeploy.lab.oar.text import duration

QUEUES = ("admin", "testing", "default", "production", "besteffort")
"""By falling priority."""

MISSING, FORBIDDEN = "No such file or directory", "Permission denied"
"""What the system says of a directory that cannot be used."""

_HARMLESS = re.compile(r"exec\s*:[a-zA-Z0-9_.\\/ -]+$", re.MULTILINE)
LATE = "# Error: please verify your job submission syntax.\n"
_OPTIONS: dict[str, tuple[str, ...]] = {
    "resource": ("resource", "resources"),
    "property": ("property", "properties"),
    "type": ("type",),
    "name": ("name",),
    "project": ("project",),
    "queue": ("queue",),
    "reservation": ("reservation",),
    "directory": ("directory", "workdir"),
    "notify": ("notify",),
    "signal": ("signal",),
    "checkpoint": ("checkpoint",),
    "stdout": ("stdout",),
    "stderr": ("stderr",),
    "import-job-key-from-file": ("import-job-key-from-file",),
    "anterior": ("anterior", "dependencies"),
    "hold": ("hold",),
}
_NUMBERS = ("anterior", "checkpoint", "signal")
_KNOWN = {key: option for option, keys in _OPTIONS.items() for key in keys}


@dataclass(frozen=True)
class Rules:
    """What one site's rules have and another's lack.

    `short`: filters may have short forms (`shortcuts`). `slashes`: `slash_22=1` alone asks for a subnet. `hours`: jobs of
    type day and night keep to theirs. `apart`: queue default leaves production clusters alone. `disk_days`: how long disks
    can be reserved, 0 for ever.
    """

    short: bool = False
    slashes: bool = False
    hours: bool = False
    apart: bool = False
    disk_days: int = 0


GRID5000 = Rules(short=True, slashes=True, hours=True, apart=True, disk_days=14)
"""What Grid'5000 documents, and the recorded site did not have."""


@dataclass
class Order:
    """A submission on its way through the rules."""

    user: str
    alternatives: list[Alternative]
    reservation: Reservation | None
    types: list[str]
    queue: str
    project: str
    name: str | None
    properties: str
    directory: str
    command: str | None
    script: str | None
    initial_request: str
    keyed: bool
    """Whether a job key is to be imported."""
    held: bool = False
    anterior: tuple[int, ...] = ()
    checkpoint: int = 0
    signal: int = 12
    notify: str = ""
    stdout: str = ""
    stderr: str = ""
    notices: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """What oarsub prints to standard error on the way."""
    resources: int = 0
    """How many resources the first alternative would take."""

    def has(self, name: str) -> bool:
        return any(text.partition("=")[0] == name for text in self.types)

    def output(self) -> str:
        """What oarsub has printed to standard output so far."""
        return "".join(f"{line}\n" for line in self.notices)

    def refuse(self, exit_code: int, text: str, status: int = 400) -> Refused:
        title = "Oar server error" if status == 500 else "Bad query"
        return Refused(status, exit_code, "".join(self.warnings) + self.output() + text, title)


def read(user: str, request: Mapping[str, object], now: float) -> Order:
    """Read a request as oarsub reads its command line. Raises `Refused`."""
    options, command, script = _options(request)
    notify = options.get("notify")
    if re.search(r"exec\s*:.", str(notify)) and not _HARMLESS.search(str(notify)):
        text = "insecure characters found in notification method (the allowed regexp is: [a-zA-Z0-9_.\\/ -]+)"
        raise Refused(400, 16, f"# Error: {text}.\n")
    resources = _texts(options.get("resource")) or [grammar.DEFAULT_REQUEST]
    alternatives = [grammar.parse(text) for text in resources]
    asked = options.get("reservation")
    reservation = None
    warnings = []
    if asked is not None and _texts(asked) != ["0"]:
        reservation = grammar.parse_reservation(str(asked), now)
        if reservation.end is not None:
            span = reservation.end - reservation.start
            warning = "# Warning: ignore reservation end date because walltime is set in resource description.\n"
            warnings = [warning for a in alternatives if a.walltime is not None]
            alternatives = [replace(a, walltime=span) if a.walltime is None else a for a in alternatives]
    if notify and not re.search(r"^\s*(\[\s*(.+)\s*\]\s*)?(mail|exec)\s*:.+$", str(notify), re.MULTILINE):
        raise Refused(500, 250, "# Error: bad syntax for the notify option\n", "Oar server error")
    for name, code in (("stdout", 244), ("stderr", 243)):
        file = _text(options, name)
        if file and not re.search(r"^[a-zA-Z0-9_./\-%\\ ]+$", file, re.MULTILINE):
            raise Refused(500, code, f"# Error: invalid {name} file name (bad character)\n", "Oar server error")
    return Order(
        user=user,
        alternatives=alternatives,
        reservation=reservation,
        types=_texts(options.get("type")),
        queue=_text(options, "queue") or "default",
        project=_text(options, "project") if "project" in options else "default",
        name=_text(options, "name") or None,
        properties=_text(options, "property"),
        directory=absolute(user, _text(options, "directory") or "~"),
        command=command,
        script=script,
        initial_request=_command_line(options, command),
        keyed="import-job-key-from-file" in options,
        held="hold" in options,
        anterior=tuple(map(int, _texts(options.get("anterior")))),
        checkpoint=int(_text(options, "checkpoint") or 0),
        signal=int(_text(options, "signal") or 12),
        notify=_text(options, "notify"),
        stdout=_text(options, "stdout"),
        stderr=_text(options, "stderr"),
        warnings=warnings,
    )


def check_directory(user: str, request: Mapping[str, object], directories: Callable[[str, str], str]) -> None:
    """OAR's REST API copies a script into the job's directory and goes there, before oarsub reads anything.

    `directories(user, path)` is "" for one that the user can write in, else the system's words. Raises `Refused`.
    """
    given = next((request[key] for key in ("directory", "workdir") if request.get(key) is not None), None)
    if given is None or (given == "" and request.get("script") is None):
        return
    path = at_home(user, str(given))
    trouble = directories(user, path or "/")
    if not trouble:
        return
    if request.get("script") is None:
        text = f"bash: line 1: cd: {path}: {trouble}\n"
    elif trouble == MISSING:
        text = f"cp: cannot create regular file '{path}/': Not a directory\n"
    else:
        text = f"cp: cannot create regular file '{path.rstrip('/')}/{script_name()}': {trouble}\n"
    raise Refused(500, 1, text, "Oar server error")


def at_home(user: str, path: str) -> str:
    """A path with the user's home in place of a tilde, as a shell has it."""
    return re.sub(f"^~({re.escape(user)})?(?=/|$)", f"/home/{user}", path, count=1)


def absolute(user: str, path: str) -> str:
    """Where a job is that went to a path: OAR asks the system."""
    return posixpath.normpath(at_home(user, path))


def script_name() -> str:
    """The name that OAR's REST API gives to a script in the job's directory."""
    letters = random.choices(string.ascii_letters + string.digits + "_", k=5)  # noqa: S311 - a file name
    return f"oarapi.subscript.{''.join(letters)}"


def _options(request: Mapping[str, object]) -> tuple[dict[str, object], str | None, str | None]:
    options: dict[str, object] = {}
    script = request.get("script")
    command = request.get("command") or request.get("script_path")
    for key, value in request.items():
        if key in ("script", "command", "script_path"):
            continue
        if key not in _KNOWN:
            raise Refused(500, 1, f"Unknown option: {key}\n", "Oar server error")
        if value is not None and (value != "" or key in ("reservation", "project")):
            options[_KNOWN[key]] = value
    if script is None and command is None and "reservation" not in options:
        text = "A job must have a script, a command (script_path) or must be a reservation!"
        raise Refused(400, 5, text, "Missing Required Field")
    for name in _NUMBERS:
        if wrong := [value for value in _texts(options.get(name)) if not re.fullmatch(r"[-+]?[0-9]+", value)]:
            text = f'Value "{wrong[0]}" invalid for option {name} (number expected)\n'
            raise Refused(500, 1, text, "Oar server error")
    as_text = None if script is None else " ".join(_texts(script))
    return options, None if command is None else " ".join(_texts(command)), as_text


def _texts(value: object) -> list[str]:
    if value is None or value == "":
        return []
    every = value if isinstance(value, list | tuple) else [value]
    return [str(int(one)) if isinstance(one, bool) else str(one) for one in every]


def _text(options: Mapping[str, object], name: str) -> str:
    """An option of one value; of several, the last one counts."""
    return next(reversed(_texts(options.get(name))), "")


def _command_line(options: Mapping[str, object], command: str | None) -> str:
    """The `initial_request` of a job from the REST API."""
    words = ["oarsub"]
    words += [f"--{name}={text}" for name in _OPTIONS for text in _texts(options.get(name))]
    return " ".join([*words, *([command] if command else [])])


def wanted(alternatives: Iterable[Alternative]) -> str:
    """The request after admission, as oarstat shows it."""
    return "".join(f'-l "{"+".join(map(str, a.groups))},walltime={duration(a.walltime or 0)}" ' for a in alternatives)
