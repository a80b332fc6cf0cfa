"""Which groups are one kernel, and why others are not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.lower.compose import compose
from aino_ir.codegen.lower.group import Group, Storage
from aino_ir.compute import Compute
from aino_ir.errors.codegen import NotComposable
from aino_ir.infer import InferContext
from aino_ir.kernels import KernelSpec
from aino_ir.location import loc
from aino_ir.op import Op, operand
from aino_ir.ops.core import Fused
from aino_ir.types import Type, tensor


def spec_of(op: Op, b: Builder) -> KernelSpec:
    """The spec of an op or a fused group, every value in a buffer of its own."""
    return compose(
        Group(op), lambda v: Storage(v.type.layout, None, False), b.function.symbols, "default"
    ).spec


def fused(body: Any, *types: Type) -> tuple[Op, Builder]:
    b = Builder(loc=loc("node 'group'"))
    inputs = [b.input(f"x{i}", t) for i, t in enumerate(types)]
    return b.op(Fused, *inputs, regions=[b.region(types, body)]), b


def test_a_matmul_with_maps_before_and_behind_is_one_kernel() -> None:
    op, b = fused(lambda i, x, w: [i.relu(i.matmul(i.neg(x), w))], tensor("f32", 4, 8), tensor("f32", 8, 3))
    spec = spec_of(op, b)
    assert isinstance(spec.program, Compute) and len(spec.program.reduce) == 1
    assert spec.anchor == "matmul" and len(spec.operands) == 2 and len(spec.results) == 1


def test_two_reductions_are_two_kernels() -> None:
    square = tensor("f32", 4, 4)
    op, b = fused(lambda i, x, w: [i.matmul(i.matmul(x, w), w)], square, square)
    with pytest.raises(NotComposable, match=r"several anchors: nn\.matmul, nn\.matmul") as raised:
        spec_of(op, b)
    assert str(raised.value.loc) == "node 'group'"


def test_an_op_without_loops_is_no_kernel() -> None:
    class Shapeless(Op):
        x = operand()

        def infer(self, ic: InferContext) -> list[Type]:
            return [ic.tensor(self.x, "x")]

    b = Builder()
    with pytest.raises(NotComposable, match="no definition as loops"):
        spec_of(b.op(Shapeless, b.input("x", tensor("f32", 4))), b)


BEHIND = (lambda i, *v: [i.relu(i.scatter_elements(*v, axis=0))], "behind")
BEFORE = (lambda i, x, *v: [i.scatter_elements(i.neg(x), *v, axis=0)], "before")


@pytest.mark.parametrize("body", [BEHIND[0], BEFORE[0]], ids=[BEHIND[1], BEFORE[1]])
def test_loops_written_by_hand_stand_alone(body: Any) -> None:
    op, b = fused(body, tensor("f32", 6), tensor("i64", 2), tensor("f32", 2))
    with pytest.raises(NotComposable, match="take no other ops in"):
        spec_of(op, b)


def test_a_check_on_the_reductions_result_comes_too_late() -> None:
    op, b = fused(
        lambda i, x, y: [i.div(y, i.sum(x, axes=[1], keepdims=True))],
        tensor("i32", 4, 8),
        tensor("i32", 4, 1),
    )
    with pytest.raises(NotComposable, match="needs the reduction's result"):
        spec_of(op, b)


def test_constants_of_one_element_are_literals() -> None:
    b = Builder()
    x, c = b.input("x", tensor("f32", 4)), b.constant(np.float32(3))
    spec = spec_of(b.mul(x, c).op, b)
    assert len(spec.operands) == 1
