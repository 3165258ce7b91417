"""Deployments as kadeploy and the API server keep them: rights, states, results; what runs them is a `Deployer`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.lab.kaenv import Environments

MACRO_STEPS = ("SetDeploymentMiniOS", "BroadcastEnv", "BootNewEnv")
"""Kadeploy's three macro steps, in their order."""

WAITING, PROCESSING, TERMINATED, ERROR, CANCELED = "waiting", "processing", "terminated", "error", "canceled"

Report = Callable[[str, str, bool | None, str], None]
"""`report(node, macro_step, ok, text)`: ok None = the node is in that step now, `text` the micro step; False = the
node is lost in that step (KO), `text` the reason; True = the node is deployed (only its last step says so)."""


class NotDeployable(Exception):
    """A deployment that kadeploy or the API server refuses; `status` is the HTTP status that the client sees."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass
class Deployment:
    """One deployment. Times are unix seconds; None stands for what was not given and is left out of documents.

    `description` is the environment's description (kaenv's YAML as a mapping) and `keys` the text of the public
    keys; both are for the deployer alone, the API shows `environment` and the URL `key`.
    """

    uid: str
    site_uid: str
    user_uid: str
    environment: str
    nodes: list[Any]
    version: str | None = None
    arch: str | None = None
    status: str = PROCESSING
    key: str | None = None
    partition_label: str | None = None
    block_device: str | None = None
    reformat_tmp: str | None = None
    vlan: int | None = None
    disable_disk_partitioning: bool = False
    disable_bootloader_install: bool = False
    ignore_nodes_deploying: bool = False
    result: dict[str, dict[str, Any]] | None = None
    output: str | None = None
    created_at: int = 0
    updated_at: int = 0
    description: dict[str, Any] = field(default_factory=dict)
    keys: str = ""


class Deployer(Protocol):
    """What brings environments onto nodes."""

    def start(self, deployment: Deployment, report: Report) -> None:
        """Begin, and return at once; `report` is called from any thread until every node has its end."""

    def cancel(self, uid: str) -> None:
        """Give up on a deployment; nodes stay as they are."""


class Deployments:
    """All deployments of the lab, in a database that survives restarts; what runs is in memory, as in kadeploy.

    `rights(user, nodes)` says whether the user holds all these nodes in a running job of type deploy. `fetch(url)`
    reads a description or a key from a URL (default: over HTTP). With `end_hook`, the end of a deployment is seen at
    once, as on the real sites; without it only a refresh (PUT) shows anything.
    """

    def __init__(
        self,
        store: Path | str,
        deployer: Deployer,
        environments: Environments,
        *,
        rights: Callable[[str, list[str]], bool],
        fetch: Callable[[str], bytes] | None = None,
        end_hook: bool = True,
        clock: Clock = SYSTEM,
    ) -> None:
        raise NotImplementedError
