"""The frontend's commands kaconsole3, kapower3 and kaenv3: scripts that ask the lab, and need nothing but a Python there."""

from __future__ import annotations

_ASK = '''\
#!/usr/bin/env python3
"""{name}: {purpose}"""
import argparse, json, os, select, socket, sys

def ask(**request):
    with socket.socket(socket.AF_UNIX) as channel:
        channel.connect(os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "commands.sock"))
        channel.sendall(json.dumps(request).encode() + b"\\n")
        wait, rest = select.poll(), b""
        wait.register(channel, select.POLLIN)
        wait.register(1, 0)  # whoever reads us may leave while nothing comes
        while True:
            ready = [which for which, _ in wait.poll()]
            data = channel.recv(1 << 20) if 1 not in ready else b""
            *lines, rest = (rest + data).split(b"\\n")
            yield from map(json.loads, lines)
            if not data:
                return

def show(before="", **request):
    """Print what is answered; the exit status."""
    status = 0
    try:
        for answer in ask(**request):
            if "error" in answer:
                print("{name}: " + answer["error"], file=sys.stderr)
                status = 1
            elif "text" in answer:
                sys.stdout.write(answer["text"])
                sys.stdout.flush()
            else:
                print(before + answer["state"])
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        print("{name}: the site's management does not answer: " + str(error), file=sys.stderr)
        status = 1
    return status

parser = argparse.ArgumentParser(prog="{name}", description="{purpose}")
'''
_NODES = """\
parser.add_argument("-m", "--machine", action="append", required=True, help="a node; may be given several times")
{options}
options = parser.parse_args()
sys.exit(max(show(machine + ": ", node=machine, {request}) for machine in options.machine))
"""
_CONSOLE = {
    "name": "kaconsole3",
    "purpose": "show a node's console",
    "options": 'parser.add_argument("-f", "--follow", action="store_true", help="go on until interrupted; usual on a terminal")\n'
    'parser.add_argument("--from", dest="begin", type=int, default=0, metavar="BYTE", help="begin at this byte of it")',
    "request": 'do="console", follow=options.follow or os.isatty(0) and os.isatty(1), begin=options.begin',
}
_POWER = {
    "name": "kapower3",
    "purpose": "switch a node on or off",
    "options": "which = parser.add_mutually_exclusive_group(required=True)\n"
    'for word in ("on", "off", "reset", "status"):\n'
    '    which.add_argument("--" + word, dest="do", action="store_const", const=word)',
    "request": "do=options.do",
}
_KAENV = """\
which = parser.add_mutually_exclusive_group(required=True)
which.add_argument("-l", "--list", nargs="?", const="%", metavar="ENVNAME", help="list environments; %% is the wildcard")
which.add_argument("-p", "--print", metavar="ENVNAME", help="print an environment's description")
which.add_argument("-a", "--add", metavar="ENVFILE", help="add the environment that a file, or a URL, describes")
which.add_argument("-d", "--delete", metavar="ENVNAME", help="delete an environment of one's own")
parser.add_argument("-u", "--env-user", metavar="USERNAME", help="whose environments")
parser.add_argument("--env-version", metavar="NUMBER", help="this version")
parser.add_argument("-s", "--all-versions", action="store_true", help="all versions, instead of the newest")
options = vars(parser.parse_args())
do, word = next((do, options[do]) for do in ("list", "print", "add", "delete") if options[do] is not None)
if do == "add" and "://" not in word:
    try:
        with open(word, encoding="utf-8") as file:
            word = file.read()
    except (OSError, ValueError) as error:
        sys.exit("kaenv3: Unable to grab the file " + options["add"] + " (" + str(error) + ")")
more = {key: options[key] for key in ("env_user", "env_version", "all_versions")}
sys.exit(show(do="kaenv", operation=do, word=word, **more))
"""


def all_of_them() -> dict[str, str]:
    """Each command's script by its name."""
    kaenv = {"name": "kaenv3", "purpose": "environments that kadeploy knows by name"}
    return {
        **{one["name"]: _filled(_ASK + _NODES, one) for one in (_CONSOLE, _POWER)},
        kaenv["name"]: _filled(_ASK, kaenv) + _KAENV,
    }


def _filled(script: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        script = script.replace("{" + word + "}", value)
    return script
