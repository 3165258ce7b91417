"""The calls about systemd's units."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta

from g5kdeploy.base.text import clean, tail
from g5kdeploy.vmtest.errors import RequestedAssertionFailed

Timeout = float | timedelta


class Units:
    """systemd on a machine that can `execute`. `user`: that user's own systemd instead of the system's."""

    name: str
    execute: Callable[..., tuple[int, str]]
    nested: Callable[[str], AbstractContextManager[None]]
    retry: Callable[..., None]

    def systemctl(self, q: str, user: str | None = None) -> tuple[int, str]:
        """Run `systemctl q`: its status and stdout."""
        if user is None:
            return self.execute(f"systemctl {q}")
        inner = f"XDG_RUNTIME_DIR=/run/user/$(id -u) systemctl --user {q}"
        return self.execute(f"su -l {shlex.quote(user)} --shell /bin/sh -c {shlex.quote(inner)}")

    def get_unit_info(self, unit: str, user: str | None = None) -> dict[str, str]:
        """Every property of a unit."""
        status, lines = self.systemctl(f"--no-pager show {shlex.quote(unit)}", user)
        if status != 0:
            raise RequestedAssertionFailed(f"{self.name}: systemctl show {unit} ended with status {status}")
        found = {}
        for line in lines.splitlines():
            if match := re.match(r"([^=]+)=(.*)$", line):
                found[match[1]] = match[2]
        return found

    def get_unit_property(self, unit: str, property: str, user: str | None = None) -> str:
        """One property of a unit."""
        status, lines = self.systemctl(f"--no-pager show {shlex.quote(unit)} --property={shlex.quote(property)}", user)
        prefix = f"{property}="
        line = next((line for line in lines.splitlines() if line.startswith(prefix)), None)
        if status != 0 or line is None:
            raise RequestedAssertionFailed(f"{self.name}: unit {unit} has no property {property}")
        return line.removeprefix(prefix)

    def wait_for_unit(self, unit: str, user: str | None = None, timeout: Timeout = 900) -> None:
        """Wait until a unit is active; one that failed, or that nothing is about to start, is an error at once."""
        state = ""

        def check(_: bool) -> bool:
            nonlocal state
            state = self.get_unit_property(unit, "ActiveState", user)
            if state == "failed":
                raise RequestedAssertionFailed(f"{self.name}: unit {unit} has failed", cause=self._journal(unit, user))
            if state == "inactive":
                jobs = self.systemctl("list-jobs --full", user)[1]
                if "No jobs" in jobs and self.get_unit_property(unit, "ActiveState", user) == state:
                    why = f"unit {unit} is inactive, and no job is about to start it"
                    raise RequestedAssertionFailed(f"{self.name}: {why}", cause=self._journal(unit, user))
            return state == "active"

        with self.nested(f"waiting for unit {unit}"):
            self.retry(check, timeout, f"the unit {unit}", lambda: f"it is {state}")

    def require_unit_state(self, unit: str, require_state: str = "active") -> None:
        """The unit must be in that state now."""
        with self.nested(f"checking that unit {unit} is {require_state}"):
            state = self.get_unit_property(unit, "ActiveState")
            if state != require_state:
                raise RequestedAssertionFailed(f"{self.name}: unit {unit} is {state}, not {require_state}")

    def start_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """`systemctl start`."""
        return self.systemctl(f"start {shlex.quote(jobname)}", user)

    def stop_job(self, jobname: str, user: str | None = None) -> tuple[int, str]:
        """`systemctl stop`."""
        return self.systemctl(f"stop {shlex.quote(jobname)}", user)

    def _journal(self, unit: str, user: str | None) -> str:
        """The last words of a unit."""
        if user is not None:
            return ""
        return clean(tail(self.execute(f"journalctl --no-pager -b -n 20 -u {shlex.quote(unit)} || true")[1]))
