"""Sites, clusters, nodes, servers, network equipments, pdus and their versions: the reference API."""

from __future__ import annotations

import email.utils
import re
from collections.abc import Callable, Collection
from typing import Any

from g5kdeploy.lab.api.answer import Document, Empty
from g5kdeploy.lab.api.call import COLLECTION, ITEM, Call, HttpError, as_sent, integer, no_null, segment
from g5kdeploy.lab.api.dates import moment
from g5kdeploy.lab.api.ruby import no_method, shown, to_i
from g5kdeploy.lab.oar import Job
from g5kdeploy.lab.reference import Commit
from g5kdeploy.lab.reference.tree import (
    BeforeHistory,
    Blob,
    NoSuchBranch,
    NoSuchCommit,
    NoSuchReference,
    expand,
    find,
    is_name,
)

PUBLIC = "max-age=60, public, must-revalidate=true, proxy-revalidate=true, s-maxage=60"
FOR_A_MONTH = "max-age=2592000, public"
USUAL_QUEUES = ("admin", "default")
LIMIT = "      limit: [(params[:limit] || LIMIT).to_i, LIMIT_MAX].min"
SITE_LINKS = ("jobs", "environments", "deployments", "vlans", "metrics", "storage")


def grid(call: Call) -> Document:
    """The root document."""
    return _fetch(call, "", "/", one="root")


def sites(call: Call) -> Document:
    """All sites."""
    return _fetch(call, "/sites", "/sites", many="sites")


def site(call: Call, site: str) -> Document:
    """One site."""
    return _fetch(call, f"/sites/{site}", "/sites", one="site")


def clusters(call: Call, site: str) -> Document:
    """The clusters of a site that the wanted queues may use."""
    where = f"/sites/{segment(site)}/clusters"
    return _fetch(call, where, where, many="clusters")


def cluster(call: Call, site: str, cluster: str) -> Document:
    """One cluster."""
    where = f"/sites/{segment(site)}/clusters"
    return _fetch(call, f"{where}/{cluster}", where, one="cluster")


def nodes(call: Call, site: str, cluster: str) -> Document:
    """The nodes of a cluster."""
    where = f"/sites/{segment(site)}/clusters/{segment(cluster)}/nodes"
    return _fetch(call, where, where, many="nodes")


def node(call: Call, site: str, cluster: str, node: str) -> Document:
    """One node."""
    where = f"/sites/{segment(site)}/clusters/{segment(cluster)}/nodes"
    return _fetch(call, f"{where}/{node}", where, one="node")


def things(kind: str, of_a_site: bool = True) -> tuple[Callable[..., Document], Callable[..., Document]]:
    """Handlers for a collection of plain documents, and for one of them: servers, pdus, network_equipments."""

    def where(site: str) -> str:
        return f"/sites/{segment(site)}/{kind}" if of_a_site else f"/{kind}"

    def every(call: Call, site: str = "") -> Document:
        return _fetch(call, where(site), where(site), many=kind)

    def one(call: Call, thing: str, site: str = "") -> Document:
        return _fetch(call, f"{where(site)}/{thing}", where(site), one=kind)

    return every, one


def _fetch(call: Call, path: str, collection: str, *, one: str = "", many: str = "") -> Document:
    """What is at `path` of the reference, flat or deep, with its links and the headers that let it be cached."""
    call.allow("GET")
    call.vary_accept = True
    if "\0" in path:
        call.allowed, call.vary_accept = "", False
    no_null(path)
    found = look_up(call, path, one=one, many=many)
    if found is None:
        raise HttpError(404, f"Cannot find resource {path}")
    commit, shown = found
    if call.params.get("deep") is not None:
        shown["links"] = _links_of_collection(call, collection)
    elif "items" in shown:
        shown["links"] = _links_of_collection(call, collection)
        shown["items"] = [_with_links(call, dict(item), collection, many or one) for item in shown["items"]]
    else:
        shown = _with_links(call, shown, collection, one)
    shown["version"] = commit.oid
    call.last_modified = max(commit.time, call.services.reference.installed_at)
    call.cache = FOR_A_MONTH if call.params.get("version") == commit.oid else PUBLIC
    return Document(shown)


