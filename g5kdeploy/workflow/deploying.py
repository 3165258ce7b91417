"""The phase deploy and its parts: base environment by kadeploy, the closure's own kernel by kexec, the exporter up."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.boot import Facts, Handover, Proof, boot, new_host_key
from g5kdeploy.boot import facts as look
from g5kdeploy.events.failure import Failure, InvalidUse, NotAllowed
from g5kdeploy.node import HostKeyChanged, Stage, fan_out
from g5kdeploy.testbed import environments, kadeploy
from g5kdeploy.testbed.request import site_of
from g5kdeploy.workflow import building
from g5kdeploy.workflow.session import Session

DEPLOY_SECONDS = 3600.0
READY_SECONDS = 300.0
BOOT_SECONDS = 1800.0
EXPORTER_SECONDS = 120.0


class ExporterFailed(Failure):
    """The exporter of a node does not run, or does not serve a program that was asked for."""


def deploy(session: Session) -> dict[str, Any]:
    """Bring every node of the job to its role's closure, with the exporter up."""
    _another_chance(session)
    environment(session)
    result = boot_closures(session)
    exporters(session)
    return result


def _another_chance(session: Session) -> None:
    """Nodes that an earlier deployment lost are deployed anew; those too whose environment or kernel parameters changed."""
    wanted = building.environment(session)
    for name, node in session.run.nodes().items():
        installed = node["facts"].get("environment")
        if installed not in (None, wanted):
            session.run.set_node(name, stage=Stage.RESERVED.value, facts={"environment": None})
            session.emit.note("deploy", f"has {installed}, is deployed anew", name)
        booted = node["facts"].get("params")
        if booted is not None and booted != session.manifest.roles[node["role"]].params:
            session.run.set_node(name, stage=Stage.RESERVED.value, facts={"params": None})
            session.emit.note("deploy", "runs with other kernel parameters, is deployed anew", name)
        if node["stage"] == Stage.LOST.value:
            session.run.set_node(name, stage=Stage.RESERVED.value, lost_because="")
            session.emit.note("deploy", f"was lost ({node['lost_because']}), is tried again", name)


def environment(session: Session) -> None:
    """Install the base environment on the nodes that have none of ours yet."""
    todo = [name for name, node in session.run.nodes().items() if node["stage"] == Stage.RESERVED.value]
    if not todo:
        return
    name = building.environment(session)
    deadline = session.deadline(DEPLOY_SECONDS, f"the deployment of {name}")
    try:
        if "://" in name:
            environments.check_reachable(name, session.frontend, deadline, session.emit)
        verdicts = _on_sites(session, todo, name, deadline)
    except Problem as problem:
        session.check_job(problem)
        raise
    for node in verdicts.ok:
        session.reach.forget(node)
        session.run.set_node(node, stage=Stage.DEPLOYED.value, facts={"environment": name})
    if verdicts.ko:
        session.lose({node: Failure(f"{node} was not deployed", cause=why) for node, why in verdicts.ko.items()})


def _on_sites(session: Session, nodes: list[str], name: str, deadline: Deadline) -> kadeploy.Verdicts:
    """One deployment a site, all at once; a site whose deployment fails loses its nodes, and the rest goes on."""
    by_site: dict[str, list[str]] = {}
    for node in nodes:
        by_site.setdefault(site_of(node), []).append(node)
    key = public_key(session)

    def one(site: str) -> kadeploy.Verdicts:
        return kadeploy.deploy(session.api, site, by_site[site], name, key, deadline, session.emit)

    if len(by_site) == 1:  # in this thread, so that an interrupt cancels it
        return one(next(iter(by_site)))
    answers = fan_out(by_site, one)
    failed = {site: answer for site, answer in answers.items() if isinstance(answer, Problem)}
    if len(failed) == len(answers):
        raise next(iter(failed.values()))
    ko = {node: str(problem) for site, problem in failed.items() for node in by_site[site]}
    good = [answer for answer in answers.values() if not isinstance(answer, Problem)]
    ko |= {node: why for verdicts in good for node, why in verdicts.ko.items()}
    return kadeploy.Verdicts(tuple(node for verdicts in good for node in verdicts.ok), ko)


