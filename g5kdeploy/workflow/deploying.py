"""The phase deploy and its parts: an environment that root can enter, the closure's own kernel by kexec, the exporter up."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

from g5kdeploy.boot import Facts, Handover, Proof, Source, arrived, boot, new_host_key
from g5kdeploy.boot import facts as look
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.experiment.model import IMAGE
from g5kdeploy.node import HostKeyChanged, Stage
from g5kdeploy.workflow import building, installing
from g5kdeploy.workflow.session import Session

BOOT_SECONDS = 1800.0
EXPORTER_SECONDS = 120.0
Names = dict[str, tuple[str, ...]]
"""Names by address."""


class ExporterFailed(Failure):
    """The exporter of a node does not run, or does not serve a program that was asked for."""


def deploy(session: Session) -> dict[str, Any]:
    """Bring every node of the job to its role's closure, with the exporter up."""
    installing.install(session)
    result = boot_closures(session)
    exporters(session)
    return result


def boot_closures(session: Session) -> dict[str, Any]:
    """Boot each node into its role's closure and prove it; those that run it already are left alone."""
    source = None if session.experiment.flavour == IMAGE else building.source(session)
    todo = session.nodes(at_least=Stage.DEPLOYED)
    if not todo:
        raise InvalidUse(f"run {session.run.id} has no deployed nodes", hint="g5kdeploy deploy")
    addresses = _addresses(session, list(todo))

    names = _names(session, addresses)

    def bring(node: str) -> Proof:
        if source is None:
            return _installed(session, node, todo[node], names)
        return _booted(session, node, todo[node], source, names)

    proofs = session.on_nodes(todo, bring)
    wrong = {}
    came = {}
    for node, proof in proofs.items():
        facts = {
            "boot_id": proof.after.boot_id,
            "release_after": proof.after.release,
            "current_system": proof.after.system,
            "params": session.manifest.roles[todo[node]].params,
        }
        wanted = session.experiment.kernel.release
        if wanted and not fnmatch.fnmatchcase(proof.after.release, wanted):
            wrong[node] = Failure(f"{node} runs kernel {proof.after.release}", cause=f"kernel.release wants {wanted}")
            continue
        stage = session.run.nodes()[node]["stage"]
        if stage != Stage.INSTRUMENTED.value or proof.changed:
            came[node] = {"stage": Stage.BOOTED.value, "facts": facts}
    session.run.set_nodes(came)
    if wrong:
        session.lose(dict(wrong))
    return {node: proof.after.release for node, proof in proofs.items()}


def _greet(session: Session, node: str) -> Facts:
    """Wait until the node answers, as the system that was deployed or as the one that an earlier process handed a key to."""
    remote = session.reach.remote(node)
    deadline = session.deadline(installing.READY_SECONDS, f"ssh on {node}")
    try:
        remote.wait_ready(deadline)
    except HostKeyChanged:
        handed = session.run.nodes()[node]["facts"].get("host_key")
        if not handed:
            raise
        # That process died after the kexec: whoever shows this key was given it over the connection that was checked
        session.reach.pin(node, handed)
        remote = session.reach.remote(node)
        remote.wait_ready(deadline)
    return look(remote, deadline)


def _booted(session: Session, node: str, role: str, source: Source, names: Names) -> Proof:
    """Pull the closure and jump into its kernel."""
    before = _greet(session, node)
    if before.system != session.manifest.roles[role].toplevel:
        session.run.set_node(node, facts={"release_before": before.release, "boot_id_before": before.boot_id})
    secret, public = new_host_key()
    session.run.set_node(node, facts={"host_key": public})
    handover = Handover(node.split(".")[0], secret, public, installing.public_key(session) + "\n", names)
    deadline = session.deadline(BOOT_SECONDS, f"the boot of {node}")
    image = building.image(session, role)
    return boot(session.reach, node, session.manifest, role, source, handover, deadline, session.emit, image)


