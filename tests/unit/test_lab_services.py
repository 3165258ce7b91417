"""Environments by name, VLANs and their rights, accounts, media types, and what else stands behind the lab's API."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, cast

import pytest
import yaml

from g5kdeploy.lab import accepting
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.api.app import encoded
from g5kdeploy.lab.api.call import BadParameters, HttpError, page, parameters, parse_json
from g5kdeploy.lab.api.dates import moment
from g5kdeploy.lab.api.negotiation import BadAccept, bare, formats, media_type
from g5kdeploy.lab.api.ruby import no_method, shown, to_i
from g5kdeploy.lab.fetch import from_homes, public_file
from g5kdeploy.lab.kaenv import Environments, environment
from g5kdeploy.lab.kaenv_command import Kaenv
from g5kdeploy.lab.kavlan import Kavlan, NotAllowed, usual_vlans

ITEM = "application/vnd.grid5000.item+json"


@pytest.fixture
def environments() -> Environments:
    return Environments(
        [
            environment("debian12", "server:///a", version=1),
            environment("debian12", "server:///b", version=2),
            environment("debian12", "server:///arm", version=3, arch="aarch64"),
            environment("mine", "server:///c", user="jdoe", visibility="private", alias="alias-of-mine"),
            environment("debian12", "server:///own", user="asmith", visibility="private"),
        ]
    )


def test_a_name_means_ones_own_environment_first_then_the_newest_public_one(environments: Environments) -> None:
    def image(*wanted: str | None) -> str | None:
        found = environments.find(*wanted)  # type: ignore[arg-type]
        return found["image"]["file"] if found else None

    assert image("debian12", None, "jdoe", None, "x86_64") == "server:///b"
    assert image("debian12", None, "jdoe", "1", None) == "server:///a"
    assert image("debian12", None, "asmith") == "server:///own"
    assert image("debian12", "deploy", "asmith", None, "aarch64") == "server:///arm"
    assert image("alias-of-mine", None, "jdoe") == "server:///c"
    assert image("mine", "jdoe", "asmith") is None
    assert image("nope", None, "jdoe") is None


def test_lists_show_what_one_may_see(environments: Environments) -> None:
    assert [one["version"] for one in environments.seen()] == [2, 3]
    assert len(environments.seen(latest=False)) == 3
    assert [one["name"] for one in environments.seen("jdoe", "jdoe")] == ["mine"]
    assert environments.seen("jdoe", "asmith") == []
    environments.add(environment("mine", "server:///new", user="jdoe", visibility="shared"))
    assert [one["image"]["file"] for one in environments.seen("jdoe", "asmith")] == ["server:///new"]


DESCRIBED = """\
name: tuned
version: 3
description: Debian with everything that one could ever want to measure on all of the nodes of a site
os: linux
image: {file: http://public/tuned.tar.zst, kind: tar, compression: zstd}
boot: {kernel: /vmlinuz, initrd: /initrd.img}
filesystem: ext4
partition_type: 131
"""


class Kaenv3:
    """`kaenv3` of a user; nothing that is called gone.* can be fetched."""

    def __init__(self, environments: Environments, user: str = "jdoe") -> None:
        self._kaenv = Kaenv(
            environments, user, lambda url: DESCRIBED.encode(), lambda url: "404" if "gone" in url else ""
        )

    def __call__(self, operation: str, word: str, **more: object) -> str:
        (answer,) = self._kaenv({"operation": operation, "word": word, **more})
        return answer.get("text", f"error: {answer.get('error')}")


def test_kaenv3_adds_lists_prints_and_deletes(environments: Environments) -> None:
    kaenv3 = Kaenv3(environments)
    assert kaenv3("add", DESCRIBED) == ""
    lines = kaenv3("list", "%").splitlines()
    assert lines[0].split() == ["Name", "Version", "User", "Description"]
    rows = [line.split()[:3] for line in lines[2:]]
    assert rows[:2] == [["debian12", "2", "deploy"], ["debian12", "3", "deploy"]]
    assert rows[2:] == [["mine", "2026110100", "jdoe"], ["tuned", "3", "jdoe"]]
    assert lines[-1].endswith("...") and max(map(len, lines)) <= 80
    assert len(kaenv3("list", "debian%", all_versions=True).splitlines()) == 2 + 3
    assert kaenv3("list", "none%") == "No environment has been found\n"
    printed = yaml.safe_load(kaenv3("print", "tuned"))
    assert printed["image"] == {"file": "http://public/tuned.tar.zst", "kind": "tar", "compression": "zstd"}
    assert (printed["visibility"], printed["version"]) == ("private", 3) and "user" not in printed
    assert yaml.safe_load(kaenv3("print", "debian12", env_version="1"))["image"]["file"] == "server:///a"
    found = environments.find("tuned", "jdoe", "jdoe")
    assert found is not None and found["user"] == "jdoe"
    assert "does not exist" in Kaenv3(environments, "asmith")("print", "tuned")
    assert kaenv3("delete", "tuned") == ""
    assert kaenv3("print", "tuned") == "error: The environment 'tuned' does not exist"


def test_a_shared_environment_is_somebody_elses_by_his_name(environments: Environments) -> None:
    assert Kaenv3(environments)("add", DESCRIBED.replace("os:", "visibility: shared\nos:")) == ""
    other = Kaenv3(environments, "asmith")
    assert yaml.safe_load(other("print", "tuned", env_user="jdoe"))["name"] == "tuned"
    assert "Only administrators" in other("delete", "tuned", env_user="jdoe")
    assert environments.find("tuned", "jdoe", "asmith") is not None
    assert environments.find("tuned", None, "asmith") is None


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- a list", "should be a Hash"),
        ("name: [", "Invalid environment specification"),
        (DESCRIBED.replace("linux", "minix"), "Invalid value 'minix'"),
        (DESCRIBED.replace("os:", "visibility: public\nos:"), 'Only administrators can use the "public" tag'),
        (DESCRIBED.replace("tuned.tar", "gone.tar"), "Unable to grab the file http://public/gone.tar.zst (404)"),
    ],
)
def test_what_kaenv3_does_not_take(environments: Environments, text: str, words: str) -> None:
    said = Kaenv3(environments)("add", text)
    assert said.startswith("error: ") and words in said
    assert environments.find("tuned", None, "jdoe") is None


def test_added_environments_outlive_the_lab(tmp_path: Path) -> None:
    site = [environment("debian12", "server:///a")]
    store = tmp_path / "environments.json"
    kaenv3 = Kaenv3(Environments(site, store))
    assert kaenv3("add", "http://public/tuned.yaml") == ""
    assert "already been recorded" in kaenv3("add", DESCRIBED)
    again = Environments(site, store)
    assert [one["name"] for one in again.seen("jdoe", "jdoe")] == ["tuned"]
    assert len(again.seen()) == 1
    assert Kaenv3(again)("delete", "tuned") == ""
    assert Environments(site, store).seen("jdoe", "jdoe") == []


def kavlan(store: Path | None = None, moved: list[tuple[str, str]] | None = None) -> Kavlan:
    def on_move(interface: str, vlan: str) -> None:
        if moved is not None:
            moved.append((interface, vlan))

    return Kavlan(
        usual_vlans(),
        {"vm-1": "DEFAULT", "vm-2": "4"},
        holders=lambda vlan: ["jdoe"] if vlan == "4" else [],
        on_move=on_move,
        store=store,
    )


def test_moving_nodes_between_vlans(tmp_path: Path) -> None:
    moved: list[tuple[str, str]] = []
    made = kavlan(tmp_path / "kavlan.json", moved)
    assert made.move("jdoe", ["vm-1", "vm-2", "vm-9"], "4") == {
        "vm-1": "ok",
        "vm-2": "unchanged",
        "vm-9": "unknown_node",
    }
    assert moved == [("vm-1", "4")] and made.inside("4") == ["vm-1", "vm-2"]
    with pytest.raises(NotAllowed):
        made.move("asmith", ["vm-1"], "4")
    again = kavlan(tmp_path / "kavlan.json")
    assert again.interfaces["vm-1"] == "4"
    again.reset(["vm-1", "vm-2", "vm-77"])
    assert again.inside("DEFAULT") == ["vm-1", "vm-2"]


def test_a_move_that_fails_changes_nothing() -> None:
    made = kavlan()

    def broken(interface: str, vlan: str) -> None:
        raise OSError("no such bridge")

    made.on_move = broken
    with pytest.raises(OSError, match="no such bridge"):
        made.move("jdoe", ["vm-1"], "4")
    assert made.interfaces["vm-1"] == "DEFAULT"


def test_rights_on_vlans() -> None:
    made = kavlan()
    assert made.users_of("4") == ["jdoe"] and made.vlans_of("jdoe") == ["4"]
    with pytest.raises(NotAllowed):
        made.set_user("jdoe", "5", "asmith", True)
    made.set_user("oar", "5", "asmith", True)
    assert made.all_users() == ["asmith", "jdoe"]
    made.set_user("oar", "5", "asmith", False)
    assert made.users_of("5") == []


def test_passwords() -> None:
    accounts = Accounts({"jdoe": "secret"})
    assert accounts.check("jdoe", "secret")
    assert (
        not accounts.check("jdoe", "") and not accounts.check("nobody", "") and not accounts.check("nobody", "secret")
    )


def test_public_urls_are_files_of_the_homes(tmp_path: Path) -> None:
    public = tmp_path / "jdoe" / "public"
    public.mkdir(parents=True)
    (public / "x y").write_text("found")
    (tmp_path / "jdoe" / "secret").write_text("secret")
    fetch = from_homes({"lab": tmp_path})
    assert fetch("http://public.lab.grid5000.fr/~jdoe/x%20y") == b"found"
    assert b"404" in fetch("http://public.lab/~jdoe/nothing")
    assert b"404" in fetch("http://public.lab/~jdoe/..%2fsecret")
    assert public_file(tmp_path, "..", "x") is None and public_file(tmp_path, "", "x") is None


@pytest.fixture
def refusing_port() -> Iterator[int]:
    """A port that is bound and never listened on: connections are refused for sure."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


def test_a_server_that_is_not_there(refusing_port: int) -> None:
    fetch = from_homes({"lab": Path("/nowhere")})
    with pytest.raises(OSError, match="ECONNREFUSED, Failed to open TCP connection to 127"):
        fetch(f"http://127.0.0.1:{refusing_port}/x")


def test_a_want_of_descriptors_is_not_the_end_of_a_listener(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accepting, "REST", 0.0)
    near, far = socket.socketpair()

    class Listener:
        """First there is no descriptor, then one, and then it is shut."""

        outcomes: ClassVar = [OSError(errno.EMFILE, "Too many open files"), near, OSError(errno.EINVAL, "Invalid")]

        def accept(self) -> tuple[socket.socket, str]:
            outcome = self.outcomes.pop(0)
            if isinstance(outcome, OSError):
                raise outcome
            return outcome, ""

    with far:
        assert list(accepting.connections(cast("socket.socket", Listener()))) == [near]
    assert near.fileno() == -1 and "Too many open files" in caplog.text


@pytest.mark.parametrize(
    ("accept", "format", "kind"),
    [
        ("", None, "application/json"),
        ("*/*", None, ITEM),
        ("application/*", None, ITEM),
        (ITEM, None, ITEM),
        ("application/json, text/plain, */*", None, "application/json"),
        ("image/png", None, "application/json"),
        ("application/json;q=0.5, " + ITEM, None, ITEM),
        ("*/*", "json", "application/json"),
        ("*/*", "", "application/json"),
        ("bogus", "g5kitemjson", ITEM),
    ],
)
def test_media_types(accept: str, format: str | None, kind: str) -> None:
    assert media_type(formats(accept, format), ITEM) == kind


def test_the_first_choice_of_many() -> None:
    assert formats("text/xml;q=0.2, application/x-yaml;q=0.5, application/json;q=0.4", None) == [
        "application/x-yaml",
        "application/json",
        "application/xml",
    ]
    assert formats("*/*;q=0.1, text/yaml", None) == ["application/x-yaml", "*/*"]
    assert formats("application/json, */*", None) == ["text/html"], "a star in a list: a browser"
    assert formats("", None, "/a.json") == ["application/json"]


@pytest.mark.parametrize(
    ("accept", "suffix", "kind", "body"),
    [
        ("application/json", None, "application/json", '{"status":404,"error":"Not Found"}'),
        ("text/yaml", None, "application/x-yaml", "---\n:status: 404\n:error: Not Found\n"),
        ("application/json", "", "text/html", ""),
        ("text/html", "json", "application/json", '{"status":404,"error":"Not Found"}'),
    ],
)
def test_an_unknown_route_in_every_type(accept: str, suffix: str | None, kind: str, body: str) -> None:
    assert bare(404, "Not Found", accept, "/x", suffix) == (f"{kind}; charset=utf-8", body)


def test_a_media_type_that_is_none() -> None:
    with pytest.raises(BadAccept):
        formats("bogus", None)
    assert bare(404, "Not Found", "bogus") == ("text/html; charset=utf-8", "")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-03-21", 1774051200),
        ("22/03/2026", 1774137600),
        ("March 22, 2026", 1774137600),
        ("21 mars 2026 10:00", 1774087200),
        ("Sat, 21 Mar 2026 12:00:00 GMT", 1774094400),
        ("2026-03-21T12:00:00+01:00", 1774090800),
        ("20260321T120000Z", 1774094400),
        ("12:00", 1795348800),
        ("10 pm", 1795384800),
        ("Mar", 1772323200),
    ],
)
def test_moments_as_ruby_reads_them(text: str, seconds: int) -> None:
    assert moment(text, 1795369500) == seconds


