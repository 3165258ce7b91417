"""Descriptions of environments, checked as kadeploy does, with its words for what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

OS_KINDS = ("linux", "xen", "other")
IMAGE_KINDS = ("tar", "dd", "fsa")
COMPRESSIONS = ("gzip", "bzip2", "xz", "zstd", "none")
VISIBILITIES = ("public", "private", "shared")
NO_SCRIPT = "none"

_RUBY: dict[type, str] = {str: "String", int: "Integer", bool: "[TrueClass,FalseClass]", list: "Array"}


class BadDescription(Exception):
    """A description that kadeploy does not take."""


def checked(described: Mapping[str, Any]) -> dict[str, Any]:
    """The description with kadeploy's defaults in it; raises `BadDescription`. Whether its files are there is not asked."""
    try:
        return _checked(described)
    except BadDescription as bad:
        raise BadDescription(f"Error[environment description] {bad}") from None


def _checked(described: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(described)
    found["name"] = _value(described, "name", str)
    found["version"] = _value(described, "version", int, 1)
    found["arch"] = _value(described, "arch", str, "x86_64")
    for name in ("description", "author", "filesystem"):
        found[name] = _value(described, name, str, "")
    found["visibility"] = _value(described, "visibility", str, "private", VISIBILITIES)
    found["destructive"] = _value(described, "destructive", bool, False)
    found["os"] = _value(described, "os", str, None, OS_KINDS)
    found["partition_type"] = _value(described, "partition_type", int, 0)
    found["multipart"] = _value(described, "multipart", bool, False)
    given = _part(described, "image", mandatory=True)
    kind = _value(given, "kind", str, None, IMAGE_KINDS, path="image/")
    image = found["image"] = {"file": _value(given, "file", str, path="image/"), "kind": kind}
    if kind == "fsa":
        image["compression"] = _value(given, "compression", int, 0, path="image/")
    else:
        image["compression"] = _value(given, "compression", str, None, COMPRESSIONS, path="image/")
    found["postinstalls"] = [_install(described, number) for number in range(len(_installs(described)))]
    given = _part(described, "boot")
    boot = found["boot"] = {
        name: _value(given, name, str, "", path="boot/") for name in ("kernel", "initrd", "kernel_params")
    }
    wanted = {"kernel": boot["kernel"], "filesystem": found["filesystem"]} if kind == "tar" else {}
    for name, value in wanted.items():
        if not value:
            raise BadDescription(f"The field '{name}' is mandatory for OS {found['os']} with the '{kind}' image kind")
    return found


def _installs(described: Mapping[str, Any]) -> list[Any]:
    return list(_value(described, "postinstalls", list, []))


def _install(described: Mapping[str, Any], number: int) -> dict[str, Any]:
    """One post-installation: an archive, and the script in it that is run."""
    path = f"postinstalls/{number}/"
    given = _installs(described)[number]
    return {
        "archive": _value(given, "archive", str, path=path),
        "compression": _value(given, "compression", str, None, COMPRESSIONS, path=path),
        "script": _value(given, "script", str, NO_SCRIPT, path=path),
    }


def _part(described: Mapping[str, Any], name: str, *, mandatory: bool = False) -> dict[str, Any]:
    part = described.get(name)
    if part is None and not mandatory:
        return {}
    if not isinstance(part, Mapping):
        raise BadDescription(
            f"{'The field is mandatory' if part is None else 'The field has to be a Hash'} [field: {name}]"
        )
    return dict(part)


def _value(
    given: Any, name: str, kind: type, default: Any = None, allowed: Sequence[str] = (), *, path: str = ""
) -> Any:
    """A field's value, or its default; without one it is mandatory."""
    where = f"[field: {path}{name}]"
    if not isinstance(given, Mapping):
        raise BadDescription(f"The field has to be a Hash {where}")
    value = given.get(name)
    if value is None:
        if default is None:
            raise BadDescription(f"The field is mandatory {where}")
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise BadDescription(f"The field should have the type {_RUBY[kind]} {where}")
    if allowed and value not in allowed:
        listed = "', '".join(allowed[:-1])
        raise BadDescription(f"Invalid value '{value}', allowed values are: '{listed}' or '{allowed[-1]}' {where}")
    return value
