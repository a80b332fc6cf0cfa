"""A content-addressed store of files on disk: compiled objects, libraries, artifacts, probe results.

An entry is a plain file ``<root>/v1/<kind>/<xx>/<key>.<sha256>``, where ``key`` says what it was made
from and ``sha256`` what it must contain.  That makes it safe without locks: writers rename a finished
file into place, readers hash what they read, whoever finds a bad entry removes it and makes it anew.
The folder has mode 0700 and is refused when someone else could write to it.  The least recently used
entries go when the store outgrows its limit.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import re
import stat
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from aino_ir.errors.base import AinoError
from aino_ir.errors.cache import CacheUntrusted, CacheWarning
from aino_ir.runtime.fileio import DISK, NO_SPACE, Disk, disk_errors, new_part, sweep, work_folder

DEFAULT_LIMIT = 5 << 30
"""Bytes that the store may hold unless told otherwise."""

_LAYOUT = "v1"
_STAGING = "tmp"
_KIND = re.compile(r"[a-z][a-z0-9-]{0,31}")
_KEY = re.compile(r"[0-9a-f]{64}")
_ENTRY = re.compile(r"([0-9a-f]{64})\.([0-9a-f]{64})")
_SCAN_SECONDS = 600.0


def digest(*parts: str | bytes | int) -> str:
    """Return the SHA-256 (hex) of a sequence of values; types and boundaries count."""
    state = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        state.update(f"{type(part).__name__}:{len(data)}:".encode())
        state.update(data)
    return state.hexdigest()


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return the cache folder: AINO_CACHE_DIR, else ``aino`` in XDG_CACHE_HOME or ``~/.cache``.

    A user without a home folder gets one in the folder for temporary files, named by user id.
    """
    chosen = environ.get("AINO_CACHE_DIR", "")
    if chosen:
        return Path(chosen).absolute()
    xdg = environ.get("XDG_CACHE_HOME", "")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "aino"
    home = environ.get("HOME", "")
    if home and Path(home).is_dir():
        return Path(home) / ".cache" / "aino"
    return Path(tempfile.gettempdir()) / f"aino-{os.geteuid()}"


@dataclass(frozen=True)
class Entry:
    """One stored file.

    Attributes:
        kind: what it is, such as ``object`` or ``artifact``.
        key: SHA-256 (hex) of what it was made from.
        bytes: its size.
        used: time of its last use, in seconds since the epoch.
        path: where it lies.
    """

    kind: str
    key: str
    bytes: int
    used: float
    path: Path


