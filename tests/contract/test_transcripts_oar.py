"""The exchanges that were recorded with a real OAR behind the API server, again over the lab's scheduler."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from g5kdeploy.lab.api import Server, make_app
from g5kdeploy.lab.services import SiteServices
from tests.contract import recorded, recorded_oar
from tests.contract.player import MUST_DIFFER, Now, Player, differences
from tests.contract.scripted import HandClock

pytestmark = pytest.mark.skipif(not recorded.FOLDER.is_dir(), reason="needs ../shared: the recorded exchanges")

BEGAN = 1_795_368_800
PATIENCE = 120  # seconds of the site's clock for a job to reach the state that was recorded
STATES = ("waiting", "tolaunch", "launching", "running", "finishing", "terminated", "error")

ORDER = (
    ("20-oar-submit", 0, 0),
    ("21-oar-life", 0, 21),
    ("21-oar-life", 27, 29),
    ("20-oar-submit", 1, 1),
    ("21-oar-life", 30, 42),
    ("20-oar-submit", 2, 2),
    ("21-oar-life", 43, 48),
    ("20-oar-submit", 3, 99),
    ("22-oar-jobs-after", 0, 99),
    ("23-oar-reservations", 0, 99),
    ("24-oar-refused-reservations", 0, 99),
)
"""The files were recorded in turns: file, first and last exchange."""
MOMENTS = {("21-oar-life", 27): 1_795_368_831}
"""When an exchange took place whose answer does not tell."""

WHICH = "which of several equal nodes a job gets was up to the database's order of rows"
ENDED = "the plan's entry of a job that has just ended is dropped at once, not at the next pass"
FURTHER = "the plan is a pass further than it was"
CASCADE = "a name that breaks OAR's own SQL is answered with the first of its errors, not with all"
KNOWN_DIFFERENCES: dict[tuple[str, int], str] = {
    ("21-oar-life", 39): ENDED,
    ("21-oar-life", 43): ENDED,
    ("21-oar-life", 48): ENDED,
    ("20-oar-submit", 55): WHICH,
    ("20-oar-submit", 68): CASCADE,
    ("20-oar-submit", 69): CASCADE,
    ("22-oar-jobs-after", 31): FURTHER,
    ("22-oar-jobs-after", 32): FURTHER,
    ("22-oar-jobs-after", 47): FURTHER,
    ("22-oar-jobs-after", 10): WHICH,
    ("22-oar-jobs-after", 27): WHICH,
    ("22-oar-jobs-after", 28): WHICH,
    ("22-oar-jobs-after", 29): WHICH,
    ("24-oar-refused-reservations", 1): "the submission of this job is not among the recorded exchanges",
    ("24-oar-refused-reservations", 6): "most of the jobs in this list are not among the recorded exchanges",
}
"""Where the lab's answer differs, and why; each is checked to differ still."""


class OarPlayer(Player):
    """Turns the site's clock to where the record was, and knows which of its jobs stands for which recorded one."""

    def __init__(self, port: int, services: SiteServices, hand: HandClock) -> None:
        super().__init__(port, Now(0))
        self.oar, self.hand = services.oars["rennes"], hand
        self.ours: dict[str, str] = {}

    def turn(self, to: float) -> None:
        while self.hand.now < to:
            self.hand.turn(min(1.0, to - self.hand.now))
            self.oar.tick()  # type: ignore[attr-defined]

    def play(self, exchange: dict[str, Any]) -> list[str]:
        theirs, wanted = exchange["response"], value(exchange["response"]["body"])
        request = dict(exchange["request"])
        request["path"] = re.sub(r"(?<=/jobs/)\d+", lambda one: self.ours.get(one[0], one[0]), request["path"])
        if theirs["status"] == 201:
            self.turn(wanted["submitted_at"])
        if "/walltime" not in request["path"] and isinstance(wanted, dict) and "state" in wanted:
            self.wait_for(wanted)
        elif exchange["name"] == "walltime of a running job":
            self.wait_for({"uid": 37, "state": "running"})
        return self.once(request, theirs, wanted)

    def wait_for(self, wanted: dict[str, Any]) -> None:
        """Turn the clock until the job is as far as it was."""
        number = int(self.ours.get(str(wanted["uid"]), "0"))
        late = self.hand.now + PATIENCE
        while self.hand.now < late:
            job = self.oar.job(number)
            if job is None or STATES.index(job.state.lower()) >= STATES.index(wanted["state"]):
                return
            self.turn(self.hand.now + 1)

    def clear(self) -> None:
        """Delete all jobs, as was done between the reservations."""
        for job in self.oar.current():
            self.oar.delete(job.id, job.user)
        self.turn(self.hand.now + 3)

    def once(self, request: dict[str, Any], theirs: dict[str, Any], wanted: Any) -> list[str]:
        status, headers, body = self.ask(request)
        got = value(body)
        if status == theirs["status"] == 201:
            self.ours[str(wanted["uid"])] = str(got["uid"])
        if status == theirs["status"] == 400 and "OAR_JOB_ID=" in str(wanted):
            numbers = [re.search(r"OAR_JOB_ID=(\d+)", str(one)) for one in (wanted, got)]
            if all(numbers):
                self.ours[numbers[0][1]] = numbers[1][1]  # type: ignore[index]
        names = {ours: recorded for recorded, ours in self.ours.items()}
        found = [] if status == theirs["status"] else [f"status {status}, not {theirs['status']}"]
        theirs_headers, ours = ({name.lower(): one for name, one in some} for some in (theirs["headers"], headers))
        for name in sorted({*theirs_headers, *ours} - MUST_DIFFER):
            was = recorded_oar.text(theirs_headers.get(name, ""), {})
            now = recorded_oar.text(ours.get(name, ""), names)
            if was != now:
                found.append(f"header {name}: {now!r}, not {was!r}")
        return found + differences(recorded_oar.comparable(wanted, {}), recorded_oar.comparable(got, names))


def value(body: str | None) -> Any:
    try:
        return json.loads(body or "")
    except ValueError:
        return body or ""


@pytest.fixture
def player(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OarPlayer]:
    monkeypatch.setattr("g5kdeploy.lab.oar.text.PARIS", ZoneInfo("UTC"))  # where the recording server thought it was
    hand = HandClock(BEGAN)
    services = recorded_oar.services(tmp_path, hand.as_clock())
    with Server(make_app(services)) as server:
        yield OarPlayer(server.port, services, hand)
    services.oars["rennes"].stop()  # type: ignore[attr-defined]
    services.deployments.close()


def test_over_a_real_oar(player: OarPlayer) -> None:
    wrong, same_again = [], []
    for name, first, last in ORDER:
        for exchange in recorded.exchanges(name):
            if not first <= exchange["n"] <= last:
                continue
            if name == "23-oar-reservations" and exchange["request"]["method"] == "POST":
                player.clear()
            player.turn(MOMENTS.get((name, exchange["n"]), 0))
            found, known = player.play(exchange), KNOWN_DIFFERENCES.get((name, exchange["n"]))
            text = f"{name} {exchange['n']} {exchange['request']['method']} {exchange['request']['path']}"
            if found and not known:
                wrong.append(f"{text}: {'; '.join(found[:5])}")
            if known and not found:
                same_again.append(f"{text}: {known}")
    assert not wrong, f"{len(wrong)} differ\n" + "\n".join(wrong)
    assert not same_again, "no longer different: " + "\n".join(same_again)
