"""From a file to an `Experiment`: every mistake at once, with its line and what may have been meant."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from g5kdeploy.base import nodeset
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.experiment.model import CLUSTER, IMAGE, NAME, SITE, WORD, Experiment, Role, at, is_file
from g5kdeploy.experiment.source import Mistake, Mistakes, Place, Source, read

FILE_NAME = "experiment.yaml"


@dataclass(frozen=True)
class Given:
    """A value from somewhere else than the file, and where from: `--walltime`, `G5KDEPLOY_WALLTIME`, `config.yaml`."""

    value: Any
    origin: str


def load(
    path: Path, overrides: Mapping[str, Given] | None = None, defaults: Mapping[str, Given] | None = None
) -> Experiment:
    """The experiment of a file, or of the `experiment.yaml` in a folder.

    `overrides` go before what the file says, `defaults` stand in for what it does not say; keys are dotted
    ("exporter.port"). Raises `Mistakes` (exit code 2) with all that is wrong.
    """
    file = Path(os.path.abspath(_file(path)))  # noqa: PTH100  links stay links
    _check_path(file)
    source = read(_shown(file, path))
    elsewhere = _merge(source, overrides or {}, defaults or {})
    experiment = _validate(source, elsewhere)
    _cross_checks(source, file)
    if source.mistakes or experiment is None:
        raise Mistakes(source.file, source.mistakes)
    return at(file, experiment)


def _check_path(file: Path) -> None:
    """`InvalidUse` for a path that is no text, as one in Latin-1 may be: run.json and records could not name it."""
    try:
        str(file).encode()
    except UnicodeEncodeError as error:
        raise InvalidUse(
            f"the path {os.fsencode(file)!r} is not in UTF-8", hint="give the file and its folders other names"
        ) from error


def _shown(file: Path, given: Path) -> Path:
    """The file as the user wrote it, since that is what messages should say."""
    return file if given.is_absolute() else _file(given)


def _file(path: Path) -> Path:
    """The experiment file in a folder, or at a path that is none, be it one that cannot be."""
    return path / FILE_NAME if os.path.isdir(path) else path  # noqa: PTH112  an impossible path raises nothing


def _merge(source: Source, overrides: Mapping[str, Given], defaults: Mapping[str, Given]) -> dict[Place, str]:
    """Put the other values in; where each of them came from."""
    elsewhere: dict[Place, str] = {}
    for given, beats in ((defaults, False), (overrides, True)):
        for key, value in given.items():
            place = tuple(key.split("."))
            holder: Any = source.values
            for word in place[:-1]:
                holder = holder.setdefault(word, {}) if isinstance(holder, dict) else None
            if isinstance(holder, dict) and (beats or place[-1] not in holder):
                holder[place[-1]] = value.value
                elsewhere[place] = value.origin
    return elsewhere


def _validate(source: Source, elsewhere: Mapping[Place, str]) -> Experiment | None:
    try:
        return Experiment.model_validate(source.values)
    except ValidationError as invalid:
        for error in invalid.errors(include_url=False):
            place = tuple(part for part in error["loc"] if part not in ("[key]", "function-before"))
            message, hint = _sentence(error, place, source.values)
            if place in elsewhere:
                source.mistakes.append(Mistake(elsewhere[place], message, hint))
            else:
                source.wrong(place, message, hint)
        return None


_MUST_BE = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "path_type": "must be the path of a folder",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
}


def _sentence(error: Any, place: Place, values: Any) -> tuple[str, str]:
    """One of pydantic's errors as a sentence and a hint."""
    kind, context = error["type"], error.get("ctx", {})
    name = f"`{'.'.join(str(part) for part in place)}`"
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(str(place[-1]), known_keys(place[:-1]), 1)
        return f"unknown key {name}", f"did you mean `{near[0]}`?" if near else ""
    is_role = len(place) in (2, 3) and place[0] == "roles"
    if is_role and (error["input"] is None or (kind == "missing" and place[-1] == "nodes")):
        return f"role `{place[1]}` has no nodes", "say how many: `nodes: 1`"
    if kind == "missing":
        return f"{name} is missing", _MISSING.get(str(place[-1]), "")
    if error["input"] is None:
        return f"{name} has no value", ""
    if kind == "value_error":
        return f"{name} {context['error']}" if str(context["error"])[0] != "`" else f"{name}: {context['error']}", ""
    if kind == "literal_error":
        return f"{name} must be {context['expected']}, not `{error['input']}`".replace("'", "`"), ""
    if kind in ("greater_than_equal", "less_than_equal", "greater_than", "less_than"):
        words = {"ge": "at least", "le": "at most", "gt": "more than", "lt": "less than"}
        bound, value = next(iter(context.items()))
        return f"{name} must be {words[bound]} {value:g}, not {error['input']}", ""
    if kind == "string_too_long":
        return f"{name} must have at most {context['max_length']} characters", ""
    if kind == "string_pattern_mismatch":
        return f"{name} has characters that are not allowed here", _LETTERS.get(context["pattern"], "")
    return f"{name} {_MUST_BE.get(kind, error['msg'])}", _as_it_should_be(kind, place, error["input"])


