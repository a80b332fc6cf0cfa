"""Which part each axis of a contraction plays: lanes, rows, outer axes, reduction loops."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from aino_ir.codegen.kernels.canonical import axes_of, drop_unit_axes, merge_axes, slope
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, ceildiv, dmax, dmin, free_symbols, is_static
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Binary, Const, Expr, Read
from aino_ir.loops.expr_tree import walk


@dataclass(frozen=True)
class Guard:
    """A padded coordinate: c = (spatial part) + slope * tap must lie within 0..extent-1."""

    coordinate: DimLike
    extent: DimLike
    tap: str
    slope: int

    def bounds(self, at: dict[str, DimLike], taps: DimLike) -> tuple[DimLike, DimLike]:
        """(first, end) of the tap for which the coordinate is inside, at given spatial coordinates."""
        start = (
            self.coordinate.substitute({**at, self.tap: 0})
            if isinstance(self.coordinate, Dim)
            else self.coordinate
        )
        first = dmax(0, ceildiv(-start, self.slope))
        return first, dmin(taps, (self.extent - 1 - start) // self.slope + 1)


@dataclass(frozen=True)
class Roles:
    """A contraction, taken apart.

    Attributes:
        spec: canonical (unit axes dropped, contiguous neighbours merged).
        factors: what is multiplied.
        lane: spatial axis that vector lanes run along.
        row: spatial axis that the rows of a register tile run along, or None.
        outer: the other spatial axes, in order.
        clamped: reduction axes with a guard against an outer axis: loops with computed bounds.
        unrolled: reduction axes guarded against the row axis: unrolled, taps vanish by proof.
        loops: the other reduction axes, the innermost last.
        guards: by tap axis.
        staged: which factor each unit first copies into panels of its own, or None.
    """

    spec: KernelSpec
    factors: tuple[Expr, Expr]
    lane: Axis
    row: Axis | None
    outer: tuple[Axis, ...]
    clamped: tuple[Axis, ...]
    unrolled: tuple[Axis, ...]
    loops: tuple[Axis, ...]
    guards: dict[str, Guard]
    staged: int | None = None

    @cached_property
    def factor_axes(self) -> tuple[frozenset[str], ...]:
        """Names of the axes that each factor moves with: asked for every tile that is priced."""
        return tuple(frozenset(axes_of(f)) for f in self.factors)

    @property
    def reduction(self) -> tuple[Axis, ...]:
        """All reduction axes, from the outermost loop to the innermost."""
        return (*self.clamped, *self.unrolled, *self.loops)

    @property
    def row_guards(self) -> list[Guard]:
        """Guards that bind the row axis."""
        row = self.row.name if self.row is not None else ""
        return [g for a in self.unrolled if row in free_symbols((g := self.guards[a.name]).coordinate)]

    def lane_factor(self) -> int:
        """The factor that varies with the lanes but not with the rows, else any that varies with lanes."""
        varying = [i for i, names in enumerate(self.factor_axes) if self.lane.name in names]
        free = [i for i in varying if self.row is None or self.row.name not in self.factor_axes[i]]
        return (free or varying)[0]


MOST_TAPS = 16
"""Steps of a padded window that are unrolled at most."""


def analyse(spec: KernelSpec, stage: bool = False) -> Roles | str:
    """The roles of a spec's axes, or why it is no contraction that can be tiled.

    Args:
        spec: what is computed.
        stage: one factor is copied into panels first, so that its place in memory does not matter.
    """
    program = spec.program
    if not isinstance(program, Compute) or not program.reduce or program.combiner != "add":
        return "not a sum"
    if not isinstance(program.body, Binary) or program.body.op != "mul" or program.where is not None:
        return "not a sum of products"
    if len(spec.results) != 1 or program.body.dtype.is_bool:
        return "several results"
    spec = merge_axes(drop_unit_axes(spec))
    program = spec.program
    assert isinstance(program, Compute) and isinstance(program.body, Binary)
    factors = (program.body.a, program.body.b)
    if not program.axes:
        return "a single result element"
    guards = _guards(spec, program, factors)
    if isinstance(guards, str):
        return guards
    lane: Axis | None
    row: Axis | None
    staged: int | None = None
    if stage:
        found = staged_axes(spec, program, factors)
        if found is None:
            return "no factor that rows share can be copied into panels"
        lane, row, staged = found
    else:
        lane = _lane_axis(spec, program, factors)
        if lane is None:
            return "no result axis varies in a factor"
        row = _row_axis(spec, program, factors, lane)
    sorted_axes = _reduced_axes(program, guards, {lane.name} | ({row.name} if row is not None else set()))
    if isinstance(sorted_axes, str):
        return sorted_axes
    clamped, unrolled, loops = sorted_axes
    outer = tuple(a for a in program.axes if a is not lane and a is not row)
    return Roles(
        spec,
        factors,
        lane,
        row,
        outer,
        tuple(clamped),
        tuple(unrolled),
        _loop_order(spec, factors, loops),
        guards,
        staged,
    )


def _reduced_axes(
    program: Compute, guards: Mapping[str, Guard], tiled: set[str]
) -> tuple[list[Axis], list[Axis], list[Axis]] | str:
    """The reduced axes that are clamped, unrolled and looped over, or why there is no such kernel."""
    clamped: list[Axis] = []
    unrolled: list[Axis] = []
    loops: list[Axis] = []
    for axis in program.reduce:
        guard = guards.get(axis.name)
        if guard is None:
            loops.append(axis)
        elif isinstance(guard.coordinate, Dim) and guard.coordinate.free_symbols() & tiled:
            if not is_static(axis.extent) or int(axis.extent) > MOST_TAPS:  # type: ignore[arg-type]
                return f"a padded kernel of {axis.extent} taps"
            unrolled.append(axis)
        else:
            clamped.append(axis)
    return clamped, unrolled, loops


def _lane_axis(spec: KernelSpec, program: Compute, factors: tuple[Expr, Expr]) -> Axis | None:
    """The spatial axis with the fewest strided loads, then with unit stride in the result."""
    result = spec.results[0]
    address = result.addr(result.index)

    def rank(axis: Axis) -> tuple[int, int, int]:
        strided = sum(1 for f in factors if strided_operand(spec, f, axis.name))
        contiguous = slope(address, axis.name) == 1
        return (strided, int(not contiguous), -min(extent_or(axis.extent, 64), 64))

    varying = [a for a in program.axes if any(a.name in axes_of(f) for f in factors)]
    return min(reversed(varying), key=rank) if varying else None


def strided_operand(spec: KernelSpec, factor: Expr, lane: str) -> str:
    """The name of a run-time operand whose elements are apart along the lanes, or ""."""
    for node in walk(factor):
        if not isinstance(node, Read):
            continue
        operand = spec.operands[node.operand]
        if any(isinstance(c, Expr) for c in node.index):
            if lane in axes_of(node):
                return operand.name
            continue
        step = slope(operand.addr(node.index), lane)  # type: ignore[arg-type]
        if step not in (0, 1) and not (operand.constant and is_plain(node)):
            return operand.name
    return ""


def is_plain(node: Read) -> bool:
    """Whether each coordinate is an axis or a number: a constant read so can be packed for the kernel."""
    return all(is_static(c) or (isinstance(c, Dim) and c.as_symbol() is not None) for c in node.index)  # type: ignore[arg-type]


def constant_reads(spec: KernelSpec, factor: Expr) -> list[Read]:
    """The reads of constants in a factor, each once."""
    found = (n for n in walk(factor) if isinstance(n, Read) and spec.operands[n.operand].constant)
    return list(dict.fromkeys(found))


def _row_axis(spec: KernelSpec, program: Compute, factors: tuple[Expr, Expr], lane: Axis) -> Axis | None:
    """The best axis to hold several rows in registers: one factor is reused, extents are large."""

    def rank(axis: Axis) -> tuple[int, int]:
        varies = [axis.name in axes_of(f) for f in factors]
        lanes = [lane.name in axes_of(f) for f in factors]
        reused = any(in_lane and not in_row for in_lane, in_row in zip(lanes, varies, strict=False))
        extent = int(axis.extent) if is_static(axis.extent) else 1 << 20  # type: ignore[arg-type]
        return (int(reused), min(extent, 12))

    candidates = [a for a in program.axes if a is not lane]
    return max(reversed(candidates), key=rank) if candidates else None


def staged_axes(
    spec: KernelSpec, program: Compute, factors: tuple[Expr, Expr]
) -> tuple[Axis, Axis, int] | None:
    """(lane, row, factor) such that the factor varies with the lanes alone of the two, and is no constant.

    The factor that moves with the fewest other axes is copied least often; then long lanes, contiguous
    in the result, and long rows are best.
    """
    result = spec.results[0]
    address = result.addr(result.index)
    spatial = {a.name for a in program.axes}
    names = [axes_of(f) for f in factors]
    best: tuple[tuple[int, ...], Axis, Axis, int] | None = None
    for number in range(2):
        own, other = names[number], names[1 - number]
        if not _can_be_staged(spec, program, factors[number]):
            continue
        for lane in program.axes:
            if lane.name not in own or lane.name in other:
                continue
            for row in program.axes:
                if row.name not in other or row.name in own:
                    continue
                rank = (
                    -len((own & spatial) - {lane.name}),
                    min(extent_or(lane.extent, 64), 64),
                    int(slope(address, lane.name) == 1),
                    min(extent_or(row.extent, 64), 12),
                )
                if best is None or rank > best[0]:
                    best = (rank, lane, row, number)
    return best[1:] if best is not None else None


def _can_be_staged(spec: KernelSpec, program: Compute, factor: Expr) -> bool:
    """Whether a factor is read at plain places, over a reduction of known length, and packing is no use."""
    reads = [n for n in walk(factor) if isinstance(n, Read)]
    if not reads or not program.reduce or not all(is_static(a.extent) for a in program.reduce):
        return False
    if any(n.default is not None or any(isinstance(c, Expr) for c in n.index) for n in reads):
        return False
    return not any(_is_plain(n) for n in constant_reads(spec, factor))  # those are packed for nothing


def _is_plain(node: Read) -> bool:
    """Whether every coordinate of a read is an axis, or a number."""
    return all(isinstance(c, int) or (isinstance(c, Dim) and c.as_symbol() is not None) for c in node.index)


def _guards(spec: KernelSpec, program: Compute, factors: tuple[Expr, Expr]) -> dict[str, Guard] | str:
    taps = {a.name for a in program.reduce}
    found: dict[str, Guard] = {}
    for factor in factors:
        for node in walk(factor):
            if not isinstance(node, Read) or node.default is None:
                continue
            if not isinstance(node.default, Const) or node.default.value != 0:
                return "padded with something else than zero"
            for c, extent in zip(node.index, spec.operands[node.operand].shape, strict=False):
                if isinstance(c, Expr) or not isinstance(c, Dim):
                    continue
                mine = sorted(c.free_symbols() & taps)
                if not mine or len(c.free_symbols()) == 1:
                    continue
                step = slope(c, mine[0])
                if len(mine) > 1 or not isinstance(step, int) or step < 1:
                    return "padded coordinates are not affine in one tap"
                if mine[0] in found:
                    return "a tap is guarded twice"
                found[mine[0]] = Guard(c, extent, mine[0], step)
    return found


def _loop_order(spec: KernelSpec, factors: tuple[Expr, Expr], loops: list[Axis]) -> tuple[Axis, ...]:
    """Reduction loops, the one that is contiguous in most operands innermost."""

    def rank(axis: Axis) -> int:
        score = 0
        for factor in factors:
            for node in walk(factor):
                if isinstance(node, Read) and not any(isinstance(c, Expr) for c in node.index):
                    address = spec.operands[node.operand].addr(node.index)  # type: ignore[arg-type]
                    score += 1 if slope(address, axis.name) == 1 else 0
        return score

    return tuple(sorted(loops, key=rank))


def extent_or(d: DimLike, default: int) -> int:
    """A static extent, or a stand-in for a symbolic one."""
    return int(d) if is_static(d) else default  # type: ignore[arg-type]


def coordinate_range(guard: Guard, row: str, start: int, rows: int, taps: int) -> tuple[int, int] | None:
    """Smallest and largest guarded coordinate over rows start..start+rows-1 and all taps, when numeric."""
    if not isinstance(guard.coordinate, Dim) or guard.coordinate.free_symbols() - {row, guard.tap}:
        return None
    low = guard.coordinate.evaluate({row: start, guard.tap: 0})
    high = guard.coordinate.evaluate({row: start + rows - 1, guard.tap: taps - 1})
    return low, high
