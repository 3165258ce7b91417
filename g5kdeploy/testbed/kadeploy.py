"""Deploying an environment on a job's nodes through the API, with a verdict for each node."""

from __future__ import annotations

from dataclasses import dataclass

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed.api import Api


@dataclass(frozen=True)
class Verdicts:
    """What became of each node: `ok` by full name, `ko` with the reason."""

    ok: tuple[str, ...]
    ko: dict[str, str]
    deployments: tuple[str, ...] = ()


def deploy(
    api: Api,
    site: str,
    nodes: tuple[str, ...],
    environment: str,
    key: str,
    deadline: Deadline,
    emit: Emitter,
    *,
    tries: int = 2,
) -> Verdicts:
    """Deploy `environment` (name, name@user or URL) on full-name `nodes`, with `key` (public key text) for root.

    Nodes that fail are tried again alone, `tries` times in all; all of them failing at the boot of the environment is
    the image's fault: `ImageProblem`, not tried again. Those lost stand in `Verdicts.ko`; all lost: `Failure`.
    """
    raise NotImplementedError
