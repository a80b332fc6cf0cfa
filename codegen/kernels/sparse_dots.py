"""Products of a few rows with single nonzero weights: each output is a dot product along its stream.

Nothing runs along lanes: inputs are picked one by one, by several sums at a time, since a sum waits for
itself.  What counts is that only nonzero weights arrive from memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from aino_ir.codegen.kernels.access import Point
from aino_ir.codegen.kernels.emit import name_index
from aino_ir.codegen.kernels.sparse_loops import MatrixLoops
from aino_ir.dims import DimLike, ceildiv, dmin
from aino_ir.loops.expr import Expr, VecType, fma, index, reduce_lanes
from aino_ir.loops.registers import RegTile


class DotLoops(MatrixLoops):
    """One output of a few rows at a time."""

    SUMS: ClassVar[int] = 4
    """Sums of each row that are added up in the end."""

    def emit(self) -> None:
        """Per unit: a tile of rows, and a group of outputs."""
        outputs = self.stream.outputs
        step = -(-outputs // self.shape.parts)
        self.scalar = VecType(self.dtype)
        self.units(
            ceildiv(self.total, self.shape.rows),
            -(-outputs // step),
            lambda at, block, group: self._unit(at, block * self.shape.rows, group * step, step),
        )

    def _unit(self, at: dict[str, DimLike], start: DimLike, first: DimLike, step: int) -> None:
        b, height = self.b, self.shape.rows
        start = name_index(b, start, "first")
        # past the end the last row stands again, and is written with the same sum again
        rows = [name_index(b, dmin(start + i, self.total - 1), "row") for i in range(height)]
        last = dmin(first + step, self.stream.outputs)

        def outputs(careful: bool) -> None:
            found = [self._found(at, row) for row in rows] if careful else []
            with b.loop("output", first, last) as n:
                self._output(at, n, rows, found)

        self.either_way(self._poison(at, rows), outputs)

    def _poison(self, at: dict[str, DimLike], rows: Sequence[DimLike]) -> Expr:
        total = self.b.reg("poison", self.vector, 0)
        for row in rows:
            self.along_inputs(at, row, lambda x: self.b.set(total, fma(x, 0.0, total.read())))
        return self.b.let(reduce_lanes("add", self.b.let(total.read())), "poison")

    def _found(self, at: dict[str, DimLike], row: DimLike) -> Expr:
        """How many inputs of a row are not finite."""
        count = self.b.reg("found", self.vector, 0)
        self.along_inputs(at, row, lambda x: self.b.set(count, count.read() + self.not_finite(x)))
        return self.b.let(reduce_lanes("add", self.b.let(count.read())), "found")

    def _output(
        self, at: dict[str, DimLike], n: DimLike, rows: Sequence[DimLike], found: Sequence[Expr]
    ) -> None:
        b, sums = self.b, self.SUMS
        begin, end = self.span(n)
        acc = b.reg_tile("acc", (len(rows), sums), self.scalar, 0)
        touched = b.reg_tile("touched", (len(rows),), self.scalar, 0) if found else None
        whole = b.index(index(begin + (end - begin) // sums * sums), begin, end, "whole")
        with b.loop("step", begin, end - (sums - 1), step=sums) as j:
            for s in range(sums):
                self._step(at, j + s, s, rows, acc, touched)
        with b.loop("step", whole, end) as j:
            self._step(at, j, 0, rows, acc, touched)
        for i, row in enumerate(rows):
            parts: list[Expr] = [acc[i, s].read() for s in range(sums)]
            while len(parts) > 1:
                parts = [b.let(x + y) for x, y in zip(parts[::2], parts[1::2], strict=True)]
            value = b.let(parts[0])
            if touched is not None:
                value = self.corrected(value, b.let(touched[i].read()), found[i])
            self.write(Point(self.at(at, row=row, output=n)), value)

    def _step(
        self,
        at: dict[str, DimLike],
        j: DimLike,
        s: int,
        rows: Sequence[DimLike],
        acc: RegTile,
        touched: RegTile | None,
    ) -> None:
        b = self.b
        k = self.input_of(j)
        w = b.let(b.load(self.values, j), "w")
        for i, row in enumerate(rows):
            x = self.x(Point(self.at(at, row=row, inner=k)))
            b.set(acc[i, s], fma(x, w, acc[i, s].read()))
            if touched is not None:
                b.set(touched[i], touched[i].read() + self.not_finite(x))
