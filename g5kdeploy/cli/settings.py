"""Settings and their origins: flag, then G5KDEPLOY_*, then experiment file, then config.yaml, then the default."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g5kdeploy.base import folders
from g5kdeploy.events.failure import InvalidUse

if TYPE_CHECKING:
    from g5kdeploy.experiment import Experiment
    from g5kdeploy.experiment.loading import Given

TESTBEDS = ("lab", "grid5000")
FORMATS = ("table", "wide", "json", "jsonl", "yaml", "csv", "name")


@dataclass(frozen=True)
class Setting:
    """A setting by name; `key` is its place in the experiment file ("" when it has none there)."""

    name: str
    key: str
    default: Any
    help: str

    @property
    def variable(self) -> str:
        return f"G5KDEPLOY_{self.name.upper()}"

    @property
    def flag(self) -> str:
        return f"--{self.name.replace('_', '-')}"


SETTINGS = (
    Setting("testbed", "testbed", None, "lab or grid5000; never guessed"),
    Setting("site", "site", None, "the site to reserve on"),
    Setting("walltime", "walltime", 3600, "how long nodes are reserved"),
    Setting("queue", "queue", "default", "the queue to submit to"),
    Setting("project", "project", "", "the project that reservations are accounted to"),
    Setting("environment", "environment", "debian12-min", "the environment that kadeploy installs first"),
    Setting("runs", "", None, "the folder of the runs; default: runs/ beside the experiment file"),
    Setting("output", "", "table", "how answers are printed"),
)
ALLOWED = {"output": FORMATS, "testbed": TESTBEDS}
BY_NAME = {setting.name: setting for setting in SETTINGS}


@dataclass(frozen=True)
class Value:
    """A setting's value, and its origin in words."""

    name: str
    value: Any
    origin: str


def config_file() -> Path:
    """The user's configuration file."""
    return folders.config() / "config.yaml"


def user_settings() -> dict[str, tuple[Any, str]]:
    """What the user's configuration file says: name -> (value, where). Raises `Mistakes` with all that is wrong."""
    file = config_file()
    if not file.exists():
        return {}
    from g5kdeploy.experiment.source import Mistakes, read

    source = read(file)
    found: dict[str, tuple[Any, str]] = {}
    for name, value in source.values.items():
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, 1)
            source.wrong((name,), f"unknown key `{name}`", f"did you mean `{near[0]}`?" if near else "")
        elif isinstance(value, (dict, list)) or value is None:
            source.wrong((name,), f"`{name}` must be one value")
        else:
            found[name] = (value, f"{file}:{source.line((name,))}")
    if source.mistakes:
        raise Mistakes(file, source.mistakes, "docs/cli.md")
    return found


def experiment_of(path: Path, **flags: Any) -> Experiment:
    """Load an experiment, with flags (None: not given), environment and configuration file as precedence has them."""
    from g5kdeploy.experiment import load
    from g5kdeploy.experiment.loading import Given

    overrides: dict[str, Given] = {}
    defaults: dict[str, Given] = {}
    user = user_settings()
    for setting in SETTINGS:
        if not setting.key:
            continue
        if flags.get(setting.name) is not None:
            overrides[setting.key] = Given(flags[setting.name], setting.flag)
        elif os.environ.get(setting.variable):
            overrides[setting.key] = Given(os.environ[setting.variable], setting.variable)
        elif setting.name in user:
            defaults[setting.key] = Given(*user[setting.name])
    return load(path, overrides, defaults)


def get(name: str, flag: Any = None) -> Any:
    """The value of a setting for a command that has no experiment file; `InvalidUse` when it is none that can be."""
    value = resolve({name: flag})[name]
    allowed = ALLOWED.get(name)
    if allowed and value.value is not None and value.value not in allowed:
        raise InvalidUse(f"{value.origin}: `{value.value}` is no {name}", hint=f"one of {', '.join(allowed)}")
    return value.value


def named_testbed(flag: str | None, instead: str = "") -> str:
    """The testbed that a command is about; `InvalidUse` when none is named. `instead`: what else would do, for the hint."""
    named = get("testbed", flag)
    if named is None:
        raise InvalidUse("no testbed is named", hint=f"--testbed lab or --testbed grid5000{instead}")
    return str(named)


def runs(flag: Path | None = None) -> Path | None:
    """The folder of the runs, where it is not the one beside the experiment file."""
    wanted = get("runs", flag)
    return Path(wanted) if wanted else None


def resolve(flags: Mapping[str, Any], experiment: Path | None = None) -> dict[str, Value]:
    """Every setting with its value and origin."""
    user = user_settings()
    said: dict[str, tuple[Any, str]] = {}
    if experiment is not None:
        from g5kdeploy.experiment.loading import settings_in

        said = settings_in(experiment)
    found: dict[str, Value] = {}
    for setting in SETTINGS:
        name = setting.name
        if flags.get(name) is not None:
            found[name] = Value(name, flags[name], setting.flag)
        elif os.environ.get(setting.variable):
            found[name] = Value(name, os.environ[setting.variable], setting.variable)
        elif setting.key in said:
            found[name] = Value(name, *said[setting.key])
        elif name in user:
            found[name] = Value(name, *user[name])
        else:
            found[name] = Value(name, setting.default, "default")
    return found
