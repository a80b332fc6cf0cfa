"""Writes one StableHLO function as text: every method emits an operation and gives its result.

Equal operations of one region are written once.  A value of an outer region may be read in an inner one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from aino_ir.codegen.stablehlo.types import Tensor, dense, tensor_type
from aino_ir.dtypes import DType, boolean, i64

_NAME = re.compile(r"%\w+")
_DEFINITION = re.compile(r" *%\d+ = ")
_COMPARISON_KINDS = (("is_float", "FLOAT"), ("is_signed", "SIGNED"))


class Writer:
    """The lines of one function, and the regions that are open."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._count = 0
        self._depth = 2
        self._known: list[dict[tuple[str, str], Tensor]] = [{}]

    # -- text ---------------------------------------------------------------------------------------

    def line(self, text: str) -> None:
        """A line at the present depth."""
        self.lines.append("  " * self._depth + text)

    def comment(self, text: str) -> None:
        """A line for the reader; what is not printable ASCII is escaped."""
        safe = text.encode("ascii", "backslashreplace").decode()
        self.line("// " + "".join(c if c.isprintable() else " " for c in safe))

    def fresh(self, dtype: DType, shape: tuple[int, ...]) -> Tensor:
        """A name for a new value."""
        self._count += 1
        return Tensor(f"%{self._count - 1}", dtype, shape)

    def emit(self, text: str, signature: str, dtype: DType, shape: Sequence[int]) -> Tensor:
        """``%n = text : signature``, or the value that the same text already has here."""
        for scope in reversed(self._known):
            if (text, signature) in scope:
                return scope[text, signature]
        result = self.fresh(dtype, tuple(shape))
        self.line(f"{result.name} = {text} : {signature}")
        self._known[-1][text, signature] = result
        return result

    @contextmanager
    def region(self) -> Iterator[None]:
        """Lines of a nested region: one deeper, and what they compute is not known outside."""
        self._depth += 1
        self._known.append({})
        try:
            yield
        finally:
            self._known.pop()
            self._depth -= 1

    def give_back(self, values: Sequence[Tensor]) -> None:
        """End a region with its results."""
        names, types = ", ".join(v.name for v in values), ", ".join(v.type for v in values)
        self.line(f"stablehlo.return {names} : {types}" if values else "stablehlo.return")

    def used_lines(self) -> list[str]:
        """The lines without operations whose result nothing reads; those with regions all stay."""
        kept: list[str] = []
        read: set[str] = set()
        for line in reversed(self.lines):
            names = [] if line.lstrip().startswith("//") else _NAME.findall(line)
            defines = _DEFINITION.match(line)
            if defines is not None and not line.endswith("{") and names[0] not in read:
                continue
            read.update(names)
            kept.append(line)
        return kept[::-1]

    # -- leaves -------------------------------------------------------------------------------------

    def constant(self, value: Any, dtype: DType, shape: Sequence[int] = ()) -> Tensor:
        """A constant: an array, or one number everywhere."""
        array = np.asarray(value, dtype.numpy)
        shape = tuple(shape) or array.shape
        if 0 in shape:
            return self.broadcast(self.constant(0, dtype), (), shape)
        return self.emit(f"stablehlo.constant {dense(array, dtype)}", tensor_type(dtype, shape), dtype, shape)

    def iota(self, extent: int, dtype: DType = i64) -> Tensor:
        """0, 1, 2 ..."""
        return self.emit("stablehlo.iota dim = 0", tensor_type(dtype, (extent,)), dtype, (extent,))

    # -- elementwise --------------------------------------------------------------------------------

    def same(self, name: str, *operands: Tensor) -> Tensor:
        """An operation on operands and a result of one type."""
        (first, *_) = operands
        text = f"stablehlo.{name} {', '.join(x.name for x in operands)}"
        return self.emit(text, first.type, first.dtype, first.shape)

    def compare(self, direction: str, a: Tensor, b: Tensor) -> Tensor:
        """EQ, NE, LT, LE, GT or GE; false with NaN but for NE."""
        kind = next((text for fact, text in _COMPARISON_KINDS if getattr(a.dtype, fact)), "UNSIGNED")
        result = tensor_type(boolean, a.shape)
        text = f"stablehlo.compare {direction}, {a.name}, {b.name}, {kind}"
        return self.emit(text, f"({a.type}, {b.type}) -> {result}", boolean, a.shape)

    def select(self, condition: Tensor, a: Tensor, b: Tensor) -> Tensor:
        """condition ? a : b, element by element."""
        text = f"stablehlo.select {condition.name}, {a.name}, {b.name}"
        return self.emit(text, f"{condition.type}, {a.type}", a.dtype, a.shape)

    def convert(self, x: Tensor, dtype: DType) -> Tensor:
        """Another element type, by value."""
        return x if x.dtype is dtype else self._to(f"stablehlo.convert {x.name}", x, dtype, x.shape)

    def bitcast(self, x: Tensor, dtype: DType) -> Tensor:
        """Another element type of the same width, by bits."""
        if x.dtype is dtype:
            return x
        return self._to(f"stablehlo.bitcast_convert {x.name}", x, dtype, x.shape)

    def reduce_precision(self, x: Tensor, exponent: int, mantissa: int) -> Tensor:
        """x rounded to a format of fewer bits, half to even."""
        text = f"stablehlo.reduce_precision {x.name}, format = e{exponent}m{mantissa}"
        return self.emit(text, x.type, x.dtype, x.shape)

    # -- movement -----------------------------------------------------------------------------------

    def _to(self, text: str, x: Tensor, dtype: DType, shape: Sequence[int]) -> Tensor:
        return self.emit(text, f"({x.type}) -> {tensor_type(dtype, tuple(shape))}", dtype, shape)

    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        """The same elements in row-major order."""
        if x.shape == tuple(shape):
            return x
        return self._to(f"stablehlo.reshape {x.name}", x, x.dtype, shape)

    def transpose(self, x: Tensor, permutation: Sequence[int]) -> Tensor:
        """Result axis a is operand axis permutation[a]."""
        if list(permutation) == list(range(x.rank)):
            return x
        shape = tuple(x.shape[p] for p in permutation)
        return self._to(f"stablehlo.transpose {x.name}, dims = {list(permutation)}", x, x.dtype, shape)

    def broadcast(self, x: Tensor, axes: Sequence[int], shape: Sequence[int]) -> Tensor:
        """x repeated: operand axis i is result axis axes[i]."""
        if x.shape == tuple(shape) and list(axes) == list(range(x.rank)):
            return x
        return self._to(f"stablehlo.broadcast_in_dim {x.name}, dims = {list(axes)}", x, x.dtype, shape)

    def slice(
        self, x: Tensor, starts: Sequence[int], stops: Sequence[int], steps: Sequence[int] | None = None
    ) -> Tensor:
        """Elements starts, starts + steps ... below stops."""
        steps = steps if steps is not None else [1] * x.rank
        if all((a, b, s) == (0, d, 1) for a, b, s, d in zip(starts, stops, steps, x.shape, strict=True)):
            return x
        rows = list(zip(starts, stops, steps, strict=True))
        shape = [max(0, (b - a + s - 1) // s) for a, b, s in rows]
        ranges = ", ".join(f"{a}:{b}:{s}" if s != 1 else f"{a}:{b}" for a, b, s in rows)
        return self._to(f"stablehlo.slice {x.name} [{ranges}]", x, x.dtype, shape)

    def reverse(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        """x backwards along some axes."""
        if not axes:
            return x
        return self.emit(f"stablehlo.reverse {x.name}, dims = {list(axes)}", x.type, x.dtype, x.shape)

    def pad(
        self,
        x: Tensor,
        value: Tensor,
        low: Sequence[int],
        high: Sequence[int],
        interior: Sequence[int] | None = None,
    ) -> Tensor:
        """x with a value around it, and between its elements."""
        inside = list(interior) if interior is not None else [0] * x.rank
        if not any((*low, *high, *inside)):
            return x
        rows = zip(x.shape, low, high, inside, strict=True)
        shape = [a + d + b + max(0, d - 1) * i for d, a, b, i in rows]
        amounts = f"low = {list(low)}, high = {list(high)}, interior = {inside}"
        text = f"stablehlo.pad {x.name}, {value.name}, {amounts}"
        result = tensor_type(x.dtype, tuple(shape))
        return self.emit(text, f"({x.type}, {value.type}) -> {result}", x.dtype, shape)

    def concatenate(self, parts: Sequence[Tensor], axis: int) -> Tensor:
        """Tensors one behind the other."""
        if len(parts) == 1:
            return parts[0]
        shape = list(parts[0].shape)
        shape[axis] = sum(p.shape[axis] for p in parts)
        text = f"stablehlo.concatenate {', '.join(p.name for p in parts)}, dim = {axis}"
        types = ", ".join(p.type for p in parts)
        dtype = parts[0].dtype
        return self.emit(text, f"({types}) -> {tensor_type(dtype, tuple(shape))}", dtype, shape)

    # -- by index -----------------------------------------------------------------------------------

    def take(self, x: Tensor, indices: Tensor, axis: int) -> Tensor:
        """x[.., indices, ..]: the axis is replaced by the axes of the indices, which must be in range."""
        before, after, new = axis, x.rank - axis - 1, indices.rank
        sizes = [1 if a == axis else d for a, d in enumerate(x.shape)]
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        offsets = [*range(before), *range(before + new, before + new + after)]
        return self._gather(x, indices, shape, offsets, axis, new, sizes)

    def _gather(
        self,
        x: Tensor,
        indices: Tensor,
        shape: tuple[int, ...],
        offsets: list[int],
        axis: int,
        vector_axis: int,
        sizes: list[int],
    ) -> Tensor:
        numbers = (
            f"#stablehlo.gather<offset_dims = {offsets}, collapsed_slice_dims = [{axis}], "
            f"start_index_map = [{axis}], index_vector_dim = {vector_axis}>"
        )
        text = (
            f'"stablehlo.gather"({x.name}, {indices.name}) <{{dimension_numbers = {numbers}, '
            f"indices_are_sorted = false, slice_sizes = array<i64: {', '.join(map(str, sizes))}>}}>"
        )
        signature = f"({x.type}, {indices.type}) -> {tensor_type(x.dtype, shape)}"
        return self.emit(text, signature, x.dtype, shape)

    def dynamic_slice(self, x: Tensor, starts: Sequence[Tensor], sizes: Sequence[int]) -> Tensor:
        """A window of x; starts are clamped so that it lies inside."""
        names = ", ".join(s.name for s in starts)
        text = f"stablehlo.dynamic_slice {x.name}, {names}, sizes = {list(sizes)}"
        types = ", ".join([x.type, *(s.type for s in starts)])
        return self.emit(text, f"({types}) -> {tensor_type(x.dtype, tuple(sizes))}", x.dtype, sizes)

    def dynamic_update_slice(self, x: Tensor, part: Tensor, starts: Sequence[Tensor]) -> Tensor:
        """x with a window replaced; starts are clamped so that it lies inside."""
        names = ", ".join([x.name, part.name, *(s.name for s in starts)])
        types = ", ".join([x.type, part.type, *(s.type for s in starts)])
        text = f"stablehlo.dynamic_update_slice {names}"
        return self.emit(text, f"({types}) -> {x.type}", x.dtype, x.shape)

    # -- reductions ---------------------------------------------------------------------------------

    def reduce(self, x: Tensor, name: str, start: Tensor, axes: Sequence[int]) -> Tensor:
        """x combined along axes by a binary operation."""
        if not axes:
            return x
        shape = tuple(d for a, d in enumerate(x.shape) if a not in axes)
        text = (
            f"stablehlo.reduce({x.name} init: {start.name}) applies stablehlo.{name} across dimensions = "
            f"{sorted(axes)}"
        )
        result = tensor_type(x.dtype, shape)
        return self.emit(text, f"({x.type}, {start.type}) -> {result}", x.dtype, shape)

    def dot(
        self, a: Tensor, b: Tensor, batch: tuple[list[int], list[int]], inner: tuple[list[int], list[int]]
    ) -> Tensor:
        """A contraction; the result has the batch axes, then what is left of a, then of b."""
        taken_a, taken_b = {*batch[0], *inner[0]}, {*batch[1], *inner[1]}
        shape = (
            *(a.shape[n] for n in batch[0]),
            *(d for n, d in enumerate(a.shape) if n not in taken_a),
            *(d for n, d in enumerate(b.shape) if n not in taken_b),
        )
        batching = f", batching_dims = {batch[0]} x {batch[1]}" if batch[0] else ""
        contracting = f"contracting_dims = {inner[0]} x {inner[1]}, precision = [HIGHEST, HIGHEST]"
        text = f"stablehlo.dot_general {a.name}, {b.name}{batching}, {contracting}"
        result = tensor_type(a.dtype, shape)
        return self.emit(text, f"({a.type}, {b.type}) -> {result}", a.dtype, shape)
