"""Deployments: what is refused, their states and results, and what survives a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from g5kdeploy.base.clock import Clock
from g5kdeploy.lab.deployments import FORGOTTEN, Deployment, Deployments, NotDeployable, Report, scheme_of
from g5kdeploy.lab.description import BadDescription, checked
from g5kdeploy.lab.kaenv import Environments, environment
from g5kdeploy.lab.site.deployer import refusal

NODES = ["vm-1.lab.grid5000.fr", "vm-2.lab.grid5000.fr"]


class Hands:
    """A deployer that a test moves."""

    def __init__(self) -> None:
        self.reports: dict[str, Report] = {}
        self.cancelled: list[str] = []

    def start(self, deployment: Deployment, report: Report) -> None:
        self.reports[deployment.uid] = report

    def cancel(self, uid: str) -> None:
        self.cancelled.append(uid)


class Time:
    now = 1000.0


@pytest.fixture
def hands() -> Hands:
    return Hands()


@pytest.fixture
def kept(tmp_path: Path, hands: Hands) -> Iterator[Deployments]:
    made = deployments(tmp_path, hands)
    yield made
    made.close()


def deployments(folder: Path, hands: Hands, end_hook: bool = True) -> Deployments:
    pages = {
        "http://public.lab/~jdoe/env.yaml": b"name: mine\nos: linux\nfilesystem: ext4\nboot: {kernel: /vmlinuz}\n"
        b"image: {file: http://x/y.tar, kind: tar, compression: gzip}\n",
        "http://public.lab/~jdoe/wrong.yaml": b"name: mine\nos: linux\nimage: {file: http://x/y.tar, kind: iso}\n",
        "http://public.lab/~jdoe/nothing": b"<html>404</html>",
        "http://public.lab/~jdoe/k.pub": b"ssh-rsa AAAA\n",
    }

    def fetch(url: str) -> bytes:
        if url not in pages:
            raise OSError("SocketError, no such host")
        return pages[url]

    return Deployments(
        folder / "deployments.sqlite",
        hands,
        Environments([environment("debian12-min", "server:///x.tar.zst")]),
        rights=lambda user, nodes: user == "jdoe" and set(nodes) <= set(NODES),
        fetch=fetch,
        refuses=refusal,
        end_hook=end_hook,
        clock=Clock(wall=lambda: Time.now),
    )


def wanted(**more: object) -> Deployment:
    fields: dict[str, object] = {"uid": "", "site_uid": "lab", "user_uid": "jdoe", "environment": "debian12-min"}
    return Deployment(**{**fields, "nodes": list(NODES), **more})  # type: ignore[arg-type]


def launch(kept: Deployments, **more: object) -> Deployment:
    return kept.launch(wanted(**more), "https://api/files")


def status(kept: Deployments, one: Deployment) -> str:
    found = kept.get(one.uid)
    assert found is not None
    return found.status


def test_a_deployment_ends_when_all_nodes_have(kept: Deployments, hands: Hands) -> None:
    one = launch(kept)
    assert one.status == "processing" and one.result is None
    report = hands.reports[one.uid]
    report(NODES[0], "BroadcastEnv", None, "send_image")
    report(NODES[0], "BootNewEnv", True, "")
    assert status(kept, one) == "processing"
    report(NODES[1], "BootNewEnv", False, "no answer")
    report(NODES[1], "BootNewEnv", True, "too late")
    found = kept.get(one.uid.lower())
    assert found is not None and found.status == "terminated" and found.result is not None
    assert found.result[NODES[0]] == {"macro": None, "micro": None, "state": "OK"}
    assert found.result[NODES[1]]["state"] == "KO" and found.result[NODES[1]]["error"] == "no answer"


def test_without_the_hook_only_a_refresh_shows_anything(tmp_path: Path, hands: Hands) -> None:
    kept = deployments(tmp_path, hands, end_hook=False)
    one = launch(kept, nodes=NODES[:1])
    hands.reports[one.uid](NODES[0], "BootNewEnv", True, "")
    found = kept.get(one.uid)
    assert found is not None and found.status == "processing" and found.result is None
    kept.refresh(one.uid)
    assert status(kept, one) == "terminated"
    kept.close()


def test_a_broken_workflow_is_processing_for_ever(kept: Deployments, hands: Hands) -> None:
    one = launch(kept)
    hands.reports[one.uid]("", "BroadcastEnv", False, "kascade died")
    kept.refresh(one.uid)
    assert status(kept, one) == "processing"


def test_what_ran_is_forgotten_after_a_restart(tmp_path: Path, hands: Hands) -> None:
    kept = deployments(tmp_path, hands)
    one = launch(kept)
    kept.close()
    for node in NODES:
        hands.reports[one.uid](node, "BootNewEnv", True, "")  # nobody listens any more
    again = deployments(tmp_path, hands)
    assert status(again, one) == "processing"
    again.refresh(one.uid)
    found = again.get(one.uid)
    assert found is not None and found.status == "error" and found.output == FORGOTTEN
    again.close()


def test_cancelling(kept: Deployments, hands: Hands) -> None:
    one = launch(kept)
    kept.cancel(one.uid)
    kept.cancel(one.uid)
    assert status(kept, one) == "canceled" and hands.cancelled == [one.uid]
    launch(kept)  # its nodes are free again


def test_lists(kept: Deployments, hands: Hands) -> None:
    first = launch(kept, nodes=NODES[:1])
    Time.now += 5
    second = launch(kept, nodes=NODES[1:])
    assert [one.uid for one in kept.every()] == [second.uid, first.uid]
    assert [one.uid for one in kept.every(oldest_first=True)] == [first.uid, second.uid]
    kept.cancel(first.uid)
    assert [one.uid for one in kept.every(statuses=["Canceled"])] == [first.uid]
    assert kept.every(users=["nobody"]) == []


@pytest.mark.parametrize(
    ("fields", "code", "text"),
    [
        ({"user_uid": "asmith"}, 400, "sufficient rights"),
        ({"nodes": ["vm-9.lab.grid5000.fr"]}, 400, "sufficient rights"),
        ({"block_device": "disk1"}, 400, "sufficient rights .* -- deployment on partition disk1DEPLOY"),
        ({"block_device": "disk0", "partition_label": "TMP"}, 400, "deployment on partition disk0TMP"),
        ({"environment": "nope"}, 400, "environment nope::: does not exist"),
        ({"environment": "a b"}, 500, 'bad URI\\(is not URI\\?\\): "a b"'),
        ({"environment": "foo:bar"}, 500, "foo protocol not supported yet"),
        ({"environment": "http://public.lab/~jdoe/nothing"}, 500, "IndexError, string not matched"),
        ({"environment": "http://public.lab/~jdoe/wrong.yaml"}, 400, "Invalid value 'iso', allowed values are: 'tar'"),
        ({"environment": "http://elsewhere/x"}, 500, "SocketError, no such host"),
        ({"environment": "x" * 256}, 500, "Data too long"),
        ({"key": "http://elsewhere/k"}, 400, "Invalid file"),
    ],
)
def test_refusals(kept: Deployments, hands: Hands, fields: dict[str, object], code: int, text: str) -> None:
    with pytest.raises(NotDeployable, match=text) as caught:
        launch(kept, **fields)
    assert caught.value.status == code
    assert not hands.reports and kept.every() == []


def test_nodes_that_are_being_deployed_are_refused_unless_forced(kept: Deployments) -> None:
    launch(kept)
    with pytest.raises(NotDeployable, match="already deploying"):
        launch(kept)
    launch(kept, ignore_nodes_deploying=True)


def test_one_of_two_that_come_at_once_is_refused(kept: Deployments, hands: Hands) -> None:
    """The second comes while the key of the first is fetched."""
    fetch = kept.fetch

    def slowly(url: str) -> bytes:
        kept.fetch = fetch
        launch(kept)
        return fetch(url)

    kept.fetch = slowly
    with pytest.raises(NotDeployable, match="already deploying"):
        launch(kept, key="http://public.lab/~jdoe/k.pub")
    assert len(hands.reports) == len(kept.every()) == 1


def test_keys_and_descriptions_reach_the_deployer(kept: Deployments) -> None:
    one = launch(kept, key="ssh-ed25519 AAAA me", environment="http://public.lab/~jdoe/env.yaml", nodes=NODES[:1])
    assert one.keys == "ssh-ed25519 AAAA me" and one.description["name"] == "mine"
    assert one.key is not None and kept.files[one.key.rsplit("/", 1)[1]] == "ssh-ed25519 AAAA me"
    assert launch(kept, key="http://public.lab/~jdoe/k.pub", nodes=NODES[1:]).keys == "ssh-rsa AAAA\n"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"name": None}, "The field is mandatory [field: name]"),
        ({"os": "minix"}, "Invalid value 'minix', allowed values are: 'linux', 'xen' or 'other' [field: os]"),
        ({"version": True}, "The field should have the type Integer [field: version]"),
        ({"image": None}, "The field is mandatory [field: image]"),
        ({"image": "a.tgz"}, "The field has to be a Hash [field: image]"),
        ({"image": {"file": "x", "kind": "tar"}}, "The field is mandatory [field: image/compression]"),
        ({"postinstalls": {}}, "The field should have the type Array [field: postinstalls]"),
        ({"postinstalls": ["x"]}, "The field has to be a Hash [field: postinstalls/0/archive]"),
        ({"boot": {}}, "The field 'kernel' is mandatory for OS linux with the 'tar' image kind"),
        ({"filesystem": None}, "The field 'filesystem' is mandatory for OS linux with the 'tar' image kind"),
    ],
)
def test_what_kadeploy_minds_in_a_description(change: dict[str, object], text: str) -> None:
    described = {
        "name": "own",
        "os": "linux",
        "image": {"file": "http://x/y.tgz", "kind": "tar", "compression": "gzip"},
        "postinstalls": [{"archive": "http://x/p.tgz", "compression": "gzip"}],
        "boot": {"kernel": "/vmlinuz"},
        "filesystem": "ext4",
    }
    full = checked(described)
    assert (full["version"], full["arch"], full["visibility"]) == (1, "x86_64", "private")
    assert full["postinstalls"] == [{"archive": "http://x/p.tgz", "compression": "gzip", "script": "none"}]
    with pytest.raises(BadDescription) as caught:
        checked({**described, **change})
    assert str(caught.value) == f"Error[environment description] {text}"


def test_what_is_a_url() -> None:
    assert scheme_of("http://x/y") == "http"
    assert scheme_of("debian12-min") == scheme_of("ssh-rsa AAAA a:b") == ""
