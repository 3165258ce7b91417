"""A small site whose jobs and deployments do what a test says, for what a real scheduler cannot be told to do."""

from __future__ import annotations

import base64
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from werkzeug.exceptions import NotFound
from werkzeug.routing import Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

USER, PASSWORD = "jdoe", "sesame"


def node_document(uid: str, **more: Any) -> dict[str, Any]:
    return {
        "uid": uid,
        "type": "node",
        "architecture": {"platform_type": "x86_64", "nb_procs": 1, "nb_cores": 4, "nb_threads": 8},
        "main_memory": {"ram_size": 8 << 30},
        "supported_job_types": {"deploy": True, "besteffort": True, "max_walltime": 0, "queues": ["admin", "default"]},
        "links": [],
        **more,
    }


class ScriptedSite:
    """Jobs by id as documents; `on_submit(job)` may change a new job, `on_get(job)` an old one before it is told."""

    def __init__(self) -> None:
        self.clusters = {"vm": [node_document("vm-1"), node_document("vm-2"), node_document("vm-10")]}
        self.jobs: dict[int, dict[str, Any]] = {}
        self.deployments: dict[str, dict[str, Any]] = {}
        self.numbers = itertools.count(100)
        self.on_submit: Callable[[dict[str, Any]], Response | None] = lambda job: None
        self.on_get: Callable[[dict[str, Any]], None] = self.run_at_once
        self.on_delete: Callable[[dict[str, Any]], None] = self.end
        self.on_deploy: Callable[[dict[str, Any]], Response | None] = lambda deployment: None
        self.on_refresh: Callable[[dict[str, Any]], None] = self.deployed
        self.status: dict[str, Any] = {}
        self.lock = threading.RLock()
        rules = [
            ("GET", "/sites", self.sites),
            ("GET", "/sites/<site>/clusters", self.list_clusters),
            ("GET", "/sites/<site>/clusters/<cluster>/nodes", self.list_nodes),
            ("GET", "/sites/<site>/status", self.get_status),
            ("GET", "/sites/<site>/jobs", self.list_jobs),
            ("POST", "/sites/<site>/jobs", self.submit),
            ("GET", "/sites/<site>/jobs/<int:uid>", self.get_job),
            ("DELETE", "/sites/<site>/jobs/<int:uid>", self.delete_job),
            ("GET", "/sites/<site>/deployments", self.list_deployments),
            ("POST", "/sites/<site>/deployments", self.deploy),
            ("GET", "/sites/<site>/deployments/<uid>", self.get_deployment),
            ("PUT", "/sites/<site>/deployments/<uid>", self.refresh),
            ("DELETE", "/sites/<site>/deployments/<uid>", self.cancel),
            ("GET", "/users/users/~", self.user),
        ]
        self.map = Map([Rule("/stable" + path, endpoint=call, methods=[verb]) for verb, path, call in rules])

    @staticmethod
    def run_at_once(job: dict[str, Any]) -> None:
        if job["state"] == "waiting":
            job.update(state="running", started_at=int(time.time()))
            job["assigned_nodes"] = ["vm-1.lab.grid5000.fr", "vm-2.lab.grid5000.fr"]

    @staticmethod
    def end(job: dict[str, Any], *events: str) -> None:
        kinds = events or ("FRAG_JOB_REQUEST",)
        job.update(state="error", stopped_at=int(time.time()))
        job["events"] += [{"type": k, "description": f"User {USER} requested to frag the job"} for k in kinds]

    @staticmethod
    def deployed(deployment: dict[str, Any]) -> None:
        deployment["result"] = {node: {"macro": None, "micro": None, "state": "OK"} for node in deployment["nodes"]}
        deployment["status"] = "terminated"

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = Request(environ)
        expected = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != expected:
            page = "<html><head><title>401 Unauthorized</title></head><body>no</body></html>"
            answer = Response(page, 401, {"WWW-Authenticate": 'Basic realm="Grid\'5000 API"'}, mimetype="text/html")
            return answer(environ, start_response)
        try:
            call, values = self.map.bind_to_environ(environ).match()
        except NotFound:
            return Response('{"status":404,"error":"Not Found"}', 404, mimetype="application/json")(
                environ, start_response
            )
        with self.lock:
            answer = call(request, **values)
        return answer(environ, start_response)

    def json(self, value: Any, status: int = 200) -> Response:
        return Response(json.dumps(value), status, mimetype="application/json")

    def collection(self, items: list[dict[str, Any]], request: Request) -> Response:
        offset, limit = int(request.args.get("offset", 0)), int(request.args.get("limit", 50))
        return self.json({"total": len(items), "offset": offset, "items": items[offset : offset + limit], "links": []})

    def sites(self, request: Request) -> Response:
        return self.collection([{"uid": "lab"}], request)

    def list_clusters(self, request: Request, site: str) -> Response:
        if site != "lab":
            return Response(f"Cannot find resource /sites/{site}", 404, mimetype="text/plain")
        return self.collection([{"uid": uid} for uid in self.clusters], request)

    def list_nodes(self, request: Request, site: str, cluster: str) -> Response:
        items = self.clusters[cluster]
        return self.json({"total": len(items), "offset": 0, "items": items, "links": []})

    def get_status(self, request: Request, site: str) -> Response:
        return self.json({"uid": int(time.time()), "nodes": self.status})

    def list_jobs(self, request: Request, site: str) -> Response:
        name, user = request.args.get("name"), request.args.get("user")
        found = [
            {k: v for k, v in job.items() if k != "assigned_nodes"}
            for job in sorted(self.jobs.values(), key=lambda job: -job["uid"])
            if name in (None, job.get("name")) and user in (None, job["user_uid"])
        ]
        return self.collection(found, request)

    def submit(self, request: Request, site: str) -> Response:
        asked = request.get_json()
        job = {
            "uid": next(self.numbers),
            "user_uid": USER,
            "name": asked["name"],
            "state": "waiting",
            "walltime": 3600,
            "queue": asked.get("queue", "default"),
            "types": asked["types"],
            "submitted_at": int(time.time()),
            "started_at": 0,
            "message": "",
            "asked": asked,
            "assigned_nodes": [],
            "events": [
                {"uid": 1, "created_at": 0, "type": "ADM_RULES_MSG_OUT", "description": "# Set walltime to default"}
            ],
        }
        if (refusal := self.on_submit(job)) is not None:
            return refusal
        self.jobs[job["uid"]] = job
        return self.json(job, 201)

    def get_job(self, request: Request, site: str, uid: int) -> Response:
        if uid not in self.jobs:
            return Response(f"Couldn't find OAR::Job with 'job_id'={uid}", 404, mimetype="text/plain")
        self.on_get(self.jobs[uid])
        return self.json(self.jobs[uid])

    def delete_job(self, request: Request, site: str, uid: int) -> Response:
        if uid not in self.jobs:
            return Response(f"Couldn't find OAR::Job with 'job_id'={uid}", 404, mimetype="text/plain")
        if self.jobs[uid]["state"] == "error":
            return Response("Cannot frag; This job was already killed.", 400, mimetype="text/plain")
        self.on_delete(self.jobs[uid])
        return Response("", 202)

    def list_deployments(self, request: Request, site: str) -> Response:
        status = request.args.get("status")
        return self.collection([d for d in self.deployments.values() if status in (None, d["status"])], request)

    def deploy(self, request: Request, site: str) -> Response:
        asked = request.get_json()
        uid = f"D-{next(self.numbers)}"
        deployment = {"uid": uid, "status": "processing", "user_uid": USER, **asked}
        if (refusal := self.on_deploy(deployment)) is not None:
            return refusal
        self.deployments[uid] = deployment
        return self.json(deployment, 201)

    def get_deployment(self, request: Request, site: str, uid: str) -> Response:
        return self.json(self.deployments[uid])

    def refresh(self, request: Request, site: str, uid: str) -> Response:
        if self.deployments[uid]["status"] == "processing":
            self.on_refresh(self.deployments[uid])
        return Response("", 204)

    def cancel(self, request: Request, site: str, uid: str) -> Response:
        if self.deployments[uid]["status"] == "processing":
            self.deployments[uid]["status"] = "canceled"
        return Response("", 202)

    def user(self, request: Request) -> Response:
        return self.json({"uid": USER, "default_gga": "lab"})


class _Quiet(WSGIRequestHandler):
    def log(self, *args: Any) -> None:
        pass


@contextmanager
def served(site: ScriptedSite) -> Iterator[str]:
    """The site's URL, while it is served."""
    server = make_server("127.0.0.1", 0, site, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
