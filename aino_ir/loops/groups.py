"""Products of groups: what the 128 threads of four neighbouring warps multiply together (NVIDIA's ``wgmma``).

A group makes 64 rows and up to 256 columns of a product.  Its factors come from shared memory, a line of 128
bytes for each row of the first and each column of the second: 64 terms of 16 bits, 128 of bytes.  The chunks
of 16 bytes within a line are swapped: chunk ``c`` of line ``l`` lies at ``c ^ (l % 8)``.  The threads of warp
``w`` have the rows 16 w to 16 w + 15, and of each eight columns what an `mma` of one warp gives them.

Here the products have their meaning in numpy, for the loop interpreter; printers map them to instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, bf16, f16, f32, i8, i32, u8

Array = np.ndarray[Any, Any]

GROUP = 128
"""Threads of a group."""

ROWS = 64
"""Rows that a group makes."""

COLUMNS = (64, 128, 256)
"""Columns that there are instructions for."""

LINE_BYTES = 128
_CHUNKS = 8


@dataclass(frozen=True)
class GroupOperation:
    """A kind of product.

    Attributes:
        storages: of the factors.
        total: of the sums.
    """

    storages: tuple[DType, DType]
    total: DType

    @property
    def terms(self) -> int:
        """Of a line."""
        return LINE_BYTES // self.storages[0].bytes

    def lines(self, side: int, totals: int) -> int:
        """Lines of a factor, of a product of which each thread has so many totals."""
        return ROWS if side == 0 else columns_of(totals)


GROUP_OPERATIONS = {
    "wgmma_bf16": GroupOperation((bf16, bf16), f32),
    "wgmma_f16": GroupOperation((f16, f16), f32),
    "wgmma_s8_s8": GroupOperation((i8, i8), i32),
    "wgmma_s8_u8": GroupOperation((i8, u8), i32),
    "wgmma_u8_s8": GroupOperation((u8, i8), i32),
    "wgmma_u8_u8": GroupOperation((u8, u8), i32),
}
"""Every operation."""


def columns_of(totals: int) -> int:
    """Columns of a product of which each thread has so many totals."""
    return totals * GROUP // ROWS


def group_product(
    operation: str, buffers: tuple[Array, Array], offsets: tuple[int, int], totals: Sequence[Array]
) -> list[Array]:
    """Results of all threads.

    Args:
        operation: which.
        buffers, offsets: where the factors lie.
        totals: of all threads, arrays of 128.
    """
    kind = GROUP_OPERATIONS[operation]
    exact = np.float64 if kind.total.is_float else np.int64
    first, second = (
        _lines(buffer[offset:], kind.lines(side, len(totals)), kind.terms).astype(exact)
        for side, (buffer, offset) in enumerate(zip(buffers, offsets, strict=True))
    )
    product = first @ second.T
    thread = np.arange(GROUP)
    row, quad = thread // 32 * 16 + thread % 32 // 4, thread % 4
    out = []
    for n, total in enumerate(totals):
        block, part = divmod(n, 4)
        found = product[row + part // 2 * 8, block * 8 + quad * 2 + part % 2]
        out.append((total + found).astype(total.dtype))
    return out


def _lines(flat: Array, lines: int, terms: int) -> Array:
    """Lines as they are meant, from how they lie."""
    chunks = flat[: lines * terms].reshape(lines, _CHUNKS, terms // _CHUNKS)
    place = np.arange(_CHUNKS)[None, :] ^ (np.arange(lines) % _CHUNKS)[:, None]
    return np.take_along_axis(chunks, place[:, :, None], axis=1).reshape(lines, terms)
