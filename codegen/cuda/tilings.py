"""How blocks do their tiles of a product on tensor cores, as data."""

from __future__ import annotations

from dataclasses import dataclass, replace

from aino_ir.codegen.cuda.launch import BOUNDARY
from aino_ir.loops.groups import GROUP, LINE_BYTES
from aino_ir.loops.warp import WARP

TOTAL_BYTES = 4
"""Of a sum."""

STRIP = 8
"""Rows of a warp that are written together."""

STRIP_COLUMNS = 128
"""Columns of them that are written together, at most."""

PAD = 8
"""Elements behind each row of a strip, for the banks."""


@dataclass(frozen=True)
class Tiling:
    """How a block does its tile.

    Attributes:
        rows, columns: of the tile.
        down, across: warps.
        stages: of the pipeline.
        line_bytes: terms of a line that a stage has, in bytes.
        grouped: whether four warps multiply together (`wgmma`), each 16 rows and all columns of the tile.
        fetched: whether copies of tiles (TMA) fill the stages, begun by a group of warps that only does that.
    """

    rows: int
    columns: int
    down: int
    across: int
    stages: int
    line_bytes: int = 64
    grouped: bool = False
    fetched: bool = False

    @property
    def multiplying(self) -> int:
        """Threads of a block that multiply."""
        return self.down * self.across * WARP

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.multiplying + (GROUP if self.fetched else 0)

    @property
    def part(self) -> tuple[int, int]:
        """Rows and columns of a warp."""
        return self.rows // self.down, self.columns // self.across

    @property
    def strip(self) -> int:
        """Columns of a warp that are written together."""
        return min(self.part[1], STRIP_COLUMNS)

    @property
    def strips(self) -> int:
        """Elements of the strips of all warps."""
        return self.down * self.across * STRIP * (self.strip + PAD)

    @property
    def shared_bytes(self) -> int:
        """Shared memory of a block; signals take as much as lies in front of what a launch asks for."""
        signals = BOUNDARY if self.fetched else 0
        return (
            self.line_bytes * (self.rows + self.columns) * self.stages + self.strips * TOTAL_BYTES + signals
        )

    def __str__(self) -> str:
        part = f"{self.part[0]}x{self.part[1]} a warp"
        how = "TMA and wgmma" if self.fetched else "wgmma" if self.grouped else part
        return f"{self.rows}x{self.columns}, {how}, {self.stages} stages of {self.line_bytes} bytes"


def grouped(rows: int, columns: int, stages: int) -> Tiling:
    """A tile that groups of warps multiply, 64 rows each."""
    return Tiling(rows, columns, rows // 16, 1, stages, LINE_BYTES, grouped=True)


def fetched(rows: int, columns: int, stages: int) -> Tiling:
    """The same, with stages that copies of tiles fill."""
    return replace(grouped(rows, columns, stages), fetched=True)


TILINGS = (
    fetched(128, 256, 4),
    fetched(128, 128, 5),
    fetched(64, 128, 4),
    grouped(128, 256, 3),
    grouped(128, 128, 4),
    grouped(64, 128, 4),
    Tiling(128, 256, 2, 4, 3, 128),
    Tiling(128, 128, 2, 2, 3, 128),
    Tiling(128, 128, 2, 2, 2),
    Tiling(128, 64, 2, 2, 3),
    Tiling(64, 64, 2, 2, 4),
    Tiling(16, 64, 1, 4, 4),
    Tiling(64, 16, 4, 1, 4),
)
"""From the most work for each byte to the least."""