def _installed(session: Session, node: str, role: str, names: Names) -> Proof:
    """See that what kadeploy installed is the closure; after a further deployment, in a boot of its own."""
    known = session.run.nodes()[node]
    earlier = known["facts"].get("boot_id", "") if known["stage"] == Stage.DEPLOYED.value else ""
    _greet(session, node)
    deadline = session.deadline(BOOT_SECONDS, f"the closure on {node}")
    return arrived(session.reach, node, session.manifest.roles[role], names, earlier, deadline, session.emit)


def _names(session: Session, addresses: dict[str, str]) -> Names:
    """What the nodes call each other: full and short names, and roles with and without a number."""
    names: Names = {}
    known = session.run.nodes()
    seen: dict[str, int] = {}
    for other in sorted(addresses):
        role = known[other]["role"]
        seen[role] = seen.get(role, 0) + 1
        aliases = (f"{role}{seen[role]}", role) if seen[role] == 1 else (f"{role}{seen[role]}",)
        names[addresses[other]] = (other, other.split(".")[0], *aliases)
    return names


def _addresses(session: Session, nodes: list[str]) -> dict[str, str]:
    """The nodes' addresses, in their VLAN if they are in one, asked of the site's own name service on the frontend."""
    deadline = session.deadline(60, "the nodes' addresses")
    asked = {session.reach.name_of(node): node for node in nodes}
    said = session.frontend.run(f"getent ahostsv4 {' '.join(asked)} || true", deadline).stdout
    found = dict.fromkeys(nodes, "")
    for line in said.splitlines():
        match = re.match(r"(\S+)\s+STREAM\s+(\S+)", line)
        if match and match[2] in asked:
            found[asked[match[2]]] = match[1]
    missing = [node for node, address in found.items() if not address]
    if missing:
        described = session.run.nodes()
        for node in missing:
            if node != session.reach.name_of(node):
                continue  # reference data would tell its address outside of its VLAN
            for adapter in described[node].get("hardware", {}).get("network_adapters", []):
                if adapter.get("network_address") == node and adapter.get("ip"):
                    found[node] = adapter["ip"]
    return {node: address for node, address in found.items() if address}


def exporters(session: Session) -> dict[str, Any]:
    """See that the exporter of each node that should have one serves the programs that were asked for."""
    experiment = session.experiment
    todo = session.instrumented()
    series: dict[str, int] = {}

    def look(node: str) -> int:
        deadline = session.deadline(EXPORTER_SECONDS, f"the exporter of {node}")
        with session.emit.step("exporter", node) as step:
            remote = session.reach.remote(node)
            wanted = session.manifest.roles[todo[node]].programs
            if experiment.exporter.programs:
                wanted = tuple(program for program in wanted if program in experiment.exporter.programs)
            text = ""
            while True:
                done = remote.run(
                    f"systemctl start g5kdeploy-exporter; curl -fsS http://127.0.0.1:{experiment.exporter.port}/metrics",
                    deadline,
                    check=False,
                )
                text = done.stdout
                if done.status == 0:
                    break
                if deadline.remaining() < 2:
                    log = remote.run("journalctl -u g5kdeploy-exporter -n 20 --no-pager", deadline, check=False).stdout
                    raise ExporterFailed(f"the exporter of {node} does not answer", cause=log.strip() or done.stderr)
                deadline.sleep(1, done.stderr)
            missing = [program for program in wanted if not _serves(text, program)]
            if missing:
                raise ExporterFailed(
                    f"the exporter of {node} does not serve {', '.join(missing)}",
                    cause="\n".join(line for line in text.splitlines() if "error" in line and not line.startswith("#")),
                    hint=f"g5kdeploy logs {node} --unit g5kdeploy-exporter",
                )
            count = sum(1 for line in text.splitlines() if line and not line.startswith("#"))
            step.text = f"{count} series, programs {', '.join(wanted) or 'none asked for'}"
            return count

    series.update(session.on_nodes(todo, look))
    session.run.set_nodes({node: {"stage": Stage.INSTRUMENTED.value} for node in series})
    return {"series": series}


def _serves(text: str, program: str) -> bool:
    """Whether an exposition says that a program is loaded."""
    return f'g5k_bpf_program_loaded{{config="{program}"}} 1' in text
