"""Reductions that are no contraction: pools, sums, extremes, products over any axes.

Lanes run along a contiguous result axis where there is one (each lane its own result), else along
the contiguous reduction axis (lanes are folded at the end, always in the same order).
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import axes_of, drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.emit import emit_checks, name_index, vector_lanes
from aino_ir.codegen.kernels.map_points import at_row
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, ceildiv, dmin, is_static, product
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, Read, VecType, binary, const, identity, reduce_lanes, select, splat
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

ACCUMULATORS = 4
"""Independent vectors of partial results: hides the latency of the combining operation."""

UNROLL_TAPS = 16
"""Reduction axes up to this long are unrolled when all are static and short."""

UNIT_STEPS = 8192
"""Reduction steps (in vectors) that a unit should hold."""


class ReductionGenerator:
    """Any combiner over any axes, one pass."""

    name = "reduce"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate; it is also the fallback for sums of products."""
        program = spec.program
        if not isinstance(program, Compute) or not program.reduce or program.combiner is None:
            yield Reject(self.name, "not a reduction")
            return
        lanes = vector_lanes(spec, target)
        steps = product([a.extent for a in (*program.axes, *program.reduce)])
        cost = (int(steps) if is_static(steps) else 1 << 16) * 1.0 / lanes / 1e9 * 4  # type: ignore[arg-type]
        yield Candidate(self.name, f"reduction, {lanes} lanes", (("lanes", lanes),), cost=cost)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        merged = merge_axes(drop_unit_axes(spec))
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, merged)
        emit_checks(place)
        _Loops(b, place, dict(candidate.params)["lanes"]).emit()
        return b.finish(header(spec, candidate))


