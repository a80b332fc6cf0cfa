"""Reads of operands at coordinates: as slices and transposes where coordinates follow axes, else as gathers.

Three forms, the first that fits:

* every coordinate is start + step * axis, or a number: pad, slice, reverse, transpose;
* no axis moves two coordinates: one gather per coordinate that is not such (embedding, windows);
* anything: one gather of single elements by their row-major position.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aino_ir.codegen.stablehlo.space import Space, Spread
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.dims import DimLike
from aino_ir.dtypes import boolean, i64
from aino_ir.loops.expr import Const, Expr, Read


@dataclass(frozen=True)
class Coordinate:
    """One coordinate of a read.

    Attributes:
        axes: the iteration axes that it moves with.
        linear: (axis, step, start) when it is such, see `Space.linear`.
        value: gives it as i64 numbers.
    """

    axes: tuple[str, ...]
    linear: tuple[str | None, int, int] | None
    value: Callable[[], Spread]


class Reader:
    """Reads of tensors in their compute dtypes.

    Args:
        space: the iteration space.
        value: gives expressions that stand in coordinates and defaults.
    """

    def __init__(self, space: Space, value: Callable[[Expr], Spread]) -> None:
        self._space = space
        self._value = value

    def read(self, x: Tensor, node: Read) -> Spread:
        """x at the node's coordinates, the default outside."""
        coordinates = [self._coordinate(part) for part in node.index]
        axes = self._space.ordered(a for c in coordinates for a in c.axes)
        if 0 in self._space.shape(axes) or 0 in x.shape:
            return self._of_nothing(x, node, axes)
        plain = node.default is None or isinstance(node.default, Const)
        if plain and _distinct(coordinates) and all(c.linear is not None for c in coordinates):
            return self._window(x, coordinates, node.default)
        if node.default is None:
            return self._inside(x, coordinates, clamped=False)
        found = self._inside(x, coordinates, clamped=True)
        inside = self._is_inside(x, coordinates)
        if inside is None:
            return found
        (mask, a, b), axes = self._space.aligned([inside, found, self._value(node.default)])
        return Spread(self._space.w.select(mask, a, b), axes)

    def _coordinate(self, part: DimLike | Expr) -> Coordinate:
        space = self._space
        if isinstance(part, Expr):
            value = self._value(part)
            return Coordinate(value.axes, None, lambda: value)
        return Coordinate(space.axes_of(part), space.linear(part), lambda: space.coordinate(part))

    def _of_nothing(self, x: Tensor, node: Read, axes: tuple[str, ...]) -> Spread:
        """A read of no element, or of a tensor without any: only the default can be meant."""
        if node.default is not None:
            return self._value(node.default)
        return Spread(self._space.w.constant(0, x.dtype, self._space.shape(axes)), axes)

    # -- windows ------------------------------------------------------------------------------------

    def _window(self, x: Tensor, coordinates: Sequence[Coordinate], default: Expr | None) -> Spread:
        """Pad, slice, reverse; then coordinates that are numbers go."""
        w, space = self._space.w, self._space
        starts, stops, steps, low, high, names, backwards = [], [], [], [], [], [], []
        for number, (c, extent) in enumerate(zip(coordinates, x.shape, strict=True)):
            assert c.linear is not None
            name, step, start = c.linear
            count = space.extents[name] if name is not None else 1
            ends = sorted((start, start + (count - 1) * step))
            before = max(0, -ends[0])
            low.append(before)
            high.append(max(0, ends[1] - extent + 1))
            starts.append(ends[0] + before)
            stops.append(ends[1] + before + 1)
            steps.append(max(1, abs(step)))
            names.append(name)
            if step < 0:
                backwards.append(number)
        if default is not None:
            assert isinstance(default, Const)
            x = w.pad(x, w.constant(default.value, x.dtype), low, high)
        cut = w.reverse(w.slice(x, starts, stops, steps), backwards)
        kept = [d for d, n in zip(cut.shape, names, strict=True) if n is not None]
        return Spread(w.reshape(cut, kept), tuple(n for n in names if n is not None))

    # -- gathers ------------------------------------------------------------------------------------

    def _inside(self, x: Tensor, coordinates: Sequence[Coordinate], clamped: bool) -> Spread:
        """x at coordinates that are inside, or are moved to the nearest place inside."""
        if _distinct(coordinates):
            return self._separately(x, coordinates, clamped)
        return self._by_position(x, coordinates, clamped)

    def _separately(self, x: Tensor, coordinates: Sequence[Coordinate], clamped: bool) -> Spread:
        """One gather per coordinate, from the last on so that positions of the others stay."""
        w, labels = self._space.w, []
        for number in reversed(range(len(coordinates))):
            c = coordinates[number]
            if self._is_whole(c, x.shape[number]):
                labels.append(c.axes[0])
                continue
            chosen = self._clamped(c.value(), x.shape[number] if clamped else None)
            x = w.take(x, chosen.tensor, number)
            labels.extend(reversed(chosen.axes))
        return Spread(x, tuple(reversed(labels)))

    def _is_whole(self, c: Coordinate, extent: int) -> bool:
        """Whether a coordinate just runs over its axis."""
        if c.linear is None or c.linear[0] is None:
            return False
        name, step, start = c.linear
        return (step, start) == (1, 0) and name is not None and self._space.extents[name] == extent

    def _by_position(self, x: Tensor, coordinates: Sequence[Coordinate], clamped: bool) -> Spread:
        """One gather of single elements."""
        w, space = self._space.w, self._space
        position = Spread(w.constant(0, i64))
        for number, c in enumerate(coordinates):
            at = self._clamped(c.value(), x.shape[number] if clamped else None)
            stride = math.prod(x.shape[number + 1 :])
            (a, b, s), axes = space.aligned([position, at, Spread(w.constant(stride, i64))])
            position = Spread(w.same("add", a, w.same("multiply", b, s)), axes)
        flat = w.reshape(x, (x.size,))
        return Spread(w.take(flat, position.tensor, 0), position.axes)

    def _clamped(self, at: Spread, extent: int | None) -> Spread:
        w, x = self._space.w, at.tensor
        if extent is None:
            return at
        low, high = w.constant(0, i64, x.shape), w.constant(extent - 1, i64, x.shape)
        return Spread(w.same("minimum", w.same("maximum", x, low), high), at.axes)

    def _is_inside(self, x: Tensor, coordinates: Sequence[Coordinate]) -> Spread | None:
        """Whether every coordinate is inside; None when each one always is."""
        w, space = self._space.w, self._space
        terms: list[Spread] = []
        for c, extent in zip(coordinates, x.shape, strict=True):
            if self._always_inside(c, extent):
                continue
            at = c.value()
            low = w.compare("GE", at.tensor, w.constant(0, i64, at.tensor.shape))
            high = w.compare("LT", at.tensor, w.constant(extent, i64, at.tensor.shape))
            terms.append(Spread(w.same("and", low, high), at.axes))
        if not terms:
            return None
        total = terms[0]
        for term in terms[1:]:
            (a, b), axes = space.aligned([total, term])
            total = Spread(w.same("and", a, b), axes)
        assert total.tensor.dtype is boolean
        return total

    def _always_inside(self, c: Coordinate, extent: int) -> bool:
        if c.linear is None:
            return False
        name, step, start = c.linear
        count = self._space.extents[name] if name is not None else 1
        return all(0 <= end < extent for end in (start, start + (count - 1) * step))


def _distinct(coordinates: Sequence[Coordinate]) -> bool:
    """Whether no iteration axis moves two coordinates."""
    used = [a for c in coordinates for a in c.axes]
    return len(used) == len(set(used))
