"""The first part of the phase deploy: every node in an environment that root can enter, by kadeploy or by sudo-g5k."""

from __future__ import annotations

import shlex
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.base.text import clean, tail
from g5kdeploy.events.failure import Failure, InvalidUse, NotAllowed
from g5kdeploy.experiment.model import IMAGE
from g5kdeploy.node import Stage, fan_out
from g5kdeploy.testbed import environments, kadeploy
from g5kdeploy.testbed.request import site_of
from g5kdeploy.workflow import building
from g5kdeploy.workflow.session import Session

DEPLOY_SECONDS = 3600.0
READY_SECONDS = 300.0
STANDARD = "the standard environment"
_NO_SUDO = 66


def install(session: Session) -> None:
    """Bring the nodes that have none of ours yet into the experiment's environment.

    Those of a job that is not of type deploy keep the standard environment, in which root is made to let us in.
    """
    standing = {job["site"] for job in session.jobs() if "deploy" not in job["types"]}
    if standing and session.experiment.flavour == IMAGE:
        raise InvalidUse(
            f"the job on {', '.join(sorted(standing))} is not of type deploy",
            cause=f"in the flavour {IMAGE} it is kadeploy that brings the closures onto the nodes",
            hint="flavour: local-store or g5k-ramdisk, then build and push anew; or a job of type deploy",
        )
    _another_chance(session, standing)
    todo = [name for name, node in session.run.nodes().items() if node["stage"] == Stage.RESERVED.value]
    deployed = [name for name in todo if site_of(name) not in standing]
    if deployed:
        _deploy(session, deployed)
    if len(deployed) < len(todo):
        _enter(session, [name for name in todo if site_of(name) in standing])


def _another_chance(session: Session, standing: set[str]) -> None:
    """Nodes that an earlier deployment lost are deployed anew; those too whose environment or kernel parameters changed."""
    anew: dict[str, dict[str, Any]] = {}
    for name, node in session.run.nodes().items():
        facts: dict[str, None] = {}
        again = {"stage": Stage.RESERVED.value, "facts": facts}
        installed = node["facts"].get("environment")
        wanted = STANDARD if site_of(name) in standing else building.environment(session, node["role"])
        if installed is not None and installed != wanted:
            facts["environment"] = None
            anew[name] = again
            session.emit.note("deploy", f"has {installed}, is deployed anew", name)
        booted = node["facts"].get("params")
        if booted is not None and booted != session.manifest.roles[node["role"]].params:
            if site_of(name) in standing:
                raise InvalidUse(
                    f"{name} runs with other kernel parameters",
                    cause=f"its job is not of type deploy, so that nothing brings {STANDARD} back while it lasts",
                    hint="g5kdeploy release, then begin anew; or job_types: [deploy]",
                )
            facts["params"] = None
            anew[name] = again
            session.emit.note("deploy", "runs with other kernel parameters, is deployed anew", name)
        if node["stage"] == Stage.LOST.value:
            anew[name] = {**again, "lost_because": ""}
            session.emit.note("deploy", f"was lost ({node['lost_because']}), is tried again", name)
    session.run.set_nodes(anew)


# Jobs of type deploy


def _deploy(session: Session, nodes: list[str]) -> None:
    known = session.run.nodes()
    wanted = {node: building.environment(session, known[node]["role"]) for node in nodes}
    names = dict.fromkeys(wanted.values())
    deadline = session.deadline(DEPLOY_SECONDS, f"the deployment of {', '.join(names)}")
    vlans = {site: _vlan(session, site) for site in {site_of(node) for node in nodes}}
    try:
        for name in names:
            if "://" in name:
                environments.check_reachable(name, session.frontend, deadline, session.emit)
        verdicts = _by_kadeploy(session, wanted, vlans, deadline)
    except Problem as problem:
        session.check_job(problem)
        raise
    came = {}
    for node in verdicts.ok:
        vlan = vlans[site_of(node)]
        address = kadeploy.in_vlan(node, vlan) if vlan is not None else node
        session.reach.move(node, address)
        facts = {"environment": wanted[node], "address": address if vlan is not None else None}
        came[node] = {"stage": Stage.DEPLOYED.value, "facts": facts}
    session.reach.forget(*came)
    session.run.set_nodes(came)
    if verdicts.ko:
        session.lose({node: Failure(f"{node} was not deployed", cause=why) for node, why in verdicts.ko.items()})


