"""`g5kdeploy doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, output_option, run_option, testbed_option, user_option
from g5kdeploy.events.failure import ExitCode, InvalidUse
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

if TYPE_CHECKING:
    from g5kdeploy.cli.checks import Finding

SECONDS = 180.0  # for all checks together
NODE_SECONDS = 300.0  # a kernel has a hundred thousand types, and an emulated machine is slow


@make(
    "doctor",
    "Look at this machine: programs, Nix, QEMU and KVM, memory and disk, configuration; with --testbed also at "
    "credentials, API, SSH and the clock. Each missing piece is named with the command that mends it. With --node: what "
    "that node's kernel can do for BPF programs, tried there, and which of ours work. Exit code 1 when something that is "
    "needed is missing.",
    "g5kdeploy doctor\ng5kdeploy doctor --testbed lab -o json\ng5kdeploy doctor --node vm-1",
)
@click.option(
    "--node",
    default=None,
    metavar="NODE",
    shell_complete=complete.nodes,
    help="Look at this node's kernel instead.",
)
@user_option
@experiment_option
@run_option
@testbed_option
@output_option
def command(
    screen: Screen,
    node: str | None,
    user: str | None,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
    output: str | None,
) -> ExitCode:
    """The testbed is looked at only when it was named: nothing reaches out by itself."""
    from g5kdeploy.cli.checks import all_findings

    if node:
        found = _of_node(node, user, experiment, run_id, testbed)
    else:
        found = all_findings(settings.get("testbed", testbed), Deadline.after(SECONDS, "the checks"))
    document = listing("Diagnosis", [finding.as_dict() for finding in found])
    screen.answer(document, settings.get("output", output), ("name", "state", "found", "mend"))
    missing = [finding for finding in found if finding.state == "missing"]
    for finding in missing:
        screen.say(f"missing: {finding.name} ({finding.needed_for}); mend it with: {finding.mend}")
    return ExitCode.FAILED if missing else ExitCode.DONE


def _of_node(node: str, user: str | None, experiment: Path, run_id: str | None, testbed: str | None) -> list[Finding]:
    """What the kernel of one node can do."""
    from g5kdeploy.cli.kernel_checks import findings
    from g5kdeploy.cli.nodes import choose, split
    from g5kdeploy.node import probe_kernel

    chosen = choose(split(node), experiment, run_id, testbed)
    if len(chosen.names) != 1:
        raise InvalidUse(f"`{node}` is {len(chosen.names)} nodes", hint="name one: its kernel is looked at")
    (name,) = chosen.names
    with chosen.reach() as reach:
        remote = reach.remote(name, chosen.login(name, user))
        return list(findings(probe_kernel(remote, Deadline.after(NODE_SECONDS, f"a look at {name}"))))
