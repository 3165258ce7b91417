"""The way to a node: gateways, chains of them, other ways."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from g5kdeploy.node import (
    Reach,
    Result,
    Unreachable,
    fan_out,
    wire,
)
from g5kdeploy.node.link import PROXIES
from tests.support.reaching import Site, block, own_home, server, soon


def test_one_connection_to_the_gateway_serves_all_nodes(site: Site, reach: Reach) -> None:
    before = site.gateway.connections, [node.connections for node in site.nodes]
    answers = fan_out(["n1", "n2"] * 3, lambda name: reach.remote(name, site.user).run("echo $$", soon()))
    assert all(isinstance(answer, Result) for answer in answers.values()), answers
    assert site.gateway.connections == before[0] + 1
    assert [node.connections for node in site.nodes] == [count + 1 for count in before[1]]


def test_a_gateway_that_was_cut_is_reached_again(site: Site, reach: Reach) -> None:
    def work(name: str) -> str:
        return reach.remote(name, site.user).run("echo here", soon()).stdout

    for _ in range(4):
        assert fan_out(["n1", "n2"], work) == {"n1": "here\n", "n2": "here\n"}
        assert site.gateway.cut() > 0
        assert fan_out(["n1", "n2"], work) == {"n1": "here\n", "n2": "here\n"}
        site.nodes[0].cut()
        site.gateway.cut()


def test_a_chain_of_gateways(site: Site, tmp_path: Path) -> None:
    second = server(site, tmp_path)
    key = f"IdentityFile {site.key}"
    try:
        with own_home(
            tmp_path,
            block("one", site.gateway, key),
            block("two", second, key, "ProxyJump one"),
            block("three", site.nodes[0], key, "ProxyJump two"),
        ) as reach:
            assert reach.remote("three", None).run("echo deep", soon()).stdout == "deep\n"
            assert second.connections == 1
    finally:
        second.close()


def test_a_node_that_does_not_listen_is_not_blamed_on_the_gateway(site: Site, tmp_path: Path) -> None:
    away = server(site, tmp_path)
    away.refuse()
    key = f"IdentityFile {site.key}"
    with (
        own_home(tmp_path, block("gate", site.gateway, key), block("away", away, key, "ProxyJump gate")) as reach,
        pytest.raises(Unreachable, match="cannot be reached through gate"),
    ):
        reach.remote("away", None).run("true", soon())


def test_a_proxy_command_is_another_way(site: Site, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.py"
    pipe.write_text(
        "import socket, sys, threading, os\n"
        "s = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def up():\n"
        "    while d := os.read(0, 65536): s.sendall(d)\n"
        "    s.shutdown(1)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while d := s.recv(65536): os.write(1, d)\n"
    )

    command = f"ProxyCommand {sys.executable} -S {pipe} %p"
    with own_home(tmp_path, block("n", site.nodes[0], command, f"IdentityFile {site.key}")) as reach:
        assert reach.remote("n", None).run("echo piped", soon()).stdout == "piped\n"


def test_a_proxy_command_that_ends_is_no_way(site: Site, tmp_path: Path) -> None:
    """It is noticed: four handshakes that are only slow would take longer than this."""
    with (
        own_home(tmp_path, block("n", site.nodes[0], "ProxyCommand exit 1", f"IdentityFile {site.key}")) as reach,
        pytest.raises(Unreachable, match="cannot be reached"),
    ):
        reach.remote("n", None).run("true", soon(3 * wire.HANDSHAKE))


def test_the_block_that_grid5000_tells_its_users_to_write_is_understood(site: Site, tmp_path: Path) -> None:
    """A command that the shell has to read, for the short names alone; and few at the same moment."""
    count = tmp_path / "count"
    count.mkdir()
    pipe = tmp_path / "pipe"
    pipe.write_text(
        f"#!{sys.executable} -S\n"
        "import os, socket, sys, threading\n"
        f"mark = {str(count)!r} + '/' + str(os.getpid())\n"
        "assert sys.argv[1].endswith('.lab:22'), sys.argv\n"
        "os.mkdir(mark)\n"
        f"most = {str(tmp_path)!r} + '/most'\n"
        f"now = sum(os.path.exists('/proc/' + pid) for pid in os.listdir({str(count)!r}))\n"
        "os.open(most + '-' + str(now), os.O_CREAT)\n"
        f"s = socket.create_connection(('127.0.0.1', {site.nodes[0].port}))\n"
        "def up():\n"
        "    while d := os.read(0, 65536): s.sendall(d)\n"
        "    s.shutdown(1)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "first = s.recv(65536)\n"
        "os.rmdir(mark)\n"
        "os.write(1, first)\n"
        "while d := s.recv(65536): os.write(1, d)\n"
    )
    pipe.chmod(0o755)
    text = (
        f"Host *.g5k\n User {site.user}\n IdentityFile {site.key}\n"
        f' ProxyCommand {pipe} "$(basename %h .g5k):%p"\n'
        f"Host vm-99.lab.grid5000.fr\n ProxyJump none\n"
    )
    with own_home(tmp_path, text) as reach:
        names = [f"vm-{number}.lab.grid5000.fr" for number in range(1, 17)]
        answers = fan_out(names, lambda name: reach.remote(name, site.user).run("echo over", soon()).stdout)
        assert answers == dict.fromkeys(names, "over\n")
        most = max(int(path.name.removeprefix("most-")) for path in tmp_path.glob("most-*"))
        assert most <= PROXIES
