"""Plays recorded exchanges against a server and says how its answers differ."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

MUST_DIFFER = {"date", "x-request-id", "x-runtime", "etag", "content-length", "server", "connection", "keep-alive"}


class Now:
    """The wall clock of the server under test: what the recorded answer was dated."""

    def __init__(self, start: float) -> None:
        self.wall = start

    def __call__(self) -> float:
        return self.wall


class Player:
    """One server, asked exchange by exchange; keeps which of its ETags and uids stand for the recorded ones."""

    def __init__(self, port: int, now: Now) -> None:
        self.port, self.now = port, now
        self.etags: dict[str, str] = {}
        self.uids: dict[str, str] = {}

    def play(self, exchange: dict[str, Any]) -> list[str]:
        """Ask, and return what differs from the record; nothing is what is wanted."""
        recorded = exchange["response"]
        if moment := dated(recorded["body"]):
            self.now.wall = moment
        self.learn_etag(exchange["request"], recorded)
        status, headers, body = self.ask(exchange["request"])
        return self.compare(recorded, status, headers, body)

    def learn_etag(self, request: dict[str, Any], recorded: dict[str, Any]) -> None:
        """Find out which of our ETags stands for the recorded one, where a condition names what it was never told."""
        condition = by_name(request["headers"]).get("if-none-match", "")
        theirs = by_name(recorded["headers"]).get("etag", "").removeprefix("W/")
        if not theirs or theirs not in condition or theirs in self.etags:
            return
        kept = [pair for pair in request["headers"] if not pair[0].lower().startswith("if-")]
        _, headers, _ = self.ask({**request, "headers": kept})
        if ours := by_name(headers).get("etag"):
            self.etags[theirs] = ours.removeprefix("W/")

    def ask(self, request: dict[str, Any]) -> tuple[int, list[tuple[str, str]], str]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        path = request["path"]
        for theirs, ours in self.uids.items():
            path = path.replace(theirs, ours)
        connection.putrequest(request["method"], path, skip_accept_encoding=True)
        for name, value in request["headers"]:
            for theirs, ours in self.etags.items():
                value = value.replace(theirs, ours)
            connection.putheader(name, value)
        connection.endheaders((request["body"] or "").encode() or None)
        response = connection.getresponse()
        body = response.read().decode()
        headers = response.getheaders()
        connection.close()
        return response.status, headers, body

    def compare(self, recorded: dict[str, Any], status: int, headers: list[tuple[str, str]], body: str) -> list[str]:
        found = []
        theirs, ours = by_name(recorded["headers"]), by_name(headers)
        if theirs.get("etag") and ours.get("etag"):
            self.etags[theirs["etag"].removeprefix("W/")] = ours["etag"].removeprefix("W/")
        if status != recorded["status"]:
            found.append(f"status {status}, not {recorded['status']}")
        if status == 201 and recorded["status"] == 201:
            self.uids[str(json.loads(recorded["body"])["uid"])] = str(json.loads(body)["uid"])
        for name in sorted({*theirs, *ours} - MUST_DIFFER):
            if self.same_uids(theirs.get(name)) != ours.get(name):
                found.append(f"header {name}: {ours.get(name)!r}, not {theirs.get(name)!r}")
        if ("etag" in theirs) != ("etag" in ours):
            found.append(f"header etag: {ours.get('etag')!r}, not {theirs.get('etag')!r}")
        return found + self.compare_bodies(recorded["body"] or "", body)

    def same_uids(self, text: str | None) -> str | None:
        for theirs, ours in self.uids.items():
            text = text.replace(theirs, ours) if text and len(theirs) > 6 else text
        return text

    def compare_bodies(self, theirs: str, ours: str) -> list[str]:
        theirs = self.same_uids(theirs) or ""
        if theirs == ours:
            return []
        try:
            wanted, got = json.loads(theirs), json.loads(ours)
        except ValueError:
            return [f"body {ours[:300]!r}, not {theirs[:300]!r}"]
        return [f"body: {text}" for text in differences(wanted, got)] or (
            [] if theirs[-1:] == ours[-1:] else [f"body ends with {ours[-1:]!r}, not {theirs[-1:]!r}"]
        )


def by_name(headers: Iterable[Sequence[str]]) -> dict[str, str]:
    """Headers by their names in small letters."""
    return {name.lower(): value for name, value in headers}


def differences(wanted: Any, got: Any, where: str = "") -> list[str]:
    """Where two JSON values differ; the order of keys does not count."""
    if isinstance(wanted, dict) and isinstance(got, dict):
        found = [f"{where}.{key} is missing" for key in wanted.keys() - got.keys()]
        found += [f"{where}.{key} is too much" for key in got.keys() - wanted.keys()]
        return found + [
            text for key in wanted.keys() & got.keys() for text in differences(wanted[key], got[key], f"{where}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        return [
            text
            for at, pair in enumerate(zip(wanted, got, strict=True))
            for text in differences(*pair, f"{where}[{at}]")
        ]
    return (
        []
        if wanted == got and type(wanted) is type(got)
        else [f"{where} is {str(got)[:100]!r}, not {str(wanted)[:100]!r}"]
    )


def dated(body: str | None) -> int | None:
    """The moment of a recorded answer, where its body tells it: the root, a status, a new deployment."""
    if not body or not body.startswith("{"):
        match = re.match(r'\w+\(.*?"timestamp":(\d+)', body or "")
        return int(match[1]) if match else None
    value = json.loads(body)
    if isinstance(value.get("uid"), int) and value["uid"] > 10**9:
        return int(value["uid"])
    moment = value.get("timestamp") or value.get("updated_at")
    return int(moment) if isinstance(moment, int) else None
