"""Recorded exchanges as a whole: which world each needs, in which order they come, and how the lab's answers differ."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock
from zoneinfo import ZoneInfo

from g5kdeploy.base.clock import Clock
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.api import Server, make_app
from tests.contract import recorded, recorded_oar
from tests.contract.player import Now, Player
from tests.contract.scripted import HandClock

AT = 1_795_369_500  # when the exchanges over the database were recorded
OAR_BEGAN = 1_795_368_800
WORLD_FILES = ("world-jobs.json", "world-reference.tar.xz", "world-services.json")
DATABASE, LATER, OAR = "database", "later", "oar"
"""The worlds: a database of jobs without a scheduler, the same some time later, and a site with a scheduler."""
_NUMBER = re.compile(r"(?:^|\D)(\d\d)-")


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange. `judged` is False for one that is only played because others come after it."""

    file: str
    stem: str
    recorded: dict[str, Any]
    judged: bool = True

    @property
    def n(self) -> int:
        return int(self.recorded["n"])

    @property
    def name(self) -> str:
        return str(self.recorded["name"])

    @property
    def writes(self) -> bool:
        """Did this change the state of the site?"""
        done = self.recorded["response"]["status"] < 300
        return self.recorded["request"]["method"] not in ("GET", "HEAD", "OPTIONS") and done

    @property
    def world(self) -> str:
        """The world that it was recorded in, by its file's number; by its own looks where that has none."""
        number = int(match[1]) if (match := _NUMBER.search(self.stem)) else 0
        if 20 <= number < 30 or "backend_requests" in self.recorded:
            return OAR
        return LATER if number >= 30 else DATABASE


Found = tuple[Exchange, list[str]]
"""An exchange, and how the lab's answer to it differs."""


def load(file: Path, judged: bool = True) -> list[Exchange]:
    """The exchanges of a file; raises `Problem` when it holds anything else."""
    try:
        lines = [json.loads(text) for text in file.read_text().splitlines() if text.strip()]
        found = [Exchange(str(file), file.name.partition(".")[0], one, judged) for one in lines]
        for one in found:
            assert {"method", "path", "headers", "body"} <= one.recorded["request"].keys()
            assert {"status", "headers", "body"} <= one.recorded["response"].keys()
            assert one.n >= 0 and one.name is not None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise Problem(
            f"{file} cannot be read as recorded exchanges",
            cause=f"{type(error).__name__}: {error}",
            hint="each line is a JSON document with n, name, request and response",
        ) from error
    return found


def replay(files: Iterable[Path], world: Path | None = None) -> Iterator[Found]:
    """Play the exchanges of these files, each in the world that it needs.

    `world` is the folder of the world's files; without one, they are beside the exchanges. What was recorded there
    beside the given files is played with them as far as it changed the state, and is not judged.
    """
    groups: dict[Path, list[Exchange]] = {}
    for file in files:
        groups.setdefault(world or file.resolve().parent, []).extend(load(file))
    for folder, judged in groups.items():
        if missing := [name for name in WORLD_FILES if not (folder / name).exists()]:
            raise Problem(f"{folder} lacks {', '.join(missing)}", hint="name the folder of the world: --world DIR")
        known = {(one.stem, one.n) for one in judged}
        beside = [one for file in sorted(folder.glob("*.jsonl")) for one in load(file, judged=False)]
        every = [*judged, *(one for one in beside if (one.stem, one.n) not in known)]
        for kind, play in ((DATABASE, _over_the_database), (LATER, _over_the_database), (OAR, _over_oar)):
            chosen = sorted((one for one in every if one.world == kind), key=lambda one: (one.stem, one.n))
            if any(one.judged for one in chosen):
                yield from play(folder, kind, chosen)


def _until_the_last(chosen: list[Exchange]) -> list[Exchange]:
    """Without what comes after the last judged one."""
    return chosen[: max(at for at, one in enumerate(chosen) if one.judged) + 1]


def _over_the_database(folder: Path, kind: str, chosen: list[Exchange]) -> Iterator[Found]:
    now = Now(AT)
    services = recorded.services(Clock(wall=now), folder, later=kind == LATER)
    try:
        with Server(make_app(services)) as server:
            player = Player(server.port, now)
            for one in _until_the_last(chosen):
                if one.judged:
                    yield one, player.play(one.recorded)
                elif one.writes:
                    player.play(one.recorded)
    finally:
        services.deployments.close()


def _over_oar(folder: Path, kind: str, chosen: list[Exchange]) -> Iterator[Found]:
    with tempfile.TemporaryDirectory(prefix="g5kdeploy-replay-") as store, oar_player(Path(store), folder) as player:
        for one in _until_the_last(in_order(chosen)):
            found = player.play_in(one.stem, one.recorded)
            if one.judged:
                yield one, found


@contextmanager
def oar_player(store: Path, folder: Path) -> Iterator[recorded_oar.OarPlayer]:
    """A player on the site with a scheduler, whose zone is the one where the recording server thought it was."""
    hand = HandClock(OAR_BEGAN)
    with mock.patch("g5kdeploy.lab.oar.text.PARIS", ZoneInfo("UTC")):
        services = recorded_oar.services(store, hand.as_clock(), folder)
        try:
            with Server(make_app(services)) as server:
                yield recorded_oar.OarPlayer(server.port, services, hand)
        finally:
            services.oars["rennes"].stop()  # type: ignore[attr-defined]
            services.deployments.close()


def in_order(chosen: list[Exchange]) -> list[Exchange]:
    """As they took place: the files were recorded in turns. Others follow by name and number."""

    def turn(one: Exchange) -> tuple[int, str, int]:
        for at, (stem, first, last) in enumerate(recorded_oar.TURNS):
            if one.stem.endswith(stem) and first <= one.n <= last:
                return at, "", one.n
        return len(recorded_oar.TURNS), one.stem, one.n

    return sorted(chosen, key=turn)
