"""Why a machine could not be reached, in words."""

from __future__ import annotations

import errno
import socket

from g5kdeploy.base.problem import Problem
from g5kdeploy.node.login import NoKeyTaken
from g5kdeploy.node.problems import LoginRefused, Unreachable
from g5kdeploy.node.settings import Hop

_NO_ROUTE = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN)


def explain(hop: Hop, way: str, error: BaseException | None) -> Problem:
    """The Problem that an error while connecting means; `way` names the gateways (" through access")."""
    if isinstance(error, Problem):
        return error
    if isinstance(error, NoKeyTaken):
        return LoginRefused(
            f"{hop.user}@{hop.name} takes none of the keys",
            cause=f"tried {', '.join(error.tried)}" if error.tried else "there is no key to try",
            hint=f"is the public key in the authorized_keys of {hop.user}? Agent and IdentityFile are honoured",
        )
    cause, hint = _cause(hop, error)
    return Unreachable(f"{hop.name} cannot be reached{way}", cause=cause, hint=hint)


def _cause(hop: Hop, error: BaseException | None) -> tuple[str, str]:
    where = hop.known_as if hop.port != 22 else f"{hop.host} port 22"
    if isinstance(error, socket.gaierror):
        return f"the name {hop.host} is not known", "check the name and the HostName line of the SSH configuration"
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused the connection", "no SSH server listens there (yet)"
    if isinstance(error, OSError) and error.errno in _NO_ROUTE:
        return f"no route to {hop.host}", "from outside the site, a gateway is needed: see ProxyJump in ssh_config(5)"
    if isinstance(error, TimeoutError):
        return f"{where} does not answer", "is the machine up, and is there a firewall or a gateway on the way?"
    said = str(error) or type(error).__name__
    if said == "No existing session":  # paramiko's word for a greeting or a key exchange that did not come in time
        return (
            f"{where} takes the connection and says nothing more",
            "is its SSH server stopped or overloaded? g5kdeploy console",
        )
    if (
        isinstance(error, EOFError | ConnectionResetError)
        or "banner" in said.lower()
        or said.startswith("Unable to open")
    ):
        return f"{where} closed the connection ({said})", "an overloaded server or gateway does so; try again later"
    return said, ""
