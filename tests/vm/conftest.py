"""The machine that tests of the programs share."""

from __future__ import annotations

from tests.support.stock_kernel import stock_kernel

__all__ = ["stock_kernel"]
