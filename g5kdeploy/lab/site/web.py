"""The public web folder: `~/public` of every user under http://public.lab.grid5000.fr/~user/, as on a real site.

Runs as a program of its own inside the site's network: `python -m g5kdeploy.lab.site.web ADDRESS PORT HOMES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cheroot import wsgi
from werkzeug.exceptions import Forbidden, HTTPException, MethodNotAllowed, NotFound
from werkzeug.security import safe_join
from werkzeug.utils import send_file
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

THREADS = 64  # as many readers at once; each waits on a slow guest most of the time


def find(homes: Path, path: str) -> Path:
    """The file that a URL's path names; raises NotFound, or Forbidden for what a link leads out of the home."""
    user, _, rest = path.removeprefix("/~").partition("/")
    if not path.startswith("/~") or not user:
        raise NotFound()
    joined = safe_join(str(homes / user / "public"), rest) if safe_join(str(homes), user) else None
    if joined is None:
        raise NotFound()
    found = Path(joined)
    if not found.exists():
        raise NotFound()
    if not found.resolve().is_relative_to((homes / user).resolve()):
        raise Forbidden()
    return found


def _listing(folder: Path) -> Response:
    entries = sorted(f"{entry.name}/" if entry.is_dir() else entry.name for entry in folder.iterdir())
    links = "".join(f'<li><a href="{name}">{name}</a></li>' for name in entries)
    return Response(f"<!doctype html><ul>{links}</ul>\n", mimetype="text/html")


def make_app(homes: Path) -> Callable[[WSGIEnvironment, StartResponse], Iterable[bytes]]:
    """The web server's application; ranges, conditions and HEAD are answered as a web server does."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        answer: Any
        try:
            if request.method not in ("GET", "HEAD"):
                raise MethodNotAllowed(["GET", "HEAD"])
            found = find(homes, request.path)
            if found.is_dir():
                answer = _listing(found)
            else:
                answer = send_file(found, environ, mimetype=_type(found), conditional=True, etag=True)
        except HTTPException as error:
            answer = error
        except PermissionError:
            answer = Forbidden()
        return answer(environ, start_response)  # type: ignore[no-any-return]

    return app


def _type(file: Path) -> str:
    return {".narinfo": "text/x-nix-narinfo", ".html": "text/html", ".txt": "text/plain"}.get(
        file.suffix, "application/octet-stream"
    )


def main(words: list[str]) -> int:
    """Serve until killed."""
    address, port, homes = words
    server = wsgi.Server((address, int(port)), make_app(Path(homes)), numthreads=THREADS, request_queue_size=128)
    server.safe_start()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
