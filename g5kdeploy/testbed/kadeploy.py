"""Deploying an environment on a job's nodes through the API, with a verdict for each node."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import clean
from g5kdeploy.events.event import Emitter, State
from g5kdeploy.events.failure import Failure, NotAllowed
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import natural
from g5kdeploy.testbed.problems import ApiProblem, ImageProblem, NotThere, Unclear

_POLLS = (0.5, 1.0, 1.0, 2.0, 2.0)  # seconds between looks, then a twentieth of the time that it took, at most 10
_LONGEST_POLL = 10.0
_OUTAGE = 10.0
_CANCEL_SECONDS = 30.0
_BOOT = "BootNewEnv"
_NO_RIGHTS = "sufficient rights"
_RIGHTS_PAUSE = 5.0
_SETTLE = 15.0


@dataclass(frozen=True)
class Verdicts:
    """What became of each node: `ok` by full name, `ko` with the reason; `deployments` are the API's ids."""

    ok: tuple[str, ...]
    ko: dict[str, str]
    deployments: tuple[str, ...] = ()


def deploy(
    api: Api,
    site: str,
    nodes: Sequence[str],
    environment: str,
    key: str,
    deadline: Deadline,
    emit: Emitter,
    *,
    vlan: int | None = None,
    tries: int = 2,
) -> Verdicts:
    """Deploy `environment` (name, name@user or URL) on full-name `nodes`, with `key` (public key text) for root.

    With `vlan` they are in that KaVLAN afterwards, and answer under `in_vlan`'s names alone. Verdicts keep the plain ones.

    Nodes that fail are tried again alone, `tries` times in all; all of them failing at the boot of the environment is
    the image's fault: `ImageProblem`, not tried again. Those lost stand in `Verdicts.ko`; all lost: `Failure`.
    """
    wanted = sorted(nodes, key=natural)
    body = {"environment": environment, "key": key} | ({"vlan": vlan} if vlan is not None else {})
    left, ok, uids = list(wanted), list[str](), list[str]()
    ko: dict[str, str] = {}
    for attempt in range(1, tries + 1):
        uid, results = _once(api, site, {"nodes": left, **body}, deadline, emit)
        uids.append(uid)
        good = [node for node in left if _is_ok(results.get(node))]
        ok += good
        bad = {node: results.get(node) or {} for node in left if node not in good}
        ko = {node: _why(result) for node, result in bad.items()}
        for node in good:
            emit.emit(node, "deploy", State.OK, environment)
        for node, why in ko.items():
            emit.emit(node, "deploy", State.FAILED, why)
        if bad and not ok and all(result.get("macro") == _BOOT for result in bad.values()):
            raise ImageProblem(
                f"no node boots the environment {environment}",
                cause=f"all {len(bad)} failed at {_BOOT}: {next(iter(ko.values()))}",
                hint="the image is at fault rather than the nodes: see a node's console (g5kdeploy console NODE)",
            )
        if not bad:
            break
        left = list(bad)
        if attempt < tries:
            emit.warn("deploy", f"trying again on {len(left)} of {len(wanted)} nodes: {', '.join(left)}")
    if not ok:
        raise Failure(
            f"the deployment of {environment} failed on every node",
            cause="; ".join(f"{node}: {why}" for node, why in ko.items()),
            hint="reserve other nodes, or see with g5kdeploy console NODE what they say",
        )
    return Verdicts(tuple(sorted(ok, key=natural)), ko, tuple(uids))


def _is_ok(result: Mapping[str, Any] | None) -> bool:
    return result is not None and str(result.get("state")) == "OK"


def _why(result: Mapping[str, Any]) -> str:
    if not result:
        return "the deployment gives no verdict on it"
    where = "/".join(str(result[part]) for part in ("macro", "micro") if result.get(part))
    said = clean(str(result.get("error") or ""))
    state = str(result.get("state", "KO"))
    return f"{state}{f' at {where}' if where else ''}{f': {said}' if said else ''}"


