"""`g5kdeploy completion SHELL`."""

from __future__ import annotations

import click

from g5kdeploy.cli.command import command as make
from g5kdeploy.output.screen import Screen


@make(
    "completion",
    "Print the completion script of a shell, to be sourced by it.",
    "g5kdeploy completion bash > ~/.local/share/bash-completion/completions/g5kdeploy\n"
    "g5kdeploy completion zsh > ~/.zfunc/_g5kdeploy\n"
    "g5kdeploy completion fish > ~/.config/fish/completions/g5kdeploy.fish",
)
@click.argument("shell", type=click.Choice(("bash", "zsh", "fish")))
def command(screen: Screen, shell: str) -> None:
    """The script that click makes for that shell."""
    from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

    from g5kdeploy.cli.main import COMPLETE, root

    kinds: dict[str, type[ShellComplete]] = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}
    complete = kinds[shell](root, {}, "g5kdeploy", COMPLETE)
    text = complete.source_template % complete.source_vars()
    print(text, file=screen.out)
