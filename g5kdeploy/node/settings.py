"""What a home's SSH configuration says of a machine: the hops that lead to it, and how each is entered."""

from __future__ import annotations

import getpass
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from g5kdeploy.events.failure import InvalidUse

if TYPE_CHECKING:
    import paramiko

# Tried when the configuration names no key, as OpenSSH does; keys on hardware answer through the agent.
DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
DOMAIN, SHORT, GATEWAY = ".grid5000.fr", ".g5k", "access"
_TILDE = re.compile(r"(?m)^(\s*(?:IdentityFile|UserKnownHostsFile|Include|CertificateFile)\s*=?\s*.*)$", re.IGNORECASE)
_INCLUDE = re.compile(r"^\s*Include\s*=?\s*(.+?)\s*$", re.IGNORECASE)
_INCLUDES_DEEP = 8
_WILD = frozenset("*?[!")  # a name has none of them


@dataclass(frozen=True)
class Hop:
    """One machine on the way: what it was called, where it listens, who enters it with which keys.

    `known` are the user's own files of host keys; `agent` says whether the agent's keys are offered too, `agent_socket`
    where that agent is (None: where the environment says).
    """

    name: str
    host: str
    port: int
    user: str
    keys: tuple[Path, ...] = ()
    agent: bool = True
    agent_socket: Path | None = None
    known: tuple[Path, ...] = ()
    proxy_command: str = ""

    @property
    def known_as(self) -> str:
        """The name under which OpenSSH keeps this machine's host key."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


class Settings:
    """The SSH configuration of a home folder; `user` enters where it names nobody."""

    def __init__(self, home: Path, user: str | None = None) -> None:
        self.home = home
        self.user = user
        self.path = home / ".ssh" / "config"
        self._book: _Book | None = None

    def route(self, name: str, user: str | None = None) -> tuple[Hop, ...]:
        """The hops to a machine, gateways first, the machine last. Raises `InvalidUse` when they form a circle."""
        return self._route(name, user, None, ())

    def _route(self, name: str, user: str | None, port: int | None, seen: tuple[str, ...]) -> tuple[Hop, ...]:
        hop, jump = self._hop(name, user, port)
        if name in seen:
            raise InvalidUse(
                f"{self.path} leads in a circle", cause=" → ".join((*seen, name)), hint="look at its ProxyJump lines"
            )
        before: tuple[Hop, ...] = ()
        for index, word in enumerate(jump):
            jump_user, jump_host, jump_port = _parse_jump(word)
            if jump_host in (name, hop.host):  # a pattern such as *.site that covers its own gateway
                continue
            if index == 0:
                before = self._route(jump_host, jump_user, jump_port, (*seen, name))
            else:
                before = (*before, replace(self._hop(jump_host, jump_user, jump_port)[0], proxy_command=""))
        return (*before, replace(hop, proxy_command="") if before else hop)

    def _hop(self, name: str, user: str | None, port: int | None) -> tuple[Hop, list[str]]:
        found = self._found(name)
        files = [self._expand(value) for value in found.get("identityfile", [])]
        if not files:
            files = [self.home / ".ssh" / key for key in DEFAULT_KEYS]
        known = found.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2")
        jump = found.get("proxyjump", "none")
        hop = Hop(
            name=name,
            host=found["hostname"],
            port=port or self._port(found.get("port", "22")),
            user=user or found.get("user") or self.user or getpass.getuser(),
            keys=tuple(dict.fromkeys(path for path in files if path.is_file())),
            agent=found.get("identitiesonly", "no").lower() != "yes"
            and found.get("identityagent", "").lower() != "none",
            agent_socket=self._agent_socket(found.get("identityagent", "")),
            known=tuple(path for word in known.split() if (path := self._expand(word)).is_file()),
            proxy_command=found.get("proxycommand") or "",
        )
        return hop, [] if jump.lower() == "none" else jump.split(",")

    def _port(self, value: str) -> int:
        if not value.isdigit():
            raise InvalidUse(f"{self.path} cannot be understood", cause=f"Port {value}")
        return int(value)

    def _agent_socket(self, value: str) -> Path | None:
        """Where IdentityAgent says that the agent is: a path, or a variable that has it."""
        value = value.strip('"')
        if value.lower() in ("", "none") or value == "SSH_AUTH_SOCK":
            return None
        if value.startswith("$"):
            value = os.environ.get(value[1:].strip("{}"), "")
        return self._expand(value) if value else None

    def _expand(self, value: str) -> Path:
        value = value.strip('"').replace("%d", str(self.home))
        return self.home / value[2:] if value.startswith("~/") else Path(value)

    def _found(self, name: str) -> paramiko.SSHConfigDict:
        """What the configuration says of a name; where it knows no way to it, what it says of its short form.

        Grid'5000 tells its users to write a block for `*.g5k`, with a way over the gateway.
        """
        found = self._about(name).lookup(name)
        if _is_way(found) or not self._load().short or not name.endswith(DOMAIN) or name.startswith(GATEWAY):
            return found
        short = name.removesuffix(DOMAIN) + SHORT
        alias = self._about(short).lookup(short)
        if not _is_way(alias):
            return found
        if alias["hostname"] == short and not alias.get("proxycommand"):
            alias["hostname"] = found["hostname"]  # the gateway does not know the short one
        return alias

    def _about(self, name: str) -> paramiko.SSHConfig:
        """The configuration without the blocks of other machines: paramiko looks at each block slowly, four times."""
        import paramiko

        book = self._load()
        part: Any = paramiko.SSHConfig()
        part._config = [book.blocks[number] for number in sorted({*book.general, *book.named.get(name, ())})]
        return part  # type: ignore[no-any-return]

    def _load(self) -> _Book:
        if self._book is None:
            import paramiko

            try:
                text = self._read(self.path, 0) if self.path.is_file() else ""
                self._book = _Book(paramiko.SSHConfig.from_text(text), SHORT in text)
            except (OSError, ValueError, paramiko.SSHException) as error:
                raise InvalidUse(f"{self.path} cannot be understood", cause=str(error)) from error
        return self._book

    def _read(self, path: Path, depth: int) -> str:
        """The text of a configuration, its includes in place, `~` standing for this home and not for the process's."""
        lines: list[str] = []
        for line in path.read_text(errors="replace").splitlines():
            include = _INCLUDE.match(line)
            if include is None:
                lines.append(_TILDE.sub(lambda match: match[1].replace("~/", f"{self.home}/"), line))
                continue
            if depth >= _INCLUDES_DEEP:
                raise ValueError(f"{path} includes itself")
            for word in include[1].split():
                pattern = self._expand(word)
                pattern = pattern if pattern.is_absolute() else self.home / ".ssh" / pattern
                lines.extend(self._read(found, depth + 1) for found in sorted(pattern.parent.glob(pattern.name)))
        return "\n".join(lines) + "\n"


def _is_way(found: paramiko.SSHConfigDict) -> bool:
    """Whether a gateway, or a command, leads there; or the configuration says that none is needed."""
    return "proxycommand" in found or "proxyjump" in found


class _Book:
    """The blocks of a configuration: those for machines that are named in full, by name, and those for whatever matches."""

    def __init__(self, config: Any, short: bool) -> None:
        self.blocks: list[Any] = config._config
        self.short = short  # whether short names occur
        self.named: dict[str, list[int]] = {}
        self.general: list[int] = []
        for number, block in enumerate(self.blocks):
            patterns = block.get("host")
            if patterns is None or not all(_WILD.isdisjoint(pattern) for pattern in patterns):
                self.general.append(number)
            else:
                for name in patterns:
                    self.named.setdefault(name, []).append(number)


def _parse_jump(word: str) -> tuple[str | None, str, int | None]:
    """User, host and port of one word of ProxyJump: [user@]host[:port] or ssh://..."""
    word = word.strip()
    parts = urlsplit(word if "://" in word else f"ssh://{word}")
    try:
        return parts.username, parts.hostname or word, parts.port
    except ValueError as error:
        raise InvalidUse(f"ProxyJump `{word}` names no machine", cause=str(error)) from error
