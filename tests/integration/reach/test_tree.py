"""Many nodes through their frontend: each answer is what a connection of our own would have brought."""

from __future__ import annotations

import dataclasses
import io
import os
import pwd
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from ClusterShell.Communication import MessageProcessingError, StdOutMessage

from g5kdeploy.base import process
from g5kdeploy.base.problem import DeadlinePassed, Problem
from g5kdeploy.node import ConnectionLost, HostKeyChanged, LoginRefused, Reach, Result, Unreachable, tree
from g5kdeploy.node.agent import lent
from g5kdeploy.node.many import run_on
from g5kdeploy.node.problems import Overflow
from tests.support.reaching import block, soon, until
from tests.support.sshd import DEFAULT_PATH, SSHD, SshServer, make_key, write_ssh_config

pytestmark = [
    pytest.mark.skipif(SSHD is None, reason="needs sshd"),
    pytest.mark.skipif(shutil.which("python3", path=DEFAULT_PATH) is None, reason="needs the distribution's python3"),
]

ROOT = Path(__file__).parents[3]
NODES = 20
NEVER, ALWAYS = NODES + 1, 1  # the number of nodes from which on there is a tree
HERE = '. "$HOME/what"'  # a file that each node has for itself
LOGIN_SHELL = Path(pwd.getpwuid(os.getuid()).pw_shell).name


