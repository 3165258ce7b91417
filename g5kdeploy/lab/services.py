"""What stands behind the REST API: schedulers, reference data, accounts, deployments, environments, VLANs, homes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.lab.accounts import Accounts
from g5kdeploy.lab.management import Management

if TYPE_CHECKING:
    from g5kdeploy.lab.deployments import Deployments
    from g5kdeploy.lab.kaenv import Environments
    from g5kdeploy.lab.kavlan import Kavlan
    from g5kdeploy.lab.oar import Scheduler
    from g5kdeploy.lab.reference import Reference


@dataclass
class SiteServices:
    """All that `api.make_app` needs. Mappings are by site ("lab").

    `homes` holds the users' homes on each site; `<user>/public` in them is served under S/public/<user>/. `trust_proxy` takes the
    user from the header X-Api-User-Cn, as the API server does behind the site's proxy, and asks for no password.
    `public_url` is where clients find the API ("https://api.grid5000.fr"); empty: where the request went.
    """

    reference: Reference
    oars: Mapping[str, Scheduler]
    accounts: Accounts
    deployments: Deployments
    environments: Environments
    kavlans: Mapping[str, Kavlan] = field(default_factory=dict)
    homes: Mapping[str, Path] = field(default_factory=dict)
    metrics: Callable[[str, Mapping[str, str]], list[dict[str, Any]]] | None = None
    management: Management = field(default_factory=lambda: Management({}))
    clock: Clock = SYSTEM
    trust_proxy: bool = False
    public_url: str = ""
    storage_rules: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = field(default_factory=dict)
    firewall_rules: dict[tuple[str, int], list[dict[str, Any]]] = field(default_factory=dict)

    def may_deploy(self, user: str, nodes: list[str]) -> bool:
        """Does the user hold all these nodes in running jobs of type deploy?"""
        held = {
            node
            for oar in self.oars.values()
            for job in oar.current()
            if job.state == "Running" and job.user == user and "deploy" in job.types
            for node in job.nodes
        }
        return set(nodes) <= held
