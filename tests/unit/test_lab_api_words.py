"""What the lab's API reads of requests: media types, moments, numbers and broken documents, in the server's own words."""

from __future__ import annotations

import re

import pytest

from g5kdeploy.lab.api.app import encoded
from g5kdeploy.lab.api.call import BadParameters, HttpError, page, parameters, parse_json
from g5kdeploy.lab.api.dates import moment
from g5kdeploy.lab.api.negotiation import BadAccept, bare, formats, media_type
from g5kdeploy.lab.api.ruby import no_method, shown, to_i

ITEM = "application/vnd.grid5000.item+json"


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
