"""VLANs: which there are, what is in them, who may use them, and moving nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from g5kdeploy.lab.api.answer import Document, Empty
from g5kdeploy.lab.api.call import COLLECTION, FOR_A_MINUTE, ITEM, Call, HttpError, segment
from g5kdeploy.lab.api.ruby import no_method, shown
from g5kdeploy.lab.kavlan import Kavlan, NotAllowed, Vlan

VERDICTS = {
    "ok": {"status": "success", "message": "Successfully added to vlan"},
    "unchanged": {"status": "unchanged", "message": "Node already in vlan"},
    "unknown_node": {"status": "failure", "message": "Unknown node"},
}


def _existing(call: Call, site: str, uid: str) -> tuple[Kavlan, Vlan]:
    kavlan = call.kavlan(site)
    vlan = kavlan.vlan(uid)
    if vlan is None:
        raise HttpError(404, f"Vlan {uid} does not exist")
    return kavlan, vlan


def _described(call: Call, site: str, vlan: Vlan) -> dict[str, Any]:
    where = f"/sites/{site}/vlans"
    own = f"{where}/{vlan.uid}"

    def link(rel: str, media: str) -> dict[str, str]:
        return {"rel": rel, "type": media, "href": call.href(f"{own}/{rel}")}

    return {
        "uid": vlan.uid,
        "type": "kavlan-global-remote" if vlan.type == "kavlan-remote" else vlan.type,
        "links": [
            link("dhcpd", ITEM),
            link("nodes", ITEM),
            link("users", COLLECTION),
            call.link("self", own),
            call.link("parent", where, COLLECTION),
        ],
    }


def every(call: Call, site: str) -> Document:
    """All VLANs of the site."""
    call.allow("GET")
    items = [_described(call, site, vlan) for vlan in call.kavlan(site).vlans]
    where = f"/sites/{site}/vlans"
    links = [
        call.link("nodes", f"{where}/nodes", COLLECTION),
        call.link("users", f"{where}/users", COLLECTION),
        call.link("self", where, COLLECTION),
        call.link("parent", f"/sites/{site}"),
    ]
    return Document({"total": len(items), "offset": 0, "items": items, "links": links})


def one(call: Call, site: str, vlan: str) -> Document:
    """One VLAN."""
    _, found = _existing(call, site, vlan)
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    return Document(_described(call, site, found))


def _in_vlans(call: Call, site: str, placed: Iterable[tuple[str, str]], here: str) -> dict[str, Any]:
    """A collection of interfaces with the VLAN of each."""
    nodes = f"/sites/{site}/vlans/nodes"
    items = [
        {
            "uid": name,
            "vlan": vlan,
            "links": [call.link("self", f"{nodes}/{name}"), call.link("parent", nodes, COLLECTION)],
        }
        for name, vlan in placed
    ]
    parent = here.rsplit("/", 1)[0]
    above = call.link("parent", parent, COLLECTION if parent.endswith("/vlans") else ITEM)
    return {"total": len(items), "offset": 0, "items": items, "links": [call.link("self", here, COLLECTION), above]}


def nodes_of(call: Call, site: str, vlan: str) -> Document:
    """What is in a VLAN."""
    kavlan, _ = _existing(call, site, vlan)
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    placed = [(name, vlan) for name in kavlan.inside(vlan)]
    return Document(_in_vlans(call, site, placed, f"/sites/{site}/vlans/{vlan}/nodes"))


def all_nodes(call: Call, site: str) -> Document:
    """Every interface with its VLAN."""
    kavlan = call.kavlan(site)
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    return Document(_in_vlans(call, site, list(kavlan.interfaces.items()), f"/sites/{site}/vlans/nodes"))


def one_node(call: Call, site: str, node: str) -> Document:
    """The VLAN of one interface."""
    kavlan = call.kavlan(site)
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    call.behind(site, f"kavlanapi/nodes/{node}")
    if node not in kavlan.interfaces:
        raise HttpError(404, f"Unknown node '{node}'.")
    nodes = f"/sites/{site}/vlans/nodes"
    links = [call.link("self", f"{nodes}/{node}"), call.link("parent", nodes, COLLECTION)]
    return Document({"uid": node, "vlan": kavlan.interfaces[node], "links": links})


def _node_list(call: Call) -> list[Any]:
    """The array of interface names in the body."""
    body = call.body
    call.authenticated()
    call.allow("POST")
    if call.content_type != "application/json":
        raise HttpError(415, f"Content-Type '{call.content_type}' is not supported")
    if isinstance(body, dict):
        wrapped = body.get("vlans_node" if call.path.count("/") == 5 else "vlans_nodes_all", body)
        body = wrapped.get("_json") if isinstance(wrapped, dict) else None
    if not isinstance(body, list) or not body:
        raise HttpError(422, "Missing node list")
    return body


def which(call: Call, site: str) -> Document:
    """The VLANs of the interfaces in the body; unknown ones are dropped."""
    kavlan = call.kavlan(site)
    names = dict.fromkeys(map(str, _node_list(call)))
    placed = [(name, kavlan.interfaces[name]) for name in names if name in kavlan.interfaces]
    return Document(_in_vlans(call, site, placed, f"/sites/{site}/vlans/nodes"))


def add(call: Call, site: str, vlan: str) -> Document:
    """Move the interfaces in the body into a VLAN."""
    kavlan, _ = _existing(call, site, vlan)
    names = _node_list(call)
    try:
        verdicts = kavlan.move(call.authenticated(), names, vlan)
    except NotAllowed as error:
        raise HttpError(403, str(error)) from error
    return Document({shown(name): VERDICTS[verdicts[str(name)]] for name in names})


def dhcpd(call: Call, site: str, vlan: str) -> Empty:
    """Start or stop a VLAN's DHCP server."""
    kavlan, _ = _existing(call, site, vlan)
    user = call.authenticated()
    call.allow("PUT")
    if call.content_type != "application/json":
        raise HttpError(415, f"Content-Type '{call.content_type}' is not supported")
    wrapped = call.params.get("vlan", call.body if isinstance(call.body, dict) else None)
    if isinstance(wrapped, bool):
        line = "    if params[:vlan].nil? || params[:vlan][:action].nil? ||"
        raise HttpError(500, no_method("[]", line, "[:action]", wrapped))
    if wrapped is not None and not isinstance(wrapped, dict):
        raise HttpError(500, "no implicit conversion of Symbol into Integer")
    action = wrapped.get("action") if wrapped else None
    if action not in ("start", "stop"):
        raise HttpError(422, "An action ('start' or 'stop') should be provided")
    try:
        kavlan.dhcpd(user, vlan, str(action))
    except NotAllowed as error:
        raise HttpError(403, str(error)) from error
    return Empty(204, typed=False)


