"""Certificates: the server's, which must be trusted, and the client's, which stands for a password."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.testbed import credentials
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.problems import ApiProblem


def make_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    at = folder / f"{name}.crt", folder / f"{name}.key"
    at[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    no_password = serialization.NoEncryption()
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    at[1].write_bytes(key.private_bytes(pem, pkcs8, no_password))
    return at


class Answers(BaseHTTPRequestHandler):
    """Tells who asks: by the certificate, and by the header that goes with it."""

    def do_GET(self) -> None:
        assert isinstance(self.connection, ssl.SSLSocket)
        shown = self.connection.getpeercert() or {}
        told = {
            "uid": self.headers.get("X-Api-User-CN") or "nobody",
            "certificate": bool(shown),
            "basic": self.headers.get("Authorization"),
        }
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Quiet(ThreadingHTTPServer):
    """A client that does not trust us hangs up in the middle of the handshake; that is no news."""

    def handle_error(self, request: object, client_address: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    certificate, key = make_certificate(tmp_path, "server")
    mine, _ = make_certificate(tmp_path, "client")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(mine)
    context.verify_mode = ssl.CERT_OPTIONAL
    server = Quiet(("127.0.0.1", 0), Answers)
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{server.server_port}/stable"
    server.shutdown()
    server.server_close()
    thread.join(10)


def client(home: Path, text: str) -> Api:
    path = home / credentials.FILE_NAME
    path.write_text(text)
    path.chmod(0o600)
    return Api(credentials.load(home))


def test_a_client_certificate_stands_for_a_password(server: str, tmp_path: Path) -> None:
    lines = f"uri: {server}\nverify_ssl: {tmp_path}/server.crt\nssluser: jdoe\n"
    with client(tmp_path, f"{lines}sslcert: {tmp_path}/client.crt\nsslkey: {tmp_path}/client.key\n") as api:
        answer = api.get("/users/users/~", Deadline.after(60, "the profile"))
    assert answer == {"uid": "jdoe", "certificate": True, "basic": None}


def test_a_password_over_tls(server: str, tmp_path: Path) -> None:
    lines = f"uri: {server}\nverify_ssl: {tmp_path}/server.crt\nusername: jdoe\npassword: sesame\n"
    with client(tmp_path, lines) as api:
        answer = api.get("/users/users/~", Deadline.after(60, "the profile"))
    assert answer["basic"].startswith("Basic ")
    assert not answer["certificate"]


def test_an_untrusted_server_is_told_at_once(server: str, tmp_path: Path) -> None:
    with (
        client(tmp_path, f"uri: {server}\nusername: jdoe\npassword: sesame\n") as api,
        pytest.raises(ApiProblem, match="is not trusted") as caught,
    ):
        api.get("/sites", Deadline.after(60, "the sites"))
    assert "verify_ssl" in caught.value.hint
    assert not caught.value.sent