_NODES_LETTERS = "small letters, digits, `.`, `-`; the first is a letter or a digit"
_LETTERS = {
    NAME: "letters, digits, `.`, `_`, `-`; the first is a letter or a digit",
    WORD: "letters, digits, spaces, `.`, `_`, `-`; the first is a letter or a digit",
    SITE: "small letters, digits, `-`; the first is a letter",
    CLUSTER: _NODES_LETTERS,
}


def _as_it_should_be(kind: str, place: Place, value: Any) -> str:
    """A single value as the list or the role that was meant; "" where that is not plain."""
    if kind == "tuple_type" and isinstance(value, str):
        return f"`[{value}]`"
    if kind == "model_type" and place[:-1] == ("roles",) and type(value) is int:
        return f"say how many: `{place[-1]}: {{nodes: {value}}}`"
    return ""


_MISSING = {
    "apiVersion": "apiVersion: g5kdeploy/v1",
    "name": "name: my-experiment",
    "roles": "roles: {server: {nodes: 1}}",
}


def known_keys(place: Place) -> list[str]:
    """The keys that the mapping at a place may have; none where the user names them."""
    if place == ("roles",):
        return []
    model: type[BaseModel]
    model, rest = (Role, place[2:]) if place[:1] == ("roles",) else (Experiment, place)
    for word in rest:
        found = _models(model.model_fields[str(word)].annotation)
        if not found:
            return []
        model = found[0]
    return list(model.model_fields)


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The models in an annotation such as `dict[str, Role]` or `Benchmark | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def _cross_checks(source: Source, file: Path) -> None:
    """What no single key can tell: folders that do not exist, roles that are not there."""
    values = source.values
    roles = values.get("roles")
    benchmark, check = values.get("benchmark"), values.get("check")
    _check_sets(source, ("exclude_nodes",), values.get("exclude_nodes"))
    if isinstance(roles, dict):
        for name, role in roles.items():
            if not isinstance(role, dict):
                continue
            if _less(role.get("nodes"), role.get("min")):
                source.wrong(("roles", name, "min"), f"role `{name}` has fewer nodes than its `min`")
            place = ("roles", name, "names")
            named = _check_sets(source, place, role.get("names"))
            if named and _less(len(named), role.get("nodes")):
                source.wrong(place, f"role `{name}` has {role['nodes']} nodes, and names {len(named)}")
        wanted = benchmark.get("role") if isinstance(benchmark, dict) else None
        if isinstance(wanted, str) and wanted not in roles:
            near = difflib.get_close_matches(wanted, [str(name) for name in roles], 1)
            hint = f"did you mean `{near[0]}`?" if near else "roles: " + ", ".join(map(str, roles))
            source.wrong(("benchmark", "role"), f"there is no role `{wanted}`", hint)
    types = values.get("job_types", ["deploy"])
    if values.get("flavour") == IMAGE and isinstance(types, list) and "deploy" not in types:
        hint = "leave out job_types, or say flavour: local-store"
        source.wrong(("flavour",), f"`flavour: {IMAGE}` needs a job of type deploy: kadeploy installs the images", hint)
    environment = values.get("environment")
    if isinstance(environment, str) and is_file(environment) and (why := _missing("file", file.parent / environment)):
        source.wrong(("environment",), f"the environment's description `{environment}` does not exist", why)
    composition = values.get("composition", ".")
    if not isinstance(composition, str):
        return
    folder = file.parent / composition
    if why := _missing("folder", folder):
        source.wrong(("composition",), f"the composition `{composition}` does not exist", why)
    elif not any((folder / name).is_file() for name in ("roles.nix", "composition.nix")):
        source.wrong(("composition",), f"`{composition}` is no composition", "it has no roles.nix or composition.nix")
    else:
        script = check.get("script") if isinstance(check, dict) else None
        if isinstance(script, str) and (why := _missing("file", folder / script)):
            source.wrong(("check", "script"), f"the test script `{script}` does not exist", why)


def _missing(kind: str, path: Path) -> str:
    """Why there is no file, or folder, at a path; "" when there is one."""
    try:
        there = path.is_dir() if kind == "folder" else path.is_file()
    except OSError as error:  # a name that is too long, a folder that may not be entered
        return f"{error.strerror or error}: {path}"
    return "" if there else f"no {kind} {path}"


def _check_sets(source: Source, place: Place, words: Any) -> set[str]:
    """The names in a list of folded sets of nodes; none at all when one of the words is no set."""
    names: set[str] = set()
    for index, word in enumerate(words if isinstance(words, list) else ()):
        try:
            found = nodeset.expand(word) if isinstance(word, str) else []
        except nodeset.BadSet as bad:
            source.wrong((*place, index), bad.what, bad.hint)
            return set()
        if bad_name := next((name for name in found if not re.fullmatch(nodeset.NAME, name)), None):
            source.wrong((*place, index), f"`{bad_name}` can be no node's name", _NODES_LETTERS)
            return set()
        names.update(found)
    return names


def _less(nodes: Any, least: Any) -> bool:
    return isinstance(nodes, int) and isinstance(least, int) and 0 < nodes < least


def settings_in(path: Path) -> dict[str, tuple[Any, str]]:
    """An experiment file's own top-level values that are no mappings or lists, each with its file and line."""
    load(path)
    file = _file(path)
    source = read(file)
    return {
        key: (value, f"{file}:{source.line((key,))}")
        for key, value in source.values.items()
        if not isinstance(value, (dict, list))
    }
