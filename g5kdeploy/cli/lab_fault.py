"""`g5kdeploy lab fault`: bad luck by order."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.cli.command import subcommand, subgroup
from g5kdeploy.events.failure import InvalidUse

if TYPE_CHECKING:
    from g5kdeploy.output.screen import Screen

SECONDS = 30.0
STEPS = ("SetDeploymentMiniOS", "BroadcastEnv", "BootNewEnv")
_times = click.option("--times", type=click.IntRange(1), default=1, show_default=True, help="How often.")


@subgroup(
    "fault",
    "Order bad luck: faulty answers, lost nodes, killed jobs, a site down",
    "Order bad luck of a running lab: answers of its API that are faulty, late or missing, nodes that are lost in a "
    "step of a deployment, a job that is killed, a site that is down. Orders are forgotten when the lab is stopped.",
    "g5kdeploy lab fault api --path /jobs --status 503 --times 3\ng5kdeploy lab fault list\ng5kdeploy lab fault clear",
)
def command() -> None:
    """Orders of bad luck."""


def _order(screen: Screen, **order: Any) -> None:
    """Give an order to the running lab, and print what it says of it."""
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.lab import control
    from g5kdeploy.lab.control_socket import WrongOrder, ask
    from g5kdeploy.lab.settings import Places

    places = Places.default()
    if control.status(places) is None:
        raise control.NoLab("no lab runs", hint="g5kdeploy lab start")
    try:
        said = ask(places.control, order, Deadline.after(SECONDS, "the lab's answer to an order"))
    except WrongOrder as wrong:
        raise InvalidUse(wrong.what, cause=wrong.cause, hint=wrong.hint) from wrong
    for line in said:
        sys.stdout.write(f"{line}\n")
    if not said:
        sys.stderr.write("nothing is ordered\n")


@subcommand(
    command,
    "api",
    "Make answers of the API faulty, late or missing",
    "Order what happens to the next requests that fit. One of --status, --garbage, --delay, --hang, --cut and --lose "
    "says what. Orders are met in their order, each as often as it was ordered.",
    "g5kdeploy lab fault api --method POST --path '/deployments$' --status 500 --text 'Kadeploy error'\n"
    "g5kdeploy lab fault api --path /status --hang",
)
@click.option("--method", default=".*", metavar="REGEX", help="Methods [default: all].")
@click.option("--path", default=".*", metavar="REGEX", help="What the path with its query holds [default: anything].")
@_times
@click.option("--status", type=click.IntRange(400, 599), help="Answer with this status.")
@click.option("--text", default="", help="The body that goes with --status.")
@click.option("--retry-after", type=click.IntRange(0), metavar="SECONDS", help="The header that goes with --status.")
@click.option("--garbage", is_flag=True, help="Answer with a page of HTML where JSON is due.")
@click.option("--delay", type=click.FloatRange(0.0, 600.0), metavar="SECONDS", help="Answer later.")
@click.option("--hang", is_flag=True, help="Do not answer before the orders are cleared, or ten minutes have passed.")
@click.option("--cut", type=click.IntRange(0), metavar="BYTES", help="Close the connection after so much of the body.")
@click.option("--lose", is_flag=True, help="Carry the request out, and close the connection without an answer.")
def api(screen: Screen, method: str, path: str, times: int, **given: Any) -> None:
    """Order faulty answers."""
    ways = ("status", "garbage", "delay", "hang", "cut", "lose")
    chosen = [way for way in ways if given[way] not in (None, False)]
    if len(chosen) != 1:
        raise click.UsageError(f"one of {', '.join(f'--{way}' for way in ways)} is needed, and one alone")
    effect: dict[str, Any] = {
        "status": {"status": given["status"], "body": given["text"] or "Server Unavailable"},
        "garbage": {"garbage": True},
        "delay": {"slow": given["delay"]},
        "hang": {"hang": True},
        "cut": {"cut": given["cut"]},
        "lose": {"lost": True},
    }[chosen[0]]
    if given["retry_after"] is not None:
        effect["headers"] = {"Retry-After": str(given["retry_after"])}
    _order(screen, do="api", method=method, path=path, times=times, **effect)


@subcommand(
    command,
    "node",
    "Lose a node in a step of its next deployment, or change its state",
    "Order what happens to a node: it is lost (KO) or held up in a macro step of its next deployments, or its state in "
    "OAR changes at once; with --delay alone the next job waits for its boot. Jobs on a node that becomes Dead or Absent "
    "are killed.",
    "g5kdeploy lab fault node vm-1 --ko-at BootNewEnv\ng5kdeploy lab fault node vm-2 --state Standby --delay 120",
)
@click.argument("node")
@click.option("--ko-at", type=click.Choice(STEPS), help="The macro step in which it is lost.")
@click.option("--text", default="", help="The reason that kadeploy gives.")
@click.option(
    "--delay", type=click.FloatRange(0.0, 600.0), default=0.0, help="Hold it up for so long: in --ko-at, else its boot."
)
@_times
@click.option("--state", default="", metavar="STATE", help="Alive, Standby, Absent, Suspected or Dead.")
def node(screen: Screen, node: str, ko_at: str | None, state: str, **given: Any) -> None:
    """Order what happens to a node."""
    if not ko_at and not state and not given["delay"]:
        raise click.UsageError("--ko-at, --delay or --state is needed")
    _order(screen, do="node", node=node, ko_at=ko_at or "", state=state, **given)


@subcommand(
    command,
    "job",
    "Kill a job",
    "Kill a job now, as an administrator of the site would.",
    "g5kdeploy lab fault job 12",
)
@click.argument("job", type=int)
@click.option("--site", default="lab", show_default=True, help="The job's site.")
def job(screen: Screen, job: int, site: str) -> None:
    """Kill a job."""
    _order(screen, do="job", job=job, site=site)


@subcommand(
    command,
    "site",
    "Take a site down",
    "Answer 503 to everything that a site serves itself: jobs, deployments, status, VLANs. Its reference data stays.",
    "g5kdeploy lab fault site lab",
)
@click.argument("site")
def site(screen: Screen, site: str) -> None:
    """Take a site down."""
    _order(screen, do="site", site=site)


@subcommand(
    command, "list", "Show what is ordered", "Show the orders that were not met yet.", "g5kdeploy lab fault list"
)
def list_orders(screen: Screen) -> None:
    """Show the orders."""
    _order(screen, do="list")


@subcommand(
    command,
    "clear",
    "Take all orders back",
    "Take all orders back: what hangs goes on, a site that was down is up again. States of nodes and killed jobs stay.",
    "g5kdeploy lab fault clear",
)
def clear(screen: Screen) -> None:
    """Take all orders back."""
    _order(screen, do="clear")
