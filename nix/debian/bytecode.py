"""bytecode.py OUT ROOT...: compile the Python modules below ROOT/usr/lib into OUT, where Python looks for them.

A maintainer script would do this on a real Debian. Unchecked: the sources of a store path do not change, and their time
stamps say nothing. What a node never imports is left out: it would travel for nothing.
"""

import py_compile
import sys
from pathlib import Path

SKIPPED = {
    *(
        "test",
        "tests",
        "idlelib",
        "lib2to3",
        "tkinter",
        "turtledemo",
        "ensurepip",
        "distutils",
        "pydoc_data",
        "unittest",
    ),
    *("asyncio", "xmlrpc", "curses", "dbm", "sqlite3", "msilib", "venv", "multiprocessing", "xml", "__phello__"),
    *("_pydecimal.py", "_pyio.py", "turtle.py", "pydoc.py", "mailbox.py", "doctest.py", "pdb.py", "imaplib.py"),
    *("nntplib.py", "smtplib.py", "ftplib.py", "poplib.py", "telnetlib.py", "statistics.py", "plistlib.py", "cgi.py"),
    *("pickletools.py", "tarfile.py", "optparse.py", "configparser.py", "profile.py", "pstats.py", "symtable.py"),
}


def compile_below(root: Path, out: Path) -> None:
    """Every module of one store path, sorted, so that equal sources give equal outputs."""
    for source in sorted(root.glob("usr/lib/python3*/**/*.py")):
        module = source.relative_to(root)
        if SKIPPED.isdisjoint(module.parts) and source.exists():  # it may be a link into another package
            compiled = out / module.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
            unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
            py_compile.compile(str(source), str(compiled), f"/{module}", doraise=True, invalidation_mode=unchecked)


for word in sys.argv[2:]:
    compile_below(Path(word), Path(sys.argv[1]))
