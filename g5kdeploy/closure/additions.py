"""What composition.nix adds beyond roles.nix: a build without nixpkgs cannot have it, and says so."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from g5kdeploy.base import debian
from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.process import CommandFailed
from g5kdeploy.events.failure import InvalidUse

FILE = "composition.nix"


def additions(composition: Path, deadline: Deadline) -> dict[str, list[str]]:
    """Role → the NixOS options that composition.nix sets beside what roles.nix says; no composition.nix adds nothing.

    Raises `InvalidUse` with Nix's words when the file cannot be looked through.
    """
    file = composition / FILE
    if not file.is_file():
        return {}
    words: list[str | Path] = ["nix-instantiate", "--eval", "--strict", "--json"]
    words += [data("nix") / "debian" / "additions.nix", "--arg", "composition", str(file.absolute())]
    try:
        found: dict[str, list[str]] = json.loads(debian.nix(words, deadline).stdout)
    except CommandFailed as error:
        if error.done.returncode == 127:
            raise
        raise InvalidUse(
            f"{file} cannot be looked through without nixpkgs",
            cause=debian.complaint(error),
            hint="`additions: ignore` builds from roles.nix alone",
        ) from error
    return {role: options for role, options in found.items() if options}


def refuse(found: Mapping[str, Sequence[str]], roles: Sequence[str] | None) -> None:
    """Raise `InvalidUse` naming every role that cannot be built as its composition.nix wants it, and why."""
    wanted = {role: options for role, options in found.items() if roles is None or role in roles}
    if wanted:
        raise InvalidUse(
            f"{FILE} adds NixOS modules to {', '.join(wanted)}, and no nixpkgs is at hand to build them",
            cause="; ".join(f"{role}: {', '.join(options)}" for role, options in wanted.items()),
            hint="say it in roles.nix, or build without it: `additions: ignore` in the experiment file",
        )
