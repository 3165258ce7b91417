"""Options of a command line as OAR's commands read them: Perl's Getopt::Long in its GNU manner."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

_SPEC = re.compile(r"([\w-]+)(?:\|(\w))?(?:([=:])([is]))?$")


class BadOption(Exception):
    """A command line that cannot be read; what the command says."""


@dataclass
class Given:
    """What a command line says: each option's values in their order (None for a flag, or without one), and the rest."""

    values: dict[str, list[str | None]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def last(self, name: str) -> str | None:
        """The last value of an option."""
        return self.values[name][-1] if name in self.values else None

    def every(self, name: str) -> list[str]:
        """The values of an option that may be given several times."""
        return [value for value in self.values.get(name, ()) if value is not None]


@dataclass(frozen=True)
class _Option:
    name: str
    takes: str
    """"=" a value, ":" perhaps one, "" none."""
    number: bool

    def fits(self, value: str) -> bool:
        return not self.number or re.fullmatch(r"[+-]?\d+", value) is not None


def read(words: Sequence[str], specs: str, *, passing: bool = False) -> Given:
    """Read words against options in Getopt::Long's own notation (`resource|l=s full|f user|u:s`); raises `BadOption`.

    `passing`: letters that are no options are left among the rest, as its `pass_through` does.
    """
    short: dict[str, _Option] = {}
    long: dict[str, _Option] = {}
    for spec in specs.split():
        match = _SPEC.match(spec)
        assert match is not None, spec
        option = _Option(match[1], match[3] or "", match[4] == "i")
        long[match[1]] = option
        if match[2]:
            short[match[2]] = option
    given, left = Given(), list(words)
    while left:
        word = left.pop(0)
        if word == "--":
            given.rest += left
            break
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            _take(given, _long(name, long), value if equals else None, left)
        elif word.startswith("-") and len(word) > 1 and not (passing and word[1] not in short):
            _bundle(given, word[1:], short, left)
        else:
            given.rest.append(word)
    return given


def _long(name: str, known: dict[str, _Option]) -> _Option:
    fitting = [name] if name in known else [one for one in known if one.startswith(name)]
    if len(fitting) > 1:
        raise BadOption(f"Option {name} is ambiguous ({', '.join(sorted(fitting))})\n")
    if not fitting:
        raise BadOption(f"Unknown option: {name}\n")
    return known[fitting[0]]


def _bundle(given: Given, letters: str, known: dict[str, _Option], left: list[str]) -> None:
    """Several letters behind one dash; what follows one that takes a value is its value."""
    while letters:
        letter, letters = letters[0], letters[1:]
        if letter not in known:
            raise BadOption(f"Unknown option: {letter}\n")
        option = known[letter]
        attached = letters if option.takes and letters and option.fits(letters) else None
        _take(given, option, attached, left)
        if attached is not None:
            return


def _take(given: Given, option: _Option, value: str | None, left: list[str]) -> None:
    if not option.takes:
        if value is not None:
            raise BadOption(f"Option {option.name} does not take an argument\n")
    elif value is None and left and (option.takes == "=" or (left[0][:1] != "-" and option.fits(left[0]))):
        value = left.pop(0)
    elif value is None and option.takes == "=":
        raise BadOption(f"Option {option.name} requires an argument\n")
    if value is not None and not option.fits(value):
        raise BadOption(f'Value "{value}" invalid for option {option.name} (number expected)\n')
    given.values.setdefault(option.name, []).append(value)
