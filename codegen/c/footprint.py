"""Flash and RAM of a model on a device: constants and static memory by the plan, code by its objects."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from aino_ir.plan import BufferKind, Plan

_MEMBER = 60
"""Bytes of a header in an archive."""

_WRITE, _ALLOC, _NOBITS = 1, 2, 8


@dataclass(frozen=True)
class Footprint:
    """Bytes of a model on a device; inputs, outputs and the stack are the caller's.

    Attributes:
        constants: weights, in flash.
        code: instructions and tables, in flash; -1 when nothing has been compiled.
        arena, scratch, states: intermediate results, what kernels need for themselves, what is kept.
        other: further static memory of the generated main.
    """

    constants: int
    code: int
    arena: int
    scratch: int
    states: int
    other: int = 0

    @property
    def flash(self) -> int:
        """Bytes of flash; without the code when nothing has been compiled."""
        return self.constants + max(0, self.code)

    @property
    def ram(self) -> int:
        """Bytes of static memory."""
        return self.arena + self.scratch + self.states + self.other

    def facts(self) -> dict[str, int]:
        """For reports."""
        return {"flash": self.flash, "ram": self.ram, **asdict(self)}


def footprint(plan: Plan, constants: int, archive: bytes | None = None) -> Footprint:
    """The footprint of a plan without symbols.

    Args:
        plan: the plan.
        constants: bytes of its weights.
        archive: its compiled objects.
    """
    arena, scratch = max(1, int(plan.arena_bytes)), max(1, int(plan.scratch_bytes))  # type: ignore[arg-type]
    states = [b.bytes for b in plan.buffers if b.kind is BufferKind.STATE]
    kept = sum(int(size) for size in states)  # type: ignore[arg-type,misc]
    if archive is None:
        return Footprint(constants, -1, arena, scratch, kept)
    flash, ram = section_bytes(archive)
    return Footprint(constants, flash, arena, scratch, kept, max(0, ram - arena - scratch - kept))


def section_bytes(archive: bytes) -> tuple[int, int]:
    """(bytes of flash, bytes of RAM) that the objects of an archive take when they are linked."""
    flash = ram = 0
    for data in _members(archive):
        for flags, kind, size in _sections(data):
            if flags & _ALLOC:
                flash += size if kind != _NOBITS else 0
                ram += size if flags & _WRITE else 0
    return flash, ram


def _members(archive: bytes) -> Iterator[bytes]:
    """The ELF objects of an ``ar`` archive."""
    position = 8
    while position + _MEMBER <= len(archive):
        size = int(archive[position + 48 : position + 58])
        data = archive[position + _MEMBER : position + _MEMBER + size]
        if b"\x7fELF" in data[:64]:
            yield data[data.index(b"\x7fELF") :]  # a long name may stand before it
        position += _MEMBER + size + size % 2


def _sections(data: bytes) -> Iterator[tuple[int, int, int]]:
    """(flags, type, size) of the sections of a 32-bit ELF object."""
    (table,) = struct.unpack_from("<I", data, 32)
    size, count = struct.unpack_from("<HH", data, 46)
    for number in range(count):
        _, kind, flags, _, _, length, *_ = struct.unpack_from("<10I", data, table + number * size)
        if kind not in (0x70000001,):  # unwinding tables, which firmware leaves out
            yield flags, kind, length
