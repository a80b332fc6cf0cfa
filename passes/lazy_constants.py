"""Constants computed from constants: built as lazy handles, so that rounding happens once at the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.graph import Function, Value
from aino_ir.op import Op
from aino_ir.types import TensorType

DEPTH_LIMIT = 16
"""Lazy constants nest at most so deep before they are computed: shared operands are computed each time."""

MATERIAL_BYTES = 1 << 16
"""Constants up to this size are computed at once; larger ones when their bytes are needed."""


def lazy(
    function: Function, inputs: Sequence[Const], body: Callable[[Builder, list[Value]], Value], name: str = ""
) -> Const:
    """The constant that `body` builds from values of the inputs' types.

    Args:
        function: whose module gives ids to the region's ops.
        inputs: handles that the region's arguments stand for.
        body: gets a builder inside the region and its arguments.
    """
    region = Builder(function).region([c.type for c in inputs], lambda b, *args: [body(b, list(args))])
    (result,) = region.terminator.present_operands()
    assert isinstance(result.type, TensorType) and result.type.is_static
    return Const.lazy(region, tuple(inputs), result.type.logical(), name)


def apply_op(function: Function, op: Op, inputs: Sequence[Const | None]) -> list[Const]:
    """One lazy constant per result of `op` on constant operands."""
    present = [c for c in inputs if c is not None]
    largest = max(present, key=lambda c: c.size)  # weights that are scaled or turned are still those weights
    out = []
    for index, result in enumerate(op.results):

        def body(b: Builder, args: list[Value], index: int = index) -> Value:
            values = iter(args)
            operands = [None if c is None else next(values) for c in inputs]
            return b.op(type(op), *operands, **op.attrs()).results[index]

        out.append(lazy(function, present, body, result.name or largest.name))
    return out


def depth(handle: Const) -> int:
    """How deep lazy constants nest below a handle."""
    return 1 + max((depth(c) for c in handle.inputs), default=0) if handle.is_lazy else 0


def settled(handle: Const) -> Const:
    """The handle as plain data: a lazy one is computed in double precision and rounded once."""
    return Const(handle.type, handle.array(), name=handle.name) if handle.is_lazy else handle
