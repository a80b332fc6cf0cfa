"""Sums of products by tiles in shared memory: GEMM, convolution, einsum.

A block of 16 x 16 threads makes a tile of the result, each thread `rows` x `columns` elements of it in
registers.  For every 16 terms of the sum the block copies the parts of both factors that it needs into
shared memory, each element once, and every thread then reads its rows and columns from there.
"""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.cuda.product import Product, analyse, extent_of
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, ceildiv, product
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, VecType, const, fma, index
from aino_ir.loops.registers import RegTile
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

SIDE = 16
"""Threads of a block along each side, and terms of the sum that are in shared memory at a time."""


class TileGenerator:
    """Products by tiles in shared memory."""

    name = "tile"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One tile: 4 x 4 elements a thread where the result is large, fewer where it is small."""
        found = analyse(spec)
        if isinstance(found, str):
            yield Reject(self.name, found)
            return
        rows, columns = (4 if extent_of(axes) >= 4 * SIDE else 1 for axes in (found.rows, found.columns))
        params = (("rows", rows), ("columns", columns))
        name = f"tile {rows * SIDE}x{columns * SIDE} by {SIDE}, {rows}x{columns} a thread"
        yield Candidate(self.name, name, params, cost=1e-6)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        found = analyse(spec)
        assert isinstance(found, Product)
        params = dict(candidate.params)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, found.spec)
        emit_checks(place)
        _Tile(b, place, found, params["rows"], params["columns"]).emit()
        return b.finish(header(spec, candidate))


class _Tile:
    def __init__(self, b: LoopBuilder, place: Placement, of: Product, rows: int, columns: int) -> None:
        self.b = b
        self.place = place
        self.of = of
        self.shape = (rows, columns)
        self.dtype = of.factors[0].dtype
        self.heights = (rows * SIDE, columns * SIDE)
        self.extents = tuple(product(a.extent for a in axes) for axes in (of.rows, of.columns))
        self.terms = product(a.extent for a in of.terms)

    def emit(self) -> None:
        """Units are tiles; then terms in steps of SIDE, then the results."""
        b, of = self.b, self.of
        tiles = [ceildiv(e, h) for e, h in zip(self.extents, self.heights, strict=True)]
        stacked = product(a.extent for a in of.stack)
        panels = tuple(
            b.share(f"{name}_panel", self.dtype, height * SIDE)
            for name, height in zip(("row", "column"), self.heights, strict=True)
        )
        with b.units(stacked * tiles[0] * tiles[1], SIDE * SIDE) as unit:
            layer, row_tile, column_tile = b.split(
                unit, {"layer": stacked, "row_tile": tiles[0], "column_tile": tiles[1]}
            )
            stack = self._coordinates(of.stack, layer)
            starts = (row_tile * self.heights[0], column_tile * self.heights[1])
            down, across = b.split(b.thread, {"down": SIDE, "across": SIDE})
            sums = b.reg_tile("sum", self.shape, VecType(self.dtype), 0)
            with b.loop("k", 0, self.terms, step=SIDE) as k:
                for side in (0, 1):
                    self._fill(side, panels[side], starts[side], k, stack)
                b.barrier()
                with b.loop("step", 0, SIDE, unroll=SIDE) as step:
                    self._multiply(panels, step, (down, across), sums)
                b.barrier()
            self._store(starts, (down, across), stack, sums)

    def _coordinates(self, axes: tuple[Axis, ...], flat: DimLike) -> dict[str, DimLike]:
        return self.of.coordinates(self.b, axes, flat)

    def _fill(self, side: int, panel: str, start: DimLike, k: DimLike, stack: dict[str, DimLike]) -> None:
        """Copy the panel of one factor: term `step` of line `line` lies at step * height + line.

        Neighbouring threads copy neighbouring terms of the first factor and neighbouring lines of the second,
        as most operands lie.
        """
        b, height = self.b, self.heights[side]
        axes = (self.of.rows, self.of.columns)[side]
        with b.loop("part", 0, height // SIDE, unroll=height // SIDE) as part:
            number = b.thread + part * SIDE * SIDE
            line, step = (number // SIDE, number % SIDE) if side == 0 else (number % height, number // height)
            here = b.index(index(line), 0, height - 1, "line")
            term = b.index(index(step), 0, SIDE - 1, "term")
            target = term * height + here
            inside = Condition(start + here, "<", self.extents[side]).expr()
            with b.when(inside & Condition(k + term, "<", self.terms).expr()):
                at = {
                    **stack,
                    **self._coordinates(axes, start + here),
                    **self._coordinates(self.of.terms, k + term),
                }
                b.store(panel, target, self.place.expr(self.of.factors[side], Point(at)))
            with b.otherwise():
                b.store(panel, target, const(0, self.dtype))

    def _multiply(
        self, panels: tuple[str, ...], step: DimLike, thread: tuple[DimLike, DimLike], sums: RegTile
    ) -> None:
        """One term for all elements of the thread: lines thread, thread + SIDE ... of both panels."""
        b = self.b
        rows, columns = (
            [
                b.load(panels[side], step * self.heights[side] + thread[side] + n * SIDE)
                for n in range(self.shape[side])
            ]
            for side in (0, 1)
        )
        for i, x in enumerate(rows):
            for j, w in enumerate(columns):
                b.set(sums[i, j], fma(x, w, sums[i, j].read()))

    def _store(
        self,
        starts: tuple[DimLike, DimLike],
        thread: tuple[DimLike, DimLike],
        stack: dict[str, DimLike],
        sums: RegTile,
    ) -> None:
        b, of = self.b, self.of
        for i in range(self.shape[0]):
            for j in range(self.shape[1]):
                row, column = starts[0] + thread[0] + i * SIDE, starts[1] + thread[1] + j * SIDE
                inside = Condition(row, "<", self.extents[0]).expr()
                with b.when(inside & Condition(column, "<", self.extents[1]).expr()):
                    at = {**stack, **self._coordinates(of.rows, row), **self._coordinates(of.columns, column)}
                    self._result(Point(at), sums[i, j].read())

    def _result(self, point: Point, total: Expr) -> None:
        program = self.of.spec.program
        assert isinstance(program, Compute)
        accumulators = {0: self.b.let(total)}
        values = [
            self.place.expr(r.expr if r.expr is not None else program.result_expr, point, accumulators)
            for r in self.of.spec.results
        ]
        for number, value in enumerate(values):
            self.place.store(number, point, value)