class _Loops:
    def __init__(self, b: LoopBuilder, place: Placement, lanes: int) -> None:
        self.b = b
        self.place = place
        program = place.spec.program
        assert isinstance(program, Compute) and program.combiner is not None
        self.program = program
        self.lanes = lanes
        self.dtype = program.body.dtype
        self.combiner = program.combiner
        self.neutral = const(identity(program.combiner, self.dtype), self.dtype)

    def emit(self) -> None:
        """Choose where lanes run and emit units."""
        spatial = self._contiguous(self.program.axes)
        if spatial is not None:
            self._vertical(spatial)
            return
        inner = self._contiguous(self.program.reduce)
        self._per_point(inner)

    def _contiguous(self, axes: tuple[Axis, ...]) -> Axis | None:
        """The axis that is unit-stride in the body's reads (and never strided otherwise)."""
        best, best_score = None, 0
        for axis in axes:
            if is_static(axis.extent) and int(axis.extent) < max(2, self.lanes // 2):  # type: ignore[arg-type]
                continue
            score = 0
            for node in walk(self.program.body):
                if isinstance(node, Read) and not any(isinstance(c, Expr) for c in node.index):
                    operand = self.place.operands[node.operand]
                    step = slope(operand.addr(node.index), axis.name)  # type: ignore[arg-type]
                    score += 1 if step == 1 else (0 if step == 0 else -1)
                elif isinstance(node, Read) and axis.name in axes_of(node):
                    score -= 1
            if score >= best_score and score > 0:
                best, best_score = axis, score
        return best

    # -- lanes along a result axis --------------------------------------------------------------------

    def _vertical(self, lane: Axis) -> None:
        b, lanes = self.b, self.lanes
        outer = tuple(a for a in self.program.axes if a is not lane)
        points = product(a.extent for a in outer)
        width = lanes * ACCUMULATORS
        blocks = ceildiv(lane.extent, width)
        steps = product(a.extent for a in self.program.reduce)
        per_unit = max(1, UNIT_STEPS // max(1, int(steps) * ACCUMULATORS)) if is_static(steps) else 1  # type: ignore[arg-type]
        total = points * blocks
        with b.units(ceildiv(total, per_unit)) as unit:
            with b.loop("block", unit * per_unit, dmin((unit + 1) * per_unit, total)) as block:
                with at_row(b, outer, block // blocks) as at:
                    start = name_index(b, block % blocks * width, "start")
                    with b.when(Condition(start + width, "<=", lane.extent)):
                        self._columns(at, lane, start, ACCUMULATORS, None)
                    with b.otherwise():
                        with b.loop("rest", start, lane.extent, step=lanes) as i:
                            self._columns(at, lane, i, 1, lane.extent - i)

    def _columns(
        self, at: dict[str, DimLike], lane: Axis, start: DimLike, vectors: int, count: DimLike | None
    ) -> None:
        lanes = self.lanes
        points = [
            Point({**at, lane.name: start + v * lanes}, lane.name, lanes, count) for v in range(vectors)
        ]
        accumulators = [
            self.b.reg(f"acc{v}", VecType(self.dtype, lanes), splat(self.neutral, lanes))
            for v in range(vectors)
        ]
        self._reduce(list(self.program.reduce), {}, points, accumulators)
        for point, acc in zip(points, accumulators, strict=False):
            self._write(point, self.b.let(acc.read()))

    def _reduce(
        self, axes: list[Axis], at: dict[str, DimLike], points: list[Point], accumulators: list[Reg]
    ) -> None:
        if not axes:
            for point, acc in zip(points, accumulators, strict=False):
                self._step(Point({**point.at, **at}, point.axis, point.lanes, point.count), acc)
            return
        axis = axes[0]
        if is_static(axis.extent) and int(axis.extent) <= 4:  # type: ignore[arg-type]
            for value in range(int(axis.extent)):  # type: ignore[arg-type]
                self._reduce(axes[1:], {**at, axis.name: value}, points, accumulators)
            return
        with self.b.loop(axis.name, 0, axis.extent) as r:
            self._reduce(axes[1:], {**at, axis.name: r}, points, accumulators)

    def _step(self, point: Point, acc: Reg) -> None:
        value = splat(self._body(point), point.lanes)
        self.b.set(acc, binary(self.combiner, acc.read(), value))

    def _body(self, point: Point) -> Expr:
        value = self.place.expr(self.program.body, point)
        if self.program.where is None:
            return value
        return self.b.let(select(self.place.expr(self.program.where, point), value, self.neutral))

    # -- one result at a time ---------------------------------------------------------------------------

    def _per_point(self, inner: Axis | None) -> None:
        b = self.b
        points = product(a.extent for a in self.program.axes)
        steps = product(a.extent for a in self.program.reduce)
        per_unit = max(1, UNIT_STEPS // max(1, int(steps) // self.lanes)) if is_static(steps) else 1  # type: ignore[arg-type]
        with b.units(ceildiv(points, per_unit)) as unit:
            with b.loop("point", unit * per_unit, dmin((unit + 1) * per_unit, points)) as p:
                with at_row(b, self.program.axes, p) as at:
                    if inner is None:
                        self._scalar(at)
                    else:
                        self._horizontal(at, inner)

    def _scalar(self, at: dict[str, DimLike]) -> None:
        acc = self.b.reg("acc", VecType(self.dtype), self.neutral)
        self._reduce(list(self.program.reduce), {}, [Point(at)], [acc])
        self._write(Point(at), self.b.let(acc.read()))

    def _horizontal(self, at: dict[str, DimLike], inner: Axis) -> None:
        """Vectors of partial results along the reduction axis, folded at the end."""
        b, lanes = self.b, self.lanes
        accs = [
            b.reg(f"acc{v}", VecType(self.dtype, lanes), splat(self.neutral, lanes))
            for v in range(ACCUMULATORS)
        ]
        outer = [a for a in self.program.reduce if a is not inner]
        with ExitStack() as stack:
            here = dict(at)
            for axis in outer:
                here[axis.name] = stack.enter_context(b.loop(axis.name, 0, axis.extent))
            wide = inner.extent // (lanes * ACCUMULATORS) * (lanes * ACCUMULATORS)
            whole = inner.extent // lanes * lanes
            with b.loop(inner.name, 0, wide, step=lanes * ACCUMULATORS) as r:
                for v, acc in enumerate(accs):
                    self._step(Point({**here, inner.name: r + v * lanes}, inner.name, lanes), acc)
            with b.loop(inner.name, wide, whole, step=lanes) as r:
                self._step(Point({**here, inner.name: r}, inner.name, lanes), accs[0])
            with b.when(Condition(inner.extent, ">", whole)):
                self._masked_step(
                    Point({**here, inner.name: whole}, inner.name, lanes, inner.extent - whole), accs[0]
                )
        total = b.let(accs[0].read())
        for acc in accs[1:]:
            total = b.let(binary(self.combiner, total, acc.read()))
        self._write(Point(at), b.let(reduce_lanes(self.combiner, total)))

    def _masked_step(self, point: Point, acc: Reg) -> None:
        """The last lanes: those past the end contribute the neutral element."""
        from aino_ir.dtypes import boolean
        from aino_ir.loops.expr import PrefixMask

        assert point.count is not None
        mask = PrefixMask(point.count, VecType(boolean, point.lanes))
        value = select(mask, splat(self._body(point), point.lanes), splat(self.neutral, point.lanes))
        self.b.set(acc, binary(self.combiner, acc.read(), value))

    def _write(self, point: Point, value: Expr) -> None:
        for number, result in enumerate(self.place.spec.results):
            assert result.expr is not None
            self.place.store(number, point, self.place.expr(result.expr, point, accumulators={0: value}))