def look_up(call: Call, path: str, *, one: str = "", many: str = "") -> tuple[Commit, dict[str, Any]] | None:
    """The commit and the expanded document or collection at a path; None where there is nothing."""
    query = call.params
    inner = path.strip("/").replace("platforms/", "")
    commit = _commit_for(call, inner, one)
    if commit is None:
        return None
    entry = find(commit.tree, inner)
    if entry is None:
        return None
    asked_deep = query.get("deep") is not None
    deep = asked_deep and not isinstance(entry, Blob)
    shown = call.services.reference.deep(commit, inner) if deep else expand(entry, commit.oid)
    queues = _queues(query.get("queues"))
    if one == "cluster":
        shown.setdefault("queues", list(USUAL_QUEUES))
        if not set(shown["queues"]) & queues:
            return None
    elif many == "clusters" and not asked_deep:
        items = [{**item, "queues": item.get("queues") or list(USUAL_QUEUES)} for item in shown["items"]]
        shown["items"] = [item for item in items if set(item["queues"]) & queues]
        shown["total"] = len(shown["items"])
    elif one == "site" and asked_deep and query.get("job_id"):
        _narrow_to_job(call, shown)
    return commit, shown


def _queues(given: Any) -> set[str]:
    if given is None:
        return set(USUAL_QUEUES)
    if isinstance(given, list):
        return set()
    if isinstance(given, dict):
        line = "                          params[:queues].split(',')"
        raise HttpError(500, no_method("split", line, ".split", given))
    return {*USUAL_QUEUES, "production"} if given == "all" else set(given.split(","))


def _commit_for(call: Call, path: str, one: str) -> Commit | None:
    reference, query = call.services.reference, call.params
    branch = branch_of(call)
    if one == "site" and query.get("deep") is not None and query.get("job_id") is not None:
        query = {**query, "timestamp": _job(call, path).started_at}
    try:
        if query.get("version") is not None:
            return reference.commit_of(shown(query["version"]))
        no_null(branch)
        if not is_name(f"origin/{branch}"):
            return None
        if query.get("timestamp") is not None:
            return reference.commit_at(integer(query["timestamp"], "          ts = timestamp.to_i"), branch)
        if query.get("date") is not None:
            return reference.commit_at(_moment(call, query["date"]), branch)
        return reference.last_touching(path, branch)
    except (NoSuchBranch, NoSuchCommit) as error:
        raise HttpError(404, str(error)) from error
    except BeforeHistory as error:
        raise HttpError(500, str(error)) from error


def branch_of(call: Call) -> str:
    """The branch that the query names."""
    named = call.params.get("branch")
    if isinstance(named, list):
        return "/".join(map(shown, named))
    return "master" if named is None else shown(named)


def _moment(call: Call, date: Any) -> float:
    if not isinstance(date, str):
        kind = "Array" if isinstance(date, list) else "ActionController::Parameters"
        raise HttpError(500, f"no implicit conversion of {kind} into String")
    return moment(date, call.services.clock.wall())


def _job(call: Call, path: str) -> Job:
    """The job to which the query narrows a site."""
    text = str(call.params["job_id"])
    found = call.scheduler(path.split("/")[-1]).job(to_i(text))
    if found is None:
        raise HttpError(404, f"Couldn't find OAR::Job with 'job_id'={text}")
    return found


def _narrow_to_job(call: Call, shown: dict[str, Any]) -> None:
    """Only the nodes of a job are left of a deep site; a digit in a cluster's name is one too many for it."""
    job = _job(call, str(shown["items"].get("uid", "")))
    nodes = list(dict.fromkeys(one.address for one in job.resources if one.type == "default"))
    clusters = {re.sub(r"([a-z]+)-[0-9]+.*", r"\1", address) for address in nodes}
    names = {re.sub(r"([a-z]+-[0-9]+).*", r"\1", address) for address in nodes}
    kept = {
        uid: {**cluster, "nodes": [node for node in cluster.get("nodes", []) if node["uid"] in names]}
        for uid, cluster in shown["items"].get("clusters", {}).items()
        if uid in clusters
    }
    items = {key: value for key, value in shown["items"].items() if key in ("type", "uid")}
    shown["items"] = {"clusters": kept, **items}
    shown["total"] = len(shown["items"])


def _links_of_collection(call: Call, collection: str) -> list[dict[str, str]]:
    parent = collection.rsplit("/", 1)[0]
    return [
        {"rel": "self", "type": COLLECTION, "href": call.href(collection)},
        {"rel": "parent", "type": ITEM, "href": call.href(parent or "/")},
    ]


