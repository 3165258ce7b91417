"""The phases vmtest and check: one test script, on local machines and on the deployed nodes."""

from __future__ import annotations

import hashlib
from typing import Any

from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import Stage
from g5kdeploy.workflow.session import Session


def script_hash(session: Session) -> str | None:
    """The hash of the test script; None when the composition has none."""
    script = session.experiment.test_script
    return hashlib.sha256(script.read_bytes()).hexdigest() if script else None


def counts(session: Session) -> dict[str, int]:
    """How many machines each role has."""
    return {name: role.nodes for name, role in session.experiment.roles.items()}


def vmtest(session: Session, reuse: bool = True) -> dict[str, Any]:
    """Run the test script on local machines that run the very closures; a verdict is reused while its inputs hold."""
    from g5kdeploy import vmtest as room

    script = session.experiment.test_script
    if script is None:
        return {"detail": "the composition has no test script"}
    timeout = float(session.experiment.check.timeout)
    verdict = room.run_local(
        session.manifest,
        counts(session),
        script,
        session.run.folder / "vmtest",
        session.deadline(timeout + 900, "the test on local machines"),
        session.emit,
        timeout=timeout,
        reuse=reuse,
    )
    return {"detail": verdict.words, "reused": verdict.reused}


def check(session: Session) -> dict[str, Any]:
    """Run the same script on the deployed nodes."""
    from g5kdeploy import vmtest as room

    script = session.experiment.test_script
    if script is None:
        return {"detail": "the composition has no test script"}
    nodes = session.nodes(at_least=Stage.BOOTED)
    if not nodes:
        raise InvalidUse("no node is up", hint="g5kdeploy deploy")
    timeout = float(session.experiment.check.timeout)
    verdict = room.run_on_nodes(
        session.reach,
        nodes,
        script,
        session.run.folder / "check",
        session.deadline(timeout + room.GRACE_SECONDS, "the test on the nodes"),
        session.emit,
    )
    return {"detail": verdict.words}
