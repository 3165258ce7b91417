"""`g5kdeploy tunnel NODES PORT...`."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import click

from g5kdeploy.base.problem import Problem
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, output_option, run_option, testbed_option, user_option
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen

CONNECT_SECONDS = 120.0
WAKE_SECONDS = 0.5
PORTS = range(1, 1 << 16)


@make(
    "tunnel",
    "Bring ports of NODES to this machine, over the gateway, until interrupted. PORT is the node's, as it sees it "
    "itself; LOCAL:PORT says which port it has here, otherwise any free one. The address of each is printed.",
    "g5kdeploy tunnel exporter 9435\ng5kdeploy tunnel vm-1 9090:9090 3000\ng5kdeploy tunnel all 9435 -o json",
)
@click.argument("nodes", shell_complete=complete.nodes)
@click.argument("ports", nargs=-1, required=True, metavar="[LOCAL:]PORT...")
@user_option
@experiment_option
@run_option
@testbed_option
@output_option
def command(
    screen: Screen,
    nodes: str,
    ports: tuple[str, ...],
    user: str | None,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
    output: str | None,
) -> None:
    """All nodes are logged into first: what cannot be reached is told before any address is printed."""
    from g5kdeploy.base.deadline import Deadline
    from g5kdeploy.cli.nodes import choose, split
    from g5kdeploy.node import fan_out

    pairs = [parse(word) for word in ports]
    chosen = choose(split(nodes), experiment, run_id, testbed)
    if len(chosen.names) > 1 and any(local for local, _ in pairs):
        raise InvalidUse(f"{len(chosen.names)} nodes cannot have the same port here", hint="leave LOCAL: away")
    deadline = Deadline.after(CONNECT_SECONDS, "the connections to the nodes")
    with chosen.reach() as reach, contextlib.ExitStack() as open_ones:
        remotes = {name: reach.remote(name, chosen.login(name, user)) for name in chosen.names}
        for answer in fan_out(remotes, lambda name: remotes[name].run("true", deadline)).values():
            if isinstance(answer, Problem):
                raise answer
        items = []
        for name, remote in remotes.items():
            for local, port in pairs:
                here = open_ones.enter_context(
                    remote.forward(port, local=local, told=lambda problem: screen.warn(str(problem)))
                )
                items.append({"name": name, "port": port, "local": here, "url": f"http://127.0.0.1:{here}/"})
        screen.answer(listing("Tunnels", items), settings.get("output", output))
        screen.out.flush()
        screen.say("until interrupted (ctrl-C)")
        while True:  # never one wait without an end: a signal that comes just before it would be seen only after it
            threading.Event().wait(WAKE_SECONDS)


def parse(word: str) -> tuple[int, int]:
    """The local port (0: any) and the node's, of `[LOCAL:]PORT`."""
    local, _, port = word.rpartition(":")
    try:
        pair = int(local or 0), int(port)
    except ValueError:
        pair = 0, 0
    if pair[1] not in PORTS or (local and pair[0] not in PORTS):
        raise InvalidUse(f"`{word}` is no port", hint="for example 9435, or 8080:80")
    return pair
