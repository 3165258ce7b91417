"""An SSH agent of our own that is lent to a gateway, with keys that open nothing but the machines behind it."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from g5kdeploy.base import process
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node.hostkeys import HostKey
from g5kdeploy.node.problems import Unreachable

BEHIND = "behind"  # one name for all of those machines: the agent looks at their host keys


@contextlib.contextmanager
def lent(
    identities: Iterable[Path],
    gateway: tuple[str, Iterable[HostKey]],
    user: str,
    behind: Iterable[HostKey],
    deadline: Deadline,
) -> Iterator[Path]:
    """The socket of an agent with the private keys in `identities`, for as long as the block runs.

    It signs only logins of `user` on machines that show a host key of `behind`, asked for by way of the `gateway` (name and
    host keys), and nothing after the deadline. Raises `Unreachable` when no key can be had without a passphrase.
    """
    name, doors = gateway
    with tempfile.TemporaryDirectory(prefix="g5kdeploy-") as made:
        known, socket = Path(made) / "known_hosts", Path(made) / "agent"
        lines = [*(f"{name} {key}" for key in doors), *(f"{BEHIND} {key}" for key in behind)]
        known.write_text("\n".join(lines) + "\n")
        agent = subprocess.Popen(
            ["ssh-agent", "-D", "-a", str(socket)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            while not socket.exists() and agent.poll() is None:
                deadline.sleep(0.02, "ssh-agent did not start")
            limits = [
                "-t",
                str(int(deadline.remaining()) + 1),
                "-H",
                str(known),
                "-h",
                name,
                "-h",
                f"{name}>{user}@{BEHIND}",
            ]
            calls = [["ssh-add", "-q", *limits, str(path)] for path in identities]
            environ = {"SSH_AUTH_SOCK": str(socket), "SSH_ASKPASS_REQUIRE": "never"}
            done = [process.run(call, deadline, env=environ, check=False) for call in calls]
            if not any(one.returncode == 0 for one in done):
                raise Unreachable("there is no key to lend", cause=done[0].stderr.strip() if done else "")
            yield socket
        finally:
            process.stop(agent)
