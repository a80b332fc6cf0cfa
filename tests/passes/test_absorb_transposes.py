"""Transposed matrices become flags of the matmul."""

from __future__ import annotations

from aino_ir.builder import Builder
from aino_ir.passes.absorb_transposes import AbsorbTransposes
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, run_pass


def test_both_sides_and_twice() -> None:
    b = Builder()
    x, z = b.input("x", tensor("f32", 2, 5, 4)), b.input("z", tensor("f32", 2, 3, 5))
    left, right = b.transpose(x, perm=(0, 2, 1)), b.transpose(z, perm=(0, 2, 1))
    b.output("y", b.matmul(left, right))
    b.output("w", b.matmul(left, b.transpose(right, perm=(0, 2, 1)), transpose_rhs=True))
    assert_fuses(b.module, AbsorbTransposes(), ["nn.matmul", "nn.matmul"])
    first, second = (o for o in b.module.main.block if o.name == "nn.matmul")
    assert (first.transpose_lhs, first.transpose_rhs) == (True, True)
    assert (second.transpose_lhs, second.transpose_rhs) == (True, True)


def test_other_permutations_stay() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 4, 4))
    b.output("y", b.matmul(b.transpose(x, perm=(1, 0, 2)), b.transpose(x, perm=(2, 1, 0))))
    assert not run_pass(AbsorbTransposes(), b.module).changed
