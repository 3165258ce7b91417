"""Where the project's own data is: beside the package in a checkout, inside it once installed."""

from __future__ import annotations

from pathlib import Path

from g5kdeploy.base.problem import Problem

_PACKAGE = Path(__file__).resolve().parents[1]


def data(name: str) -> Path:
    """The folder of that name (`nix`, `bpf`, `composition`) with the project's files."""
    for place in (_PACKAGE.parent / name, _PACKAGE / "_data" / name):
        if place.is_dir() and (place.parent != _PACKAGE.parent or (_PACKAGE.parent / "pyproject.toml").exists()):
            return place
    raise Problem(f"this installation of g5kdeploy has no `{name}`", hint="install it again: pip install g5kdeploy")
