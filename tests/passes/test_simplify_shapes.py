"""Shape arithmetic: contents that follow from types replace the ops that computed them."""

from __future__ import annotations

import numpy as np

from aino_ir.builder import Builder
from aino_ir.passes.simplify_shapes import SimplifyShapes
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, run_pass


def test_static_contents_become_constants() -> None:
    b = Builder()
    b.input("x", tensor("f32", 3))
    sizes = b.concat(
        b.constant(np.array([3])), b.mul(b.constant(np.array([2])), b.constant(np.array([4]))), axis=0
    )
    b.output("y", sizes)
    assert_fuses(b.module, SimplifyShapes(), [])


def test_symbols_become_dims() -> None:
    b = Builder()
    n = b.symbol("n", 1, 64)
    b.input("x", tensor("f32", n, 3))
    size = b.dims_vector((n, 3))
    doubled = b.mul(size, b.constant(np.array([2, 1])))
    b.output("y", b.add(doubled, b.constant(np.array([1, 0]))))
    assert_fuses(b.module, SimplifyShapes(), ["core.dims"], n=5)


def test_other_dtypes_and_ranks() -> None:
    b = Builder()
    n = b.symbol("n", 1, 64)
    b.input("x", tensor("f32", n, 3))
    size = b.cast(b.reshape(b.dims_vector((n, n + 1)), shape=(2, 1)), to="i32")
    b.output("y", b.add(size, size))
    module = b.module
    run_pass(SimplifyShapes(), module)
    assert not any(op.name == "math.add" for op in module.main.block)
    assert_fuses(module, SimplifyShapes(), ["core.dims", "math.cast", "tensor.reshape"], n=5)


def test_data_is_left_alone() -> None:
    b = Builder()
    x = b.input("x", tensor("i64", 3))
    b.output("y", b.add(x, x))
    assert not run_pass(SimplifyShapes(), b.module).changed
