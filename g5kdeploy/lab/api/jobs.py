"""Jobs: lists, submission, one job, deletion, and changes of the walltime."""

from __future__ import annotations

import dataclasses
import json
import re
from typing import Any

from g5kdeploy.lab.api.answer import Document, Empty
from g5kdeploy.lab.api.call import COLLECTION, Call, HttpError, any_of, integer, no_null, page
from g5kdeploy.lab.api.ruby import Symbols, blank, no_method, to_i
from g5kdeploy.lab.oar import Job, Query, Refused

KEPT_STATUSES = frozenset({400, 401, 403, 404, 405, 406, 412, 415, 502, 503})
_TIME = r"(0?[0-9]|1[0-9]|2[0-3])(?::(0?[0-9]|[1-5][0-9])(?::(0?[0-9]|[1-5][0-9]))?)?"
_CLOCK = re.compile(rf"^\s*{_TIME}\s*$", re.MULTILINE)  # any line of it may fit, as there
_DATE = re.compile(rf"^\s*(\d{{4}}-(?:0?[0-9]|1[0-2])-(?:0?[1-9]|[1-2][0-9]|3[0-1]))\s+{_TIME}\s*$", re.MULTILINE)
_SYNTAX = (
    "Syntax error in reservation {} date, should at least match the format: "
    "'YYYY-MM-DD hh:mm:ss'. Please see documentation for available date syntaxes."
)
PASSED_ON = ("directory", "name", "project", "stderr", "stdout", "queue", "notify", "import-job-key-from-file")
NUMBERS = ("walltime", "signal", "checkpoint")
TO_NUMBERS = (
    "uid",
    "signal",
    "exit_code",
    "checkpoint",
    "anterior",
    "submitted_at",
    "scheduled_at",
    "started_at",
    "walltime",
)
DIGITS = 18  # what fits into the database's column for sure


def described(job: Job, *, events: bool = True) -> dict[str, Any]:
    """The job as the API shows it, without links and resources; what is not known is left out."""
    shown: dict[str, Any] = {
        "uid": job.id,
        "user_uid": job.user,
        "user": job.user,
        "walltime": job.walltime,
        "queue": job.queue,
        "state": job.state.lower(),
        "project": job.project,
        "name": job.name,
        "types": list(job.types),
        "mode": job.mode,
        "command": job.command,
        "submitted_at": job.submitted_at,
        "scheduled_at": job.scheduled_at or None,
        "started_at": job.started_at,
        "stopped_at": job.stopped_at or None,
        "message": job.message,
        "exit_code": job.exit_code,
        "properties": job.properties,
        "directory": job.directory,
    }
    if events:
        shown["events"] = [
            {"uid": one.id, "created_at": one.at, "type": one.type, "description": one.description}
            for one in job.events
        ]
    return {key: value for key, value in shown.items() if value is not None}


def with_resources(job: Job) -> dict[str, Any]:
    """The job's resources as the API shows them: assigned and predicted ones alike."""
    cores: dict[str, list[str]] = {}
    found: dict[str, list[str]] = {}
    for one in job.resources:
        properties = one.properties
        if one.type == "default":
            cores.setdefault(one.address, []).append(f"{one.address}/{properties.get('cpuset', 0)}")
        elif "vlan" in one.type:
            found.setdefault("vlans", []).append(str(properties.get("vlan")))
        elif one.type == "subnet":
            prefix = f"{properties.get('subnet_address')}/{properties.get('subnet_prefix')}"
            found.setdefault("subnets", []).append(prefix)
        elif one.type == "disk":
            disk = str(properties.get("disk", "")).split(".")[0]
            found.setdefault("disks", []).append(f"{disk}.{properties.get('host') or one.address}")
    if cores:
        ordered = [
            name for names in cores.values() for name in sorted(names, key=lambda core: to_i(core.rsplit("/")[-1]))
        ]
        found = {"cores": ordered, **found}
    return {"resources_by_type": found, "assigned_nodes": list(cores)}


def _item(call: Call, site: str, job: Job, *, resources: bool) -> dict[str, Any]:
    links = [call.link("self", f"/sites/{site}/jobs/{job.id}"), call.link("parent", f"/sites/{site}")]
    return {**described(job), "links": links, **(with_resources(job) if resources else {})}


