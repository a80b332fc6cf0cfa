"""Contractions: GEMM, convolution, depthwise, einsum, from one generator.

The result is computed in register tiles of rows x vectors; for each reduction step both factors
are read through the Placement at every point of the tile, and the builder's hash-consing turns
equal reads into one load.  So the same code serves broadcast rows against packed weights (GEMM,
NHWC convolution), broadcast weights against rows of pixels (NCHW), and vectors against vectors
(depthwise).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import prod

from aino_ir.codegen.kernels.blocking import SYMBOLIC_EXTENT, Blocking, choose_blocking
from aino_ir.codegen.kernels.canonical import axes_of, slope
from aino_ir.codegen.kernels.contract_loops import UNROLL_STEPS, ContractLoops
from aino_ir.codegen.kernels.emit import vector_lanes
from aino_ir.codegen.kernels.naming import header
from aino_ir.codegen.kernels.nibbles import Nibbles
from aino_ir.codegen.kernels.roles import (
    Guard,
    Roles,
    analyse,
    constant_reads,
    extent_or,
    strided_operand,
)
from aino_ir.codegen.kernels.staging import fits, staging_cycles
from aino_ir.codegen.kernels.tiled import BEST, begin_kernel, cheapest, tile_params, tile_shape
from aino_ir.codegen.kernels.tiles import Tile, legal_tiles, tile_cycles
from aino_ir.dims import Dim, is_static
from aino_ir.kernels import Candidate, KernelSpec, Operand, Packing, Reject
from aino_ir.loops.expr import Binary, Cast, Expr, Read, Unary
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target
from aino_ir.types import Layout

CLOCK = 3.5e9
"""Cycles a second that modelled costs assume; only ratios matter."""

INTEGER_STEPS = 2.5
"""How much longer a step of integers takes: they are converted when loaded, and multiply and add apart."""

STRIDED_LOADS = 6.0
"""How much longer a step takes when vectors are gathered lane by lane."""

DECODINGS_PER_CYCLE = 3.0
"""Vector operations that decode weights in a cycle, beside loads."""

FAR_BYTES = 1024
"""Steps of a reduction that are so far apart in memory want a translation and a set of the cache each."""

FAR_STEPS = 1.2
"""How much longer a step takes then."""

CODE_BUDGET = 3000
"""Statements that a kernel may have: more costs seconds of C compiler and the instruction cache."""

GUARDED_COST = 3
"""Statements of a masked load, in units of a plain one."""


class ContractGenerator:
    """Sums of products, tiled for registers and caches.

    Args:
        most: candidates that are offered.
    """

    name = "contract"

    def __init__(self, most: int = BEST) -> None:
        self.most = most

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """The best register tiles by the model, each with the packings it wants."""
        ways = [analyse(spec), analyse(spec, stage=True)]
        if all(isinstance(roles, str) for roles in ways):
            yield Reject(self.name, str(ways[0]))
            return
        lanes = vector_lanes(spec, target)
        found = [c for roles in ways if isinstance(roles, Roles) for c in _candidates(roles, lanes, target)]
        yield from cheapest(found, self.most)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops of a candidate."""
        params = dict(candidate.params)
        roles = analyse(spec, stage=bool(params.get("staged")))
        assert isinstance(roles, Roles)
        halved = {i: p.transform.axis for i, p in candidate.packings if isinstance(p.transform, Nibbles)}
        b, place = begin_kernel(spec, roles.spec, candidate, halved)
        ContractLoops(b, place, roles, tile_shape(candidate, params["depth"])).emit()
        return b.finish(header(spec, candidate))


def _candidates(roles: Roles, lanes: int, target: Target) -> list[Candidate]:
    """A candidate for every legal tile that is not too much code, and whose staged panel is not too large."""
    tiles = sorted(_tiles(roles, lanes, target), key=lambda t: code_size(roles, t))
    small = [t for t in tiles if code_size(roles, t) <= CODE_BUDGET] or tiles[:1]
    found = [_candidate(roles, t, lanes, target) for t in small]
    return [c for c in found if c is not None]


