"""Panels: parts of a factor that a block keeps in shared memory for `mma` instructions.

A panel holds elements in rows of chunks of 16 bytes: rows are the lines of the tile and chunks run along the
terms, or, where a factor of 16-bit floats is contiguous along its lines, the other way round (`turned`; only
they can be turned back when they are read).  Chunks are swapped within a row by the row's number, so that the
eight rows of a block that `load_matrix` reads lie in different banks.

Where the elements of a chunk always lie side by side in memory, it is an asynchronous copy; else they are
computed and stored one by one, borders and whatever stands before the product included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aino_ir.codegen.cuda.product import Run
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DType
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read, binary, const, index
from aino_ir.loops.stmt import SharedFactor

CHUNK_BYTES = 16

BANK_CHUNKS = 8
"""Chunks that lie in different banks of shared memory."""

Coordinates = Mapping[str, DimLike]


@dataclass(frozen=True)
class Source:
    """A factor of a product, addressed by its line (row or column of the result) and its term.

    Attributes:
        factor: the element, in index notation.
        lines, terms: how many there are.
        at: (line, term) -> coordinates, which the kernel's builder may name.
    """

    factor: Expr
    lines: DimLike
    terms: DimLike
    at: Callable[[DimLike, DimLike], Coordinates]


@dataclass(frozen=True)
class PanelShape:
    """How a panel lies in shared memory.

    Attributes:
        lines, terms: of the tile.
        dtype: of the elements.
        turned: whether rows are terms and chunks run along lines.
        copied: whether chunks are copied asynchronously.
        across: whether neighbouring threads fill chunks of neighbouring rows, as elements lie in memory.
        cut: chunks of a row that lie together: the others lie behind those of all rows; 0 for all of them.
    """

    lines: int
    terms: int
    dtype: DType
    turned: bool
    copied: bool
    across: bool
    cut: int = 0

    @property
    def chunk(self) -> int:
        """Elements of a chunk."""
        return CHUNK_BYTES // self.dtype.bytes

    @property
    def rows(self) -> int:
        """Rows in memory."""
        return self.terms if self.turned else self.lines

    @property
    def chunks(self) -> int:
        """Chunks of a row."""
        return (self.lines if self.turned else self.terms) // self.chunk

    @property
    def together(self) -> int:
        """Chunks of a row that lie together."""
        return self.cut or self.chunks

    @property
    def size(self) -> int:
        """Elements."""
        return self.lines * self.terms


def panel_shape(term: Run, line: Run, tile: tuple[int, int], dtype: DType) -> PanelShape:
    """The panel that suits a factor: chunks along what is contiguous.

    Args:
        term, line: neighbours along terms and along lines.
        tile: lines and terms.
        dtype: of the elements.
    """
    along_lines = line.step == 1 and term.step != 1
    turned = along_lines and dtype.bytes == 2
    along = line if turned else term
    filled = is_static(along.extent) and int(along.extent) % (CHUNK_BYTES // dtype.bytes) == 0  # type: ignore[arg-type]
    copied = along.step == 1 and along.whole and filled
    return PanelShape(*tile, dtype, turned, copied, along_lines and not turned)


class Panel:
    """One factor's panels, one for each stage of the pipeline.

    Args:
        b, place: the kernel under construction.
        name: of the buffer.
        side: which factor, 0 for rows and 1 for columns.
        shape: of each panel.
        stages: how many there are.
        threads: of the block.
    """

    def __init__(
        self,
        b: LoopBuilder,
        place: Placement,
        name: str,
        side: int,
        shape: PanelShape,
        stages: int,
        threads: int,
    ) -> None:
        self.b = b
        self.place = place
        self.side = side
        self.shape = shape
        self.threads = threads
        self.buffer = b.share(name, shape.dtype, shape.size * stages)

    # -- places

    def place_of(self, stage: DimLike, row: DimLike, chunk: DimLike) -> DimLike:
        """Where a chunk starts, in elements."""
        b, shape = self.b, self.shape
        width = shape.together
        step = max(1, BANK_CHUNKS // width)  # rows that share the banks of one row of eight chunks
        mixed = min(width & -width, BANK_CHUNKS)  # a power of two, so that none leaves the row
        turn = index(row // step % mixed)
        if shape.cut:
            row, chunk = chunk // width * shape.rows + row, chunk % width
        swapped = b.index(binary("xor", index(chunk), turn), 0, width - 1, "chunk")
        return stage * shape.size + (row * width + swapped) * shape.chunk

    def factor(self, stage: DimLike, part: DimLike = 0) -> SharedFactor:
        """A stage's panel, of rows cut to 128 bytes, as groups multiply it; its part-th 64 lines."""
        shape = self.shape
        row = shape.together * shape.chunk
        step = shape.rows * row
        start = stage * shape.size + part * (step if shape.turned else 64 * row)
        return SharedFactor(self.buffer, start, step, shape.turned)

    # -- filling

    def fill(self, source: Source, stage: DimLike, start: DimLike, first_term: DimLike) -> None:
        """Begin to fill a stage's panel with lines from `start` and terms from `first_term` on."""
        b, shape = self.b, self.shape
        chunks = shape.rows * shape.chunks
        each = -(-chunks // self.threads)
        with b.loop("part", 0, each, unroll=each) as part:
            number = b.thread + part * self.threads
            guard = Condition(number, "<", chunks)
            with b.when(guard):
                down, along = number // shape.chunks, number % shape.chunks
                if shape.across:
                    down, along = number % shape.rows, number // shape.rows
                row = b.index(index(down), 0, shape.rows - 1, "row")
                chunk = b.index(index(along), 0, shape.chunks - 1, "part_of_row")
                target = self.place_of(stage, row, chunk)
                first = chunk * shape.chunk
                line, term = (first, row) if shape.turned else (row, first)
                if shape.copied:
                    self._copy(source, target, start + line, first_term + term)
                else:
                    self._compute(source, target, start + line, first_term + term)

    def _copy(self, source: Source, target: DimLike, line: DimLike, term: DimLike) -> None:
        """One chunk as it lies in memory; zeros outside of the factor."""
        b = self.b
        assert isinstance(source.factor, Read)
        here = b.index(index(line), 0, None, "line")
        there = b.index(index(term), 0, None, "term")
        present = _inside(source, here, there)
        buffer, address, mask = self.place.address(source.factor, Point(source.at(here, there)))
        if mask is not None:
            present = binary("and", present, mask)
        b.copy(self.buffer, target, buffer, address, self.shape.chunk, present)

    def _compute(self, source: Source, target: DimLike, line: DimLike, term: DimLike) -> None:
        """One chunk element by element."""
        b = self.b
        with b.loop("i", 0, self.shape.chunk) as i:
            here, there = (line + i, term) if self.shape.turned else (line, term + i)
            with b.when(_inside(source, here, there)):
                value = self.place.expr(source.factor, Point(source.at(here, there)))
                b.store(self.buffer, target + i, value)
            with b.otherwise():
                b.store(self.buffer, target + i, const(0, source.factor.dtype))

    # -- reading

    def fragments(self, stage: DimLike, line: DimLike, term: int) -> tuple[Expr, ...]:
        """16 lines from `line`, 32 bytes of terms from `term` on, as `mma` wants this factor: four registers.

        Of rows they are one first factor, of columns two second ones of eight columns each.
        """
        b, shape = self.b, self.shape
        block, step = b.split(b.dim(b.thread % 32), {"block": 4, "step": 8})
        inner, outer = (block % 2, block // 2) if self.side == 0 else (block // 2, block % 2)
        lines, terms = inner, outer  # blocks of eight lines and of 16 bytes of terms
        if shape.turned:
            row, chunk = term + terms * shape.chunk + step, line // shape.chunk + lines
        else:
            row, chunk = line + lines * 8 + step, term // shape.chunk + terms
        named = b.index(index(row), 0, shape.rows - 1, "row")
        part = b.index(index(chunk), 0, shape.chunks - 1, "part_of_row")
        return b.load_matrix(self.buffer, self.place_of(stage, named, part), turned=shape.turned)


def _inside(source: Source, line: DimLike, term: DimLike) -> Expr:
    return binary("and", Condition(line, "<", source.lines).expr(), Condition(term, "<", source.terms).expr())
