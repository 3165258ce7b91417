"""Hearing of a job's start at once: it leaves a file in the home on the frontend, which is watched there over SSH.

The API alone would have to be asked every minute to notice a start that comes before its prediction.
"""

from __future__ import annotations

import contextlib
import shlex
import threading
from collections.abc import Sequence

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Remote
from g5kdeploy.testbed.request import BELLS

_LOOK_SECONDS = 5  # between two looks at the home, which is on NFS
_KEPT_DAYS = 7


def listen(frontends: Sequence[tuple[Remote, str]], deadline: Deadline) -> threading.Event:
    """An event that is set when a job has begun: of those that are named, each with the frontend of its site.

    It is never set where the frontend does not answer. The listening ends with the connections.
    """
    rung = threading.Event()
    for frontend, name in frontends:
        threading.Thread(target=_listen, args=(frontend, name, deadline, rung), name="doorbell", daemon=True).start()
    return rung


def _listen(frontend: Remote, name: str, deadline: Deadline, rung: threading.Event) -> None:
    file = f"{BELLS}/{shlex.quote(name)}"
    command = (
        f"cd && mkdir -p {BELLS} && find {BELLS} -type f -mtime +{_KEPT_DAYS} -delete; "
        # What it writes keeps the connection alive, and ends it when nobody is there to read.
        f"until [ -e {file} ]; do echo || exit 1; sleep {_LOOK_SECONDS}; done; rm -f {file}"
    )
    with contextlib.suppress(Exception):  # whatever ends the connection: the API is asked all the same
        if frontend.run(command, deadline, check=False).status == 0:
            rung.set()
