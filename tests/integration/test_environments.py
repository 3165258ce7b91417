"""Environments of one's own get onto the frontend once, and what the site cannot fetch is seen before kadeploy is asked."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import Reach
from g5kdeploy.testbed.environments import EnvironmentUnreachable, check_reachable, publish, read
from tests.support.closures import Frontend
from tests.support.sshd import SSHD

pytestmark = pytest.mark.skipif(not (SSHD and shutil.which("curl")), reason="needs sshd and curl")

DESCRIBED: dict[str, Any] = {
    "name": "own",
    "version": 3,
    "os": "linux",
    "image": {"file": "image.tar.zst", "kind": "tar", "compression": "zstd"},
    "postinstalls": [{"archive": "local://post.tgz", "compression": "gzip", "script": "run.sh"}],
    "boot": {"kernel": "/vmlinuz", "initrd": "/initrd.img"},
    "filesystem": "ext4",
}


def soon() -> Deadline:
    return Deadline.after(120, "the frontend")


@pytest.fixture
def frontend(tmp_path: Path) -> Iterator[Frontend]:
    made = Frontend(tmp_path / "site")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def reach(frontend: Frontend) -> Iterator[Reach]:
    with Reach(frontend.client) as made:
        yield made


def write(folder: Path, described: Any = DESCRIBED) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "image.tar.zst").write_bytes(b"an archive")
    (folder / "post.tgz").write_bytes(b"another one")
    file = folder / "my env.yaml"
    file.write_text(described if isinstance(described, str) else yaml.safe_dump(described))
    return file


def test_what_is_there_is_not_sent_again(frontend: Frontend, reach: Reach, tmp_path: Path) -> None:
    events: list[Event] = []
    emit = Emitter(sinks=[events.append])
    file = write(tmp_path / "env")
    web = f"http://127.0.0.1:{frontend.web.port}"

    def send() -> tuple[str, str]:
        url = publish(read(file), reach.remote("frontend", None), web, soon(), emit)
        return url, next(event.detail for event in reversed(events) if event.state is State.OK)

    url, said = send()
    assert url.startswith(f"{web}/~{frontend.sshd.user}/g5kdeploy/environments/") and url.endswith("-my_env.yaml")
    assert said == "own, 21 B"
    there = frontend.public / "g5kdeploy" / "environments"
    described = yaml.safe_load((there / url.rpartition("/")[2]).read_text())
    assert described["boot"] == DESCRIBED["boot"] and described["version"] == 3
    image, post = described["image"]["file"], described["postinstalls"][0]["archive"]
    assert (there / image.rpartition("/")[2]).read_bytes() == b"an archive"
    assert (there / post.rpartition("/")[2]).read_bytes() == b"another one"
    for path in (there, *there.iterdir()):
        assert path.stat().st_mode & 0o044 == 0o044, path  # the web server is somebody else
    check_reachable(url, reach.remote("frontend", None), soon(), emit)

    assert send() == (url, "own is there")
    stamp = read(file).stamp()
    (tmp_path / "env" / "image.tar.zst").write_bytes(b"an archive that changed")
    assert read(file).stamp() != stamp
    other, said = send()
    assert other != url and said == "own, 23 B"


def test_an_upload_that_was_cut_is_sent_again(frontend: Frontend, reach: Reach, tmp_path: Path) -> None:
    file = write(tmp_path / "env")
    send = lambda: publish(read(file), reach.remote("frontend", None), "http://web", soon(), Emitter())  # noqa: E731
    send()
    (image,) = (frontend.public / "g5kdeploy" / "environments").glob("*-image.tar.zst")
    image.write_bytes(b"an ar")
    send()
    assert image.read_bytes() == b"an archive"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("- a\n- list\n", "describes no environment"),
        ("name: [", "not valid YAML"),
        ("\x00", "describes no environment"),
        ({"name": None}, "no `name`"),
        ({"image": {}}, r"no `image\.file`"),
        ({"os": None}, "`os` must be linux, xen, other"),
        ({"image": {**DESCRIBED["image"], "file": "none.tgz"}}, "the file `none.tgz` is not there"),
        ({"image": {"file": "image.tar.zst", "kind": "iso"}}, "`image.kind` must be tar, dd, fsa"),
        ({"image": {"file": "image.tar.zst", "kind": "tar"}}, "`image.compression` must be gzip, bzip2"),
        ({"filesystem": None}, "no `filesystem`"),
        ({"boot": None}, r"no `boot\.kernel`"),
    ],
)
def test_descriptions_that_describe_nothing(tmp_path: Path, change: Any, words: str) -> None:
    described = change if isinstance(change, str) else {**DESCRIBED, **change}
    with pytest.raises(InvalidUse) as caught:
        read(write(tmp_path / "env", described))
    assert words.replace("\\", "") in f"{caught.value.what} {caught.value.cause}"


def test_a_description_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="cannot be read"):
        read(tmp_path / "none.yaml")


def test_what_the_site_cannot_fetch_is_told_before_it_is_asked(frontend: Frontend, reach: Reach) -> None:
    web = f"http://127.0.0.1:{frontend.web.port}/~me"
    remote = reach.remote("frontend", None)

    def look(name: str, described: Any) -> None:
        if described is not None:
            text = described if isinstance(described, str) else yaml.safe_dump(described)
            (frontend.public / name).write_text(text)
        check_reachable(f"{web}/{name}", remote, soon(), Emitter())

    (frontend.public / "there.tgz").write_bytes(b"x")
    look("good.yaml", {"name": "own", "image": {"file": f"{web}/there.tgz"}})
    look("sites.yaml", {"name": "own", "image": {"file": "server:///grid5000/images/x.tar.zst"}})
    with pytest.raises(EnvironmentUnreachable, match="the site cannot fetch the environment") as caught:
        look("none.yaml", None)
    assert "404" in caught.value.cause
    with pytest.raises(EnvironmentUnreachable, match="is no description"):
        look("page.yaml", "<html>\n<p>404: not found</p>")
    with pytest.raises(EnvironmentUnreachable, match=r"which the environment .* names"):
        look("gone.yaml", {"name": "own", "image": {"file": f"{web}/gone.tgz"}})
    with pytest.raises(EnvironmentUnreachable, match="names a file that the site cannot fetch"):
        look("local.yaml", {"name": "own", "image": {"file": "local://image.tgz"}})
    with pytest.raises(EnvironmentUnreachable, match="the site cannot fetch"):
        check_reachable("http://127.0.0.1:9/none.yaml", remote, soon(), Emitter())
