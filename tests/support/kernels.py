"""The kernel with CONFIG_BPF_KPROBE_OVERRIDE, which no distribution has."""

from __future__ import annotations

from pathlib import Path

from g5kdeploy.base import folders

_MADE = (
    folders.cache() / "kernels" / "bzImage-override"
)  # by scripts/test-kernel; before tests have a home of their own
_SHARED = Path(__file__).parents[2].parent / "shared" / "kernels" / "bzImage-6.1-override"


def override_kernel() -> Path | None:
    """The one that scripts/test-kernel built, or that of ../shared."""
    return next((file for file in (_MADE, _SHARED) if file.exists()), None)