def cancel_on(api: Api, site: str, nodes: Sequence[str], deadline: Deadline) -> None:
    """Cancel what the user has under way on these nodes, as well as it can be done; for whoever cannot wait for it."""
    rest = Deadline.after(_CANCEL_SECONDS, f"the deployments on {site}", deadline.clock)
    with contextlib.suppress(Exception):
        for item in _own(api, site, rest, status="processing"):
            if set(item.get("nodes") or ()) & set(nodes):
                api.delete(f"/sites/{site}/deployments/{item['uid']}", rest)


def in_vlan(node: str, vlan: int | str) -> str:
    """The name under which a node answers in a KaVLAN: vm-1.lab.grid5000.fr is vm-1-kavlan-4.lab.grid5000.fr there."""
    host, dot, domain = node.partition(".")
    return f"{host}-kavlan-{vlan}{dot}{domain}"


def _once(
    api: Api, site: str, body: Mapping[str, Any], deadline: Deadline, emit: Emitter
) -> tuple[str, dict[str, dict[str, Any]]]:
    """One deployment from submission to its end: its id, and each node's result. Cancelled if we are interrupted."""
    environment = body["environment"]
    uid = _submit(api, site, body, deadline, emit)
    try:
        document = _follow(api, f"/sites/{site}/deployments/{uid}", body["nodes"], deadline, emit)
    except BaseException:
        _cancel(api, site, uid, deadline)
        raise
    ended = document.get("status")
    if ended == "canceled":
        raise Failure(f"deployment {uid} was cancelled", cause="by its owner or by the site")
    results = document.get("result") or {}
    if ended == "error" and not any(_final(result) for result in results.values()):
        said = clean(str(document.get("output") or "the site gives no reason"))
        raise Failure(f"deployment {uid} of {environment} failed", cause=said)
    return uid, {node: dict(result) for node, result in results.items() if isinstance(result, Mapping)}


def _cancel(api: Api, site: str, uid: str, deadline: Deadline) -> None:
    """End a deployment that nobody will follow; whatever comes of it, the reason for that is told and not this."""
    rest = Deadline.after(_CANCEL_SECONDS, f"the end of deployment {uid}", deadline.clock)
    with contextlib.suppress(Exception):
        api.delete(f"/sites/{site}/deployments/{uid}", rest)


def _submit(api: Api, site: str, body: Mapping[str, Any], deadline: Deadline, emit: Emitter) -> str:
    """Ask for a deployment; its id. A lost answer is looked up among the user's own before asking again.

    Interrupted before the answer, what the request began is looked up and cancelled.
    """
    nodes, environment = body["nodes"], body["environment"]
    if uid := _unfinished(api, site, body, deadline, emit):
        return uid
    known = {str(item["uid"]) for item in _own(api, site, deadline)}
    rights = 0
    lost = 0
    while True:
        try:
            return _post(api, site, body, known, deadline, emit)
        except Unclear as unclear:
            emit.warn("deploy", f"{unclear.cause or unclear.what}; looking for the deployment")
            if uid := _look(api, site, set(nodes), known, deadline):
                return uid
            lost += 1
            if lost > 1:
                raise
        except ApiProblem as problem:
            # Right after a job's start the rights may not have reached kadeploy yet; once is cheap.
            if _NO_RIGHTS in problem.cause:
                rights += 1
                if rights > 1:
                    raise NotAllowed(
                        f"kadeploy does not let you deploy on {', '.join(nodes)}",
                        cause=problem.cause,
                        hint="the job must run, be yours, and have the type deploy",
                    ) from problem
                deadline.sleep(_RIGHTS_PAUSE, problem.cause)
                continue
            if problem.status in (400, 404, 500):
                raise Failure(
                    f"the site {site} refuses to deploy {environment}", cause=problem.cause, hint=problem.hint
                ) from problem
            raise


def _post(api: Api, site: str, body: Mapping[str, Any], known: set[str], deadline: Deadline, emit: Emitter) -> str:
    """Send the request; the id that was answered. What comes in between leaves no deployment that nobody knows of."""
    try:
        return str(api.post(f"/sites/{site}/deployments", dict(body), deadline)["uid"])
    except ApiProblem:
        raise
    except BaseException:
        emit.note("deploy", "interrupted before the site answered; looking for the deployment, to cancel it")
        rest = Deadline.after(_CANCEL_SECONDS, "the deployment that was asked for", deadline.clock)
        with contextlib.suppress(Exception):
            if uid := _look(api, site, set(body["nodes"]), known, rest):
                _cancel(api, site, uid, rest)
        raise


