"""The exporter's web server with TLS, client certificates, passwords and limits, over real connections."""

from __future__ import annotations

import base64
import contextlib
import errno
import http.client
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from g5kdeploy.exporter import server as server_module
from g5kdeploy.exporter.cgroups import Cgroups
from g5kdeploy.exporter.decoders import Decoders
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.exporter import Exporter
from g5kdeploy.exporter.libbpf import Library
from g5kdeploy.exporter.listening import listen
from g5kdeploy.exporter.passwords import hasher
from g5kdeploy.exporter.server import Server
from g5kdeploy.exporter.web_config import Web, WebConfig, read_web_config
from tests.support.certificates import Authority

MTLS = """\
tls_server_config:
  cert_file: node.crt
  key_file: node.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
"""
PAIR = "tls_server_config: {cert_file: node.crt, key_file: node.key}\n"
Start = Callable[[str], Server]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    made = Authority(tmp_path)
    for name in ("node", "prometheus", "stranger"):
        made.issue(name)
    return made


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as ending:

        def run(text: str) -> Server:
            file = tmp_path / "web.yml"
            file.write_text(text)
            mistakes = Mistakes()
            config = read_web_config(file, mistakes) if text else WebConfig()
            assert mistakes.found == []
            exporter = Exporter(Library(), Decoders(Cgroups()), [])
            server = Server(listen("127.0.0.1:0"), exporter, "/metrics", Web(file if text else None, config))
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
            thread.start()
            ending.callback(thread.join, 60)
            ending.callback(server.server_close)
            ending.callback(server.shutdown)
            return server

        yield run


def get(
    server: Server, context: ssl.SSLContext | None = None, **headers: str
) -> tuple[int, http.client.HTTPMessage, str]:
    host, port = server.socket.getsockname()
    connection = (
        http.client.HTTPSConnection(host, port, timeout=60, context=context)
        if context
        else http.client.HTTPConnection(host, port, timeout=60)
    )
    try:
        connection.request("GET", "/metrics", headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def client(authority: Authority, name: str = "") -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority.file))
    if name:
        context.load_cert_chain(authority.folder / f"{name}.crt", authority.folder / f"{name}.key")
    return context