class Crowd:
    """A frontend, nodes that are behind it by ProxyCommand, and a home that knows them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.home = folder / "home"
        self.key = make_key(self.home / ".ssh" / "id_ed25519")
        public = self.key.with_suffix(".pub").read_text()
        self.frontend = SshServer(folder / "frontend", public)
        self.nodes = {f"n{i}": SshServer(folder / f"n{i}", public) for i in range(1, NODES + 1)}
        self.user = self.frontend.user
        self.write(self.frontend)
        self.known = "".join(f"{name} {node.host_key}\n" for name, node in self.nodes.items())

    def write(self, gate: SshServer) -> None:
        config, common = self.home / ".ssh" / "config", (f"IdentityFile {self.key}", "StrictHostKeyChecking no")
        through = f"ProxyCommand ssh -F {config} -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR -W %h:%p gate"
        blocks = [block(name, node, *common, through) for name, node in self.nodes.items()]
        write_ssh_config(self.home, block("gate", gate, *common), *blocks)

    def tell(self, name: str, script: str) -> None:
        (self.nodes[name].folder / "home" / "what").write_text(script)

    def close(self) -> None:
        for server in (self.frontend, *self.nodes.values()):
            server.close()


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crowd]:
    made = Crowd(tmp_path_factory.mktemp("crowd"))
    yield made
    made.close()


@pytest.fixture
def reach(crowd: Crowd, tmp_path: Path) -> Iterator[Reach]:
    known = tmp_path / "known_hosts"
    known.write_text(crowd.known)
    with Reach(crowd.home, known_hosts=known) as made:
        yield made


def on(
    crowd: Crowd, reach: Reach, names: list[str], command: str, tree_from: int, seconds: float = 180
) -> dict[str, Result | Problem]:
    return run_on(reach, names, crowd.user, command, soon(seconds), lambda name: "gate", tree_from)


def said(stdout: bytes, stderr: str = "", status: int = 0) -> Result:
    return Result(stdout.decode(errors="replace"), stderr, status, 0.0, stdout)


SAID = {
    "n1": ("printf 'a\\r\\nb\\0\\377 no newline'", said(b"a\r\nb\0\xff no newline")),
    "n2": ("echo out; printf err >&2; exit 3", said(b"out\n", "err", 3)),
    "n3": ("kill -9 $$", said(b"", status=-1)),
    "n4": ("exit 255", said(b"", status=255)),
    "n5": ('cat; echo %hosts "it\'s"', said(b"%hosts it's\n")),
    "n6": ("head -c 300000 /dev/zero | tr '\\0' x; sleep 0 & exit 0", said(b"x" * 300000)),
    "n7": (":", said(b"")),
    "n11": ("echo behind it", said(b"a word in front\nbehind it\n" if LOGIN_SHELL == "bash" else b"behind it\n")),
}


@pytest.mark.parametrize("tree_from", [NEVER, ALWAYS])
def test_an_answer_is_the_same_either_way(crowd: Crowd, reach: Reach, tree_from: int) -> None:
    for name, (script, _) in SAID.items():
        crowd.tell(name, script)
    wordy = crowd.nodes["n11"].folder / "home" / ".bashrc"
    wordy.write_text("echo a word in front\n")
    crowd.tell("n12", "exec cat /dev/zero")
    stranger, changed, gone = crowd.nodes["n8"], crowd.nodes["n9"], crowd.nodes["n10"]
    allowed = (stranger.folder / "authorized_keys").read_text()
    reach.pin("n9", gone.host_key)
    (stranger.folder / "authorized_keys").write_text("")
    gone.drop_next = 1_000_000
    try:
        answers = on(crowd, reach, [*SAID, "n8", "n9", "n10", "n12"], HERE, tree_from)
    finally:
        (stranger.folder / "authorized_keys").write_text(allowed)
        gone.drop_next = 0
        wordy.unlink()
    assert list(answers) == [*SAID, "n8", "n9", "n10", "n12"]
    for name, (_, expected) in SAID.items():
        answer = answers[name]
        assert isinstance(answer, Result), answer
        assert dataclasses.replace(answer, seconds=0.0) == expected, name
        assert 0 <= answer.seconds < 180
    others = [type(answers[name]) for name in ("n8", "n9", "n10", "n12")]
    assert others == [LoginRefused, HostKeyChanged, Unreachable, Overflow]
    assert "gives more than 16 MiB" in str(answers["n12"])
    assert changed.host_key != gone.host_key


def test_many_nodes_are_few_logins_on_the_frontend(crowd: Crowd, reach: Reach) -> None:
    before = crowd.frontend.connections
    answers = on(crowd, reach, list(crowd.nodes), 'echo "$HOME"', NODES)
    assert crowd.frontend.connections - before < NODES // 2  # two; a node that is slow to greet is asked directly
    for name, node in crowd.nodes.items():
        answer = answers[name]
        assert isinstance(answer, Result) and answer.stdout == f"{node.folder / 'home'}\n", answer
    cache = crowd.frontend.folder / "home" / ".cache" / "g5kdeploy"
    assert [path.suffix for path in cache.iterdir()] == [".pyz"], "ClusterShell is brought there once"


def test_who_was_never_seen_is_met_directly_and_pinned(crowd: Crowd, reach: Reach) -> None:
    reach.forget("n2")
    answers = on(crowd, reach, ["n1", "n2", "n3"], "echo here", 2)
    assert [getattr(answer, "stdout", answer) for answer in answers.values()] == ["here\n"] * 3
    assert [str(key) for key in reach.seen("n2")[1]] == [crowd.nodes["n2"].host_key]


# Says that it began, each time, and ends when the test is over
LONG = 'echo run >> "$HOME/begun"; while [ ! -e "$HOME/over" ]; do sleep 0.1; done'


@pytest.fixture
def begun(crowd: Crowd) -> Iterator[Path]:
    home = crowd.nodes["n1"].folder / "home"
    for name in ("begun", "over"):
        (home / name).unlink(missing_ok=True)
    yield home / "begun"
    (home / "over").touch()


@pytest.mark.parametrize("tree_from", [NEVER, ALWAYS])
@pytest.mark.parametrize("broken", ["node", "frontend"])
def test_a_command_that_began_is_not_begun_again(
    crowd: Crowd, reach: Reach, begun: Path, tree_from: int, broken: str
) -> None:
    cut = crowd.nodes["n1"] if broken == "node" else crowd.frontend

    def wait_and_cut() -> None:
        until(lambda: begun.exists() and begun.read_text() == "run\n", "the command begins")
        cut.cut()

    thread = threading.Thread(target=wait_and_cut)
    thread.start()
    answers = on(crowd, reach, ["n1"], LONG, tree_from)
    thread.join()
    assert isinstance(answers["n1"], ConnectionLost), answers
    assert begun.read_text() == "run\n"


@pytest.mark.parametrize("tree_from", [NEVER, ALWAYS])
def test_the_deadline_ends_it(crowd: Crowd, reach: Reach, begun: Path, tree_from: int) -> None:
    answers = on(crowd, reach, ["n1"], LONG, tree_from, seconds=4)
    assert isinstance(answers["n1"], DeadlinePassed), answers


PROGRAM = """
import sys
from pathlib import Path
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.node import Reach
from g5kdeploy.node.many import run_on

