"""The command: flags as ebpf_exporter has them, then load, serve, and detach at the end."""

from __future__ import annotations

import argparse
import gc
import logging
import resource
import signal
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__
from .capabilities import Rights, needed, parse, text
from .cgroups import Cgroups
from .decoders import Decoders
from .document import Mistakes
from .libbpf import LibbpfError, Library
from .listening import BadAddress, ListenError, listen
from .loader import Loaded, Loader
from .modules import LOOK_EVERY, Retry
from .notify import notify
from .plan import Plan, make_plans
from .web_config import Web, WebConfig, read_web_config

if TYPE_CHECKING:
    from .exporter import Exporter

log = logging.getLogger("g5kdeploy_exporter")

DONE, FAILED, USAGE = 0, 1, 2
_SHORT = 0.0005  # seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="g5kdeploy-exporter",
        description="Loads BPF programs and serves what they count to Prometheus.",
        epilog="example: g5kdeploy-exporter --config.dir /usr/lib/g5kdeploy/bpf --config.names statx,statx_mock",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--config.dir", dest="dir", type=Path, required=True, metavar="DIR", help="folder with X.yaml and X.bpf.o")
    add("--config.names", dest="names", required=True, metavar="A,B", help="names X of the programs to load")
    add("--config.check", dest="check", action="store_true", help="report every mistake, try to load, and exit")
    add("--config.strict", dest="strict", action="store_true", help="fail unless every program loads and attaches")
    add(
        "--config.skip-cache-size",
        dest="left_out",
        type=int,
        default=100_000,
        metavar="N",
        help="keys of a map that are remembered because a regexp leaves them out",
    )
    add("--web.listen-address", dest="address", default=":9435", metavar="ADDR", help="HOST:PORT, :PORT or fd://N")
    add("--web.telemetry-path", dest="path", default="/metrics", metavar="PATH", help="where the metrics are")
    add(
        "--web.config.file",
        dest="web",
        type=Path,
        metavar="FILE",
        help="TLS and passwords, as Prometheus exporters have it",
    )
    add(
        "--capabilities.keep",
        dest="keep",
        type=_capabilities,
        default="needed",
        metavar="LIST",
        help="needed, all, none, or such as cap_bpf,cap_syslog: what is kept once everything is attached",
    )
    add("--btf.path", dest="btf", default="", metavar="FILE", help="the kernel's types, where it does not bring them")
    add(
        "--backend",
        choices=("auto", "libbpf", "bcc"),
        default="auto",
        help="auto: objects where there are some, sources (X.bcc.c) compiled by BCC otherwise",
    )
    add("--log.no-timestamps", dest="plain_log", action="store_true", help="no times in the log")
    add("--debug", action="store_true", help="say more, and serve raw maps on /maps")
    add("--version", action="version", version=f"g5kdeploy-exporter {__version__}")
    return parser


