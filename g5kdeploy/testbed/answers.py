"""An answer, or the lack of one, made into a document or into a problem that can be told."""

from __future__ import annotations

import email.utils
import time
from typing import Any

import requests
import urllib3.exceptions

from g5kdeploy.events.failure import NotAllowed
from g5kdeploy.testbed import texts
from g5kdeploy.testbed.credentials import Credentials
from g5kdeploy.testbed.problems import ApiProblem, NotThere

PASSING = frozenset({429, 500, 502, 503, 504})
_MANY = 100  # repeats: bounded by time alone
_FEW = 2


def from_status(status: int, body: bytes, headers: Any, url: str, credentials: Credentials) -> Exception:
    """The problem that an error status means."""
    content_type = str(headers.get("Content-Type", ""))
    text = body.decode(errors="replace")
    said = texts.sentence(text, content_type)
    who = credentials.username or credentials.ssluser or "this user"
    if status == 401 and texts.oar_message(text) is None:
        return NotAllowed(
            f"{url} refuses the user name or the password of {who}",
            cause=f"it answers 401 to the credentials from {credentials.origin}",
            hint=f"check username and password in {credentials.origin}",
        )
    if status in (401, 403):
        return NotAllowed(f"the testbed does not allow this to {who}", cause=f"{said} ({url} answers {status})")
    if status == 404:
        return NotThere(f"{url} does not exist", cause=said, url=url, status=status, body=text)
    if status in PASSING:
        return ApiProblem(
            f"the API is in trouble: {url} answers {status}",
            cause=said,
            hint="try again in some minutes; https://www.grid5000.fr/status/ tells of maintenances and incidents",
            url=url,
            status=status,
            repeats=_MANY,
            retry_after=_retry_after(headers.get("Retry-After")),
            body=text,
        )
    return ApiProblem(f"{url} answers {status}", cause=said, url=url, status=status, body=text)


def _retry_after(value: str | None) -> float | None:
    """Seconds from a Retry-After header, which gives a number or a date."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    moment = email.utils.parsedate_tz(value)
    return max(0.0, email.utils.mktime_tz(moment) - time.time()) if moment else None


def from_exception(error: Exception, url: str, credentials: Credentials) -> ApiProblem:
    """The problem that a failed exchange means."""
    where = f"uri in {credentials.origin}" if "/" in credentials.origin else "uri"  # a file's: variables give none
    if isinstance(error, requests.exceptions.SSLError):
        return ApiProblem(
            f"the certificate of {url} is not trusted",
            cause=str(error),
            hint="set verify_ssl to the CA's file in the credentials, if the certificate is known to be right",
            url=url,
            sent=False,
        )
    if isinstance(error, requests.exceptions.ReadTimeout):
        return ApiProblem(
            f"{url} does not answer in time",
            cause="the connection stands, but no whole answer came",
            hint="try again later; the site may be under maintenance",
            url=url,
            repeats=_MANY,
        )
    if isinstance(error, requests.exceptions.ConnectTimeout) or _never_connected(error):
        return ApiProblem(
            f"{url} cannot be reached",
            cause=_innermost(error),
            hint=f"check the network and the {where}; for the lab: g5kdeploy lab status",
            url=url,
            repeats=_MANY,
            sent=False,
        )
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidSchema | ValueError):
        return ApiProblem(
            f"{url} is not a usable URL", cause=str(error), hint=f"check the {where}", url=url, sent=False
        )
    return ApiProblem(
        f"the connection to {url} broke",
        cause=_innermost(error),
        hint="try again; whatever was asked for is looked up first",
        url=url,
        repeats=_MANY,
    )


def _never_connected(error: Exception) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(reason, urllib3.exceptions.NewConnectionError | urllib3.exceptions.ConnectTimeoutError)


def _innermost(error: BaseException) -> str:
    """The operating system's own words, from under the layers of HTTP libraries."""
    seen: BaseException | None = error
    words = str(error)
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        words = str(seen) or words
        reason = getattr(seen, "reason", None)
        nested = next((item for item in seen.args if isinstance(item, BaseException)), None)
        seen = reason if isinstance(reason, BaseException) else seen.__cause__ or seen.__context__ or nested
    return words


def document(response: requests.Response, url: str) -> Any:
    """The JSON of an answer that says it went well, with an eye on those who only say so."""
    content_type = response.headers.get("Content-Type", "")
    try:
        return response.json()
    except ValueError as error:
        body = response.content
        looks = "html" in content_type or body[:1] == b"<"
        said = texts.sentence(response.text, content_type) if looks else f"it begins with: {texts.excerpt(body)}"
        raise ApiProblem(
            f"{url} does not answer as the API does",
            cause=said,
            hint="is the uri right, and is there a proxy or a login page in between?",
            url=url,
            status=response.status_code,
            repeats=_FEW,
        ) from error
