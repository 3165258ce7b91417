"""`g5kdeploy topology [NODES]`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.cli import complete, settings
from g5kdeploy.cli.command import command as make
from g5kdeploy.cli.options import experiment_option, output_option, run_option, site_option, testbed_option
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.output.documents import listing
from g5kdeploy.output.screen import Screen
from g5kdeploy.output.trees import Branch, Edge, dot

if TYPE_CHECKING:
    from g5kdeploy.testbed.topology import Adapter, Topology

SECONDS = 120.0


@make(
    "topology",
    "Draw how NODES (default: all of the run) hang together: the switches, what joins them, and the nodes' network adapters "
    "with their rates; or with --site all that a site has. From the testbed's reference data.",
    "g5kdeploy topology --experiment composition/statx\n"
    "g5kdeploy topology --testbed grid5000 --site rennes\n"
    "g5kdeploy topology --testbed grid5000 'paradoxe-[1-8].rennes.grid5000.fr' --dot > paradoxe.dot",
)
@click.argument("nodes", required=False, shell_complete=complete.nodes)
@click.option("--dot", "as_dot", is_flag=True, help="In the language of Graphviz, for `dot -Tsvg`.")
@site_option
@experiment_option
@run_option
@testbed_option
@output_option
def command(
    screen: Screen,
    nodes: str | None,
    as_dot: bool,
    site: str | None,
    experiment: Path,
    run_id: str | None,
    testbed: str | None,
    output: str | None,
) -> None:
    """A tree, a graph, or (with -o) a list of adapters beside the equipment."""
    from g5kdeploy.testbed import places, topology

    if site is not None and nodes:
        raise InvalidUse("--site draws a whole site", cause=f"`{nodes}` are nodes", hint="leave one of them away")
    deadline = Deadline.after(SECONDS, "the reference data")
    if site is not None:
        named = settings.named_testbed(testbed)
        with places.connect(places.find(named)) as api:
            drawn = [topology.of_site(api, site, deadline)]
    else:
        from g5kdeploy.cli.nodes import ALL, choose, split

        chosen = choose([ALL] if nodes is None else split(nodes), experiment, run_id, testbed)
        with places.connect(places.find(chosen.testbed)) as api:
            drawn = topology.of_nodes(api, chosen.names, deadline)
    if as_dot:
        print(graph(drawn), file=screen.out)
        return
    form = settings.get("output", output)
    if form == "table":
        for one in drawn:
            print("\n".join(tree(one).lines()), file=screen.out)
        return
    adapters = [{"name": adapter.node, **asdict(adapter)} for one in drawn for adapter in one.adapters]
    equipment = [
        {"site": one.site, "name": name, "kind": kind} for one in drawn for name, kind in one.equipment.items()
    ]
    cables = [{"site": one.site, **asdict(cable)} for one in drawn for cable in (*one.tree, *one.others)]
    screen.answer(listing("Topology", adapters, equipment=equipment, cables=cables), form)


def tree(drawn: Topology) -> Branch:
    """A site as a tree; adapters that are alike are one line, with the nodes folded."""
    root = Branch(drawn.site)

    def hang(branch: Branch, name: str) -> None:
        for cable in drawn.tree:
            if cable.upper == name:
                hang(branch.add(f"{cable.lower} ({drawn.equipment[cable.lower]}){_told(cable.rate)}"), cable.lower)
        for cable in drawn.others:
            if name in (cable.upper, cable.lower):
                other = cable.lower if name == cable.upper else cable.upper
                branch.add(f"→ {other}{_told(cable.rate)}")
        _leaves(branch, [adapter for adapter in drawn.adapters if adapter.switch == name])

    for name in drawn.roots():
        hang(root.add(f"{name} ({drawn.equipment[name]})"), name)
    apart = [adapter for adapter in drawn.adapters if not adapter.switch]
    if apart:
        _leaves(root.add("on no switch that is known"), apart)
    return root


def _leaves(branch: Branch, adapters: Sequence[Adapter]) -> None:
    from g5kdeploy.node import fold

    groups: dict[tuple[str, str, int, str], list[Adapter]] = {}
    for one in adapters:
        groups.setdefault((one.device, one.interface, one.rate, one.use), []).append(one)
    for (device, interface, rate, use), ones in groups.items():
        names = fold(one.node.split(".")[0] for one in ones)
        port = f", port {ones[0].port}" if len(ones) == 1 and ones[0].port else ""
        kind = "" if interface == "Ethernet" else f", {interface}"
        branch.add(f"{names} {device}{_told(rate)}{kind}{port}{f' ({use})' if use else ''}")


def _told(rate: int) -> str:
    """A rate with a space before it: " 25 Gbit/s"; nothing where it is not known."""
    if not rate:
        return ""
    number, unit = (rate / 1e9, "Gbit/s") if rate >= 1e9 else (rate / 1e6, "Mbit/s")
    return f" {number:g} {unit}"


def graph(drawn: Sequence[Topology]) -> str:
    """All of it as a graph; equipment is a box, a node an ellipse, each with its site in its id."""
    boxes: list[tuple[str, str, str]] = []
    edges: list[Edge] = []
    for one in drawn:
        boxes += [(f"{name}.{one.site}", f"{name}\n{kind}", "box") for name, kind in one.equipment.items()]
        nodes: dict[str, Any] = dict.fromkeys(adapter.node for adapter in one.adapters)
        boxes += [(name, name.split(".")[0], "ellipse") for name in nodes]
        edges += [
            Edge(f"{cable.upper}.{one.site}", f"{cable.lower}.{one.site}", _told(cable.rate).strip())
            for cable in (*one.tree, *one.others)
        ]
        edges += [
            Edge(f"{adapter.switch}.{one.site}", adapter.node, f"{adapter.device}{_told(adapter.rate)}")
            for adapter in one.adapters
            if adapter.switch
        ]
    return dot(", ".join(one.site for one in drawn), boxes, edges)