home, known, user, command = sys.argv[1:]
with Reach(Path(home), known_hosts=Path(known)) as reach:
    run_on(reach, ["n1"], user, command, Deadline.after(300, "it"), lambda name: "gate", 1)
"""


def test_an_interrupt_ends_all_of_it(crowd: Crowd, reach: Reach, begun: Path, tmp_path: Path) -> None:
    folder = tmp_path / "tmp"
    folder.mkdir()
    words = [sys.executable, "-c", PROGRAM, str(crowd.home), str(reach.known_hosts), crowd.user, LONG]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(folder)}
    with subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL) as running:
        until(begun.exists, "the command begins")
        running.send_signal(signal.SIGINT)
        assert running.wait(180) != 0
    until(lambda: not crowd.frontend.busy(), "the frontend is left")
    until(lambda: not crowd.nodes["n1"].busy(), "the node is left")
    assert list(folder.iterdir()) == [], "no agent stays"


def test_a_frontend_that_cannot_is_done_without(crowd: Crowd, reach: Reach, tmp_path: Path) -> None:
    bare = SshServer(tmp_path / "bare", crowd.key.with_suffix(".pub").read_text(), path="/nowhere")
    crowd.write(bare)
    try:
        with Reach(crowd.home, known_hosts=reach.known_hosts) as other:
            answers = on(crowd, other, ["n1", "n2"], "echo here", ALWAYS)
    finally:
        crowd.write(crowd.frontend)
        bare.close()
    assert [getattr(answer, "stdout", answer) for answer in answers.values()] == ["here\n"] * 2


def test_lent_keys_open_the_nodes_from_the_frontend_alone(crowd: Crowd, reach: Reach) -> None:
    reach.remote("gate", None).run("true", soon())  # its host key is known now
    keys, behind = reach.seen("gate", None)[1], reach.seen("n1")[1]
    options = (
        "-F",
        "none",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
    )
    with lent([crowd.key], ("gate", keys), crowd.user, behind, soon()) as agent:
        environ = {"SSH_AUTH_SOCK": str(agent)}

        def enter(name: str) -> list[str]:
            words = ("-o", "IdentityFile=none", "-p", str(crowd.nodes[name].port), f"{crowd.user}@127.0.0.1", "true")
            return ["ssh", *options, *words]

        def from_the_frontend(name: str) -> int:
            words = [*reach.ssh_command("gate", None, batch=True), shlex.join(enter(name))]
            words[1:1] = ["-o", f"ForwardAgent={agent}"]
            return process.run(words, soon(), env=environ, check=False).returncode

        assert from_the_frontend("n1") == 0
        assert from_the_frontend("n2") == 255
        assert process.run(enter("n1"), soon(), env=environ, check=False).returncode == 255


def test_what_a_frontend_says_runs_nothing() -> None:
    message = StdOutMessage("n1", b"plain", 1)
    assert tree._plain(message) == b"plain"
    message.data_encode(io.BytesIO)
    with pytest.raises(MessageProcessingError, match=r"_io\.BytesIO"):
        tree._plain(message)
