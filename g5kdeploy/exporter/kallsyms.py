"""The kernel's symbols, from /proc/kallsyms: read when first asked, and again for an address that is not known."""

from __future__ import annotations

import bisect
import threading
import time
from pathlib import Path

_READ_AGAIN = 10.0  # seconds: modules come and go, but a wrong address must not cost a read each time


class Kallsyms:
    """Names for addresses, addresses for names. Without privilege every address is 0, and no name is found."""

    def __init__(self, file: Path = Path("/proc/kallsyms")) -> None:
        self._file = file
        self._addresses: list[int] = []
        self._names: list[str] = []
        self._read_at = float("-inf")
        self._lock = threading.Lock()

    def _read(self) -> bool:
        """Whether the table was read now."""
        now = time.monotonic()
        if now - self._read_at < _READ_AGAIN:
            return False
        self._read_at = now
        found = []
        try:
            with self._file.open() as lines:
                for line in lines:
                    fields = line.split(maxsplit=3)
                    if len(fields) >= 3:
                        found.append((int(fields[0], 16), fields[2]))
        except (OSError, ValueError):
            found = []
        found.sort(key=lambda symbol: symbol[0])
        found = [symbol for symbol in found if symbol[0]]
        self._addresses = [address for address, _ in found]
        self._names = [name for _, name in found]
        return True

    def _before(self, address: int) -> int:
        """The place of the last symbol at or before an address; -1 if there is none."""
        return bisect.bisect_right(self._addresses, address) - 1

    def exact(self, address: int) -> str:
        """The symbol at this very address; empty if there is none."""
        for _ in range(2):
            place = self._before(address)
            if place >= 0 and self._addresses[place] == address:
                return self._names[place]
            if not self._read():
                break
        return ""

    def within(self, address: int) -> str:
        """The symbol that an address lies in or behind; empty if there is none."""
        for _ in range(2):
            place = self._before(address)
            if place >= 0:
                return self._names[place]
            if not self._read():
                break
        return ""

    def address(self, name: str) -> int:
        """A symbol's address, the last one of that name; 0 if there is none, or it may not be seen. Any thread may ask."""
        with self._lock:
            for _ in range(2):
                for place in range(len(self._names) - 1, -1, -1):
                    if self._names[place] == name:
                        return self._addresses[place]
                if not self._read():
                    break
        return 0
