"""What `kadeploy3` on a frontend asks: a deployment is launched, followed, and cancelled when nobody follows it any more."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from g5kdeploy.lab.deployments import PROCESSING, Deployment, Deployments, NotDeployable

POLL_SECONDS = 0.5


class Kadeploy:
    """Answers the requests of `user` on a site."""

    def __init__(self, deployments: Deployments, site: str, user: str) -> None:
        self._deployments, self._site, self._user = deployments, site, user

    def __call__(self, request: Mapping[str, Any]) -> Iterator[dict[str, str]]:
        """What to print (`text`, `error`), and at the end the names of the nodes, lines of `ok` and `ko`."""
        try:
            wanted = self._wanted(request)
            launched = self._deployments.launch(wanted, f"/sites/{self._site}/files")
        except NotDeployable as refused:
            yield {"error": refused.message.rstrip("\n")}
            return
        yield {"text": f"Deployment #{launched.uid} started\n"}
        try:
            yield from self._follow(launched.uid)
        finally:
            self._deployments.cancel(launched.uid)
        yield from self._result(launched.uid)

    def _wanted(self, request: Mapping[str, Any]) -> Deployment:
        import yaml

        description: dict[str, Any] = {}
        if text := request.get("description"):
            try:
                description = dict(yaml.safe_load(str(text)))
            except (yaml.YAMLError, TypeError, ValueError) as bad:
                trouble = "the environment cannot be loaded from the description you specified"
                raise NotDeployable(400, f"Invalid environment specification -- {trouble}") from bad
        vlan = str(request.get("vlan") or "")
        if vlan and not vlan.isdigit():
            raise NotDeployable(400, f"Invalid VLAN -- {vlan}")
        name, owner = str(request.get("environment") or description.get("name", "")), request.get("env_user")
        return Deployment(
            uid="",
            site_uid=self._site,
            user_uid=self._user,
            environment=f"{name}@{owner}" if owner else name,
            nodes=[str(node) for node in request["nodes"]],
            version=request.get("env_version"),
            key=request.get("key"),
            vlan=int(vlan) if vlan else None,
            block_device=request.get("block_device"),
            partition_label=request.get("partition"),
            reformat_tmp=request.get("reformat_tmp"),
            description=description,
        )

    def _follow(self, uid: str) -> Iterator[dict[str, str]]:
        """A line for each macro step that a node begins, until all nodes have their end."""
        last: dict[str, str] = {}
        while (found := self._deployments.get(uid)) is not None and found.status == PROCESSING:
            steps = self._deployments.steps(uid)
            lines = [
                f"Performing a Deploy[{step}] step on {node}\n"
                for node, step in steps.items()
                if last.get(node) != step
            ]
            last = steps
            if why := self._deployments.broken(uid):
                yield {"error": why}
                return
            yield {"text": "".join(lines)}  # perhaps nothing: so it is seen that nobody reads any more
            self._deployments.refresh(uid)
            time.sleep(POLL_SECONDS)

    def _result(self, uid: str) -> Iterator[dict[str, str]]:
        found = self._deployments.get(uid)
        result = (found.result if found else None) or {}
        good = [node for node, state in result.items() if state["state"] == "OK"]
        bad = {node: state.get("error", "") for node, state in result.items() if state["state"] != "OK"}
        text = f"Deployment #{uid} done\n\n"
        if good:
            text += "The deployment is successful on nodes\n" + "".join(f"{node}\n" for node in good)
        if bad:
            text += "The deployment failed on nodes\n" + "".join(f"{node} ({why})\n" for node, why in bad.items())
        yield {"text": text}
        yield {"ok": "".join(f"{node}\n" for node in good), "ko": "".join(f"{node}\n" for node in bad)}
