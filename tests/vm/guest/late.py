"""Loads a kernel module after the programs that hook it, and notes what the exporter served before and after.

late.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...
"""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Any

from exporting import PATIENCE, Exporter, exporting, run, tell

NAMES = ("late_probe", "late_entry")


def capabilities(exporter: Exporter) -> list[str]:
    """What the exporter's threads may still do."""
    found = set()
    for status in Path(f"/proc/{exporter.process.pid}/task").glob("*/status"):
        found |= {line.split()[1] for line in status.read_text().splitlines() if line.startswith("CapEff:")}
    return sorted(found)


def module() -> dict[str, Any]:
    with exporting(",".join(NAMES)) as exporter:
        seen: dict[str, Any] = {"before": exporter.samples(), "kept_before": capabilities(exporter)}
        run("modprobe", "dummy", "numdummies=1")
        run("ip", "addr", "add", "192.0.2.1/24", "dev", "dummy0")
        run("ip", "link", "set", "dummy0", "up")
        end = time.monotonic() + PATIENCE
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            out.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            while time.monotonic() < end:
                out.sendto(b"x", ("192.0.2.255", 9))
                seen["after"] = samples = exporter.samples()
                if all(samples.get(f"ebpf_exporter_{name}_total", 0) > 0 for name in NAMES):
                    break
                time.sleep(0.2)
        while len(kept := capabilities(exporter)) > 1 and time.monotonic() < end:
            time.sleep(0.1)
        return seen | {"kept_after": kept, "log": exporter.text()}


tell({"module": module}, lambda: None)
