"""What the API's answers look like, as far as they are read here: one that looks otherwise is told, with its URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from g5kdeploy.base.nodeset import NAME as NAME_PATTERN
from g5kdeploy.testbed.problems import ApiProblem

_LARGEST = 2**63  # of numbers
_LAST = 2.5e11  # unix time: the last year that has four digits
_HOST = re.compile(rf"{NAME_PATTERN}\.[a-z0-9.-]+")


@dataclass(frozen=True)
class Leaf:
    """A single value: what it should be, in words, and whether one is that."""

    words: str
    fits: Callable[[Any], bool]


@dataclass(frozen=True)
class Each:
    """A mapping whose keys may be anything, and whose values all have one shape."""

    shape: Any


@dataclass(frozen=True)
class Maybe:
    """Something of a shape, or null."""

    shape: Any


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST  # nor is it NaN


ANY = Leaf("anything", lambda value: True)
TEXT = Leaf("text", lambda value: isinstance(value, str))
WORD = Leaf("text or a number", lambda value: isinstance(value, str) or _is_number(value))
NUMBER = Leaf("a number", _is_number)
MOMENT = Leaf("a moment in unix time", lambda value: _is_number(value) and 0 <= value < _LAST)
NAME = Leaf("a name", lambda value: isinstance(value, str) and re.fullmatch(NAME_PATTERN, value) is not None)
HOST = Leaf("a node's full name", lambda value: isinstance(value, str) and _HOST.fullmatch(value) is not None)

# A mapping's members may be absent or null, those with a `!` may not; members that are not named may be anything.
_HELD = {
    "uid!": NUMBER, "state": TEXT, "queue": TEXT, "types": [TEXT], "walltime": NUMBER,
    "submitted_at": MOMENT, "scheduled_at": MOMENT, "started_at": MOMENT, "stopped_at": MOMENT,
}  # fmt: skip
_JOB = {
    **_HELD,
    "name": TEXT, "message": TEXT, "assigned_nodes": [HOST],
    "resources_by_type": {"vlans": [ANY], "subnets": [TEXT], "disks": [TEXT]},
    "events": [{"type": TEXT, "description": TEXT, "created_at": MOMENT}],
}  # fmt: skip
_DEPLOYMENT = {"uid!": TEXT, "status": TEXT, "nodes": [WORD], "result": Each(Maybe({}))}
_NODE = {
    "uid!": NAME,
    "architecture": {"nb_cores": NUMBER, "nb_procs": NUMBER, "nb_threads": NUMBER},
    "chassis": {},
    "gpu_devices": Each({}),
    "main_memory": {"ram_size": NUMBER},
    "network_adapters": [{"rate": NUMBER}],
    "processor": {},
    "storage_devices": [{"interface": TEXT, "storage": TEXT, "size": NUMBER}],
    "supported_job_types": {"queues": [TEXT], "max_walltime": NUMBER},
}
_PORT = {"uid": TEXT, "kind": TEXT, "port": TEXT, "rate": NUMBER}
_EQUIPMENT = {
    "uid!": TEXT, "kind": TEXT, "channels": Each(_PORT),
    "linecards": [Maybe({"kind": TEXT, "rate": NUMBER, "ports": [Maybe(_PORT)]})],
}  # fmt: skip
_USE = {"hard": TEXT, "soft": TEXT, "reservations": [_HELD]}


def _list(item: Any) -> Any:
    return {"items!": [item], "total": NUMBER}


_SHAPES = {
    "/sites": _list({"uid!": NAME}),
    "/sites/[^/]+/clusters": _list({"uid!": NAME, "metrics": [{"name": TEXT}]}),
    "/sites/[^/]+/clusters/[^/]+/nodes": _list(_NODE),
    "/sites/[^/]+/network_equipments": _list(_EQUIPMENT),
    "/sites/[^/]+/status": {"nodes!": Each(_USE), "disks": Each(_USE)},
    "/sites/[^/]+/jobs": _list(_JOB),
    "/sites/[^/]+/jobs/[0-9]+": {**_JOB, "state!": TEXT},
    "/sites/[^/]+/jobs/[0-9]+/walltime": {},
    "/sites/[^/]+/deployments": _list(_DEPLOYMENT),
    "/sites/[^/]+/deployments/[^/]+": _DEPLOYMENT,
    "/sites/[^/]+/storage/.+": Each({"ipv4": [ANY], "termination": {"job": NUMBER, "until": MOMENT}}),
    "/sites/[^/]+/firewall/[0-9]+": [{}],
    "/users/users/~": {"uid!": TEXT},
    "/accesses": Each(ANY),
}
_MADE = {"/sites/[^/]+/jobs": {**_JOB, "state!": TEXT}, "/sites/[^/]+/deployments": _DEPLOYMENT}


def check(path: str, document: Any, url: str, *, made: bool = False) -> None:
    """`ApiProblem` when a document is not what is read from that path; `made`: it is the answer to a POST."""
    shape = next((shape for one, shape in (_MADE if made else _SHAPES).items() if re.fullmatch(one, path)), ANY)
    if wrong := next(_faults(document, shape, ""), None):
        raise ApiProblem(
            f"{url} does not answer as the API does",
            cause=wrong,
            hint="is the uri right? if it is, the testbed's administrators want to know",
            url=url,
        )


def _faults(value: Any, shape: Any, place: str) -> Iterator[str]:
    """What is wrong with a value, in words."""
    if isinstance(shape, Maybe):
        if value is not None:
            yield from _faults(value, shape.shape, place)
    elif isinstance(shape, Leaf):
        if not shape.fits(value):
            yield _words(value, place, shape.words)
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield _words(value, place, "a list")
            return
        for index, item in enumerate(value):
            yield from _faults(item, shape[0], f"{place}[{index}]")
    elif not isinstance(value, Mapping):
        yield _words(value, place, "a mapping")
    elif isinstance(shape, Each):
        for key, item in value.items():
            yield from _faults(item, shape.shape, f"{place}.{key}")
    else:
        for name, inner in shape.items():
            key = name.removesuffix("!")
            if value.get(key) is not None:
                yield from _faults(value[key], inner, f"{place}.{key}")
            elif name != key:
                yield f"{place}.{key}".lstrip(".") + " is missing"


def _words(value: Any, place: str, wanted: str) -> str:
    return f"{place.lstrip('.') or 'it'} is {'null' if value is None else f'{value!r:.60}'}, not {wanted}"
