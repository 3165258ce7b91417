"""The one adapter that owns python-grid5000: deadlines, safe repeats, pages, and answers that are understood."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from g5kdeploy.base.clock import SYSTEM, Clock
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import human_seconds
from g5kdeploy.events.event import Emitter
from g5kdeploy.testbed.credentials import Credentials
from g5kdeploy.testbed.problems import ApiProblem, NotThere, Unclear

if TYPE_CHECKING:
    import requests
    import tenacity

log = logging.getLogger(__name__)

PATIENCE = 20.0  # seconds that a call goes on asking an API in trouble, when its deadline allows
_PAGE = 500  # the API's own limit
_POST_SILENCE = 300.0  # seconds: OAR may take that long over a submission, says the server's own limit
_PAGED = ("/jobs", "/deployments")
_JSON = "application/json"
_TOO_MANY = 429
_REFUSALS = ("Request to ", "Cannot launch deployment: ", "The job you are trying", "The deployment you are trying")

T = TypeVar("T")


class Api:
    """A client of one testbed; safe to use from several threads. Close it, or use it as a context."""

    def __init__(
        self,
        credentials: Credentials,
        emit: Emitter | None = None,
        clock: Clock = SYSTEM,
        patience: float = PATIENCE,
    ) -> None:
        import grid5000

        from g5kdeploy.testbed.wire import Session

        self.credentials = credentials
        self.emit = emit or Emitter()
        self.clock = clock
        self.patience = patience
        self.session = Session(credentials.timeout)
        self._client = grid5000.Grid5000(
            uri=credentials.uri,
            username=credentials.username if credentials.password else None,
            password=credentials.password,
            # Over plain HTTP there is no certificate, and the library would warn that it is not verified.
            verify_ssl=credentials.verify_ssl if credentials.uri.startswith("https:") else True,
            sslcert=credentials.sslcert,
            sslkey=credentials.sslkey,
            ssluser=credentials.ssluser or "",
        )
        # The library makes a session of its own whatever it is given; that one would retry behind our back.
        self._client.session.close()
        self._client.session = self.session
        self._me = credentials.username or credentials.ssluser or ""

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the connections back."""
        self.session.close()

    @property
    def uri(self) -> str:
        return self.credentials.uri

    def get(self, path: str, deadline: Deadline, **params: Any) -> Any:
        """The document at `path` ("/sites/lab/status"), asked for again when that is safe and useful."""
        return self._repeat(lambda: self._document("get", path, deadline, params), deadline)

    def items(self, path: str, deadline: Deadline, **params: Any) -> list[dict[str, Any]]:
        """All items of a collection, however many pages it has, each once."""
        if path.endswith(_PAGED):
            params = {"limit": _PAGE, **params}
        found: dict[str, dict[str, Any]] = {}
        offset = 0
        while True:
            page = self.get(path, deadline, **params, **({"offset": offset} if offset else {}))
            items = page.get("items") if isinstance(page, dict) else None
            if not isinstance(items, list):
                raise ApiProblem(f"{self._url(path)} does not answer with a list", cause=f"{page!r:.80}")
            before = len(found)
            for item in items:
                found.setdefault(str(item["uid"]), item)
            offset += len(items)
            if len(found) == before or offset >= (page.get("total") or 0):
                return list(found.values())

    def post(self, path: str, body: Any, deadline: Deadline) -> Any:
        """Send once and never again; raises `Unclear` when nobody can say whether it was done.

        Only a request that certainly never left (connection refused, unknown host) is sent again. Answers the
        document, or the text where the server labels plain text as JSON, as it does for walltime changes.
        """

        def once() -> Any:
            try:
                response = self._request("post", path, deadline, {}, body, _POST_SILENCE)
            except ApiProblem as problem:
                if _certain(problem):
                    if problem.sent and problem.status != _TOO_MANY:
                        problem.repeats = 0
                    raise
                raise Unclear(
                    f"it is not known whether {self._url(path)} did what was asked",
                    cause=str(problem),
                    hint=problem.hint,
                    url=problem.url,
                    status=problem.status,
                ) from problem
            return self._answer(response, path)

        return self._repeat(once, deadline)

    def put(self, path: str, body: Mapping[str, Any], deadline: Deadline) -> None:
        """A PUT, which python-grid5000 lacks; the API's ones may all be repeated."""
        self._repeat(lambda: self._request("put", path, deadline, {}, dict(body)), deadline)

    def delete(self, path: str, deadline: Deadline) -> None:
        self._repeat(lambda: self._request("delete", path, deadline, {}), deadline)

    def me(self, deadline: Deadline) -> str:
        """The login that the testbed knows us by."""
        if not self._me:
            self._me = str(self.get("/users/users/~", deadline).get("uid", ""))
        return self._me

    def profile(self, deadline: Deadline) -> dict[str, Any]:
        """The user's profile: `uid`, `default_gga`, ..."""
        return dict(self.get("/users/users/~", deadline))

    def accesses(self, deadline: Deadline) -> dict[str, Any]:
        """What each group may use: group -> nodeset -> {level, label}."""
        return dict(self.get("/accesses", deadline))

    def sites(self, deadline: Deadline) -> list[str]:
        """The names of all sites, sorted."""
        return sorted(str(item["uid"]) for item in self.items("/sites", deadline))

    def _url(self, path: str) -> str:
        return f"{self.uri}{path}"

    def _request(
        self,
        verb: str,
        path: str,
        deadline: Deadline,
        params: Mapping[str, Any],
        body: Any = None,
        silence: float | None = None,
    ) -> requests.Response:
        import grid5000.exceptions
        import requests

        from g5kdeploy.testbed import answers

        url = self._url(path)
        self.session.until(deadline, silence)
        try:
            response: requests.Response = self._client.http_request(
                verb, path, query_data=dict(params), post_data=body, content_type=None if verb == "delete" else _JSON
            )
        except grid5000.exceptions.Grid5000Error as error:
            headers = self.session.last_headers()
            status = int(error.response_code or 0)
            raise answers.from_status(status, error.response_body or b"", headers, url, self.credentials) from error
        except (requests.RequestException, OSError, ValueError) as error:
            raise answers.from_exception(error, url, self.credentials) from error
        log.debug("%s %s: %s", verb.upper(), url, response.status_code)
        return response

    def _document(self, verb: str, path: str, deadline: Deadline, params: Mapping[str, Any]) -> Any:
        from g5kdeploy.testbed import answers, shapes

        document = answers.document(self._request(verb, path, deadline, params), self._url(path))
        shapes.check(path, document, self._url(path))
        return document

    def _answer(self, response: requests.Response, path: str) -> Any:
        """A POST's answer; one that went well but cannot be read leaves us not knowing what was made."""
        from g5kdeploy.testbed import answers, shapes

        try:
            document = answers.document(response, self._url(path))
            shapes.check(path, document, self._url(path), made=True)
            return document
        except ApiProblem as problem:
            if path.endswith("/walltime") and response.status_code == 202 and "html" not in problem.cause:
                return response.text.strip()
            raise Unclear(problem.what, cause=problem.cause, hint=problem.hint, url=problem.url) from problem

    def _repeat(self, call: Callable[[], T], deadline: Deadline) -> T:
        """Call, and call again while the trouble may pass: for `patience` seconds, or as Retry-After wishes."""
        import tenacity

        began = self.clock.monotonic()

        def useful(error: BaseException) -> bool:
            return isinstance(error, ApiProblem) and not isinstance(error, Unclear | NotThere) and error.passing

        def enough(state: tenacity.RetryCallState) -> bool:
            problem = _problem(state)
            wait = state.upcoming_sleep
            if state.attempt_number > problem.repeats or wait >= deadline.remaining():
                return True
            return problem.retry_after is None and self.clock.monotonic() - began + wait > self.patience

        def pause(state: tenacity.RetryCallState) -> float:
            wished = _problem(state).retry_after
            return wished if wished is not None else backoff(state)

        def tell(state: tenacity.RetryCallState) -> None:
            self.emit.note("API", f"{_problem(state)}; asking again in {human_seconds(state.upcoming_sleep)}")

        backoff = tenacity.wait_exponential(multiplier=0.5, max=5.0) + tenacity.wait_random(0.0, 0.5)
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(useful),
            wait=pause,
            stop=enough,
            before_sleep=tell,
            sleep=self.clock.sleep,
            reraise=True,
        )
        return retrying(call)


def _problem(state: tenacity.RetryCallState) -> ApiProblem:
    error = state.outcome.exception() if state.outcome else None
    assert isinstance(error, ApiProblem)
    return error


def _certain(problem: ApiProblem) -> bool:
    """Whether a failed POST certainly did nothing: it never left, or the server says what it did not like."""
    if not problem.sent:
        return True
    if not problem.status:
        return False
    if problem.status == 500:  # the API forwards refusals of OAR and kadeploy as 500, too
        return problem.body.startswith(_REFUSALS)
    return problem.status not in (502, 503, 504)
