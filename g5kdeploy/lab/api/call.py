"""One request to the API: what was asked, and the headers that its answer collects, be it a document or an error."""

from __future__ import annotations

import functools
import io
import json
import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from g5kdeploy.lab.api.negotiation import SYNONYMS
from g5kdeploy.lab.api.ruby import no_method, to_i
from g5kdeploy.lab.kavlan import Kavlan
from g5kdeploy.lab.oar import Scheduler
from g5kdeploy.lab.services import SiteServices

ITEM = "application/vnd.grid5000.item+json"
COLLECTION = "application/vnd.grid5000.collection+json"
NOBODY = frozenset({"", "unknown", "(unknown)"})
FORM, PARTS = "application/x-www-form-urlencoded", ("multipart/form-data", "multipart/related", "multipart/mixed")
FOR_A_MINUTE = "max-age=60, private"
_URL = re.compile("(?:[!$&-;=?#@-Z_a-z~]|%[0-9a-fA-F]{2})*")


class HttpError(Exception):
    """An answer that is not a document: a status and a text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class BadParameters(Exception):
    """A query that no server can read."""


FORBIDDEN = "You are not authorized to access this resource"


@dataclass
class Call:
    """A request after the proxy: `path` without the version, `user` None when nobody is named.

    Handlers set what goes into the headers as they learn it, so that an error keeps what was set before it.
    """

    services: SiteServices
    method: str
    path: str
    query_text: str
    headers: Mapping[str, str]
    raw: bytes
    user: str | None
    version: str
    base_url: str
    prefixes: tuple[str, str, str] = ("", "", "")
    """The proxy's root path, path prefix and mount path."""
    allowed: str = ""
    vary_accept: bool = False
    cache: str = ""
    last_modified: int | None = None
    location: str = ""
    more: list[tuple[str, str]] = field(default_factory=list)
    format: str | None = None
    """The suffix of the path, or else the query's parameter."""
    formats: list[str] = field(default_factory=list)
    """The media types that are wanted, best first."""

    def allow(self, *methods: str) -> None:
        """The methods that the header Allow names."""
        self.allowed = ",".join(methods)

    @property
    def anonymous(self) -> bool:
        """Is this the proxy's own user for strangers?"""
        return self.user == "anonymous"

    def authenticated(self) -> str:
        """The user; 403 when there is none."""
        if self.user is None or self.anonymous:
            raise HttpError(403, FORBIDDEN)
        return self.user

    def only(self, owner: str) -> None:
        """403 for everybody but the owner."""
        if self.user != owner:
            raise HttpError(403, FORBIDDEN)

    def site(self, named: str) -> str:
        """The site that a path means: behind the proxy there is only this one, whatever the path says."""
        if named in self.services.oars:
            return named
        if self.services.trust_proxy:
            return next(iter(self.services.oars))
        raise HttpError(404, "Not Found")

    def scheduler(self, site: str) -> Scheduler:
        """The scheduler of a site."""
        return self.services.oars[self.site(site)]

    def behind(self, site: str, path: str) -> None:
        """What the real server asks the services behind it for must be a URL; 500 for what is none."""
        no_null(path)
        url = self.absolute(f"/sites/{segment(site)}/internal/{path}")
        if not _URL.fullmatch(url):
            raise HttpError(500, f"Unable to contact {url}")

    def kavlan(self, site: str) -> Kavlan:
        """The VLANs of a site."""
        found = self.services.kavlans.get(self.site(site))
        if found is None:
            raise HttpError(500, f"Unable to contact {self.absolute(f'/sites/{site}/internal/kavlanapi/')}")
        return found

    @functools.cached_property
    def query(self) -> dict[str, Any]:
        """The query's parameters, as Rails reads them: the last of a name counts, `a[]` makes a list."""
        return parameters(self.query_text)

    @property
    def by_script(self) -> bool:
        """Did a script of a page ask, and say so?"""
        return "xmlhttprequest" in self.headers.get("x-requested-with", "").lower()

    @property
    def content_type(self) -> str:
        """The media type of the body, by its first name and without parameters."""
        named = re.split("[,;]", self.headers.get("content-type", ""))[0].strip().lower()
        return SYNONYMS.get(named, named)

    @functools.cached_property
    def form(self) -> dict[str, Any]:
        """The fields of a form in the body; raises `BadParameters` as `parameters`, `ValueError` for what is no form.

        One in parts that does not say what parts them is read as a query.
        """
        boundary = "boundary" in parse_options_header(self.headers["content-type"])[1]
        if self.content_type in PARTS and boundary and self.raw:
            return _parts(self.raw, self.headers["content-type"])
        return parameters(self.raw.decode(errors="surrogateescape")) if self.content_type in (FORM, *PARTS) else {}

    @functools.cached_property
    def body(self) -> Any:
        """The JSON value of the body, or the form's fields; None without a body that can be parsed.

        Raises `ValueError` with Ruby's words for broken JSON.
        """
        if self.content_type in (FORM, *PARTS):
            return self.form
        return parse_json(self.raw) if self.raw and self.content_type == "application/json" else None

    @functools.cached_property
    def params(self) -> dict[str, Any]:
        """Query and body together, whatever the method; the query wins. Raises as `body`."""
        return {**(self.body if isinstance(self.body, dict) else {}), **self.query}

    def href(self, path: str) -> str:
        """The link to a path of the API, under the version that the client used."""
        root, prefix, mount = self.prefixes
        if mount:
            path = re.sub(f"^/{re.escape(mount.lstrip('/'))}", "", path)
        parts = [part.strip("/") for part in (root, self.version, prefix) if part.strip("/")]
        return "/" + "/".join([*parts, path.lstrip("/")])

    def absolute(self, path: str) -> str:
        """The URL of a path of the API."""
        return self.base_url + self.href(path)

    def link(self, rel: str, path: str, media: str = ITEM) -> dict[str, str]:
        """A link as most documents have it."""
        return {"rel": rel, "href": self.href(path), "type": media}


