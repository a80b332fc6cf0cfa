"""Products with a constant weight that is mostly zero: Linear layers and 1x1 convolutions.

Three ways, all over the streams of `streams.py`.  *rows*: lanes run along the rows of the other operand
(pixels, tokens), one output at a time; a nonzero weight costs one broadcast and a multiply-add per
vector of rows, wherever it stands.  *panels*: lanes run along outputs; whole blocks of weights that are
zero are skipped, so that the pattern has to come in blocks as wide as a vector.  *dots*
(`sparse_dots.py`): nothing runs along lanes; for a few rows, where weights that arrive from memory are what
counts.

What is skipped is a finite number times zero.  Where an operand holds something else, zero times that
is NaN, and the kernel says so: see `sparse_loops.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.access import Placement
from aino_ir.codegen.kernels.canonical import axes_of, drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.contract import CLOCK
from aino_ir.codegen.kernels.emit import emit_checks, vector_lanes
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.codegen.kernels.sparse_dots import DotLoops
from aino_ir.codegen.kernels.sparse_loops import SparseLoops, SparseShape
from aino_ir.codegen.kernels.sparse_panels import PanelLoops
from aino_ir.codegen.kernels.sparse_rows import RowLoops
from aino_ir.codegen.kernels.streams import Stream, StreamPositions, StreamValues
from aino_ir.codegen.kernels.tiles import FMA_LATENCY, FMAS_PER_CYCLE, LOADS_PER_CYCLE
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, is_static
from aino_ir.kernels import Candidate, KernelSpec, Packing, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Binary, Call, Expr, Read
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.sparsity import ZeroPattern
from aino_ir.target import Target
from aino_ir.types import ROW_MAJOR

BEST = 3
"""Candidates that are offered."""

SYMBOLIC_ROWS = 128
"""Rows that costs assume where a run decides them."""

VECTOR_CHOICES = (8, 7, 6, 5, 4, 3, 2)
"""Vectors of rows that one output is computed for at a time."""

TILE_CHOICES = ((1, 1), (2, 1), (4, 1), (6, 1), (8, 1), (10, 1), (12, 1), (4, 2), (6, 2))
"""(rows, vectors of outputs) of a register tile over panels."""

STEP_OVERHEAD = 1.5
"""Cycles of one step of a stream beside its arithmetic: the position, the address, the branch."""

TURN_CYCLES = 0.45
"""Cycles an element for turning a block over in registers, loads and stores included."""

COPY_CYCLES = 0.15
"""Cycles an element for copying it in order."""

STREAM_BYTES = 6.0
"""Bytes of a stream that arrive in a cycle when it does not fit the second cache."""

NEAR_BYTES = 20.0
"""Bytes of a block of rows that arrive in a cycle from the second cache, where the first is too small."""

NONZERO_CYCLES, VECTOR_CYCLES = 1.0, 0.7
"""Of a nonzero with lanes along rows, and of each of its vectors: a multiply-add that loads."""

NEAR_SHARE = 1.5
"""Of the first cache, what a chunk of inputs takes; half as many chunks save more than misses cost."""

SPAN_CYCLES = 8.0
"""Cycles of the nonzeros of an output beside themselves: the end of a loop of unforeseen length."""

MARGIN = 1.2
"""By how much streams must beat dense loops in the model, whose costs of dense loops are surer."""

UNITS_WANTED = 8
"""Parallel parts that a kernel should have, where splitting costs little."""


DOT_ROWS = 4
"""Most rows that dot products are offered for."""

DOT_CYCLES = 1.4
"""Cycles of one nonzero of a dot product of one row: its place, the weight and the input are loaded."""

DOT_OUTPUT = 24.0
"""Cycles of an output of dot products beside its nonzeros: the end of a loop of unforeseen length."""

DOT_BYTES = 8.0
"""Bytes of a stream that arrive in a cycle while dot products are made of it."""

LOOPS: dict[object, type[SparseLoops]] = {"rows": RowLoops, "outputs": PanelLoops, "none": DotLoops}
"""What lanes run along -> the loops."""


@dataclass(frozen=True)
class SparseRoles:
    """A product with a sparse weight, taken apart.

    Attributes:
        spec: canonical (unit axes dropped, contiguous neighbours merged).
        weight: its operand number; zeros: its pattern; axes: of outputs and inputs in it.
        x: the other factor.
        output, inner: axes of outputs and inputs.
        row: the axis of x that rows run along, or None when there is one row.
        outer: the other axes.
    """

    spec: KernelSpec
    weight: int
    zeros: ZeroPattern
    axes: tuple[int, int]
    x: Expr
    output: Axis
    inner: Axis
    row: Axis | None
    outer: tuple[Axis, ...]

    def x_slope(self, axis: Axis) -> object:
        """Elements from one point of x to the next along an axis; None where that is not constant."""
        if not isinstance(self.x, Read) or any(isinstance(c, Expr) for c in self.x.index):
            return None
        return slope(self.spec.operands[self.x.operand].addr(self.x.index), axis.name)  # type: ignore[arg-type]

    @property
    def rows_contiguous(self) -> bool:
        """Whether x itself has rows in order, so that vectors of rows are plain loads."""
        return self.row is not None and self.x_slope(self.row) == 1


def analyse(spec: KernelSpec) -> SparseRoles | str:
    """The roles of a spec, or why it is no product with a sparse weight."""
    if not any(o.zeros is not None for o in spec.operands):
        return "no constant operand is mostly zero"
    program = spec.program
    if not isinstance(program, Compute) or program.combiner != "add" or program.where is not None:
        return "not a sum"
    if not isinstance(program.body, Binary) or program.body.op != "mul" or len(spec.results) != 1:
        return "not a sum of products"
    if not program.body.dtype.is_float:
        return "not a sum of floats"
    spec = merge_axes(drop_unit_axes(spec))
    program = spec.program
    assert isinstance(program, Compute) and isinstance(program.body, Binary)
    if len(program.reduce) != 1:
        return f"a sum over {len(program.reduce)} axes"
    factors = (program.body.a, program.body.b)
    found = [i for i, f in enumerate(factors) if _is_weight(spec, f)]
    if len(found) != 1:
        return "no factor is just the sparse constant"
    weight, x = factors[found[0]], factors[1 - found[0]]
    assert isinstance(weight, Read)
    return _placed(spec, program, weight, x)


def _is_weight(spec: KernelSpec, factor: Expr) -> bool:
    return isinstance(factor, Read) and spec.operands[factor.operand].zeros is not None


def _placed(spec: KernelSpec, program: Compute, weight: Read, x: Expr) -> SparseRoles | str:
    (inner,) = program.reduce
    names = {n: a for a, c in enumerate(weight.index) if (n := _axis(c)) is not None}
    plain = all(_axis(c) is not None or c == 0 for c in weight.index if not isinstance(c, Expr))
    outputs = [a for a in program.axes if a.name in names]
    if not plain or len(outputs) != 1 or set(names) != {outputs[0].name, inner.name}:
        return "the weight is no plain matrix here"
    (output,) = outputs
    operand = spec.operands[weight.operand]
    assert operand.zeros is not None
    axes = (names[output.name], names[inner.name])
    if output.extent != operand.shape[axes[0]] or inner.extent != operand.shape[axes[1]]:
        return "it takes a part of the weight"
    if output.name in axes_of(x):
        return "the other factor varies with the outputs"
    if any(isinstance(node, Call) for node in walk(x)):
        return "its operand needs a math function at every use"
    rest = [a for a in program.axes if a is not output]
    row = max(reversed(rest), key=lambda a: extent_or(a.extent, SYMBOLIC_ROWS)) if rest else None
    outer = tuple(a for a in rest if a is not row)
    return SparseRoles(spec, weight.operand, operand.zeros, axes, x, output, inner, row, outer)


def _axis(c: object) -> str | None:
    return c.as_symbol() if isinstance(c, Dim) else None


class SparseGenerator:
    """Sums of products with a compressed weight.

    Args:
        most: candidates that are offered.
    """

    name = "sparse"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """Both ways, the best by the model first; whether they beat dense loops their costs tell."""
        roles = analyse(spec)
        if isinstance(roles, str):
            yield Reject(self.name, roles)
            return
        lanes = vector_lanes(spec, target)
        found = [
            *_row_candidates(roles, lanes, target),
            *_panel_candidates(roles, lanes, target),
            *_dot_candidates(roles, lanes, target),
        ]
        yield from sorted(found, key=lambda c: c.cost)[: self.most]

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        roles = analyse(spec)
        assert isinstance(roles, SparseRoles)
        params = dict(candidate.params)
        ((_, values),) = candidate.packings
        ((_, positions),) = candidate.companions
        assert isinstance(values.transform, StreamValues)
        stream = values.transform.stream
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
        loops = LOOPS[params["lanes_along"]]
        loops(b, place, roles, shape, name).emit()
        return b.finish(header(spec, candidate))


def _candidate(
    roles: SparseRoles, stream: Stream, name: str, cycles: float, params: dict[str, object]
) -> Candidate:
    return Candidate(
        "sparse",
        name,
        tuple(params.items()),
        ((roles.weight, Packing(ROW_MAJOR, StreamValues(stream))),),
        ((roles.weight, Packing(ROW_MAJOR, StreamPositions(stream))),),
        cost=MARGIN * cycles / CLOCK,
    )


def _rows(roles: SparseRoles) -> tuple[int, int]:
    """(rows, how many times over)."""
    outer = 1
    for a in roles.outer:
        outer *= extent_or(a.extent, SYMBOLIC_ROWS)
    return extent_or(roles.row.extent, SYMBOLIC_ROWS) if roles.row is not None else 1, outer


def _arrival(stream: Stream, element: int, target: Target) -> float:
    """Cycles for reading a stream once, beyond what the second cache gives on the way."""
    size = stream.count * (stream.width * element + 4)
    return size / STREAM_BYTES if size > target.l2_bytes // 2 else 0.0


def _parts(units: int, most: int) -> int:
    """Into how many parts the outputs are cut, so that there are enough units."""
    return max(1, min(most, -(-UNITS_WANTED // max(1, units))))


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
    element = roles.spec.operands[roles.weight].dtype.compute.bytes
    blocks = -(-rows // width)
    direct = roles.rows_contiguous and is_static(roles.row.extent) and rows % width == 0
    parts = _parts(blocks * outer, max(1, stream.outputs // (16 * lanes)))
    stage = 0.0 if direct else COPY_CYCLES if roles.rows_contiguous else TURN_CYCLES
    check = vectors / (LOADS_PER_CYCLE if direct else FMAS_PER_CYCLE)
    held = (stream.chunk or stream.inputs) * width * element
    missed = max(0.0, 1.0 - 0.75 * target.l1_bytes / max(1, held))
    step = max(NONZERO_CYCLES + VECTOR_CYCLES * vectors, missed * width * element / NEAR_BYTES)
    far = 2.0 if held > target.l2_bytes // 2 else 1.0
    result = roles.spec.results[0]
    in_order = slope(result.addr(result.index), roles.row.name) == 1
    write = stream.outputs * (3 * vectors + (0.0 if in_order else TURN_CYCLES * width))
    write += stream.chunks * stream.outputs * SPAN_CYCLES
    if stream.chunks > 1:
        write += (stream.chunks + 1) * stream.outputs * 2 * vectors
    cycles = parts * stream.inputs * (stage * width + check) + _arrival(stream, element, target)
    cycles += stream.count * step * far + write
    name = f"nonzeros {stream.count}, {vectors}x{lanes} rows"
    name += f", {stream.chunks} chunks" if stream.chunks > 1 else ""
    params: dict[str, object] = {
        "lanes_along": "rows",
        "lanes": lanes,
        "rows": 1,
        "vectors": vectors,
        "parts": parts,
    }
    return _candidate(roles, stream, name + (", in place" if direct else ""), outer * blocks * cycles, params)


def _panel_candidates(roles: SparseRoles, lanes: int, target: Target) -> Iterator[Candidate]:
    """Lanes along outputs: costs blocks that are not all zero."""
    rows, outer = _rows(roles)
    for height, vectors in TILE_CHOICES:
        if height > rows or height * vectors + vectors + 1 > target.vector_registers:
            continue
        stream = Stream(roles.zeros, roles.axes, vectors * lanes)
        element = roles.spec.operands[roles.weight].dtype.bytes
        parts = _parts(outer * -(-rows // (height * PanelLoops.TILES)), stream.panels)
        fmas = height * vectors
        arithmetic = max(fmas / FMAS_PER_CYCLE, (height + vectors) / LOADS_PER_CYCLE, FMA_LATENCY)
        tile = stream.count * (arithmetic + STEP_OVERHEAD) + stream.panels * (10 + 2.0 * fmas)
        tile += _arrival(stream, element, target)
        check = parts * rows * stream.inputs / lanes / LOADS_PER_CYCLE
        name = f"blocks {stream.count} of {vectors * lanes}, tile {height}x{vectors * lanes}"
        params: dict[str, object] = {
            "lanes_along": "outputs",
            "lanes": lanes,
            "rows": height,
            "vectors": vectors,
            "parts": parts,
        }
        yield _candidate(roles, stream, name, outer * (-(-rows // height) * tile + check), params)


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
        "parts": _parts(outer, stream.outputs),
    }
    yield _candidate(roles, stream, f"nonzeros {stream.count}, {rows} rows at once", outer * cycles, params)