def test_tls_is_not_stalled_by_clients_that_say_nothing(
    authority: Authority, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One does not speak, one stops within its handshake; then more of them than there is room for."""
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 8)
    server = start(PAIR)
    with ExitStack() as idle:
        for number in range(24):
            silent = idle.enter_context(socket.create_connection(server.socket.getsockname(), timeout=60))
            silent.sendall(b"\x16\x03\x01\x02\x00\x01" if number % 2 else b"")
        status, _, text = get(server, client(authority))
        assert status == 200
        assert "g5k_bpf_scrape_seconds_count" in text
    assert 'g5k_bpf_requests_refused_total{reason="too_many"}' in get(server, client(authority))[2]


def test_clients_that_keep_their_connection_give_way_too(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 2)
    server = start("")
    host, port = server.socket.getsockname()
    with ExitStack() as kept:
        for _ in range(4):
            connection = http.client.HTTPConnection(host, port, timeout=60)
            kept.callback(connection.close)
            connection.request("GET", "/")
            assert connection.getresponse().read()
            end = time.monotonic() + 120
            while not server._waiting:  # it has answered, and may not have come to wait for the next request yet
                assert time.monotonic() < end
                time.sleep(0.01)
        assert get(server)[0] == 200


def test_a_machine_without_threads_or_descriptors_left_is_not_the_end(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """More often than there is room for connections: none that failed is taken for one that is still there."""
    monkeypatch.setattr(server_module, "_MOST_CONNECTIONS", 2)
    monkeypatch.setattr(server_module, "_REST", 0.01)
    server = start("")

    def no_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as scarce:
        scarce.setattr(socketserver.ThreadingMixIn, "process_request", no_thread)
        for _ in range(3):
            with pytest.raises((http.client.HTTPException, OSError)):
                get(server)
    accept = socketserver.TCPServer.get_request
    refusals = iter([OSError(errno.EMFILE, "Too many open files")] * 3)

    def no_descriptor(self: socketserver.TCPServer) -> tuple[socket.socket, object]:
        for refusal in refusals:
            raise refusal
        return accept(self)

    with monkeypatch.context() as scarce:
        scarce.setattr(socketserver.TCPServer, "get_request", no_descriptor)
        assert get(server)[0] == 200
    assert caplog.text.count("cannot be accepted: Too many open files") == 3
    assert 'reason="too_many"} 3' in get(server)[2]


@pytest.mark.parametrize(
    ("said", "statuses"),
    [
        ("GET http://[/metrics HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nConnection: close\r\n\r\n", ["400", "200"]),
        ("GET / HTTP/1.1\r\nContent-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n", ["200"]),
        ("GET / HTTP/1.1\r\n\r\n" * 3 + "HEAD / HTTP/1.1\r\nConnection: close\r\n\r\n", ["200"] * 4),
        ("GET / HTTP/1.0\r\n\r\n", ["200"]),
        ("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nGET / any", ["501"]),
        ("GET / HTTP/1.1\r\n" + "x: y\r\n" * 200 + "\r\n", ["431"]),
        ("\r\n", []),
    ],
    ids=["url", "body", "one after the other", "1.0", "method", "headers", "nothing"],
)
def test_what_hostile_clients_get(
    start: Start, caplog: pytest.LogCaptureFixture, said: str, statuses: list[str]
) -> None:
    with socket.create_connection(start("").socket.getsockname(), timeout=60) as connection:
        connection.sendall(said.encode())
        heard = b""
        with contextlib.suppress(ConnectionResetError):  # what it did not read
            while more := connection.recv(65536):
                heard += more
    assert [part[:3] for part in heard.decode().split("HTTP/1.1 ")[1:]] == statuses
    assert "Traceback" not in caplog.text


def test_a_plain_client_gets_nothing_from_a_server_with_tls(authority: Authority, start: Start) -> None:
    server = start(PAIR)
    with pytest.raises((http.client.HTTPException, OSError)):
        get(server)
    end = time.monotonic() + 120  # the client may hear of it before it is counted
    while 'g5k_bpf_requests_refused_total{reason="tls"} 1' not in get(server, client(authority))[2]:
        assert time.monotonic() < end


def test_client_certificates_are_verified_and_their_names_looked_at(authority: Authority, start: Start) -> None:
    server = start(MTLS)
    assert get(server, client(authority, "prometheus"))[0] == 200
    for name in ("", "stranger"):
        with pytest.raises((http.client.HTTPException, OSError)):
            get(server, client(authority, name))
    assert get(server, client(authority, "prometheus"))[0] == 200


def test_passwords(authority: Authority, start: Start) -> None:
    compute = hasher()
    assert compute is not None
    hashed = compute("pass:wörd".encode(), "$2y$04$abcdefghijklmnopqrstuu")
    server = start(
        PAIR + f"basic_auth_users: {{alice: {hashed}}}\nhttp_server_config: {{headers: {{X-Frame-Options: deny}}}}\n"
    )

    def as_(word: str) -> tuple[int, http.client.HTTPMessage, str]:
        return get(server, client(authority), Authorization="Basic " + base64.b64encode(word.encode()).decode())

    status, headers, text = as_("alice:pass:wörd")
    assert status == 200 and "g5k_bpf_scrape_seconds" in text and headers["X-Frame-Options"] == "deny"
    for word in ("alice:wrong", "alice", "bob:pass:wörd", ""):
        status, headers, text = as_(word)
        assert (status, headers["WWW-Authenticate"], text) == (401, "Basic", "Unauthorized\n")
    for word in ("", "Basic ???", "Bearer " + hashed, "Basic \xff"):
        assert get(server, client(authority), Authorization=word)[0] == 401
    assert 'reason="password"} 8' in as_("alice:pass:wörd")[2]


def test_more_requests_than_the_limit(start: Start) -> None:
    server = start("rate_limit: {interval: 1000h, burst: 2}\n")
    assert [get(server)[0] for _ in range(3)] == [200, 200, 429]


def test_a_renewed_certificate_needs_no_restart(authority: Authority, start: Start, tmp_path: Path) -> None:
    server = start(PAIR)
    old = client(authority)
    assert get(server, old)[0] == 200
    renewed = Authority(tmp_path)
    renewed.issue("node")
    assert get(server, client(renewed))[0] == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        get(server, old)
