"""Deployments: lists, submission, one deployment, refresh, cancellation."""

from __future__ import annotations

import dataclasses
from typing import Any

from g5kdeploy.lab.api.answer import Document, Empty
from g5kdeploy.lab.api.call import COLLECTION, FOR_A_MINUTE, Call, HttpError, any_of, page
from g5kdeploy.lab.api.ruby import blank, to_i, to_s
from g5kdeploy.lab.deployments import Deployment, NotDeployable

ORDER = (
    "uid", "site_uid", "user_uid", "environment", "version", "status", "key", "nodes", "result", "output",
    "partition_label", "block_device", "reformat_tmp", "disable_disk_partitioning", "disable_bootloader_install",
    "ignore_nodes_deploying", "vlan", "created_at", "updated_at", "arch",
)  # fmt: skip
TEXTS = ("environment", "arch", "version", "key", "partition_label", "block_device", "reformat_tmp")
FLAGS = ("disable_disk_partitioning", "disable_bootloader_install", "ignore_nodes_deploying")
WIDEST = 2**31
NO_COLUMN = ("reboot_classical_timeout", "reboot_kexec_timeout")
FALSE = frozenset({False, "0", "f", "F", "false", "FALSE", "off", "OFF"})
UNKNOWN = "          raise UnknownAttributeError.new(self, k.to_s)"
INVALID = "The deployment you are trying to submit is not valid: "


def described(call: Call, site: str, one: Deployment) -> dict[str, Any]:
    """The deployment as the API shows it, with its links; what is not known is left out."""
    fields = dataclasses.asdict(one)
    shown: dict[str, Any] = {key: fields[key] for key in ORDER if fields[key] is not None}
    shown["links"] = [
        call.link("self", f"/sites/{site}/deployments/{one.uid}"),
        call.link("parent", f"/sites/{site}"),
    ]
    return shown


def every(call: Call, site: str) -> Document:
    """A page of the deployments that fit."""
    call.allow("GET", "POST")
    call.vary_accept = True
    call.site(site)
    query = call.params
    offset, limit = page(query)
    if limit < 0:
        raise HttpError(
            500,
            "Mysql2::Error: You have an error in your SQL syntax; check the manual that corresponds to your MariaDB"
            f" server version for the right syntax to use near '{limit} OFFSET {offset}' at line 1",
        )
    found = call.services.deployments.every(
        None if query.get("user") is None else any_of(query["user"]),
        None if query.get("status") is None else any_of(query["status"]),
        query.get("reverse") == "true",
        offset + limit,
    )
    if not call.services.trust_proxy:
        found = [one for one in found if one.site_uid == site]
    where = f"/sites/{site}/deployments"
    return Document(
        {
            "total": len(found),
            "offset": offset,
            "items": [described(call, site, one) for one in found[offset : offset + limit]],
            "links": [call.link("self", where, COLLECTION), call.link("parent", f"/sites/{site}")],
        }
    )


def one(call: Call, site: str, uid: str) -> Document:
    """One deployment, as it was at the last refresh."""
    call.allow("GET", "DELETE", "PUT")
    call.vary_accept = True
    call.cache = FOR_A_MINUTE
    return Document(described(call, site, _find(call, uid)))


def _find(call: Call, uid: str) -> Deployment:
    found = call.services.deployments.get(uid)
    if found is None:
        raise HttpError(404, f"Couldn't find Grid5000::Deployment with ID={uid}")
    return found


def refresh(call: Call, site: str, uid: str) -> Empty:
    """Ask kadeploy how far the deployment is."""
    found = _find(call, uid)
    call.services.deployments.refresh(uid)
    call.location = call.absolute(f"/sites/{site}/deployments/{found.uid}")
    return Empty(204, typed=False)


def cancel(call: Call, site: str, uid: str) -> Empty:
    """Cancel a deployment that is under way."""
    call.authenticated()
    found = _find(call, uid)
    call.only(found.user_uid)
    call.services.deployments.cancel(uid)
    call.location = call.absolute(f"/sites/{site}/deployments/{uid}")
    return Empty(202)


def create(call: Call, site: str) -> Document:
    """Submit a deployment."""
    user = call.authenticated()
    try:
        params = call.params
    except ValueError as error:
        raise HttpError(400, f"{INVALID}{error}") from error
    wanted = read(params, call.site(site), user)
    if not -WIDEST <= (wanted.vlan or 0) < WIDEST:
        trouble = f"{wanted.vlan} is out of range for ActiveModel::Type::Integer with limit 4 bytes"
        raise HttpError(500, f"Cannot launch deployment: {trouble}")
    try:
        launched = call.services.deployments.launch(wanted, call.absolute(f"/sites/{site}/files"))
    except NotDeployable as error:
        raise HttpError(error.status, f"Cannot launch deployment: {error.message}") from error
    call.location = call.absolute(f"/sites/{site}/deployments/{launched.uid}")
    return Document(described(call, site, launched), status=201)


def read(params: dict[str, Any], site: str, user: str) -> Deployment:
    """The deployment that was asked for: known fields only, each turned into what its column holds."""
    for name in NO_COLUMN:
        if _scalar(params.get(name)) or (name in params and params[name] is None):
            text = f"unknown attribute '{name}' for Grid5000::Deployment."
            raise HttpError(400, f"{INVALID}{text}\n\n{UNKNOWN}\n{' ' * UNKNOWN.index('raise')}^^^^^")
    fields: dict[str, Any] = {name: _text(params[name]) for name in TEXTS if _scalar(params.get(name))}
    if isinstance(params.get("key"), bool):  # a long text is another kind of column
        fields["key"] = "t" if params["key"] else "f"
    for name in FLAGS:
        if name in params and (params[name] is None or params[name] == ""):
            fields[name] = None
        elif _scalar(params.get(name)):
            fields[name] = params[name] not in FALSE
    vlan = params.get("vlan")
    if _scalar(vlan) and (isinstance(vlan, bool) or not blank(vlan)):
        fields["vlan"] = int(vlan) if isinstance(vlan, bool) else to_i(vlan)
    nodes = params.get("nodes")
    if not isinstance(nodes, list) or not all(_scalar(node) for node in nodes):
        nodes = []
    trouble = []
    if blank(fields.get("environment")):
        trouble.append("Environment can't be blank")
    if not nodes:
        trouble += ["Nodes can't be blank", "Nodes must be a non-empty list of node FQDN"]
    if trouble:
        raise HttpError(400, INVALID + "; ".join(trouble))
    return Deployment(uid="", site_uid=site, user_uid=user, nodes=nodes, **fields)


def _scalar(value: Any) -> bool:
    return isinstance(value, str | int | float | bool)


def _text(value: Any) -> str:
    return str(int(value)) if isinstance(value, bool) else to_s(value)
