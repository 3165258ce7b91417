"""Load the closure's kernel on the node, jump into it, and wait for what comes up."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Callable, Sequence

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import DeadlinePassed
from g5kdeploy.base.text import clean, human_seconds, tail
from g5kdeploy.boot.problems import BootFailed, KexecNotStarted, NotAnswering
from g5kdeploy.boot.pull import RUN, SCRATCH
from g5kdeploy.closure import RoleClosure
from g5kdeploy.events.failure import Failure
from g5kdeploy.node import ConnectionLost, HostKeyChanged, LoginRefused, Remote, Unreachable

START_SECONDS = 90.0
"""How long the old system may go on answering after its kexec was called."""

POLL_SECONDS = 1.0


def load(
    remote: Remote,
    closure: RoleClosure,
    bundle: str,
    store: str,
    kernel: str,
    initrds: Sequence[str],
    extra: bytes,
    deadline: Deadline,
) -> None:
    """Load a kernel and an initrd made of several parts and `extra`; `store` is stage 1's word for where the store is."""
    append = f"{closure.params} init={closure.init} store={store}"
    # The hand-over comes on stdin: it has a host key in it and touches no disk
    script = f"""set -e
umask 077
cat {" ".join(map(shlex.quote, initrds))} - > {RUN}/initrd
{bundle}/bin/kexec --load {shlex.quote(kernel)} --initrd={RUN}/initrd --command-line={shlex.quote(append)}
rm -f {RUN}/initrd
sync
"""
    done = remote.run(script, deadline, input=extra, check=False)
    if done.status != 0:
        raise BootFailed(
            f"{remote.name} cannot load the closure's kernel",
            cause=clean(tail(done.stderr, 5)) or f"status {done.status}",
            hint="a kernel that is locked down refuses kexec: dmesg on the node says so",
        )


def jump(remote: Remote, bundle: str, deadline: Deadline) -> None:
    """Leave the old kernel. Nothing is heard of it: the connection just goes quiet. `KexecNotStarted` when it says no."""
    quiet = f"cd /; sync; umount {SCRATCH} 2>/dev/null || mount -o remount,ro {SCRATCH} 2>/dev/null"
    remote.run(quiet, deadline.within(120, f"the disks of {remote.name}"), check=False)
    # Not as a unit in the background: a kexec started so was seen never to reboot the node
    command = f"exec {bundle}/bin/kexec --exec"
    with contextlib.suppress(DeadlinePassed, Unreachable, ConnectionLost):
        done = remote.run(command, deadline.within(10, f"the kexec of {remote.name}"), check=False)
        if done.status > 0:
            raise KexecNotStarted(
                f"{remote.name} did not leave its old kernel",
                cause=clean(tail(done.stderr, 5)) or f"kexec ended with status {done.status}",
            )
    remote.disconnect()


def await_system(remote: Remote, boot_id: str, deadline: Deadline, waiting: Callable[[str], None]) -> str:
    """Wait until a system with another boot id answers with the host key that was handed over; that boot id.

    While the old system answers it shows the old key (`HostKeyChanged`) or the old boot id. Raises `KexecNotStarted` when
    it still does after `START_SECONDS`, and `NotAnswering` at the deadline.
    """
    started = deadline.clock.monotonic()
    last, patience = "nothing", 15.0
    while True:
        old = False
        try:
            found = remote.boot_id(deadline.within(patience, f"an answer of {remote.name}"))
            if found != boot_id:
                return found
            old, last = True, "the old system answers"
        except HostKeyChanged:
            old, last = True, "the old system answers"
        except LoginRefused as error:
            raise NotAnswering(f"{remote.name} came up and lets nobody in", cause=str(error)) from error
        except DeadlinePassed as error:
            last, patience = str(error), min(2 * patience, 90.0)  # it may be a slow machine
        except Failure as error:
            last = str(error)
        waited = deadline.clock.monotonic() - started
        if old and waited > START_SECONDS:
            raise KexecNotStarted(
                f"{remote.name} did not leave its old kernel",
                cause=f"{human_seconds(waited)} after the kexec the old system still answers",
                hint="its console says why: g5kdeploy console NODE",
            )
        remote.disconnect()
        if deadline.passed():
            raise NotAnswering(
                f"{remote.name} did not come back after its kexec",
                cause=f"{human_seconds(waited)} after the kexec: {last}",
                hint="its console says how far it came: g5kdeploy console NODE",
            )
        waiting(last)
        deadline.clock.sleep(POLL_SECONDS)
