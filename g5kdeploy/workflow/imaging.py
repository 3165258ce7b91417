"""The flavour g5k-image: each role's closure as an environment of its own, which kadeploy installs and boots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_bytes, to_paste
from g5kdeploy.closure.image import tarball
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.experiment.model import IMAGE
from g5kdeploy.testbed import environments
from g5kdeploy.workflow.session import Session

PARTITION = "KDPL_DEPLOY_disk0"
"""The label of the partition that kadeploy installs on."""
_FILESYSTEM, _LINUX = "ext4", 131
# It writes what a node needs to be itself, and has the kernel booted that the description names
_POST_INSTALL = {
    "archive": "server:///grid5000/postinstalls/g5k-postinstall.tgz",
    "compression": "gzip",
    "script": "g5k-postinstall --net none --bootloader no-grub-from-deployed-env",
}


def describe(session: Session, role: str, archive: str) -> dict[str, Any]:
    """What kadeploy must know of a role's image: kaenv's form, from the manifest alone."""
    manifest = session.manifest
    closure = manifest.roles[role]
    return {
        "name": f"{session.experiment.name}-{role}",
        "version": 1,
        "arch": manifest.system.removesuffix("-linux"),
        "description": closure.toplevel,
        "visibility": "private",
        "os": "linux",
        "image": {"file": archive, "kind": "tar", "compression": "zstd"},
        "postinstalls": [_POST_INSTALL],
        "boot": {
            "kernel": closure.kernel,
            "initrd": closure.initrd,
            "kernel_params": f"{closure.params} init={closure.init} store=PARTLABEL={PARTITION}",
        },
        "filesystem": _FILESYSTEM,
        "partition_type": _LINUX,
    }


def publish(session: Session, deadline: Deadline) -> dict[str, dict[str, str]]:
    """Make each role's image and bring it where kadeploy finds it; by role, where that is and what is in it."""
    found = {}
    for role in sorted(session.experiment.roles):
        with session.emit.step(f"image of {role}") as step:
            archive = tarball(session.manifest, role, deadline)
            step.text = human_bytes(archive.stat().st_size)
        described = describe(session, role, archive.name)
        own = environments.OwnImage(Path(f"{described['name']}.yaml"), described, {archive.name: archive})
        url = environments.publish(own, session.frontend, session.web_of(session.run.site), deadline, session.emit)
        found[role] = {"url": url, **_stamp(session, role)}
    return found


def url(session: Session, role: str) -> str:
    """The URL of a role's description; raises `InvalidUse` when the closure was not pushed as it is now."""
    record = session.run.phases().get("push")
    told = (record.result if record else {}).get("environments", {}).get(role, {})
    if {name: told.get(name) for name in ("toplevel", "params")} != _stamp(session, role):
        raise InvalidUse(
            f"the image of {role} was not pushed as it is now", hint=to_paste("push", session.experiment.file)
        )
    return str(told["url"])


def key(session: Session) -> Any:
    """Changes when an image does."""
    if not session.run.manifest_file.exists():
        return IMAGE
    return {role: _stamp(session, role) for role in sorted(session.experiment.roles)}


def _stamp(session: Session, role: str) -> dict[str, str]:
    closure = session.manifest.roles[role]
    return {"toplevel": closure.toplevel, "params": closure.params}
