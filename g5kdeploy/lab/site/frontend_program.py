#!/usr/bin/env python3
"""The frontend's commands: each is this file under its name, asks the lab, and needs nothing but a Python there.

It imports nothing of the project.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

NAME = Path(sys.argv[0]).name
kept: dict[str, str] = {}
"""What answers named and nobody printed: the job that a terminal waits for, lists of nodes."""


def ask(**request: object) -> Iterator[dict[str, str]]:
    """Send a request; the answers as they come."""
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(str(Path(sys.argv[0]).resolve().parents[1] / "commands.sock"))
        channel.sendall(json.dumps(request).encode() + b"\n")
        wait, rest = select.poll(), b""
        wait.register(channel, select.POLLIN)
        wait.register(1, 0)  # whoever reads us may leave while nothing comes
        while True:
            ready = [which for which, _ in wait.poll()]
            data = channel.recv(1 << 20) if 1 not in ready else b""
            *lines, rest = (rest + data).split(b"\n")
            yield from map(json.loads, lines)
            if not data:
                return


def show(before: str = "", **request: object) -> int:
    """Do what is answered: print, run, keep. The exit status."""
    status = 0
    try:
        for answer in ask(**request):
            for name, value in answer.items():
                if name == "text":
                    print(value, end="", flush=True)
                elif name == "state":
                    print(before + value)
                elif name == "warning":
                    print(value, end="", file=sys.stderr, flush=True)
                elif name == "error":
                    print(f"{NAME}: {value}", file=sys.stderr)
                    status = 1
                elif name == "run":
                    status = subprocess.call(["/bin/sh", "-c", value])
                elif name == "status":
                    status = status or int(value)
                else:
                    kept[name] = value
        sys.stdout.flush()
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        go_on_unread()
    except OSError as error:
        print(f"{NAME}: the site's management does not answer: {error}", file=sys.stderr)
        status = 1
    return status


def go_on_unread() -> None:
    """Whoever read us has left: what is still to be said goes nowhere, and what is still to be done is done."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def parser(purpose: str) -> argparse.ArgumentParser:
    """A parser that calls the command by its name."""
    return argparse.ArgumentParser(prog=NAME, description=purpose)


def contents(path: str) -> str:
    """A file's text; - is the standard input."""
    try:
        if path == "-":
            return sys.stdin.read()
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        sys.exit(f"{NAME}: Unable to grab the file {path} ({error})")


def kaconsole3() -> int:
    """Show a node's console."""
    options = parser("show a node's console")
    options.add_argument("-m", "--machine", action="append", required=True, help="a node; may be given several times")
    options.add_argument("-f", "--follow", action="store_true", help="go on until interrupted; usual on a terminal")
    options.add_argument("--from", dest="begin", type=int, default=0, metavar="BYTE", help="begin at this byte of it")
    given = options.parse_args()
    follow = given.follow or (os.isatty(0) and os.isatty(1))
    return max(show(f"{node}: ", do="console", node=node, follow=follow, begin=given.begin) for node in given.machine)


def kapower3() -> int:
    """Switch a node on or off."""
    options = parser("switch a node on or off")
    options.add_argument("-m", "--machine", action="append", required=True, help="a node; may be given several times")
    which = options.add_mutually_exclusive_group(required=True)
    for word in ("on", "off", "reset", "status"):
        which.add_argument(f"--{word}", dest="do", action="store_const", const=word)
    given = options.parse_args()
    return max(show(f"{node}: ", do=given.do, node=node) for node in given.machine)


def kaenv3() -> int:
    """Environments that kadeploy knows by name."""
    options = parser("environments that kadeploy knows by name")
    which = options.add_mutually_exclusive_group(required=True)
    which.add_argument(
        "-l", "--list", nargs="?", const="%", metavar="ENVNAME", help="list environments; %% is the wildcard"
    )
    which.add_argument("-p", "--print", metavar="ENVNAME", help="print an environment's description")
    which.add_argument("-a", "--add", metavar="ENVFILE", help="add the environment that a file, or a URL, describes")
    which.add_argument("-d", "--delete", metavar="ENVNAME", help="delete an environment of one's own")
    options.add_argument("-u", "--env-user", metavar="USERNAME", help="whose environments")
    options.add_argument("--env-version", metavar="NUMBER", help="this version")
    options.add_argument("-s", "--all-versions", action="store_true", help="all versions, instead of the newest")
    given = vars(options.parse_args())
    do, word = next((do, given[do]) for do in ("list", "print", "add", "delete") if given[do] is not None)
    if do == "add" and "://" not in word:
        word = contents(word)
    more = {key: given[key] for key in ("env_user", "env_version", "all_versions")}
    return show(do="kaenv", operation=do, word=word, **more)


