"""Memory of emulated devices: between fences, unset at first, one allocation apart from the next."""

from __future__ import annotations

import ctypes
import struct
from typing import Any

from aino_ir.codegen.cuda.emulated.machine import MAP_ALIGNMENT, MAP_BYTES, Machine, number_of
from aino_ir.codegen.cuda.emulated.results import (
    ILLEGAL_ADDRESS,
    INVALID_CONTEXT,
    INVALID_VALUE,
    OUT_OF_MEMORY,
)

_MOST_AXES = 5
_TFLOAT32 = 11
_ELEMENT_BYTES = {0: 1, 1: 2, 2: 4, _TFLOAT32: 4}
"""Of the types of elements that maps may have here."""


class MemoryFunctions(Machine):
    """The driver's functions that allocate, copy and fill."""

    def _cuMemGetInfo_v2(self, free: Any, total: Any) -> int:
        used = sum(a.size for a in self._allocations.values() if a.device == self._contexts[-1])
        free._obj.value, total._obj.value = self.memory - used, self.memory
        return 0

    def _cuMemAlloc_v2(self, address: Any, size: int) -> int:
        if not self._contexts or not size:
            return INVALID_VALUE if self._contexts else INVALID_CONTEXT
        used = sum(a.size for a in self._allocations.values() if a.device == self._contexts[-1])
        if used + size > self.memory:
            return OUT_OF_MEMORY
        address._obj.value = self._new_allocation(size, self._contexts[-1]).address
        return 0

    def _cuMemFree_v2(self, address: Any) -> int:
        self.finish()
        found = self._allocations.pop(number_of(address), None)
        if found is None:
            return INVALID_VALUE
        if not found.intact():
            self._broken = ILLEGAL_ADDRESS
        return 0

    def _cuMemcpyHtoDAsync_v2(self, target: int, source: Any, size: int, stream: Any) -> int:
        if not self.inside(target, size):
            return INVALID_VALUE
        staged = ctypes.string_at(number_of(source), size)  # pageable memory is read at once
        return self._enqueue(stream, lambda: move(target, staged))

    def _cuMemcpyDtoHAsync_v2(self, target: Any, source: int, size: int, stream: Any) -> int:
        if not self.inside(source, size):
            return INVALID_VALUE
        place = number_of(target)
        return self._enqueue(stream, lambda: copy(place, source, size))

    def _cuMemcpyDtoDAsync_v2(self, target: int, source: int, size: int, stream: Any) -> int:
        if not (self.inside(source, size) and self.inside(target, size)):
            return INVALID_VALUE
        return self._enqueue(stream, lambda: copy(target, source, size))

    def _cuTensorMapEncodeTiled(
        self,
        made: Any,
        type_: int,
        rank: int,
        base: Any,
        extents: Any,
        strides: Any,
        box: Any,
        steps: Any,
        interleave: int,
        swizzle: int,
        promotion: int,
        fill: int,
    ) -> int:
        """As cuda.h demands it of maps without interleaving, of tiles that lie in lines of 128 bytes."""
        place, address, size = number_of(made), number_of(base), _ELEMENT_BYTES.get(type_, 0)
        sizes, tile = list(extents), list(box)
        apart = [0, *strides]
        valid = (
            size
            and 2 <= rank <= _MOST_AXES
            and place % MAP_ALIGNMENT == 0
            and address % 16 == 0
            and all(0 < e <= 1 << 32 for e in sizes)
            and all(s % 16 == 0 and s < 1 << 40 for s in apart)
            and all(0 < t <= 256 for t in tile)
            and all(s == 1 for s in steps)
            and (tile[0] * size, interleave, swizzle) == (128, 0, 3)
        )
        if not valid:
            return INVALID_VALUE
        missing = _MOST_AXES - rank
        data = struct.pack(
            "<Q5q4q4i",
            address,
            *sizes,
            *[0] * missing,
            *(s // size for s in apart[1:]),
            *[0] * missing,
            size,
            tile[1],
            rank,
            type_ == _TFLOAT32,
        )
        ctypes.memmove(place, data.ljust(MAP_BYTES, b"\0"), MAP_BYTES)
        return 0

    def _cuMemsetD32Async(self, target: int, value: int, count: int, stream: Any) -> int:
        if not self.inside(target, 4 * count):
            return INVALID_VALUE
        return self._enqueue(stream, lambda: move(target, struct.pack("<I", value) * count))


def move(target: int, data: bytes) -> None:
    """Write bytes at an address."""
    ctypes.memmove(target, data, len(data))


def copy(target: int, source: int, size: int) -> None:
    """Copy from an address to another."""
    ctypes.memmove(target, source, size)
