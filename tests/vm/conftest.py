"""The machines that tests of the programs share, one a kernel."""

from __future__ import annotations

from tests.support.stock_kernel import newer_kernel, own_kernel, programs, stock_kernel

__all__ = ["newer_kernel", "own_kernel", "programs", "stock_kernel"]
