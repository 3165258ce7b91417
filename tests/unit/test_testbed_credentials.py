"""Credentials: where they come from, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from g5kdeploy.base import folders
from g5kdeploy.events.failure import ExitCode, Failure, InvalidUse, NotAllowed, exit_code
from g5kdeploy.testbed import places
from g5kdeploy.testbed.credentials import DEFAULT_URI, FILE_NAME, load

ELSEWHERE = "laptop.example.org"


def write(home: Path, text: str | bytes, mode: int = 0o600) -> Path:
    path = home / FILE_NAME
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return path


def test_the_file_of_python_grid5000(tmp_path: Path) -> None:
    write(
        tmp_path,
        "uri: http://127.0.0.1:8000/stable/\nusername: jdoe\npassword: sesame\ntimeout: 5\nverify_ssl: false\n",
    )
    known = load(tmp_path, {}, ELSEWHERE)
    assert (known.uri, known.username, known.password) == ("http://127.0.0.1:8000/stable", "jdoe", "sesame")
    assert (known.timeout, known.verify_ssl) == (5.0, False)
    assert known.origin == str(tmp_path / FILE_NAME)
    assert known.secrets == ("sesame",)
    assert "sesame" not in repr(known)


def test_the_real_site_is_the_default(tmp_path: Path) -> None:
    write(tmp_path, "username: jdoe\npassword: sesame\n")
    assert load(tmp_path, {}, ELSEWHERE).uri == DEFAULT_URI


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_refused_with_the_mend(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path, "username: jdoe\npassword: sesame\n", mode)
    with pytest.raises(NotAllowed, match="can be read by others") as caught:
        load(tmp_path, {}, ELSEWHERE)
    assert exit_code(caught.value) == ExitCode.NOT_ALLOWED
    assert f"chmod 600 {path}" in caught.value.hint
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("username: [jdoe\npassword: sesame\n", ":2:9: not valid YAML"),
        ("username: jdoe\n\tpassword: sesame\n", "not valid YAML"),
        (b"\x00\x01\x02", "not valid YAML"),
        (b"\xff\xfe\xfa\xfb", "not a text file"),
        ("- jdoe\n- sesame\n", "must be a mapping"),
        ("jdoe sesame", "must be a mapping"),
        ("1: jdoe\n", "must be a mapping"),
        ("username: jdoe\npassword: 123456\n", "password must be a text"),
        ("username: jdoe\npassword: yes\n", "password must be a text"),
        ("username: jdoe\npassword: sesame\nuri: api.grid5000.fr\n", "must be an http or https URL"),
        ("username: jdoe\npassword: sesame\ntimeout: soon\n", "timeout must be a number"),
        ("username: jdoe\npassword: sesame\nverify_ssl: [1]\n", "verify_ssl must be"),
    ],
)
def test_a_file_that_is_not_what_it_should_be(tmp_path: Path, text: str | bytes, words: str) -> None:
    write(tmp_path, text)
    with pytest.raises(InvalidUse) as caught:
        load(tmp_path, {}, ELSEWHERE)
    assert words in str(caught.value)
    assert "sesame" not in str(caught.value)
    assert caught.value.code == ExitCode.USAGE


def test_an_empty_file_and_no_file_are_no_credentials(tmp_path: Path) -> None:
    with pytest.raises(NotAllowed, match="does not exist") as caught:
        load(tmp_path, {}, ELSEWHERE)
    assert "chmod 600" in caught.value.hint
    write(tmp_path, "")
    with pytest.raises(NotAllowed, match="empty"):
        load(tmp_path, {}, ELSEWHERE)
    write(tmp_path, "uri: https://api.grid5000.fr/stable\n")
    with pytest.raises(NotAllowed, match="gives none"):
        load(tmp_path, {}, ELSEWHERE)


def test_a_name_without_a_password(tmp_path: Path) -> None:
    write(tmp_path, "username: jdoe\n")
    with pytest.raises(NotAllowed, match="no password for jdoe"):
        load(tmp_path, {}, ELSEWHERE)


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, "username: jdoe\npassword: sesame\n")
    known = load(tmp_path, {"G5KDEPLOY_PASSWORD": "other"}, ELSEWHERE)
    assert (known.username, known.password) == ("jdoe", "other")
    known = load(tmp_path, {"G5KDEPLOY_USERNAME": "asmith", "G5KDEPLOY_PASSWORD": "hers"}, ELSEWHERE)
    assert (known.username, known.password) == ("asmith", "hers")
    with pytest.raises(NotAllowed, match="no password for asmith"):
        load(tmp_path, {"G5KDEPLOY_USERNAME": "asmith"}, ELSEWHERE)


def test_a_password_command(tmp_path: Path) -> None:
    environ = {"G5KDEPLOY_USERNAME": "jdoe", "G5KDEPLOY_PASSWORD_COMMAND": "printf 'ses%s\\nmore\\n' ame"}
    assert load(tmp_path, environ, ELSEWHERE).password == "sesame"
    for command, words in (("exit 3", "gave no password"), ("true", "printed nothing")):
        with pytest.raises(NotAllowed, match=words):
            load(tmp_path, {**environ, "G5KDEPLOY_PASSWORD_COMMAND": command}, ELSEWHERE)


def test_a_frontend_needs_none_and_a_node_does(tmp_path: Path) -> None:
    known = load(tmp_path, {}, "frennes.rennes.grid5000.fr")
    assert known.password is None
    assert known.username
    assert known.uri == DEFAULT_URI
    for host in ("paradoxe-1.rennes.grid5000.fr", "frennes.nancy.grid5000.fr", "frennes.example.org"):
        with pytest.raises(NotAllowed):
            load(tmp_path, {}, host)


def test_client_certificates(tmp_path: Path) -> None:
    certificate, key = tmp_path / "me.crt", tmp_path / "me.key"
    certificate.write_text("")
    key.write_text("")
    write(tmp_path, f"username: jdoe\nsslcert: {certificate}\nsslkey: {key}\n")
    known = load(tmp_path, {}, ELSEWHERE)
    assert (known.sslcert, known.sslkey, known.ssluser) == (str(certificate), str(key), "jdoe")
    write(tmp_path, f"sslcert: {certificate}\n")
    with pytest.raises(InvalidUse, match="ssluser"):
        load(tmp_path, {}, ELSEWHERE)
    key.unlink()
    write(tmp_path, f"username: jdoe\nsslcert: {certificate}\nsslkey: {key}\n")
    with pytest.raises(NotAllowed, match="not there"):
        load(tmp_path, {}, ELSEWHERE)


def test_what_the_file_names_is_there(tmp_path: Path) -> None:
    write(tmp_path, "username: jdoe\npassword: sesame\nverify_ssl: maybe\n")
    with pytest.raises(NotAllowed, match="verify_ssl names a file that is not there"):
        load(tmp_path, {}, ELSEWHERE)
    write(tmp_path, f"username: jdoe\npassword: sesame\nverify_ssl: {tmp_path}\n")
    assert load(tmp_path, {}, ELSEWHERE).verify_ssl == str(tmp_path)


def test_a_folder_in_the_files_place_is_told_as_one(tmp_path: Path) -> None:
    (tmp_path / ".python-grid5000.yaml").mkdir()
    with pytest.raises(InvalidUse, match="is not a file"):
        load(tmp_path, {}, ELSEWHERE)


def test_a_testbed_is_named() -> None:
    assert places.find("grid5000").home == Path.home()
    with pytest.raises(InvalidUse, match="no testbed 'grid'"):
        places.find("grid")
    with pytest.raises(Failure, match="no lab runs") as caught:
        places.find("lab")
    assert "lab start" in caught.value.hint


def test_the_lab_is_never_shown_the_users_own_password(monkeypatch: pytest.MonkeyPatch) -> None:
    home = folders.state() / "lab" / "home"
    home.mkdir(parents=True)
    write(home, "uri: http://127.0.0.1:1/stable\nusername: lab\npassword: lab\n")
    monkeypatch.setenv("G5KDEPLOY_USERNAME", "jdoe")
    monkeypatch.setenv("G5KDEPLOY_PASSWORD", "sesame")
    with places.connect(places.find("lab")) as api:
        assert (api.credentials.username, api.credentials.password) == ("lab", "lab")
