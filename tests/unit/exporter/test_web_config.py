"""The web configuration: what is read, what is refused, and when it is read again."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from g5kdeploy.exporter import passwords
from g5kdeploy.exporter.document import Mistakes
from g5kdeploy.exporter.listening import BadAddress, ListenError, listen
from g5kdeploy.exporter.passwords import Passwords, hasher
from g5kdeploy.exporter.web_config import Web, WebConfig, duration, read_web_config
from tests.support.certificates import Authority

HASH = "$2y$04$abcdefghijklmnopqrstuuqFeKm3rNZvHkTzTGfyOBr4fHT3QWGkS"  # of no known password
GOOD = """\
tls_server_config:
  cert_file: node.crt
  key_file: node.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus]
  min_version: TLS13
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256]
http_server_config:
  http2: true
  headers: {X-Frame-Options: deny, Strict-Transport-Security: max-age=60}
basic_auth_users:
  alice: HASH
rate_limit: {interval: 1m30s, burst: 3}
"""


def read(folder: Path, text: str) -> tuple[WebConfig, list[str]]:
    file = folder / "web.yml"
    file.write_text(text.replace("HASH", HASH))
    mistakes = Mistakes()
    config = read_web_config(file, mistakes)
    return config, [entry.removeprefix(f"{file}:") for entry in mistakes.found]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority = Authority(tmp_path)
    authority.issue("node")
    authority.issue("other")
    authority.issue("locked", b"secret")
    return tmp_path


def test_everything_that_exporters_share(folder: Path) -> None:
    import ssl

    config, mistakes = read(folder, GOOD)
    assert mistakes == []
    assert config.context.verify_mode == ssl.CERT_REQUIRED
    assert config.context.minimum_version == ssl.TLSVersion.TLSv1_3
    assert config.allowed_sans == {"prometheus"}
    assert config.users == {"alice": HASH}
    assert config.headers == {"X-Frame-Options": "deny", "Strict-Transport-Security": "max-age=60"}
    assert (config.interval, config.burst) == (90, 3)
    assert {file.name for file in config.files} == {"web.yml", "node.crt", "node.key", "ca.crt"}


def test_certificates_that_stand_in_the_file_itself(folder: Path) -> None:
    inline = "tls_server_config:\n"
    for key, name in (("cert", "node.crt"), ("key", "node.key")):
        lines = "".join(f"    {line}\n" for line in (folder / name).read_text().splitlines())
        inline += f"  {key}: |\n{lines}"
    config, mistakes = read(folder, inline)
    assert mistakes == [] and config.context is not None


def test_a_file_that_wants_nothing(tmp_path: Path) -> None:
    for text in ("", "# later\n", "basic_auth_users: {}\n"):
        config, mistakes = read(tmp_path, text)
        assert mistakes == [] and config.context is None and config.users == {}


PAIR = "tls_server_config:\n  cert_file: node.crt\n  key_file: node.key\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("tls_config: {}\n", 1, "unknown key tls_config"),
        ("tls_server_config:\n  cert_file: node.crt\n", 2, "lacks key_file"),
        ("tls_server_config:\n  cert_file: node.crt\n  key_file: other.key\n", 2, "another certificate's"),
        ("tls_server_config:\n  cert_file: absent.crt\n  key_file: node.key\n", 2, "No such file"),
        ("tls_server_config:\n  cert_file: locked.crt\n  key_file: locked.key\n", 2, "cannot be used"),
        (PAIR + "  key: x\n", 4, "cannot both be given"),
        (PAIR + "  client_auth_type: RequireAnyClientCert\n", 4, "verifies nothing"),
        (PAIR + "  client_auth_type: Sometimes\n", 4, "unknown client_auth_type"),
        (PAIR + "  client_auth_type: RequireAndVerifyClientCert\n", 2, "needs client_ca_file"),
        (PAIR + "  client_ca_file: ca.crt\n", 2, "of no use without"),
        (PAIR + "  client_allowed_sans: [a]\n", 4, "client_allowed_sans needs"),
        (PAIR + "  min_version: SSL3\n", 4, "unknown min_version"),
        (PAIR + "  cipher_suites: [RC4]\n", 4, "unknown cipher suites RC4"),
        (PAIR + "  curve_preferences: [X25519, CurveP256]\n", 4, "can name one of"),
        (PAIR + "  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: web.yml\n", 5, "cannot be used"),
        ("basic_auth_users:\n  alice: secret\n", 2, "must be a bcrypt hash"),
        ("basic_auth_users:\n  'a:b': HASH\n", 2, "cannot be the name of a user"),
        ("http_server_config:\n  headers:\n    Set-Cookie: a\n", 3, "cannot be configured"),
        ("http_server_config:\n  headers:\n    X-Frame-Options: allow\n", 3, "deny or sameorigin"),
        ('http_server_config:\n  headers:\n    X-XSS-Protection: "a\\r\\nb"\n', 3, "one line"),
        ("rate_limit:\n  interval: soon\n", 2, "no duration"),
        ("rate_limit:\n  interval: 1s\n  burst: 0\n", 3, "1 or more"),
    ],
)
def test_mistakes_are_told_with_their_line(folder: Path, text: str, line: int, words: str) -> None:
    _, mistakes = read(folder, text)
    assert len(mistakes) == 1, mistakes
    assert mistakes[0].startswith(f"{line}: ") and words in mistakes[0]
    assert "secret" not in mistakes[0]


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1.5s", 1.5), ("1h2m", 3720), ("10ms", 0.01), (".5s", 0.5)])
def test_durations_as_go_writes_them(text: str, seconds: float) -> None:
    assert duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "1s ", "-1s", "1 s", "1d"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        duration(text)


def test_passwords_against_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = hasher()
    assert compute is not None
    users = {"alice": compute("pässword".encode(), HASH), "bob": compute(b"x" * 72, HASH)}
    doors = Passwords()
    for _ in range(2):
        assert doors.right(users, "alice", "pässword")
        assert not doors.right(users, "alice", "password")
        assert not doors.right(users, "alice", "")
        assert not doors.right(users, "nobody", "fakepassword")
    assert doors.right(users, "bob", "x" * 80), "bcrypt looks at 72 bytes"
    assert not doors.right(users, "alice", "pässword\0tail")
    assert not doors.right({"alice": HASH}, "alice", "pässword"), "the password was changed"
    monkeypatch.setattr(passwords, "_LIBRARIES", ())
    monkeypatch.setattr(passwords, "hasher", passwords.hasher.__wrapped__)
    assert passwords.hasher() is not None and Passwords().right(users, "alice", "pässword"), "by the package bcrypt"


def test_a_file_that_changes_is_read_again_and_a_wrong_one_is_not_taken(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, _ = read(folder, GOOD)
    web = Web(folder / "web.yml", config)
    assert web.current() is config
    Authority(folder).issue("node")  # the certificate is renewed, by another authority even
    renewed = web.current()
    assert renewed is not config and renewed.context is not config.context
    os.truncate(folder / "node.key", 10)
    assert web.current() is renewed
    assert "the old one stays" in caplog.text
    (folder / "web.yml").write_text("basic_auth_users: {}\n")
    assert web.current().context is None


def test_the_rate_is_limited_by_a_bucket() -> None:
    now = [0.0]
    web = Web(None, WebConfig(interval=10, burst=2), lambda: now[0])
    assert [web.in_rate() for _ in range(3)] == [True, True, False]
    now[0] = 10.0
    assert [web.in_rate() for _ in range(2)] == [True, False]
    now[0] = 1000.0
    assert [web.in_rate() for _ in range(3)] == [True, True, False]
    assert all(Web(None, WebConfig()).in_rate() for _ in range(50))


def test_the_example_of_the_documentation(folder: Path) -> None:
    page = (Path(__file__).parents[3] / "docs" / "exporter.md").read_text()
    (example,) = (block for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "tls_server_config" in block)
    config, mistakes = read(folder, example)
    assert mistakes == []
    assert config.context is not None and list(config.users) == ["alice"] and config.interval == 0.2


def test_what_is_no_address_is_wrong_use() -> None:
    with pytest.raises(BadAddress, match="HOST:PORT, :PORT or fd://N"):
        listen("localhost:http")
    with pytest.raises(ListenError) as problem:
        listen("fd://7")
    assert not isinstance(problem.value, BadAddress)
