"""`g5kdeploy doctor`."""

from __future__ import annotations

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import output_option, testbed_option
from g5kdeploy.events.failure import ExitCode
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

SECONDS = 180.0  # for all checks together


@make(
    "doctor",
    "Look at this machine: programs, Nix, QEMU and KVM, memory and disk, configuration; with --testbed also at "
    "credentials, API, SSH and the clock. Each missing piece is named with the command that mends it. Exit code 1 when "
    "something that is needed is missing.",
    "g5kdeploy doctor\ng5kdeploy doctor --testbed lab -o json",
)
@testbed_option
@output_option
def command(screen: Screen, testbed: str | None, output: str | None) -> ExitCode:
    """The testbed is looked at only when it was named: nothing reaches out by itself."""
    from g5kdeploy.cli.checks import all_findings

    found = all_findings(settings.get("testbed", testbed), Deadline.after(SECONDS, "the checks"))
    document = listing("Diagnosis", [finding.as_dict() for finding in found])
    screen.answer(document, settings.get("output", output), ("name", "state", "found", "mend"))
    missing = [finding for finding in found if finding.state == "missing"]
    for finding in missing:
        screen.say(f"missing: {finding.name} ({finding.needed_for}); mend it with: {finding.mend}")
    return ExitCode.FAILED if missing else ExitCode.DONE
