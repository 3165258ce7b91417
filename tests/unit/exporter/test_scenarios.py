"""Whoever adds a program makes its events happen in a machine, too, and looks at each of its metrics."""

from __future__ import annotations

import ast
import itertools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import yaml

TESTS = Path(__file__).parents[2]
GUEST = TESTS / "vm" / "guest"
PROGRAMS = TESTS.parent / "bpf"
LOOKING = (
    *(TESTS / "vm").glob("test_*.py"),
    TESTS / "support" / "network_seen.py",
    TESTS / "integration" / "test_exporter_bcc.py",
)
"""The tests that look at what scenarios made happen."""
WITHOUT_SERVER = {"ceph", "cifs"}
"""No machine here serves these filesystems: what can be seen is that the programs are attached, and that is seen."""
NOT_YET = {"socket_memory_limits_total"}
"""What no scenario makes happen yet: more memory for sockets than all may have."""


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
    programs = {source.name.removesuffix(".bpf.c") for source in PROGRAMS.glob("*.bpf.c")}
    missing = programs - made - WITHOUT_SERVER
    assert not missing, f"no scenario in {GUEST} makes the events of {sorted(missing)}"


def words(tree: ast.Module) -> Iterator[str]:
    """The strings of a test; one with a field once for each value that the field is given in a list: of a loop or of parameters."""
    given = defaultdict(set)
    for node in ast.walk(tree):
        match node:
            case ast.Call(
                func=ast.Attribute(attr="parametrize"), args=[ast.Constant(value=name), ast.List(elts=values)]
            ):
                given[name] |= set(values)
            case ast.For(target=ast.Name(id=name), iter=ast.Tuple(elts=values)):
                given[name] |= set(values)
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=str(text)):
                yield text
            case ast.JoinedStr(values=parts):
                yield from map("".join, itertools.product(*(texts(part, given) for part in parts)))
            case ast.Call(func=ast.Attribute(attr="lost_nothing"), args=[_, *programs]):
                yield from (f"{ast.literal_eval(program)}_lost_total" for program in programs)


def texts(part: ast.expr, given: dict[str, set[ast.expr]]) -> set[str]:
    """What a part of an f-string can be, as far as it is written down."""
    match part:
        case ast.Constant(value=text):
            return {text}
        case ast.FormattedValue(value=ast.Name(id=name)) if name in given:
            return {value.value for value in given[name] if isinstance(value, ast.Constant)}
    return {" "}


def test_every_metric_is_looked_at() -> None:
    looked_at = {
        re.sub(r"^ebpf_exporter_|_(bucket|count|sum)$", "", name)
        for file in LOOKING
        for word in words(ast.parse(file.read_text()))
        for name in re.findall(r"\w+", word)
    }
    missing = [
        f"{file.stem}: {metric['name']}"
        for file in sorted(PROGRAMS.glob("*.yaml"))
        if file.stem not in WITHOUT_SERVER
        for metrics in (yaml.safe_load(file.read_text()).get("metrics") or {}).values()
        for metric in metrics
        if metric["name"] not in looked_at | NOT_YET
    ]
    assert not missing, f"no test looks at {missing}"
