"""Products whose factors one group of warps fetches by copies of tiles (TMA), while others multiply.

The stages of the pipeline form a ring.  A thread of the fetching group waits till a stage is empty, announces
how many bytes will come, and begins the copies; zeros come from where the factors end.  The groups that
multiply wait till a stage is full, multiply it, and say that it is empty.  So no thread that multiplies
computes an address, and registers of the fetching threads go to those that hold sums.

A factor can be fetched where its elements lie in memory as a map of tiles says: one axis whose neighbours are
contiguous, the other one and those of the stack at constant distances that are multiples of 16 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd

from aino_ir.codegen.cuda.panels import PanelShape
from aino_ir.codegen.cuda.product_kernel import ProductKernel
from aino_ir.codegen.cuda.product_plan import Plan
from aino_ir.codegen.cuda.tilings import Tiling
from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.dims import Dim, DimLike, ceildiv, is_static
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read, index
from aino_ir.loops.groups import GROUP, LINE_BYTES
from aino_ir.loops.registers import RegTile
from aino_ir.loops.signals import MOST_AXES, STRIDE_BYTES
from aino_ir.loops.warp import WARP

FEWER_REGISTERS, MORE_REGISTERS = 24, 240
"""Of a thread that fetches, and of one that multiplies, in a block of three groups."""

HANDED_OVER = 3 * GROUP
"""Threads of a block of which not all can have as many as they want."""


@dataclass(frozen=True)
class TileSource:
    """How the tiles of a factor lie.

    Attributes:
        operand: the factor's.
        extents, strides: of the map, the innermost axis first.
        stack: names of the axes from the third on.
    """

    operand: int
    extents: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]
    stack: tuple[str, ...]


def tile_source(plan: Plan, side: int) -> TileSource | None:
    """How a factor can be fetched, where it can."""
    of, factor, storage = plan.of, plan.of.factors[side], plan.instruction.storages[side]
    lines, terms = (of.rows, of.columns)[side], of.terms
    if not isinstance(factor, Read) or factor.default is not None or len(lines) != 1 or len(terms) != 1:
        return None
    operand = of.spec.operands[factor.operand]
    if operand.dtype is not storage or any(isinstance(c, Expr) for c in factor.index):
        return None
    if not is_static(terms[0].extent):
        return None  # there may be none, and a map has some
    address = operand.addr(factor.index)  # type: ignore[arg-type]
    axes = (lines[0], terms[0]) if plan.shape(side, LINE_BYTES, LINE_BYTES).turned else (terms[0], lines[0])
    moving = [a for a in of.stack if slope(address, a.name) != 0]
    steps = [slope(address, a.name) for a in (*axes, *moving)]
    if steps[0] != 1 or any(s is None for s in steps) or len(steps) > MOST_AXES:
        return None
    strides = tuple(s for s in steps[1:] if s is not None)
    origin = address
    if isinstance(address, Dim):
        origin = address.substitute({a.name: 0 for a in (*axes, *moving)})
    if origin != 0 or not all(_is_aligned(s, storage.bytes) for s in strides):
        return None
    extents = tuple(a.extent for a in (*axes, *moving))
    return TileSource(factor.operand, extents, strides, tuple(a.name for a in moving))


def _is_aligned(stride: DimLike, size: int) -> bool:
    parts = (stride,) if isinstance(stride, int) else (stride.constant, *(n for n, _ in stride.terms()))
    return gcd(*parts) * size % STRIDE_BYTES == 0


class FetchingKernel(ProductKernel):
    """Emits a kernel one of whose groups fetches the stages that the others multiply."""

    def __init__(self, b: LoopBuilder, place: Placement, plan: Plan, tiling: Tiling) -> None:
        super().__init__(b, place, plan, tiling)
        self._full = b.signals("full", tiling.stages, 1)
        self._empty = b.signals("empty", tiling.stages, tiling.multiplying // WARP)
        self._sources: list[TileSource] = []
        self._maps: list[str] = []
        for side, name in enumerate(("row_map", "column_map")):
            source = tile_source(plan, side)
            assert source is not None
            lines = _box(self.panels[side].shape)[0]
            buffer = place.buffers[source.operand]
            self._sources.append(source)
            rounded = plan.instruction.rounding != ""
            self._maps.append(
                b.tile_map(name, buffer, source.extents, source.strides, lines, rounded=rounded)
            )

    def _tile(self, starts: tuple[DimLike, ...], stack: dict[str, DimLike]) -> None:
        b, tiling = self.b, self.tiling
        steps = ceildiv(self.of.extent(self.of.terms), self.terms)
        multiplying = tiling.multiplying // GROUP
        b.start_signals(self._full)
        b.start_signals(self._empty)
        b.barrier()
        group = b.index(index(b.thread // GROUP), 0, multiplying, "team")
        hands_over = tiling.threads >= HANDED_OVER
        with b.when(Condition(group, ">=", multiplying)):
            if hands_over:
                b.registers(FEWER_REGISTERS, more=False)
            with b.when(Condition(b.thread, "==", tiling.multiplying)), b.loop("k", 0, steps) as k:
                self._fetch(k, starts, stack)
        with b.otherwise():
            if hands_over:
                b.registers(MORE_REGISTERS, more=True)
            own, warp, sums = self._own()
            with b.loop("k", 0, steps) as k:
                self._consume(k, sums)
            self._results(starts, stack, own, warp, sums)

    def _turn(self, k: DimLike) -> tuple[DimLike, DimLike]:
        """The stage of a step, and how often the ring has been filled before it."""
        b, stages = self.b, self.tiling.stages
        return b.index(index(k % stages), 0, stages - 1, "stage"), k // stages

    def _fetch(self, k: DimLike, starts: tuple[DimLike, ...], stack: dict[str, DimLike]) -> None:
        b = self.b
        stage, turn = self._turn(k)
        b.await_signal(self._empty, stage, (turn + 1) % 2)
        b.arrive(self._full, stage, sum(p.shape.size * p.shape.dtype.bytes for p in self.panels))
        for panel, source, tiles, start in zip(self.panels, self._sources, self._maps, starts, strict=True):
            shape = panel.shape
            lines, parts = _box(shape)
            width = LINE_BYTES // shape.dtype.bytes
            for part in range(parts):
                place = (start + part * width, k * self.terms) if shape.turned else (k * self.terms, start)
                target = stage * shape.size + part * lines * width
                at = (*place, *(stack[name] for name in source.stack))
                b.copy_tile(panel.buffer, target, tiles, at, self._full, stage)

    def _consume(self, k: DimLike, sums: RegTile) -> None:
        b = self.b
        stage, turn = self._turn(k)
        b.await_signal(self._full, stage, turn % 2)
        self._multiply_together(stage, sums)
        lane = b.index(index(b.thread % WARP), 0, WARP - 1, "lane")
        with b.when(Condition(lane, "==", 0)):
            b.arrive(self._empty, stage)


def _box(shape: PanelShape) -> tuple[int, int]:
    """Lines of a tile, and how many tiles a panel has: lines of terms are one, turned ones many."""
    return shape.rows, shape.chunks * shape.chunk * shape.dtype.bytes // LINE_BYTES
