"""Products of few rows with constant weights of 4 or 8 bits, which memory should bound: decoding is cheap.

A weight stands for ``(q - zero) * scale``, where scale and zero are the same for a channel, or for a run of
neighbours along the reduction (a group).  What is constant along a run is taken out of its sum::

    sum over runs of scale * (sum over the run of x * (q - zero))

so that a weight costs what makes a float of its integer, and one multiply-add for each row of a tile.

Eight weights of 4 bits share a word (`Words`); a vector of words has one for each lane (an output).  A mask
leaves half of a vector's weights alone in the upper half of their byte; moving that byte to the top of the
word, one instruction where bytes can be shuffled, gives the weight as a signed integer times 2^28, by which
the sum of the run is divided.  Unsigned weights and those with a zero point go to the bottom of the word.

Sums that are scaled at last may leave the floats where sums of scaled products would not: a tile that is not
finite is computed once more, as the definition says.

A single row times weights of 4 bits has a second way, in integers: `fixed_point`.

Scales and zero points are stored panel by panel like the weights: a unit reads few, contiguous streams.
"""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.kernels.blocking import SYMBOLIC_EXTENT, choose_blocking, rows_and_columns
from aino_ir.codegen.kernels.contract import (
    CLOCK,
    DECODINGS_PER_CYCLE,
    Use,
    panel_layout,
    plain_use,
)
from aino_ir.codegen.kernels.decoding_loops import DecodingLoops
from aino_ir.codegen.kernels.decoding_parts import Parts, parts_of
from aino_ir.codegen.kernels.dot import neighbour_layout
from aino_ir.codegen.kernels.emit import vector_lanes
from aino_ir.codegen.kernels.fixed_point import (
    QUARTET,
    STAGING_CYCLES,
    FixedPointLoops,
    block_of,
    block_operations,
    step_operations,
)
from aino_ir.codegen.kernels.naming import header
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.codegen.kernels.tiled import BEST, begin_kernel, cheapest, tile_params, tile_shape
from aino_ir.codegen.kernels.tiles import (
    FMA_LATENCY,
    FMAS_PER_CYCLE,
    LOADS_PER_CYCLE,
    Tile,
    legal_tiles,
    split_tiles,
)
from aino_ir.codegen.kernels.words import NIBBLES, WordBytes, Words
from aino_ir.kernels import Candidate, KernelSpec, Packing, Reject
from aino_ir.loops.expr import Binary
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

CHECK_CYCLES = 12.0
"""Cycles in which a tile is seen to be finite."""

MOST_VECTORS = 4
"""Vectors of outputs that are multiplied with three bytes at once: twelve sums."""


