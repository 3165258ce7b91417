"""The lab's one background process: site, scheduler and API together. `python -m g5kdeploy.lab.daemon FOLDER FD`."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

from g5kdeploy.base import files
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.problem import Problem
from g5kdeploy.lab.settings import Places, Settings

log = logging.getLogger(__name__)

START_SECONDS = 1800.0  # the first start builds the nodes' environments, which are downloaded for it


class Daemon:
    """Everything of a running lab, in the order in which it starts; stopped in the reverse one."""

    def __init__(self, places: Places, settings: Settings, say: Callable[[str], None]) -> None:
        self.places = places
        self.settings = settings
        self._say = say
        self._undo: list[tuple[str, Callable[[], None]]] = []

    def start(self, deadline: Deadline) -> dict[str, Any]:
        """Bring everything up; returns what `lab status` tells of it."""
        from g5kdeploy.lab import environments
        from g5kdeploy.lab.site import home
        from g5kdeploy.lab.site.grid import Grid
        from g5kdeploy.lab.site.names import LAB
        from g5kdeploy.lab.site.site import ACCESS, FRONTEND

        builder = environments.Builder()
        for name in environments.AT_START:
            builder.system(name, deadline, self._say)
        self._say("networks, frontends, gateway and web servers")
        home.remove_stale()
        grid = Grid(self.settings, self.places, builder.system)
        self._undo.append(("sites", grid.stop))
        grid.start(deadline)
        self._say("schedulers and API")
        url = self._serve(grid)
        grid.write_credentials(url)
        access, frontend = grid.address(ACCESS), grid.address(FRONTEND)
        return {
            "pid": os.getpid(),
            "url": url,
            "home": str(self.places.home),
            "user": self.settings.user,
            "site": LAB.site,
            "nodes": list(grid.nodes),
            "access": f"{access.host}:{access.port}",
            "frontend": f"{frontend.host}:{frontend.port}",
            "pace": self.settings.pace,
            "names_in_hosts": grid.names_in_hosts,
            "started_at": int(time.time()),
        }

    def _serve(self, grid: Any) -> str:
        from g5kdeploy.lab import compose
        from g5kdeploy.lab.api import Server, make_app
        from g5kdeploy.lab.control_socket import Listener
        from g5kdeploy.lab.faults import Faults
        from g5kdeploy.lab.orders import Orders

        made = compose.compose(self.places, self.settings, grid)
        self._undo.append(("deployments' store", made.services.deployments.close))
        self._undo += [("deployments", one.stop) for one in made.deployers]
        for oar in made.oars:
            oar.start()
            self._undo.append(("scheduler", oar.stop))
        port_file = self.places.folder / "port"
        port = int(port_file.read_text()) if port_file.exists() else 0
        app = Faults(make_app(made.services))
        try:
            server = Server(app, port=port)
            server.start()
        except (OSError, Problem):
            server = Server(app)
            server.start()
        self._undo.append(("API", server.stop))
        files.write(port_file, f"{server.port}\n")
        orders = Orders(app, made.unlucky, made.services.oars, made.nodes)
        self._undo.append(("faults", app.clear))
        self._undo.append(("orders", Listener(self.places.control, orders.take).stop))
        return f"http://127.0.0.1:{server.port}/stable"

    def stop(self) -> None:
        """End everything that was started, whatever of it fails."""
        while self._undo:
            name, undo = self._undo.pop()
            try:
                undo()
            except Exception:
                log.exception("%s did not stop", name)


def main(words: list[str]) -> int:
    """Run a lab until SIGTERM; what happens on the way is written to the file descriptor as JSON lines."""
    places = Places(Path(words[0]))
    channel = os.fdopen(int(words[1]), "w", buffering=1)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    ended = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, end)

    def tell(**message: Any) -> None:
        try:
            channel.write(json.dumps(message) + "\n")
        except (OSError, ValueError):
            log.debug("nobody waits for the start any more")

    try:
        with files.lock(places.lock, "the lab", wait=5.0):
            daemon = Daemon(places, Settings.load(places.settings), lambda line: tell(step=line))
            try:
                record = daemon.start(Deadline.after(START_SECONDS, "the start of the lab"))
                files.write_json(places.record, record, 0o600)
                tell(ready=record)
                channel.close()
                while not ended.wait(1):  # a signal that comes just before an endless wait is seen only after it
                    pass
                log.info("asked to end")
            finally:
                places.record.unlink(missing_ok=True)
                daemon.stop()
                log.info("ended")
    except Problem as problem:
        log.error("%s", problem)
        tell(what=problem.what, cause=problem.cause, hint=problem.hint)
        return 1
    except Exception as error:
        log.exception("the lab could not start, or ended")
        tell(what="the lab could not start", cause=f"{type(error).__name__}: {error}", hint="")
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
