"""What a lab is asked to be, and where it keeps what."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base import files, folders
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.site.names import LAB, SITES

USER = "jdoe"


@dataclass(frozen=True)
class Settings:
    """One lab: number of nodes of each site, each with `memory` MiB and `cpus`.

    `pace` divides the pauses of scheduler and deployer: 1 is the real site. `reference` is an archive or URL of real
    reference data, served beside the lab's own site; `jobs` a file of jobs that one of those sites has.
    `sites` is the number of further sites, with as many nodes each. `max_startups` is how many connections to the
    gateway may wait for their login at once; 0 for any number.
    """

    nodes: int = 2
    memory: int = 1024
    cpus: int = 1
    pace: float = 60.0
    reference: str | None = None
    jobs: str | None = None
    sites: int = 0
    max_startups: int = 0
    user: str = USER

    def check(self) -> None:
        """Raise a `Problem` for a value that no lab can have."""
        if not 1 <= self.nodes <= 64:
            raise Problem(f"a lab has 1 to 64 nodes, not {self.nodes}")
        if self.memory < 256:
            raise Problem(f"a node needs at least 256 MiB of memory, not {self.memory}")
        if not 1 <= self.cpus <= 64:
            raise Problem(f"a node has 1 to 64 processors, not {self.cpus}")
        if not 1 <= self.pace <= 10_000:
            raise Problem(f"the pace is 1 (the real site's) or more, not {self.pace:g}")

        if not 0 <= self.sites < len(SITES):
            raise Problem(f"a lab has up to {len(SITES) - 1} sites beside its own, not {self.sites}")
        if self.max_startups < 0:
            raise Problem(f"a gateway stands some connections, or any number (0), not {self.max_startups}")
        if self.jobs and not self.reference:
            raise Problem(
                "jobs need the reference data of the site on whose nodes they are", hint="--reference TAR|URL"
            )

    def save(self, path: Path) -> None:
        files.write_json(path, dataclasses.asdict(self))

    @classmethod
    def load(cls, path: Path) -> Settings:
        """The settings in a file; the defaults where there is none."""
        if not path.exists():
            return cls()
        known: dict[str, Any] = files.read_json(path)
        names = {field.name for field in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in known.items() if name in names})


@dataclass(frozen=True)
class Places:
    """The lab's folder, and what is where in it."""

    folder: Path

    @classmethod
    def default(cls) -> Places:
        return cls(folders.state() / "lab")

    @property
    def home(self) -> Path:
        """LAB_HOME: what a client is given as its home."""
        return self.folder / "home"

    def of(self, site: str) -> Path:
        """What is a site's own: that of further ones is below the lab's own."""
        return self.folder if site == LAB.site else self.folder / site

    def homes(self, site: str) -> Path:
        """Users' homes on a site's frontend; `<user>/public` is on the web."""
        return self.of(site) / "homes"

    @property
    def nodes(self) -> Path:
        """A folder for each node, whatever its site: disk, console log, host keys."""
        return self.folder / "nodes"

    @property
    def settings(self) -> Path:
        return self.folder / "settings.json"

    @property
    def record(self) -> Path:
        """What the running daemon says of itself: process, URL, addresses."""
        return self.folder / "daemon.json"

    @property
    def log(self) -> Path:
        return self.folder / "daemon.log"

    @property
    def control(self) -> Path:
        """The socket over which the running daemon takes orders."""
        return self.folder / "control"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"
