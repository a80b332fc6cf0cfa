"""Replaces arithmetic on shapes by what is known about extents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType, i64
from aino_ir.graph import Function, Value
from aino_ir.infer import known_contents
from aino_ir.op import Op, Trait
from aino_ir.ops.cast import Cast
from aino_ir.ops.core import Dims
from aino_ir.ops.tensor import Reshape
from aino_ir.passes.base import Pass, PassContext, plain_ops
from aino_ir.types import TensorType

KEPT = ("core.constant", "core.dims")
"""Ops that already say what is known."""


@dataclass(frozen=True)
class SimplifyShapes(Pass):
    """Small integer values whose contents follow from types become constants, or `core.dims` of symbols.

    Chains of shape, gather, concat and arithmetic before a reshape then have no readers left.
    """

    name = "simplify-shapes"

    def run_function(self, function: Function, ctx: PassContext) -> None:
        """Replace every such value that is read."""
        rewriter = ctx.rewriter(function)
        for op in plain_ops(function):
            if (
                op.block is None
                or op.name in KEPT
                or op.regions
                or op.has(Trait.TERMINATOR)
                or len(op.results) != 1
            ):
                continue
            value = op.result
            contents = known_contents(value, function.symbols) if value.users else None
            if contents is None:
                continue
            new = materialised(rewriter.builder(op), value, contents)
            if new is not None:
                rewriter.replace(op, new, "KnownContents", known_sources(value))


def materialised(b: Builder, value: Value, contents: np.ndarray) -> Value | None:
    """A value with known contents as a constant, or as extents cast and shaped like it."""
    assert isinstance(value.type, TensorType)
    flat: list[DimLike] = contents.reshape(-1).tolist()
    dtype: DType = value.dtype
    if all(is_static(d) for d in flat):
        return b.constant(np.array(flat, dtype.numpy).reshape(contents.shape))
    if not dtype.is_integer or is_dims_chain(value):
        return None
    vector: Value = b.dims_vector(flat)
    if dtype is not i64:
        vector = b.cast(vector, to=dtype)
    return vector if value.rank == 1 else b.reshape(vector, shape=contents.shape)


def is_dims_chain(value: Value) -> bool:
    """Whether a value is `core.dims` already, up to casts and reshapes."""
    op = value.op
    while isinstance(op, (Cast, Reshape)):
        op = op.x.op
    return isinstance(op, Dims)


def known_sources(value: Value) -> list[Op]:
    """Ops whose content went into what is known about a value: walked back to where extents are read."""
    seen: dict[Op, None] = {}
    work = [value]
    while work:
        op = work.pop().op
        if op is None or op in seen:
            continue
        seen[op] = None
        if op.name not in KEPT:
            work.extend(v for v in op.present_operands() if v.known is not None)
    return list(seen)
