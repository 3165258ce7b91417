"""What an experiment file says: these classes are its definition, loading and JSON schema follow them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, WithJsonSchema

from g5kdeploy.base import nodeset
from g5kdeploy.experiment import duration

API_VERSION = "g5kdeploy/v1"

Seconds = Annotated[
    int,
    BeforeValidator(duration.seconds_of),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": duration.PATTERN}]}),
]
Walltime = Annotated[Seconds, BeforeValidator(duration.walltime_of)]
Words = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(strict=False)]
SITE = r"^[a-z][a-z0-9-]*$"
CLUSTER = f"^({nodeset.NAME})?$"
WORD = r"^[A-Za-z0-9][A-Za-z0-9 ._-]*$"
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Word = Annotated[str, Field(pattern=WORD)]
Name = Annotated[str, Field(pattern=NAME, max_length=60)]
Folder = Annotated[Path, Field(strict=False)]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Needs(_Part):
    """What the nodes of a role must have at least, as reference data and OAR's properties tell it."""

    cores: Annotated[int, Field(ge=1)] | None = None
    """Cores of a node."""
    memory: Annotated[float, Field(gt=0, strict=False)] | None = None
    """GiB of memory."""
    gpus: Annotated[int, Field(ge=1)] | None = None
    """GPUs of a node."""
    gpu_model: Word | None = None
    """A part of the GPU's model: A100."""
    disk: Literal["SSD", "HDD", "NVME"] | None = None
    """The kind of the first disk."""
    network_rate: Annotated[float, Field(gt=0, strict=False)] | None = None
    """Gbit/s of the fastest Ethernet card."""
    architecture: Literal["x86_64", "aarch64", "ppc64le"] | None = None
    """The processor's architecture."""
    wattmeter: bool | None = None
    """Whether the power of each node is measured by a wattmeter."""

    def condition(self) -> str:
        """The same as a condition on OAR properties; "" when nothing is needed."""
        yes = {True: "wattmeter <> 'NO'", False: "wattmeter = 'NO'", None: ""}
        found = (
            f"core_count >= {self.cores}" if self.cores else "",
            f"memnode >= {round(self.memory * 1024)}" if self.memory else "",
            f"gpu_count >= {self.gpus}" if self.gpus else "",
            f"gpu_model LIKE '%{self.gpu_model}%'" if self.gpu_model else "",
            f"disktype LIKE '%{self.disk}%'" if self.disk else "",
            f"eth_rate >= {self.network_rate:g}" if self.network_rate else "",
            f"cpuarch = '{self.architecture}'" if self.architecture else "",
            yes[self.wattmeter],
        )
        return " AND ".join(filter(None, found))


class Role(_Part):
    """How many nodes play a role of the composition, and which nodes will do."""

    nodes: Annotated[int, Field(ge=1, le=100_000)]
    """How many nodes."""
    cluster: Annotated[str, Field(pattern=CLUSTER)] = ""
    """Only nodes of this cluster."""
    site: Annotated[str, Field(pattern=SITE)] = ""
    """On this site; default: the experiment's."""
    names: Words = ()
    """Only these nodes, by name: vm-1."""
    needs: Needs = Needs()
    properties: str = ""
    """Only nodes with these OAR properties, as `oarsub -p` takes them."""
    disks: bool = False
    """Reserve the nodes' further disks with them."""
    min: Annotated[int, Field(ge=1)] | None = None
    """Go on, with exit code 5, when at least this many of them were got and work; default: all of them."""

    @property
    def conditions(self) -> str:
        """What its nodes must meet, as a condition on OAR properties; "" for nothing."""
        both = [f"({one})" for one in (self.needs.condition(), self.properties) if one]
        return " AND ".join(both) if len(both) > 1 else "".join(both)[1:-1]


class Subnets(_Part):
    """IPv4 addresses for virtual machines and containers."""

    prefix: Annotated[int, Field(ge=16, le=22)] = 22
    """The size of each: 22 has 1022 addresses, 16 has 65534."""
    count: Annotated[int, Field(ge=1, le=64)] = 1
    """How many."""


class Cache(_Part):
    """The binary cache on the site's frontend."""

    folder: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$")] = (
        "g5kdeploy/cache"
    )
    """Its folder below ~/public."""


class Kernel(_Part):
    """What is wanted of the kernel beyond what the composition says."""

    params: Words = ()
    """Further kernel parameters."""
    release: str = ""
    """What `uname -r` must say after the boot; shell patterns such as 6.1.* are allowed."""


