"""Which commands there are, which module holds each, and its short help: `--help` imports none of them.

A row is (name, module, short help). The module has an attribute `command`, made with
`cli.command.command` or `group`; `module:name` names another attribute.
"""

from __future__ import annotations

import importlib

import click

SECTIONS: dict[str, tuple[tuple[str, str, str], ...]] = {
    "The whole chain": (
        ("init", "init", "Write a new experiment into a folder"),
        ("run", "run", "Do all phases of an experiment, from build to release"),
    ),
    "Phases": (
        ("build", "phases:build", "Build the closures of an experiment's roles"),
        ("vmtest", "phases:vmtest", "Run the test script on local virtual machines"),
        ("push", "phases:push", "Push the closures into the testbed's binary cache"),
        ("plan", "plan", "Show where and when the nodes could be had"),
        ("reserve", "phases:reserve", "Reserve the nodes and wait for them"),
        ("attach", "jobs:attach", "Go on with a job that exists already"),
        ("extend", "jobs:extend", "Ask for more walltime for the run's job"),
        ("deploy", "phases:deploy", "Bring the job's nodes to their closures"),
        ("boot", "phases:boot", "Boot the wanted kernel on deployed nodes"),
        ("exporter", "phases:exporter", "Start the exporter on the nodes and check that it answers"),
        ("check", "phases:check", "Run the test script on the deployed nodes"),
        ("bench", "phases:bench", "Run the benchmark, scraped meanwhile"),
        ("collect", "phases:collect", "Bring metrics, logs and files back"),
        ("report", "phases:report", "Write a run's report"),
        ("release", "phases:release", "Give the nodes back"),
    ),
    "Nodes": (
        ("status", "status", "Show jobs, nodes and what is still on record"),
        ("gc", "gc", "Tidy up records and jobs that nobody knows"),
        ("ssh", "ssh", "Log in on a node"),
        ("exec", "exec", "Run a command on the nodes of a job"),
        ("cp", "cp", "Copy files and folders to nodes, or from them"),
        ("tunnel", "tunnel", "Bring ports of nodes to this machine"),
        ("logs", "logs", "Show the journal of a node"),
        ("console", "console", "Show the console of a node"),
        ("firewall", "firewall", "Open ports of nodes to the Internet, list and close them"),
        ("storage", "storage", "Let nodes mount a home or a group's storage"),
        ("topology", "topology", "Draw how nodes hang together: switches, adapters, rates"),
    ),
    "This machine": (
        ("lab", "lab", "Start, stop and look at the local stand-in site"),
        ("doctor", "doctor", "Find what is missing here, and say how to mend it"),
        ("config", "config", "Show the settings and where each came from"),
        ("completion", "completion", "Print the completion script of a shell"),
    ),
}

MODULES = {name: f"g5kdeploy.cli.{module}" for rows in SECTIONS.values() for name, module, _ in rows}
SHORT_HELPS = {name: short for rows in SECTIONS.values() for name, _, short in rows}


class LazyGroup(click.Group):
    """A group that knows its commands from the table and imports the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(MODULES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = MODULES.get(cmd_name)
        if module is None:
            return None
        place, _, attribute = module.partition(":")
        command = getattr(importlib.import_module(place), attribute or "command")
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0] if args else ""
        if name and name not in MODULES and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, MODULES, 1)
            guess = f" Did you mean `{near[0]}`?" if near else ""
            raise click.UsageError(f"There is no command `{name}`.{guess}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, MODULES))
        for title, rows in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), short) for name, _, short in rows])
