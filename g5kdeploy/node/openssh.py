"""The same settings and host-key policy for OpenSSH's programs: `ssh` at the terminal, and `nix copy`'s."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from g5kdeploy.base import files
from g5kdeploy.node.hostkeys import HostKeys
from g5kdeploy.node.settings import Hop


def write_config(known_hosts: Path, own: Path, routes: Sequence[tuple[Hop, ...]], keys: HostKeys) -> Path:
    """An ssh_config for these routes, beside the pins; what it does not say comes from the user's `own` file."""
    blocks: dict[str, str] = {}
    for route in routes:
        for index, hop in enumerate(route):
            before = route[index - 1] if index else None
            blocks.setdefault(hop.name, _block(hop, before, known_hosts, keys))
    text = "# Written by g5kdeploy; changes are lost.\n" + "".join(blocks.values())
    if own.is_file():
        text += f"Host *\n  Include {_quoted(own)}\n"
    name = hashlib.sha256("\n".join(sorted(blocks)).encode() + routes[0][-1].user.encode()).hexdigest()[:16]
    path = known_hosts.with_name(f"{known_hosts.name}.ssh") / f"{name}.conf"
    files.write(path, text, 0o600)
    return path


def _block(hop: Hop, before: Hop | None, known_hosts: Path, keys: HostKeys) -> str:
    lines = [f"HostName {hop.host}", f"Port {hop.port}", f"User {hop.user}"]
    lines += [f"IdentityFile {_quoted(path)}" for path in hop.keys]
    lines += [] if hop.agent else ["IdentitiesOnly yes"]
    lines += [f"IdentityAgent {_quoted(hop.agent_socket)}"] if hop.agent_socket else []
    known, source = keys.known(hop)
    if known and source != known_hosts and source is not None:  # the user's own file vouches for this one
        lines += [f"UserKnownHostsFile {_quoted(source)}", "StrictHostKeyChecking yes"]
    else:  # first sight pins it, in the same file
        lines += [
            f"HostKeyAlias {hop.name}",
            f"UserKnownHostsFile {_quoted(known_hosts)}",
            "StrictHostKeyChecking accept-new",
            "HashKnownHosts no",
            "CheckHostIP no",
            "UpdateHostKeys no",
        ]
        if known:
            lines.append(f"HostKeyAlgorithms {','.join(_algorithms(key.kind) for key in known)}")
    if before is not None:
        lines.append(f"ProxyJump {before.name}")
    elif hop.proxy_command:
        lines.append(f"ProxyCommand {hop.proxy_command}")
    else:
        lines.append("ProxyJump none")
    lines += ["GlobalKnownHostsFile /dev/null", "ConnectTimeout 15", "ServerAliveInterval 15", "ServerAliveCountMax 4"]
    lines += ["ForwardX11 no", "LogLevel ERROR"]
    return f"Host {hop.name}\n" + "".join(f"  {line}\n" for line in lines)


def _algorithms(kind: str) -> str:
    return "rsa-sha2-512,rsa-sha2-256" if kind == "ssh-rsa" else kind


def _quoted(path: Path) -> str:
    return f'"{path}"'
