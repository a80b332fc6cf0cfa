"""Arithmetic on intervals of integers."""

from __future__ import annotations

Interval = tuple["int | None", "int | None"]
"""Inclusive bounds; None is unbounded."""

UNBOUNDED: Interval = (None, None)


def add_intervals(a: Interval, b: Interval) -> Interval:
    """Bounds of a sum."""
    return (
        None if a[0] is None or b[0] is None else a[0] + b[0],
        None if a[1] is None or b[1] is None else a[1] + b[1],
    )


def scale_interval(a: Interval, factor: int) -> Interval:
    """Bounds of ``factor * x`` for x within `a`."""
    if factor == 0:
        return 0, 0
    lo = None if a[0] is None else a[0] * factor
    hi = None if a[1] is None else a[1] * factor
    return (lo, hi) if factor > 0 else (hi, lo)


def intersect(a: Interval, b: Interval) -> Interval:
    """What lies within both."""
    lo = a[0] if b[0] is None else b[0] if a[0] is None else max(a[0], b[0])
    hi = a[1] if b[1] is None else b[1] if a[1] is None else min(a[1], b[1])
    return lo, hi


def multiply_intervals(a: Interval, b: Interval) -> Interval:
    """Bounds of a product."""
    if a == (0, 0) or b == (0, 0):
        return 0, 0
    infinity = float("inf")
    al, ah = -infinity if a[0] is None else a[0], infinity if a[1] is None else a[1]
    bl, bh = -infinity if b[0] is None else b[0], infinity if b[1] is None else b[1]
    corners = [0 if x == 0 or y == 0 else _corner(x, y) for x in (al, ah) for y in (bl, bh)]
    lo, hi = min(corners), max(corners)
    return None if lo == -infinity else int(lo), None if hi == infinity else int(hi)


def _corner(x: float, y: float) -> float:
    """``x * y`` where an infinite factor gives an infinity and ints stay exact."""
    if isinstance(x, int) and isinstance(y, int):
        return x * y
    return float("inf") if (x > 0) == (y > 0) else float("-inf")


def divide_intervals(a: Interval, b: Interval) -> Interval:
    """Bounds of ``x // y`` for a divisor known to be at least 1; unbounded for any other."""
    least, most = b
    if least is None or least < 1:
        return UNBOUNDED
    lo, hi = a
    if lo is not None:
        lo = lo // least if lo < 0 else 0 if most is None else lo // most
    if hi is not None:
        hi = hi // least if hi >= 0 else -1 if most is None else hi // most
    return lo, hi
