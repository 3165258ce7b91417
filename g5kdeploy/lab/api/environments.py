"""Environments that can be deployed by name."""

from __future__ import annotations

from typing import Any

from g5kdeploy.lab.api.answer import Document
from g5kdeploy.lab.api.call import COLLECTION, FOR_A_MINUTE, Call, HttpError
from g5kdeploy.lab.kaenv import uid


def _seen(call: Call, site: str, latest: bool) -> list[dict[str, Any]]:
    """The public ones and the user's own, or those of the user whom the query names."""
    environments, query = call.services.environments, call.params
    if query.get("user") is not None:
        found = environments.seen(query["user"], call.user, latest)
    else:
        found = environments.seen(None, call.user, latest)
        if not call.anonymous:
            found += [
                one
                for one in environments.seen(call.user, call.user, latest)
                if call.user is None or one["visibility"] != "public"
            ]
    found = [one for one in found if query.get("name") in (None, one["name"])]
    return [one for one in found if query.get("arch") in (None, one["arch"])]


def _with_links(call: Call, site: str, described: dict[str, Any]) -> dict[str, Any]:
    where, name = f"/sites/{site}/environments", uid(described)
    links = [call.link("self", f"{where}/{name}"), call.link("parent", where, COLLECTION)]
    return {**described, "uid": name, "links": links}


def _let_in(call: Call, site: str) -> None:
    """403 for a stranger who asks for somebody's environments: before any header of the answer is thought of."""
    call.site(site)
    if "user" in call.params and call.anonymous:
        raise HttpError(403, "Not allowed to list other users environments, because you are seen as an anonymous one")


def every(call: Call, site: str) -> Document:
    """The environments that the user may deploy, the newest version of each."""
    _let_in(call, site)
    call.allow("GET")
    latest = call.params.get("latest_only", "yes") not in ("no", "false")
    items = [_with_links(call, site, described) for described in _seen(call, site, latest)]
    where = f"/sites/{site}/environments"
    links = [call.link("self", where, COLLECTION), call.link("parent", f"/sites/{site}")]
    return Document({"total": len(items), "offset": 0, "items": items, "links": links})


def one(call: Call, site: str, name: str) -> Document:
    """One environment by its id."""
    _let_in(call, site)
    call.allow("GET")
    call.cache = FOR_A_MINUTE
    for described in _seen(call, site, latest=False):
        if uid(described) == name:
            return Document(_with_links(call, site, described))
    raise HttpError(404, f"Cannot find environment {name}")
