"""Which running jobs hold nodes, and what those nodes' addresses are: for what is granted to a job's nodes."""

from __future__ import annotations

from collections.abc import Iterable

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.testbed.api import Api
from g5kdeploy.testbed.hardware import hardware
from g5kdeploy.testbed.job import Job
from g5kdeploy.testbed.parallel import ask_all_or_fail
from g5kdeploy.testbed.problems import ApiProblem


def holders(api: Api, names: Iterable[str], deadline: Deadline) -> list[tuple[Job, tuple[str, ...]]]:
    """This user's running jobs that hold the nodes, each with those of them that it holds.

    Raises `InvalidUse` when a node is in none.
    """
    wanted = list(dict.fromkeys(names))
    me = api.me(deadline)

    def running(site: str) -> list[Job]:
        items = api.items(f"/sites/{site}/jobs", deadline, user=me, state="running", resources="yes")
        return [job for item in items if (job := Job.from_document(site, item)).running]

    answers = ask_all_or_fail(sorted({name.split(".")[1] for name in wanted}), running)
    found = [
        (job, held) for jobs in answers.values() for job in jobs if (held := tuple(n for n in wanted if n in job.nodes))
    ]
    free = [name for name in wanted if not any(name in held for _, held in found)]
    if free:
        raise InvalidUse(
            f"{', '.join(free)}: in no running job of {me}", hint="g5kdeploy status --mine shows jobs and their nodes"
        )
    return found


def addresses(api: Api, names: Iterable[str], deadline: Deadline) -> list[str]:
    """The nodes' IPv4 addresses in the production network, from the reference data."""
    found = []
    for name, document in hardware(api, names, deadline).items():
        own = (a.get("ip") for a in document.get("network_adapters") or () if a.get("network_address") == name)
        address = next((str(ip) for ip in own if ip), None)
        if address is None:
            raise ApiProblem(f"the reference data has no address of {name}")
        found.append(address)
    return found
