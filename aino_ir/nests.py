"""Pieces of hand-written loops (`aino_ir.compute.Nest`): loops over a shape, checked indices, orderings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from aino_ir.dims import DimLike
from aino_ir.loops.expr import Expr, cast, compare, const, index, select, unary
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
