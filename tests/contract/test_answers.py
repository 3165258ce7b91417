"""What a client of the lab can see, row by row: status, headers and body. The recorded exchanges' twin on own data."""

from __future__ import annotations

import base64
import http.client
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from g5kdeploy.lab.kaenv import environment
from tests.contract.answer_rows import JOBS, NODE, ROWS, Row, get, write
from tests.contract.scripted import USERS, Lab


@pytest.fixture(scope="module")
def quiet_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """One lab for all rows: none of them changes it."""
    made = Lab(tmp_path_factory.mktemp("answers"))
    made.up()
    try:
        yield made
    finally:
        made.close()


def ask(lab: Lab, row: Row, prefix: str = "/stable", user: str | None = "jdoe") -> tuple[Any, str]:
    connection = http.client.HTTPConnection("127.0.0.1", lab.port, timeout=60)
    headers = dict(row.send)
    if user:
        headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{USERS[user]}".encode()).decode()
    body = row.body if row.body is None or isinstance(row.body, str) else json.dumps(row.body)
    connection.request(row.method, prefix + row.path, body, headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response, text


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_row(quiet_lab: Lab, row: Row) -> None:
    response, text = ask(quiet_lab, row)
    assert response.status == row.status, text
    for part in row.has:
        assert part in text
    for name, value in row.headers.items():
        assert response.getheader(name) == value, name


@pytest.mark.parametrize("prefix", ["3.0", "stable", "sid"])
def test_links_keep_the_version_that_was_asked_for(quiet_lab: Lab, prefix: str) -> None:
    _, text = ask(quiet_lab, Row("/sites/lab", send={"Accept": "application/json"}), f"/{prefix}")
    assert f'"href":"/{prefix}/sites/lab/jobs"' in text


def test_without_a_password(quiet_lab: Lab) -> None:
    response, text = ask(quiet_lab, Row("/sites"), user=None)
    assert response.status == 401 and "<title>401 Unauthorized</title>" in text
    assert response.getheader("WWW-Authenticate") == 'Basic realm="Grid\'5000 API"'


def test_without_a_version(quiet_lab: Lab) -> None:
    response, text = ask(quiet_lab, Row("/sites"), prefix="")
    assert response.status == 404 and "<title>404 Not Found</title>" in text


def test_the_root_has_no_name(quiet_lab: Lab) -> None:
    response, text = ask(quiet_lab, get("/?branch="))
    assert (response.status, text) == (404, "Cannot find resource ")


def test_conditions(quiet_lab: Lab) -> None:
    first, _ = ask(quiet_lab, Row(NODE))
    etag, date = first.getheader("ETag"), first.getheader("Last-Modified")
    assert etag.startswith('W/"')
    for send, status in (
        ({"If-None-Match": etag}, 304),
        ({"If-None-Match": etag[2:]}, 200),
        ({"If-None-Match": f'"x", {etag}'}, 200),
        ({"If-None-Match": "*"}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"If-Modified-Since": date, "If-None-Match": 'W/"0"'}, 200),
        ({"If-Modified-Since": "Mon, 01 Jan 2018 00:00:00 GMT"}, 200),
    ):
        response, text = ask(quiet_lab, Row(NODE, send=send))
        assert response.status == status, send
        assert bool(text) == (status == 200)


def test_head(quiet_lab: Lab) -> None:
    response, text = ask(quiet_lab, Row(NODE, method="HEAD"))
    assert response.status == 200 and text == "" and int(response.getheader("Content-Length")) > 1000
    for method, told in (("GET", "/opt/g5k-api/app/public/robots.txt"), ("HEAD", None)):
        response, _ = ask(quiet_lab, Row("/robots.txt", method=method))
        assert (response.status, response.getheader("X-Sendfile")) == (200, told)
    for method, status in (("MKCALENDAR", 404), ("PURGE", 405), ("LINK", 405)):
        assert ask(quiet_lab, Row("/sites", method=method))[0].status == status, method


def test_a_public_folder(quiet_lab: Lab) -> None:
    folder = quiet_lab.services.homes["lab"] / "jdoe" / "public" / "cache"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "nix-cache-info").write_text("StoreDir: /nix/store\n")
    (folder.parent.parent / "private").write_text("secret")
    (folder.parent / "way-out").symlink_to("/etc/passwd")
    where = "/sites/lab/public/jdoe"
    assert ask(quiet_lab, Row(f"{where}/cache/nix-cache-info"))[1] == "StoreDir: /nix/store\n"
    response, text = ask(quiet_lab, Row(f"{where}/cache/nix-cache-info", method="HEAD"))
    assert response.getheader("Content-Length") == "21" and text == ""
    assert "nix-cache-info" in ask(quiet_lab, Row(f"{where}/cache"))[1]
    for outside in ("../private", "way-out", "cache/../../private", "%2e%2e/private"):
        response, text = ask(quiet_lab, Row(f"{where}/{outside}"))
        assert response.status == 404 and "secret" not in text and "root:" not in text, outside


