"""`g5kdeploy storage allow|list|revoke`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.command import group, subcommand
from g5kdeploy.cli.options import experiment_option, output_option, run_option, testbed_option
from g5kdeploy.events.failure import Failure
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.testbed.storage import Access

SECONDS = 120.0
COLUMNS = ("id", "storage", "addresses", "until", "mount")


@group(
    "storage",
    "Who may mount what over NFS. STORAGE is a site, for your home there (`nancy`), or a group's storage "
    "(`nancy:storage1/mygroup`).",
    "g5kdeploy storage allow all nancy\ng5kdeploy storage list nancy --testbed grid5000\n"
    "g5kdeploy storage revoke nancy --testbed grid5000",
)
def command() -> None:
    """Commands of the storage."""


@subcommand(
    command,
    "allow",
    "Let nodes mount a storage",
    "Let NODES mount a STORAGE until their job ends, and print what to mount. Without STORAGE: your home on the nodes' own site, "
    "which a deployed environment without automounter needs.",
    "g5kdeploy storage allow all\ng5kdeploy storage allow server nancy:storage1/mygroup --experiment composition/statx",
)
@click.argument("nodes", shell_complete=complete.nodes)
@click.argument("storage", required=False)
@experiment_option
@run_option
@testbed_option
@output_option
def allow(
    screen: Screen,
    nodes: str,
    storage: str | None,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
    output: str | None,
) -> None:
    """One rule a job."""
    from g5kdeploy.cli.firewall import jobs
    from g5kdeploy.testbed import storage as rules
    from g5kdeploy.testbed.holding import addresses

    found: list[Access] = []
    with jobs(nodes, experiment, run_id, testbed) as (api, held, deadline):
        for job, names in held:
            place = rules.parse(storage or job.site, api.me(deadline))
            found += rules.allow(api, place, job, addresses(api, names, deadline), deadline)
    _answer(screen, found, output)


@subcommand(
    command,
    "list",
    "List who may mount a storage",
    "List the rules of a STORAGE.",
    "g5kdeploy storage list nancy --testbed grid5000\ng5kdeploy storage list lab --testbed lab -o json",
)
@click.argument("storage")
@testbed_option
@output_option
def list_(screen: Screen, storage: str, testbed: str | None, output: str | None) -> None:
    """All of them, other jobs' too."""
    _answer(screen, _rules(storage, testbed, None), output)


@subcommand(
    command,
    "revoke",
    "Take rules away",
    "Take rules of a STORAGE away: those with the IDs that `list` shows, or all of them.",
    "g5kdeploy storage revoke lab --testbed lab\ng5kdeploy storage revoke lab 1 2 --testbed lab",
)
@click.argument("storage")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@testbed_option
@output_option
def revoke(screen: Screen, storage: str, ids: tuple[str, ...], testbed: str | None, output: str | None) -> None:
    """What is left then."""
    _answer(screen, _rules(storage, testbed, ids), output)


def _rules(storage: str, testbed: str | None, away: Sequence[str] | None) -> list[Access]:
    """The rules of a storage; before, some (or all, when none is named) are taken away, unless that is None."""
    from g5kdeploy.testbed import places
    from g5kdeploy.testbed import storage as rules

    place_of_all = places.find(settings.named_testbed(testbed))
    deadline = Deadline.after(SECONDS, f"the rules of {storage}")
    with places.connect(place_of_all) as api:
        place = rules.parse(storage, api.me(deadline))
        there = rules.accesses(api, place, deadline)
        if away is None:
            return there
        known = [one.id for one in there]
        if unknown := [word for word in away if word not in known]:
            raise Failure(f"{place} has no rule {', '.join(unknown)}", cause=f"it has {', '.join(known) or 'none'}")
        for one in there:
            if not away or one.id in away:
                rules.revoke(api, one, deadline)
        return rules.accesses(api, place, deadline)


def _answer(screen: Screen, found: Sequence[Access], output: str | None) -> None:
    from g5kdeploy.testbed.request import told

    items: list[dict[str, Any]] = [
        {
            "name": one.id,
            "id": one.id,
            "storage": str(one.storage),
            "addresses": list(one.addresses),
            "until": f"job {one.job} on {one.job_site} ends" if one.job else told(one.until) if one.until else "",
            "mount": one.nfs,
        }
        for one in found
    ]
    if not items:
        screen.say("no rules")
    screen.answer(listing("Accesses", items), settings.get("output", output), COLUMNS)