def _own(api: Api, site: str, deadline: Deadline, **more: Any) -> list[dict[str, Any]]:
    """The user's latest deployments."""
    return list(
        api.get(f"/sites/{site}/deployments", deadline, user=api.me(deadline), limit=100, **more).get("items") or []
    )


def _unfinished(api: Api, site: str, body: Mapping[str, Any], deadline: Deadline, emit: Emitter) -> str | None:
    """The deployment that an earlier call left under way on these nodes; one that does something else is cancelled."""
    nodes = body["nodes"]
    same = ("environment", "vlan")
    for item in _own(api, site, deadline, status="processing"):
        if set(item.get("nodes") or ()) == set(nodes) and all(item.get(one) == body.get(one) for one in same):
            emit.note("deploy", f"going on with deployment {item['uid']}, which is under way already")
            return str(item["uid"])
        if set(item.get("nodes") or ()) & set(nodes):
            emit.warn("deploy", f"deployment {item['uid']} of {item.get('environment')} is under way: cancelling it")
            api.delete(f"/sites/{site}/deployments/{item['uid']}", deadline)
    return None


def _look(api: Api, site: str, nodes: set[str], known: set[str], deadline: Deadline) -> str | None:
    """The deployment on these very nodes that was not there before."""
    patience = deadline.within(_SETTLE, "the deployment whose answer was lost")
    while True:
        try:
            for item in _own(api, site, deadline):
                if item["uid"] not in known and set(item.get("nodes") or ()) == nodes:
                    return str(item["uid"])
        except ApiProblem as problem:
            if not problem.passing:
                raise
        if patience.remaining() <= 2.0:
            return None
        patience.sleep(2.0)


def _follow(api: Api, path: str, nodes: Sequence[str], deadline: Deadline, emit: Emitter) -> dict[str, Any]:
    """Ask until it is over, telling each node's steps as they change. `error` and `terminated` are both only an end."""
    began = deadline.clock.monotonic()
    polls = iter(_POLLS)
    shown: dict[str, str] = {}
    while True:
        document: dict[str, Any] = {}
        try:
            # Without a PUT the API tells what it knew when the deployment began, or when it ended.
            with contextlib.suppress(NotThere):
                api.put(path, {}, deadline)
            document = dict(api.get(path, deadline))
        except ApiProblem as problem:
            if not problem.passing or deadline.remaining() <= _OUTAGE:
                raise
            emit.warn("deploy", f"{problem}; the deployment goes on meanwhile")
            deadline.sleep(_OUTAGE, str(problem))
            continue
        results = document.get("result")
        results = results if isinstance(results, Mapping) else {}
        _show(nodes, results, shown, emit)
        if document.get("status") in ("terminated", "error", "canceled"):
            return document
        if results and all(_final(results.get(node)) for node in nodes):
            return document  # a workflow in error stays "processing" for ever
        spent = deadline.clock.monotonic() - began
        deadline.sleep(next(polls, min(_LONGEST_POLL, spent / 20)), _progress(nodes, shown))
        deadline.check(_progress(nodes, shown))


def _final(result: Any) -> bool:
    return isinstance(result, Mapping) and str(result.get("state")) in ("OK", "KO", "DISCARDED")


def _show(nodes: Sequence[str], results: Mapping[str, Any], shown: dict[str, str], emit: Emitter) -> None:
    for node in nodes:
        result = results.get(node)
        if not isinstance(result, Mapping) or _final(result):
            continue
        step = "/".join(str(result[part]) for part in ("macro", "micro") if result.get(part)) or str(
            result.get("state")
        )
        if shown.get(node) != step:
            shown[node] = step
            emit.note("deploy", step, node)


def _progress(nodes: Sequence[str], shown: Mapping[str, str]) -> str:
    return "; ".join(f"{node} is at {shown.get(node, 'the beginning')}" for node in nodes)