def every(call: Call, site: str) -> Document:
    """A page of the jobs that fit."""
    call.allow("GET", "POST")
    call.vary_accept = True
    query = call.params
    offset, limit = page(query)
    if limit < 0:
        raise HttpError(500, "PG::InvalidRowCountInLimitClause: ERROR:  LIMIT must not be negative\n")
    ids = query.get("job_id")
    states = _states(query.get("state"))
    no_null(*(query.get(name) for name in ("user", "name", "project", "queue")), *(states or ()))
    listing = call.scheduler(site).jobs(
        Query(
            users=None if blank(query.get("user")) else any_of(query["user"]),
            names=None if blank(query.get("name")) else any_of(query["name"]),
            projects=None if blank(query.get("project")) else any_of(query["project"]),
            ids=None if blank(ids) else _numbers(ids),
            states=states,
            queues=None if query.get("queue") is None else any_of(query["queue"]),
            limit=limit,
            offset=offset,
        )
    )
    details = query.get("resources") not in (None, "no")
    where = f"/sites/{site}/jobs"
    return Document(
        {
            "total": listing.total,
            "offset": offset,
            "items": [_item(call, site, job, resources=details) for job in listing.jobs],
            "links": [call.link("self", where, COLLECTION), call.link("parent", f"/sites/{site}")],
        }
    )


def _numbers(given: Any) -> list[int]:
    """Numbers of jobs; of those that are too long, and of mappings, there is no job."""
    if isinstance(given, dict):
        return []
    return [number for number in map(to_i, any_of(given)) if len(str(number)) <= DIGITS]


def _states(given: Any) -> tuple[str, ...] | None:
    """The states of a list with commas; the real server can do with no other kind of value."""
    if given is None:
        return None
    if not isinstance(given, str | list):
        line = "        states = (params[:state] || '').split(/\\s*,\\s*/)"
        raise HttpError(500, no_method("split", line, ".split", given))
    if isinstance(given, list):  # what is split is the list, into lists
        if not given:
            return ()
        line = f"{' ' * 39}.map(&:capitalize)"
        raise HttpError(500, no_method("capitalize", line, ".map", given))
    return tuple(dict.fromkeys(one.capitalize() for one in re.split(r"\s*,\s*", given) if one))


def one(call: Call, site: str, job: str) -> Document:
    """One job, with its resources."""
    call.allow("GET", "DELETE")
    call.vary_accept = True
    return Document(_item(call, site, _find(call, site, job), resources=True))


def _find(call: Call, site: str, text: str) -> Job:
    number = to_i(text)
    found = call.scheduler(site).job(number) if len(str(number)) <= DIGITS else None
    if found is None:
        raise HttpError(404, f"Couldn't find OAR::Job with 'job_id'={text}")
    return found


def create(call: Call, site: str) -> Document:
    """Submit a job."""
    params = call.params
    user = call.authenticated()
    trouble = invalid(params)
    if trouble:
        raise HttpError(400, f"The job you are trying to submit is not valid: {'; '.join(trouble)}")
    try:
        job = call.scheduler(site).submit(user, request(params))
    except Refused as error:
        raise backend_failure(call, f"/sites/{site}/internal/oarapi/jobs.json", error) from error
    call.location = call.absolute(f"/sites/{site}/jobs/{job.id}")
    return Document(_item(call, site, job, resources=True), status=201)


def invalid(params: dict[str, Any]) -> list[str]:
    """What the API server itself finds wrong with a submission."""
    kept = {name: Symbols(value) if isinstance(value, dict) else value for name, value in params.items()}
    if not isinstance(kept.get("state"), str | None):
        raise HttpError(500, no_method("downcase!", "      @state&.downcase!", "&.downcase!", kept["state"]))
    if isinstance(kept.get("message"), int | float):
        raise HttpError(
            500, no_method("empty?", "      @message = nil if @message&.empty?", "&.empty?", kept["message"])
        )
    for name in TO_NUMBERS:
        integer(kept.get(name), f'{" " * 8}instance_variable_set "@#{{integer_field}}", value.to_i unless value.nil?')
    wanted = params.get("reservation")
    trouble = []
    if wanted is None and blank(params.get("command")):
        trouble.append("you must give a :command to execute on launch")
    if wanted is None or wanted is False:
        return trouble
    if not isinstance(wanted, str):
        return [*trouble, "`reservation` should be a String."]
    start, *rest = wanted.split(",")
    if start != "now" and not _DATE.search(start) and not _CLOCK.search(start):
        trouble.append(_SYNTAX.format("start"))
    if rest and rest[0] and not _DATE.search(rest[0]) and not _CLOCK.search(rest[0]):
        trouble.append(_SYNTAX.format("end"))
    return trouble


def request(params: dict[str, Any]) -> dict[str, Any]:
    """A submission as the API server hands it on to OAR."""
    sent: dict[str, Any] = {"resource": params.get("resources"), "script": params.get("command")}
    if params.get("reservation") is not None:
        sent["reservation"] = params["reservation"]
    for name, singular in (("properties", "property"), ("types", "type")):
        value = params.get(name)
        if isinstance(value, int | float):
            line = f"        h['{singular}'] = {name} unless {name}.nil? || {name}.empty?"
            raise HttpError(500, no_method("empty?", line, ".empty?", value))
        if value:
            sent[singular] = value
    sent.update({key: params[key] for key in PASSED_ON if params.get(key) is not None})
    if sent.get("project") in ("", []):  # OAR's own API takes no empty values
        del sent["project"]
    sent.update({key: to_i(params[key]) for key in NUMBERS if params.get(key) is not None})
    return sent


