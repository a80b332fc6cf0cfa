"""What the 32 threads of a warp do together: each gives operands and gets results of its own.

    exchange     the value that thread ``t ^ parameter`` of the warp gave
    mma_*        a tile of a product, D = A B + C, whose elements are spread over the warp: 16 x 8 results of
                 16 (bf16, f16), 8 (tf32) or 32 (s8, u8: by both factors) terms each, two, one or four
                 factors a register
    load_matrix  four blocks of eight rows of 16 bytes: thread 8 b + r gives row r of block b (neighbouring
                 elements of a shared buffer) and gets, of each block, the four bytes that an mma wants
                 from it; with parameter 1 the blocks, of 8 x 8 elements of 16 bits, are turned over
    pack         two f32 rounded to 16 bits, in one register
    unpack       two 16-bit floats of a register as f32
    exp2         2 to the power of an f32, within 2 ulp; 0 for what would be denormal
    larger       the larger one of two f32, the other one of a NaN
    round_tf32   the bits of an f32 rounded to nearest, ties away from zero, as tf32 has them: 10 bits behind
                 the point

The layouts are those of NVIDIA's ``mma.sync`` and ``ldmatrix``.  Here they have their meaning in numpy, for
the loop interpreter; printers map them to instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DTYPES, bf16, f16, f32, i8, i32, u8, u32
from aino_ir.loops.expr import VecType

Array = np.ndarray[Any, Any]

WARP = 32
"""Threads of a warp."""

BLOCK = 128
"""Threads of a block where each thread has a unit of its own (AINO_BLOCK of aino_cuda.h)."""

SHORT_FLOAT_BITS = np.uint32(0xFFFFE000)
"""Of an f32, those that tf32 has."""

_FRAGMENT = VecType(u32)
_LANE = np.arange(WARP)
_ROW, _QUAD = _LANE // 4, _LANE % 4


@dataclass(frozen=True)
class WarpOperation:
    """An operation of a warp.

    Attributes:
        operands, results: types of what a thread gives and gets.
        apply: (operands of all threads, parameter) -> results of all threads; arrays of 32 (x lanes).
    """

    operands: tuple[VecType, ...]
    results: tuple[VecType, ...]
    apply: Callable[[Sequence[Array], int], list[Array]]


# -- parts of registers -------------------------------------------------------------------------------


def _halves(dtype: str) -> Callable[[Array], Array]:
    """u32[32] -> f32[32, 2] of two 16-bit floats."""
    numpy = DTYPES[dtype].numpy
    return lambda x: np.ascontiguousarray(x).view(np.uint16).reshape(WARP, 2).view(numpy).astype(np.float32)


def _joined(dtype: str, pairs: Array) -> Array:
    """f32[32, 2] -> u32[32], rounded to 16 bits each."""
    return np.ascontiguousarray(pairs.astype(DTYPES[dtype].numpy)).view(np.uint32).reshape(WARP)


def _bytes(signed: bool) -> Callable[[Array], Array]:
    """u32[32] -> i32[32, 4]."""
    kind = np.int8 if signed else np.uint8
    return lambda x: np.ascontiguousarray(x).view(kind).reshape(WARP, 4).astype(np.int32)


def _short_floats(x: Array) -> Array:
    """u32[32], bits of f32 -> f32[32, 1] without the bits that tf32 lacks."""
    short: Array = (x & SHORT_FLOAT_BITS).view(np.float32)
    return short.reshape(WARP, 1)


# -- products -----------------------------------------------------------------------------------------


def _mma(part_a: Callable[[Array], Array], part_b: Callable[[Array], Array], width: int) -> Any:
    """The product of fragments whose registers hold `width` neighbouring terms each."""

    def apply(x: Sequence[Array], parameter: int) -> list[Array]:
        a0, a1, a2, a3 = (part_a(r) for r in x[:4])
        b0, b1 = (part_b(r) for r in x[4:6])
        terms = 8 * width
        a = np.zeros((16, terms), a0.dtype)
        b = np.zeros((terms, 8), b0.dtype)
        for w in range(width):
            low, high = _QUAD * width + w, _QUAD * width + w + 4 * width
            a[_ROW, low], a[_ROW + 8, low], a[_ROW, high], a[_ROW + 8, high] = (
                a0[:, w],
                a1[:, w],
                a2[:, w],
                a3[:, w],
            )
            b[low, _ROW], b[high, _ROW] = b0[:, w], b1[:, w]
        exact = np.float64 if a.dtype.kind == "f" else np.int64
        d = a.astype(exact) @ b.astype(exact)
        places = [(_ROW, 2 * _QUAD), (_ROW, 2 * _QUAD + 1), (_ROW + 8, 2 * _QUAD), (_ROW + 8, 2 * _QUAD + 1)]
        return [(c + d[p]).astype(c.dtype) for c, p in zip(x[6:], places, strict=True)]

    return apply


def _product(part_a: Any, part_b: Any, width: int, total: VecType) -> WarpOperation:
    return WarpOperation((_FRAGMENT,) * 6 + (total,) * 4, (total,) * 4, _mma(part_a, part_b, width))


# -- the others ---------------------------------------------------------------------------------------


def _exchange(x: Sequence[Array], distance: int) -> list[Array]:
    return [x[0][_LANE ^ distance]]


def _load_matrix(dtype: str) -> Callable[[Sequence[Array], int], list[Array]]:
    storage = DTYPES[dtype].numpy

    def apply(x: Sequence[Array], turned: int) -> list[Array]:
        rows = np.ascontiguousarray(x[0].astype(storage))
        if turned:
            blocks = rows.view(np.uint16).reshape(4, 8, 8).transpose(0, 2, 1)
            rows = np.ascontiguousarray(blocks).reshape(WARP, 8)
        words = rows.view(np.uint32).reshape(4, 8, 4)
        return [block[_ROW, _QUAD] for block in words]

    return apply


def rounded_tf32(bits: Array) -> Array:
    """Bits of f32 as tf32 has them; infinities and NaN as they are."""
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return np.where(special, bits, (bits + np.uint32(0x1000)) & SHORT_FLOAT_BITS)


def _round_tf32(x: Sequence[Array], parameter: int) -> list[Array]:
    return [rounded_tf32(x[0])]


def _pack(dtype: str) -> Callable[[Sequence[Array], int], list[Array]]:
    return lambda x, parameter: [_joined(dtype, np.stack([x[0], x[1]], 1))]


def _unpack(dtype: str) -> Callable[[Sequence[Array], int], list[Array]]:
    return lambda x, parameter: list(_halves(dtype)(x[0]).T)


def _exp2(x: Sequence[Array], parameter: int) -> list[Array]:
    found = np.exp2(x[0].astype(np.float64)).astype(np.float32)
    return [np.where(found < np.finfo(np.float32).tiny, np.float32(0), found)]


def _exchanges() -> dict[str, WarpOperation]:
    scalars = [VecType(DTYPES[name]) for name in ("f32", "f64", "i32", "i64", "u32", "u64")]
    return {f"exchange_{t}": WarpOperation((t,), (t,), _exchange) for t in scalars}


_F32, _I32 = VecType(f32), VecType(i32)

OPERATIONS: dict[str, WarpOperation] = {
    **_exchanges(),
    "mma_bf16": _product(_halves("bf16"), _halves("bf16"), 2, _F32),
    "mma_f16": _product(_halves("f16"), _halves("f16"), 2, _F32),
    "mma_tf32": _product(_short_floats, _short_floats, 1, _F32),
    **{
        f"mma_{a}_{b}": _product(_bytes(a == "s8"), _bytes(b == "s8"), 4, _I32)
        for a in ("s8", "u8")
        for b in ("s8", "u8")
    },
    **{
        f"load_matrix_{dtype}": WarpOperation(
            (VecType(dtype.compute, 16 // dtype.bytes),), (_FRAGMENT,) * 4, _load_matrix(dtype.name)
        )
        for dtype in (bf16, f16, i8, u8, f32)
    },
    **{f"pack_{t}": WarpOperation((_F32, _F32), (_FRAGMENT,), _pack(t)) for t in ("bf16", "f16")},
    **{f"unpack_{t}": WarpOperation((_FRAGMENT,), (_F32, _F32), _unpack(t)) for t in ("bf16", "f16")},
    "exp2_f32": WarpOperation((_F32,), (_F32,), _exp2),
    "larger_f32": WarpOperation((_F32, _F32), (_F32,), lambda x, parameter: [np.fmax(x[0], x[1])]),
    "round_tf32": WarpOperation((_FRAGMENT,), (_FRAGMENT,), _round_tf32),
}
"""Every operation."""
