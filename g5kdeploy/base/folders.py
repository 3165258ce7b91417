"""Where things are kept: XDG folders, or one folder for everything when G5KDEPLOY_HOME names it."""

from __future__ import annotations

import os
from pathlib import Path


def _folder(variable: str, default: str, own: str) -> Path:
    if home := os.environ.get("G5KDEPLOY_HOME"):
        return Path(home).expanduser().absolute() / own
    base = os.environ.get(variable)
    return (Path(base) if base and Path(base).is_absolute() else Path.home() / default) / "g5kdeploy"


def config() -> Path:
    """User configuration and keys."""
    return _folder("XDG_CONFIG_HOME", ".config", "config")


def state() -> Path:
    """Reservation records, logs, the lab: what must not be lost."""
    return _folder("XDG_STATE_HOME", ".local/state", "state")


def cache() -> Path:
    """What can be made again: images, indexes; always safe to delete."""
    return _folder("XDG_CACHE_HOME", ".cache", "cache")
