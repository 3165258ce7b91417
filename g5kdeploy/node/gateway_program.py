"""Runs on a frontend: ClusterShell's gateway, whose connections keep every byte and tell how a command ended.

It travels as the main program of an archive that has ClusterShell beside it, and needs nothing else of ours. What is to
be run, and where, comes as ClusterShell's task information under `INFO`: `command`, `user`, and for each node in `nodes`
its address, port and host keys. Each node answers with one line of JSON: `begun` (whether the command may have run
there), `status` (-1: killed by a signal, null: the connection was lost), `seconds`, and `stdout` and `stderr` in base64.
"""

from __future__ import annotations

import base64
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from ClusterShell.Gateway import gateway_main
from ClusterShell.Task import task_self
from ClusterShell.Worker.Ssh import SshClient, WorkerSsh

INFO = "g5kdeploy"
# The command comes on stdin, as a command line is everybody's to read; the mark says that it is about to begin
MARK = b"\x1e.\x1e"
SHELL = 'exec /bin/sh -c \'printf "\\036.\\036"; exec "${SHELL:-/bin/sh}" -c "$(cat)"\''
OPTIONS = (
    "StrictHostKeyChecking=yes", "GlobalKnownHostsFile=/dev/null", "CheckHostIP=no", "UpdateHostKeys=no",
    "BatchMode=yes", "IdentityFile=none", "ForwardAgent=no", "ForwardX11=no",
    "ConnectTimeout=60", "ServerAliveInterval=15", "ServerAliveCountMax=4",
    "KexAlgorithms=^curve25519-sha256",  # a tenth of the CPU time of what is first since OpenSSH 9.0
)  # fmt: skip
# OpenSSH's log says what its status does not: 255 may be the command's own, a signal, or no connection
BEGUN, EXITED, SIGNALLED = "Sending command:", "rtype exit-status", "rtype exit-signal"
CUT = ("closed by remote host", "Read from remote host", "Timeout, server", "send disconnect")

folder = Path()


class Connection(SshClient):  # type: ignore[misc]
    """One node's `ssh`."""

    def _build_cmd(self) -> tuple[list[str], None]:
        info = self.worker.task.info(INFO)
        known = folder / "known_hosts"
        if not known.exists():
            known.write_text("".join(f"{n} {key}\n" for n, (_, _, keys) in info["nodes"].items() for key in keys))
        name = str(self.key)
        host, port, keys = info["nodes"][name]
        kinds = ",".join(key.split()[0].replace("ssh-rsa", "rsa-sha2-512,rsa-sha2-256") for key in keys)
        options = (*OPTIONS, f"UserKnownHostsFile={known}", f"HostKeyAlias={name}", f"HostKeyAlgorithms={kinds}")
        words = ["ssh", "-F", "none", "-v", "-E", str(folder / name), "-p", str(port), "-l", info["user"]]
        return [*words, *(f"-o{option}" for option in options), host, SHELL], None

    def _start(self) -> Connection:
        self.said: dict[str, list[bytes]] = {self.worker.SNAME_STDOUT: [], self.worker.SNAME_STDERR: []}
        self.began = time.monotonic()
        self.room = self.worker.task.info(INFO)["limit"]
        super()._start()
        self._write(self.worker.SNAME_STDIN, self.worker.task.info(INFO)["command"])
        self._set_write_eof(self.worker.SNAME_STDIN)
        return self

    def _handle_read(self, sname: str) -> None:
        said = self.said[sname]
        block = self._read(sname)
        if not said and sname == self.worker.SNAME_STDOUT:
            self.began = time.monotonic()
        self.room -= len(block)
        if self.room >= 0:
            said.append(block)
        else:
            self.popen.kill()

    def _on_nodeset_close(self, nodes: Any, rc: int) -> None:
        path = folder / str(nodes)
        log = path.read_text(errors="replace") if path.exists() else ""
        path.unlink(missing_ok=True)
        status = -1 if SIGNALLED in log else rc if EXITED in log and not any(word in log for word in CUT) else None
        answer = {"begun": BEGUN in log, "status": status, "seconds": time.monotonic() - self.began}
        answer["over"] = self.room < 0
        printed = {name: b"".join(said) for name, said in self.said.items()}
        # What comes before the mark the first shell's start-up files printed, and those of the second print it once more
        texts = {name: base64.b64encode(said.split(MARK, 1)[-1]).decode() for name, said in printed.items()}
        self.worker._on_node_msgline(nodes, json.dumps({**answer, **texts}).encode(), self.worker.SNAME_STDOUT)
        super()._on_nodeset_close(nodes, rc)


class Connections(WorkerSsh):  # type: ignore[misc]
    """The same command on many nodes."""

    SHELL_CLASS = Connection


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="g5kdeploy-") as made:
        folder = Path(made)
        os.environ["CLUSTERSHELL_GW_LOG_DIR"] = made
        task_self().set_default("distant_worker", Connections)
        gateway_main()
