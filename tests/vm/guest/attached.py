"""Programs on filesystems that have no server here: that they are attached is all that can be seen.

attached.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...
"""

from __future__ import annotations

from functools import partial
from typing import Any

from exporting import exporting, run, tell


def attached(name: str) -> dict[str, Any]:
    run("modprobe", name)
    with exporting(name) as exporter:
        return {"after": exporter.samples()}


tell({name: partial(attached, name) for name in ("cifs", "ceph")}, lambda: None)
