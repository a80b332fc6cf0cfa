"""Products of groups: what the 128 threads of four neighbouring warps multiply together (NVIDIA's ``wgmma``).

A group makes 64 rows and up to 256 columns of a product.  Its factors come from shared memory, in lines of
128 bytes: of 64 terms of 16 bits, 128 of bytes, for a row of the first or a column of the second factor; or,
turned over, of 64 rows or columns for each term.  The chunks of 16 bytes within a line are swapped: chunk
``c`` of line ``l`` lies at ``c ^ (l % 8)``.  The threads of warp ``w`` have the rows 16 w to 16 w + 15, and
of each eight columns what an `mma` of one warp gives them; fragments of the first factor are spread alike.

Here the products have their meaning in numpy, for the loop interpreter; printers map them to instructions.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, bf16, f16, f32, i8, i32, u8
from aino_ir.loops.warp import SHORT_FLOAT_BITS

Array = np.ndarray[Any, Any]

GROUP = 128
"""Threads of a group."""

ROWS = 64
"""Rows that a group makes."""

COLUMNS = (64, 128, 256)
"""Columns that there are instructions for."""

LINE_BYTES = 128

FRAGMENTS = 16
"""Of a first factor that threads give, for each line of terms."""

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

    def extents(self, side: int, totals: int, lines: int) -> tuple[int, int]:
        """Rows or columns, and terms, of a factor, by totals of a thread and lines of terms."""
        return ROWS if side == 0 else columns_of(totals), lines * self.terms

    def end(self, side: int, totals: int, lines: int, step: int, turned: bool) -> int:
        """Elements from where a factor starts to where its last line ends."""
        across, terms = self.extents(side, totals, lines)
        down, along = (terms, across) if turned else (across, terms)
        return (along // self.terms - 1) * step + down * self.terms


GROUP_OPERATIONS = {
    "wgmma_bf16": GroupOperation((bf16, bf16), f32),
    "wgmma_f16": GroupOperation((f16, f16), f32),
    "wgmma_tf32": GroupOperation((f32, f32), f32),
    "wgmma_s8_s8": GroupOperation((i8, i8), i32),
    "wgmma_s8_u8": GroupOperation((i8, u8), i32),
    "wgmma_u8_s8": GroupOperation((u8, i8), i32),
    "wgmma_u8_u8": GroupOperation((u8, u8), i32),
}
"""Every operation."""


def columns_of(totals: int) -> int:
    """Columns of a product of which each thread has so many totals."""
    return totals * GROUP // ROWS


def shared_factor(flat: Array, extents: tuple[int, int], step: int, turned: bool) -> Array:
    """A factor [rows or columns, terms] from how it lies in shared memory; see `stmt.SharedFactor`."""
    down, along = extents[::-1] if turned else extents
    wide = LINE_BYTES // flat.itemsize
    parts = [_lines(flat[n * step :], down, wide) for n in range(along // wide)]
    factor = np.concatenate(parts, axis=1)
    return factor.T if turned else factor


def held_factor(fragments: Sequence[Array], storage: DType) -> Array:
    """A first factor [64, terms] from fragments of all threads, arrays of 128."""
    words = np.zeros((ROWS, len(fragments) * 2), np.uint32)
    thread = np.arange(GROUP)
    row, quad = thread // 32 * 16 + thread % 32 // 4, thread % 4
    for n, fragment in enumerate(fragments):
        words[row + n % 2 * 8, n // 4 * 8 + n % 4 // 2 * 4 + quad] = fragment
    return words.view(storage.numpy)


def group_product(operation: str, first: Array, second: Array, totals: Sequence[Array]) -> list[Array]:
    """Results of all threads.

    Args:
        operation: which.
        first: [64, terms].
        second: [columns, terms].
        totals: of all threads, arrays of 128.
    """
    exact = np.float64 if GROUP_OPERATIONS[operation].total.is_float else np.int64
    if operation == "wgmma_tf32":  # which takes no more bits than tf32 has
        first, second = (
            (np.ascontiguousarray(x).view(np.uint32) & SHORT_FLOAT_BITS).view(np.float32)
            for x in (first, second)
        )
    product = first.astype(exact) @ second.astype(exact).T
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
    return swapped(flat[: lines * terms].reshape(lines, terms))


def swapped(lines: Array) -> Array:
    """Lines with their chunks swapped: as they lie from how they are meant, and the other way round."""
    count, terms = lines.shape
    chunks = lines.reshape(count, _CHUNKS, terms // _CHUNKS)
    place = np.arange(_CHUNKS)[None, :] ^ (np.arange(count) % _CHUNKS)[:, None]
    return np.take_along_axis(chunks, place[:, :, None], axis=1).reshape(count, terms)
