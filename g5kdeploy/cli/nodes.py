"""Which nodes a command is about: those of a run, by name, by role or by a folded set; or any of a testbed that is named."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

from g5kdeploy.base.problem import Problem
from g5kdeploy.cli import settings
from g5kdeploy.events.failure import ExitCode, InvalidUse, exit_code, narrowest

if TYPE_CHECKING:
    from g5kdeploy.node import Reach
    from g5kdeploy.runs import Run

FILE_NAME = "experiment.yaml"
ALL = "all"


@dataclass(frozen=True)
class Chosen:
    """Nodes by full name, the testbed they are of, and their run if they belong to one."""

    names: tuple[str, ...]
    testbed: str
    run: Run | None = None

    def reach(self) -> Reach:
        """The way to them, with the settings of the testbed's home."""
        from g5kdeploy.node import Reach
        from g5kdeploy.testbed import credentials, places

        place = places.find(self.testbed)
        try:
            user = credentials.load(place.home, {} if place.name == places.LAB else os.environ).username
        except Problem:
            user = None  # the SSH configuration may know
        reach = Reach(place.home, user)
        for name, address in self.run.addresses().items() if self.run else ():
            reach.move(name, address)
        return reach

    def login(self, name: str, user: str | None) -> str | None:
        """As whom one of them is entered: as root, but a frontend or gateway as who the user is there (None)."""
        from g5kdeploy.testbed.request import is_node

        return user or ("root" if self.run or is_node(name) else None)


def experiment_file(path: Path) -> Path:
    """The absolute path of an experiment file, given it or its folder."""
    file = path / FILE_NAME if os.path.isdir(path) else path  # noqa: PTH112  an impossible path raises nothing
    return Path(os.path.abspath(file))  # noqa: PTH100  links stay links


def current_run(experiment: Path, run_id: str | None) -> Run:
    """The run that a command goes on with."""
    from g5kdeploy.runs import find, runs_folder

    file = experiment_file(experiment)
    return find(runs_folder(file, settings.runs()), file, run_id)


def choose(words: Iterable[str], experiment: Path, run_id: str | None, testbed: str | None) -> Chosen:
    """The nodes that `words` mean: names (full or short), roles, folded sets (vm-[1-4]), or `all`.

    They are nodes of the run; without an experiment file here, names are those of the testbed.
    """
    words = list(words)
    if not all(word.strip("! ") for word in words):
        raise InvalidUse("a node's name is empty", hint="a name, a role, a folded set (vm-[1-4]), or all")
    named = settings.get("testbed", testbed)
    if run_id is None and not os.path.exists(experiment_file(experiment)):  # noqa: PTH110
        if named is None:
            raise InvalidUse(
                f"no run and no testbed to look for nodes in: {experiment} does not exist",
                hint="name the experiment with --experiment PATH, or the testbed with --testbed",
            )
        return Chosen(_of_testbed(words), named)
    run = current_run(experiment, run_id)
    return Chosen(
        of_run(words, {name: str(node.get("role", "")) for name, node in run.nodes().items()}), run.testbed, run
    )


def of_run(words: Iterable[str], roles: dict[str, str]) -> tuple[str, ...]:
    """The full names that words mean among a run's nodes (name -> role), each once, in the order of the words.

    A word that begins with `!` takes its nodes away again, wherever it stands; with nothing else, from all of them.
    """
    if not roles:
        raise InvalidUse("the run has no nodes yet", hint="g5kdeploy reserve, or g5kdeploy run")
    wanted, away = [], set()
    for word in words:
        if word.startswith("!"):
            away.update(_meant(word[1:], roles))
        else:
            wanted.append(word)
    found = dict.fromkeys(name for word in wanted or [ALL] for name in _meant(word, roles))
    left = tuple(name for name in found if name not in away)
    if not left:
        raise InvalidUse("no node is left", cause=f"{', '.join(sorted(away))} were taken away")
    return left


def _meant(word: str, roles: dict[str, str]) -> list[str]:
    """The full names that one word means: all, a role, names with `*` and `?`, a folded set."""
    if word == ALL:
        return list(roles)
    if playing := [name for name, role in roles.items() if role == word]:
        return playing
    if "*" in word or "?" in word:
        like = [name for name in roles if fnmatchcase(name, word) or fnmatchcase(name.split(".")[0], word)]
        if not like:
            raise InvalidUse(f"the run has no node like `{word}`", hint=_there(roles))
        return like
    from g5kdeploy.node import expand

    found = []
    for name in expand(word):
        full = next((known for known in roles if name in (known, known.split(".")[0])), None)
        if full is None:
            raise InvalidUse(f"the run has no node or role `{name}`", hint=_there(roles))
        found.append(full)
    return found


def _there(roles: dict[str, str]) -> str:
    from g5kdeploy.node import fold

    return "; ".join(
        f"{role} is {fold(name for name in roles if roles[name] == role)}" for role in sorted(set(roles.values()))
    )


def _of_testbed(words: Iterable[str]) -> tuple[str, ...]:
    from g5kdeploy.node import expand

    names = [name for word in words for name in expand(word)]
    for name in names:
        if "." not in name:
            raise InvalidUse(f"`{name}` is no full name", hint="without a run, say for example vm-1.lab.grid5000.fr")
    return tuple(dict.fromkeys(names))


def split(nodes: str, what: str = "the list of nodes") -> list[str]:
    """Words parted by commas, those inside brackets left alone: `a,vm-[1,3]` is two.

    `InvalidUse` for an empty one: it is a variable that was not set, and must not mean all.
    """
    words, depth, word = [], 0, ""
    for letter in nodes:
        depth += (letter == "[") - (letter == "]")
        if letter == "," and depth == 0:
            words.append(word)
            word = ""
        else:
            word += letter
    words = [word.strip() for word in (*words, word)]
    if not all(words):
        fault = "has an empty word" if any(words) else "names nothing"
        raise InvalidUse(f"{what} {fault}", cause=f"it is `{nodes}`", hint="words with one comma between two of them")
    return words


def outcome(results: Mapping[str, object]) -> ExitCode:
    """Done everywhere, partly, or nowhere; when all failed for one kind of reason, that reason's code."""
    bad = [one for one in results.values() if isinstance(one, Problem) or getattr(one, "status", 0) != 0]
    if not bad:
        return ExitCode.DONE
    if len(bad) < len(results):
        return ExitCode.PARTLY
    return narrowest(exit_code(one) if isinstance(one, Problem) else ExitCode.FAILED for one in bad)
