"""The site's rules, like Grid'5000's: what becomes of a submission on its way in."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from g5kdeploy.lab.oar import pgtext, shortcuts
from g5kdeploy.lab.oar.admission import LATE, QUEUES, Order, Rules
from g5kdeploy.lab.oar.grammar import Group
from g5kdeploy.lab.oar.inventory import Inventory, choose
from g5kdeploy.lab.oar.text import moment

DEFAULT_WALLTIME = 3600
MAX_RESERVATIONS = 2
_TYPES = (
    "deploy besteffort cosystem noop container inner timesharing placeholder allowed set_placeholder use_placeholder "
    "idempotent exotic day night monitor allow_classic_ssh destructive origin state expire postpone deadline token "
    "constraints autoresubmit"
)
TYPES = frozenset(_TYPES.split())
DATED = frozenset({"postpone", "expire", "deadline"})
"""Types that say when a job may run."""
_INTERNAL = (
    "type state next_state finaud_decision next_finaud_decision state_num suspended_jobs scheduler_priority cpuset "
    "besteffort deploy expiry_date desktop_computing last_job_date available_upto last_available_upto"
)
_RULE = "[ADMISSION RULE] "
NO_LEVELS = "Modification of non-creatable array value attempted, subscript -1 at /usr/lib/oar/OAR/IO.pm line 1319.\n"


def admit(
    order: Order,
    inventory: Inventory,
    reservations: Callable[[], int],
    containers: Callable[[], Mapping[int, bool]],
    rules: Rules,
) -> None:
    """Apply the rules in their order, changing the order. Raises `Refused`.

    reservations: how many the user has waiting. containers: the jobs that inner jobs may name, and which are reservations.
    """
    if rules.short:
        _write_out(order, inventory)
    for rule in (
        _users,
        _system,
        _besteffort,
        lambda o: _reservations(o, reservations),
        _deploy,
        lambda o: _inner(o, containers),
    ):
        rule(order)
    for alternative in order.alternatives:
        if alternative.walltime is None:
            order.notices.append(f"# Set walltime to default ({DEFAULT_WALLTIME} s).")
    order.alternatives = [
        replace(a, walltime=DEFAULT_WALLTIME) if a.walltime is None else a for a in order.alternatives
    ]
    for text in order.types:
        kind = text.partition("=")[0]
        if kind not in TYPES or (kind in DATED and not _is_dated(text)):
            raise order.refuse(254, f"{_RULE}Error: unknown job type: {text}\n\n")
    _disks(order, rules.disk_days)
    _filter(order, inventory, rules.slashes)
    if order.queue == "production":
        if order.reservation:
            raise order.refuse(254, f"{_RULE}Error: a job cannot both be in queue production and be a reservation\n\n")
        order.properties = _and(order.properties, "production = 'YES'")
    elif order.queue == "default" and rules.apart:
        order.properties = _and(order.properties, "production = 'NO'")
    if order.queue not in QUEUES:
        raise order.refuse(248, f"# Error: queue '{order.queue}' does not exist\n", 500)
    _count(order, inventory)
    order.properties = _and(order.properties, "maintenance = 'NO'")


def _write_out(order: Order, inventory: Inventory) -> None:
    """Put SQL in place of the short forms in filters."""
    order.properties = shortcuts.expand(order.properties, inventory)
    order.alternatives = [
        replace(a, groups=tuple(replace(g, filter=shortcuts.expand(g.filter, inventory)) for g in a.groups))
        for a in order.alternatives
    ]


def check_keys(order: Order) -> None:
    """Job keys are for those who ask for them. Raises `Refused`."""
    if order.keyed:
        text = "# Error: you must set the --use-job-key (or -k) option in order to use other job key related options.\n"
        raise order.refuse(8, text + LATE)


def _users(order: Order) -> None:
    if order.user in ("root", "oar"):
        raise order.refuse(254, f"{_RULE}root and oar users are not allowed to submit jobs.\n\n")
    if order.queue == "admin":
        raise order.refuse(254, f"{_RULE}Only member of the group admin can submit jobs in the admin queue\n\n")


def _system(order: Order) -> None:
    """What OAR keeps for itself cannot be counted."""
    for name in _levels(order):
        if name.lower() in _INTERNAL.split():
            raise order.refuse(254, f"{_RULE}'{name}' resource is not allowed\n\n")


def _levels(order: Order) -> Iterator[str]:
    """The names of all that is asked for, in order."""
    return (name for one in order.alternatives for group in one.groups for name, _ in group.levels)


def _besteffort(order: Order) -> None:
    """The queue and the type go together."""
    if order.has("besteffort"):
        order.queue = "besteffort"
    elif order.queue == "besteffort":
        order.types.append("besteffort")
    if not order.has("besteffort"):
        return
    if order.reservation:
        raise order.refuse(254, f"{_RULE}Error: a job cannot both be of type besteffort and be a reservation.\n\n")
    order.properties = _and(order.properties, "besteffort = 'YES'")


def _reservations(order: Order, waiting: Callable[[], int]) -> None:
    if order.reservation and waiting() >= MAX_RESERVATIONS:
        text = f"Error: you cannot have more than {MAX_RESERVATIONS} waiting advance reservations."
        raise order.refuse(254, f"{_RULE}{text}\n\n")


def _deploy(order: Order) -> None:
    """A deploy job gets whole nodes."""
    if not order.has("deploy"):
        return
    for name in _levels(order):
        if name.lower() in ("core", "cpu", "thread", "gpu", "resource_id"):
            raise order.refuse(254, f"{_RULE}'{name}' resource is not allowed with a deploy job\n\n")
    order.properties = _and(order.properties, "deploy = 'YES'")


def _inner(order: Order, containers: Callable[[], Mapping[int, bool]]) -> None:
    """The container is there, and reserved if anything inside of it is to be."""
    for text in order.types:
        key, _, value = text.partition("=")
        if key != "inner":
            continue
        reserved = containers().get(int(value)) if value.isdecimal() else None
        if reserved is None:
            raise order.refuse(254, f"{_RULE}Error: inner job is requesting an invalid container id.\n\n")
        if order.reservation and not reserved:
            why = "an advance-reservation inner job requires the container to be an advance reservation as well."
            raise order.refuse(254, f"{_RULE}Error: {why}\n\n")


def _is_dated(text: str) -> bool:
    """Whether a type has a date behind it that can be read."""
    if not re.search(r"^\w+=\d{4}-\d\d-\d\d(?:\s+\d\d:\d\d(?::\d\d)?)?$", text):
        return False
    try:
        return moment(text) > 0
    except (ValueError, OverflowError):
        return False


def _disks(order: Order, days: int) -> None:
    """Disks alone are had for so many days at most."""
    for alternative in order.alternatives:
        disks = any(re.search(r"\btype\s*=\s*'disk'", group.filter) for group in alternative.groups)
        if days and disks and (alternative.walltime or 0) > days * 86400:
            raise order.refuse(254, f"{_RULE}Error: disks cannot be reserved for more than {days} days.\n\n")


def _filter(order: Order, inventory: Inventory, slashes: bool) -> None:
    """Ask for compute resources where no type is named, and keep exotic hardware to those who ask for it."""
    exotic = order.has("exotic")
    clusters = sorted(
        {str(r.properties.get("cluster")) for r in inventory.by_id.values() if r.properties.get("exotic") == "YES"}
    )
    if clusters and not exotic:
        order.notices.append(f"# Filtering out exotic resources ({', '.join(clusters)}).")

    def narrowed(group: Group) -> Group:
        if re.search(r"\btype\b", group.filter):
            return group
        if slashes and any(name.startswith("slash_") for name, _ in group.levels[:1]):
            return replace(group, filter=f"({group.filter}) AND type = 'subnet'" if group.filter else "type = 'subnet'")
        sql = f"(type = 'default') AND ({group.filter})" if group.filter else "type = 'default'"
        return replace(group, filter=sql if exotic else f"({sql}) AND exotic = 'NO'")

    order.alternatives = [replace(a, groups=tuple(map(narrowed, a.groups))) for a in order.alternatives]


def _count(order: Order, inventory: Inventory) -> None:
    """Every alternative must be possible on the site as it is; dead nodes do not count."""
    for number, alternative in enumerate(order.alternatives):
        taken = 0
        for group in alternative.groups:
            if not group.levels:  # a slash alone: oarsub dies of it
                raise order.refuse(255, NO_LEVELS, 500)
            try:
                tree = inventory.tree(group, order.properties)
            except pgtext.BadFilter as error:
                text = f"{error.text}# Bad resource request ({error.short})\n{LATE}"
                raise order.refuse(8, text) from error
            got = choose(tree, inventory.everything & ~taken)
            if not got:
                raise order.refuse(8, f"# There are not enough resources for your request\n{LATE}")
            taken |= got
        if number == 0:
            order.resources = taken.bit_count()


def _and(properties: str, condition: str) -> str:
    return f"({properties}) AND {condition}" if properties else condition
