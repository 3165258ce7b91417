"""A user's view of a frontend: no root, no Nix, a home of his own with g5kdeploy installed by pip from its wheel."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
UID = 12345
USER = "jdoe"
HOME = f"/home/{USER}"
CRON = {"HOME": HOME, "LOGNAME": USER, "SHELL": "/bin/sh", "PATH": "/usr/bin:/bin"}
"""All that cron gives a command: no terminal, no locale, no PATH to speak of."""

# Seen by him alone: /home with his home and the libraries (read only), accounts that know him, and no Nix.
_INSIDE = """set -e
mount -t tmpfs -o mode=755 tmpfs {stage}
cd {stage}; mkdir {user} libraries dist
mount --bind {folder} {user}
mount --bind -o ro {libraries} libraries
mount --bind -o ro {dist} dist
mount --rbind {stage} /home
mount --bind {passwd} /etc/passwd
for program in nix nix-build nix-instantiate nix-store; do
  at=$(PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin command -v $program) && mount --bind /dev/null "$(readlink -f "$at")"
done
cd {home}
exec setpriv --reuid {uid} --regid {uid} --clear-groups --no-new-privs env -i "$@"
"""


def python() -> str:
    """A Python that everybody may run, with pip, and that fits the libraries here; "" when there is none."""
    version = f"python3.{sys.version_info.minor}"
    for path in (Path("/usr/bin") / version, Path(sys.base_prefix) / "bin" / version):
        if not path.exists() or path.is_relative_to("/home"):
            continue
        if all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents):
            probe = subprocess.run([path, "-c", "import venv, ensurepip"], capture_output=True, timeout=60, check=False)
            if probe.returncode == 0:
                return str(path)
    return ""


def missing() -> str:
    """Why there can be no such user here; "" when there can."""
    if os.geteuid() != 0:
        return "needs root, to be somebody else"
    for name in ("unshare", "setpriv"):
        if shutil.which(name) is None:
            return f"needs {name}"
    return "" if python() else "needs a Python that every user may run"


def build_wheel(to: Path) -> None:
    """The project's wheel."""
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(to)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True, timeout=300)


class User:
    """Somebody whose home is `folder`; the wheel is in `dist`."""

    def __init__(self, folder: Path, dist: Path) -> None:
        self.folder, self.dist = folder, dist
        folder.mkdir(parents=True, exist_ok=True)
        self._stage = folder.with_name("stage")
        self._stage.mkdir(exist_ok=True)
        self._passwd = folder.with_name("passwd")
        accounts = Path("/etc/passwd").read_text()
        self._passwd.write_text(f"{accounts}{USER}:x:{UID}:{UID}::{HOME}:/bin/sh\n")

    def own(self) -> None:
        """Everything in his home is his."""
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, UID, UID, follow_symlinks=False)

    def call(self, *words: str, seconds: float = 300, **environ: str) -> subprocess.CompletedProcess[str]:
        """Run a program as cron would, from his home."""
        inside = _INSIDE.format(
            home=HOME,
            user=USER,
            stage=shlex.quote(str(self._stage)),
            folder=shlex.quote(str(self.folder)),
            libraries=shlex.quote(sysconfig.get_paths()["purelib"]),
            dist=shlex.quote(str(self.dist)),
            passwd=shlex.quote(str(self._passwd)),
            uid=UID,
        )
        given = [f"{name}={value}" for name, value in {**CRON, **environ}.items()]
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-c", inside, "sh", *given, *words]
        return subprocess.run(
            argv, capture_output=True, text=True, timeout=seconds, check=False, stdin=subprocess.DEVNULL
        )

    def install(self) -> None:
        """`pip install` of the wheel into a venv in his home; its dependencies are those that are here."""
        self.own()
        made = self.call(python(), "-m", "venv", f"{HOME}/venv")
        assert made.returncode == 0, made.stdout + made.stderr
        wheel = next(path.name for path in self.dist.glob("g5kdeploy-*.whl"))
        words = (
            "-m",
            "pip",
            "install",
            "--no-index",
            "--no-deps",
            "--disable-pip-version-check",
            f"/home/dist/{wheel}",
        )
        done = self.call(f"{HOME}/venv/bin/python", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        # Afterwards: to a pip that sees them, an editable install of the project is the project
        (site,) = (self.folder / "venv" / "lib").glob("python3*/site-packages")
        (site / "libraries.pth").write_text("/home/libraries\n")
