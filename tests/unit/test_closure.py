"""Locks, manifests, narinfos, and the hash of a build's inputs: all that needs neither Nix nor nodes."""

from __future__ import annotations

import itertools
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from g5kdeploy.base import apt, debian, folders, process
from g5kdeploy.base.data import data
from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.files import write_json
from g5kdeploy.base.problem import Problem
from g5kdeploy.closure import Manifest, PathInfo, RoleClosure, build
from g5kdeploy.closure.cache import _is_missing
from g5kdeploy.closure.narinfo import Narinfo, name_of
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import InvalidUse

STORE = "/nix/store"
TOP = f"{STORE}/{'a' * 32}-nixos-system-r"
LEAF = f"{STORE}/{'b' * 32}-leaf"


def soon() -> Deadline:
    return Deadline.after(60, "a test")


def manifest() -> Manifest:
    role = RoleClosure(TOP, f"{LEAF}/bzImage", f"{LEAF}/initrd", f"{TOP}/init", "quiet", "6.1.0", ("statx",))
    paths = {
        TOP: PathInfo("sha256:1", 100, (LEAF,)),
        LEAF: PathInfo("sha256:2", 20, ()),
        f"{STORE}/{'c' * 32}-other": PathInfo("sha256:3", 5, ()),
    }
    return Manifest("x86_64-linux", "local-store", {"r": role}, paths, {"lock": {"p": {"version": "1"}}})


# ---- the lock ------------------------------------------------------------------------------------------------------


def test_what_apt_would_install_is_read_from_its_simulation() -> None:
    said = """Reading package lists...
Inst libc6 (2.36-9 Debian:12/stable [amd64])
Inst bash (5.2-1+b1 Debian:12/stable [amd64]) [extra ]
Conf libc6 (2.36-9 Debian:12/stable [amd64])
"""
    assert apt.installed(said) == [("bash", "5.2-1+b1"), ("libc6", "2.36-9")]


def test_a_closure_is_reduced_unless_a_package_was_named() -> None:
    packages = [("adduser", "1"), ("fonts-x", "1"), ("libc6", "1"), ("libjs-y", "1"), ("usr-is-merged", "1")]
    reduced = apt.reduced(packages, {"libjs-y"}, {"adduser"}, ["libjs-", "fonts-"])
    assert reduced == [("libc6", "1"), ("libjs-y", "1")]
    assert apt.reduced(packages, {"adduser"}, {"adduser"}, []) != reduced


def test_packages_are_described_by_name_and_version() -> None:
    shown = """Package: a
Version: 1:2.0~rc1
Filename: pool/main/a/a_2.0~rc1_amd64.deb
Size: 12
SHA256: aa

Package: a
Version: 1:1.0
Filename: pool/main/a/a_1.0_amd64.deb
Size: 11
SHA256: bb
Description: text
 Version: 3
"""
    found = apt.describe(shown)
    assert found["a", "1:2.0~rc1"] == {"sha256": "aa", "size": 12, "file": "a_2.0~rc1_amd64.deb"}
    assert found["a", "1:1.0"]["sha256"] == "bb"


PLAN: dict[str, Any] = {
    "scriptsOnly": [],
    "webOnly": [],
    "roles": {"r": {"packages": ["a"], "kernel": "linux-image-amd64", "without": [], "count": 1}},
}


