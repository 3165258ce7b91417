"""run.json's schema version: a newer one is refused, an older one is migrated when it is read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from g5kdeploy.base.files import read_json
from g5kdeploy.events.failure import InvalidUse

CURRENT = 1

MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}
"""From a version to the next one. There is one entry for every version that was ever released before `CURRENT`."""

_MEMBERS: dict[str, type | tuple[type, ...]] = {
    "id": str,
    "name": str,
    "created": (int, float),
    "released": bool,
    "testbed": str,
    "site": str,
    "experiment": dict,
    "phases": dict,
    "nodes": dict,
    "warnings": list,
}
_NODE: dict[str, type | tuple[type, ...]] = {"role": str, "stage": str, "facts": dict, "hardware": dict}
_PHASE: dict[str, type | tuple[type, ...]] = {"key": str, "state": str, "started": (int, float), "result": dict}


def damaged(path: Path, place: str) -> InvalidUse:
    """That a part of run.json is not what this program writes there."""
    hint = "what it was told of nodes and samples is in the folder; begin another run, or mend the file"
    return InvalidUse(f"{path} is damaged", cause=f"`{place}` is missing or not what it should be", hint=hint)


def read(path: Path) -> dict[str, Any]:
    """run.json of any version as the current one; the file is not touched."""
    document = read_json(path)
    version = document.get("schemaVersion") if isinstance(document, dict) else None
    if not isinstance(version, int) or document.get("kind") != "Run":
        raise InvalidUse(f"{path} is no run's description", cause="it has no kind: Run and schemaVersion")
    if version > CURRENT:
        raise InvalidUse(
            f"{path} was written by a newer g5kdeploy",
            cause=f"its schema version is {version}, this g5kdeploy reads up to {CURRENT}",
            hint="upgrade g5kdeploy: pip install --upgrade g5kdeploy",
        )
    while version < CURRENT:
        migrate = MIGRATIONS.get(version)
        if migrate is None:
            raise InvalidUse(f"{path} has schema version {version}, which never was one")
        document = migrate(document)
        version += 1
        document["schemaVersion"] = version
    _check(path, document, _MEMBERS, "")
    for group, members in (("nodes", _NODE), ("phases", _PHASE)):
        for name, value in document[group].items():
            _check(path, value, members, f"{group}.{name}")
    return dict(document)


def _check(path: Path, value: Any, members: dict[str, type | tuple[type, ...]], place: str) -> None:
    if not isinstance(value, dict):
        raise damaged(path, place)
    for member, kind in members.items():
        if not isinstance(value.get(member), kind):
            raise damaged(path, f"{place}.{member}".lstrip("."))
