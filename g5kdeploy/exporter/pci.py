"""Names of PCI devices, from the distribution's pci.ids, read when first asked."""

from __future__ import annotations

from pathlib import Path

_FILES = (Path("/usr/share/misc/pci.ids"), Path("/usr/share/hwdata/pci.ids"))
_MISSING = "missing pci.ids db"


class PciNames:
    """Vendors, devices (vendor in the upper 16 bits), classes and subclasses (class in the upper 8 bits) by number."""

    def __init__(self, files: tuple[Path, ...] = _FILES) -> None:
        self._files = files
        self._names: dict[str, str] | None = None

    def _look_up(self, key: str) -> str | None:
        if self._names is None:
            self._names = {}
            for file in self._files:
                if file.is_file():
                    self._names = _read(file)
                    break
        if not self._names:
            return _MISSING
        return self._names.get(key)

    def vendor(self, number: int) -> str:
        return self._look_up(f"v{number:04x}") or f"unknown pci vendor: 0x{number:02x}"

    def device(self, number: int) -> str:
        return self._look_up(f"d{number:08x}") or f"unknown pci device: 0x{number:04x}"

    def class_(self, number: int) -> str:
        return self._look_up(f"c{number:02x}") or f"unknown pci class: 0x{number:02x}"

    def subclass(self, number: int) -> str:
        upper, lower = number >> 8, number & 0xFF
        if self._look_up(f"c{upper:02x}") is None:
            return f"unknown pci class: 0x{upper:02x}"
        return self._look_up(f"s{number:04x}") or f"unknown pci subclass: 0x{lower:02x} (class 0x{upper:02x})"


def _read(file: Path) -> dict[str, str]:
    """Keys: v + vendor, d + vendor and device, c + class, s + class and subclass, in hexadecimal digits."""
    names: dict[str, str] = {}
    above, in_classes = "", False
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        if not line or line.startswith(("#", "\t\t")):
            continue
        if line.startswith("\t"):
            number, _, name = line[1:].partition("  ")
            names[("s" if in_classes else "d") + above + number.strip().lower()] = name.strip()
            continue
        in_classes = line.startswith("C ")
        number, _, name = line.removeprefix("C ").partition("  ")
        above = number.strip().lower()
        names[("c" if in_classes else "v") + above] = name.strip()
    return names
