"""OAR's node properties, worked out from reference data, so that a filter can be tried without asking the site."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from typing import Any

from g5kdeploy.testbed.request import cluster_of

_MIB = 1 << 20
_GBPS = 1_000_000_000


def of_node(name: str, document: Mapping[str, Any]) -> dict[str, str | int]:
    """The OAR properties of one node, from its document as `hardware` has it."""
    architecture = document.get("architecture") or {}
    processor = document.get("processor") or {}
    job_types = document.get("supported_job_types") or {}
    networks = [
        card
        for card in document.get("network_adapters") or ()
        if card.get("interface") == "Ethernet"
        and not card.get("management")
        and (card.get("mounted") or card.get("mountable"))
    ]
    disks = document.get("storage_devices") or ()
    gpus = list((document.get("gpu_devices") or {}).values())
    cores, procs = int(architecture.get("nb_cores") or 0), int(architecture.get("nb_procs") or 1)
    memory = int((document.get("main_memory") or {}).get("ram_size") or 0) // _MIB
    found: dict[str, str | int] = {
        "cluster": cluster_of(name),
        "host": name,
        "network_address": name,
        "nodemodel": str((document.get("chassis") or {}).get("name") or ""),
        "cputype": " ".join(str(processor[key]) for key in ("model", "version") if processor.get(key)),
        "cpuarch": str(architecture.get("platform_type") or ""),
        "cpu_count": procs,
        "core_count": cores,
        "cpucore": cores // procs if procs else 0,
        "thread_count": int(architecture.get("nb_threads") or 0),
        "memnode": memory,
        "memcpu": memory // procs if procs else 0,
        "memcore": memory // cores if cores else 0,
        "eth_count": len(networks),
        "eth_rate": max((int(card.get("rate") or 0) // _GBPS for card in networks), default=0),
        "disk_reservation_count": sum(bool(disk.get("reservation")) for disk in disks),
        "disktype": "/".join(filter(None, (disks[0].get("interface"), disks[0].get("storage")))) if disks else "",
        "gpu_count": len(gpus),
        "gpu_model": str(gpus[0].get("model", "")) if gpus else "",
        "wattmeter": _yes(document.get("wattmeter")),
        "exotic": _yes(document.get("exotic")),
        "deploy": _yes(job_types.get("deploy")),
        "besteffort": _yes(job_types.get("besteffort")),
        "virtual": str(job_types.get("virtual") or "none"),
        "max_walltime": int(job_types.get("max_walltime") or 0),
        "type": "default",
        "maintenance": "NO",
    }
    return found


def _yes(value: Any) -> str:
    return "YES" if value else "NO"


def matching(condition: str, documents: Mapping[str, Mapping[str, Any]]) -> frozenset[str] | None:
    """The names of the nodes that meet a condition (OAR's SQL); None when reference data cannot tell.

    SQLite reads the condition, which is nearer to what the site does with it than any reader of our own.
    """
    rows = {name: of_node(name, document) for name, document in documents.items()}
    if not rows:
        return frozenset()
    columns = list(next(iter(rows.values())))
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        try:
            database.execute(f"CREATE TABLE nodes ({', '.join(columns)})")
            values = ", ".join("?" * len(columns))
            insert = f"INSERT INTO nodes VALUES ({values})"  # noqa: S608 -- question marks
            database.executemany(insert, [list(row.values()) for row in rows.values()])
            database.set_authorizer(_only_reading)
            select = f"SELECT network_address FROM nodes WHERE ({condition})"  # noqa: S608 -- it may only read this table
            found = database.execute(select)
            return frozenset(str(row[0]) for row in found)
        except (sqlite3.Error, sqlite3.Warning):
            return None  # a property that reference data does not have, or SQL of another dialect: the site will tell
        finally:
            database.set_authorizer(None)


def _only_reading(action: int, *_: object) -> int:
    reading = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION)  # LIKE is a function
    return sqlite3.SQLITE_OK if action in reading else sqlite3.SQLITE_DENY
