"""Products with a constant weight that is mostly zero: Linear layers and convolutions.

Four ways, all over the streams of `streams.py`.  *rows*: lanes run along the rows of the other operand
(pixels, tokens), one output at a time; a nonzero weight costs one broadcast and a multiply-add per
vector of rows, wherever it stands.  *panels*: lanes run along outputs; whole blocks of weights that are
zero are skipped, so that the pattern has to come in blocks as wide as a vector.  *dots*
(`sparse_dots.py`): nothing runs along lanes; for a few rows, where weights that arrive from memory are what
counts.

*pixels* (`sparse_windows.py`): convolutions whose kernels have several taps; lanes run along pixels, and an
input is one tap of one channel.

What is skipped is a finite number times zero.  Where an operand holds something else, zero times that
is NaN, and the kernel says so: see `sparse_loops.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.emit import emit_checks, vector_lanes
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.codegen.kernels.sparse_costs import (
    COPY_CYCLES,
    NEAR_SHARE,
    TURN_CYCLES,
    arrival,
    candidate,
    lane_cycles,
    parts_for,
)
from aino_ir.codegen.kernels.sparse_dots import DotLoops
from aino_ir.codegen.kernels.sparse_loops import MatrixLoops, SparseShape
from aino_ir.codegen.kernels.sparse_panels import PanelLoops
from aino_ir.codegen.kernels.sparse_roles import SYMBOLIC_ROWS, SparseRoles, analyse
from aino_ir.codegen.kernels.sparse_rows import RowLoops
from aino_ir.codegen.kernels.sparse_window_loops import WindowLoops
from aino_ir.codegen.kernels.sparse_windows import Picture, WindowRoles, analyse_windows, window_candidates
from aino_ir.codegen.kernels.streams import Stream, StreamPositions, StreamValues
from aino_ir.codegen.kernels.tiled import cheapest
from aino_ir.codegen.kernels.tiles import FMA_LATENCY, FMAS_PER_CYCLE, LOADS_PER_CYCLE
from aino_ir.dims import is_static
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.target import Target

BEST = 3
"""Candidates that are offered."""

VECTOR_CHOICES = (8, 7, 6, 5, 4, 3, 2)
"""Vectors of rows that one output is computed for at a time."""

TILE_CHOICES = ((1, 1), (2, 1), (4, 1), (6, 1), (8, 1), (10, 1), (12, 1), (4, 2), (6, 2))
"""(rows, vectors of outputs) of a register tile over panels."""

STEP_OVERHEAD = 1.5
"""Cycles of one step of a stream beside its arithmetic: the position, the address, the branch."""

DOT_ROWS = 4
"""Most rows that dot products are offered for."""

DOT_CYCLES = 1.4
"""Cycles of one nonzero of a dot product of one row: its place, the weight and the input are loaded."""

DOT_OUTPUT = 24.0
"""Cycles of an output of dot products beside its nonzeros: the end of a loop of unforeseen length."""

DOT_BYTES = 8.0
"""Bytes of a stream that arrive in a cycle while dot products are made of it."""

MATRIX_LOOPS: dict[object, type[MatrixLoops]] = {"rows": RowLoops, "outputs": PanelLoops, "none": DotLoops}
"""What lanes run along -> the loops of a product of matrices."""


class SparseGenerator:
    """Sums of products with a compressed weight.

    Args:
        most: candidates that are offered.
    """

    name = "sparse"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """All ways, the best by the model first; whether they beat dense loops their costs tell."""
        roles, windows = analyse(spec), analyse_windows(spec)
        lanes = vector_lanes(spec, target)
        found: list[Candidate] = []
        if not isinstance(roles, str):
            found += _row_candidates(roles, lanes, target)
            found += _panel_candidates(roles, lanes, target)
            found += _dot_candidates(roles, lanes, target)
        if not isinstance(windows, str):
            found += window_candidates(windows, lanes, target)
        if isinstance(roles, str) and isinstance(windows, str):
            yield Reject(self.name, windows)
            return
        if not found:
            yield Reject(self.name, "nothing fills vectors")
        yield from cheapest(found, self.most)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        params = dict(candidate.params)
        of_pixels = params["lanes_along"] == "pixels"
        roles = analyse_windows(spec) if of_pixels else analyse(spec)
        assert not isinstance(roles, str)
        ((_, values),) = candidate.packings
        ((_, positions),) = candidate.companions
        assert isinstance(values.transform, StreamValues) and isinstance(positions.transform, StreamPositions)
        stream, picture = values.transform.stream, positions.transform.places
        stored = replace(
            spec.operands[roles.weight],
            shape=values.stored_shape(stream.zeros.shape),
            layout=values.layout,
            allocated=None,
        )
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, roles.spec, {roles.weight: stored})
        (size,) = positions.stored_shape(stream.zeros.shape)
        name = b.param(
            place.free_name("weight_positions"), positions.stored_dtype(stored.dtype), size, Access.READ
        )
        emit_checks(place)
        shape = SparseShape(stream, params["lanes"], params["rows"], params["vectors"], params["parts"])
        if isinstance(roles, WindowRoles):
            assert isinstance(picture, Picture)
            WindowLoops(b, place, roles, shape, name, picture).emit()
        else:
            MATRIX_LOOPS[params["lanes_along"]](b, place, roles, shape, name).emit()
        return b.finish(header(spec, candidate))


def _rows(roles: SparseRoles) -> tuple[int, int]:
    """(rows, how many times over)."""
    return extent_or(roles.row.extent, SYMBOLIC_ROWS) if roles.row is not None else 1, roles.times


def _row_candidates(roles: SparseRoles, lanes: int, target: Target) -> Iterator[Candidate]:
    """Lanes along rows: costs nonzeros, whatever their pattern, and turning over what is not in order."""
    rows, _ = _rows(roles)
    if roles.row is None or rows < lanes:
        return
    whole = Stream(roles.zeros, roles.axes, 1)
    element = roles.spec.operands[roles.weight].dtype.compute.bytes
    for vectors in VECTOR_CHOICES:
        width = vectors * lanes
        if width >= rows + lanes and vectors > 2:
            continue
        yield _row_candidate(roles, whole, lanes, vectors, target)
        near = int(NEAR_SHARE * target.l1_bytes) // (width * element)
        chunks = -(-whole.inputs // max(1, near))
        if chunks > 1:
            size = math.ceil(whole.inputs / chunks / lanes) * lanes
            yield _row_candidate(roles, replace(whole, chunk=size), lanes, vectors, target)


def _row_candidate(roles: SparseRoles, stream: Stream, lanes: int, vectors: int, target: Target) -> Candidate:
    assert roles.row is not None
    (rows, outer), width = _rows(roles), vectors * lanes
    blocks = -(-rows // width)
    direct = roles.rows_contiguous and is_static(roles.row.extent) and rows % width == 0
    parts = parts_for(blocks * outer, max(1, stream.outputs // (16 * lanes)))
    stage = 0.0 if direct else COPY_CYCLES if roles.rows_contiguous else TURN_CYCLES
    check = vectors / (LOADS_PER_CYCLE if direct else FMAS_PER_CYCLE)
    in_order = roles.result_slope(roles.row) == 1
    cycles = parts * stream.inputs * (stage * width + check)
    cycles += lane_cycles(
        roles, stream, vectors, (stream.chunk or stream.inputs) * width * roles.element, target
    )
    cycles += stream.outputs * (3 * vectors + (0.0 if in_order else TURN_CYCLES * width))
    name = f"nonzeros {stream.count}, {vectors}x{lanes} rows"
    name += f", {stream.chunks} chunks" if stream.chunks > 1 else ""
    params: dict[str, object] = {
        "lanes_along": "rows",
        "lanes": lanes,
        "rows": 1,
        "vectors": vectors,
        "parts": parts,
    }
    return candidate(roles, stream, name + (", in place" if direct else ""), outer * blocks * cycles, params)


def _panel_candidates(roles: SparseRoles, lanes: int, target: Target) -> Iterator[Candidate]:
    """Lanes along outputs: costs blocks that are not all zero."""
    rows, outer = _rows(roles)
    for height, vectors in TILE_CHOICES:
        if height > rows or height * vectors + vectors + 1 > target.vector_registers:
            continue
        stream = Stream(roles.zeros, roles.axes, vectors * lanes)
        element = roles.spec.operands[roles.weight].dtype.bytes
        parts = parts_for(outer * -(-rows // (height * PanelLoops.TILES)), stream.panels)
        fmas = height * vectors
        arithmetic = max(fmas / FMAS_PER_CYCLE, (height + vectors) / LOADS_PER_CYCLE, FMA_LATENCY)
        tile = stream.count * (arithmetic + STEP_OVERHEAD) + stream.panels * (10 + 2.0 * fmas)
        tile += arrival(stream, element, target)
        check = parts * rows * stream.inputs / lanes / LOADS_PER_CYCLE
        name = f"blocks {stream.count} of {vectors * lanes}, tile {height}x{vectors * lanes}"
        params: dict[str, object] = {
            "lanes_along": "outputs",
            "lanes": lanes,
            "rows": height,
            "vectors": vectors,
            "parts": parts,
        }
        yield candidate(roles, stream, name, outer * (-(-rows // height) * tile + check), params)


def _dot_candidates(roles: SparseRoles, lanes: int, target: Target) -> Iterator[Candidate]:
    """No lanes: costs nonzeros, and the memory that they take."""
    rows, outer = _rows(roles)
    if rows > DOT_ROWS:
        return
    stream = Stream(roles.zeros, roles.axes, 1)
    element = roles.spec.operands[roles.weight].dtype.bytes
    size = stream.count * (element + 4)
    arriving = size / DOT_BYTES if size > target.l2_bytes // 2 else 0.0
    cycles = max(stream.count * (DOT_CYCLES + (rows - 1)), arriving) + stream.outputs * DOT_OUTPUT
    params: dict[str, object] = {
        "lanes_along": "none",
        "lanes": lanes,
        "rows": rows,
        "vectors": 1,
        "parts": parts_for(outer, stream.outputs),
    }
    yield candidate(roles, stream, f"nonzeros {stream.count}, {rows} rows at once", outer * cycles, params)
