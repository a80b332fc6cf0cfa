"""The zip layout of artifacts: stored, sorted, aligned members and nothing else.

An artifact is an ordinary zip file (64-bit records throughout), so that any unzip program opens it.  Its
layout follows from names, sizes and checksums alone; the reader computes the layout again and demands
every header byte of it, so that no gap, overlap, second directory or trailing data can exist.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from aino_ir.errors.artifact import ArtifactSchema, NotAnArtifact

SCHEMA = 3
"""Version of the file layout and of the manifest's keys."""

PAGE = 4096
"""Alignment, in the file, of what is mapped or loaded."""

MAX_MEMBERS = 4096
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*(/[A-Za-z0-9_][A-Za-z0-9_.+-]*){0,7}", re.ASCII)
_MAX_NAME = 200

_LOCAL = struct.Struct("<IHHHHHIIIHH")
_CENTRAL = struct.Struct("<IHHHHHHIIIHHHHHII")
_END64 = struct.Struct("<IQHHIIQQQQ")
_LOCATOR = struct.Struct("<IIQI")
_END = struct.Struct("<IHHHHIIH")
_VERSION, _METHOD, _FLAGS, _TIME, _DATE = 45, 0, 0, 0, 0x21  # stored; 1980-01-01
_U16, _U32 = 0xFFFF, 0xFFFFFFFF
_UNIX_FILE = 0o100644 << 16
_ZIP64, _PADDING = 0x0001, 0xD935
_COMMENT = re.compile(rb"AINO artifact schema ([0-9]{1,9}) sha256 ([0-9a-f]{64})\Z")


@dataclass(frozen=True)
class Member:
    """One file in the zip.

    Attributes:
        name: relative path.
        size: bytes.
        crc: CRC-32 of the bytes.
        header: offset of its local header.
        start: offset of its bytes.
    """

    name: str
    size: int
    crc: int
    header: int
    start: int


def is_member_name(name: str) -> bool:
    """Whether `name` is a plain relative path that every system can hold."""
    return len(name) <= _MAX_NAME and _NAME.fullmatch(name) is not None


def lay_out(sizes: Mapping[str, int], crcs: Mapping[str, int]) -> list[Member]:
    """Return the members in file order with their offsets; the checksums do not influence these."""
    members: list[Member] = []
    at = 0
    for name in sorted(sizes):
        start = at + _LOCAL.size + len(name) + len(_local_extra(name, 0, at))
        members.append(Member(name, sizes[name], crcs.get(name, 0), at, start))
        at = start + sizes[name]
    return members


def local_header(member: Member) -> bytes:
    """Return what stands before a member's bytes."""
    extra = _local_extra(member.name, member.size, member.header)
    name = member.name.encode()
    fixed = _LOCAL.pack(
        0x04034B50,
        _VERSION,
        _FLAGS,
        _METHOD,
        _TIME,
        _DATE,
        member.crc,
        _U32,
        _U32,
        len(name),
        len(extra),
    )
    return fixed + name + extra


def _local_extra(name: str, size: int, at: int) -> bytes:
    """Return the 64-bit sizes, and padding up to the alignment of a mapped member."""
    extra = struct.pack("<HHQQ", _ZIP64, 16, size, size)
    if not name.endswith((".so", ".bin")):
        return extra
    pad = -(at + _LOCAL.size + len(name) + len(extra)) % PAGE
    if 0 < pad < 4:
        pad += PAGE
    return extra + (struct.pack("<HH", _PADDING, pad - 4) + bytes(pad - 4) if pad else b"")


def directory(members: list[Member], comment: bytes) -> bytes:
    """Return what stands after the last member: the central directory and the end records."""
    entries = b"".join(_central_entry(member) for member in members)
    at = members[-1].start + members[-1].size if members else 0
    end64 = _END64.pack(
        0x06064B50, 44, 3 << 8 | _VERSION, _VERSION, 0, 0, len(members), len(members), len(entries), at
    )
    locator = _LOCATOR.pack(0x07064B50, 0, at + len(entries), 1)
    end = _END.pack(0x06054B50, 0, 0, _U16, _U16, _U32, _U32, len(comment))
    return entries + end64 + locator + end + comment


