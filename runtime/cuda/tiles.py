"""Maps of tiles (NVIDIA's tensor maps): what a launch passes to a kernel that copies tiles of its operands.

A map holds an address, so it is made anew for each place where an operand lies.  Its base must be a multiple
of 16 bytes: where the operand starts elsewhere, the base lies before it, and the kernel is told by how many
elements.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aino_ir.dims import DimLike, parse_dim, value_of
from aino_ir.loops.groups import LINE_BYTES
from aino_ir.loops.signals import STRIDE_BYTES
from aino_ir.runtime.cuda.driver import Driver

MAP_BYTES, MAP_ALIGNMENT = 128, 64

_ELEMENT_TYPES = {1: 0, 2: 1, 4: 2}
"""CUtensorMapDataType by bytes: unsigned integers, since elements are copied as they are."""

_ROUNDED_TO_TF32 = 11

_NO_INTERLEAVE, _SWIZZLE_128B, _PROMOTE_TO_256B, _ZEROS_OUTSIDE = 0, 3, 3, 0


@dataclass(frozen=True)
class TileMapFacts:
    """A map of tiles of a kernel; see `aino_ir.loops.stmt.TileMap`.

    Attributes:
        view: number of the view whose elements they are.
        element: its bytes.
        lines: of a tile.
        rounded: whether elements are rounded to tf32.
        extents, strides: in elements, the innermost axis first; its stride is 1 and left out.
    """

    view: int
    element: int
    lines: int
    rounded: bool
    extents: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]

    @staticmethod
    def of(row: Sequence[Any]) -> TileMapFacts:
        """From JSON."""
        view, size, lines, rounded, *dims = row
        extents, strides = (tuple(d if isinstance(d, int) else parse_dim(d) for d in each) for each in dims)
        return TileMapFacts(int(view), int(size), int(lines), bool(rounded), extents, strides)

    def shift(self, address: int) -> int:
        """Elements by which the base lies before the view."""
        return address % STRIDE_BYTES // self.element

    def made(self, driver: Driver, address: int, symbols: Mapping[str, int]) -> bytes:
        """The map of a view that lies at an address.

        Raises:
            DriverCallFailed: the driver refuses.
        """
        extents, strides = ([value_of(d, symbols) for d in dims] for dims in (self.extents, self.strides))
        rank, shift = len(extents), self.shift(address)
        _memory, first = aligned_memory(MAP_BYTES, MAP_ALIGNMENT)
        extents[0] += shift
        box = (LINE_BYTES // self.element, self.lines, *(1,) * (rank - 2))
        driver.call(
            "cuTensorMapEncodeTiled",
            first,
            _ROUNDED_TO_TF32 if self.rounded else _ELEMENT_TYPES[self.element],
            rank,
            address - shift * self.element,
            (ctypes.c_uint64 * rank)(*extents),
            (ctypes.c_uint64 * (rank - 1))(*(s * self.element for s in strides)),
            (ctypes.c_uint32 * rank)(*box),
            (ctypes.c_uint32 * rank)(*(1,) * rank),
            _NO_INTERLEAVE,
            _SWIZZLE_128B,
            _PROMOTE_TO_256B,
            _ZEROS_OUTSIDE,
        )
        return ctypes.string_at(first, MAP_BYTES)


def aligned_memory(size: int, alignment: int) -> tuple[Any, int]:
    """Memory of the host, and the address in it from which so many bytes are aligned."""
    memory = ctypes.create_string_buffer(size + alignment)
    address = ctypes.addressof(memory)
    return memory, address + -address % alignment
