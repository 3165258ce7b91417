"""Closures that were built and pushed by one machine and are deployed by another: what the second has to know of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.files import read_json
from g5kdeploy.closure import Manifest
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.workflow.session import Session

FOLDER = "public/g5kdeploy/pushed"
KIND = "PushedClosures"
VERSION = 1
DONE_ELSEWHERE = ("build", "vmtest", "push")
"""The phases that a run leaves out when it is given what another machine pushed."""


def place(name: str) -> str:
    """Where the frontend's home has what was pushed last for the experiment of that name."""
    return f"{FOLDER}/{name}.json"


def keep(session: Session, manifest: Manifest) -> dict[str, Any]:
    """Keep closures with the run; what run.json says of each."""
    session.built(manifest)
    closures = {
        name: {
            "toplevel": role.toplevel,
            "nar_hash": manifest.paths[role.toplevel].nar_hash,
            "release": role.release,
            "size": manifest.size(name),
            "paths": len(manifest.closure(name)),
        }
        for name, role in manifest.roles.items()
    }
    session.run.set(closures=closures)
    return closures


def hand_over(session: Session, pushed: dict[str, Any], deadline: Deadline) -> str:
    """Leave on the frontend what `adopt` takes; its place in the home there. Nothing in it is secret."""
    document = {
        "apiVersion": f"g5kdeploy/v{VERSION}",
        "kind": KIND,
        "testbed": session.testbed.name,
        "site": session.run.site,
        "manifest": session.manifest.document(),
        "push": pushed,
    }
    there = place(session.experiment.name)
    session.frontend.put(json.dumps(document).encode(), there, deadline)
    return there


def adopt(session: Session, file: Path) -> None:
    """Take over what another machine built and pushed: to this run, its phases build and push are done.

    Raises `InvalidUse` for a file that is none, and for closures that do not suit the experiment or its testbed.
    """
    if not file.is_file():
        raise InvalidUse(f"there is no {file}", hint=f"g5kdeploy push leaves it as ~/{place(session.experiment.name)}")
    document = read_json(file)
    if not isinstance(document, dict) or document.get("kind") != KIND or not isinstance(document.get("push"), dict):
        raise InvalidUse(
            f"{file} does not say what was pushed",
            cause=f"it is no {KIND}",
            hint=f"g5kdeploy push leaves such a file on the frontend: ~/{place(session.experiment.name)}",
        )
    if document.get("apiVersion") != f"g5kdeploy/v{VERSION}":
        raise InvalidUse(f"{file} was written by another version", cause=str(document.get("apiVersion")))
    manifest = Manifest.of(document.get("manifest"), file)
    wrong = _unfit(session, manifest, document)
    if wrong:
        raise InvalidUse(f"{file} does not suit {session.experiment.file.name}", cause=wrong)
    closures = keep(session, manifest)
    if environment := document["push"].get("environment"):
        environment["elsewhere"] = True  # what it was made of need not be here
    for name, result in (("build", {"closures": closures}), ("push", {**document["push"], "site": document["site"]})):
        with session.run.phase(name, "") as record:
            record.result = {key: value for key, value in result.items() if key != "detail"}
            record.detail = f"elsewhere, says {file}"
    session.emit.note("manifest", f"closures of {', '.join(manifest.roles)}, pushed to {document['site']}")


def _unfit(session: Session, manifest: Manifest, document: dict[str, Any]) -> str:
    """Why these closures cannot be deployed for the session's experiment; "" when they can."""
    experiment = session.experiment
    if missing := sorted(set(experiment.roles) - set(manifest.roles)):
        return f"it has no closure of {', '.join(missing)}, only of {', '.join(manifest.roles)}"
    if manifest.flavour != experiment.flavour:
        return f"its flavour is {manifest.flavour}, the experiment's is {experiment.flavour}"
    if document["testbed"] != session.testbed.name:
        return f"it was pushed to {document['site']} of {document['testbed']}, the run is on {session.testbed.name}"
    return ""
