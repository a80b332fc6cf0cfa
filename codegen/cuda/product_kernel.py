"""Kernels of products on tensor cores: stages that the warps fill, multiplication, results.

Panels of both factors come to shared memory in a pipeline: while the warps multiply one stage, the copies of
the next ones are on their way.  The results of a warp go eight rows at a time through shared memory, so that
neighbouring threads write neighbouring elements, and whatever follows the product (bias, activation,
residual, requantisation) is computed there.
"""

from __future__ import annotations

from itertools import product
from math import gcd

from aino_ir.codegen.cuda.panels import Panel, Source
from aino_ir.codegen.cuda.product import Product
from aino_ir.codegen.cuda.product_plan import Plan
from aino_ir.codegen.cuda.tilings import PAD, STRIP, Tiling
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import slope
from aino_ir.compute import Compute
from aino_ir.dims import DimLike, ceildiv, is_static
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, VecType, index
from aino_ir.loops.groups import GROUP
from aino_ir.loops.registers import RegTile
from aino_ir.loops.warp import WARP

MOST_LANES, WIDE_BYTES = 8, 16
"""Of a vector of results."""


class ProductKernel:
    """Emits a kernel whose warps fill the stages themselves.

    Args:
        b, place: the kernel under construction.
        plan, tiling: what it does, and how.
    """

    def __init__(self, b: LoopBuilder, place: Placement, plan: Plan, tiling: Tiling) -> None:
        self.b = b
        self.place = place
        self.of = plan.of
        self.instruction = plan.instruction
        self.tiling = tiling
        self.terms = tiling.line_bytes // plan.instruction.storages[0].bytes
        self.panels = tuple(
            Panel(b, place, name, side, plan.panel(side, tiling), tiling.stages, tiling.threads)
            for side, name in enumerate(("row_panels", "column_panels"))
        )
        self.strips = b.share("strips", plan.instruction.total, tiling.strips)
        self.lanes = result_lanes(plan.of, tiling)

    def _source(self, side: int, stack: dict[str, DimLike]) -> Source:
        b, of = self.b, self.of
        axes = (of.rows, of.columns)[side]

        def at(line: DimLike, term: DimLike) -> dict[str, DimLike]:
            return {**stack, **of.coordinates(b, axes, line), **of.coordinates(b, of.terms, term)}

        return Source(of.factors[side], of.extent(axes), of.extent(of.terms), at)

    def emit(self) -> None:
        """Units are tiles: the pipeline, then the results."""
        b, of, tiling = self.b, self.of, self.tiling
        heights = (tiling.rows, tiling.columns)
        tiles = [ceildiv(of.extent(a), h) for a, h in zip((of.rows, of.columns), heights, strict=True)]
        stacked = of.extent(of.stack)
        with b.units(stacked * tiles[0] * tiles[1], tiling.threads) as unit:
            layer, row_tile, column_tile = b.split(
                unit, {"layer": stacked, "row_tile": tiles[0], "column_tile": tiles[1]}
            )
            stack = of.coordinates(b, of.stack, layer)
            self._tile((row_tile * tiling.rows, column_tile * tiling.columns), stack)

    def _tile(self, starts: tuple[DimLike, ...], stack: dict[str, DimLike]) -> None:
        """One unit."""
        own, warp, sums = self._own()
        self._pipeline(starts, stack, own, sums)
        self._results(starts, stack, own, warp, sums)

    def _own(self) -> tuple[tuple[DimLike, ...], DimLike, RegTile]:
        """Where this warp's part of the tile begins, the warp's number, and sums."""
        b, tiling = self.b, self.tiling
        warp = b.index(index(b.thread // WARP), 0, tiling.multiplying // WARP - 1, "warp")
        corner = b.split(warp, {"warp_down": tiling.down, "warp_across": tiling.across})
        own = tuple(c * p for c, p in zip(corner, tiling.part, strict=True))
        shape = (tiling.part[0] // 16, tiling.part[1] // 8, 4)
        return own, warp, b.reg_tile("sum", shape, VecType(self.instruction.total), 0)

    def _pipeline(
        self, starts: tuple[DimLike, ...], stack: dict[str, DimLike], own: tuple[DimLike, ...], sums: RegTile
    ) -> None:
        b, stages = self.b, self.tiling.stages
        steps = ceildiv(self.of.extent(self.of.terms), self.terms)
        for ahead in range(stages - 1):
            self._fill(ahead, ahead, steps, starts, stack)
        with b.loop("k", 0, steps) as k:
            b.await_copies(stages - 2, publish=self.tiling.grouped)
            b.barrier()
            later = k + (stages - 1)
            self._fill(later, b.dim(later % stages), steps, starts, stack)
            self._multiply(b.index(index(k % stages), 0, stages - 1, "stage"), own, sums)

    def _fill(
        self,
        step: DimLike,
        stage: DimLike,
        steps: DimLike,
        starts: tuple[DimLike, ...],
        stack: dict[str, DimLike],
    ) -> None:
        b = self.b
        with b.when(Condition(step, "<", steps)):
            for side, panel in enumerate(self.panels):
                panel.fill(self._source(side, stack), stage, starts[side], step * self.terms)
        b.close_copies()

    def _multiply(self, stage: DimLike, own: tuple[DimLike, ...], sums: RegTile) -> None:
        if self.tiling.grouped:
            self._multiply_together(stage, sums)
            return
        b, (rows, columns) = self.b, self.tiling.part
        for term in range(0, self.terms, self.instruction.terms):
            first = [self._fragments(0, stage, own[0] + r, term) for r in range(0, rows, 16)]
            for c in range(0, columns, 16):
                second = self._fragments(1, stage, own[1] + c, term)
                for r, a in enumerate(first):
                    for half in range(2):
                        place = (r, c // 8 + half)
                        totals = [sums[place[0], place[1], i] for i in range(4)]
                        found = b.warp(
                            self.instruction.operation,
                            *a,
                            *second[2 * half : 2 * half + 2],
                            *[t.read() for t in totals],
                        )
                        for total, value in zip(totals, found, strict=True):
                            b.set(total, value)

    def _multiply_together(self, stage: DimLike, sums: RegTile) -> None:
        b, (first, second) = self.b, self.panels
        group = b.index(index(b.thread // GROUP), 0, self.tiling.multiplying // GROUP - 1, "group")
        totals = [sums[0, c, i] for c in range(self.tiling.columns // 8) for i in range(4)]
        found = b.group_product(
            self.instruction.group,
            first.factor(stage, group),
            second.factor(stage),
            [t.read() for t in totals],
        )
        for total, value in zip(totals, found, strict=True):
            b.set(total, value)

    def _fragments(self, side: int, stage: DimLike, line: DimLike, term: int) -> tuple[Expr, ...]:
        found = self.panels[side].fragments(stage, line, term)
        rounding = self.instruction.rounding
        return tuple(self.b.warp(rounding, f)[0] for f in found) if rounding else found

    # -- results

    def _results(
        self,
        starts: tuple[DimLike, ...],
        stack: dict[str, DimLike],
        own: tuple[DimLike, ...],
        warp: DimLike,
        sums: RegTile,
    ) -> None:
        """Eight rows of each warp at a time: from registers to shared memory, and from there on."""
        b, (rows, columns), together = self.b, self.tiling.part, self.tiling.strip
        vectors = together // self.lanes
        width = together + PAD
        lane = b.index(index(b.thread % WARP), 0, WARP - 1, "lane")
        row, quad = b.split(lane, {"row": 8, "quad": 4})
        mine = warp * (STRIP * width)
        for r, half, first in product(range(rows // 16), range(2), range(0, columns, together)):
            b.barrier(warp=True)
            for c, i in product(range(together // 8), range(2)):
                target = mine + row * width + c * 8 + quad * 2 + i
                b.store(self.strips, target, sums[r, first // 8 + c, 2 * half + i].read())
            b.barrier(warp=True)
            with b.loop("part", 0, STRIP * vectors // WARP) as part:
                number = part * WARP + lane
                down = b.index(index(number // vectors), 0, STRIP - 1, "down")
                across = b.index(index(number % vectors), 0, vectors - 1, "across") * self.lanes
                value = b.load(self.strips, mine + down * width + across, self.lanes)
                self._result(
                    starts[0] + own[0] + r * 16 + half * 8 + down,
                    starts[1] + own[1] + first + across,
                    stack,
                    value,
                )

    def _result(self, row: DimLike, column: DimLike, stack: dict[str, DimLike], total: Expr) -> None:
        b, of = self.b, self.of
        program = of.spec.program
        assert isinstance(program, Compute)
        inside = Condition(row, "<", of.extent(of.rows)).expr()
        with b.when(inside & Condition(column, "<", of.extent(of.columns)).expr()):
            point = self._point({**stack, **of.coordinates(b, of.rows, row)}, column)
            values = [
                self.place.expr(r.expr if r.expr is not None else program.result_expr, point, {0: total})
                for r in of.spec.results
            ]
            for number, value in enumerate(values):
                self.place.store(number, point, value)

    def _point(self, at: dict[str, DimLike], column: DimLike) -> Point:
        """Where the results of a row, from a column on, are computed and stored."""
        b, of, lanes = self.b, self.of, self.lanes
        if lanes == 1:
            return Point({**at, **of.coordinates(b, of.columns, column)})
        (axis,) = of.columns
        last = of.extent(of.columns) // lanes - 1
        vector = b.index(index(column // lanes), 0, last, "vector")
        return Point({**at, axis.name: vector * lanes}, axis.name, lanes)


def result_lanes(of: Product, tiling: Tiling) -> int:
    """Neighbouring results that a thread makes together: up to 16 bytes, all of them there or none."""
    if len(of.columns) != 1 or not is_static(of.columns[0].extent):
        return 1
    (axis,) = of.columns
    if any(slope(r.addr(r.index), axis.name) != 1 for r in of.spec.results):
        return 1
    widest = max(r.dtype.bytes for r in of.spec.results)
    lanes = min(MOST_LANES, WIDE_BYTES // widest, STRIP * tiling.strip // WARP)
    return gcd(lanes, int(axis.extent))  # type: ignore[arg-type]
