"""Environments of one's own: a description and its archives, brought into the frontend's public folder, and seen from there."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from g5kdeploy.base.deadline import Deadline
from g5kdeploy.base.text import clean, human_bytes, tail
from g5kdeploy.events.event import Emitter
from g5kdeploy.events.failure import Failure, InvalidUse
from g5kdeploy.node import Remote

FOLDER = "g5kdeploy/environments"
"""Below ~/public."""
KINDS = ("tar", "dd", "fsa")
COMPRESSIONS = ("gzip", "bzip2", "xz", "zstd", "none")
OS_KINDS = ("linux", "xen", "other")
_LARGEST = 1_000_000  # bytes of a description
_LOOK_SECONDS = 60.0
_NO_CURL = 127
_WEB = ("http://", "https://")
_SITES_OWN = (*_WEB, "server://")


class EnvironmentUnreachable(Failure):
    """A description, or what it names, that the site cannot fetch: nothing was deployed."""


@dataclass(frozen=True)
class OwnImage:
    """A description (kaenv's YAML) in `file`, and the files here that it names, by the word that names them there."""

    file: Path
    described: Mapping[str, Any]
    archives: Mapping[str, Path]

    def stamp(self) -> list[Any]:
        """Changes when anything of it does; nothing large is read for it."""
        stats = [path.stat() for path in self.archives.values()]
        return [hashlib.sha256(self.file.read_bytes()).hexdigest(), [[one.st_size, one.st_mtime_ns] for one in stats]]


def read(file: Path) -> OwnImage:
    """The environment that a file describes; raises `InvalidUse` with what kadeploy would miss in it."""
    try:
        described = _parsed(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidUse(f"the environment {file} cannot be read", cause=error.strerror or str(error)) from error
    except ValueError as error:
        raise InvalidUse(f"{file} describes no environment", cause=str(error), hint=_FORM) from error
    wrong = list(_mistakes(described))
    if wrong:
        raise InvalidUse(f"{file} describes no environment that kadeploy could deploy", cause="; ".join(wrong))
    archives = {
        word: file.parent / word.removeprefix("local://")
        for word in _files(described)
        if not word.startswith(_SITES_OWN)
    }
    for word, path in archives.items():
        if not path.is_file():
            raise InvalidUse(
                f"{file}: the file `{word}` is not there",
                cause=f"no file {path}",
                hint="files are looked for beside the description",
            )
    return OwnImage(file, described, archives)


_FORM = "it should be YAML as `kaenv3 -p` prints it: name, os, image: {file, kind, compression}, boot: {kernel, initrd}, filesystem"


def _parsed(text: str) -> dict[str, Any]:
    """A description; raises `ValueError` for what is none."""
    import yaml

    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ValueError(f"not valid YAML: {error}") from error
    if not isinstance(value, dict):
        raise ValueError("it is not a mapping")
    return {str(key): item for key, item in value.items()}


def _mistakes(described: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(described.get("name"), str):
        yield "it has no `name`"
    if described.get("os") not in OS_KINDS:
        yield f"`os` must be {', '.join(OS_KINDS)}"
    image, boot = described.get("image"), described.get("boot")
    if not isinstance(image, Mapping) or not isinstance(image.get("file"), str):
        yield "it has no `image.file`"
        return
    kind = image.get("kind")
    if kind not in KINDS:
        yield f"`image.kind` must be {', '.join(KINDS)}"
    elif kind != "fsa" and image.get("compression") not in COMPRESSIONS:
        yield f"`image.compression` must be {', '.join(COMPRESSIONS)}"
    if kind == "tar" and not (isinstance(boot, Mapping) and isinstance(boot.get("kernel"), str)):
        yield "it has no `boot.kernel`, which a tar image needs"
    if kind == "tar" and not isinstance(described.get("filesystem"), str):
        yield "it has no `filesystem`, which a tar image needs"


def _files(described: Mapping[str, Any]) -> list[str]:
    """The files that a description names: its image, and the archives of its post-installations."""
    installs = described.get("postinstalls")
    image = described.get("image")
    found = [image.get("file")] if isinstance(image, Mapping) else []
    found += [one.get("archive") for one in installs or () if isinstance(one, Mapping)]
    return [word for word in found if isinstance(word, str)]


def _renamed(described: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The same description with other names for its files."""
    image = {**described["image"], "file": names.get(described["image"]["file"], described["image"]["file"])}
    installs = [
        {**one, "archive": names.get(one["archive"], one["archive"])} if "archive" in one else one
        for one in described.get("postinstalls") or ()
    ]
    return {**described, "image": image, **({"postinstalls": installs} if installs else {})}


def publish(own: OwnImage, frontend: Remote, web: str, deadline: Deadline, emit: Emitter) -> str:
    """Bring an environment into the frontend's public folder, each file once, and answer the URL of its description.

    Files are named by their content there; what has come whole before is not sent again. `web` is the URL of the users'
    public folders as the site sees it.
    """
    import yaml

    place = f"public/{FOLDER}"
    folders = f"public public/{FOLDER.partition('/')[0]} {place}"
    with emit.step("upload environment") as step:
        said = frontend.run(
            f"set -e; id -un; mkdir -p {folders}; chmod 755 {folders}; find {place} -type f -printf '%s %f\\n'",
            deadline,
        ).stdout.splitlines()
        user, there = said[0], set(said[1:])
        sent, names = 0, {}
        for word, path in own.archives.items():
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            name = _named(digest, path.name)
            size = path.stat().st_size
            if f"{size} {name}" not in there:
                frontend.put(path, f"{place}/{name}", deadline)
                sent += size
            names[word] = f"{web}/~{user}/{FOLDER}/{name}"
        text = yaml.safe_dump(_renamed(own.described, names), sort_keys=False).encode()
        name = _named(hashlib.sha256(text).hexdigest(), f"{own.file.stem}.yaml")
        if f"{len(text)} {name}" not in there:
            frontend.put(text, f"{place}/{name}", deadline)
        step.text = f"{own.described['name']}, {human_bytes(sent)}" if sent else f"{own.described['name']} is there"
    return f"{web}/~{user}/{FOLDER}/{name}"


def _named(digest: str, name: str) -> str:
    """A file's name there: a hash, and what is left of its own name when no shell and no URL may mind it."""
    return f"{digest[:16]}-{re.sub(r'[^A-Za-z0-9._-]', '_', name)}"


def check_reachable(url: str, frontend: Remote, deadline: Deadline, emit: Emitter) -> None:
    """Fetch a description from the site's frontend, and see that the files which it names are there.

    The API's own words about a URL that leads nowhere are `IndexError, string not matched`. Raises
    `EnvironmentUnreachable`.
    """
    limit = deadline.within(_LOOK_SECONDS, f"the environment {url}")
    ask = f"curl -fsSL --max-time 20 --max-filesize {_LARGEST} -- "
    done = frontend.run(ask + shlex.quote(url), limit, check=False)
    if done.status == _NO_CURL:
        emit.note("deploy", f"{frontend.name} has no curl: whether {url} can be fetched is not known")
        return
    hint = f"try it on {frontend.name}: curl -I {url}"
    if done.status != 0:
        why = clean(tail(done.stderr, 2)) or f"curl ended with {done.status}"
        raise EnvironmentUnreachable(f"the site cannot fetch the environment {url}", cause=why, hint=hint)
    try:
        described = _parsed(done.stdout)
    except ValueError as error:
        raise EnvironmentUnreachable(
            f"{url} is no description of an environment", cause=str(error), hint=hint
        ) from error
    for word in _files(described):
        if word.startswith(_WEB):
            _look(word, url, frontend, limit)
        elif not word.startswith(_SITES_OWN):
            raise EnvironmentUnreachable(
                f"the environment {url} names a file that the site cannot fetch",
                cause=f"{word} is neither a URL nor server://",
                hint="`environment:` may be the description's file here; then what it names is uploaded",
            )


def _look(file: str, url: str, frontend: Remote, deadline: Deadline) -> None:
    done = frontend.run(f"curl -fsSIL --max-time 20 -o /dev/null -- {shlex.quote(file)}", deadline, check=False)
    if done.status != 0:
        raise EnvironmentUnreachable(
            f"the site cannot fetch {file}, which the environment {url} names",
            cause=clean(tail(done.stderr, 2)) or f"curl ended with {done.status}",
            hint=f"try it on {frontend.name}: curl -I {file}",
        )
