"""Which elements of each buffer a range of units may read or write.

The plan's checkers compare footprints: writes of different threads must be disjoint, reads must
follow a synchronisation with their writer.  A footprint is a hull, so disjoint footprints prove
disjoint accesses, and overlapping ones prove nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aino_ir.dims import DimLike, symbol
from aino_ir.errors.loops import LoopRunError
from aino_ir.loops.ranges import Bounds, MemoryAccess, RangeWalk
from aino_ir.loops.stmt import LoopFn

Box = tuple[tuple[int, int], ...]
"""Half-open ranges, one per axis."""

Footprint = dict[tuple[str, bool], Box]
"""(buffer, is_write) -> the box of elements that may be touched."""


def footprint(
    fn: LoopFn,
    lo: DimLike = 0,
    hi: DimLike | None = None,
    *,
    shapes: Mapping[str, Sequence[int]] | None = None,
    symbols: Mapping[str, int] | None = None,
) -> Footprint:
    """The footprint of units lo..hi-1 on the kernel's parameters (scratch is private to a thread).

    Args:
        fn: the kernel.
        lo: first unit.
        hi: end of the units (exclusive); all when None.
        shapes: row-major shapes of buffers whose boxes should have one range per axis; others are
            seen as one axis of elements.
        symbols: values of symbols, for tighter ranges than the kernel's own facts give.

    Raises:
        LoopRunError: a buffer's size has no bound.
    """
    units = (lo, fn.units if hi is None else hi)
    walk = _FootprintWalk(fn, units, shapes or {}, symbols or {})
    walk.run()
    return walk.boxes


class _FootprintWalk(RangeWalk):
    """Collects accesses per block, so that a tile's unrolled accesses cost one interval analysis."""

    def __init__(
        self,
        fn: LoopFn,
        units: tuple[DimLike, DimLike],
        shapes: Mapping[str, Sequence[int]],
        symbols: Mapping[str, int],
    ) -> None:
        super().__init__(fn, units)
        for name, value in symbols.items():
            if name in self.table:
                self.table.given_eq(symbol(name), value)
        self.boxes: Footprint = {}
        self._shapes = {p.name: tuple(shapes.get(p.name, (self._extent(p.size),))) for p in fn.params}
        self._pending: dict[tuple[str, bool, DimLike], tuple[int, int]] = {}

    def _extent(self, size: DimLike) -> int:
        highest = self.table.interval(size)[1]
        if highest is None:
            raise LoopRunError(kernel=self.fn.name, what=f"the buffer size {size} has no bound")
        return highest

    def on_access(self, access: MemoryAccess) -> None:
        if access.buffer not in self._shapes:
            return
        with self.table.scope():
            found = self.access_bounds(access)
            key = (access.buffer, access.is_write)
            if found is None or access.mask is not None or len(self._shapes[access.buffer]) > 1:
                self._merge(key, self._box(access.buffer, found))
                return
        first, last = found
        base, low = _split(first)
        span = self.table.interval(last - first)[1]
        if span is None:
            self._merge(key, self._box(access.buffer, None))
            return
        pending = (*key, base)
        old = self._pending.get(pending, (low, low + span))
        self._pending[pending] = (min(old[0], low), max(old[1], low + span))

    def on_block_end(self) -> None:
        for (buffer, is_write, base), (low, high) in self._pending.items():
            self._merge((buffer, is_write), self._box(buffer, (base + low, base + high)))
        self._pending.clear()

    def _merge(self, key: tuple[str, bool], box: Box) -> None:
        old = self.boxes.get(key)
        if old is not None:
            box = tuple((min(a, c), max(b, d)) for (a, b), (c, d) in zip(old, box, strict=True))
        self.boxes[key] = box

    def _box(self, buffer: str, bounds: Bounds | None) -> Box:
        """The hull of element offsets first..last as ranges of coordinates."""
        shape = self._shapes[buffer]
        if bounds is None:
            return tuple((0, extent) for extent in shape)
        first, last = bounds
        box: list[tuple[int, int]] = []
        for extent in reversed(shape[1:]):
            low, high, first, last = self._digit(first, last, extent)
            box.append((low, high))
        box.append(self._range(first, last, shape[0]))
        return tuple(reversed(box))

    def _digit(self, first: DimLike, last: DimLike, extent: int) -> tuple[int, int, DimLike, DimLike]:
        """The range of the fastest coordinate, and what is left of the offsets for the others."""
        table = self.table
        outer_first = table.simplify(first // extent)
        outer_last = table.simplify(last // extent)
        if table.prove_eq(outer_first, outer_last):
            low, high = self._range(first - outer_first * extent, last - outer_last * extent, extent)
            return low, high, outer_first, outer_last
        return 0, extent, outer_first, outer_last

    def _range(self, first: DimLike, last: DimLike, extent: int) -> tuple[int, int]:
        lowest = self.table.interval(first)[0]
        highest = self.table.interval(last)[1]
        return (
            0 if lowest is None else max(0, lowest),
            extent if highest is None else min(extent, highest + 1),
        )


def _split(dim: DimLike) -> tuple[DimLike, int]:
    """A Dim without its constant, and the constant."""
    return (0, dim) if isinstance(dim, int) else (dim - dim.constant, dim.constant)


def boxes_overlap(a: Box, b: Box) -> bool:
    """Whether two boxes of one shape have an element in common."""
    return all(lo < other_hi and other_lo < hi for (lo, hi), (other_lo, other_hi) in zip(a, b, strict=True))
