"""Waiting for a node, its ports here, and the same way for OpenSSH."""

from __future__ import annotations

import http.server
import queue
import socket
import subprocess
import threading
import urllib.request
from pathlib import Path

import pytest

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.node import (
    HostKeyChanged,
    Reach,
    Remote,
    Unreachable,
)
from tests.support.reaching import LONG, Site, block, own_home, server, soon


def test_wait_ready_sees_a_server_come(site: Site, tmp_path: Path) -> None:
    own = server(site, tmp_path)
    own.refuse()
    own.drop_next = 1
    try:
        with own_home(tmp_path, block("n", own, f"IdentityFile {site.key}")) as reach:
            remote = reach.remote("n", None)
            import fabric  # noqa: F401  its time is not the boot's

            with pytest.raises(DeadlinePassed, match="refused the connection"):
                remote.wait_ready(Deadline.after(4, "the boot of n"))
            waiting = threading.Thread(target=remote.wait_ready, args=(soon(),))
            waiting.start()
            own.listen()
            waiting.join(LONG)
            assert not waiting.is_alive()
            assert len(remote.boot_id(soon())) == 36
    finally:
        own.close()


def test_a_port_of_the_node_is_brought_here(node: Remote) -> None:
    class Hello(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"hello" * 50_000)

        def log_message(self, *words: object) -> None:
            """Quiet."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello) as far:
        serving = threading.Thread(target=far.serve_forever)
        serving.start()
        try:
            with node.forward(far.server_port) as port:
                for _ in range(3):
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LONG) as answer:
                        assert answer.read() == b"hello" * 50_000
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", port), 5).close()
        finally:
            far.shutdown()
            serving.join()


def test_a_port_where_nobody_listens_is_told(node: Remote) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        far = gone.getsockname()[1]
    told: queue.SimpleQueue[Problem] = queue.SimpleQueue()
    with node.forward(far, told=told.put) as port, socket.create_connection(("127.0.0.1", port), LONG) as near:
        assert near.recv(1) == b""  # as from a server that is away
        problem = told.get(timeout=LONG)
    assert f"127.0.0.1 port {far} cannot be reached through n1" in str(problem)


def test_openssh_goes_the_same_way_with_the_same_keys(site: Site, reach: Reach) -> None:
    command = reach.ssh_command("n1", site.user, batch=True)

    def ssh() -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, "echo", "via ssh"], capture_output=True, text=True, timeout=LONG, check=False)

    first = ssh()
    assert (first.stdout, first.returncode) == ("via ssh\n", 0), first.stderr
    pinned = {line.split()[0] for line in reach.known_hosts.read_text().splitlines()}
    assert pinned == {"gate", "n1"}
    assert reach.remote("n1", site.user).run("echo ours", soon()).stdout == "ours\n"  # with the key that ssh pinned
    reach.pin("n1", site.nodes[1].host_key)
    assert ssh().returncode != 0
    with pytest.raises(HostKeyChanged):
        reach.remote("n1", site.user).run("true", soon())
    reach.forget("n1")
    assert reach.remote("n1", site.user).run("echo ours", soon()).stdout == "ours\n"
    assert ssh().returncode == 0
    assert reach.ssh_options(["n1", "n2"], site.user)[0] == "-F"


def test_after_closing_nothing_goes(reach: Reach, node: Remote) -> None:
    node.run("true", soon())
    reach.close()
    with pytest.raises(Unreachable, match="closed"):
        node.run("true", soon())