def _with_links(call: Call, item: dict[str, Any], collection: str, kind: str) -> dict[str, Any]:
    """The item with its links: sub-collections, itself, parent, versions, and what its kind has besides."""
    own = "" if kind == "root" else f"{collection}/{item['uid']}"

    def link(rel: str, path: str, media: str = ITEM) -> dict[str, str]:
        return {"rel": rel, "type": media, "href": call.href(path)}

    links = [call.link(name, f"{own}/{name}", COLLECTION) for name in item.pop("subresources", [])]
    links += [
        link("self", own or "/"),
        link("parent", "/" if kind == "root" else collection.rsplit("/", 1)[0] or "/"),
        link("version", f"{own}/versions/{item['version']}"),
        link("versions", f"{own}/versions", COLLECTION),
    ]
    if kind in ("site", "sites"):
        links += [link(name, f"{own}/{name}", COLLECTION) for name in SITE_LINKS]
    if kind in ("site", "sites", "cluster", "clusters"):
        links.append(link("status", f"{own}/status"))
    if kind == "root":
        item["timestamp"] = int(call.services.clock.wall())
        links.append(link("users", "/users", COLLECTION))
    item["links"] = links
    return item


def versions(call: Call, resource: str = "") -> Document:
    """The history of a resource."""
    _history_headers(call)
    resource = re.sub("/?platforms", "", resource)
    branch = branch_of(call)
    limit = min(integer(call.params.get("limit"), LIMIT, 100), 500)
    offset = integer(call.params.get("offset"), "      offset = (offset || 0).to_i")
    history = _history(call, resource, branch, f"origin/{branch}")
    if not history:
        raise HttpError(404, f"{resource} does not exist.")
    start = offset if offset >= 0 else len(history) + offset
    if limit < 0 or not 0 <= start <= len(history):
        raise HttpError(500, no_method("map!", "    versions['items'].map! do |commit|", ".map!"))
    call.cache = "max-age=60, public"
    shown = [_version(call, one, resource) for one in history[start : start + limit]]
    parent = resource.rsplit("/", 1)[0] if "/" in resource else ""
    links = [call.link("self", f"{resource}/versions".lstrip("/"), COLLECTION), call.link("parent", parent)]
    return Document({"total": len(history), "offset": offset, "items": shown, "links": links})


def version(call: Call, version: str, resource: str = "") -> Document:
    """One version of a resource: the newest one that touched it, seen from there."""
    _history_headers(call)
    resource = re.sub("/?platforms", "", resource)
    history = _history(call, resource, version, version, branches=call.services.reference.checked_out)
    if not history:
        raise HttpError(404, f"The resource '{resource}' does not exist.")
    call.cache = "max-age=60, public"
    return Document(_version(call, history[0], resource))


def latest(call: Call, resource: str = "") -> Empty:
    """A redirect to the newest version; one with a query leads to itself."""
    _history_headers(call)
    newest = call.services.reference.last_touching(re.sub("/?platforms", "", resource))
    if newest is None:
        raise HttpError(500, no_method("oid", "    sha = repository.find(resource_path).oid", ".oid"))
    words = [word for word in call.query_text.rstrip("&").split("&") if not re.match("(_|callback)=", word)]
    full = as_sent(call.path) + (f"?{'&'.join(words)}" if any(words) else "")
    call.location = call.href(re.sub(r"latest(.json)?$", newest.oid, full))
    return Empty(307)


def _history_headers(call: Call) -> None:
    call.allow("GET")
    call.vary_accept = True


def _history(
    call: Call, resource: str, name: str, shown_name: str, branches: Collection[str] | None = None
) -> list[Commit]:
    """The history from any branch; or, where only some are looked at, from one of these or from a version."""
    try:
        no_null(shown_name, resource)
        if not is_name(shown_name):
            raise HttpError(500, f"cannot locate local branch '{shown_name}'")
        known = call.services.reference.branches
        if name not in known if branches is None else name in known and name not in branches:
            raise NoSuchReference(name)
        return call.services.reference.versions(resource, name)
    except NoSuchReference as error:
        if re.fullmatch("[0-9a-fA-F]{1,40}", shown_name):
            raise HttpError(500, _no_object(shown_name.lower())) from error
        raise HttpError(404, str(NoSuchReference(shown_name))) from error


def _no_object(digits: str) -> str:
    """What git's library says of an id, or of the start of one, that no object has."""
    if len(digits) < 4:
        return "ambiguous lookup - OID prefix is too short"
    if digits == "0" * 40:
        return "odb: cannot read object: null OID cannot exist"
    return f"object not found - no match for {'id' if len(digits) == 40 else 'prefix'} ({digits})"


def _version(call: Call, one: Commit, resource: str) -> dict[str, Any]:
    return {
        "uid": one.oid,
        "date": email.utils.formatdate(one.time, usegmt=True),
        "message": one.message,
        "author": one.author,
        "type": "version",
        "links": [
            call.link("self", f"{resource}/versions/{one.oid}".lstrip("/")),
            call.link("parent", resource),
        ],
    }
