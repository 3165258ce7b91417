"""The composition that the demo runs holds together: its four files name the same roles, programs and commands."""

from __future__ import annotations

import ast
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.debian import plan
from g5kdeploy.experiment.loading import load
from g5kdeploy.exporter.main import _parser

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "composition" / "statx"


@pytest.fixture(scope="module")
def roles() -> dict[str, Any]:
    words = ["nix-instantiate", "--eval", "--strict", "--json", str(FOLDER / "roles.nix"), "-A", "roles"]
    said = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout
    found: dict[str, Any] = json.loads(said)
    return found


def test_experiment_and_roles_name_the_same(roles: dict[str, Any]) -> None:
    experiment = load(FOLDER)
    assert set(experiment.roles) == set(roles)
    assert {name: role.nodes for name, role in experiment.roles.items()} == {n: r["count"] for n, r in roles.items()}
    assert experiment.benchmark is not None
    role = roles[experiment.benchmark.role]
    assert set(experiment.exporter.programs) == set(role["programs"])
    assert shlex.split(experiment.benchmark.command)[0] in role["binaries"]


def test_the_exporter_is_started_with_flags_that_it_has(roles: dict[str, Any]) -> None:
    command = roles["exporter"]["services"]["g5kdeploy-exporter"]["command"]
    words = shlex.split(command)
    assert words[1:3] == ["-m", "g5kdeploy_exporter"]
    options = _parser().parse_args(words[3:])
    assert options.names.split(",") == roles["exporter"]["programs"]
    assert options.address == f":{load(FOLDER).exporter.port}"
    for name in options.names.split(","):
        assert list((REPOSITORY / "bpf").glob(f"{name}.*yaml")), name


def test_both_builds_understand_the_roles(roles: dict[str, Any]) -> None:
    """The one without nixpkgs plans it; the NixOS form evaluates to the same roles and the same test script."""
    planned = plan(FOLDER / "roles.nix", Deadline.after(120, "the plan"))
    assert set(planned["roles"]) == set(roles)
    form = f"import {FOLDER}/composition.nix {{ }}"
    expression = f"let c = {form}; in {{ roles = builtins.attrNames c.roles; script = c.testScript; }}"
    words = ["nix-instantiate", "--eval", "--strict", "--json", "--expr", expression]
    said = json.loads(subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout)
    assert said == {"roles": sorted(roles), "script": (FOLDER / "test.py").read_text()}
    module = REPOSITORY / "nix" / "modules" / "role.nix"
    subprocess.run(["nix-instantiate", "--parse", str(module)], capture_output=True, timeout=120, check=True)


def test_the_test_script_uses_only_the_machines_that_there_are(roles: dict[str, Any]) -> None:
    tree = ast.parse((FOLDER / "test.py").read_text())
    machines = {
        node.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.attr.startswith(("wait", "succeed"))
    }
    assert machines - {"machine"} == set(roles)
