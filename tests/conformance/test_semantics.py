"""The semantics table, row by row, on the interpreter and on compiled C, without and with passes.

Rows about values are one module; rows about errors are in `test_semantics_refused`.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.location import loc
from aino_ir.types import tensor, type_of
from tests.conformance.semantics import I32, I64, INF, NAN, array, compiled, every_target, f32, i32

# ---------------------------------------------------------------------------------- defined values

ROWS: dict[str, tuple[str, tuple[Any, ...], dict[str, Any], Any]] = {
    "least by minus one": ("math.div", (i32(I32.min, 7), i32(-1, -1)), {}, i32(I32.min, -7)),
    "least by minus one, 64 bits": (
        "math.div",
        (array([I64.min, 9], np.int64), array([-1, -2], np.int64)),
        {},
        array([I64.min, -4], np.int64),
    ),
    "least by minus one, 8 bits": (
        "math.div",
        (array([-128, 100] * 20, np.int8), array([-1, 7] * 20, np.int8)),
        {},
        array([-128, 14] * 20, np.int8),
    ),
    "least floor-divided": ("math.floordiv", (i32(I32.min, -7), i32(-1, 2)), {}, i32(I32.min, -4)),
    "least mod minus one": ("math.mod", (i32(I32.min, -7, 7), i32(-1, 3, -3)), {}, i32(0, 2, -2)),
    "least rem minus one": (
        "math.mod",
        (i32(I32.min, -7, 7), i32(-1, 3, -3)),
        {"mode": "trunc"},
        i32(0, -1, 1),
    ),
    "sums wrap": ("math.add", (i32(I32.max, I32.min), i32(1, -1)), {}, i32(I32.min, I32.max)),
    "bytes wrap": (
        "math.mul",
        (array([200, 16], np.uint8), array([2, 16], np.uint8)),
        {},
        array([144, 0], np.uint8),
    ),
    "negating the least": ("math.neg", (i32(I32.min, 3),), {}, i32(I32.min, -3)),
    "shifts past the width": (
        "logic.shift_left",
        (array([1, 1, 1, 3], np.uint32), array([31, 32, 77, 4_000_000_000], np.uint32)),
        {},
        array([2**31, 0, 0, 0], np.uint32),
    ),
    "byte shifts past the width": (
        "logic.shift_left",
        (array([1, 1, 255], np.uint8), array([7, 8, 200], np.uint8)),
        {},
        array([128, 0, 0], np.uint8),
    ),
    "right shifts past the width": (
        "logic.shift_right",
        (array([2**63, 2**63, 5], np.uint64), array([63, 64, 2**63], np.uint64)),
        {},
        array([1, 0, 0], np.uint64),
    ),
    "signed right shifts": ("logic.shift_right", (i32(-8, -8, 8), i32(1, 40, 40)), {}, i32(-4, -1, 0)),
    "floats to i32": (
        "math.cast",
        (f32(NAN, INF, -INF, 1e20, -1e20, 2147483648.0, -2147483648.0, 1.9, -1.9),),
        {"to": "i32"},
        i32(0, I32.max, I32.min, I32.max, I32.min, I32.max, I32.min, 1, -1),
    ),
    "floats to u8": (
        "math.cast",
        (f32(NAN, -1, 256, 255.9, INF),),
        {"to": "u8"},
        array([0, 0, 255, 255, 255], np.uint8),
    ),
    "floats to i64": (
        "math.cast",
        (f32(NAN, 9.3e18, -9.3e18, 1e6),),
        {"to": "i64"},
        array([0, I64.max, I64.min, 10**6], np.int64),
    ),
    "doubles to u64": (
        "math.cast",
        (array([NAN, -5.0, 1.9e19, 2.0**63], np.float64),),
        {"to": "u64"},
        array([0, 0, 2**64 - 1, 2**63], np.uint64),
    ),
    "floats as x86 casts them": (
        "math.cast",
        (f32(NAN, INF, -1e20, 5.5),),
        {"to": "i32", "semantics": "x86"},
        i32(I32.min, I32.min, I32.min, 5),
    ),
    "maximum with NaN": ("math.max", (f32(NAN, 1, NAN, 2), f32(1, NAN, NAN, 1)), {}, f32(NAN, NAN, NAN, 2)),
    "minimum with NaN": ("math.min", (f32(NAN, 1, NAN, 2), f32(1, NAN, NAN, 1)), {}, f32(NAN, NAN, NAN, 1)),
    "relu of NaN": ("math.relu", (f32(NAN, -1, 2, -INF),), {}, f32(NAN, 0, 2, 0)),
    "clip of NaN": ("math.clip", (f32(NAN, 9, -9),), {"min": 0.0, "max": 6.0}, f32(NAN, 6, 0)),
    "position of the largest": (
        "reduce.argmax",
        (array([[1, NAN, 5, NAN], [1, 5, 5, 0]], np.float32),),
        {"axis": 1},
        array([1, 1], np.int64),
    ),
    "position of the smallest": (
        "reduce.argmin",
        (array([[1, NAN, 5, NAN], [1, 0, 5, 0]], np.float32),),
        {"axis": 1},
        array([1, 1], np.int64),
    ),
    "position down columns": (
        "reduce.argmax",
        (np.tile(array([[1], [NAN], [5]], np.float32), (1, 21)),),
        {"axis": 0},
        np.ones(21, np.int64),
    ),
    "largest with NaN": (
        "reduce.max",
        (array([[1, NAN], [1, 2]], np.float32),),
        {"axes": (1,)},
        f32(NAN, 2),
    ),
    "pool with NaN": (
        "nn.max_pool",
        (array([[[1, NAN, 5, 7, 2, 3]]], np.float32),),
        {"kernel": (2,), "strides": (2,), "dilations": (1,), "pads_before": (0,), "pads_after": (0,)},
        array([[[NAN, 7, 3]]], np.float32),
    ),
    "padding never wins": (
        "nn.max_pool",
        (array([[[-5, -7]]], np.float32),),
        {"kernel": (2,), "strides": (2,), "dilations": (1,), "pads_before": (1,), "pads_after": (1,)},
        array([[[-5, -7]]], np.float32),
    ),
    "denormals are kept": (
        "math.mul",
        (f32(1e-40, -1e-45, 1e-38), f32(1, 1, 0.5)),
        {},
        f32(1e-40, -1e-45, 5e-39),
    ),
    "denormal doubles": (
        "math.mul",
        (array([5e-324, 1e-310], np.float64), array([1, 0.5], np.float64)),
        {},
        array([5e-324, 5e-311], np.float64),
    ),
    "denormal sums": ("reduce.sum", (np.full(40, 1e-40, np.float32),), {}, f32(np.float32(1e-40) * 40)[0]),
    "legal indices": (
        "tensor.gather",
        (f32(1, 2, 3), array([-3, 2, -1], np.int64)),
        {"axis": 0},
        f32(1, 3, 3),
    ),
    "rounding to even": ("math.round", (f32(0.5, 1.5, -2.5, 2.5),), {}, f32(0, 2, -2, 2)),
}
"""Row: op, operands, attributes, result."""


@functools.cache
def results(target: str) -> dict[str, Any]:
    """The results of all rows, from one module."""
    b = Builder()
    outs = []
    values = {
        name: [b.input(f"{n} {i}", type_of(a)) for i, a in enumerate(operands)]
        for n, (name, (_, operands, _, _)) in enumerate(ROWS.items())
    }
    for name, (op, _, attrs, _) in ROWS.items():
        outs.append(getattr(b, op.replace(".", "_"))(*values[name], **attrs))
    for n, value in enumerate(outs):
        b.output(f"out {n}", value)
    made = compiled(b.module, target).run(*(a for _, operands, _, _ in ROWS.values() for a in operands))
    return dict(zip(ROWS, made, strict=True))


@every_target
@pytest.mark.parametrize("row", ROWS)
def test_values(row: str, target: str) -> None:
    got, want = results(target)[row], np.asarray(ROWS[row][3])
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, strict=True)


# ---------------------------------------------------------------------------------- names


NASTY = (
    'quote " and back\\slash',
    "line\nbreak\r\n#error",
    "comment end */ int x; /*",
    "../../etc/passwd",
    "$(touch x) `id` %s %n",
    "int",
    "\u202eright to left \u00e9\u4e2d",
    "??/ trigraph",
    "nul\0inside",
    "",
)


@every_target
def test_names_are_only_names(target: str) -> None:
    b = Builder()
    for number, name in enumerate(NASTY):
        b.loc = loc(f"node {name}")
        x = b.input(name + "x", tensor("f32", 3))
        b.output(name + "y", b.op(type(b.relu(x).op), x, names=(name,)).result if number else b.relu(x))
    module = b.module
    module.name = NASTY[2] + NASTY[3]
    exe = compiled(module, target)
    given = [f32(-1, n, 2) for n in range(len(NASTY))]
    for made in (exe.run(*given), exe.run({name + "x": a for name, a in zip(NASTY, given, strict=True)})):
        for a, y in zip(given, made, strict=True):
            np.testing.assert_array_equal(y, np.maximum(a, 0))
    assert [n for n, _ in exe.outputs] == [name + "y" for name in NASTY]
