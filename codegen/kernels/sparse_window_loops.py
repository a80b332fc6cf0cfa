"""The loops of convolutions with a sparse kernel: blocks of rows of pixels, every tap from another offset."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.sparse_lanes import Block, LaneLoops
from aino_ir.codegen.kernels.sparse_loops import SparseShape
from aino_ir.codegen.kernels.transpose import transposed
from aino_ir.dims import DimLike, ceildiv, dmin
from aino_ir.dtypes import i64
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read, cast, const, splat

if TYPE_CHECKING:
    from aino_ir.codegen.kernels.sparse_windows import Picture, Spatial, WindowRoles


class WindowLoops(LaneLoops):
    """Lanes along a row of pixels, several rows at a time, one output after the other."""

    roles: WindowRoles

    def __init__(
        self,
        b: LoopBuilder,
        place: Placement,
        roles: WindowRoles,
        shape: SparseShape,
        positions: str,
        picture: Picture,
    ) -> None:
        super().__init__(b, place, roles, shape, positions)
        self.picture = picture
        assert isinstance(roles.x, Read)
        self.pixel = replace(roles.x, default=const(0.0, self.dtype))

    def emit(self) -> None:
        """Blocks of rows and columns; the last ones may reach over the edge."""
        picture, roles, lanes = self.picture, self.roles, self.shape.lanes
        assert roles.horizontal.at is not None
        self.across = picture.columns * lanes
        self.width = picture.rows * self.across
        self.in_order = roles.result_slope(roles.horizontal.at) == 1
        channels = -(-picture.channels // lanes) * lanes if roles.turned else picture.channels
        self.staged = self.b.alloc("picture", self.dtype, channels * picture.size)
        self.column_blocks = -(-roles.horizontal.extent // self.across)
        self.emit_blocks(-(-roles.vertical.extent // picture.rows) * self.column_blocks)

    def _corner(self, block: Block) -> tuple[DimLike, DimLike]:
        """Row and column of the first pixel."""
        row = block.number // self.column_blocks * self.picture.rows
        return row, block.number % self.column_blocks * self.across

    def _channels(self, block: Block) -> tuple[DimLike, DimLike]:
        first = block.chunk * self.picture.channels
        return first, dmin(first + self.picture.channels, self.roles.channels)

    # -- inputs ---------------------------------------------------------------------------------------

    def stage(self, block: Block) -> None:
        """Every residue of rows and columns; zeros outside."""
        for down in range(self.roles.vertical.phases):
            for across in range(self.roles.horizontal.phases):
                if self.roles.turned:
                    self._turn(block, down, across)
                else:
                    self._copy(block, down, across)

    def _pixels(
        self, block: Block, row: DimLike, column: DimLike, phases: tuple[int, int]
    ) -> dict[str, DimLike]:
        """The point that stands for a place of the picture: the tap whose number is the residue."""
        first_row, first_column = self._corner(block)
        at = dict(block.at)
        sides = (
            (self.roles.vertical, first_row, row, phases[0]),
            (self.roles.horizontal, first_column, column, phases[1]),
        )
        for spatial, first, step, phase in sides:
            if spatial.at is not None:
                at[spatial.at.name] = first + step
            if spatial.tap is not None:
                at[spatial.tap.name] = phase if spatial.at is not None else step
        return at

    def _copy(self, block: Block, down: int, across: int) -> None:
        b, picture, lanes, roles = self.b, self.picture, self.shape.lanes, self.roles
        assert roles.horizontal.at is not None
        first, last = self._channels(block)
        with b.loop("channel", first, last) as channel, b.loop("row", 0, picture.height) as row:
            for v, column in enumerate(range(0, picture.pitch, lanes)):
                at = self._pixels(block, row, column, (down, across))
                if roles.channel is not None:
                    at[roles.channel.name] = channel
                point = Point(at, roles.horizontal.at.name, lanes)
                x = b.let(splat(self.place.load(self.pixel, point), lanes))
                b.store(self.staged, self._staged(channel - first, down, across, row, column), x)
                self.note(x, v)

    def _turn(self, block: Block, down: int, across: int) -> None:
        """Squares of channels and pixels."""
        b, picture, lanes, roles = self.b, self.picture, self.shape.lanes, self.roles
        assert roles.channel is not None
        rest = roles.channels % lanes
        squares = -(-picture.channels // lanes)
        start = block.chunk * squares
        stop = dmin(start + squares, ceildiv(roles.channels, lanes))
        with (
            b.loop("row", 0, picture.height) as row,
            b.loop("column", 0, picture.pitch, step=lanes) as column,
            b.loop("square", start, stop) as square,
        ):
            channel = square * lanes
            count = roles.channels - channel if rest else None
            vectors = []
            for i in range(lanes):
                at = self._pixels(block, row, column + i, (down, across))
                point = Point({**at, roles.channel.name: channel}, roles.channel.name, lanes, count)
                vectors.append(b.let(splat(self.place.load(self.pixel, point), lanes)))
            for i, x in enumerate(transposed(b, vectors)):
                place = self._staged(channel - start * lanes + i, down, across, row, column)
                b.store(self.staged, place, x)
                self.note(x, i)

    def _staged(self, channel: DimLike, down: int, across: int, row: DimLike, column: DimLike) -> DimLike:
        picture = self.picture
        return channel * picture.size + picture.phase(down, across) + row * picture.pitch + column

    def place_of(self, block: Block, step: DimLike) -> DimLike:
        """Where a tap of a channel starts in the picture."""
        value = self.b.load(self.positions, self.stream.starts + step)
        return self.b.index(cast(value, i64), 0, self.picture.last, "place")

    def each_place(self, block: Block, body: Callable[[DimLike], None]) -> None:
        """The taps of each residue, of one channel after the other."""
        b, vertical, horizontal = self.b, self.roles.vertical, self.roles.horizontal
        first, last = self._channels(block)
        for down in range(vertical.phases):
            for across in range(horizontal.phases):
                with (
                    b.loop("channel", first, last) as channel,
                    b.loop("down", 0, vertical.taps_of(down)) as i,
                    b.loop("across", 0, horizontal.taps_of(across)) as j,
                ):
                    row, column = i * vertical.pace, j * horizontal.pace
                    body(self._staged(channel - first, down, across, row, column))

    def read(self, block: Block, place: DimLike, v: int) -> Expr:
        """One vector of pixels as a tap meets them."""
        row, column = divmod(v, self.picture.columns)
        lanes = self.shape.lanes
        return self.b.load(self.staged, place + row * self.picture.pitch + column * lanes, lanes)

    def expect_inputs(self, block: Block, share: DimLike, shares: int) -> None:
        """Nothing: most rows of the next block are those of this one."""

    # -- results --------------------------------------------------------------------------------------

    def _result(self, block: Block, row: DimLike, column: DimLike, output: DimLike) -> dict[str, DimLike]:
        at = {**block.at, self.roles.output.name: output}
        for spatial, place in ((self.roles.vertical, row), (self.roles.horizontal, column)):
            if spatial.at is not None:
                at[spatial.at.name] = place
        return at

    def _inside(self, row: DimLike, column: DimLike, rows: int, columns: int) -> Sequence[Condition]:
        """What must hold where blocks of so many rows and columns reach over the edge."""
        sides: Iterator[tuple[Spatial, DimLike, int]] = iter(
            ((self.roles.vertical, row, rows), (self.roles.horizontal, column, columns))
        )
        return [Condition(s.extent, ">", place) for s, place, size in sides if s.extent % size]

    def write_vector(self, block: Block, output: DimLike, v: int, value: Expr) -> None:
        """Pixels past the edge are left out."""
        picture, lanes, horizontal = self.picture, self.shape.lanes, self.roles.horizontal
        assert horizontal.at is not None
        (first_row, first_column), (row, column) = self._corner(block), divmod(v, picture.columns)
        row_at, column_at = first_row + row, first_column + column * lanes
        whole = -(-horizontal.extent // lanes) * lanes  # a vector that is partly inside is masked
        with ExitStack() as stack:
            if self.roles.vertical.extent % picture.rows:
                stack.enter_context(self.b.when(Condition(self.roles.vertical.extent, ">", row_at)))
            if whole % self.across:
                stack.enter_context(self.b.when(Condition(horizontal.extent, ">", column_at)))
            count = horizontal.extent - column_at if horizontal.extent % lanes else None
            point = Point(self._result(block, row_at, column_at, output), horizontal.at.name, lanes, count)
            self.write(point, value)

    def _pixel_of(self, block: Block, lane: DimLike) -> tuple[DimLike, DimLike]:
        first_row, first_column = self._corner(block)
        return first_row + lane // self.across, first_column + lane % self.across

    def write_outputs(
        self, block: Block, lane: DimLike, output: DimLike, count: DimLike | None, value: Expr
    ) -> None:
        """Pixels past the edge are left out."""
        row, column = self._pixel_of(block, lane)
        with ExitStack() as stack:
            for condition in self._inside(row, column, self.picture.rows, self.across):
                stack.enter_context(self.b.when(condition))
            at = self._result(block, row, column, output)
            self.write(Point(at, self.roles.output.name, self.shape.lanes, count), value)

    def expect_outputs(self, block: Block, lane: DimLike, output: DimLike) -> None:
        """Into the line that is written first."""
        here = Point(self._result(block, *self._pixel_of(block, lane), output))
        result = self.roles.spec.results[0]
        self.b.prefetch(
            self.place.result_buffers[0], result.addr(tuple(here.shifted(c) for c in result.index))
        )