class Mirror:
    """Stands in for apt: answers its three questions from a made-up archive, and counts them."""

    def __init__(self, version: str = "1") -> None:
        self.version = version
        self.mirrors = ["http://mirror.example/debian/"] * 2  # for the release, and for its updates
        self.asked: list[str] = []

    def __call__(self, argv: list[str], deadline: Deadline, *, cwd: Path | None = None, **_: Any) -> process.Done:
        program = next(word for word in argv if word in ("update", "install", "show", "download", "indextargets"))
        self.asked.append(program)
        words = argv[argv.index(program) + 1 :]
        names = [word.partition("=")[0] for word in words if not word.startswith("-")]
        said = ""
        if program == "install":
            installs = ["linux-image-6.1.0-1-amd64"] if names == ["linux-image-amd64"] else names
            said = "".join(f"Inst {name} ({self.version} Debian [amd64])\n" for name in installs)
        elif program == "show":
            said = "\n\n".join(
                f"Package: {n}\nVersion: {self.version}\nFilename: pool/{n}_{self.version}_amd64.deb\nSize: 3\nSHA256: 00"
                for n in names
            )
        elif program == "download":
            assert cwd is not None
            gone = [word for word in words if "=" in word and not word.endswith(f"={self.version}")]
            if gone:
                raise process.CommandFailed(process.Done(tuple(argv), 100, "", f"E: not found: {gone}", 0.1))
            for name in names:
                (cwd / f"{name}_{self.version}_amd64.deb").write_text("deb")
        elif program == "indextargets":
            said = "".join(f"{mirror}\n" for mirror in self.mirrors)
        return process.Done(tuple(argv), 0, said, "", 0.1)


def test_a_plan_is_resolved_once_and_then_taken_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    monkeypatch.setattr(apt, "run", mirror)
    one = apt.Apt(tmp_path).lock(PLAN, soon())
    assert mirror.asked.count("update") == 1
    lock = debian.files.read_json(one)
    assert lock["roles"]["r"] == {"kernel": "linux-image-6.1.0-1-amd64", "packages": ["a"]}
    assert "http" not in one.read_text()
    asked = len(mirror.asked)
    assert apt.Apt(tmp_path).lock(PLAN, soon()) == one
    assert len(mirror.asked) == asked, "nothing is asked of the network for a known plan"
    other = {**PLAN, "roles": {"r": {**PLAN["roles"]["r"], "packages": ["a", "b"]}}}
    assert apt.Apt(tmp_path).lock(other, soon()) != one
    assert mirror.asked.count("update") == 1, "the index is fresh for a day"


def test_another_release_comes_from_the_machines_own_mirrors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    monkeypatch.setattr(apt, "run", mirror)
    apt.Apt(tmp_path, "trixie").lock(PLAN, soon())
    (source,) = (tmp_path / "sources.list").read_text().splitlines()
    assert source.startswith("deb [signed-by=") and source.endswith("] http://mirror.example/debian/ trixie main")


def test_another_release_where_the_machine_has_no_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    mirror.mirrors = []
    monkeypatch.setattr(apt, "run", mirror)
    with pytest.raises(Problem, match="release trixie is not to be had") as told:
        apt.Apt(tmp_path, "trixie").lock(PLAN, soon())
    assert "no mirror of Debian itself" in told.value.cause and "apt-get update" in told.value.hint


def test_a_package_that_is_damaged_is_fetched_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    monkeypatch.setattr(apt, "run", mirror)
    apt.Apt(tmp_path).lock(PLAN, soon())
    damaged = tmp_path / "debs" / "a_1_amd64.deb"
    damaged.write_text("x")
    apt.Apt(tmp_path).lock(PLAN, soon())
    assert damaged.read_text() == "deb"


def test_a_lock_that_the_mirror_forgot_is_resolved_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = Mirror()
    monkeypatch.setattr(apt, "run", mirror)
    apt.Apt(tmp_path).lock(PLAN, soon())
    mirror.version = "2"
    (tmp_path / "debs" / "a_1_amd64.deb").unlink()
    lock = debian.files.read_json(apt.Apt(tmp_path).lock(PLAN, soon()))
    assert lock["packages"]["a"]["version"] == "2"


def test_an_unknown_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(argv: list[str], deadline: Deadline, **_: Any) -> process.Done:
        done = process.Done(tuple(argv), 100, "", "E: Unable to locate package nonesuch", 0.1)
        if "install" in argv:
            raise process.CommandFailed(done)
        return done

    monkeypatch.setattr(apt, "run", refuse)
    with pytest.raises(Problem, match="no package nonesuch"):
        apt.Apt(tmp_path).lock(PLAN, soon())


