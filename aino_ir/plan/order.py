"""Which launches must wait for which, by the bytes that they touch.

A launch follows those that wrote what it reads or writes, and those that read what it writes; what follows
from others is left out (the transitive reduction: A. V. Aho, M. R. Garey, J. D. Ullman, "The transitive
reduction of a directed graph", 1972).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from aino_ir.plan.touches import Touch

Range = tuple[int, int]


@dataclass
class _Bytes:
    """Who touched a range last: the launch that wrote it, and those that have read it since."""

    writer: int | None = None
    readers: set[int] = field(default_factory=set)


class _Memory:
    """What earlier launches touched, by space and range."""

    def __init__(self) -> None:
        self._spaces: dict[tuple[str, int], dict[Range, _Bytes]] = {}

    def before(self, touch: Touch) -> Iterator[int]:
        """Launches that must be over before a touch."""
        for (lo, hi), found in self._spaces.get(touch.space, {}).items():
            if max(lo, touch.lo) < min(hi, touch.hi):
                if found.writer is not None:
                    yield found.writer
                if touch.writes:
                    yield from found.readers

    def note(self, touch: Touch, launch: int) -> None:
        """Enter a touch; what a write covers is forgotten: who waits for the writer waits for that too."""
        space = self._spaces.setdefault(touch.space, {})
        if touch.writes:
            for lo, hi in [r for r in space if touch.lo <= r[0] and r[1] <= touch.hi]:
                del space[lo, hi]
            space[touch.lo, touch.hi] = _Bytes(launch)
        else:
            space.setdefault((touch.lo, touch.hi), _Bytes()).readers.add(launch)


def order_of(touched: Sequence[Sequence[Touch]]) -> list[list[int]]:
    """For each launch, by what it touches, the places of those that it follows directly.

    Takes memory for the square of their number, in bits.
    """
    memory, order = _Memory(), []
    earlier: list[int] = []  # bit i of the n-th: launch n comes after launch i
    for number, mine in enumerate(touched):
        needed = {before for touch in mine for before in memory.before(touch)}
        implied = 0
        for before in needed:
            implied |= earlier[before]
        direct = sorted(b for b in needed if not implied >> b & 1)
        order.append(direct)
        earlier.append(implied | sum(1 << b for b in direct))
        for touch in mine:
            memory.note(touch, number)
    return order


def levels_of(order: Sequence[Sequence[int]]) -> list[int]:
    """How many launches stand before each on the longest path to it; those of one level are independent."""
    levels: list[int] = []
    for before in order:
        levels.append(1 + max((levels[b] for b in before), default=-1))
    return levels