class Store:
    """The store under one folder; `Store.open` checks the folder first.

    Any number of threads and processes may use one folder at once.  A store that cannot be read or
    written costs time, never correctness: `get` returns None, `put` False, with one warning each.

    Attributes:
        root: the folder.
        base: the part of it that this version's layout uses.
        staging: folder of unfinished files.
        limit_bytes: size that the store is kept near or under.
        disk: the layer that everything is written through.
        temporary: whether the folder goes away at the end.
    """

    def __init__(self, root: Path, limit_bytes: int = DEFAULT_LIMIT, disk: Disk = DISK) -> None:
        self.root = root
        self.base = root / _LAYOUT
        self.staging = self.base / _STAGING
        self.limit_bytes = limit_bytes
        self.disk = disk
        self.temporary = False
        self._unscanned = 0
        self._warned: set[str] = set()

    @classmethod
    def open(cls, root: Path | None = None, limit_bytes: int = DEFAULT_LIMIT, disk: Disk = DISK) -> Store:
        """Create the folder if need be, check that only this user can write it, return the store.

        Raises:
            CacheUntrusted: another user owns it or may write to it.
            FileNotWritable, DiskFull: it cannot be created.
        """
        store = cls(root if root is not None else cache_folder(), limit_bytes, disk)
        with disk_errors(store.root):
            for folder in (store.root, store.base, store.staging):
                disk.make_folder(folder)
                _check_owner(folder)
        return store

    # --- entries -----------------------------------------------------------------------------

    def get(self, kind: str, key: str) -> bytes | None:
        """Return an entry's content, or None when there is none; a bad entry is removed."""
        for path, expected in self._candidates(kind, key):
            try:
                data = self.disk.read(path)
            except OSError:
                continue
            if hashlib.sha256(data).hexdigest() == expected:
                self._touch(path)
                return data
            self._drop_damaged(path)
        return None

    def get_path(self, kind: str, key: str, verify: bool = True) -> Path | None:
        """Return the path of an entry, or None.

        Args:
            kind, key: as in `put`.
            verify: whether to hash the content; False for content that carries its own hashes.
        """
        for path, expected in self._candidates(kind, key):
            try:
                if not verify or _hash_file(path) == expected:
                    self._touch(path)
                    return path
            except OSError:
                continue
            self._drop_damaged(path)
        return None

    def put(self, kind: str, key: str, data: bytes) -> bool:
        """Store `data` under `key` (64 hex digits); return whether that worked."""

        def write(fd: int) -> str:
            self.disk.write(fd, data)
            return hashlib.sha256(data).hexdigest()

        return self.put_with(kind, key, write) is not None

    def put_with(self, kind: str, key: str, write: Callable[[int], str | None]) -> Path | None:
        """Store what `write(descriptor)` writes; return the entry's path, or None when that failed.

        `write` returns the content's SHA-256 (hex), or None to have the file hashed.  Its own AINO
        errors pass through; those of the disk become one warning.
        """
        _check_names(kind, key)
        folder = self.base / kind / key[:2]
        try:
            for needed in (folder, self.staging):  # somebody may have emptied the cache meanwhile
                self.disk.make_folder(needed)
            path = self._write_entry(folder, key, write)
        except OSError as problem:
            self._warn("write", f"the cache in {self.root} cannot be written: {problem.strerror or problem}")
            if problem.errno in NO_SPACE:
                self.shrink(self.limit_bytes // 2)
            return None
        self._bound(path)
        return path if path.exists() else None

    def _write_entry(self, folder: Path, key: str, write: Callable[[int], str | None]) -> Path:
        with new_part(self.staging, self.disk) as part:
            found = write(part.fd) or _hash_descriptor(part.fd)
            path = folder / f"{key}.{found}"
            part.publish(path, durable=False)  # a torn file fails its hash and is made again
        return path

    def discard(self, kind: str, key: str) -> None:
        """Remove what is stored under `key`, for a reader that found it bad itself."""
        for path, _ in self._candidates(kind, key):
            self._drop_damaged(path)

    def entries(self) -> list[Entry]:
        """Return all entries, least recently used first."""
        found = [entry for kind in self._kinds() for entry in _scan(kind)]
        return sorted(found, key=lambda entry: (entry.used, entry.kind, entry.key))

    def clear(self) -> tuple[int, int]:
        """Remove everything; return how many entries went and their bytes.

        Raises:
            FileNotWritable: an entry cannot be removed.
        """
        gone = self.entries()
        with disk_errors(self.base):
            for folder in sorted(self.base.iterdir()):
                if folder.name != _STAGING:
                    self.disk.remove_tree(folder)
        sweep(self.staging, self.disk)
        return len(gone), sum(entry.bytes for entry in gone)

    def shrink(self, limit_bytes: int) -> int:
        """Remove least recently used entries until at most `limit_bytes` remain; return how many."""
        entries = self.entries()
        total = sum(entry.bytes for entry in entries)
        removed = 0
        for entry in entries:
            if total <= limit_bytes:
                break
            with contextlib.suppress(OSError):  # another process was faster, or may not
                self.disk.unlink(entry.path)
                removed += 1
            total -= entry.bytes
        return removed

    # --- folders for others --------------------------------------------------------------------

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        """Yield an empty private folder that is gone afterwards, even if this process is killed."""
        with contextlib.ExitStack() as stack:
            with disk_errors(self.staging):
                folder = stack.enter_context(work_folder(self.staging, self.disk))
            yield folder

    def side_folder(self, name: str) -> Path:
        """Return a private folder beside the entries, for what is no entry (a compiler's own cache)."""
        folder = self.base / name
        with disk_errors(folder):
            self.disk.make_folder(folder)
        return folder

    # --- inside ------------------------------------------------------------------------------

    def _kinds(self) -> list[Path]:
        try:
            return sorted(p for p in self.base.iterdir() if p.is_dir() and _KIND.fullmatch(p.name))
        except OSError:
            return []

    def _candidates(self, kind: str, key: str) -> list[tuple[Path, str]]:
        """Return the files stored under `key` with the hash each must have, newest first."""
        _check_names(kind, key)
        folder = self.base / kind / key[:2]
        try:
            names = [name for name in os.listdir(folder) if name.startswith(key + ".")]
        except OSError:
            return []
        matches = [m for name in names if (m := _ENTRY.fullmatch(name))]
        paths = [(folder / m[0], m[2]) for m in matches]
        return sorted(paths, key=lambda item: (-_used(item[0]), item[0]))

    def _touch(self, path: Path) -> None:
        with contextlib.suppress(OSError):  # a read-only or shrinking cache still serves
            self.disk.touch(path)

    def _drop_damaged(self, path: Path) -> None:
        self._warn("damaged", f"removed a damaged cache entry; it is made again: {path}")
        with contextlib.suppress(OSError):
            self.disk.unlink(path)

    def _warn(self, topic: str, message: str) -> None:
        if topic not in self._warned:
            self._warned.add(topic)
            warnings.warn(message, CacheWarning, stacklevel=3)

    def _bound(self, path: Path) -> None:
        """Look after the limit now and then: a scan per entry would be quadratic."""
        self._unscanned += path.stat().st_size if path.exists() else 0
        stamp = self.base / "last-scan"
        if self._unscanned <= self.limit_bytes // 64 and time.time() - _used(stamp) < _SCAN_SECONDS:
            return
        self._unscanned = 0
        with contextlib.suppress(OSError):
            stamp.touch(mode=0o600)
        sweep(self.staging, self.disk)
        self.shrink(self.limit_bytes)


@contextlib.contextmanager
def opened_or_temporary(enabled: bool = True, root: Path | None = None) -> Iterator[Store]:
    """Yield the user's store, or one in a temporary folder when it is off or cannot be created.

    A folder that someone else could write to is still an error: that is never worked around.
    """
    store = None
    if enabled:
        try:
            store = Store.open(root)
        except CacheUntrusted:
            raise
        except AinoError as problem:
            warnings.warn(f"compiling without a cache: {problem.message}", CacheWarning, stacklevel=3)
    if store is not None:
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="aino-") as folder:
        store = Store.open(Path(folder))
        store.temporary = True
        yield store