def parameters(text: str) -> dict[str, Any]:
    """Fields of a query or form: "a[]=1&a[]=2" is a list, "a[b]=1" a mapping, "a" is there and nothing.

    Raises `BadParameters` for a wrong escape, and for a name that is used in two of these ways. What is not in UTF-8
    comes out with lone surrogates.
    """
    found: dict[str, Any] = {}
    for word in re.split("[&;] *", text):
        if not word:
            continue
        name, equals, value = word.partition("=")
        _put(found, _unescaped(name), _unescaped(value) if equals else None)
    return found


def _parts(raw: bytes, content_type: str) -> dict[str, Any]:
    """The fields of a form in parts; files are left out."""
    _, options = parse_options_header(content_type)
    found: dict[str, Any] = {}
    _, fields, _ = FormDataParser(silent=False).parse(io.BytesIO(raw), PARTS[0], len(raw), options)
    for name, value in fields.items(multi=True):
        _put(found, name, value)
    return found


def _put(found: dict[str, Any], name: str, value: str | None) -> None:
    outer, bracket, rest = name.partition("[")
    if not outer or not bracket or "]" not in rest:
        found[name] = value
    elif rest == "]":
        if not isinstance(kept := found.setdefault(outer, []), list):
            raise BadParameters
        if value is not None:
            kept.append(value)
    else:
        inner, _, more = rest.partition("]")
        if not isinstance(kept := found.setdefault(outer, {}), dict):
            raise BadParameters
        _put(kept, f"{inner}{more}", value)


def _unescaped(text: str) -> str:
    if re.search("%(?![0-9a-fA-F]{2})", text):
        raise BadParameters
    return urllib.parse.unquote_plus(text, errors="surrogateescape")


ESCAPED = {"/": "\u2215", ".": "\u2024"}
"""What stands for an escaped slash or dot while a path is taken apart: such a one does not part names."""


def as_sent(path: str) -> str:
    """A path as its request had it: what was escaped is escaped."""
    text = "/".join(map(segment, path.split("/")))
    for character, mark in ESCAPED.items():
        text = text.replace(urllib.parse.quote(mark), f"%{ord(character):02X}")
    return text


def segment(text: str) -> str:
    """A part of a path as a link has it: what may not stand there is escaped."""
    return urllib.parse.quote(text, safe="-._~!$&'()*+,;=:@")


