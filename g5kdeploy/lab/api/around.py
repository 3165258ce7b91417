"""What other services answer behind the same proxy: users, accesses, public folders, metrics."""

from __future__ import annotations

import html
import mimetypes
from typing import Any

from g5kdeploy.lab.api.answer import Document, File, Raw
from g5kdeploy.lab.api.call import Call, HttpError, no_null
from g5kdeploy.lab.api.reference import branch_of
from g5kdeploy.lab.fetch import public_file
from g5kdeploy.lab.reference.tree import expand, find, is_name

PRIORITIES = {"p1": 40, "p2": 30, "p3": 20, "p4": 10, "besteffort": 0}
NO_ACCESS = "no-access"


def profile(call: Call, user: str) -> Document:
    """A user's profile; `~` is the one who asks."""
    name = call.authenticated() if user == "~" else user
    if not call.services.accounts.known(name):
        raise HttpError(404, "Not Found")
    return Document(call.services.accounts.profile(name))


def groups(call: Call) -> Document:
    """All granting access groups with their sites."""
    return Document({"ggas": call.services.accounts.ggas(), "sites": sorted(call.services.reference.sites())})


def accesses(call: Call) -> Document:
    """By group and set of nodes: with which priority the group may use it."""
    found = _document(call, "accesses/nodesets", "Accesses does not exist.")
    ggas = call.services.accounts.ggas()
    known = {*(str(gga["site"]) for gga in ggas), *call.services.accounts.sites, *call.services.reference.sites()}
    levels: dict[str, dict[str, set[str]]] = {}
    for nodeset, by_priority in found.items():
        if nodeset == "version":
            continue
        levels[nodeset] = {}
        for priority, holders in by_priority.items():
            for site in holders["sites"]:
                if site not in known:
                    raise HttpError(500, f"Unable to expand site '{site}': no site by that name (error: ACCESS_NOSITE)")
            of_sites = {str(gga["name"]) for gga in ggas if gga["site"] in holders["sites"]}
            levels[nodeset][priority] = {*holders["ggas"], *of_sites}
    return Document(
        {str(gga["name"]): {name: _level(str(gga["name"]), one) for name, one in levels.items()} for gga in ggas}
    )


def _level(group: str, holders: dict[str, set[str]]) -> dict[str, Any]:
    label = next((label for label in PRIORITIES if group in holders.get(label, ())), NO_ACCESS)
    return {"label": label, "level": PRIORITIES.get(label, -1)}


def refrepo(call: Call) -> Document:
    """The whole reference data in one document, as the resources explorer reads it."""
    return Document(_document(call, "accesses/refrepo", "Refrepo does not exist."))


def _document(call: Call, path: str, missing: str) -> dict[str, Any]:
    if not isinstance(given := call.params.get("branch"), str | None):
        kind = "Array" if isinstance(given, list) else "ActionController::Parameters"
        raise HttpError(500, f"wrong argument type {kind} (expected String)")
    no_null(given)
    branch, reference = branch_of(call), call.services.reference
    if branch.startswith("origin/") and branch.removeprefix("origin/") in reference.branches:
        branch = branch.removeprefix("origin/")
    elif is_name(branch) and branch not in reference.checked_out:
        raise HttpError(404, f"Branch '{branch}' cannot be found.")
    newest = reference.last_touching(path, branch) if is_name(branch) else None
    entry = find(newest.tree, path) if newest is not None else None
    if newest is None or entry is None:
        raise HttpError(404, missing)
    return expand(entry, newest.oid)


def key_file(call: Call, site: str, name: str) -> Raw:
    """A key that came as text with a deployment."""
    call.site(site)
    text = call.services.deployments.files.get(name)
    if text is None:
        raise HttpError(404, "Not Found")
    return Raw(text.encode(), "text/plain")


def public(call: Call, site: str, user: str, path: str = "") -> Raw | File:
    """A file of a user's `public` folder, or the list of a folder's files."""
    call.site(site)
    homes = call.services.homes.get(site)
    owner = call.authenticated() if user == "~" else user
    found = public_file(homes, owner, path) if homes is not None else None
    if found is None or not found.exists():
        return Raw(b"<html><body><h1>Not Found</h1></body></html>", "text/html; charset=iso-8859-1", 404)
    if found.is_dir():
        names = sorted(f"{one.name}/" if one.is_dir() else one.name for one in found.iterdir())
        lines = "".join(f'<a href="{html.escape(name)}">{html.escape(name)}</a>\n' for name in names)
        return Raw(f"<html><body><pre>{lines}</pre></body></html>".encode(), "text/html;charset=UTF-8")
    kind, encoding = mimetypes.guess_type(found.name)
    return File(found, kind if kind and not encoding else "application/octet-stream")


def metrics(call: Call, site: str) -> Document:
    """Rows of what the site measured, as Kwollect gives them."""
    call.site(site)
    read = call.services.metrics
    return Document(read(site, call.params) if read is not None else [])


def oar_resources(call: Call, site: str) -> Document:
    """OAR's own list of resources, all in one page; execo plans with it."""
    listed = [
        {
            **one.properties,
            "id": one.id,
            "type": one.type,
            "network_address": one.address,
            "state": "Absent" if one.state == "Standby" else one.state,
            "maintenance": one.properties.get("maintenance", "NO"),
        }
        for one in call.scheduler(site).resources()
    ]
    now = int(call.services.clock.wall())
    return Document({"items": listed, "total": len(listed), "offset": 0, "api_timestamp": now, "links": []})