def kadeploy3() -> int:
    """Deploy an environment on nodes, and follow it."""
    options = parser("deploy an environment on nodes")
    options.add_argument("-e", "--env-name", help="a registered environment")
    options.add_argument("-a", "--env-file", metavar="ENVFILE", help="a file, or a URL, with a description")
    options.add_argument("-u", "--env-user", metavar="USERNAME", help="whose environment")
    options.add_argument("--env-version", metavar="NUMBER", help="this version")
    options.add_argument("-m", "--machine", action="append", default=[], help="a node; may be given several times")
    options.add_argument("-f", "--file", action="append", default=[], help="a file of nodes; - is the standard input")
    options.add_argument(
        "-k", "--key", nargs="?", const="~/.ssh/authorized_keys", metavar="FILE", help="public keys for root"
    )
    options.add_argument("-o", "--output-ok-nodes", dest="ok", metavar="FILE", help="where deployed nodes are written")
    options.add_argument("-n", "--output-ko-nodes", dest="ko", metavar="FILE", help="where the others are written")
    options.add_argument("-r", "--reformat-tmp", metavar="FSTYPE", help="make the scratch partition anew")
    options.add_argument("-p", "--partition", help="the partition to deploy on")
    options.add_argument("-b", "--block-device", help="the disk to deploy on")
    options.add_argument("--vlan", metavar="VLANID", help="move the nodes into this VLAN")
    options.add_argument("-d", "--debug-mode", action="store_true", help="taken, and changes nothing here")
    given = options.parse_args()
    listed = [line.strip() for path in given.file for line in contents(path).splitlines()]
    nodes = [node for node in dict.fromkeys([*given.machine, *listed]) if node]
    if not nodes:
        sys.exit(f"{NAME}: You must specify some nodes (-m, -f)")
    if not given.env_name and not given.env_file:
        sys.exit(f"{NAME}: You must choose an environment (-e, -a)")
    request: dict[str, Any] = {
        name: getattr(given, name)
        for name in ("env_user", "env_version", "vlan", "reformat_tmp", "partition", "block_device")
    }
    request["environment"] = given.env_name or (given.env_file if "://" in given.env_file else None)
    if given.env_file and "://" not in given.env_file:
        request["description"] = contents(given.env_file)
    if given.key:
        request["key"] = contents(given.key)
    status = show(do="kadeploy", nodes=nodes, **request)
    for name in ("ok", "ko"):
        if (path := getattr(given, name)) and kept.get(name):
            with Path(path).open("a", encoding="utf-8") as file:
                file.write(kept[name])
    return status


def oar() -> int:
    """A command of the scheduler: it is told the words as they are."""
    words = sys.argv[1:]
    if NAME == "oarstat" and words and words[-1] in ("-j", "--job", "-fj", "-sj") and os.environ.get("OAR_JOB_ID"):
        words.append(os.environ["OAR_JOB_ID"])
    status = show(do="oar", command=NAME, words=words, directory=str(Path.cwd()))
    if "ends" in kept:  # with its terminal, or with whoever waited for it
        show(do="oar", command="oardel", words=[kept["ends"]])
    return status


def kavlan() -> int:
    """VLANs of a job, and moves between VLANs."""
    options = parser("the VLAN of a job; moves nodes between VLANs")
    which = options.add_mutually_exclusive_group(required=True)
    for short, word, operation, purpose in (
        ("-V", "--get-vlan-id", "id", "print the VLANs of a job"),
        ("-l", "--get-nodelist", "nodes", "print the names that a job's nodes have in its VLAN"),
        ("-r", "--get-network-range", "range", "print a VLAN's network"),
        ("-g", "--get-network-gateway", "gateway", "print a VLAN's gateway"),
        ("-s", "--set", "set", "move nodes into a VLAN"),
        ("-e", "--enable-dhcp", "start", "start a VLAN's DHCP server"),
        ("-d", "--disable-dhcp", "stop", "stop it"),
    ):
        which.add_argument(short, word, dest="operation", action="store_const", const=operation, help=purpose)
    options.add_argument("-i", "--vlan-id", metavar="VLANID", help="this VLAN; DEFAULT is the production network")
    options.add_argument("-j", "--job-id", metavar="JOBID", default=os.environ.get("OAR_JOB_ID"), help="this job")
    options.add_argument("-m", "--machine", action="append", default=[], help="a node; may be given several times")
    options.add_argument("-f", "--filenode", metavar="NODEFILE", help="a file of nodes; - is the standard input")
    options.add_argument("-q", "--quiet", action="store_true", help="say nothing of moves")
    given = options.parse_args()
    nodes = [*given.machine, *(contents(given.filenode).split() if given.filenode else ())]
    asked = {"operation": given.operation, "vlan": given.vlan_id, "job": given.job_id, "quiet": given.quiet}
    return show(do="kavlan", nodes=list(dict.fromkeys(nodes)), **asked)