def parse_json(raw: bytes) -> Any:
    """The value of a JSON text, lone surrogates where it is not in UTF-8; `ValueError` in the words of Ruby's parser."""
    text = _COMMENT.sub(lambda found: found[1] or " ", raw.decode(errors="surrogateescape"))
    if match := re.search(r"\\ud[89ab][0-9a-f]{2}(?!\\ud[c-f])[^\n]*", text, re.IGNORECASE):
        raise ValueError(f"incomplete surrogate pair at '{match[0]}'")
    if _depth(text) > DEEPEST:
        raise ValueError(f"nesting of {DEEPEST + 1} is too deep")
    try:
        return _without_nothing(_DECODER.decode(text))
    except _NoNumber as error:
        raise ValueError(f"unexpected token at '{text[text.index(str(error)) :]}'") from error
    except json.JSONDecodeError as error:
        at = text[error.pos :] if error.msg == "Extra data" else _broken(text.lstrip())
        raise ValueError(f"unexpected token at '{at.partition(chr(0))[0]}'") from error


_COMMENT = re.compile(r'("(?:[^"\\]|\\.)*")|/\*.*?\*/|//[^\n]*', re.DOTALL)
"""A text, which may look like one, or a comment, which Ruby's parser takes."""


DEEPEST = 100


def _depth(text: str) -> int:
    """How many lists and objects of a JSON text are open at once."""
    deepest = depth = 0
    for mark in re.findall(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', text):
        depth += (mark in "[{") - (mark in "]}")
        deepest = max(deepest, depth)
    return deepest


class _NoNumber(Exception):
    """NaN or Infinity, which Ruby's parser does not take."""


def _constant(name: str) -> Any:
    raise _NoNumber(name)


_DECODER = json.JSONDecoder(parse_constant=_constant)


def _broken(text: str) -> str:
    """What is left of a text where Ruby's parser gives up: an object as a whole, a list at what it cannot take."""
    found = _in_list(text) if text.startswith("[") else _in_object(text)
    return text if found is None else found


def _in_object(text: str) -> str | None:
    """The place where a list inside of a broken object gives up; None when the object itself does."""
    rest = text
    while rest.startswith(("{", ",")):
        try:
            _, end = _DECODER.raw_decode(rest[1:].lstrip())
        except ValueError:
            return None
        rest = rest[1:].lstrip()[end:].lstrip()
        if not rest.startswith(":"):
            return None
        rest = rest[1:].lstrip()
        try:
            _, end = _DECODER.raw_decode(rest)
        except ValueError:
            return _in_list(rest) if rest.startswith("[") else _in_object(rest)
        rest = rest[end:].lstrip()
    return None


def _in_list(text: str) -> str:
    """The place where a broken list gives up."""
    rest = text
    while True:
        rest = rest[1:].lstrip()
        try:
            _, end = _DECODER.raw_decode(rest)
        except ValueError:
            return _broken(rest)
        rest = rest[end:].lstrip()
        if not rest.startswith(","):
            return rest


def _without_nothing(value: Any) -> Any:
    """The value without the nulls in its lists, which Rails drops."""
    if isinstance(value, list):
        return [_without_nothing(one) for one in value if one is not None]
    return {key: _without_nothing(one) for key, one in value.items()} if isinstance(value, dict) else value


OFFSET = "    offset = [(params[:offset] || 0).to_i, 0].max"
LIMIT = "    limit = [(params[:limit] || LIMIT).to_i, LIMIT_MAX].min"


def page(params: Mapping[str, Any], limit: int = 50, most: int = 500) -> tuple[int, int]:
    """Offset and limit of a list; the limit may come out negative, which only a database can refuse."""
    offset = max(integer(params.get("offset"), OFFSET, 0), 0)
    return offset, min(integer(params.get("limit"), LIMIT, limit), most)


def integer(value: Any, line: str, default: int = 0) -> int:
    """A parameter as a number; `line` is the real server's, which cannot do with a list or a mapping."""
    if value is None:
        return default
    if isinstance(value, list | dict | bool):
        raise HttpError(500, no_method("to_i", line, ".to_i", value))
    return to_i(value)


def no_null(*values: Any) -> None:
    """Refuse texts, and lists of them, with a null byte: the libraries of the real server take none."""
    if any(
        "\0" in text
        for value in values
        for text in (value if isinstance(value, list) else [value])
        if isinstance(text, str)
    ):
        raise HttpError(500, "string contains null byte")


def any_of(value: Any) -> list[Any]:
    """The values that a database is asked for: one, or any of a list; it knows no mappings."""
    if isinstance(value, dict):
        raise HttpError(500, "can't quote ActionController::Parameters")
    return value if isinstance(value, list) else [value]