def public_key(session: Session) -> str:
    """The user's public key for root's door on the nodes: the first that SSH itself would offer."""
    folder = session.testbed.home / ".ssh"
    for kind in ("ed25519", "ecdsa", "ed25519_sk", "ecdsa_sk", "rsa"):
        path = folder / f"id_{kind}.pub"
        if path.is_file():
            return path.read_text().strip()
    raise NotAllowed(
        f"there is no SSH public key in {folder}",
        cause="root's door on deployed nodes opens for a key only",
        hint="ssh-keygen -t ed25519, and add the key to your account",
    )


def boot_closures(session: Session) -> dict[str, Any]:
    """Boot each node into its role's closure and prove it; those that run it already are left alone."""
    source = building.source(session)
    todo = session.nodes(at_least=Stage.DEPLOYED)
    if not todo:
        raise InvalidUse(f"run {session.run.id} has no deployed nodes", hint="g5kdeploy deploy")
    addresses = _addresses(session, list(todo))

    def bring(node: str) -> Proof:
        before = _greet(session, node)
        if before.system != session.manifest.roles[todo[node]].toplevel:
            session.run.set_node(node, facts={"release_before": before.release, "boot_id_before": before.boot_id})
        return boot(
            session.reach,
            node,
            session.manifest,
            todo[node],
            source,
            _handover(session, node, addresses),
            session.deadline(BOOT_SECONDS, f"the boot of {node}"),
            session.emit,
            building.image(session, todo[node]),
        )

    proofs = session.on_nodes(todo, bring)
    wrong = {}
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
            session.run.set_node(node, stage=Stage.BOOTED.value, facts=facts)
    if wrong:
        session.lose(dict(wrong))
    return {node: proof.after.release for node, proof in proofs.items()}


def _greet(session: Session, node: str) -> Facts:
    """Wait until the node answers, as the system that was deployed or as the one that an earlier process handed a key to."""
    remote = session.reach.remote(node)
    deadline = session.deadline(READY_SECONDS, f"ssh on {node}")
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


def _handover(session: Session, node: str, addresses: dict[str, str]) -> Handover:
    secret, public = new_host_key()
    session.run.set_node(node, facts={"host_key": public})
    names: dict[str, tuple[str, ...]] = {}
    known = session.run.nodes()
    seen: dict[str, int] = {}
    for other in sorted(addresses):
        role = known[other]["role"]
        seen[role] = seen.get(role, 0) + 1
        aliases = (f"{role}{seen[role]}", role) if seen[role] == 1 else (f"{role}{seen[role]}",)
        names[addresses[other]] = (other, other.split(".")[0], *aliases)
    return Handover(node.split(".")[0], secret, public, public_key(session) + "\n", names)


def _addresses(session: Session, nodes: list[str]) -> dict[str, str]:
    """The nodes' production addresses, asked of the site's own name service on the frontend."""
    deadline = session.deadline(60, "the nodes' addresses")
    said = session.frontend.run(f"getent ahostsv4 {' '.join(nodes)} || true", deadline).stdout
    found = dict.fromkeys(nodes, "")
    for line in said.splitlines():
        match = re.match(r"(\S+)\s+STREAM\s+(\S+)", line)
        if match and match[2] in found:
            found[match[2]] = match[1]
    missing = [node for node, address in found.items() if not address]
    if missing:
        described = session.run.nodes()
        for node in missing:
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
    for node in series:
        session.run.set_node(node, stage=Stage.INSTRUMENTED.value)
    return {"series": series}


def _serves(text: str, program: str) -> bool:
    """Whether an exposition says that a program is loaded."""
    return f'g5k_bpf_program_loaded{{config="{program}"}} 1' in text
