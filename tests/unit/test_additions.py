"""What composition.nix adds, named without nixpkgs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.closure.additions import additions, refuse
from g5kdeploy.closure.build import build
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import ExitCode, InvalidUse

pytestmark = pytest.mark.skipif(shutil.which("nix-instantiate") is None, reason="needs Nix")

HEAD = f"""
{{ pkgs, lib, ... }}:
let spec = import ./roles.nix; node = import {data("nix")}/modules/role.nix; in
"""
ROLES = '{ roles.one = { packages = [ "curl" ]; files = { }; services = { }; }; roles.two = { packages = [ ]; }; }'


@pytest.fixture
def composition(tmp_path: Path) -> Path:
    (tmp_path / "roles.nix").write_text(ROLES)
    return tmp_path


def soon() -> Deadline:
    return Deadline.after(120, "a look through a composition")


def write(composition: Path, text: str) -> None:
    (composition / "composition.nix").write_text(HEAD + text)


@pytest.mark.parametrize("name", ["statx"])
def test_the_projects_own_compositions_add_nothing(name: str) -> None:
    assert additions(data("composition") / name, soon()) == {}


def test_none_is_needed(composition: Path) -> None:
    assert additions(composition, soon()) == {}


def test_options_are_named_two_levels_deep_and_values_are_left_alone(composition: Path) -> None:
    (composition / "more.nix").write_text("{ lib, ... }: { config = lib.mkIf true { users.users.x = { }; }; }")
    write(
        composition,
        """{ roles = {
          one = { config, pkgs, ... }: {
            imports = [ (node spec.roles.one) ./more.nix ];
            services.nginx.enable = lib.mkIf config.not.there true;
            environment.systemPackages = with pkgs; [ htop ];
            boot.kernelPackages = pkgs.linuxPackagesFor (pkgs.linux_latest.override { });
            networking = lib.mkMerge [ { firewall.enable = true; } ];
          };
          two = node spec.roles.two;
        }; testScript = ""; }""",
    )
    expected = [
        "boot.kernelPackages", "environment.systemPackages", "networking.firewall", "services.nginx", "users.users",
    ]  # fmt: skip
    assert additions(composition, soon()) == {"one": expected}


def test_a_role_with_additions_is_refused_by_name(composition: Path) -> None:
    write(composition, "{ nodes.one = { imports = [ (node spec.roles.one) ]; services.nginx.enable = true; }; }")
    with pytest.raises(InvalidUse, match=r"adds NixOS modules to one.*one: services\.nginx") as caught:
        build(composition, None, soon(), Emitter())
    assert caught.value.code is ExitCode.USAGE
    assert "additions: ignore" in caught.value.hint


def test_another_role_is_not_refused_for_it() -> None:
    refuse({"one": ["services.nginx"]}, ["two"])


def test_a_file_that_nix_cannot_read_is_told_with_its_words(composition: Path) -> None:
    write(composition, "{ roles = ")
    with pytest.raises(InvalidUse, match="syntax error"):
        additions(composition, soon())
