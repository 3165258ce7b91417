"""Makes events of filesystems and disks happen, and notes what the exporter served before and after them.

    storage.py REPOSITORY PROGRAMS SITE_PACKAGES OUT SCENARIO...

/dev/vda becomes ext4 and is exported to this machine itself over NFS 4; /dev/vdb becomes XFS; a FUSE server shows ext4 once more.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time
from pathlib import Path
from typing import Any

from exporting import PATIENCE, Group, run

MOUNTS = Path("/run/mounts")
FILES = 10


def prepare() -> None:
    for name in ("ext4", "xfs", "nfs", "fuse"):
        (MOUNTS / name).mkdir(parents=True)
    run("mkfs.ext4", "-q", "/dev/vda")
    run("mount", "/dev/vda", str(MOUNTS / "ext4"))
    run("mkfs.xfs", "-q", "/dev/vdb")
    run("mount", "/dev/vdb", str(MOUNTS / "xfs"))
    serve_nfs()
    run("modprobe", "tcp_diag")  # for ss
    # Nothing is cached by the kernel: each operation is one that the server is asked for.
    run("bindfs", "-o", "attr_timeout=0,entry_timeout=0,direct_io", str(MOUNTS / "ext4"), str(MOUNTS / "fuse"))


def serve_nfs() -> None:
    for folder in ("/var/lib/nfs/rpc_pipefs", "/var/lib/nfs/v4recovery", "/run/rpc_pipefs"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    Path("/etc/exports").touch()
    for file in ("etab", "rmtab", "state"):
        Path(f"/var/lib/nfs/{file}").touch()
    run("mount", "-t", "rpc_pipefs", "rpc_pipefs", "/run/rpc_pipefs")
    run("mount", "-t", "nfsd", "nfsd", "/proc/fs/nfsd")
    run("exportfs", "-o", "rw,insecure,no_root_squash,no_subtree_check,fsid=0", f"127.0.0.1:{MOUNTS / 'ext4'}")
    run("rpc.mountd", "--no-nfs-version", "2", "--no-nfs-version", "3")
    # Its port by number: not every machine has /etc/services.
    run("rpc.nfsd", "--port", "2049", "--no-udp", "--no-nfs-version", "3", "4")
    Path("/proc/fs/nfsd/v4_end_grace").write_text("Y")  # nobody had files open before
    run(
        "mount",
        "-i",
        "-t",
        "nfs4",
        "-o",
        "vers=4.1,addr=127.0.0.1,clientaddr=127.0.0.1",
        "127.0.0.1:/",
        str(MOUNTS / "nfs"),
    )


GROUP = Group(prepare)


def use(folder: Path) -> dict[str, Any]:
    """Ten files that are made, written, synced, read, listed, renamed and removed; and a write that is refused."""
    with GROUP.watched() as seen:
        for number in range(FILES):
            path, other = folder / f"file{number}", folder / f"other{number}"
            with path.open("wb") as file:
                file.write(bytes(10_000))
                file.flush()
                os.fsync(file.fileno())
            assert len(path.read_bytes()) == 10_000
            path.rename(other)
            assert other.exists()
            assert other.name in os.listdir(folder)  # noqa: PTH208
            other.unlink()
        write_too_much(folder / "large")
    return seen


def write_too_much(path: Path) -> None:
    """Beyond the largest file that this process may make just then; Python ignores the signal."""
    may, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        file.seek(4096)
        file.write(b"x")
    resource.setrlimit(resource.RLIMIT_FSIZE, (may, most))


@GROUP.scenario
def ext4() -> dict[str, Any]:
    return use(MOUNTS / "ext4")


@GROUP.scenario
def xfs() -> dict[str, Any]:
    return use(MOUNTS / "xfs")


@GROUP.scenario
def fuse() -> dict[str, Any]:
    return use(MOUNTS / "fuse")


@GROUP.scenario
def nfs() -> dict[str, Any]:
    return use(MOUNTS / "nfs")


@GROUP.scenario
def sunrpc() -> dict[str, Any]:
    """Files over NFS; and the connection cut while data is under way, until something had to be sent again."""
    seen = use(MOUNTS / "nfs")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            with (MOUNTS / "nfs" / "much").open("wb") as file:
                file.write(bytes(4 << 20))
                file.flush()
                os.fsync(file.fileno())

    writer = threading.Thread(target=write)
    with GROUP.watched_until("sunrpc_retransmits_total", 1) as (cut, enough):
        writer.start()
        while not enough():
            run("ss", "-K", "dport", "=", ":2049")
            time.sleep(2)  # to connect again takes its time, and is not to be cut short for ever
        stop.set()
        writer.join(PATIENCE)
    return seen | {"after": cut["after"]}


@GROUP.scenario
def block() -> dict[str, Any]:
    """64 writes of 4 KiB past the cache."""
    with GROUP.watched() as seen:
        run("dd", "if=/dev/zero", f"of={MOUNTS / 'ext4' / 'direct'}", "bs=4096", "count=64", "oflag=direct")
    return seen


@GROUP.scenario
def pagecache() -> dict[str, Any]:
    """A file of 1024 pages, written and read, and all of it written back."""
    path = MOUNTS / "ext4" / "pages"
    with GROUP.watched() as seen:
        path.write_bytes(bytes(1024 * 4096))
        os.sync()
        assert len(path.read_bytes()) == 1024 * 4096
        path.unlink()
    return seen


@GROUP.scenario
def readahead() -> dict[str, Any]:
    """A file of 1024 pages that the kernel is asked to read ahead; 256 of them are read, the others leave the cache."""
    path, size, part = MOUNTS / "ext4" / "ahead", 1024 * 4096, 32 * 4096
    path.write_bytes(bytes(size))
    os.sync()
    with path.open("rb", buffering=0) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with GROUP.watched_until('readahead_pages_total{what="unused"}', 768) as (seen, enough):
            for offset in range(0, size, part):  # no more at once than a device's window
                os.posix_fadvise(file.fileno(), offset, part, os.POSIX_FADV_WILLNEED)
            assert len(file.read(256 * 4096)) == 256 * 4096
            while not enough():  # what is still being read stays
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return seen


if __name__ == "__main__":
    GROUP.run()
