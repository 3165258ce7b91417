"""Shell scripts of ours on machines of others, whose login shell may be any."""

from __future__ import annotations

import re
from collections.abc import Callable

# What bash, zsh, fish and tcsh do not all read in the same way inside single quotes, and what sh reads inside double ones
_SPECIAL = re.compile(rb"""[^ -~]|['"\\$`!]""")

MARK = b"\x1eg5kdeploy\x1e"
"""Printed before a script begins: what comes earlier is the login shell's own (an `echo` in a .bashrc)."""
_KEPT = 1 << 16


def by_sh(script: str) -> str:
    """A command line that has a script run by /bin/sh, under whatever login shell; its stdin is the script's.

    Its standard output begins with `MARK`, see `AfterMark`.
    """
    text = _SPECIAL.sub(lambda found: b"\\0%03o" % found[0][0], script.encode(errors="surrogateescape")).decode()
    return f"""exec /bin/sh -c 'printf "\\036g5kdeploy\\036"; eval "$(printf %b "{text}")"'"""


class AfterMark:
    """Hands on what a script printed, without what its login shell printed before; all of it if no script began."""

    def __init__(self, keep: Callable[[bytes], object]) -> None:
        self._keep = keep
        self._held: bytes | None = b""

    def feed(self, block: bytes) -> None:
        """Take what came."""
        if self._held is None:
            self._keep(block)
            return
        _, mark, behind = (self._held + block).partition(MARK)
        if not mark:
            self._held = (self._held + block)[-_KEPT:]
            return
        self._held = None
        if behind:
            self._keep(behind)

    def end(self) -> None:
        """Nothing more will come."""
        if self._held:
            self._keep(self._held)
