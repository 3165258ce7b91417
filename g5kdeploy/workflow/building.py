"""The phases build and push: from the composition to a binary cache that the site's nodes can reach."""

from __future__ import annotations

import shutil
from collections.abc import Sequence, Set
from dataclasses import asdict, replace
from typing import Any

from g5kdeploy import closure
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import to_paste
from g5kdeploy.boot import Source
from g5kdeploy.closure import Bundle
from g5kdeploy.closure.image import Image, Part, push_image
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.experiment import Experiment
from g5kdeploy.experiment.model import IMAGE
from g5kdeploy.testbed import environments
from g5kdeploy.workflow import handing, imaging
from g5kdeploy.workflow.session import Session

BUILD_SECONDS = 3600.0
RAMDISK = "g5k-ramdisk"
PUSH_SECONDS = 1800.0


def build(session: Session) -> dict[str, Any]:
    """Build the closures of the experiment's roles and keep their manifest in the run's folder."""
    experiment = session.experiment
    if shutil.which("nix-build") is None:
        raise Failure(
            "nothing can be built here: there is no Nix",
            cause="nix-build is not on the PATH",
            hint="as root: apt-get install nix-bin. Without root, as on a frontend: build and push elsewhere, then here "
            f"{to_paste('run', experiment.file)} --manifest ~/{handing.place(experiment.name)}",
        )
    deadline = session.deadline(BUILD_SECONDS, "the build")
    _check_programs(experiment, closure.programs(experiment.composition, sorted(experiment.roles), deadline))
    manifest = closure.build(
        experiment.composition,
        sorted(experiment.roles),
        deadline,
        session.emit,
        experiment.flavour,
        ignore_additions=experiment.additions == "ignore",
    )
    for role, options in manifest.built.get("without", {}).items():
        session.run.warn(f"{role} was built without what composition.nix adds to it: {', '.join(options)}")
    manifest = _with_params(manifest, session.experiment.kernel.params)
    return {"closures": handing.keep(session, manifest)}


def _with_params(manifest: closure.Manifest, more: Sequence[str]) -> closure.Manifest:
    """The same closures, booted with further kernel parameters; behind the composition's own, for the last word wins."""
    if not more:
        return manifest
    roles = {name: replace(role, params=" ".join([role.params, *more])) for name, role in manifest.roles.items()}
    return replace(manifest, roles=roles)


def _check_programs(experiment: Experiment, have: Set[str]) -> None:
    wanted = set(experiment.exporter.programs)
    if wanted - have:
        raise InvalidUse(
            f"no role serves {', '.join(sorted(wanted - have))}",
            cause=f"exporter.programs asks for it, the composition has: {', '.join(sorted(have)) or 'none'}",
            hint=f"add it to `programs` of a role in {experiment.composition / 'roles.nix'}",
        )


def push(session: Session) -> dict[str, Any]:
    """Bring what is built into the user's public folder on the frontend: once, for the nodes of all sites."""
    deadline = session.deadline(PUSH_SECONDS, "the push")
    if session.experiment.flavour == IMAGE:
        pushed: dict[str, Any] = {"environments": imaging.publish(session, deadline)}
    else:
        pushed = _push_closures(session, deadline)
    result = {"site": session.run.site, **pushed}
    return {**result, "manifest": handing.hand_over(session, result, deadline)}


def _push_closures(session: Session, deadline: Deadline) -> dict[str, Any]:
    """The closures, into a binary cache, and what nodes need to get on: Nix, kexec, stores for their memory, an environment."""
    experiment = session.experiment
    pushed = closure.push(
        session.manifest, sorted(experiment.roles), session.frontend, deadline, session.emit, experiment.cache.folder
    )
    bundle = closure.push_bundle(session.frontend, deadline, session.emit)
    url = _environment(session, deadline)
    images = {}
    if experiment.flavour == RAMDISK:
        for role in sorted(experiment.roles):
            image = push_image(session.manifest, role, session.frontend, deadline, session.emit)
            images[role] = asdict(image)
    return {"cache": asdict(pushed), "bundle": asdict(bundle), "images": images, "environment": url}


def _environment(session: Session, deadline: Deadline) -> dict[str, Any] | None:
    """The experiment's own environment, brought where kadeploy finds it; None for one that the site has."""
    file = session.experiment.environment_file
    if file is None:
        return None
    own = environments.read(file)
    url = environments.publish(own, session.frontend, session.web_of(session.run.site), deadline, session.emit)
    return {"file": str(file), "stamp": own.stamp(), "url": url}


def environment(session: Session, role: str) -> str:
    """What kadeploy is to be told for the nodes of a role: a name, or a URL.

    Raises `InvalidUse` for a file, or an image, that was not pushed as it is now.
    """
    if session.experiment.flavour == IMAGE:
        return imaging.url(session, role)
    file = session.experiment.environment_file
    if file is None:
        return session.experiment.environment
    told = _pushed_environment(session)
    if told and told.get("elsewhere"):
        return str(told["url"])
    if not told or told["file"] != str(file) or told["stamp"] != environments.read(file).stamp():
        raise InvalidUse(
            f"the environment {file} was not pushed as it is now", hint=to_paste("push", session.experiment.file)
        )
    return str(told["url"])


def _pushed_environment(session: Session) -> dict[str, Any] | None:
    record = session.run.phases().get("push")
    return record.result.get("environment") if record else None


def environment_key(session: Session) -> Any:
    """Changes when the environment does."""
    if session.experiment.flavour == IMAGE:
        return imaging.key(session)
    file = session.experiment.environment_file
    told = _pushed_environment(session)
    if file is not None and told and told.get("elsewhere"):
        return told["url"]
    return session.experiment.environment if file is None else [str(file), environments.read(file).stamp()]


def image(session: Session, role: str) -> Image | None:
    """The role's store as an image for the nodes' memory, as `push` left it; None in other flavours."""
    told = session.run.phases()["push"].result.get("images", {}).get(role)
    return Image(**{name: Part(**part) for name, part in told.items()}) if told else None


def pushed_to(session: Session) -> str:
    """The site whose public folders have the closures; where they would go, as long as nothing was pushed."""
    record = session.run.phases().get("push")
    return str(record.result.get("site", session.run.site)) if record else session.run.site


def source(session: Session) -> Source:
    """Where the nodes pull from, as `push` left it."""
    record = session.run.phases().get("push")
    if record is None or not record.result:
        raise InvalidUse(f"run {session.run.id} was not pushed yet", hint=to_paste("push", session.experiment.file))
    cache, bundle = record.result["cache"], record.result["bundle"]
    return Source(
        session.web_of(pushed_to(session)), cache["path"], Bundle(**bundle), cache["public_key"], session.run.id
    )
