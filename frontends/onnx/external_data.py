"""External data, confined to the model's folder.

A location is walked from a descriptor of the folder, one component at a time and never through a
symbolic link; only regular files with one link are opened.  Offsets and lengths are checked against
the file before anything is mapped.  Keys: onnx.proto, TensorProto.external_data.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import re
import stat
from dataclasses import dataclass
from typing import Any

from aino_ir.errors.onnx import (
    ExternalChecksumMismatch,
    ExternalDataInvalid,
    ExternalFileUnreadable,
    ExternalFolderUnknown,
    ExternalPathRefused,
    ExternalRangeInvalid,
    TensorSizeMismatch,
)
from aino_ir.frontends.onnx.names import quote, text_of
from aino_ir.frontends.onnx.tensors import ELEMENT_TYPES

_KEYS = ("location", "offset", "length", "checksum")
_NUMBER = re.compile(r"[0-9]{1,19}")
_SHA1 = re.compile(r"[0-9a-fA-F]{40}")
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_MOST_MAPS = 256
"""A map holds a descriptor: files past this many, or smaller than a page, are read instead."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A tensor's checked external_data: file, first byte, number of bytes or None, SHA-1 of the file."""

    location: str
    offset: int
    length: int | None
    checksum: str | None


def parse_entry(proto: Any, what: str, loc: object = None) -> Entry:
    """The external_data entries of a TensorProto; ExternalDataInvalid when one is unknown or malformed."""
    found: dict[str, str] = {}
    for pair in proto.external_data:
        key = text_of(pair.key, f"external data key of {what}", loc)
        value = text_of(pair.value, f"external data value of {what}", loc)
        if key not in _KEYS or key in found:
            reason = "the key is unknown" if key not in _KEYS else "the key is given twice"
            raise ExternalDataInvalid(loc=loc, what=what, key=quote(key), value=quote(value), reason=reason)
        found[key] = value
    for key, pattern, reason in (
        ("offset", _NUMBER, "it is not a decimal number"),
        ("length", _NUMBER, "it is not a decimal number"),
        ("checksum", _SHA1, "it is not a hexadecimal SHA-1"),
    ):
        if key in found and not pattern.fullmatch(found[key]):
            raise ExternalDataInvalid(
                loc=loc, what=what, key=quote(key), value=quote(found[key]), reason=reason
            )
    if not found.get("location"):
        raise ExternalDataInvalid(loc=loc, what=what, key="'location'", value="''", reason="it is missing")
    length = int(found["length"]) if "length" in found else None
    checksum = found["checksum"].lower() if "checksum" in found else None
    return Entry(found["location"], int(found.get("offset", "0")), length, checksum)


def components(location: str, what: str, loc: object = None) -> list[str]:
    """The path components of a location; ExternalPathRefused when one could lead out of the folder."""
    parts = [part for part in location.split("/") if part != "."]
    reason = None
    if location.startswith("/"):
        reason = "the path is absolute"
    elif ".." in parts:
        reason = "it leaves the folder"
    elif not parts or "" in parts:
        reason = "a component of the path is empty"
    elif "\\" in location or "\0" in location:
        reason = "the path holds a backslash or a null character"
    if reason:
        raise ExternalPathRefused(loc=loc, what=what, location=quote(location), reason=reason)
    return parts


