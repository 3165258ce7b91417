"""The Grid'5000 REST API as a WSGI application over `SiteServices`, and the server that serves it."""

from g5kdeploy.lab.api.app import make_app
from g5kdeploy.lab.api.server import Server

__all__ = ["Server", "make_app"]
