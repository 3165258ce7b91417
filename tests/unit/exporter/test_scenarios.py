"""Whoever adds a program makes its events happen in a machine, too."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[2]
GUEST = TESTS / "vm" / "guest"
WITHOUT_SERVER = {"ceph", "cifs"}
"""No machine here serves these filesystems: what can be seen is that the programs are attached, and that is seen."""


def programs_of_scenarios(file: Path) -> Iterator[str]:
    """Those that a script's scenarios are for: by the function's name, or as the decorator tells them."""
    for node in ast.walk(ast.parse(file.read_text())):
        for decorator in node.decorator_list if isinstance(node, ast.FunctionDef) else []:
            match decorator:
                case ast.Attribute(attr="scenario"):
                    yield node.name
                case ast.Call(func=ast.Name(id="scenario"), args=programs):
                    yield from map(ast.literal_eval, programs)
    yield from re.findall(r'"\{name: (\w+), mode: \w+\}"', file.read_text())  # the ways of the mock


def test_every_program_has_a_scenario() -> None:
    made = {program for file in GUEST.glob("*.py") for program in programs_of_scenarios(file)}
    programs = {source.name.removesuffix(".bpf.c") for source in (TESTS.parent / "bpf").glob("*.bpf.c")}
    missing = programs - made - WITHOUT_SERVER
    assert not missing, f"no scenario in {GUEST} makes the events of {sorted(missing)}"
