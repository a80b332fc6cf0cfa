"""Register tiles of contractions: which are legal, and a model of what each would cost."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.target import Target

LOADS_PER_CYCLE = 1.8
"""What remains of two load ports beside cache lines that arrive."""

FMAS_PER_CYCLE = 2.0
FMA_LATENCY = 4.25
"""Cycles from a sum to its next use, and a little: with just as many chains every hiccup is lost."""

ROW_CHOICES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 13, 14, 24, 28)
VECTOR_CHOICES = (1, 2, 3, 4, 6, 8)


@dataclass(frozen=True)
class Tile:
    """Rows and vectors of accumulators held in registers."""

    rows: int
    vectors: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.vectors}"


def legal_tiles(target: Target, row_extent: int, vector_extent: int, row_vector: bool = False) -> list[Tile]:
    """Tiles whose accumulators, lane vectors and one broadcast fit the registers.

    Where the row factor is read as vectors (depthwise), neighbouring taps share them, so they are
    held in registers too: as many as there are accumulators.
    """
    registers = target.vector_registers
    out = []
    for rows in ROW_CHOICES:
        for vectors in VECTOR_CHOICES:
            held = 2 * rows * vectors + 2 if row_vector else rows * vectors
            fits = held + vectors + 1 <= registers and rows <= max(row_extent, 1)
            if fits and vectors <= max(vector_extent, 1):
                out.append(Tile(rows, vectors))
    return out


def step_cycles(rows: int, vectors: int, row_loads: float, lane_loads: float) -> float:
    """Cycles of one reduction step of a tile: FMA throughput, loads, or the accumulators' latency."""
    fmas = rows * vectors
    return max(fmas / FMAS_PER_CYCLE, (row_loads + lane_loads) / LOADS_PER_CYCLE, FMA_LATENCY)


def tile_cycles(
    tile: Tile, row_extent: int, vector_extent: int, steps: int, row_vector: bool, lane_shared: bool
) -> float:
    """Cycles for a whole row_extent x vector_extent result, tails in tiles of their exact size.

    Args:
        tile: the register tile.
        row_extent, vector_extent: rows, and vectors along the lanes.
        steps: reduction length.
        row_vector: whether the row factor is also read as vectors (depthwise).
        lane_shared: whether the lane factor is the same for all rows.
    """
    total = 0.0
    for rows, row_count in split_tiles(row_extent, tile.rows):
        for vectors, count in split_tiles(vector_extent, tile.vectors):
            row_loads = rows * vectors if row_vector else rows
            lane_loads = vectors if lane_shared else rows * vectors
            per_tile = step_cycles(rows, vectors, row_loads, lane_loads) * steps + 10 + 2.0 * rows * vectors
            total += row_count * count * per_tile
    return total


def split_tiles(extent: int, size: int) -> list[tuple[int, int]]:
    """(size of a tile, how many there are) of the tiles that cover an extent, the last one cut."""
    out = [(size, extent // size)] if extent // size else []
    return [*out, (extent % size, 1)] if extent % size else out
