"""Pieces of hand-written loops (`aino_ir.compute.Nest`): loops over a shape, checked indices, orderings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from aino_ir.compute import BestOfLines, OrderedUpdates, TensorRef
from aino_ir.dims import DimLike
from aino_ir.dtypes import boolean, i64
from aino_ir.loops.expr import (
    Expr,
    VecType,
    binary,
    cast,
    compare,
    const,
    index,
    minimum,
    select,
    unary,
)
from aino_ir.loops.stmt import Status


@contextmanager
def loops(b: Any, prefix: str, extents: Sequence[DimLike]) -> Iterator[tuple[DimLike, ...]]:
    """Nested loops over a shape, the last axis innermost; yields the coordinates."""
    with ExitStack() as stack:
        yield tuple(stack.enter_context(b.loop(f"{prefix}{i}", 0, e)) for i, e in enumerate(extents))


def unraveled(shape: Sequence[DimLike], unit: DimLike) -> tuple[DimLike, ...]:
    """Coordinates of the `unit`-th place of a row-major shape."""
    at: list[DimLike] = []
    for extent in reversed(shape):
        at.append(unit % extent)
        unit = unit // extent
    return tuple(reversed(at))


def checked_index(b: Any, raw: Expr, extent: DimLike) -> DimLike:
    """An index (negative: from the end) as a coordinate of an axis; the kernel fails when it is outside."""
    size = index(extent)
    given = b.let(cast(raw, "i64"))
    wrapped = b.let(select(compare("lt", given, 0), given + size, given))
    with b.when(compare("lt", wrapped, 0) | compare("ge", wrapped, size)):
        b.fail(Status.INDEX_OUT_OF_RANGE, given)
    return b.index(wrapped, 0, extent - 1)  # type: ignore[no-any-return]


def checked_place(
    b: Any,
    updates: OrderedUpdates,
    indices: TensorRef,
    row: tuple[DimLike, ...],
    extents: Sequence[DimLike],
) -> tuple[DimLike, ...]:
    """Where a row of updates goes; the kernel fails when an index is outside of its axis."""
    place: list[DimLike] = list(row[: updates.depth])
    place += [0] * (updates.depth - len(place))
    for axis, raw in zip(updates.chosen, updates.indices(indices, row), strict=True):
        place[axis] = checked_index(b, raw, extents[axis])
    return tuple(place)


def update(reduction: str, out: TensorRef, at: tuple[DimLike, ...], value: Expr) -> None:
    """Combine a value into one element, or put it there ("none")."""
    out.store(at, value if reduction == "none" else binary(reduction, out.load(at), value))


def best_of_line(
    b: Any,
    tensors: tuple[TensorRef, TensorRef, TensorRef],
    at: Callable[[DimLike], tuple[DimLike, ...]],
    length: DimLike,
    best: BestOfLines,
) -> None:
    """The best elements of one line and their positions, by insertion into the list of the best so far.

    Args:
        b: the builder of a nest.
        tensors: elements, and where the best ones and their positions go.
        at: coordinates of an element of the line, in each of the tensors.
        length: elements of the line.
        best: how many are wanted, and which.
    """
    source, values, positions = tensors
    count = best.count
    with b.loop("j", 0, length) as j:
        value = b.let(source.load(at(j)))
        place = b.reg("place", VecType(i64), minimum(index(j), index(count)))
        more = b.reg("more", VecType(boolean), compare("gt", place.read(), 0))
        with b.while_(lambda: more.read()):
            before = b.index(place.read() - 1, 0, count - 1)
            rival = b.let(values.load(at(before)))
            wins = b.let(outranks(value, rival, best.largest))
            with b.when(wins):
                with b.when(compare("lt", index(before + 1), index(count))):
                    behind = b.index(index(before + 1), 0, count - 1)
                    values.store(at(behind), rival)
                    positions.store(at(behind), positions.load(at(before)))
                b.set(place, index(before))
            b.set(more, wins & compare("gt", index(before), 0))
        with b.when(compare("lt", place.read(), index(count))):
            here = b.index(place.read(), 0, count - 1)
            values.store(at(here), value)
            positions.store(at(here), index(j))


def outranks(a: Expr, b: Expr, largest: bool) -> Expr:
    """Whether a comes strictly before b in descending (ascending) order; NaN is the greatest value."""
    better = compare("gt" if largest else "lt", a, b)
    if not a.dtype.is_float:
        return better
    a_nan, b_nan = unary("isnan", a), unary("isnan", b)
    return better | (a_nan & ~b_nan if largest else b_nan & ~a_nan)


def zero() -> Expr:
    """The i64 zero."""
    return const(0, "i64")


def add_up(
    count: DimLike, b: Any, inputs: tuple[TensorRef, ...], outputs: tuple[TensorRef, ...], unit: DimLike
) -> None:
    """A nest of one unit: outputs = what stands before each of `count` numbers, and the sum of all."""
    (numbers,), (starts, sum_of_all) = inputs, outputs
    total = b.reg("total", VecType(i64), 0)
    with b.loop("c", 0, count) as c:
        before = b.let(total.read())
        b.set(total, before + numbers.load((c,)))
        starts.store((c,), before)
    sum_of_all.store((0,), total.read())


@dataclass(frozen=True)
class Line:
    """One line of a tensor of i64: the elements at (*`before`, 0), (*`before`, 1) ..."""

    tensor: TensorRef
    before: tuple[DimLike, ...] = ()

    def load(self, at: DimLike) -> Expr:
        """An element."""
        return self.tensor.load((*self.before, at))

    def store(self, at: DimLike, value: Expr) -> None:
        """Write an element."""
        self.tensor.store((*self.before, at), value)


def merge_sort(
    b: Any, order: Line, spare: Line, count: DimLike, precedes: Callable[[DimLike, DimLike], Expr]
) -> None:
    """Write the numbers 0..count-1 into `order`, sorted; equal ones stay in order.

    Bottom-up merging: sorted runs of 1, 2, 4 ... numbers are merged into `spare` and copied back.

    Args:
        b: the builder of a nest.
        order, spare: lines of at least `count` elements.
        count: how many numbers.
        precedes: whether the first number must come strictly before the second.
    """
    with b.loop("i", 0, count) as i:
        order.store(i, index(i))
    kind = VecType(i64)
    width = b.reg("width", kind, 1)
    with b.while_(lambda: compare("lt", width.read(), index(count))):
        start = b.reg("start", kind, 0)
        with b.while_(lambda: compare("lt", start.read(), index(count))):
            middle = b.reg("middle", kind, minimum(start.read() + width.read(), index(count)))
            end = b.reg("end", kind, minimum(middle.read() + width.read(), index(count)))
            _merge(b, order, spare, count, (start, middle, end), precedes)
            b.set(start, end.read())
        with b.loop("i", 0, count) as i:
            order.store(i, spare.load(i))
        b.set(width, width.read() * 2)


def _merge(
    b: Any,
    order: Line,
    spare: Line,
    count: DimLike,
    run: tuple[Any, Any, Any],
    precedes: Callable[[DimLike, DimLike], Expr],
) -> None:
    """Merge the runs start..middle-1 and middle..end-1 of `order` into `spare`."""
    start, middle, end = run
    left = b.reg("left", VecType(i64), start.read())
    right = b.reg("right", VecType(i64), middle.read())
    place = b.reg("place", VecType(i64), start.read())

    def element(line: Line, at: Any) -> DimLike:
        return b.index(line.load(b.index(at.read(), 0, count - 1)), 0, count - 1)  # type: ignore[no-any-return]

    with b.while_(lambda: compare("lt", place.read(), end.read())):
        from_left = b.reg("from_left", VecType(boolean), compare("lt", left.read(), middle.read()))
        with b.when(from_left.read() & compare("lt", right.read(), end.read())):
            b.set(from_left, ~precedes(element(order, right), element(order, left)))
        here = b.index(place.read(), 0, count - 1)
        with b.when(from_left.read()):
            spare.store(here, index(element(order, left)))
            b.set(left, left.read() + 1)
        with b.otherwise():
            spare.store(here, index(element(order, right)))
            b.set(right, right.read() + 1)
        b.set(place, place.read() + 1)