def _capabilities(words: str) -> str:
    try:
        parse(words)
    except ValueError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT. 0: ended in order; 1: it failed; 2: wrong flags or configuration."""
    begun = time.monotonic()
    options = _parser().parse_args(argv)
    logging.basicConfig(
        level=logging.DEBUG if options.debug else logging.INFO,
        format="%(message)s" if options.plain_log else "%(asctime)s %(levelname)s %(message)s",
        stream=sys.stderr,
    )
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    _raise_limit()
    notify("STATUS=reading the configuration")
    try:
        library = Library()
    except LibbpfError as problem:
        log.error("%s: %s", problem, problem.words or "on Debian it is in the package libbpf1")
        return FAILED
    library.debug = options.debug
    mistakes = Mistakes()
    if not options.path.startswith("/"):
        mistakes.add(Path("--web.telemetry-path"), 0, f"{options.path} is no path: it begins with /")
    if not options.dir.is_dir():
        mistakes.add(options.dir, 0, "there is no such folder, named by --config.dir")
        plans = []
    else:
        names = options.names.split(",")
        plans = make_plans(options.dir, names, library, mistakes, options.btf, options.backend)
    config = read_web_config(options.web, mistakes) if options.web else WebConfig()
    if mistakes:
        for text in mistakes.found:
            print(text, file=sys.stderr)  # noqa: T201 - editors jump to FILE:LINE, so no time stamps here
        return USAGE
    return _run(options, library, plans, Web(options.web, config), begun, stopped)


def _raise_limit() -> None:
    """To as many descriptors as may be had: a program of perf events takes two for each CPU, and the usual limit is 1024."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(
    options: argparse.Namespace, library: Library, plans: list[Plan], web: Web, begun: float, stopped: threading.Event
) -> int:
    try:
        listening = None if options.check else listen(options.address)
    except ListenError as problem:
        log.error("%s", problem)
        return USAGE if isinstance(problem, BadAddress) else FAILED
    notify("STATUS=loading programs")
    rights = Rights(options.keep, needed(c.config for plan in plans for c in plan.candidates))
    decoders = Decoders(Cgroups())
    decoders.most_left_out = max(0, options.left_out)
    decoders.cgroups.watch(rights.drop)
    loader = Loader(library, decoders, options.btf, rights.drop, options.backend)
    loaded = _load(loader, plans)
    from .exporter import Exporter
    from .server import Server

    exporter = Exporter(library, decoders, loaded)
    try:
        missing = _report(loaded, begun)
        if options.strict and missing:
            log.error("not everything loads and attaches: %s", ", ".join(missing))
            return FAILED
        if listening is None:
            log.info("Config check successful, exiting")
            return DONE
        gc.freeze()  # what is there now stays
        gc.enable()
        server = Server(listening, exporter, options.path, web, options.debug)

        def serve() -> None:
            rights.drop()
            server.serve_forever()

        threading.Thread(target=serve, name="http", daemon=True).start()
        host, port = listening.getsockname()[:2]
        log.info("Listening on %s", f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        notify("READY=1", f"STATUS={_status(loaded)}")
        _wait(stopped, Retry(loader, loaded), exporter, rights)
        notify("STOPPING=1")
        server.shutdown()
        server.server_close()
    finally:
        if listening is not None:
            listening.close()
        exporter.close()
    log.info("Detached, ending")
    return DONE


def _load(loader: Loader, plans: list[Plan]) -> list[Loaded]:
    """Load in another thread, and import meanwhile what serving takes: libbpf and the kernel do not need Python.

    But what libbpf says comes through Python, a hundred lines for an object, each of which would wait 5 ms for the imports.
    """
    usual = sys.getswitchinterval()
    sys.setswitchinterval(_SHORT)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as aside:
            loading = aside.submit(loader.load, plans)
            from . import exporter, server  # noqa: F401

            return loading.result()
    finally:
        sys.setswitchinterval(usual)


def _wait(stopped: threading.Event, retry: Retry, exporter: Exporter, rights: Rights) -> None:
    """Until a signal comes. Meanwhile waiting programs are tried again; then what that took is let go of."""
    if rights.explicit and not rights.load:
        retry.give_up("--capabilities.keep lets go of what that takes")
    dropped = False
    while not stopped.is_set():
        if not dropped and (rights.explicit or not retry.needed):
            log.info("Capabilities kept: %s", text(rights.drop()))
            dropped = True
        if stopped.wait(LOOK_EVERY):  # not endless: a signal just before it is seen only after it
            break
        for one in retry.look():
            exporter.changed(one)
            notify(f"STATUS={_status(exporter.loaded)}")


def _status(loaded: list[Loaded]) -> str:
    waiting = sum(bool(one.waiting) for one in loaded)
    words = f"serving {sum(one.whole for one in loaded)} of {len(loaded)} programs"
    return words + (f", {waiting} waiting" if waiting else "")


def _report(loaded: list[Loaded], begun: float) -> list[str]:
    """Say what became of each program; the names of those that are not whole."""
    missing = []
    for one in loaded:
        mode = f" ({one.mode})" if one.mode else ""
        if one.waiting:
            log.info("%s is tried again when what it lacks has come", one.name)
        if one.object is None:
            missing.append(one.name)
            log.warning("%s%s is not loaded: %s", one.name, mode, "; ".join(one.reasons.values()))
            continue
        if not one.whole:
            missing.append(one.name)
        counts = f"{len(one.attached)} of {len(one.programs)}"
        log.info("%s%s: %s programs attached in %.0f ms", one.name, mode, counts, one.seconds * 1000)
    log.info("Started with %d programs in %.0f ms", len(loaded), (time.monotonic() - begun) * 1000)
    return missing
