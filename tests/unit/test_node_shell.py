"""Scripts under every login shell that is here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from g5kdeploy.node.copying import _PACK
from g5kdeploy.node.shell import MARK, AfterMark, by_sh

SHELLS = [shell for shell in ("sh", "bash", "zsh", "fish", "tcsh", "ksh") if shutil.which(shell)]
SCRIPT = """\
set -eu; umask 077
name='it'"'"'s'; percent="100 % $name\\\\n"   # é
if [ "$(wc -c < /dev/null)" -ne 0 ]; then exit 9; fi
cat > "$name"
printf '%s\\n' "$percent" !x `echo y`
until false || true; do :; done
exit 7
"""


def run(shell: str, line: str, folder: Path, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    environ = {"HOME": str(folder), "PATH": "/usr/bin:/bin"}
    return subprocess.run([shell, "-c", line], cwd=folder, input=given, capture_output=True, env=environ, check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_a_script_is_read_by_sh(shell: str, tmp_path: Path) -> None:
    done = run(shell, by_sh(SCRIPT), tmp_path, b"given")
    assert (done.returncode, done.stdout, done.stderr) == (7, MARK + b"100 % it's\\n\n!x\ny\n", b"")
    assert (tmp_path / "it's").read_bytes() == b"given"


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_packed_under_every_shell(shell: str, tmp_path: Path) -> None:
    (tmp_path / "a b").write_text("1")
    done = run(shell, by_sh(_PACK.format(patterns="./a*")), tmp_path)
    assert done.returncode == 0 and b"a b" in done.stdout
    done = run(shell, by_sh(_PACK.format(patterns="./none*")), tmp_path)
    assert (done.returncode, done.stderr) == (2, b"./none*: nothing there\n")


@settings(max_examples=25)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40))
def test_every_text_arrives(text: str) -> None:
    quoted = text.replace("'", "'\\''")
    for shell in SHELLS[:2]:
        assert run(shell, by_sh(f"printf %s '{quoted}x'"), Path("/")).stdout == MARK + f"{text}x".encode()


@settings(max_examples=50)
@given(st.binary(max_size=30), st.binary(max_size=30), st.integers(1, 20))
def test_what_the_login_shell_prints_is_not_the_scripts(before: bytes, printed: bytes, size: int) -> None:
    got: list[bytes] = []
    after = AfterMark(got.append)
    whole = before.replace(MARK, b"") + MARK + printed
    for at in range(0, len(whole), size):
        after.feed(whole[at : at + size])
    after.end()
    assert b"".join(got) == printed


def test_where_no_script_began_the_shells_words_are_kept() -> None:
    got: list[bytes] = []
    after = AfterMark(got.append)
    after.feed(b"This account is ")
    after.feed(b"not available.\n")
    assert not got
    after.end()
    assert got == [b"This account is not available.\n"]
