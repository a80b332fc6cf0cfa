"""Loads a checked library into the process, from memory.

The bytes that were hashed are the bytes that are loaded: they are copied to a sealed memory file (or,
where there is none, to a file in a private folder that is removed at once), so that nobody can
exchange the file between check and load.
"""

from __future__ import annotations

import _ctypes
import ctypes
import fcntl
import os
import struct
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aino_ir.errors.artifact import LibraryNotLoadable
from aino_ir.runtime.fileio import DISK

_SEALS = ("F_SEAL_WRITE", "F_SEAL_GROW", "F_SEAL_SHRINK", "F_SEAL_SEAL")


_HEADER = struct.Struct("<4sBB10xHHIQQQIHHH")
_SEGMENT = struct.Struct("<IIQQQQ")


def _is_whole(data: bytes) -> bool:
    """Whether all segments lie inside the file: the dynamic loader crashes when they do not."""
    if len(data) < _HEADER.size:
        return False
    magic, bits, order, *_, table, _, _, _, size, count = _HEADER.unpack_from(data)
    if (
        magic != b"\x7fELF"
        or (bits, order) != (2, 1)
        or size < _SEGMENT.size
        or table + size * count > len(data)
    ):
        return False
    segments = (_SEGMENT.unpack_from(data, table + i * size) for i in range(count))
    return all(offset + length <= len(data) for _, _, offset, _, _, length in segments)


class Library:
    """One loaded library.

    Attributes:
        section: what it is called in messages.

    Its memory file stays open as long as it is loaded: the dynamic loader tells libraries apart by
    path, and ``/proc/self/fd/7`` must not become another library's path meanwhile.
    """

    def __init__(self, data: bytes, section: str) -> None:
        """Load `data`.

        Raises:
            LibraryNotLoadable: the dynamic loader refuses it.
        """
        self.section = section
        self._users: set[int] = set()
        self._fd: int | None = None
        self._cdll: ctypes.CDLL | None = None
        if not _is_whole(data):
            raise LibraryNotLoadable(section=section, reason="it is no whole ELF file")
        try:
            self._cdll = self._load(data)
        except OSError as problem:
            self._close_file()
            raise LibraryNotLoadable(section=section, reason=str(problem)) from problem

    def _load(self, data: bytes) -> ctypes.CDLL:
        if hasattr(os, "memfd_create") and os.path.isdir("/proc/self/fd"):
            self._fd = os.memfd_create("aino-library", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
            DISK.write(self._fd, data)
            seals = [getattr(fcntl, name) for name in _SEALS]
            fcntl.fcntl(self._fd, fcntl.F_ADD_SEALS, sum(seals))
            return ctypes.CDLL(f"/proc/self/fd/{self._fd}")
        with tempfile.TemporaryDirectory(prefix="aino-") as folder:
            path = Path(folder) / "library.so"
            path.write_bytes(data)
            return ctypes.CDLL(str(path))

    def function(self, name: str, restype: Any, *argtypes: Any) -> Any:
        """Return the function `name` with its C types set.

        Raises:
            LibraryNotLoadable: the library does not export it, or is closed.
        """
        if self._cdll is None:
            raise LibraryNotLoadable(section=self.section, reason="it was closed")
        try:
            function = getattr(self._cdll, name)
        except AttributeError as problem:
            raise LibraryNotLoadable(section=self.section, reason=f"it does not export {name}") from problem
        function.restype = restype
        function.argtypes = argtypes
        return function

    def hold(self, user: object) -> None:
        """Keep the library loaded for `user`."""
        self._users.add(id(user))

    def release(self, user: object) -> None:
        """`user` calls none of its functions any more; the last one's leaving unloads it."""
        self._users.discard(id(user))
        if not self._users:
            self.close()

    def __del__(self, finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if not self._users and not finalizing():
            self.close()

    def close(self) -> None:
        """Unload the library; no thread may be in its code and none of its functions be called again."""
        if self._cdll is not None:
            handle, self._cdll = self._cdll._handle, None
            _ctypes.dlclose(handle)
        self._close_file()

    def _close_file(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