def g5k_subnets() -> int:
    """Subnets of a job."""
    options = parser("the subnets of a job: a line for each, or for each address (-i, -m)")
    for short, word, purpose in (
        ("-p", "--ip-prefix", "subnets, with the length of their prefix"),
        ("-i", "--ips", "addresses"),
        ("-b", "--broadcast", "broadcast address"),
        ("-n", "--netmask", "netmask"),
        ("-g", "--gateway", "gateway"),
        ("-G", "--network", "the network that all subnets of the site are in"),
        ("-d", "--dns", "the name server's name and address"),
        ("-m", "--mac", "hardware addresses"),
    ):
        options.add_argument(short, word, dest="columns", action="append_const", const=short[1], help=purpose)
    options.add_argument("-a", "--all", dest="columns", action="append_const", const="pbngGd", help="-pbngGd")
    options.add_argument("-s", "--summarize", action="store_true", help="subnets beside each other as one")
    options.add_argument("-j", "--job-id", metavar="JOBID", default=os.environ.get("OAR_JOB_ID"), help="this job")
    options.add_argument("-o", "--output", metavar="FILE", help="write to a file")
    given = options.parse_args()
    with contextlib.ExitStack() as stack:
        if given.output:
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(Path(given.output).open("w"))))
        return show(do="subnets", job=given.job_id, columns="".join(given.columns or ()), summarize=given.summarize)


def oarprint() -> int:
    """Properties of a job's resources, by the values of one of them."""
    options = parser("print properties of a job's resources")
    default = os.environ.get("OAR_RESOURCE_PROPERTIES_FILE", "")
    options.add_argument("-f", dest="file", default=default, help="what oarstat -p printed; - is the standard input")
    options.add_argument("-P", dest="properties", help="the properties to print, separated by commas")
    options.add_argument("-F", dest="format", default="", help="a line with %% for each property")
    options.add_argument("-C", dest="comma", default=",", help="what stands between several values")
    options.add_argument("key", help="the property that has a line for each value")
    given = options.parse_args()
    if not given.file:
        sys.exit("oarprint: no input data available")
    rows = [dict(re.findall(r"(\w+) = '([^']*)'", line)) for line in contents(given.file).splitlines() if line.strip()]
    shown = given.properties.split(",") if given.properties else [given.key]
    lines: dict[str, dict[str, dict[str, None]]] = {}
    for row in rows:
        if unknown := [name for name in (given.key, *shown) if name not in row]:
            sys.exit(f"oarprint: Unknown property '{unknown[0]}'")
        values = lines.setdefault(row[given.key], {name: {} for name in shown})
        for name in shown:
            values[name][row[name]] = None
    line = given.format or " ".join("%" for _ in shown)
    for values in lines.values():
        words = iter([given.comma.join(values[name]) for name in shown])
        print("".join(next(words, "") if part == "%" else part for part in re.split("(%)", line)))
    return 0


COMMANDS: dict[str, Callable[[], int]] = {
    "g5k-subnets": g5k_subnets,
    "kaconsole3": kaconsole3,
    "kadeploy3": kadeploy3,
    "kaenv3": kaenv3,
    "kapower3": kapower3,
    "kavlan": kavlan,
    "oardel": oar,
    "oarhold": oar,
    "oarnodes": oar,
    "oarprint": oarprint,
    "oarresume": oar,
    "oarstat": oar,
    "oarsub": oar,
    "oarwalltime": oar,
}

if __name__ == "__main__":
    code = 0
    try:
        code = COMMANDS[NAME]()
        sys.stdout.flush()
    except BrokenPipeError:
        go_on_unread()
    sys.exit(code)
