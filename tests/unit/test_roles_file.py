"""Mistakes in roles.nix are told before anything is built."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.roles_file import mistakes
from g5kdeploy.closure import programs
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.experiment import load
from g5kdeploy.workflow import building

needs_nix = pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="needs Nix")


def soon() -> Deadline:
    return Deadline.after(120, "a look at roles.nix")


def test_every_mistake_is_told_with_what_was_meant(tmp_path: Path) -> None:
    (tmp_path / "statx.yaml").write_text("")
    (tmp_path / "statx_mock.load.yaml").write_text("")
    good = {"keys": ["packages"], "services": {"load": ["command", "timeout"]}, "programs": ["statx", "statx_mock"]}
    bad = {"keys": ["pakages", "x"], "services": {"load": ["comand"]}, "programs": ["stats"]}
    assert mistakes({"server": good}, tmp_path) == []
    assert mistakes({"server": good, "client": bad}, tmp_path) == [
        "role client has no key `pakages` (did you mean `packages`?)",
        "role client has no key `x`",
        "service load of role client has no key `comand` (did you mean `command`?)",
        "service load of role client has no `command`",
        "role client: there is no BPF program `stats` (did you mean `statx`?)",
    ]


@needs_nix
@pytest.mark.parametrize(
    ("text", "what", "cause"),
    [
        ("{ roles.server = {", "cannot be evaluated", "syntax error, unexpected end of file"),
        ("{ roles.server = { packages = [ nosuch ]; }; }", "cannot be evaluated", "undefined variable 'nosuch'"),
        ("{ roles.server.pakages = [ ]; }", "says what means nothing", "did you mean `packages`?"),
        ("{ roles.server.services.a = { }; }", "says what means nothing", "service a of role server has no `command`"),
        ("{ roles.client = { }; }", "has no role server", "it has: client"),
    ],
)
def test_a_wrong_file_is_told_in_words_and_with_its_own_name(tmp_path: Path, text: str, what: str, cause: str) -> None:
    (tmp_path / "roles.nix").write_text(text)
    with pytest.raises(InvalidUse) as caught:
        programs(tmp_path, ["server"], soon())
    assert f"{tmp_path / 'roles.nix'} {what}" in caught.value.what
    assert cause in caught.value.cause
    assert "--show-trace" not in caught.value.cause


@needs_nix
def test_programs_that_no_role_serves_are_told_before_the_build(tmp_path: Path) -> None:
    (tmp_path / "roles.nix").write_text('{ roles.server.programs = [ "statx" ]; roles.other.programs = [ "tcp" ]; }')
    file = tmp_path / "experiment.yaml"
    head = "apiVersion: g5kdeploy/v1\nname: x\nroles: {server: {nodes: 1}}\n"
    file.write_text(head + "exporter: {programs: [tcp]}\n")
    session = SimpleNamespace(experiment=load(file), deadline=lambda seconds, what: Deadline.after(seconds, what))
    with pytest.raises(InvalidUse, match="no role serves tcp") as caught:
        building.build(cast("Any", session))  # which has nothing to build with
    assert caught.value.cause == "exporter.programs asks for it, the composition has: statx"


@needs_nix
def test_our_own_files_have_no_mistake() -> None:
    assert programs(data("composition") / "statx", ["exporter", "collector"], soon()) == {"statx", "statx_mock"}