# ---- manifest and narinfo ------------------------------------------------------------------------------------------


def test_a_manifest_comes_back_as_it_was_saved(tmp_path: Path) -> None:
    manifest().save(tmp_path / "m.json")
    assert Manifest.load(tmp_path / "m.json") == manifest()


def test_a_role_needs_its_own_paths_only() -> None:
    assert manifest().closure("r") == [TOP, LEAF]
    assert manifest().size("r") == 120


@pytest.mark.parametrize("document", [[], {}, {"apiVersion": "g5kdeploy/v1"}, {"apiVersion": "g5kdeploy/v9"}])
def test_what_is_no_manifest_is_refused_by_name(tmp_path: Path, document: object) -> None:
    write_json(tmp_path / "m.json", document)
    with pytest.raises(InvalidUse, match=r"m\.json"):
        Manifest.load(tmp_path / "m.json")


NARINFO = b"""StorePath: /nix/store/x
URL: nar/1abc.nar.zst
Compression: zstd
FileSize: 123
NarSize: 456
Sig: mine-1:AAAA
Sig: other-1:BBBB
"""


def test_a_narinfo_names_archive_and_signers() -> None:
    info = Narinfo.parse("x.narinfo", NARINFO)
    assert (info.url, info.file_size, info.signers) == ("nar/1abc.nar.zst", 123, ("mine-1", "other-1"))
    assert name_of(TOP) == f"{'a' * 32}.narinfo"


def test_what_is_no_narinfo_is_a_problem() -> None:
    with pytest.raises(Problem, match=r"x\.narinfo"):
        Narinfo.parse("x.narinfo", b"<html>")


def test_a_path_is_sent_when_its_description_or_its_archive_is_not_the_same_there() -> None:
    info = Narinfo.parse("x.narinfo", NARINFO)
    whole = {info.name: info.digest, info.url: "123"}
    assert not _is_missing(info, whole)
    assert _is_missing(info, {})
    assert _is_missing(info, {**whole, info.name: "signed by another key"})
    assert _is_missing(info, {**whole, info.url: "99"}), "the archive was cut"


# ---- what a build is made from ---------------------------------------------------------------------------------------


def test_bpf_programs_are_compiled_by_one_at_a_time_whatever_its_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "Makefile").write_text("all:\n\tmkdir busy\n\tsleep 0.1\n\trmdir busy\n")
    monkeypatch.setattr(debian, "data", lambda name: tmp_path)
    homes = itertools.count()
    monkeypatch.setattr(folders, "cache", lambda: tmp_path / str(next(homes)))
    with ThreadPoolExecutor(4) as pool:
        assert [one.result() for one in [pool.submit(debian.programs) for _ in range(4)]] == [tmp_path / "build"] * 4


def test_the_hash_of_a_folder_follows_its_content_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "composition"
    (folder / "runs" / "1").mkdir(parents=True)
    (folder / "roles.nix").write_text("{ }")
    before = debian.digest([folder])
    (folder / "runs" / "1" / "run.json").write_text("{}")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "x.pyc").write_bytes(b"x")
    os.utime(folder / "roles.nix", (1, 1))
    assert debian.digest([folder]) == before
    (folder / "roles.nix").write_text("{ roles = { }; }")
    changed = debian.digest([folder])
    assert changed != before
    (folder / "roles.nix").rename(folder / "other.nix")
    assert debian.digest([folder]) not in (before, changed)


def test_a_folder_without_roles_is_no_composition(tmp_path: Path) -> None:
    with pytest.raises(InvalidUse, match="no composition"):
        build(tmp_path, None, soon(), Emitter())


def test_the_scripts_of_stages_1_and_2_are_valid_shell() -> None:
    for name in ("stage1.sh", "stage2.sh"):
        subprocess.run(["sh", "-n", data("nix") / "debian" / name], check=True, timeout=60)
