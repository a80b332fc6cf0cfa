"""Products with blocks of nonzero weights as wide as vectors: lanes run along outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from aino_ir.codegen.kernels.access import Point
from aino_ir.codegen.kernels.emit import name_index
from aino_ir.codegen.kernels.sparse_loops import MatrixLoops
from aino_ir.dims import DimLike, ceildiv, dmin
from aino_ir.loops.expr import Expr, VecType, fma, reduce_lanes, splat
from aino_ir.loops.registers import RegTile


class PanelLoops(MatrixLoops):
    """Lanes along outputs, a register tile of rows by a panel."""

    TILES: ClassVar[int] = 6
    """Row tiles of a unit."""

    def emit(self) -> None:
        """Per unit: a chunk of rows, and of each panel of a group the stream for each tile of rows."""
        panels = self.stream.panels
        step = -(-panels // self.shape.parts)
        chunk = self.shape.rows * self.TILES
        self.units(
            ceildiv(self.total, chunk),
            -(-panels // step),
            lambda at, block, group: self._unit(at, block * chunk, chunk, group * step, step),
        )

    def _unit(self, at: dict[str, DimLike], start: DimLike, chunk: int, first: DimLike, step: int) -> None:
        b = self.b
        start = name_index(b, start, "first")
        stop = name_index(b, dmin(start + chunk, self.total), "stop")
        last = dmin(first + step, self.stream.panels)

        def panels(careful: bool) -> None:
            with b.loop("panel", first, last) as panel:
                self._rows(at, panel, start, stop, careful)

        self.either_way(self._poison(at, start, stop), panels)

    def _poison(self, at: dict[str, DimLike], start: DimLike, stop: DimLike) -> Expr:
        """The chunk times zero, added up."""
        b = self.b
        total = b.reg("poison", self.vector, 0)
        with b.loop("row", start, stop) as row:
            self.along_inputs(at, row, lambda x: b.set(total, fma(x, 0.0, total.read())))
        return b.let(reduce_lanes("add", b.let(total.read())), "poison")

    def _rows(
        self, at: dict[str, DimLike], panel: DimLike, start: DimLike, stop: DimLike, careful: bool
    ) -> None:
        """Full tiles of rows, then a narrower one."""
        b, height = self.b, self.shape.rows
        whole = name_index(b, start + (stop - start) // height * height, "whole")
        with b.loop("tile", start, whole, step=height) as r:
            self._tile(at, panel, [r + i for i in range(height)], careful)
        with b.loop("tile", whole, stop) as r:
            self._tile(at, panel, [r], careful)

    def _tile(self, at: dict[str, DimLike], panel: DimLike, rows: Sequence[DimLike], careful: bool) -> None:
        b, vectors, lanes = self.b, self.shape.vectors, self.shape.lanes
        begin, end = self.span(panel)
        acc = b.reg_tile("acc", (len(rows), vectors), self.vector, 0)
        touched = b.reg_tile("touched", (len(rows),), VecType(self.dtype), 0) if careful else None
        with b.loop("step", begin, end) as j:
            k = self.input_of(j)
            w = [b.load(self.values, (j * vectors + v) * lanes, lanes) for v in range(vectors)]
            for i, row in enumerate(rows):
                x = self.x(Point(self.at(at, row=row, inner=k)))
                wide = b.let(splat(x, lanes), "x")
                for v in range(vectors):
                    b.set(acc[i, v], fma(wide, w[v], acc[i, v].read()))
                if touched is not None:
                    b.set(touched[i], touched[i].read() + self.not_finite(x))
        for i, row in enumerate(rows):
            self._write_row(at, panel, row, i, acc, touched)

    def _write_row(
        self,
        at: dict[str, DimLike],
        panel: DimLike,
        row: DimLike,
        i: int,
        acc: RegTile,
        touched: RegTile | None,
    ) -> None:
        b, vectors, lanes, outputs = self.b, self.shape.vectors, self.shape.lanes, self.stream.outputs
        found: Expr | None = None
        if touched is not None:
            count = b.reg("found", self.vector, 0)
            self.along_inputs(at, row, lambda x: b.set(count, count.read() + self.not_finite(x)))
            found = b.let(reduce_lanes("add", b.let(count.read())))
        for v in range(vectors):
            first = panel * (vectors * lanes) + v * lanes
            valid = None if outputs % (vectors * lanes) == 0 else outputs - first
            value = b.let(acc[i, v].read())
            if touched is not None and found is not None:
                same = b.let(touched[i].read())
                value = self.corrected(value, splat(same, lanes), splat(found, lanes))
            self.write(Point(self.at(at, row=row, output=first), self.roles.output.name, lanes, valid), value)