def _check_names(kind: str, key: str) -> None:
    if not _KIND.fullmatch(kind) or kind == _STAGING or not _KEY.fullmatch(key):
        raise ValueError(f"not a store entry: kind {kind!r}, key {key!r}")


def _check_owner(folder: Path) -> None:
    """Refuse a folder that another user owns or may write to, or a link that another user made."""
    user = os.geteuid()
    for facts in (folder.lstat(), folder.stat()):
        if facts.st_uid != user:
            reason = f"owned by user {facts.st_uid}, not by user {user}"
            raise CacheUntrusted(path=str(folder), reason=reason)
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CacheUntrusted(
            path=str(folder), reason=f"others may write to it (mode {facts.st_mode & 0o777:03o})"
        )


def _scan(kind: Path) -> Iterator[Entry]:
    """Yield the entries of one kind; what is not an entry, or vanishes meanwhile, is left out."""
    for shard in sorted(kind.glob("[0-9a-f][0-9a-f]")):
        try:
            listed = sorted(os.scandir(shard), key=lambda item: item.name)
        except OSError:
            continue
        for item in listed:
            match = _ENTRY.fullmatch(item.name)
            with contextlib.suppress(FileNotFoundError):
                facts = item.stat(follow_symlinks=False)
                if match and stat.S_ISREG(facts.st_mode):
                    yield Entry(kind.name, match[1], facts.st_size, facts.st_mtime, Path(item.path))


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _hash_file(path: Path) -> str:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _hash_descriptor(fd)
    finally:
        os.close(fd)


def _hash_descriptor(fd: int) -> str:
    if not os.fstat(fd).st_size:
        return hashlib.sha256().hexdigest()
    with mmap.mmap(fd, 0, access=mmap.ACCESS_READ) as view:
        return hashlib.sha256(view).hexdigest()