def _users(call: Call, names: Iterable[str], here: str, above: dict[str, str]) -> Document:
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    items = [
        {"uid": name, "links": [call.link("self", f"{here}/{name}"), call.link("parent", here, COLLECTION)]}
        for name in names
    ]
    links = [call.link("self", here, COLLECTION), above]
    return Document({"offset": 0, "total": len(items), "items": items, "links": links})


def users_of(call: Call, site: str, vlan: str) -> Document:
    """Who may use a VLAN."""
    kavlan, _ = _existing(call, site, vlan)
    own = f"/sites/{site}/vlans/{vlan}"
    return _users(call, kavlan.users_of(vlan), f"{own}/users", call.link("parent", own))


def all_users(call: Call, site: str) -> Document:
    """Who may use any VLAN."""
    where = f"/sites/{site}/vlans"
    return _users(call, call.kavlan(site).all_users(), f"{where}/users", call.link("parent", where, COLLECTION))


def vlans_of_user(call: Call, site: str, user: str) -> Document:
    """The VLANs that a user may use."""
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    call.behind(site, f"kavlanapi/users/{user}")
    where = f"/sites/{site}/vlans/users"
    links = [call.link("self", f"{where}/{user}"), call.link("parent", where, COLLECTION)]
    return Document({"uid": user, "vlans": call.kavlan(site).vlans_of(user), "links": links})


def user_of_vlan(call: Call, site: str, vlan: str, user: str) -> Document:
    """Whether a user may use a VLAN."""
    kavlan, _ = _existing(call, site, vlan)
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    call.behind(site, f"kavlanapi/{vlan}/users/{user}")
    status = "authorized" if user in kavlan.users_of(vlan) else "unauthorized"
    where = f"/sites/{site}/vlans/{vlan}/users"
    links = [call.link("self", f"{where}/{segment(user)}"), call.link("parent", where, COLLECTION)]
    return Document({"uid": user, "status": status, "links": links})


def set_user(call: Call, site: str, vlan: str, user: str) -> Empty:
    """Give a user a right on a VLAN (PUT) or take it (DELETE)."""
    kavlan, _ = _existing(call, site, vlan)
    asking = call.authenticated()
    call.allow(call.method)
    call.behind(site, f"kavlanapi/{vlan}/users/{user}")
    try:
        kavlan.set_user(asking, vlan, user, call.method == "PUT")
    except NotAllowed as error:
        raise HttpError(403, str(error)) from error
    return Empty(204, typed=False)
