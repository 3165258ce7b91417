"""Shell scripts of ours on machines of others, whose login shell may be any."""

from __future__ import annotations

import re

# What bash, zsh, fish and tcsh do not all read in the same way inside single quotes, and what sh reads inside double ones
_SPECIAL = re.compile(rb"""[^ -~]|['"\\$`!]""")


def by_sh(script: str) -> str:
    """A command line that has a script run by /bin/sh, under whatever login shell; its stdin is the script's."""
    text = _SPECIAL.sub(lambda found: b"\\0%03o" % found[0][0], script.encode(errors="surrogateescape")).decode()
    return f"""exec /bin/sh -c 'eval "$(printf %b "{text}")"'"""