def _central_entry(member: Member) -> bytes:
    name = member.name.encode()
    extra = struct.pack("<HHQQQ", _ZIP64, 24, member.size, member.size, member.header)
    fixed = _CENTRAL.pack(
        0x02014B50,
        3 << 8 | _VERSION,
        _VERSION,
        _FLAGS,
        _METHOD,
        _TIME,
        _DATE,
        member.crc,
        _U32,
        _U32,
        len(name),
        len(extra),
        0,
        0,
        0,
        _UNIX_FILE,
        _U32,
    )
    return fixed + name + extra


def comment_for(manifest_sha256: str) -> bytes:
    """Return the zip comment: it tells the schema and what the manifest must hash to."""
    return f"AINO artifact schema {SCHEMA} sha256 {manifest_sha256}".encode()


def read_layout(data: memoryview, path: str) -> tuple[dict[str, Member], str]:
    """Return the members of the artifact `data` by name, and the SHA-256 of its manifest.

    Raises:
        NotAnArtifact: a byte outside the members' content is not as AINO writes it.
        ArtifactSchema: another version of AINO wrote it.
    """
    match = _COMMENT.search(bytes(data[-160:]))
    if match is None:
        raise NotAnArtifact(path=path, reason="it does not end the way an artifact ends")
    if int(match[1]) != SCHEMA:
        raise ArtifactSchema(path=path, found=int(match[1]), supported=SCHEMA)
    comment = match[0]
    tail = _END64.size + _LOCATOR.size + _END.size + len(comment)
    if len(data) < tail:
        raise NotAnArtifact(path=path, reason=f"{len(data)} bytes are too few")
    fields = _END64.unpack_from(data, len(data) - tail)
    count, size, at = fields[6], fields[8], fields[9]
    if count > MAX_MEMBERS or size > len(data) - tail or at != len(data) - tail - size:
        raise NotAnArtifact(path=path, reason="its directory lies outside the file")
    members = _read_entries(data[at : at + size], count, path)
    _check_bytes(data, members, at, comment, path)
    return {member.name: member for member in members}, match[2].decode()


def _read_entries(entries: memoryview, count: int, path: str) -> list[Member]:
    """Read names, sizes and checksums from the directory and lay the members out again."""
    sizes: dict[str, int] = {}
    crcs: dict[str, int] = {}
    at = 0
    for _ in range(count):
        if at + _CENTRAL.size > len(entries):
            raise NotAnArtifact(path=path, reason="its directory is cut")
        fields = _CENTRAL.unpack_from(entries, at)
        name_at = at + _CENTRAL.size
        size_at = name_at + fields[10] + 4
        name = bytes(entries[name_at : name_at + fields[10]]).decode("ascii", "replace")
        if not is_member_name(name) or name in sizes or size_at + 8 > len(entries):
            raise NotAnArtifact(path=path, reason=f"its directory has a bad entry ({name[:40]!r})")
        (sizes[name],) = struct.unpack_from("<Q", entries, size_at)
        crcs[name] = fields[7]
        at = size_at + 24
    return lay_out(sizes, crcs)


def _check_bytes(data: memoryview, members: list[Member], at: int, comment: bytes, path: str) -> None:
    """Demand that all bytes which are nobody's content are those that the writer would write."""
    end = members[-1].start + members[-1].size if members else 0
    if end != at:
        raise NotAnArtifact(path=path, reason=f"its sections need {end} bytes, there are {at}")
    if bytes(data[at:]) != directory(members, comment):
        raise NotAnArtifact(path=path, reason="its directory is not as AINO writes it")
    for member in members:
        if bytes(data[member.header : member.start]) != local_header(member):
            raise NotAnArtifact(
                path=path, reason=f"the header of {member.name!r} does not match its directory"
            )
