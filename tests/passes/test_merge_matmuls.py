"""Products of one value with several constants become one product."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.graph import Value
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.passes.merge_matmuls import MergeMatMuls
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, run_pass

MERGE = [MergeMatMuls(), FoldConstants()]
RNG = np.random.default_rng(5)


def c(b: Builder, *shape: int) -> Value:
    return b.constant(RNG.standard_normal(shape).astype(np.float32))


def start() -> tuple[Builder, Value]:
    b = Builder()
    return b, b.input("x", tensor("f32", 2, 3, 8))


def test_three_products_with_and_without_bias() -> None:
    b, x = start()
    q = b.add(b.matmul(x, c(b, 8, 4)), c(b, 4))
    k = b.matmul(x, c(b, 8, 4))
    v = b.add(c(b, 6), b.matmul(x, c(b, 8, 6)))
    for name, value in (("q", q), ("k", k), ("v", v)):
        b.output(name, b.tanh(value))
    ops = ["nn.matmul", "math.add", *["tensor.slice"] * 3, *["math.tanh"] * 3]
    report = assert_fuses(b.module, MERGE, ops)
    assert report.sites.unvalidated == 0
    assert next(o for o in b.module.main.block if o.name == "nn.matmul").result.shape == (2, 3, 14)


def test_products_without_any_bias() -> None:
    b, x = start()
    b.output("y", b.mul(b.matmul(x, c(b, 8, 4)), b.matmul(x, c(b, 8, 4))))
    assert_fuses(b.module, MERGE, ["nn.matmul", "tensor.slice", "tensor.slice", "math.mul"])


def test_what_stays_apart() -> None:
    b, x = start()
    z = b.input("z", tensor("f32", 2, 3, 8))
    run_time = b.input("w", tensor("f32", 8, 4))
    y = b.mul(b.matmul(x, c(b, 8, 4)), b.matmul(z, c(b, 8, 4)))
    y = b.mul(y, b.matmul(x, run_time))
    y = b.mul(y, b.matmul(x, c(b, 4, 8), transpose_rhs=True))
    b.output("y", b.mul(y, b.matmul(z, c(b, 2, 8, 4))))
    assert not run_pass(MERGE, b.module).changed


def test_too_many_columns() -> None:
    b, x = start()
    b.output("y", b.mul(b.matmul(x, c(b, 8, 4)), b.matmul(x, c(b, 8, 4))))
    assert not run_pass(MergeMatMuls(max_columns=7), b.module).changed
    assert run_pass(MergeMatMuls(max_columns=8), b.module).changed
