"""Rows of a matrix, and pixels of 1x1 convolutions: lanes along rows, whatever the pattern of the weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from aino_ir.codegen.kernels.access import Point
from aino_ir.codegen.kernels.emit import name_index
from aino_ir.codegen.kernels.sparse_lanes import LINE_BYTES, Block, LaneLoops
from aino_ir.codegen.kernels.sparse_loops import MatrixLoops
from aino_ir.codegen.kernels.transpose import transposed
from aino_ir.dims import DimLike, ceildiv, dmin, is_static
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read


class RowLoops(LaneLoops, MatrixLoops):
    """Lanes along rows, one output at a time."""

    def emit(self) -> None:
        """Blocks of rows; those that lie in order and fit are read in place."""
        shape, b, roles = self.shape, self.b, self.roles
        assert roles.row is not None
        self.row = roles.row
        self.width = shape.vectors * shape.lanes
        self.whole = is_static(self.total) and int(self.total) % self.width == 0  # type: ignore[arg-type]
        self.direct = roles.rows_contiguous and self.whole
        self.in_order = roles.result_slope(self.row) == 1
        size = self.stream.chunk or self.stream.inputs
        self.staged = "" if self.direct else b.alloc("block", self.dtype, size * self.width)
        self.emit_blocks(ceildiv(self.total, self.width))

    def _start(self, block: Block) -> DimLike:
        return block.number * self.width

    # -- inputs ---------------------------------------------------------------------------------------

    def stage(self, block: Block) -> None:
        """Copied where rows lie in order, else turned over; read once where they need neither."""
        if not self.direct and not self.roles.rows_contiguous:
            self._turn(block)
            return
        with self.b.loop("k", block.first, block.last) as k:
            for v in range(self.shape.vectors):
                point = self._rows_point(block, v, inner=k)
                x = self.b.let(self.x(point))
                if not self.direct:
                    self.b.store(self.staged, self._staged(block, k, v), x)
                self.note(x, v)

    def _rows_point(self, block: Block, v: int, **coordinates: DimLike) -> Point:
        lanes = self.shape.lanes
        start = self._start(block) + v * lanes
        count = None if self.whole else self.total - start
        return Point(self.at(block.at, row=start, **coordinates), self.row.name, lanes, count)

    def _turn(self, block: Block) -> None:
        """Inputs lie in order: square blocks are turned over; past the end the last row stands again."""
        b, lanes, inputs = self.b, self.shape.lanes, self.stream.inputs
        rest = inputs % lanes
        with b.loop("turn", 0, self.width, step=lanes) as g:
            rows = [self._row(block, g + i) for i in range(lanes)]
            if self.several:
                size = self.stream.chunk // lanes
                stop = dmin(block.chunk * size + size, ceildiv(inputs, lanes))
                with b.loop("square", block.chunk * size, stop) as square:
                    k = square * lanes
                    self._turn_square(block, rows, g, k, lanes, inputs - k if rest else None)
                return
            with b.loop("k", 0, inputs - rest, step=lanes) as k:
                self._turn_square(block, rows, g, k, lanes, None)
            if rest:
                self._turn_square(block, rows, g, inputs - rest, rest, rest)

    def _row(self, block: Block, lane: DimLike) -> DimLike:
        row = self._start(block) + lane
        return row if self.whole else name_index(self.b, dmin(row, self.total - 1), "row")

    def _turn_square(
        self, block: Block, rows: Sequence[DimLike], g: DimLike, k: DimLike, kept: int, valid: DimLike | None
    ) -> None:
        inner, lanes = self.roles.inner.name, self.shape.lanes
        at = [self.at(block.at, row=r, inner=k) for r in rows]
        vectors = [self.x(Point(a, inner, lanes, valid)) for a in at]
        for i, vector in enumerate(transposed(self.b, vectors)[:kept]):
            self.b.store(self.staged, self._staged(block, k + i, 0) + g, vector)
            self.note(vector, i)

    def place_of(self, block: Block, step: DimLike) -> DimLike:
        """The input."""
        return self.input_of(step, block.first, block.last - 1)

    def each_place(self, block: Block, body: Callable[[DimLike], None]) -> None:
        """One input after the other."""
        with self.b.loop("k", block.first, block.last) as k:
            body(k)

    def read(self, block: Block, place: DimLike, v: int) -> Expr:
        """In place, or out of the chunk in scratch memory."""
        if self.direct:
            return self.x(self._rows_point(block, v, inner=place))
        return self.b.load(self.staged, self._staged(block, place, v), self.shape.lanes)

    def _staged(self, block: Block, k: DimLike, v: int) -> DimLike:
        return (k - block.first) * self.width + v * self.shape.lanes

    def expect_inputs(self, block: Block, share: DimLike, shares: int) -> None:
        """Lines of the rows behind the block, where these follow each other in memory."""
        b, roles, inputs = self.b, self.roles, self.stream.inputs
        if not isinstance(roles.x, Read) or any(isinstance(c, Expr) for c in roles.x.index):
            return
        line = max(1, LINE_BYTES // self.place.operands[roles.x.operand].dtype.bytes)
        first = self._start(block) + self.width
        if roles.rows_contiguous:
            each = ceildiv(inputs, shares)
            with b.loop("k", share * each, dmin(share * each + each, inputs)) as k:
                for lane in range(0, self.width, line):
                    self._expect(block, first + lane, k, 0)
        elif roles.x_slope(roles.inner) == 1 and roles.x_slope(self.row) == inputs:
            size = ceildiv(self.width * inputs, line * shares) * line
            with b.loop(
                "line", share * size, dmin(share * size + size, self.width * inputs), step=line
            ) as at:
                self._expect(block, first, 0, at)

    def _expect(self, block: Block, row: DimLike, inner: DimLike, offset: DimLike) -> None:
        """Hints may lie past the end."""
        x = self.roles.x
        assert isinstance(x, Read)
        here = Point(self.at(block.at, row=row, inner=inner))
        address = self.place.operands[x.operand].addr(tuple(here.shifted(c) for c in x.index))  # type: ignore[arg-type]
        self.b.prefetch(self.place.buffers[x.operand], address + offset, locality=2)

    # -- results --------------------------------------------------------------------------------------

    def write_vector(self, block: Block, output: DimLike, v: int, value: Expr) -> None:
        """Lanes past the last row are left out."""
        self.write(self._rows_point(block, v, output=output), value)

    def write_outputs(
        self, block: Block, lane: DimLike, output: DimLike, count: DimLike | None, value: Expr
    ) -> None:
        """Rows past the last one are left out."""
        row = self._start(block) + lane
        with ExitStack() as stack:
            if not self.whole:
                stack.enter_context(self.b.when(Condition(self.total, ">", row)))
            here = self.at(block.at, row=row, output=output)
            self.write(Point(here, self.roles.output.name, self.shape.lanes, count), value)

    def expect_outputs(self, block: Block, lane: DimLike, output: DimLike) -> None:
        """Into the line that is written first."""
        here = Point(self.at(block.at, row=self._start(block) + lane, output=output))
        result = self.roles.spec.results[0]
        address = result.addr(tuple(here.shifted(c) for c in result.index))
        self.b.prefetch(self.place.result_buffers[0], address)
