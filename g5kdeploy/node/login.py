"""Proving who we are: the keys of a home and of the agent, tried in turn, and what became of each."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from g5kdeploy.node.settings import Hop

if TYPE_CHECKING:
    import paramiko


AGENT_SECONDS = 60.0  # for its answer: a key on hardware waits for a finger


class NoKeyTaken(Exception):
    """The server took none of the keys; `tried` names each, with the reason where it could not even be offered."""

    def __init__(self, tried: list[str]) -> None:
        super().__init__(", ".join(tried))
        self.tried = tried


class KeyRing:
    """Private keys by file, each read once; a key that needs a passphrase has to come through the agent."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loaded: dict[Path, Any] = {}  # a key, or the reason why there is none

    def load(self, path: Path) -> Any:
        """The key in a file, or a text saying why it cannot be used."""
        import paramiko

        with self._lock:
            if path not in self._loaded:
                try:
                    self._loaded[path] = paramiko.PKey.from_path(path)
                except (TypeError, paramiko.PasswordRequiredException):
                    self._loaded[path] = "needs a passphrase: load it into the agent with ssh-add"
                except (OSError, ValueError, paramiko.SSHException) as error:
                    self._loaded[path] = f"unreadable: {error or type(error).__name__}"
            return self._loaded[path]

    def identity(self, hop: Hop) -> Identity:
        return Identity(self, hop)


class Identity:
    """What one hop is offered; has the shape of paramiko's `AuthStrategy`."""

    def __init__(self, ring: KeyRing, hop: Hop) -> None:
        self.ring = ring
        self.hop = hop

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Offer the keys until one is taken. Raises `NoKeyTaken`, or what broke the connection meanwhile."""
        tried: list[str] = []
        for path in self.hop.keys:
            key = self.ring.load(path)
            if isinstance(key, str):
                tried.append(f"{path} ({key})")
            elif self._taken(transport, key, str(path), tried):
                return
        if self.hop.agent and self._agent(transport, tried):
            return
        raise NoKeyTaken(tried)

    def _agent(self, transport: paramiko.Transport, tried: list[str]) -> bool:
        import paramiko

        where = self.hop.agent_socket or os.environ.get("SSH_AUTH_SOCK")
        if not where:
            return False
        try:
            agent = _agent_at(str(where))
        except (paramiko.SSHException, OSError) as error:
            tried.append(f"the agent at {where} ({getattr(error, 'strerror', None) or error})")
            return False
        try:
            for key in agent.get_keys():
                label = f"{key.comment or key.get_name()} from the agent"
                if self._taken(transport, key, label, tried):
                    return True
        finally:
            agent._close()
        return False

    def _taken(self, transport: paramiko.Transport, key: paramiko.PKey, label: str, tried: list[str]) -> bool:
        import paramiko

        try:
            more = transport.auth_publickey(self.hop.user, key)
        except paramiko.BadAuthenticationType as error:
            raise NoKeyTaken([*tried, f"the server takes no keys, only {', '.join(error.allowed_types)}"]) from error
        except paramiko.AuthenticationException as error:
            if not transport.is_active():
                if tried:  # the server hangs up on the one who offers too many
                    raise NoKeyTaken([*tried, label]) from error
                raise EOFError("the connection was closed during the login") from error
            if "timeout" in str(error).lower():
                raise TimeoutError("no answer to the login") from error
            tried.append(label)
            return False
        if more:
            raise NoKeyTaken([*tried, f"{label} was taken, but the server wants {', '.join(more)} besides"])
        return True


def _agent_at(path: str) -> Any:
    """The agent that listens there, with its keys; paramiko's own class knows only the environment's."""
    from paramiko.agent import AgentSSH

    agent: Any = AgentSSH()
    wire = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        wire.settimeout(AGENT_SECONDS)
        wire.connect(path)
        agent._connect(wire)
    except BaseException:
        wire.close()
        raise
    return agent