def code_size(roles: Roles, tile: Tile) -> int:
    """About how many statements the kernel has: unrolled steps, once per kind of row tile."""
    steps = 1
    for axis in roles.unrolled:
        steps *= extent_or(axis.extent, 4)
    for axis in roles.loops:
        extent = extent_or(axis.extent, SYMBOLIC_EXTENT)
        steps *= extent if extent <= UNROLL_STEPS else 1
    rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
    kinds = 1 + int(rows % tile.rows != 0)
    if roles.row_guards:
        border = sum(extent_or(a.extent, 4) for a in roles.unrolled)
        kinds = min(-(-rows // tile.rows), 2 + -(-border // tile.rows))
    guarded = GUARDED_COST if any(_lane_guarded(roles, roles.guards[a.name]) for a in roles.unrolled) else 1
    return kinds * steps * (tile.rows * tile.vectors * 2 * guarded + tile.rows + tile.vectors)


def _lane_guarded(roles: Roles, guard: Guard) -> bool:
    """Whether the guarded coordinate moves with the lanes: each load is masked then."""
    return isinstance(guard.coordinate, Dim) and roles.lane.name in guard.coordinate.free_symbols()


def _tiles(roles: Roles, lanes: int, target: Target) -> list[Tile]:
    rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
    columns = extent_or(roles.lane.extent, SYMBOLIC_EXTENT)
    return legal_tiles(target, rows, -(-columns // lanes), _row_vector(roles))


def _row_vector(roles: Roles) -> bool:
    """Whether a factor moves with rows and lanes both: it is read as vectors for every row."""
    row = roles.row.name if roles.row is not None else ""
    return any({row, roles.lane.name} <= names for names in roles.factor_axes)


def _candidate(roles: Roles, tile: Tile, lanes: int, target: Target) -> Candidate | None:
    rows = extent_or(roles.row.extent, SYMBOLIC_EXTENT) if roles.row is not None else 1
    columns = extent_or(roles.lane.extent, SYMBOLIC_EXTENT)
    steps, outer = 1, 1
    for axis in roles.reduction:
        steps *= extent_or(axis.extent, SYMBOLIC_EXTENT)
    for axis in roles.outer:
        outer *= extent_or(axis.extent, SYMBOLIC_EXTENT)
    row_name = roles.row.name if roles.row is not None else ""
    lane_in = [roles.lane.name in names for names in roles.factor_axes]
    row_in = [row_name in names for names in roles.factor_axes]
    lane_shared = any(a and not b for a, b in zip(lane_in, row_in, strict=True))
    cycles = tile_cycles(tile, rows, -(-columns // lanes), steps, _row_vector(roles), lane_shared)
    if not roles.factors[0].dtype.is_float:
        cycles *= INTEGER_STEPS
    loaded = [f for i, f in enumerate(roles.factors) if i != roles.staged]
    if any(strided_operand(roles.spec, f, roles.lane.name) for f in loaded):
        cycles *= STRIDED_LOADS
    elif any(_far_apart(roles, f) for f in loaded):
        cycles *= FAR_STEPS
    decoding = decoding_operations(roles.spec, roles.factors[roles.lane_factor()])
    if decoding:
        loads = -(-columns // lanes) * (-(-rows // tile.rows) if lane_shared else rows)
        cycles += loads * steps * decoding / DECODINGS_PER_CYCLE
    blocking = choose_blocking(roles, tile, lanes, target, _element_bytes(roles))
    packings = panel_packings(roles, tile.rows, tile.vectors * lanes)
    params = [*tile_params(tile, lanes, blocking), ("depth", blocking.depth)]
    moved = blocking.cycles
    if roles.staged is not None:
        if not fits(roles, tile, lanes, blocking, target):
            return None
        params.append(("staged", 1))
        moved += staging_cycles(roles, tile, lanes, blocking)
    name = _name(tile, lanes, blocking) + (", staged" if roles.staged is not None else "")
    cost = (outer * cycles + moved) / CLOCK
    arrival = blocking.arrival / CLOCK
    return Candidate("contract", name, tuple(params), packings, cost=cost, arrival=arrival)


def _far_apart(roles: Roles, factor: Expr) -> bool:
    """Whether what a factor gives from step to step lies far apart: run-time data that nobody packed."""
    if not isinstance(factor, Read) or roles.lane.name not in axes_of(factor) or not roles.loops:
        return False
    operand = roles.spec.operands[factor.operand]
    if operand.constant or any(isinstance(c, Expr) for c in factor.index):
        return False
    step = slope(operand.addr(factor.index), roles.loops[-1].name)  # type: ignore[arg-type]
    return isinstance(step, int) and step * operand.dtype.bytes >= FAR_BYTES


def _name(tile: Tile, lanes: int, blocking: Blocking) -> str:
    cut = f" x {blocking.group} panels, depth {blocking.depth}" if blocking.depth else ""
    return f"tile {tile.rows}x{tile.vectors * lanes}, chunk {blocking.chunk}{cut}"


@dataclass(frozen=True)
class Use:
    """A constant operand read at plain coordinates: tensor axis -> iteration axis name."""

    operand: Operand
    number: int
    axes: dict[int, str]


def panel_packings(roles: Roles, rows: int, width: int) -> tuple[tuple[int, Packing], ...]:
    """Layouts for constant operands: tiled along lanes (or rows), reduction in loop order."""
    out: list[tuple[int, Packing]] = []
    order = [a.name for a in roles.reduction]
    for node in (n for f in roles.factors for n in constant_reads(roles.spec, f)):
        use = plain_use(node, roles)
        if use is None or use.number in dict(out):
            continue
        names = set(use.axes.values())
        row = roles.row.name if roles.row is not None else ""
        if roles.lane.name in names:
            layout = panel_layout(use, roles.lane.name, width, order)
        elif row in names:
            layout = panel_layout(use, row, rows, order)
        else:
            continue
        out.append((use.number, Packing(layout, _transform(use, order))))
    return tuple(out)


def _transform(use: Use, order: list[str]) -> Nibbles | None:
    """Elements of 4 bits share bytes along the innermost reduction, which takes two steps at a time."""
    if use.operand.dtype.bits != 4 or not order:
        return None
    axis = next((a for a, n in use.axes.items() if n == order[-1]), None)
    return None if axis is None else Nibbles(axis)


def decoding_operations(spec: KernelSpec, factor: Expr) -> int:
    """Vector operations between a load of a factor and its use.

    A constant float of few bits needs two, and four cut a nibble with a sign out of its byte.
    """
    few = [spec.operands[n.operand].dtype for n in constant_reads(spec, factor)]
    widened = sum(2 for dtype in few if dtype.is_float and dtype.is_storage)
    cut = sum(4 for dtype in few if dtype.is_integer and dtype.bits == 4)
    return widened + cut + sum(1 for n in walk(factor) if isinstance(n, (Binary, Cast, Unary)))


def _element_bytes(roles: Roles) -> int:
    """Bytes of an element of the lane factor's largest constant, at least 1."""
    reads = constant_reads(roles.spec, roles.factors[roles.lane_factor()])
    operands = [roles.spec.operands[n.operand] for n in reads]
    return max(operands, key=lambda o: prod(o.shape)).dtype.bytes if operands else 4


def plain_use(factor: Read, roles: Roles) -> Use | None:
    """Which axes a read's coordinates follow; None where one is more than an axis or a number."""
    operand = roles.spec.operands[factor.operand]
    axes: dict[int, str] = {}
    for axis, c in enumerate(factor.index):
        if is_static(c):  # type: ignore[arg-type]
            continue
        name = getattr(c, "as_symbol", lambda: None)()
        if name is None:
            return None
        axes[axis] = name
    return Use(operand, factor.operand, axes)


def panel_layout(use: Use, tiled: str, width: int, order: list[str]) -> Layout:
    """[tile][other spatial][reduction in loop order][inside tile]."""
    tiled_axis = next(a for a, n in use.axes.items() if n == tiled)
    others = [a for a in range(len(use.operand.shape)) if a != tiled_axis]

    def rank(axis: int) -> tuple[int, int]:
        name = use.axes.get(axis)
        return (order.index(name) + 1, axis) if name in order else (0, axis)

    parts = [(tiled_axis, "o"), *((a, None) for a in sorted(others, key=rank)), (tiled_axis, "i")]
    return Layout(tuple(parts), ((tiled_axis, width),))
