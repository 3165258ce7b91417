"""`g5kdeploy firewall open|list|close NODES`."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.command import group, subcommand
from g5kdeploy.cli.options import experiment_option, output_option, run_option, testbed_option
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen
from g5kdeploy.testbed.firewall import PROTOCOLS

if TYPE_CHECKING:
    from g5kdeploy.testbed.api import Api
    from g5kdeploy.testbed.firewall import Opening
    from g5kdeploy.testbed.job import Job

SECONDS = 120.0
COLUMNS = ("job", "site", "addresses", "ports", "protocol", "source")


@group(
    "firewall",
    "Openings of the site's firewall: ports of a job's nodes that the Internet reaches, over IPv6. They end with the job.",
    "g5kdeploy firewall open server 80 443 --protocol tcp\ng5kdeploy firewall list all\ng5kdeploy firewall close all",
)
def command() -> None:
    """Commands of the firewall."""


def _with_nodes(function: Callable[..., Any]) -> Any:
    for option in (output_option, testbed_option, run_option, experiment_option):
        function = option(function)
    return function


@contextlib.contextmanager
def jobs(
    nodes: str, experiment: Path, run_id: str | None, testbed: str | None
) -> Iterator[tuple[Api, list[tuple[Job, tuple[str, ...]]], Deadline]]:
    """The API, the running jobs that hold the nodes (each with those of them), and the time that there is."""
    from g5kdeploy.cli.nodes import choose, split
    from g5kdeploy.testbed import places
    from g5kdeploy.testbed.holding import holders

    chosen = choose(split(nodes), experiment, run_id, testbed)
    deadline = Deadline.after(SECONDS, "the answers of the testbed")
    with places.connect(places.find(chosen.testbed)) as api:
        yield api, holders(api, chosen.names, deadline), deadline


@subcommand(
    command,
    "open",
    "Open ports of nodes",
    "Open PORTs of NODES to the Internet, while their job runs; without a PORT, and with `--protocol all`, everything. The node "
    "must have an IPv6 address, and is reached under its name with -ipv6: vm-1-ipv6.lab.grid5000.fr.",
    "g5kdeploy firewall open server 80 443 --protocol tcp\n"
    "g5kdeploy firewall open server 22 --from 2001:db8::/64 --experiment composition/statx",
)
@click.argument("nodes", shell_complete=complete.nodes)
@click.argument("ports", nargs=-1, type=click.IntRange(1, 65535), metavar="[PORT]...")
@click.option("--protocol", type=click.Choice(PROTOCOLS), default="tcp+udp", show_default=True, help="Which protocol.")
@click.option("--from", "source", default="", metavar="ADDRESS", help="Only from this IPv6 address or network.")
@_with_nodes
def open_(
    screen: Screen, nodes: str, ports: tuple[int, ...], protocol: str, source: str, output: str | None, **which: Any
) -> None:
    """One rule a job."""
    if bool(ports) == (protocol in ("all", "icmpv6")):
        raise InvalidUse(
            f"the protocol {protocol} goes {'without' if ports else 'with'} ports",
            hint="`--protocol all` opens everything; the others want ports, but icmpv6",
        )
    from g5kdeploy.testbed import firewall

    found: list[Opening] = []
    with jobs(nodes, **which) as (api, held, deadline):
        for job, names in held:
            found += firewall.open_ports(api, job, names, ports, protocol, source, deadline)
    _answer(screen, found, output)


@subcommand(
    command,
    "list",
    "List what is open",
    "List the openings of the jobs that hold NODES.",
    "g5kdeploy firewall list all\ng5kdeploy firewall list --testbed lab vm-1.lab.grid5000.fr -o json",
)
@click.argument("nodes", shell_complete=complete.nodes)
@_with_nodes
def list_(screen: Screen, nodes: str, output: str | None, **which: Any) -> None:
    """Of each job that holds one of the nodes."""
    from g5kdeploy.testbed import firewall

    with jobs(nodes, **which) as (api, held, deadline):
        found = [one for job, _ in held for one in firewall.openings(api, job, deadline)]
    _answer(screen, found, output)


@subcommand(
    command,
    "close",
    "Close all of a job",
    "Take all openings of the jobs that hold NODES away; the site knows no smaller piece. Connections that stand go on.",
    "g5kdeploy firewall close all",
)
@click.argument("nodes", shell_complete=complete.nodes)
@_with_nodes
def close(screen: Screen, nodes: str, output: str | None, **which: Any) -> None:
    """What is left then: nothing."""
    from g5kdeploy.testbed import firewall

    with jobs(nodes, **which) as (api, held, deadline):
        for job, _ in held:
            firewall.close(api, job, deadline)
            screen.say(f"the openings of job {job.id} on {job.site} are closed")
        found = [one for job, _ in held for one in firewall.openings(api, job, deadline)]
    _answer(screen, found, output)


def _answer(screen: Screen, found: Sequence[Opening], output: str | None) -> None:
    from dataclasses import asdict

    items = [{"name": f"{one.site}/{one.job}", **asdict(one)} for one in found]
    if not items:
        screen.say("nothing is open")
    screen.answer(listing("Openings", items), settings.get("output", output), COLUMNS)
