"""The application: routes to handlers, with what every answer has in common."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from g5kdeploy.lab.services import SiteServices


def make_app(services: SiteServices) -> Callable[..., Any]:
    """The WSGI application that serves the API of these services under /3.0, /stable and /sid."""
    raise NotImplementedError
