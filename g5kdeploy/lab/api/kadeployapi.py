"""Kadeploy's own API behind the site's proxy: power, reboots, how deployments go, nodes, environments."""

from __future__ import annotations

import base64
import json
import time
import urllib.parse
from collections.abc import Mapping
from typing import Any

from g5kdeploy.lab.api.answer import Raw
from g5kdeploy.lab.api.call import Call
from g5kdeploy.lab.deployments import NO_RIGHTS, PROCESSING, Deployment
from g5kdeploy.lab.management import POWER, REBOOT, Operation

DEPLOYMENT = "deployment"
LEVELS = ("soft", "hard", "very_hard")
_INVALID_WORKFLOW, _INVALID_NODES, _INVALID_OPTION, _INVALID_RIGHTS, _INVALID_ENVIRONMENT = 1, 2, 4, 6, 7
_WORDS = {
    _INVALID_WORKFLOW: "Invalid workflow ID",
    _INVALID_NODES: "Invalid node list",
    _INVALID_OPTION: "Invalid option in the request",
    _INVALID_RIGHTS: NO_RIGHTS,
    _INVALID_ENVIRONMENT: "Invalid environment specification",
}


class _Refused(Exception):
    """What kadeploy does not do: the number of its reason, and more words."""

    def __init__(self, number: int, words: str = "") -> None:
        super().__init__(f"{_WORDS[number]} -- {words}" if words else _WORDS[number])
        self.number = number


def power(call: Call, site: str) -> Raw:
    """GET: the state of nodes, or all operations; PUT: switch nodes on or off."""
    user = call.authenticated()
    management = call.services.management
    try:
        params = _params(call)
        if call.method in ("GET", "HEAD") and "nodes" not in params:
            return _json([_told(call, one) for one in management.every(POWER)])
        nodes = _nodes(call, site, user, params)
        do = "status" if call.method in ("GET", "HEAD") else _one_of(params, "status", ("on", "off"))
        _one_of(params, "level", LEVELS, "soft")
        return _begun(site, management.power(call.site(site), user, nodes, do))
    except _Refused as refused:
        return _error(call, refused)


def reboot(call: Call, site: str) -> Raw:
    """GET: all reboots; POST: reboot nodes into what they ran."""
    user = call.authenticated()
    management = call.services.management
    if call.method in ("GET", "HEAD"):
        return _json([_told(call, one) for one in management.every(REBOOT)])
    try:
        params = _params(call)
        nodes = _nodes(call, site, user, params)
        kind = _one_of(params, "kind", ("set_pxe", "simple", "deploy_env", "recorded_env"))
        _one_of(params, "level", LEVELS, "soft")
        if kind != "simple":
            raise _Refused(_INVALID_OPTION, f"Parameter 'kind': the lab has no {kind}, only simple")
        return _begun(site, management.reboot(call.site(site), user, nodes))
    except _Refused as refused:
        return _error(call, refused)


def operation(call: Call, site: str, kind: str, wid: str, what: str = "") -> Raw:
    """How an operation goes: as a whole, or its `state`, `status`, `logs` or `error`; DELETE forgets it."""
    user = call.authenticated()
    call.site(site)
    try:
        one = _find(call, kind, wid)
        if (what or call.method == "DELETE") and one.user != user:
            return Raw(b"Forbidden -- You do not the rights to perform this operation", "text/plain", 403)
        if call.method == "DELETE":
            _forget(call, kind, one.wid)
            return _json({"wid": one.wid})
        if what == "status":
            return _json({} if one.seconds is not None else _by_cluster(one))
        known: dict[str, Any] = {"": _told(call, one), "state": one.states, "logs": "", "error": None}
        return _json(known[what])
    except _Refused as refused:
        return _error(call, refused)


def deployments(call: Call, site: str) -> Raw:
    """The deployments that kadeploy still knows: those that are under way."""
    call.authenticated()
    found = call.services.deployments.every(statuses=[PROCESSING])
    return _json([_told(call, _as_operation(one)) for one in found if one.site_uid == call.site(site)])


def nodes(call: Call, site: str) -> Raw:
    """The names of the nodes that kadeploy knows."""
    call.authenticated()
    return _json(call.services.management.known(call.site(site)))


def environments(call: Call, site: str) -> Raw:
    """The environments that the user may deploy, his own and the public ones."""
    user = call.authenticated()
    call.site(site)
    known = call.services.environments
    own = known.seen(user, user)
    return _json(own + [one for one in known.seen(None, user) if one["user"] != user])


def _params(call: Call) -> dict[str, Any]:
    """Body and query; a name that comes several times in the query is a list, as Ruby's CGI has it."""
    try:
        body = call.body
    except ValueError as error:
        raise _Refused(_INVALID_OPTION, "Invalid JSON content in request's body") from error
    query = urllib.parse.parse_qs(call.query_text, keep_blank_values=True)
    found = body if isinstance(body, dict) else {}
    return {**found, **{name: values[0] if len(values) == 1 else values for name, values in query.items()}}


