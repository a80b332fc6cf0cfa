"""Run-time checks by many threads that share the points."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.cuda.launch import check_threads, launch_facts
from aino_ir.dtypes import f32, i64
from aino_ir.errors.run import IndexOutOfRange
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import compare
from aino_ir.loops.stmt import Access, LoopFn, Status
from tests.codegen.cuda.test_kernels import EMULATED, module, normal


def checked(rows: Any, columns: Any, writes: bool = False) -> LoopFn:
    """A kernel that wants no element to be negative; `writes`: and notes something while it looks."""
    b = LoopBuilder("checked")
    extents = [b.symbol(e, 1, 100) if isinstance(e, str) else e for e in (rows, columns)]
    x = b.param("x", i64, extents[0] * extents[1])
    out = b.param("out", f32, 4, Access.WRITE)
    with b.prologue(), b.loop("r", 0, extents[0]) as r, b.loop("c", 0, extents[1]) as c:
        value = b.load(x, r * extents[1] + c)
        with b.when(compare("lt", value, 0)):
            b.fail(Status.INDEX_OUT_OF_RANGE, value)
        if writes:
            b.store(out, 0, 1.0)
    with b.units(4) as unit:
        b.store(out, unit, 1.0)
    return b.finish()


@pytest.mark.parametrize(
    ("fn", "threads"),
    [
        (checked(3, 5), 128),
        (checked(3, 100), 384),
        (checked(1000, 100), 4096),
        (checked("n", 8), 4096),
        (checked(3, 5, writes=True), 1),
    ],
)
def test_how_many_threads_look(fn: LoopFn, threads: int) -> None:
    assert check_threads(fn) == threads == launch_facts(fn)["check_threads"]


def test_every_point_is_looked_at() -> None:
    made = module(lambda b, x, i: b.gather(x, i), "f32 9 4", "i64 n 33")
    executable = aino.compile(made, EMULATED, threads=1)
    rows = 130  # 4,290 points, more than there are threads
    legal = np.random.default_rng(0).integers(-9, 9, (rows, 33))
    x = normal(9, 4)
    np.testing.assert_array_equal(executable.run(x, legal)[0], x[legal])
    for place in ((0, 0), (0, 32), (64, 7), (rows - 1, 32)):
        wrong = legal.copy()
        wrong[place] = 9
        with pytest.raises(IndexOutOfRange):
            executable.run(x, wrong)
