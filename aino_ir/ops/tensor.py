"""Movement of data: reshape, transpose, slice, concat, expand, pad, gather."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.compute import Check, Compute, axes, broadcast_index, coordinates, read
from aino_ir.dims import DimLike, is_static, product
from aino_ir.errors.ir import OutOfRangeIndex
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Expr, binary, compare, const, index, select
from aino_ir.loops.stmt import Status
from aino_ir.op import (
    Op,
    Trait,
    dims_attr,
    float_attr,
    int_attr,
    ints_attr,
    operand,
    str_attr,
    variadic_operand,
)
from aino_ir.types import TensorType, Type

if TYPE_CHECKING:
    from aino_ir.graph import Value

SYMBOLIC = frozenset({Trait.SYMBOLIC})


class Reshape(Op):
    """out = x with the same elements in row-major order, seen with another shape."""

    name = "tensor.reshape"
    traits = frozenset({Trait.VIEW, Trait.SYMBOLIC})
    x = operand()
    shape = dims_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        shape = ic.result_shape(self.shape)
        ic.same(product(x.shape), product(shape), "element count")
        return [TensorType(x.dtype, shape)]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        return np.asarray(x.reshape(ev.dims(self.shape)))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        return Compute(
            space, read(self.x, 0, unflatten(flatten(coordinates(space), self.result.shape), self.x.shape))
        )

    def forward(self, source: Value, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        return unflatten(flatten(at, self.x.shape), self.result.shape)


def flatten(at: tuple[DimLike, ...], shape: tuple[DimLike, ...]) -> DimLike:
    """Row-major position of a coordinate."""
    offset: DimLike = 0
    for c, extent in zip(at, shape, strict=True):
        offset = offset * extent + c
    return offset


def unflatten(position: DimLike, shape: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """The coordinate at a row-major position; unit axes get 0, and all axes of a shape without elements."""
    if any(is_static(extent) and extent == 0 for extent in shape):
        return (0,) * len(shape)
    out: list[DimLike] = []
    rest = position
    for axis in range(len(shape) - 1, -1, -1):
        extent = shape[axis]
        if is_static(extent) and extent == 1:
            out.append(0)
            continue
        outermost = all(is_static(d) and d == 1 for d in shape[:axis])
        out.append(rest if outermost else rest % extent)
        rest = rest if outermost else rest // extent
    return tuple(reversed(out))


class Transpose(Op):
    """out[i_perm] = x[i]: result axis a is operand axis perm[a]."""

    name = "tensor.transpose"
    traits = SYMBOLIC
    x = operand()
    perm = ints_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if sorted(self.perm) != list(range(x.rank)):
            ic.bad_attribute("perm", f"a permutation of 0..{x.rank - 1}", self.perm)
        return [TensorType(x.dtype, tuple(x.shape[p] for p in self.perm))]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        return np.transpose(x, self.perm)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        inverse = [self.perm.index(a) for a in range(len(self.perm))]
        return Compute(space, read(self.x, 0, tuple(at[inverse[a]] for a in range(len(at)))))

    def forward(self, source: Value, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        return tuple(at[p] for p in self.perm)


class Expand(Op):
    """out = x broadcast numpy-wise to `shape` (whose ones keep x's extents)."""

    name = "tensor.expand"
    traits = SYMBOLIC
    x = operand()
    shape = dims_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        return [TensorType(x.dtype, ic.result_shape(ic.broadcast(x.shape, self.shape)))]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        return np.broadcast_to(x, np.broadcast_shapes(x.shape, ev.dims(self.shape)))

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        return Compute(space, read(self.x, 0, broadcast_index(self.x.shape, coordinates(space))))


class Slice(Op):
    """out[i] = x[starts + i * steps], `sizes` elements along each axis; steps may be negative."""

    name = "tensor.slice"
    traits = SYMBOLIC
    x = operand()
    starts = dims_attr()
    sizes = dims_attr()
    steps = ints_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        for what, given in (("starts", self.starts), ("sizes", self.sizes), ("steps", self.steps)):
            if len(given) != x.rank:
                ic.bad_attribute(what, f"{x.rank} numbers", given)
        for axis, (start, size, step) in enumerate(zip(self.starts, self.sizes, self.steps, strict=False)):
            if is_static(size) and size == 0:
                continue
            last = start + (size - 1) * step
            ic.at_least(start, 0, f"start of axis {axis}")
            ic.at_least(
                x.shape[axis] - 1, start if step < 0 else last, f"extent of axis {axis} behind the slice"
            )
            if step < 0:
                ic.at_least(last, 0, f"end of the slice of axis {axis}")
        return [TensorType(x.dtype, ic.result_shape(self.sizes))]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        grid = [
            ev.size(start) + np.arange(ev.size(size)) * step
            for start, size, step in zip(self.starts, ev.dims(self.sizes), self.steps, strict=False)
        ]
        return x[np.ix_(*grid)] if grid else x

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        return Compute(
            space,
            read(self.x, 0, tuple(s + c * t for s, c, t in zip(self.starts, at, self.steps, strict=False))),
        )


class Concat(Op):
    """out = the operands one behind the other along `axis`."""

    name = "tensor.concat"
    traits = SYMBOLIC
    inputs = variadic_operand()
    axis = int_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        if not self.inputs:
            ic.bad_operand("operand count", "at least 1", 0)
        dtype = ic.same_dtype(*self.inputs)
        first = ic.tensor(self.inputs[0], "operand 0")
        axis = ic.axis(self.axis, first.rank)
        shape = list(first.shape)
        total: DimLike = first.shape[axis] if first.rank else 0
        for n, v in enumerate(self.inputs[1:], 1):
            ic.rank(v, first.rank, f"operand {n}")
            for a in range(first.rank):
                if a != axis:
                    shape[a] = ic.same(shape[a], v.shape[a], f"extents of axis {a}")
            total = total + v.shape[axis]
        shape[axis] = total
        return [TensorType(dtype, ic.result_shape(tuple(shape)))]

    def evaluate(self, ev: Any, *xs: np.ndarray) -> np.ndarray:
        return np.concatenate(xs, axis=self.axis)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = list(coordinates(space))
        position: DimLike = 0
        body: Expr | None = None
        parts = []
        for n, v in enumerate(self.inputs):
            here = (*at[: self.axis], at[self.axis] - position, *at[self.axis + 1 :])
            zero = const(0, v.dtype.compute)
            parts.append((position, read(v, n, here, zero)))
            position = position + v.shape[self.axis]
        for start, part in parts:
            body = (
                part
                if body is None
                else select(compare("ge", index(at[self.axis]), index(start)), part, body)
            )
        assert body is not None
        return Compute(space, body)


class Pad(Op):
    """x surrounded by `before` and `after` elements along each axis (negative: cut off).

    mode "constant" fills with `value`; "reflect" mirrors without the border element, "symmetric"
    with it, "edge" repeats the border, "wrap" continues periodically.
    """

    name = "tensor.pad"
    x = operand()
    before = dims_attr()
    after = dims_attr()
    mode = str_attr("constant")
    value = float_attr(0.0)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        if len(self.before) != x.rank or len(self.after) != x.rank:
            ic.bad_attribute("before", f"{x.rank} numbers", self.before)
        if self.mode not in ("constant", "reflect", "symmetric", "edge", "wrap"):
            ic.bad_attribute("mode", "constant, reflect, symmetric, edge or wrap", self.mode)
        shape = tuple(b + d + a for b, d, a in zip(self.before, x.shape, self.after, strict=False))
        return [TensorType(x.dtype, ic.result_shape(shape))]

    def evaluate(self, ev: Any, x: np.ndarray) -> np.ndarray:
        grids = []
        inside = np.ones((), bool)
        for axis, before in enumerate(self.before):
            size = ev.result_shape()[axis]
            position = np.arange(size) - ev.size(before)
            extent = x.shape[axis]
            shape = [1] * x.ndim
            shape[axis] = size
            if self.mode == "constant":
                inside = inside & ((position >= 0) & (position < extent)).reshape(shape)
                position = np.clip(position, 0, max(extent - 1, 0))
            else:
                position = _padded_position(position, extent, self.mode)
            grids.append(position)
        if self.mode == "constant":
            fill = np.full(ev.result_shape(), self.fill().astype(x.dtype), x.dtype)
            return (
                np.where(inside, x[np.ix_(*grids)], fill)
                if x.size and x.ndim
                else (x if not x.ndim else fill)
            )
        return x[np.ix_(*grids)] if grids else x

    def fill(self) -> np.ndarray:
        """`value` as x would hold it, a scalar: whoever computes in another type has it rounded alike."""
        return np.asarray(self.value).astype(self.x.dtype.numpy)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = tuple(c - b for c, b in zip(coordinates(space), self.before, strict=False))
        dtype = self.x.dtype.compute
        if self.mode == "constant":
            fill = const(self.fill().astype(dtype.numpy).item(), dtype)
            return Compute(space, read(self.x, 0, at, fill))
        moved = tuple(
            c
            if is_static(b) and b == 0 and is_static(a) and a == 0
            else _padded_coordinate(index(c), extent, self.mode)
            for c, b, a, extent in zip(at, self.before, self.after, self.x.shape, strict=False)
        )
        return Compute(space, read(self.x, 0, moved))


def _padded_position(position: np.ndarray, extent: int, mode: str) -> np.ndarray:
    if mode == "edge":
        return np.asarray(np.clip(position, 0, extent - 1))
    if mode == "wrap":
        return position % extent
    period = max(2 * (extent - 1), 1) if mode == "reflect" else 2 * extent
    folded = position % period
    last = period if mode == "reflect" else period - 1
    return np.where(folded < extent, folded, last - folded)


def _padded_coordinate(c: Expr, extent: DimLike, mode: str) -> Expr:
    """The operand coordinate of a padded one; the remainder is taken of non-negative numbers."""
    size = index(extent)
    if mode == "edge":
        return binary("max", binary("min", c, size - 1), const(0, "i64"))
    if mode == "wrap":
        return _floor_mod(c, size)
    period = binary("max", (size - 1) * 2, const(1, "i64")) if mode == "reflect" else size * 2
    folded = _floor_mod(c, period)
    last = period if mode == "reflect" else period - 1
    return select(compare("lt", folded, size), folded, last - folded)


def _floor_mod(a: Expr, b: Expr) -> Expr:
    rest = binary("rem", a, b)
    return select(compare("lt", rest, 0), rest + b, rest)


class Gather(Op):
    """out[i..., j..., k...] = x[i..., indices[j...], k...] along `axis`; -n..n-1 are legal indices."""

    name = "tensor.gather"
    traits = SYMBOLIC
    x = operand()
    indices = operand()
    axis = int_attr(0)
    domain = {"indices": lambda op: (-op.x.shape[op.axis], op.x.shape[op.axis] - 1)}

    def infer(self, ic: InferContext) -> list[Type]:
        x, indices = ic.tensor(self.x, "x"), ic.tensor(self.indices, "indices")
        if not indices.dtype.is_integer:
            ic.bad_dtype("dtype of indices", "an integer", indices.dtype)
        axis = ic.axis(self.axis, x.rank)
        return [TensorType(x.dtype, ic.result_shape((*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])))]

    def evaluate(self, ev: Any, x: np.ndarray, indices: np.ndarray) -> np.ndarray:
        extent = x.shape[self.axis]
        if getattr(ev, "symbolic", False):
            indices = indices.astype(np.int64)
        refuse_out_of_range(self, indices, extent)
        return np.take(x, np.where(indices < 0, indices + extent, indices).astype(np.int64), axis=self.axis)

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        rank = self.indices.rank
        chosen = wrapped_index(
            read(self.indices, 1, at[self.axis : self.axis + rank]), self.x.shape[self.axis]
        )
        here = (*at[: self.axis], chosen, *at[self.axis + rank :])
        return Compute(
            space, read(self.x, 0, here), checks=(index_check(self.indices, 1, self.x.shape[self.axis]),)
        )


def refuse_out_of_range(op: Op, indices: np.ndarray, extent: int) -> None:
    """Raise when an index is outside -extent..extent-1."""
    if indices.size:
        bad = (indices < -extent) | (indices >= extent)
        if bad.any():
            raise OutOfRangeIndex(
                loc=op.loc, op=op.name, index=int(indices[bad].reshape(-1)[0]), extent=extent
            )


def wrapped_index(raw: Expr, extent: DimLike) -> Expr:
    """An index expression as i64 with negative values counted from the end."""
    from aino_ir.loops.expr import cast

    i = cast(raw, "i64")
    return select(compare("lt", i, 0), i + index(extent), i)


def index_check(indices: Value, operand_number: int, extent: DimLike) -> Check:
    """The check that every element of an index operand is within -extent..extent-1."""
    from aino_ir.loops.expr import cast

    space = axes("c", indices.shape)
    i = cast(read(indices, operand_number, coordinates(space)), "i64")
    size = index(extent)
    legal = binary("and", compare("ge", i, const(0, "i64") - size), compare("lt", i, size))
    return Check(space, legal, Status.INDEX_OUT_OF_RANGE, i)