def _vlan(session: Session, site: str) -> int | None:
    """The KaVLAN that the nodes of a site shall be in; a global one is reserved once, with the job of the first site."""
    if session.experiment.vlan is None:
        return None
    jobs = session.jobs()
    found = [vlan for job in jobs if job["site"] == site for vlan in job.get("vlans", ())]
    found += [vlan for job in jobs for vlan in job.get("vlans", ()) if session.experiment.vlan == "global"]
    if not found:
        raise Failure(
            f"the job on {site} holds no VLAN",
            cause=f"the experiment wants a {session.experiment.vlan} one",
            hint="reserve with it (g5kdeploy release, then reserve), or leave out `vlan:`",
        )
    return int(found[0])


def _by_kadeploy(
    session: Session, wanted: dict[str, str], vlans: dict[str, int | None], deadline: Deadline
) -> kadeploy.Verdicts:
    """One deployment for each site and environment, all at once; one that fails loses its nodes, and the rest goes on.

    `wanted`: each node's environment.
    """
    parts: dict[tuple[str, str], list[str]] = {}
    for node, name in wanted.items():
        parts.setdefault((site_of(node), name), []).append(node)
    key = public_key(session)

    def one(part: tuple[str, str]) -> kadeploy.Verdicts:
        site, name = part
        return kadeploy.deploy(session.api, site, parts[part], name, key, deadline, session.emit, vlan=vlans[site])

    if len(parts) == 1:  # in this thread, so that an interrupt cancels it
        return one(next(iter(parts)))
    try:
        answers = fan_out(parts, one)
    except BaseException:
        for part, nodes in parts.items():
            kadeploy.cancel_on(session.api, part[0], nodes, deadline)
        raise
    failed = {part: answer for part, answer in answers.items() if isinstance(answer, Problem)}
    if len(failed) == len(answers):
        raise next(iter(failed.values()))
    ko = {node: str(problem) for part, problem in failed.items() for node in parts[part]}
    good = [answer for answer in answers.values() if not isinstance(answer, Problem)]
    ko |= {node: why for verdicts in good for node, why in verdicts.ko.items()}
    return kadeploy.Verdicts(tuple(node for verdicts in good for node in verdicts.ok), ko)


def public_key(session: Session) -> str:
    """The user's public key for root's door on the nodes: the first that SSH itself would offer."""
    folder = session.testbed.home / ".ssh"
    for kind in ("ed25519", "ecdsa", "ed25519_sk", "ecdsa_sk", "rsa"):
        path = folder / f"id_{kind}.pub"
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace").strip()
    raise NotAllowed(
        f"there is no SSH public key in {folder}",
        cause="root's door on deployed nodes opens for a key only",
        hint="ssh-keygen -t ed25519, and add the key to your account",
    )


# Other jobs


def _enter(session: Session, nodes: list[str]) -> None:
    """In the standard environment the user of the job is let in; sudo-g5k makes him root, and then root gets his key."""
    session.emit.note("deploy", f"the job is not of type deploy: {', '.join(nodes)} keep {STANDARD}")
    key = public_key(session)

    def enter(node: str) -> None:
        deadline = session.deadline(READY_SECONDS, f"{STANDARD} on {node}")
        session.reach.move(node, node)
        session.reach.forget(node)  # of an earlier job, when it ran something else
        with session.emit.step("sudo-g5k", node):
            remote = session.reach.remote(node, None)
            remote.wait_ready(deadline)
            done = remote.run(_OPEN.format(key=shlex.quote(key), status=_NO_SUDO), deadline, check=False)
            if done.status != 0:
                raise NotAllowed(
                    f"{node} does not make {remote.user} root",
                    cause="it has no sudo-g5k" if done.status == _NO_SUDO else clean(tail(done.stderr, 3)),
                    hint="sudo-g5k serves jobs that hold whole nodes; or reserve with the type deploy",
                )
        session.run.set_node(node, stage=Stage.DEPLOYED.value, facts={"environment": STANDARD, "address": None})

    session.on_nodes(nodes, enter)


_OPEN = """command -v sudo-g5k > /dev/null || exit {status}
sudo-g5k < /dev/null > /dev/null && sudo -n sh -c '
mkdir -p -m 700 /root/.ssh && touch /root/.ssh/authorized_keys && chmod 600 /root/.ssh/authorized_keys || exit 1
grep -qxF -- "$1" /root/.ssh/authorized_keys || printf "%s\\n" "$1" >> /root/.ssh/authorized_keys' sh {key}"""