def test_cross_origin(quiet_lab: Lab) -> None:
    send = {"Origin": "http://localhost:3000"}
    response, _ = ask(quiet_lab, Row("/sites", send=send))
    assert response.getheader("Access-Control-Allow-Origin") == "http://localhost:3000"
    assert response.getheader("X-Info").startswith('["Use `?pretty=yes`')  # the list of values that it was
    response, _ = ask(
        quiet_lab, Row("/sites", method="OPTIONS", send={**send, "Access-Control-Request-Method": "POST"})
    )
    assert response.status == 200 and response.getheader("Access-Control-Allow-Methods") == "GET, POST"
    response, _ = ask(quiet_lab, Row("/sites", send={"Origin": "https://evil.example"}))
    assert response.getheader("Access-Control-Allow-Origin") is None
    assert response.getheader("X-Info").startswith("Use `?pretty=yes`")


def test_lists_of_values(lab: Lab) -> None:
    """What Rails makes of lists in a query is what a database makes of them: any of the values."""
    job = {"command": "sleep 60", "resources": "nodes=1,walltime=0:10:0"}
    numbers = [json.loads(ask(lab, write("POST", JOBS, {**job, "name": name}, 201))[1])["uid"] for name in "abc"]

    def found(query: str) -> list[int]:
        response, text = ask(lab, get(f"{JOBS}?{query}"))
        assert response.status == 200, text
        document = json.loads(text)
        assert document["total"] == len(document["items"])
        return sorted(one["uid"] for one in document["items"])

    assert found(f"job_id[]={numbers[0]}&job_id[]={numbers[2]}&job_id[]=x") == [numbers[0], numbers[2]]
    assert found("name[]=a&name[]=b&user[]=jdoe") == numbers[:2]
    response, text = ask(lab, write("DELETE", f"{JOBS}/{numbers[0]}x", None, 404))
    assert (response.status, text) == (404, f"Job id '{numbers[0]}x' cannot be found.")
    assert found("job_id=99999999999999999999") == found("job_id[a]=1") == []
    assert found("user[]&queue=default") == numbers and found("queue[]=admin") == found("user[]=") == []
    _, with_resources = ask(lab, get(f"{JOBS}?resources="))
    _, without = ask(lab, get(f"{JOBS}?resources"))
    assert "resources_by_type" in with_resources and "resources_by_type" not in without
    for query, trouble in (
        ("state[]=running", 'undefined method `capitalize\' for ["running"]:Array'),
        ("state[a]=x", "undefined method `split' for #<ActionController::Parameters"),
        ("user[a]=x", "can't quote ActionController::Parameters"),
        ("limit[]=1", "    limit = [(params[:limit] || LIMIT).to_i, LIMIT_MAX].min\n"),
    ):
        response, text = ask(lab, get(f"{JOBS}?{query}"))
        assert response.status == 500 and trouble in text, query


def test_values_that_are_read_in_a_way_of_their_own(lab: Lab) -> None:
    """What the real server's own chain of programs makes of them: an API, a shell, an option parser."""
    job = {"command": "sleep 60", "resources": "nodes=1,walltime=0:10:0"}
    for given, shown in (
        ({"directory": "~/x/.."}, {"directory": "/home/jdoe"}),
        ({"project": ""}, {"project": "default", "message": "R=2,W=0:10:0,J=B"}),
        ({"name": ["a", "b"]}, {"name": "b"}),
        ({"name": True}, {"name": "1"}),
        ({"reservation": False}, {"state": "waiting", "started_at": 0}),
    ):
        response, text = ask(lab, write("POST", JOBS, job | given, 201))
        assert response.status == 201, text
        document = json.loads(text)
        assert {key: document[key] for key in shown} == shown, given


def test_a_user_who_is_named_without_a_name(lab: Lab) -> None:
    lab.environments.add(environment("mine", "server:///mine.tar.zst", user="jdoe", visibility="private"))
    for query, total in (("", 3), ("?user", 3), ("?user=jdoe", 1), ("?user=", 0)):
        assert f'"total":{total}' in ask(lab, get(f"/sites/lab/environments{query}"))[1], query


def test_many_clients_at_once(lab: Lab) -> None:
    """Submissions, deletions and reads from many threads: every job is there once, and nothing answers 500."""
    job = {"command": "sleep 60", "resources": "nodes=1,walltime=0:10:0"}

    def life(number: int) -> list[int]:
        statuses = []
        for path in (JOBS, "/sites/lab/status", "/sites/lab?deep=1", f"{JOBS}?user=jdoe&state=waiting"):
            response, text = ask(lab, write("POST", path, job, 201) if path == JOBS else get(path))
            statuses.append(response.status)
            if path == JOBS:
                uid = json.loads(text)["uid"]
        if number % 2:
            statuses.append(ask(lab, write("DELETE", f"{JOBS}/{uid}", None, 202))[0].status)
        return statuses

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(life, range(40)))
    assert {status for statuses in found for status in statuses} == {200, 201, 202}
    _, text = ask(lab, get(f"{JOBS}?limit=500"))
    uids = [one["uid"] for one in json.loads(text)["items"]]
    assert len(uids) == len(set(uids)) == 40