def _nodes(call: Call, site: str, user: str, params: Mapping[str, Any]) -> list[str]:
    given = params.get("nodes")
    listed = [given] if isinstance(given, str) else given
    if listed is None:
        raise _Refused(_INVALID_NODES, "Parameter 'nodes': mandatory")
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise _Refused(_INVALID_NODES, "Parameter 'nodes': should be a Array")
    if not listed:
        raise _Refused(_INVALID_NODES, "Parameter 'nodes': cannot be empty")
    call.site(site)
    if not call.services.may_deploy(user, listed):
        raise _Refused(_INVALID_RIGHTS)
    return listed


def _one_of(params: Mapping[str, Any], name: str, values: tuple[str, ...], default: str | None = None) -> str:
    value = params.get(name)
    if value is None:
        if default is not None:
            return default
        raise _Refused(_INVALID_OPTION, f"Parameter '{name}': must have a value in ({','.join(values)})")
    if value not in values:
        raise _Refused(_INVALID_OPTION, f"Parameter '{name}': must have a value in ({','.join(values)})")
    return str(value)


def _find(call: Call, kind: str, wid: str) -> Operation:
    if kind == DEPLOYMENT:
        call.services.deployments.refresh(wid)
        launched = call.services.deployments.get(wid)
        found = _as_operation(launched) if launched is not None else None
    else:
        found = call.services.management.get(kind, wid)
    if found is None:
        raise _Refused(_INVALID_WORKFLOW)
    return found


def _as_operation(one: Deployment) -> Operation:
    """A deployment as kadeploy tells it, where states have small letters once they are final."""
    states = {
        node: {**state, "state": str(state["state"]).replace("OK", "ok").replace("KO", "ko")}
        for node, state in (one.result or {}).items()
    }
    going = one.status == PROCESSING
    seconds = None if going else float(max(one.updated_at - one.created_at, 0))
    return Operation(one.uid, DEPLOYMENT, one.user_uid, [*map(str, one.nodes)], one.created_at, states, seconds)


def _forget(call: Call, kind: str, wid: str) -> None:
    if kind == DEPLOYMENT:
        call.services.deployments.cancel(wid)
    else:
        call.services.management.forget(wid)


def _told(call: Call, one: Operation) -> dict[str, Any]:
    """An operation as a whole; those of others without what came of it."""
    over = one.seconds is not None
    shown: dict[str, Any] = {"wid": one.wid, "user": one.user, "done": over, "error": False}
    shown["start_time"] = int(one.started_at)
    if one.user != call.user:
        return {**shown, "nodes": one.nodes}
    sorted_out: dict[str, list[str]] = {"ok": [], "ko": []} if over else {"ok": [], "ko": [], "processing": []}
    for node in one.nodes:
        state = one.states.get(node, {}).get("state")
        sorted_out[state if state in ("ok", "ko") else "ko" if over else "processing"].append(node)
    took = one.seconds if one.seconds is not None else round(time.time() - one.started_at, 2)
    return {**shown, "logs": False, "nodes": sorted_out, "time": took}


def _by_cluster(one: Operation) -> dict[str, Any]:
    """The nodes in each step, by cluster, as kadeploy tells the status of what is under way."""
    status: dict[str, Any] = {}
    for node, state in one.states.items():
        steps = status.setdefault(node.partition("-")[0], {}).setdefault(state["macro"] or "", {})
        seconds = round(time.time() - one.started_at, 2)
        step = steps.setdefault(state["micro"] or "", {"time": seconds, "nodes": {}})
        step["nodes"].setdefault(state["state"], []).append(node)
    return status


def _begun(site: str, one: Operation) -> Raw:
    where = f"/{one.kind}/{one.wid}"
    clusters = dict.fromkeys(node.partition("-")[0] for node in one.nodes)
    resources = {
        "resource": where,
        "log": f"{where}/logs",
        "logs": {cluster: f"{where}/logs/{cluster}?user={one.user}" for cluster in clusters},
        "state": f"{where}/state",
        "status": f"{where}/status",
        "error": f"{where}/error",
    }
    return _json({"wid": one.wid, "resources": resources})


def _json(value: Any) -> Raw:
    return Raw(json.dumps(value, indent=2, ensure_ascii=False).encode(), 'application/json; charset="UTF-8"')


def _error(call: Call, refused: _Refused) -> Raw:
    call.more.append(("X-Application-Error-Code", str(refused.number)))
    call.more.append(("X-Application-Error-Info", base64.b64encode(str(refused).encode()).decode()))
    return Raw(f"{refused}\n".encode(), "text/plain", 400)
