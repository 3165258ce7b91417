"""Requests and what a client of the lab must see of their answers, row by row."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

ITEM = "application/vnd.grid5000.item+json; charset=utf-8"
COLLECTION = "application/vnd.grid5000.collection+json; charset=utf-8"
JSON = "application/json; charset=utf-8"
TEXT = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"
PUBLIC = "max-age=60, public, must-revalidate=true, proxy-revalidate=true, s-maxage=60"
FRESH = "max-age=0, private, must-revalidate"
MINUTE = "max-age=60, private"
NODE = "/sites/lab/clusters/vm/nodes/vm-1"
JOBS = "/sites/lab/jobs"


@dataclass
class Row:
    """A request and what must be seen; `has` are texts in the body, `headers` None means absent."""

    path: str
    status: int = 200
    has: tuple[str, ...] = ()
    headers: dict[str, str | None] = field(default_factory=dict)
    method: str = "GET"
    send: dict[str, str] = field(default_factory=dict)
    body: Any = None

    def __str__(self) -> str:
        return f"{self.method} {self.path} {self.send.get('Accept', '')}"


def get(path: str, status: int = 200, *has: str, accept: str = "application/json", **headers: str | None) -> Row:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Row(path, status, has, named, send={"Accept": accept} if accept else {})


def write(method: str, path: str, body: Any, status: int, *has: str, kind: str = "application/json") -> Row:
    send = {"Accept": "application/json"} | ({"Content-Type": kind} if kind else {})
    return Row(path, status, has, {}, method, send, body)


ROWS = [
    # media types
    get("/", 200, '"uid":"grid5000"', content_type=JSON, allow="GET", cache_control=PUBLIC, vary="accept, Origin"),
    get("/", 200, accept="*/*", content_type=ITEM),
    get("/", 200, accept="", content_type=JSON),
    get("/", 200, accept="text/html", content_type=JSON),
    get("/", 200, accept="application/vnd.grid5000.collection+json", content_type=JSON),
    get("/sites", 200, accept="*/*", content_type=COLLECTION),
    get("/sites", 200, accept="application/*", content_type=COLLECTION),
    get("/sites", 200, accept="application/vnd.grid5000.item+json", content_type=JSON),
    get("/sites", 200, accept="text/html,application/xml;q=0.9,*/*;q=0.8", content_type=JSON),
    get("/sites", 406, accept="bogus", content_type=HTML),
    get("/sites.json", 200, accept="*/*", content_type=JSON),
    get("/sites.g5kcollectionjson", 200, content_type=COLLECTION),
    get("/sites?format=json", 200, accept="*/*", content_type=JSON),
    get("/sites?format=", 200, accept="bogus", content_type=JSON),
    get("/sites/lab/health?format=json", 200, accept="bogus", vary="Origin"),
    get("/nope", 404, "---\n:status: 404\n:error: Not Found\n", accept="text/yaml"),
    get("/nope?a=%ff", 404),
    get("/sites?a=%ff", 400),
    get("/sites/%ff", 400, '{"status":400,"error":"Bad Request"}', content_type=JSON, allow=None),
    get("/sites/%ff/jobs/1", 400),
    get("/sites/lab/jobs/1.%ff", 400),
    get("/nope/%ff", 404, '{"status":404'),
    get("/sites?%ff=1", 400),
    get("/sites/%zz", 500, "string contains null byte", allow=None),  # letters that are no digits count as zeros
    get("/sites/%g1/versions", 500, "string contains null byte", allow="GET"),
    get("/sites?branch=%00", 500, "string contains null byte", allow="GET"),
    get("/sites/%7a", 404, "Cannot find resource /sites/z"),
    get("/sites/lab/status?network_address=%00", 500, "string contains null byte"),
    get("/sites/lab/vlans/nodes/%00", 500, "string contains null byte", cache_control=MINUTE),
    get("/sites/lab/vlans/users/%00", 500, "string contains null byte"),
    get("/sites/lab/vlans/users/a%20b", 500, "Unable to contact http", "/sites/lab/internal/kavlanapi/users/a b"),
    get("/sites/lab/vlans/4/users/%5B", 500, "/internal/kavlanapi/4/users/[", cache_control=MINUTE),
    get(JOBS + "/1%20/walltime", 500, "/sites/lab/internal/oarapi/jobs/1 /details.json", allow="GET"),
    write("POST", f"{JOBS}/%22/walltime", {"walltime": "+1"}, 500, '/internal/oarapi/jobs/".json'),
    write("PUT", "/sites/lab/vlans/4/users/%00", {}, 500, "string contains null byte"),
    get(JOBS + "?user[]=a&user[]=%00", 500, "string contains null byte", allow="GET,POST"),
    get(JOBS + "?job_id=%00", 200, '"total":0'),
    get("/sites.", 404, content_type=JSON),
    get("/sites/lab%2ejson", 404, "Cannot find resource /sites/lab.json"),
    get("/?callback[]=f", 200, '["f"]({"type":"grid"'),
    get("/sites?pretty", 200, '{\n  "total": 1,', x_info=None),
    get("/sites?pretty[]=1", 200, '{"total":1,'),  # the name as it stands counts
    get("/?callback=f", 200, 'f({"type":"grid"', content_type="application/javascript"),
    get("/?callback=a-b&pretty", 200, 'a-b({"type":"grid"', content_type="application/javascript", x_info=None),
    # reference
    get("/sites/", 200, '"uid":"lab"'),
    get("/sites/lab", 200, '"scheduler":"oar"', '"rel":"deployments"', x_frame_options="SAMEORIGIN"),
    get("/sites/Lab", 404, "Cannot find resource /sites/Lab", content_type=TEXT, cache_control="no-cache", etag=None),
    get("/sites/lab/clusters", 200, '"total":1', '"uid":"vm"'),
    get("/sites/lab/clusters?queues=production", 200, '"total":0'),
    get("/sites/lab/clusters/vm?queues=production", 404, "Cannot find resource /sites/lab/clusters/vm"),
    get(NODE, 200, '"nb_cores":2', '"device":"eth0"', '"id":"disk0"', last_modified="Thu, 01 Jan 2026 00:00:00 GMT"),
    get(NODE + ".lab.grid5000.fr", 404, '{"status":404,"error":"Not Found"}', content_type=JSON, vary="Origin"),
    get("/sites/lab?deep=1", 200, '"clusters":{"vm":{', '"nodes":[{'),
    get("/sites?branch=nope", 404, "Branch 'origin/nope' cannot be found."),
    get("/sites?version=nope", 404, "Commit 'nope' cannot be found."),
    get("/sites?timestamp=1", 500, "stack level too deep"),
    get("/sites?date=garbage", 500, 'no time information in "garbage"'),
    get("//sites", 200, '"uid":"lab"'),
    get("/sites/lab%2Fclusters", 200, '"uid":"vm"', '"rel":"jobs"'),
    get("/sites/l%C3%A4b", 404, "Cannot find resource /sites/läb"),
    get("/sites/l%C3%A4b/clusters", 404, "Cannot find resource /sites/l%C3%A4b/clusters"),
    get("/sites/lab?deep", 200, '"rel":"deployments"'),
    get("/sites/lab?deep=1&job_id=9", 404, "Couldn't find OAR::Job with 'job_id'=9"),
    get("/sites?branch=", 404, "Cannot find resource /sites"),
    get("/sites?branch=a%20b&date=2030-01-01", 404, "Cannot find resource /sites"),
    get("/sites/lab/versions?branch=", 500, "cannot locate local branch 'origin/'"),
    get("/sites/lab/versions/a%20b", 500, "cannot locate local branch 'a b'"),
    get("/sites?branch[]=a&branch[]=b", 404, "Branch 'origin/a/b' cannot be found."),
    get("/sites?version[]=x", 404, "Commit '[\"x\"]' cannot be found."),
    get("/sites?timestamp[a]=1", 500, 'undefined method `to_i\' for #<ActionController::Parameters {"a"=>"1"}'),
    get("/sites?date[]=1", 500, "no implicit conversion of Array into String"),
    get("/sites?date=2026", 500, "argument out of range"),
    get("/sites/lab/clusters?queues[]=default", 200, '"total":0'),
    get("/sites/lab/clusters?queues[a]=x", 500, "undefined method `split' for #<ActionController::Parameters"),
    get("/sites?a=%zz", 400, '{"status":400,"error":"Bad Request"}'),
    get("/sites?a[]=1&a[b]=2", 400, '{"status":400,"error":"Bad Request"}'),
    get("/nothing.json", 404, '{"status":404,"error":"Not Found"}', accept="*/*, text/html", content_type=JSON),
    get("/nothing?format=json", 404, '{"status":404', accept="text/html", content_type=JSON),
    get("/favicon.ico", 200, content_type="image/vnd.microsoft.icon", last_modified="Thu, 01 Jan 2026 00:00:00 GMT"),
    get("/versions?limit=-1", 500, "undefined method `map!' for nil:NilClass\n\n    versions['items'].map! do"),
    get("/versions?offset=2", 500, "undefined method `map!' for nil:NilClass"),
    get("/versions?offset=1", 200, '"items":[]'),
    get("/versions/" + "0" * 39 + "F", 500, f"object not found - no match for id ({'0' * 39}f)"),
    get("/versions/" + "0" * 40, 500, "odb: cannot read object: null OID cannot exist"),
    get("/versions/5ba", 500, "ambiguous lookup - OID prefix is too short"),
    get("/versions?branch=master", 200, '"total":1'),
    get("/sites/lab/versions/versions", 404, "sites/lab/versions does not exist."),
    get("/sites/nope/versions/latest", 500, "(resource_path).oid\n                                        ^^^^"),
    get("/sites/lab/status?deep=1", 500, "no implicit conversion of String into Integer"),
    get("/versions", 200, '"total":1', cache_control="max-age=60, public"),
    get("/versions/latest", 307),
    get("/versions/latest?a=1&callback=f&_=1", 307, location="/stable/versions/latest?a=1"),
    get("/sites/%2F/versions/latest?a=1", 307, location="/stable/sites/%2F/versions/latest?a=1"),
    get("/sites/nope/versions", 404, "sites/nope does not exist."),
    get("/accesses", 200, '{"lab":{"vm":{"label":"p1","level":40}}}'),
    get("/refrepo", 404, "Refrepo does not exist."),
    get("/accesses?branch=origin/master", 200, '{"lab":{"vm":{"label":"p1","level":40}}}'),
    get("/refrepo?branch=origin/nope", 404, "Branch 'origin/nope' cannot be found."),
    get("/refrepo?branch=%00", 500, "string contains null byte"),
    get("/refrepo?branch[]=master", 500, "wrong argument type Array (expected String)"),
    # status
    get("/sites/lab/status", 200, '"soft":"free"', '"free_slots":2', allow=None, cache_control=FRESH),
    get("/sites/lab/status?job_details=no&vlans=no", 200, '"disks":{}', '"subnets"'),
    get("/sites/lab/clusters/vm/status", 200, '"disks":{},"nodes":{"vm-1'),
    get("/sites/lab/clusters/nope/status", 200, '"nodes":{}'),
    get("/sites/lab/status?network_address=vm-2.lab.grid5000.fr", 200, '"nodes":{"vm-2.lab.grid5000.fr"'),
    get("/sites/lab/health", 200, '{"status":"OK"}', accept="*/*", content_type=JSON),
    # jobs
    get(JOBS, 200, '"total":0,"offset":0,"items":[]', allow="GET,POST", cache_control=FRESH, vary="accept, Origin"),
    get(JOBS + "?limit=-1", 500, "LIMIT must not be negative"),
    get(JOBS + "/abc", 404, "Couldn't find OAR::Job with 'job_id'=abc", allow="GET,DELETE"),
    get(JOBS + "/7/walltime", 404, "Job id '7' cannot be found."),
    write("POST", JOBS, {}, 400, "you must give a :command to execute on launch"),
    write("POST", JOBS, '{"command": ', 500, "unexpected token at '{\"command\": '"),
    write("POST", JOBS, {"command": "x", "reservation": "tomorrow"}, 400, "Syntax error in reservation start date"),
    write("POST", JOBS, {"command": "x", "reservation": 5}, 400, "`reservation` should be a String."),
    write("POST", JOBS, {"command": "x", "resources": "nodes=99"}, 400, "failed with status 400", '"code" : 400'),
    write("POST", JOBS, {"command": "x", "walltime": 3600}, 500, "Unknown option: walltime"),
    write("POST", JOBS, {"command": "x", "resources": "/"}, 500, "non-creatable array value", "Oar server error"),
    write(
        "POST", JOBS, {"command": "x", "signal": [1]}, 500, "undefined method `to_i' for [1]:Array", "value.to_i unl"
    ),
    write("POST", JOBS, {"uid": {"a": 1}}, 500, "for {:a=>1}:Hash", "Did you mean?  to_s\n               to_a\n"),
    write(
        "POST", JOBS, {"state": 1}, 500, "`downcase!' for 1:Integer\n\n      @state&.downcase!\n            ^^^^^^^^^^^"
    ),
    write("POST", JOBS, {"message": False}, 500, "`empty?' for false:FalseClass", "if @message&.empty?"),
    write("POST", JOBS, {"state": "x", "message": []}, 400, "you must give a :command"),
    write("POST", JOBS, {"command": "x", "types": 5}, 500, "undefined method `empty?' for 5:Integer", "h['type'] = "),
    write("POST", f"{JOBS}?command=", {"command": "x"}, 400, "you must give a :command"),  # the query wins
    write("POST", JOBS, "/* ask */ {} // nicely", 400, "you must give a :command"),
    write("POST", JOBS, "[" * 101, 500, "nesting of 101 is too deep"),
    write("POST", JOBS, '{"a": ["\\udc00"]}', 400, '{"status":400,"error":"Bad Request"}'),
    write("POST", "/nope", '{"a": "\\udc00"}', 404, '{"status":404'),
    write("POST", JOBS, {}, 406, kind="bogus"),
    write("POST", JOBS, {}, 406, kind=", application/json"),
    write("POST", JOBS, "command=&reservation=5x", 400, "Syntax error in", kind="multipart/form-data"),
    write("POST", JOBS, "a[]=1&a[b]=2", 400, '{"status":400', kind="multipart/mixed"),
    write("POST", JOBS, "a=%ff", 400, kind="application/x-www-form-urlencoded"),
    write("POST", JOBS, "x", 500, kind="multipart/form-data; boundary=X"),
    write("GET", JOBS, {"limit": True}, 500, "undefined method `to_i' for true:TrueClass"),
    write("GET", "/sites/lab/clusters", {"queues": "none"}, 200, '"total":0'),
    write("GET", "/sites/lab/health", "{", 200, '{"status":"OK"}'),
    write("GET", "/sites/lab", "{", 500, "unexpected token at '{'"),
    write("POST", JOBS, {"command": "x", "notify": "exec:/bin/x;y"}, 400, "insecure characters found in notification"),
    write("POST", JOBS, {"command": "x", "notify": "mail:"}, 500, "bad syntax for the notify option"),
    write("POST", JOBS, {"command": "x", "stderr": "[x]"}, 500, "invalid stderr file name (bad character)"),
    write("DELETE", JOBS + "/7", None, 404, "Couldn't find OAR::Job with 'job_id'=7"),
    write(
        "POST", JOBS + "/7/walltime", "walltime=1", 415, "is not supported", kind="application/x-www-form-urlencoded"
    ),
    write("POST", JOBS + "/7/walltime", {}, 400, "you must give a new walltime"),
    # deployments
    get("/sites/lab/deployments", 200, '"total":0', allow="GET,POST"),
    get("/sites/lab/deployments/D-1", 404, "Couldn't find Grid5000::Deployment with ID=D-1", cache_control=MINUTE),
    write("POST", "/sites/lab/deployments", {}, 400, "Environment can't be blank; Nodes can't be blank; Nodes must be"),
    write("POST", "/sites/lab/deployments", "{", 400, "is not valid: unexpected token at '{'"),
    write("POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "a b"}, 500, "bad URI(is not URI?)"),
    write(
        "POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "ftp://x"}, 500, "ftp protocol not supported"
    ),
    write("POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "\u00e9"}, 500, 'ascii only "\\u00E9"'),
    write("POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "1:2"}, 500, 'is not URI?): "1:2"'),
    write(
        "POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "http:a"}, 500, "no host component for URI"
    ),
    write(
        "POST",
        "/sites/lab/deployments",
        {"nodes": ["x"], "environment": "a", "arch": "x" * 256},
        500,
        "Data too long for column 'arch' at row 1",
    ),
    write(
        "POST",
        "/sites/lab/deployments",
        '--X\r\nContent-Disposition: form-data; name="environment"\r\n\r\nnope\r\n--X--\r\n',
        400,
        "is not valid: Nodes can't be blank; Nodes must be",
        kind="multipart/form-data; boundary=X",
    ),
    write("POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "nope"}, 400, "does not exist"),
    write("POST", "/sites/lab/deployments", {"nodes": ["x"], "environment": "debian12-min"}, 400, "sufficient rights"),
    write("PUT", "/sites/lab/deployments/D-1", {}, 404, "Couldn't find"),
    # environments and VLANs
    get("/sites/lab/environments", 200, '"total":2', "debian12-min_x86_64_2026110100_deploy", allow="GET"),
    get("/sites/lab/environments/nope", 404, "Cannot find environment nope", cache_control=MINUTE),
    get("/sites/lab/vlans", 200, '"uid":"DEFAULT","type":"NULL"'),
    get("/sites/lab/vlans/200", 404, "Vlan 200 does not exist"),
    get("/sites/lab/vlans/nodes/vm-1.lab.grid5000.fr", 200, '"vlan":"DEFAULT"', cache_control=MINUTE),
    get("/sites/lab/vlans/4/users/jdoe", 200, '"status":"unauthorized"'),
    get("/sites/lab/vlans/4/dhcpd", 405, "Method Not Allowed"),
    write("POST", "/sites/lab/vlans/4/nodes", {}, 422, "Missing node list"),
    write(
        "POST", "/sites/lab/vlans/4/nodes", ["vm-1.lab.grid5000.fr"], 403, "Not enough privileges on Kavlan resources"
    ),
    write("PUT", "/sites/lab/vlans/4/dhcpd", {"vlan": "start"}, 500, "no implicit conversion of Symbol into Integer"),
    write("PUT", "/sites/lab/vlans/4/dhcpd", {"vlan": True}, 500, "undefined method `[]' for true:TrueClass"),
    write("OPTIONS", "/sites/lab/vlans/4/dhcpd", None, 405, "Method Not Allowed"),
    write("PUT", "/sites/lab/vlans/4/dhcpd", {"action": "x"}, 422, "An action ('start' or 'stop') should be provided"),
    # other services behind the proxy
    get("/users/users/~", 200, '"uid":"jdoe"', '"default_gga":"lab"'),
    get("/users/users/nobody", 404),
    get("/users/ggas_and_sites", 200, '"ggas":[{"name":"lab","site":"lab"}]'),
    get("/sites/lab/public/jdoe/nothing", 404),
    get("/sites/lab/metrics?nodes=vm-1", 200, "[]"),
    get("/sites/lab/firewall/7", 404),
    # no such route, site or method
    get("/nothing", 404, '{"status":404,"error":"Not Found"}'),
    get("/nothing", 404, "<error>Not Found</error>", accept="application/xml"),
    get("/nothing", 404, accept="*/*", content_type=HTML),
    get("/sites/nope/jobs", 404, "Not Found"),
    write("POST", "/sites", {}, 404, '{"status":404,"error":"Not Found"}'),
    write("BOGUS", "/sites", None, 405, '{"status":405,"error":"Method Not Allowed"}'),
]
