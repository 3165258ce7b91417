"""What `kaenv3` on the frontend asks: environments that kadeploy knows are listed, printed, added and deleted."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from g5kdeploy.lab.description import BadDescription, checked
from g5kdeploy.lab.kaenv import FIELDS, Environments

_COLUMNS = "{:<21} {:<7} {:<11} {}\n"
_WIDTH = 80


class Refused(Exception):
    """A request that kadeploy does not grant; its words."""


class Kaenv:
    """Answers the requests of `user`. `fetch(url)` reads a description, `unreachable(file)` says why a file is not there."""

    def __init__(
        self,
        environments: Environments,
        user: str,
        fetch: Callable[[str], bytes],
        unreachable: Callable[[str], str],
    ) -> None:
        self._environments, self._user = environments, user
        self._fetch, self._unreachable = fetch, unreachable

    def __call__(self, request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """One of `{"text": ...}`, what is to be printed, and `{"error": ...}`."""
        operations = {"list": self._list, "print": self._print, "add": self._add, "delete": self._delete}
        try:
            yield {"text": operations[str(request["operation"])](str(request["word"]), request)}
        except Refused as refused:
            yield {"error": str(refused)}

    def _list(self, pattern: str, request: Mapping[str, Any]) -> str:
        found = self._found(lambda name: fnmatch.fnmatchcase(name, pattern.replace("%", "*")), request)
        if not found:
            return "No environment has been found\n"
        rows = [("Name", "Version", "User", "Description"), ("####", "#######", "####", "###########")]
        rows += [(one["name"], str(one["version"]), one["user"], one["description"]) for one in found]
        return "".join(_row(*row) for row in rows)

    def _print(self, name: str, request: Mapping[str, Any]) -> str:
        import yaml

        shown = [
            {key: one[key] for key in FIELDS if key in one and key != "user"} for one in self._named(name, request)
        ]
        return "".join(yaml.safe_dump(one, sort_keys=False, explicit_start=True) for one in shown)

    def _add(self, text: str, request: Mapping[str, Any]) -> str:
        import yaml

        try:
            if text.startswith(("http://", "https://")):
                text = self._fetch(text).decode()
            given = yaml.safe_load(text)
            if not isinstance(given, Mapping):
                raise BadDescription("The environment description should be a Hash")
            described = checked(given)
        except (OSError, ValueError, yaml.YAMLError, BadDescription) as bad:
            raise Refused(f"Invalid environment specification -- {bad}") from bad
        if described["visibility"] == "public":
            raise Refused('Only administrators can use the "public" tag')
        for file in [described["image"]["file"], *(one["archive"] for one in described["postinstalls"])]:
            if why := self._unreachable(file):
                raise Refused(f"Invalid file -- Unable to grab the file {file} ({why})")
        described = {key: described[key] for key in FIELDS if key in described} | {"user": self._user}
        name, version = described["name"], described["version"]
        every = self._environments.seen(self._user, self._user, latest=False)
        if any((one["name"], one["version"], one["arch"]) == (name, version, described["arch"]) for one in every):
            raise Refused(
                f"Element already exists -- An environment with the name {name} and the version {version} has already"
                f" been recorded for the user {self._user}"
            )
        self._environments.add(described)
        return ""

    def _delete(self, name: str, request: Mapping[str, Any]) -> str:
        if request.get("env_user") not in (None, self._user):
            raise Refused("Only administrators are allowed to delete other user's environment")
        for one in self._named(name, {**request, "env_user": self._user}):
            self._environments.delete(one)
        return ""

    def _named(self, name: str, request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Those of that name: the user's own, if he has any, else the public ones."""
        found = self._found(lambda other: other == name, request)
        own = [one for one in found if one["user"] == self._user]
        if not found:
            raise Refused(f"The environment '{name}' does not exist")
        return own or found

    def _found(self, fits: Callable[[str], bool], request: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What the user may see of it, by owner, name and version; the newest versions alone unless he asks for others."""
        version, owner = request.get("env_version"), request.get("env_user")
        latest = not request.get("all_versions") and not version
        seen = self._environments.seen(owner or self._user, self._user, latest)
        if not owner:
            seen += [one for one in self._environments.seen(None, self._user, latest) if one["user"] != self._user]
        found = [one for one in seen if fits(one["name"]) and version in (None, str(one["version"]))]
        return sorted(found, key=lambda one: (one["user"], one["name"], int(one["version"])))


def _row(name: str, version: str, user: str, description: str) -> str:
    """A line of the list, cut to the width of a terminal where only the description is too long."""
    line = _COLUMNS.format(name, version, user, description).rstrip()
    return (
        f"{line[: _WIDTH - 3]}...\n"
        if len(line) > _WIDTH and len(line) - len(description) < _WIDTH - 3
        else f"{line}\n"
    )