@pytest.mark.parametrize(
    ("text", "trouble"),
    [
        ("garbage", 'no time information in "garbage"'),
        ("monday", 'no time information in "monday"'),
        ("2026", "argument out of range"),
        ("2026-13-01", "mon out of range"),
        ("2026-03-21 24:01", "min out of range"),
        ("2026-03-00", "mday out of range"),
    ],
)
def test_moments_that_are_none(text: str, trouble: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(trouble) + "$"):
        moment(text, 1795369500)


def test_values_in_rubys_words() -> None:
    assert shown({"a": ["x", None, True]}) == '{"a"=>["x", nil, true]}' and shown("x") == "x"
    assert no_method("oid", "  a.oid", ".oid") == "undefined method `oid' for nil:NilClass\n\n  a.oid\n   ^^^^"
    assert no_method("to_i", "x.to_i", ".to_i", {"a": "1"}) == (
        'undefined method `to_i\' for #<ActionController::Parameters {"a"=>"1"} permitted: false>\n\n'
        "x.to_i\n ^^^^^\nDid you mean?  to_s\n               to_h"
    )
    with pytest.raises(HttpError, match=r"undefined method `to_i' for \[\"1\"\]:Array"):
        page({"limit": ["1"]})


def test_numbers_as_ruby_reads_them() -> None:
    assert [to_i(text) for text in ("12", "12abc", " 5", "-1", "abc", "", None, True, 4.7)] == [
        12,
        12,
        5,
        -1,
        0,
        0,
        0,
        0,
        4,
    ]
    assert (
        page({}) == (0, 50) and page({"limit": "1000", "offset": "-5"}) == (0, 500) and page({"limit": "abc"}) == (0, 0)
    )