class ExternalFolder:
    """The data files beside one model, each opened and mapped once.

    `folder` None stands for a model without a place: any external data is then an error.
    """

    def __init__(self, folder: str | os.PathLike[str] | None) -> None:
        self._folder = None if folder is None else os.fspath(folder)
        self._files: dict[tuple[str, ...], memoryview] = {}
        self._checksums: dict[tuple[str, ...], str] = {}
        self._maps = 0

    def read(self, proto: Any, what: str, expected: int, loc: object = None) -> memoryview:
        """The `expected` bytes of a TensorProto whose data is external, without copying them."""
        entry = parse_entry(proto, what, loc)
        parts = components(entry.location, what, loc)
        if self._folder is None:
            raise ExternalFolderUnknown(loc=loc, what=what, location=quote(entry.location))
        if entry.length is not None and entry.length != expected:
            raise TensorSizeMismatch(
                loc=loc,
                what=what,
                dtype=ELEMENT_TYPES[proto.data_type].name,
                shape=list(proto.dims),
                expected=expected,
                unit="bytes",
                field="external data",
                got=entry.length,
            )
        data = self._open(tuple(parts), entry, what, loc)
        stop = entry.offset + expected
        if stop > len(data):
            raise ExternalRangeInvalid(
                loc=loc,
                what=what,
                start=entry.offset,
                stop=stop,
                location=quote(entry.location),
                size=len(data),
            )
        if entry.checksum is not None:
            self._verify(tuple(parts), data, entry, what, loc)
        return data[entry.offset : stop]

    def _open(self, parts: tuple[str, ...], entry: Entry, what: str, loc: object) -> memoryview:
        data = self._files.get(parts)
        if data is None:
            assert self._folder is not None
            try:
                descriptor = open_beneath(self._folder, parts)
            except OSError as error:
                raise self._explain(error, entry, what, loc) from error
            try:
                data = self._map(descriptor, entry, what, loc)
            finally:
                os.close(descriptor)
            self._files[parts] = data
        return data

    def _map(self, descriptor: int, entry: Entry, what: str, loc: object) -> memoryview:
        status = os.fstat(descriptor)
        reason = None
        if not stat.S_ISREG(status.st_mode):
            reason = "it is not a regular file"
        elif status.st_nlink != 1:
            reason = f"it has {status.st_nlink} hard links"
        if reason:
            raise ExternalPathRefused(loc=loc, what=what, location=quote(entry.location), reason=reason)
        if status.st_size < mmap.PAGESIZE or self._maps >= _MOST_MAPS:
            with open(descriptor, "rb", closefd=False) as file:
                return memoryview(file.read(status.st_size))
        self._maps += 1
        return memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ))

    def _verify(self, parts: tuple[str, ...], data: memoryview, entry: Entry, what: str, loc: object) -> None:
        got = self._checksums.get(parts)
        if got is None:
            got = self._checksums[parts] = hashlib.sha1(data, usedforsecurity=False).hexdigest()
        if got != entry.checksum:
            raise ExternalChecksumMismatch(
                loc=loc, what=what, location=quote(entry.location), got=got, expected=entry.checksum
            )

    def _explain(
        self, error: OSError, entry: Entry, what: str, loc: object
    ) -> ExternalPathRefused | ExternalFileUnreadable:
        location = quote(entry.location)
        if isinstance(error, SymbolicLinkMet):
            return ExternalPathRefused(
                loc=loc, what=what, location=location, reason="it leads over a symbolic link"
            )
        reason = (error.strerror or str(error)).lower()
        return ExternalFileUnreadable(loc=loc, what=what, location=location, reason=reason)


class SymbolicLinkMet(OSError):
    """A component of a confined path is a symbolic link."""


def open_beneath(folder: str, parts: tuple[str, ...]) -> int:
    """A read-only descriptor of the file `parts` under `folder`; no component may be a symbolic link.

    Raises:
        SymbolicLinkMet: a component is a symbolic link.
        OSError: the system's own refusal.
    """
    holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            inner = _open_at(part, _FOLDER_FLAGS, holder)
            os.close(holder)
            holder = inner
        return _open_at(parts[-1], _FILE_FLAGS, holder)
    finally:
        os.close(holder)


def _open_at(part: str, flags: int, holder: int) -> int:
    """os.open of one component; tells a symbolic link from other reasons (the errno differs by flags)."""
    name = part.encode("utf-8")
    try:
        return os.open(name, flags, dir_fd=holder)
    except OSError as error:
        try:
            is_link = stat.S_ISLNK(os.stat(name, dir_fd=holder, follow_symlinks=False).st_mode)
        except OSError:
            raise error from None
        if is_link:
            raise SymbolicLinkMet(error.errno, "symbolic link", part) from error
        raise