class DecodingGenerator:
    """Products with constant weights of 4 or 8 bits, decoded once for all rows of a tile.

    Args:
        most: candidates that are offered.
    """

    name = "decoding"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The best register tiles by the model, each with the packings of weights, scales and zero points."""
        parts = parts_of(spec)
        if isinstance(parts, str):
            yield Reject(self.name, parts)
            return
        lanes = vector_lanes(spec, target)
        rows, columns = rows_and_columns(parts.roles)
        tiles = legal_tiles(target, rows, -(-columns // lanes))
        fitting = [t for t in tiles if registers(t) <= target.vector_registers] or tiles[:1]
        found = [_candidate(parts, t, lanes, target) for t in fitting]
        block = block_of(parts, target)
        if block:
            found += [
                _candidate(parts, t, lanes, target, block) for t in fitting if t.vectors <= MOST_VECTORS
            ]
        yield from cheapest(found, self.most)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        parts = parts_of(spec)
        assert isinstance(parts, Parts)
        b, place = begin_kernel(spec, parts.roles.spec, candidate)
        shape, block = tile_shape(candidate), dict(candidate.params)["block"]
        if block:
            FixedPointLoops(b, place, parts, shape, block, target.multiplies_bytes).emit()
        else:
            DecodingLoops(b, place, parts, shape).emit()
        return b.finish(header(spec, candidate))


def registers(tile: Tile) -> int:
    """Vectors that a step holds: sums of the run, masked words, an activation, a weight in the making."""
    return tile.rows * tile.vectors + tile.vectors + 3


def _candidate(parts: Parts, tile: Tile, lanes: int, target: Target, block: int = 0) -> Candidate:
    """One way: as floats, or in integers with blocks of so many steps."""
    roles = parts.roles
    rows, columns = rows_and_columns(roles)
    outer = 1
    for axis in roles.outer:
        outer *= extent_or(axis.extent, SYMBOLIC_EXTENT)
    runs = -(-parts.extent // max(1, block or parts.run))
    cycles = STAGING_CYCLES * parts.extent if block else 0.0
    for tile_rows, row_count in split_tiles(rows, tile.rows):
        for vectors, count in split_tiles(-(-columns // lanes), tile.vectors):
            products = tile_rows * vectors
            if block:
                per_tile = (step_operations(target) * parts.extent + block_operations() * runs) * vectors
                per_tile /= _ports(target)
            else:
                per_tile = step_cycles(tile_rows, vectors, parts, target) * parts.extent
                per_tile += runs * (FMA_LATENCY + products)
            per_tile += 10 + 2.0 * products
            per_tile += CHECK_CYCLES
            cycles += row_count * count * per_tile
    blocking = choose_blocking(roles, tile, lanes, target, element_bytes=0.5 if parts.narrow else 1)
    kind = ("4 bits" if parts.narrow else "8 bits") + (" times three bytes" if block else "")
    return Candidate(
        "decoding",
        f"{kind}, tile {tile.rows}x{tile.vectors * lanes}, chunk {blocking.chunk}",
        (*tile_params(tile, lanes, blocking), ("block", block)),
        _packings(parts, tile.vectors * lanes, block > 0),
        cost=(outer * cycles + blocking.cycles) / CLOCK,
        arrival=blocking.arrival / CLOCK,
    )


def step_cycles(rows: int, vectors: int, parts: Parts, target: Target) -> float:
    """Cycles of one reduction step of a tile: vector operations, loads, or the latency of the sums."""
    products = rows * vectors
    return max(
        products / FMAS_PER_CYCLE,
        (products + vectors * decoding_operations(parts)) / _ports(target),
        (rows + vectors / (NIBBLES if parts.narrow else 1)) / LOADS_PER_CYCLE,
        FMA_LATENCY,
    )


def _ports(target: Target) -> float:
    """Vector operations begun in a cycle."""
    return 2.0 if target.vector_bytes >= 64 else DECODINGS_PER_CYCLE


def decoding_operations(parts: Parts) -> float:
    """Vector operations that make a float of a weight: a byte is moved and converted, a word has masks.

    With a zero point there is a subtraction; the sign of 4 bits takes two operations at the bottom of a word.
    """
    between = sum(1 for n in walk(parts.whole) if isinstance(n, Binary))
    if not parts.narrow:
        return 2.0 + between
    signed = parts.signed and not parts.tops
    return 2.0 + 3.0 / NIBBLES + between + (2.0 if signed else 0.0)


def _packings(parts: Parts, width: int, as_bytes: bool) -> tuple[tuple[int, Packing], ...]:
    """Weights in panels of words, scales and zero points in panels beside them."""
    roles, lane = parts.roles, parts.roles.lane
    use = plain_use(parts.w, roles)
    assert use is not None
    axis = next(a for a, name in use.axes.items() if name == parts.axis.name)
    layout = panel_layout(use, lane.name, width, [parts.axis.name])
    out = {parts.w.operand: Packing(layout, Words(axis) if parts.narrow else None)}
    if as_bytes:
        layout = neighbour_layout(parts.w, parts.axis.name, lane.name, width, QUARTET, [parts.axis.name])
        out = {parts.w.operand: Packing(layout, WordBytes(axis, 8 if parts.signed else 0))}
    for node in parts.parameters():
        along = {a: lane.name for a, c in enumerate(node.index) if c is lane.dim}
        if len(along) == 1 and node.operand not in out:
            use = Use(roles.spec.operands[node.operand], node.operand, along)
            out[node.operand] = Packing(panel_layout(use, lane.name, width, []))
    return tuple(sorted(out.items()))
