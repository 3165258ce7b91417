"""Plans for roles that name sites: a job on each, that all start together."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace

from g5kdeploy.testbed.planning.landscape import Landscape
from g5kdeploy.testbed.planning.moments import Window
from g5kdeploy.testbed.planning.options import Option, Plan, plan
from g5kdeploy.testbed.planning.wish import Wish

_COMBINATIONS = 32  # of clusters that are looked at one by one; beyond, the best of each site alone
_ROUNDS = 200  # a common start is approached from below; each round passes the end of at least one job


def plan_sites(
    land: Landscape, wish: Wish, window: Window, homes: Sequence[str], *, advance: bool | None = None
) -> Plan:
    """Like `plan`, for roles of which some name a site; the others go to one of `homes`, all together.

    Each option is a common start: the earliest at which every site has its part.
    """
    if not any(role.site for role in wish.roles):
        return plan(_only(land, homes), wish, window, advance=advance)
    options: dict[str, Option] = {}
    without: list[tuple[str, str, str]] = []
    for home in homes if any(not role.site for role in wish.roles) else homes[:1]:
        parts = parted(wish, home)
        silent = [(site, "", f"does not answer: {land.troubles[site]}") for site in parts if site in land.troubles]
        found, reasons = ([], silent) if silent else _of_parts(land, parts, window, advance)
        options.update({option.name: option for option in found})
        without += [reason for reason in reasons if reason not in without]
    ranked = sorted(options.values(), key=lambda one: (one.start, one.standby > 0, one.evicted > 0, one.name))
    return Plan(tuple(ranked), tuple(without))


def parted(wish: Wish, home: str) -> dict[str, Wish]:
    """Site -> the part of the wish that is for it; roles that name no site are for `home`, which comes first."""
    roles = [replace(role, site=role.site or home) for role in wish.roles]
    sites = sorted({role.site for role in roles}, key=lambda site: (site != home, site))
    return {site: replace(wish, roles=tuple(role for role in roles if role.site == site)) for site in sites}


def _only(land: Landscape, sites: Sequence[str]) -> Landscape:
    return replace(
        land,
        nodes={site: clusters for site, clusters in land.nodes.items() if site in sites},
        troubles={site: why for site, why in land.troubles.items() if site in sites},
    )


def _of_parts(
    land: Landscape, parts: Mapping[str, Wish], window: Window, advance: bool | None
) -> tuple[list[Option], list[tuple[str, str, str]]]:
    """The options of parts that start together: for each combination of the clusters that the sites have for them."""
    plans = {site: plan(_only(land, [site]), part, window, advance=advance) for site, part in parts.items()}
    reasons = [reason for one in plans.values() for reason in one.without]
    if not all(one.options for one in plans.values()):
        return [], reasons
    choices = [one.options for one in plans.values()]
    whole = 1
    for choice in choices:
        whole *= len(choice)
    if whole > _COMBINATIONS:
        choices = [choice[:1] for choice in choices]
    found = []
    for combination in itertools.product(*choices):
        wishes = {
            site: replace(part, roles=option.roles)
            for (site, part), option in zip(parts.items(), combination, strict=True)
        }
        if option := _together(land, wishes, window, advance):
            found.append(option)
    if not found:
        reasons.append(("+".join(parts), "", "the sites have no common start in that window"))
    return found, reasons


def _together(land: Landscape, parts: Mapping[str, Wish], window: Window, advance: bool | None) -> Option | None:
    """The earliest start that all parts have in common, and the earliest that the policy has nothing against."""
    together = _common(land, parts, window, advance, lawful=False)
    if together is None:
        return None
    start = together[0].start
    allowed: float | None = start
    if not all(option.verdict.allowed for option in together):
        later = _common(land, parts, replace(window, first=start), advance, lawful=True)
        allowed = later[0].start if later else None
    verdict = next((one.verdict for one in together if not one.verdict.allowed), together[0].verdict)
    return Option(
        site="+".join(parts),
        cluster="+".join(option.cluster for option in together),
        roles=tuple(role for option in together for role in option.roles),
        start=start,
        nodes=tuple(node for option in together for node in option.nodes),
        verdict=verdict,
        allowed=allowed,
        standby=sum(option.standby for option in together),
        evicted=sum(option.evicted for option in together),
        notes=tuple(f"{option.site}: {note}" for option in together for note in option.notes),
    )


def _common(
    land: Landscape, parts: Mapping[str, Wish], window: Window, advance: bool | None, *, lawful: bool
) -> list[Option] | None:
    """An option of each part with one start, the earliest there is; `lawful`: that the policy allows everywhere."""
    first, last = max(window.first, land.now), max(window.last, land.now)
    for _ in range(_ROUNDS):
        found: list[Option] = []
        starts: list[float] = []
        for site, part in parts.items():
            now = plan(_only(land, [site]), part, replace(window, first=first, last=last), advance=advance)
            options = [one for one in now.options if not lawful or one.allowed is not None]
            if not options:
                return None
            best = min(options, key=lambda one: (one.allowed or 0.0) if lawful else one.start)
            found.append(best)
            starts.append((best.allowed or 0.0) if lawful else best.start)
        latest = max(starts)
        if all(start == latest for start in starts):
            return [replace(one, start=latest) for one in found]
        if latest > last:
            return None
        first = latest
    return None
