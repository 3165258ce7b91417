"""Closures made by real Nix out of a composition made up on the spot; pushed to a real sshd, pulled over HTTP, refused."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from g5kdeploy.base import debian
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.boot import Source, pull
from g5kdeploy.boot.problems import BootFailed, CacheUnreachable, NoRoom, PathTampered, SignatureRefused
from g5kdeploy.closure import Bundle, Manifest, build, push, push_bundle, signing_key
from g5kdeploy.closure.narinfo import Narinfo, name_of
from g5kdeploy.events.event import Emitter, Event, State
from g5kdeploy.events.failure import InvalidUse
from g5kdeploy.node import Reach, Remote
from tests.support.closures import Frontend, Web, compose, missing, shared_cache

pytestmark = [
    pytest.mark.skipif(bool(missing()), reason=f"needs {missing()}"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the store is /nix"),
    pytest.mark.timeout(1200),
]


def soon() -> Deadline:
    return Deadline.after(900, "a test")


@dataclass
class Made:
    """A composition, what was built of it, and the site that it was pushed to."""

    home: Path
    composition: Path
    manifest: Manifest
    frontend: Frontend
    reach: Reach
    source: Source

    @property
    def cache(self) -> Path:
        return self.frontend.public / "g5kdeploy" / "cache"

    @property
    def node(self) -> Remote:
        """This very machine plays the node: it pulls into a folder of its own."""
        return self.reach.remote("frontend", None)

    @property
    def small(self) -> str:
        """The path that is the role's own: no references, a few kilobytes."""
        return next(path for path in self.manifest.paths if path.endswith("-role-made"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp("closure")
    with pytest.MonkeyPatch.context() as patch:
        home = shared_cache(folder / "home")
        patch.setenv("G5KDEPLOY_HOME", str(home))
        composition = compose(folder / "composition", "first")
        manifest = build(composition, None, soon(), Emitter())
        frontend = Frontend(folder)
        try:
            with Reach(frontend.client) as reach:
                remote = reach.remote("frontend", None)
                pushed = push(manifest, ["made"], remote, soon(), Emitter())
                bundle = push_bundle(remote, soon(), Emitter())
                source = Source(f"http://127.0.0.1:{frontend.web.port}", pushed.path, bundle, pushed.public_key)
                yield Made(home, composition, manifest, frontend, reach, source)
        finally:
            frontend.close()


@pytest.fixture(autouse=True)
def _home(_guards: None, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G5KDEPLOY_HOME", str(made.home))
    monkeypatch.setattr(pull, "RUN", str(tmp_path / "run"))
    monkeypatch.setattr(pull, "SCRATCH", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()


def test_a_composition_becomes_a_system_in_nixos_shape(made: Made) -> None:
    role = made.manifest.roles["made"]
    top = Path(role.toplevel)
    for part in ("init", "kernel", "initrd", "kernel-params", "system", "nixos-version", "kernel-modules"):
        assert (top / part).exists(), part
    assert role.release.endswith("-cloud-amd64")
    assert set(made.manifest.closure("made")) <= set(made.manifest.paths)
    assert made.manifest.built["lock"]["systemd"]["sha256"]
    own = Path(made.small)
    assert (own / "etc/made-up").read_text() == "first\n"
    assert os.access(own / "usr/bin/made-up-script", os.X_OK)
    assert "ExecStart=/usr/bin/made-up\n" in (own / "etc/systemd/system/made-up.service").read_text()
    said = subprocess.run(
        ["nix-store", "--verify-path", made.small, role.toplevel], capture_output=True, text=True, timeout=600
    )
    assert said.returncode == 0, said.stderr


def test_nothing_is_built_again_and_a_change_moves_two_paths(made: Made, tmp_path: Path) -> None:
    events: list[Event] = []
    again = build(made.composition, None, soon(), Emitter(sinks=[events.append]))
    assert again == made.manifest
    assert [event.state for event in events] == [State.SKIPPED]
    other = build(compose(tmp_path / "composition", "second"), ["made"], soon(), Emitter())
    new = set(other.paths) - set(made.manifest.paths)
    assert len(new) == 2, "the role's own path and the toplevel"
    assert other.roles["made"].toplevel in new


def test_mistakes_in_a_composition_are_told(made: Made, tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="no role nonesuch"):
        build(made.composition, ["nonesuch"], soon(), Emitter())
    broken = compose(tmp_path / "composition", "x")
    (broken / "roles.nix").write_text("{ roles.made = ")
    with pytest.raises(InvalidUse, match="cannot be evaluated") as caught:
        build(broken, None, soon(), Emitter())
    assert "syntax error" in caught.value.cause


def test_a_second_push_sends_nothing_and_a_damaged_archive_is_sent_again(made: Made) -> None:
    info = Narinfo.load(made.cache / name_of(made.small))
    assert info.signers == (made.source.public_key.partition(":")[0],)
    remote = made.node
    assert push(made.manifest, ["made"], remote, soon(), Emitter()).paths == 0
    archive = made.cache / info.url
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    pushed = push(made.manifest, ["made"], remote, soon(), Emitter())
    assert pushed.paths == 1
    assert archive.read_bytes() == whole
    assert not list(made.cache.glob(".incoming*"))


def test_two_pushes_at_once_leave_a_whole_cache(made: Made) -> None:
    shutil.rmtree(made.cache)

    def one(_: int) -> str:
        return push(made.manifest, ["made"], made.node, soon(), Emitter()).path

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert len(set(pool.map(one, range(2)))) == 1
    found = [Narinfo.load(path) for path in made.cache.glob("*.narinfo")]
    assert {info.name for info in found} == {name_of(path) for path in made.manifest.closure("made")}
    assert all((made.cache / info.url).stat().st_size == info.file_size for info in found)


def test_the_signing_key_is_one_and_only_its_owner_reads_it(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("G5KDEPLOY_HOME", str(made.home.parent / "another"))
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(lambda _: signing_key(soon()), range(4)))
    assert len({key.public for key in keys}) == 1
    assert keys[0].secret.stat().st_mode & 0o777 == 0o600
    assert keys[0].public != made.source.public_key


def test_a_node_pulls_what_is_signed_with_the_nix_that_it_was_brought(made: Made) -> None:
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    top = made.manifest.roles["made"].toplevel
    pull.pull(made.node, top, made.manifest.closure("made"), made.source, bundle, made.manifest.size("made"), soon())
    there = Path(f"{pull.SCRATCH}{made.small}/etc/made-up")
    assert there.read_text() == "first\n"
    requests = made.frontend.public / "requests.log"
    before = requests.read_text()
    pull.pull(made.node, top, made.manifest.closure("made"), made.source, bundle, made.manifest.size("made"), soon())
    assert ".nar" not in requests.read_text().removeprefix(before).replace(".narinfo", ""), "nothing is fetched twice"
    said = subprocess.run([f"{bundle}/bin/kexec", "--version"], capture_output=True, text=True, timeout=60)
    assert "kexec" in said.stdout + said.stderr


def _spoil(made: Made, how: str) -> None:
    """Do to the cache what a bad disk or a bad person does."""
    narinfo = made.cache / name_of(made.small)
    archive = made.cache / Narinfo.load(narinfo).url
    lines = narinfo.read_text().splitlines(keepends=True)
    if how == "unsigned":
        narinfo.write_text("".join(line for line in lines if not line.startswith("Sig:")))
    elif how == "another hash":
        text = "".join(lines)
        right = next(line for line in lines if line.startswith("NarHash:"))
        narinfo.write_text(text.replace(right, f"NarHash: sha256:{'0' * 52}\n"))
    elif how == "tampered":
        plain = subprocess.run(["zstd", "-dqc", archive], check=True, capture_output=True, timeout=60).stdout
        evil = plain.replace(b"first", b"worst")
        assert evil != plain
        archive.write_bytes(subprocess.run(["zstd", "-qc"], input=evil, check=True, capture_output=True).stdout)
    elif how == "cut":
        archive.write_bytes(archive.read_bytes()[:-20])
    elif how == "gone":
        archive.unlink()
    elif how == "no description":
        narinfo.unlink()
    else:
        raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "kind"),
    [
        ("unsigned", SignatureRefused),
        ("another hash", SignatureRefused),
        ("tampered", PathTampered),
        ("cut", PathTampered),
        ("gone", CacheUnreachable),
        ("no description", CacheUnreachable),
    ],
)
def test_a_spoilt_path_does_not_get_onto_a_node(made: Made, how: str, kind: type[BootFailed]) -> None:
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    kept = {path: path.read_bytes() for path in made.cache.glob("*.narinfo") if path.name == name_of(made.small)}
    archive = made.cache / Narinfo.load(made.cache / name_of(made.small)).url
    kept[archive] = archive.read_bytes()
    try:
        _spoil(made, how)
        with pytest.raises(kind) as caught:
            pull.pull(made.node, made.small, [made.small], made.source, bundle, 1, soon())
        assert caught.value.cause and caught.value.hint
        valid = [f"{bundle}/bin/nix", "path-info", "--store", pull.SCRATCH, made.small]
        assert debian.nix(valid, soon(), check=False).returncode != 0, "the node's store does not know the path"
    finally:
        for path, content in kept.items():
            path.write_bytes(content)
    pull.pull(made.node, made.small, [made.small], made.source, bundle, 1, soon())
    assert Path(f"{pull.SCRATCH}{made.small}/etc/made-up").read_text() == "first\n"


def test_a_key_that_signed_nothing_lets_nothing_in(made: Made) -> None:
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    stranger = f"{made.source.public_key.partition(':')[0]}:{'A' * 43}="
    source = Source(made.source.web, made.source.cache, made.source.bundle, stranger)
    with pytest.raises(SignatureRefused, match="no trusted signature"):
        pull.pull(made.node, made.small, [made.small], source, bundle, 1, soon())


def test_a_closure_larger_than_the_scratch_partition_is_refused_before_it_is_pulled(made: Made) -> None:
    with pytest.raises(NoRoom, match="the closure needs"):
        pull.pull(made.node, made.small, [made.small], made.source, "/nowhere", 10**15, soon())


def test_a_bundle_that_is_not_ours_or_not_there_is_refused(made: Made, tmp_path: Path) -> None:
    bundle = made.source.bundle
    wrong = Source(made.source.web, made.source.cache, Bundle(bundle.path, "0" * 64), made.source.public_key)
    with pytest.raises(PathTampered):
        pull.fetch_bundle(made.node, wrong, soon())
    absent = Source(made.source.web, made.source.cache, Bundle("~u/none", "1" * 64), made.source.public_key)
    with pytest.raises(CacheUnreachable, match=r"~u/none"):
        pull.fetch_bundle(made.node, absent, soon())
    assert not list((tmp_path / "run").glob("bundle-*/.whole"))


def test_a_cache_that_is_away_is_told_with_its_url(made: Made, tmp_path: Path) -> None:
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    web = Web(tmp_path / "web")
    web.close()
    source = Source(f"http://127.0.0.1:{web.port}", made.source.cache, made.source.bundle, made.source.public_key)
    with pytest.raises(CacheUnreachable) as caught:
        pull.pull(made.node, made.small, [made.small], source, bundle, 1, soon())
    assert str(web.port) in str(caught.value)


def test_every_path_of_the_manifest_has_the_hash_that_nix_knows(made: Made) -> None:
    said = debian.nix(["nix", "path-info", "--json", made.small], soon()).stdout
    (info,) = json.loads(said)
    assert made.manifest.paths[made.small].nar_hash == info["narHash"]


def in_scratch(made: Made, scratch: Path) -> Path:
    return scratch / made.small.removeprefix("/")


def test_a_store_that_another_left_on_the_scratch_partition_is_verified(made: Made, tmp_path: Path) -> None:
    """Signatures are checked when a path is fetched: what lies there already could be anybody's."""
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    mine = replace(made.source, owner="mine")
    pull.pull(made.node, made.small, [made.small], mine, bundle, 1, soon())
    place = in_scratch(made, tmp_path / "scratch")
    pulled = place.stat().st_ino
    away = replace(made.source, owner="second", web="http://127.0.0.1:9")
    pull.pull(made.node, made.small, [made.small], away, bundle, 1, soon())
    assert place.stat().st_ino == pulled, "what holds is kept, and the cache not asked"
    with pytest.raises(CacheUnreachable):
        pull.pull(
            made.node, made.small, [made.small, f"{made.small}-more"], replace(away, owner="x"), bundle, 1, soon()
        )
    forged = place / "forged"
    place.chmod(0o755)
    forged.write_text("not what was signed")
    pull.pull(made.node, made.small, [made.small], replace(made.source, owner="x"), bundle, 1, soon())
    assert forged.exists(), "the same run's own store is its own"
    pull.pull(made.node, made.small, [made.small], replace(made.source, owner="third"), bundle, 1, soon())
    assert not forged.exists()
    assert place.is_dir()


def test_a_store_whose_database_vouches_for_what_nobody_signed_is_removed(made: Made, tmp_path: Path) -> None:
    """Root of the job before could write anything there: hashes that fit, and a mark that Nix trusts its own builds by."""
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    pull.pull(made.node, made.small, [made.small], replace(made.source, owner="mine"), bundle, 1, soon())
    place = in_scratch(made, tmp_path / "scratch")
    place.chmod(0o755)
    (place / "forged").write_text("not what was signed")
    said = debian.nix(["nix", "hash", "path", "--base16", "--type", "sha256", str(place)], soon()).stdout.strip()
    with contextlib.closing(sqlite3.connect(tmp_path / "scratch/nix/var/nix/db/db.sqlite")) as database, database:
        database.execute("update ValidPaths set ultimate = 1, hash = ?", (f"sha256:{said}",))
    pull.pull(made.node, made.small, [made.small], replace(made.source, owner="another"), bundle, 1, soon())
    assert not (place / "forged").exists()


def test_a_store_that_leaves_no_room_is_removed(made: Made, tmp_path: Path) -> None:
    bundle = pull.fetch_bundle(made.node, made.source, soon())
    pull.pull(made.node, made.small, [made.small], made.source, bundle, 1, soon())
    other = f"/nix/store/{'0' * 32}-other"
    with pytest.raises(NoRoom, match="left"):
        pull.pull(made.node, other, [made.small, other], made.source, bundle, 10**15, soon())
    assert not in_scratch(made, tmp_path / "scratch").exists()
