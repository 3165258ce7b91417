"""Two whole sites without their nodes, for the tests of this folder: real namespaces, sshd, dnsmasq, web servers."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.settings import Places, Settings
from g5kdeploy.lab.site import home
from g5kdeploy.lab.site.grid import Grid
from g5kdeploy.lab.site.site import Site
from g5kdeploy.lab.site.systems import System

Run = Callable[..., subprocess.CompletedProcess[str]]


def no_environment(name: str, deadline: Deadline) -> System:
    """What builds environments where none is wanted."""
    raise Problem(f"no environment {name} in this test")


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file in the place of /etc/hosts."""
    file = tmp_path_factory.mktemp("etc") / "hosts"
    file.write_text("127.0.0.1 localhost\n")
    patch = pytest.MonkeyPatch()
    patch.setattr(home.write_hosts, "__defaults__", (file,))
    patch.setattr(home.remove_hosts, "__defaults__", (file,))
    yield file
    patch.undo()


@pytest.fixture(scope="module")
def grid(hosts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Grid]:
    made = Grid(Settings(nodes=2, sites=1), Places(tmp_path_factory.mktemp("state") / "lab"), no_environment)
    try:
        made.start(Deadline.after(240, "the sites"))
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def site(grid: Grid) -> Site:
    return grid.first


@pytest.fixture(scope="module")
def run(site: Site) -> Run:
    """Run a command over SSH on a host of the site, or another program with the lab's SSH settings."""
    config = site.places.home / ".ssh" / "config"

    def call(host: str, command: str, *, program: str = "ssh", **more: str) -> subprocess.CompletedProcess[str]:
        words = [program, "-F", str(config), "-o", "BatchMode=yes"]
        words += [host, command] if program == "ssh" else ["-b", "-", host]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=False, **more)  # type: ignore[call-overload,no-any-return]

    return call