def test_queries_and_forms() -> None:
    assert parameters("a=1&a=2&b[]=x&b[]=y&c&d=") == {"a": "2", "b": ["x", "y"], "c": None, "d": ""}
    assert parameters("a[b]=1&a[c][]=2;e=3&f[]") == {"a": {"b": "1", "c": ["2"]}, "e": "3", "f": []}
    assert not encoded(parameters("a[b][]=%ff")) and encoded(parameters("a=%C3%A9&b&c[]=x"))
    for wrong in ("a=%zz", "a[]=1&a[b]=2", "a[b]=1&a[]=2"):
        with pytest.raises(BadParameters):
            parameters(wrong)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"{", "unexpected token at '{'"),
        (b"[", "unexpected token at ''"),
        (b'["a" "b"]', "unexpected token at '\"b\"]'"),
        (b'[1, {"a": }]', "unexpected token at '{\"a\": }]'"),
        (b"[1, [2, x]]", r"unexpected token at 'x\]\]'"),
        (b'{"a": [}', "unexpected token at '}'"),
        (b'{"a": 1, "b": {"c": [1 2]}}', r"unexpected token at '2\]}}'"),
        (b'{"a": {"b" 1}}', 'unexpected token at \'{"a": {"b" 1}}\''),
        (b'{"a":1} x', "unexpected token at 'x'"),
        (b'{"a": NaN}', "unexpected token at 'NaN}'"),
        (b"nope", "unexpected token at 'nope'"),
        (b'{"a":"\\ud800"}', "incomplete surrogate pair"),
    ],
)
def test_broken_json_in_rubys_words(raw: bytes, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        parse_json(raw)