def backend_failure(call: Call, path: str, error: Refused) -> HttpError:
    """What the API server makes of a refusal by OAR's own API."""
    body = json.dumps({"code": error.status, "message": error.message, "title": error.title}, indent=3,
                      separators=(",", " : "), ensure_ascii=False)  # fmt: skip
    status = error.status if error.status in KEPT_STATUSES else 500
    return HttpError(status, f"Request to {call.absolute(path)} failed with status {error.status}: {body}\n\n")


def delete(call: Call, site: str, job: str) -> Empty:
    """Ask for a job's end."""
    user = call.authenticated()
    found = _find(call, site, job)
    call.only(found.user)
    call.behind(site, f"oarapi/jobs/{job}.json")
    try:
        said = call.scheduler(site).delete(_known(call, site, job), user)
    except Refused as error:
        raise backend_failure(call, f"/sites/{site}/internal/oarapi/jobs/{job}.json", error) from error
    call.more.append(("X-Oar-Info", " ".join(said.splitlines()) or "-"))
    call.location = call.absolute(f"/sites/{site}/jobs/{job}")
    return Empty(202)


def walltime(call: Call, site: str, job: str) -> Document:
    """What may be changed of a job's walltime, and what was."""
    call.allow("GET")
    call.authenticated()
    call.behind(site, f"oarapi/jobs/{job}/details.json")
    number = _known(call, site, job)
    status = dataclasses.asdict(call.scheduler(site).walltime(number))
    shown = {key: value for key, value in status.items() if value is not None and key != "job"}
    where = f"/sites/{site}/jobs"
    shown["uid"] = number
    shown["links"] = [call.link("self", f"{where}/{number}/walltime"), call.link("parent", f"{where}/{job}")]
    return Document(shown)


def _known(call: Call, site: str, text: str) -> int:
    """The number of a job that OAR's own API knows by that text."""
    number = int(text) if re.fullmatch(r"[0-9]+", text) else 0
    if len(str(number)) > DIGITS or call.scheduler(site).job(number) is None:
        raise HttpError(404, f"Job id '{text}' cannot be found.")
    return number


def change_walltime(call: Call, site: str, job: str) -> Document:
    """Ask for another walltime; the answer is text that calls itself JSON."""
    params = call.params
    call.allow("POST")
    user = call.authenticated()
    if call.content_type != "application/json":
        raise HttpError(415, f"Content-Type '{call.content_type}' is not supported")
    params = {key: value for key, value in params.items() if not isinstance(value, list | dict)}
    trouble = invalid_walltime(params)
    if trouble:
        raise HttpError(400, f"The job walltime change you are trying to submit is not valid: {'; '.join(trouble)}")
    call.behind(site, f"oarapi/jobs/{job}.json")
    number = _known(call, site, job)
    timeout = params.get("timeout")
    try:
        said = call.scheduler(site).change_walltime(
            number,
            user,
            params["walltime"],
            force=_yes(params.get("force")),
            delay_next_jobs=_yes(params.get("delay_next_jobs")),
            whole=_yes(params.get("whole")),
            timeout=int(timeout) if timeout is not None and not blank(timeout) else None,
        )
    except Refused as error:
        if error.status in (400, 403):
            raise HttpError(error.status, error.message) from error
        raise backend_failure(call, f"/sites/{site}/internal/oarapi/jobs/{job}.json", error) from error
    call.location = call.absolute(f"/sites/{site}/jobs/{job}/walltime")
    return Document(said.rstrip("\n"), status=202, plain=True)


def _yes(value: Any) -> bool:
    return value is True or value == "yes"


def invalid_walltime(params: dict[str, Any]) -> list[str]:
    """What the API server itself finds wrong with a change of the walltime."""
    wanted, timeout = params.get("walltime"), params.get("timeout")
    trouble = []
    if blank(wanted):
        trouble.append("you must give a new walltime")
    elif not isinstance(wanted, str):
        trouble.append("new walltime must be a String")
    if not blank(timeout) and (not isinstance(timeout, int) or isinstance(timeout, bool)):
        trouble.append("timeout must be an Integer")
    flags = [params.get(name) for name in ("delay_next_jobs", "force", "whole")]
    if any(flag is not None and not isinstance(flag, bool) and flag not in ("yes", "no") for flag in flags):
        trouble.append("delay_next_jobs, force, whole must be a Boolean")
    return trouble