IMAGE = "g5k-image"
"""The flavour in which kadeploy installs each role's closure."""


class Exporter(_Part):
    """The exporter on the nodes."""

    programs: Words = ()
    """BPF programs that must be loaded; default: those that the composition names."""
    port: Annotated[int, Field(ge=1, le=65535)] = 9435
    """The TCP port that it serves on."""


class Benchmark(_Part):
    """The workload that is measured."""

    role: Name
    """On the nodes of this role."""
    command: Text
    """A shell command, run as root in a cgroup of its own."""
    timeout: Seconds = 600
    """It is ended after this time, and has failed."""
    files: Words = ()
    """Files of the nodes to bring back; shell patterns are allowed."""
    scrape_interval: Annotated[float, Field(gt=0, le=3600, strict=False)] = 1.0
    """Seconds between two scrapes of the exporters."""


class Check(_Part):
    """The test script, for local virtual machines (`vmtest`) and for deployed nodes (`check`)."""

    script: Text = "test.py"
    """The script, in the composition's folder."""
    timeout: Seconds = 600
    """It must be done in this time."""


class Experiment(_Part):
    """One experiment: what is built, where it runs, what is measured."""

    apiVersion: Literal["g5kdeploy/v1"]  # noqa: N815  the file's own spelling
    """The version of this form."""
    name: Name
    """Names runs and jobs."""
    composition: Folder = Path()
    """The folder with roles.nix or composition.nix, relative to this file."""
    testbed: Literal["lab", "grid5000"] | None = None
    """Where it runs, unless --testbed says otherwise. Never guessed."""
    site: Annotated[str, Field(pattern=SITE)] | None = None
    """The site to reserve on; default for the lab: lab."""
    roles: Annotated[dict[Name, Role], Field(min_length=1)]
    """The roles of the composition and their nodes."""
    walltime: Walltime = 3600
    """How long the nodes are reserved."""
    queue: Name = "default"
    """The queue to submit to."""
    job_types: Words = ("deploy",)
    """OAR job types."""
    exclude_nodes: Words = ()
    """Nodes that are not taken, by name."""
    vlan: Literal["local", "routed", "global"] | None = None
    """A KaVLAN that is reserved with the nodes."""
    subnets: Subnets | None = None
    """Subnets that are reserved with the nodes; default: none."""
    project: str = ""
    """The project that the reservation is accounted to."""
    flavour: Literal["local-store", "g5k-ramdisk", "g5k-image"] = "local-store"
    """How a closure gets onto a node: pulled into a store on its scratch partition, as a store in its memory, or deployed by
    kadeploy as an image of its own, in place of `environment`."""
    additions: Literal["refuse", "ignore"] = "refuse"
    """What a build without nixpkgs does about NixOS modules that composition.nix adds to roles.nix."""
    environment: Text = "debian12-min"
    """What kadeploy installs first: a name, name@user, the URL of a description, or a description's file (*.yaml, a path)."""
    cache: Cache = Cache()
    kernel: Kernel = Kernel()
    exporter: Exporter = Exporter()
    benchmark: Benchmark | None = None
    """Without one, nothing is measured."""
    check: Check = Check()

    _file: Path = PrivateAttr(default=Path())

    @property
    def file(self) -> Path:
        """The file that this came from, absolute."""
        return self._file

    @property
    def count(self) -> int:
        """Nodes in all."""
        return sum(role.nodes for role in self.roles.values())

    @property
    def test_script(self) -> Path | None:
        """The test script, absolute; None when the composition has none."""
        path = self.composition / self.check.script
        return path if path.is_file() else None

    @property
    def environment_file(self) -> Path | None:
        """The file here that describes the environment, absolute; None when the site has it already."""
        return Path(self.environment) if is_file(self.environment) else None

    def document(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return self.model_dump(mode="json", exclude_none=True)


def is_file(environment: str) -> bool:
    """Whether an environment is a file here: neither a registered name nor a URL."""
    return "://" not in environment and ("/" in environment or environment.endswith((".yaml", ".yml")))


def at(file: Path, experiment: Experiment) -> Experiment:
    """The same experiment, told where its file is and with the paths in it made absolute."""
    update: dict[str, Any] = {"composition": (file.parent / experiment.composition).resolve()}
    if is_file(experiment.environment):
        update["environment"] = str((file.parent / experiment.environment).resolve())
    placed = experiment.model_copy(update=update)
    placed._file = file
    return placed
