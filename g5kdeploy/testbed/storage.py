"""Who may mount what over NFS: the user's home of a site, or a group's storage, for a job's nodes while the job runs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.problems import NotThere, Unclear

HOME = "home"
_NAME = re.compile(r"^(?P<site>[a-z0-9-]+)(?::(?P<server>[\w.-]+)/(?P<name>[\w.-]+))?$")


@dataclass(frozen=True)
class Storage:
    """A home (`server` is "home", `name` the user's) or a group's storage on a server of a site."""

    site: str
    server: str
    name: str

    def __str__(self) -> str:
        return f"{self.site}:{self.server}/{self.name}"

    @property
    def path(self) -> str:
        return f"/sites/{self.site}/storage/{self.server}/{self.name}/access"


@dataclass(frozen=True)
class Access:
    """One rule: which addresses may mount it, until which job ends (0: none) or which unix time, and what to mount."""

    id: str
    storage: Storage
    addresses: tuple[str, ...]
    job: int
    job_site: str
    until: int
    nfs: str


def parse(text: str, user: str) -> Storage:
    """`SITE` is the user's home there, `SITE:SERVER/NAME` a group's storage. Raises `InvalidUse`."""
    found = _NAME.match(text)
    if found is None:
        raise InvalidUse(
            f"`{text}` is no storage", hint="for example nancy (your home there), or nancy:storage1/mygroup"
        )
    return Storage(found["site"], found["server"] or HOME, found["name"] or user)


def accesses(api: Api, storage: Storage, deadline: Deadline) -> list[Access]:
    """The rules of a storage. Raises `InvalidUse` for one that is not there."""
    try:
        answer = api.get(storage.path, deadline)
    except NotThere as problem:
        sites = ", ".join(api.sites(deadline))
        raise InvalidUse(f"the testbed has no storage {storage}", hint=f"its sites are {sites}") from problem
    return [_access(storage, str(uid), rule) for uid, rule in answer.items()]


def allow(api: Api, storage: Storage, job: Job, addresses: Sequence[str], deadline: Deadline) -> list[Access]:
    """Let these addresses mount it until the job ends; the rules that say so. One that is there is not asked for again."""

    def saying() -> list[Access]:
        wanted = set(addresses)
        return [
            one
            for one in accesses(api, storage, deadline)
            if (one.job, one.job_site) == (job.id, job.site) and wanted <= set(one.addresses)
        ]

    if there := saying():
        return there
    body = {"ipv4": list(addresses), "termination": {"job": job.id, "site": job.site}}
    try:
        api.post(storage.path, body, deadline)
    except Unclear:
        if there := saying():
            return there
        raise
    return saying()


def revoke(api: Api, access: Access, deadline: Deadline) -> None:
    """Take a rule away; what is mounted may go on for a while."""
    api.delete(f"{access.storage.path}/{access.id}", deadline)


def _access(storage: Storage, uid: str, rule: Mapping[str, Any]) -> Access:
    end = rule.get("termination") or {}
    return Access(
        uid,
        storage,
        tuple(map(str, rule.get("ipv4") or ())),
        int(end.get("job") or 0),
        str(end.get("site") or ""),
        int(end.get("until") or 0),
        str(rule.get("nfs_address", "")),
    )
