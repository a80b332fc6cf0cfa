"""The one layer through which the cache, artifacts and the compile step touch the disk.

`Disk` has one method per kind of system call.  A test replaces it by a subclass that fails or ends
the process at the n-th call; nothing else in the package writes such files behind its back.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aino_ir.errors.cache import DiskFull, FileNotWritable

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
"""Error numbers that mean that the disk (or the user's share of it) is full."""

_PIECE = 8 << 20  # one write call; a test can fail between two of them


class Disk:
    """System calls on files, each overridable."""

    def make_folder(self, path: Path) -> None:
        """Create folder `path` with mode 0700, parents with the default mode; it may exist."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)

    def create(self, path: Path, mode: int = 0o600) -> int:
        """Create a new file (never through a link) and return its descriptor; umask bounds `mode`."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)

    def write(self, fd: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data` at the descriptor's position."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), _PIECE):
            self.write_piece(fd, view[start : start + _PIECE])

    def write_piece(self, fd: int, view: memoryview) -> None:
        """Write one piece of at most a few MiB."""
        while len(view):
            view = view[os.write(fd, view) :]

    def seek(self, fd: int, offset: int) -> None:
        """Move the descriptor to byte `offset`."""
        os.lseek(fd, offset, os.SEEK_SET)

    def sync(self, fd: int) -> None:
        """Make the file's content durable."""
        os.fsync(fd)

    def close(self, fd: int) -> None:
        """Close the descriptor."""
        os.close(fd)

    def replace(self, source: Path, destination: Path) -> None:
        """Rename `source` to `destination` atomically, replacing what was there."""
        os.replace(source, destination)

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        os.unlink(path)

    def remove_tree(self, path: Path) -> None:
        """Remove a folder with all in it; what is already gone is no error."""
        shutil.rmtree(path, ignore_errors=True)

    def read(self, path: Path) -> bytes:
        """Return a file's content; a symbolic link at the end of the path is refused."""
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as stream:
            return stream.read()

    def touch(self, path: Path) -> None:
        """Set the file's time of last use to now."""
        os.utime(path)


DISK = Disk()
"""The real disk."""


@contextlib.contextmanager
def disk_errors(path: Path | str) -> Iterator[None]:
    """Turn an `OSError` of the body into `DiskFull` or `FileNotWritable` for `path`."""
    try:
        yield
    except OSError as problem:
        if problem.errno in NO_SPACE:
            raise DiskFull(path=str(path)) from problem
        raise FileNotWritable(path=str(path), reason=problem.strerror or str(problem)) from problem


@dataclass
class Part:
    """A hidden file that is being written and has no final name yet.

    Attributes:
        fd: descriptor to write to and read from.
        path: the hidden file; None once it is published.
        disk: the layer it is written through.
    """

    fd: int
    path: Path | None
    disk: Disk

    def publish(self, destination: Path, durable: bool) -> None:
        """Give the finished file its name, in one step and replacing what was there.

        Args:
            destination: the final path, on the same file system.
            durable: whether the content must reach the disk first.
        """
        assert self.path is not None
        if durable:
            self.disk.sync(self.fd)
        self.disk.replace(self.path, destination)
        self.path = None


@contextlib.contextmanager
def new_part(folder: Path, disk: Disk = DISK, mode: int = 0o600) -> Iterator[Part]:
    """Yield a new hidden file in `folder`; it is removed unless the body publishes it.

    Args:
        folder: where; the file system of its final place.
        disk: the layer to write through.
        mode: permissions that it gets, less the umask.

    Raises:
        OSError: as the disk reports it; `disk_errors` names it.
    """
    path = folder / f".{secrets.token_hex(12)}.part"
    part = Part(disk.create(path, mode), path, disk)
    try:
        try:
            yield part
        finally:
            disk.close(part.fd)
    finally:
        if part.path is not None:
            with contextlib.suppress(OSError):
                disk.unlink(part.path)


@contextlib.contextmanager
def work_folder(parent: Path, disk: Disk = DISK) -> Iterator[Path]:
    """Yield a new folder inside `parent`, removed at the end of the body.

    The folder is locked while in use: `sweep` removes the ones whose owner died.
    """
    folder = parent / f"work-{secrets.token_hex(8)}"
    disk.make_folder(folder)
    lock = None
    try:
        lock = disk.create(folder / "lock")
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        disk.remove_tree(folder)
        if lock is not None:
            with contextlib.suppress(OSError):  # it is empty and gone already
                disk.close(lock)


YOUNG_SECONDS = 60.0
"""A lock not yet taken, and a part file not yet renamed, belong to a living process for this long."""


def sweep(staging: Path, disk: Disk = DISK, young_seconds: float = YOUNG_SECONDS) -> int:
    """Remove work folders and part files in `staging` that dead processes left; return how many."""
    swept = 0
    for path in _entries(staging):
        with contextlib.suppress(OSError):  # another process swept it first
            if time.time() - path.stat().st_mtime < young_seconds:
                continue
            if path.name.startswith("work-") and not _is_locked(path):
                disk.remove_tree(path)
                swept += 1
            elif path.name.endswith(".part") and not _was_written(path, 60 * young_seconds):
                disk.unlink(path)
                swept += 1
    return swept


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _was_written(path: Path, seconds: float) -> bool:
    return time.time() - path.stat().st_mtime < seconds


def _is_locked(folder: Path) -> bool:
    """Whether a living process holds the folder's lock."""
    try:
        fd = os.open(folder / "lock", os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
