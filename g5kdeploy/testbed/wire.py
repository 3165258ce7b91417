"""The HTTP session under python-grid5000: no hidden retries, and no request that outlives its deadline."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from g5kdeploy.base.deadline import Deadline

_CONNECT_SECONDS = 10.0
_LARGEST = 256 * 1024 * 1024  # bytes; the whole reference data is 60 MB
_CHUNK = 1 << 16


class Session(requests.Session):
    """A pooled session whose every `send` obeys the calling thread's deadline, dripping bodies included."""

    def __init__(self, silence: float, pool: int = 16) -> None:
        super().__init__()
        self._silence = silence
        self._here = threading.local()
        for scheme in ("http://", "https://"):
            self.mount(scheme, HTTPAdapter(pool_connections=4, pool_maxsize=pool, max_retries=0))

    def until(self, deadline: Deadline, silence: float | None = None) -> None:
        """Set the deadline, and the longest silence in seconds, for this thread's next requests."""
        self._here.deadline = deadline
        self._here.silence = silence or self._silence

    def last_headers(self) -> Mapping[str, str]:
        """The headers of this thread's last answer, which python-grid5000's exceptions drop."""
        return getattr(self._here, "headers", {})

    def send(self, request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
        deadline: Deadline = self._here.deadline
        deadline.check(f"no time left for {request.method} {request.url}")
        left = max(0.01, deadline.remaining())
        kwargs["timeout"] = (min(_CONNECT_SECONDS, left), min(self._here.silence, left))
        kwargs["stream"] = True
        self._here.headers = {}
        response = super().send(request, **kwargs)
        self._here.headers = response.headers
        if not getattr(response, "_content_consumed", False):
            vars(response).update(_content=_read(response, deadline), _content_consumed=True)
        return response


def _read(response: requests.Response, deadline: Deadline) -> bytes:
    """The whole body, in as many pieces as it comes, so that a trickle cannot hold us past the deadline."""
    pieces: list[bytes] = []
    size = 0
    while piece := _piece(response):
        pieces.append(piece)
        size += len(piece)
        if size > _LARGEST or deadline.passed():
            response.close()
            if size > _LARGEST:
                raise requests.ConnectionError(f"the answer is larger than {_LARGEST} bytes")
            raise requests.ReadTimeout("the answer came too slowly")
    response.raw.release_conn()
    return b"".join(pieces)


def _piece(response: requests.Response) -> bytes:
    """What has arrived of the body, b"" at its end; urllib3's errors told as those of requests."""
    try:
        return bytes(response.raw.read1(_CHUNK, decode_content=True))
    except urllib3.exceptions.ReadTimeoutError as error:
        raise requests.ReadTimeout(error) from error
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise requests.exceptions.ChunkedEncodingError(error) from error
