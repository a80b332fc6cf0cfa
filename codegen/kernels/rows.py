"""Row programs: softmax, norms, argmax: several sweeps over a row that stays in cache.

Lanes run along the row where it is contiguous, else along a contiguous outer axis (each lane a row
of its own).  Stages that do not wait for one another's reductions share a sweep; maps that call
math functions and are needed again are kept in scratch, cheap ones are computed again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import axes_of, slope
from aino_ir.codegen.kernels.emit import emit_checks, name_index, vector_lanes
from aino_ir.codegen.kernels.map_points import at_row
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import Axis, RowProgram, RowStage
from aino_ir.dims import DimLike, align, ceildiv, dmin, is_static, product
from aino_ir.dtypes import boolean, i64
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Call,
    Expr,
    PrefixMask,
    Read,
    Var,
    VecType,
    binary,
    compare,
    const,
    identity,
    index,
    reduce_lanes,
    select,
    splat,
    unary,
)
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

UNIT_ELEMENTS = 8192
"""Elements that a unit should hold."""

CHAINS = 4
"""Independent partial results of a reduction along the lanes."""

ARG_COMBINERS = ("argmax", "argmin")


class RowGenerator:
    """Kernels of `RowProgram`s."""

    name = "row"

    def __init__(self, unit_elements: int = UNIT_ELEMENTS) -> None:
        self.unit_elements = unit_elements

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate: where lanes run follows from the strides."""
        program = spec.program
        if not isinstance(program, RowProgram):
            yield Reject(self.name, "not a row program")
            return
        lanes = vector_lanes(spec, target)
        lane = lane_axis(spec, program)
        if lane is None or (lane in program.row and any(s.combiner in ARG_COMBINERS for s in program.stages)):
            lanes = 1
        elements = product([a.extent for a in (*program.axes, *program.row)])
        cost = (int(elements) if is_static(elements) else 1 << 16) * 4.0 / lanes / 1e9  # type: ignore[arg-type]
        where = lane.name if lane is not None else "none"
        yield Candidate(self.name, f"rows, {lanes} lanes along {where}", (("lanes", lanes),), cost=cost)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec)
        emit_checks(place)
        _Rows(b, place, dict(candidate.params)["lanes"], self.unit_elements).emit()
        return b.finish(header(spec, candidate))


def lane_axis(spec: KernelSpec, program: RowProgram) -> Axis | None:
    """The axis that most reads walk with unit stride: the last row axis, else an outer one."""

    def score(axis: Axis) -> int:
        total = 0
        for stage in (
            *(s.expr for s in program.stages),
            *(r.expr for r in spec.results if r.expr is not None),
        ):
            for node in walk(stage):
                if not isinstance(node, Read):
                    continue
                if any(isinstance(c, Expr) for c in node.index):
                    total -= int(axis.name in axes_of(node))
                    continue
                step = slope(spec.operands[node.operand].addr(node.index), axis.name)  # type: ignore[arg-type]
                total += 1 if step == 1 else (0 if step == 0 else -1)
        return total

    candidates = (*program.row[-1:], *program.axes[::-1])
    long = [a for a in candidates if not is_static(a.extent) or a.extent > 1]
    best = max(long, key=score, default=None)
    return best if best is not None and score(best) > 0 else None


@dataclass(frozen=True)
class Sweep:
    """Stages computed in one walk over the row."""

    stages: tuple[RowStage, ...]


def sweeps(stages: tuple[RowStage, ...]) -> list[Sweep | RowStage]:
    """Stages grouped into sweeps; scalars stand between them."""
    out: list[Sweep | RowStage] = []
    current: list[RowStage] = []

    def close() -> None:
        if any(s.kind == "reduce" for s in current):
            out.append(Sweep(tuple(current)))
            current[:] = [s for s in current if s.kind == "map"]

    for stage in stages:
        pending = {s.name for s in current if s.kind == "reduce"}
        if names_of(stage.expr) & pending:
            close()
        if stage.kind == "scalar":
            close()
            out.append(stage)
        else:
            current.append(stage)
    close()
    return out


def names_of(e: Expr) -> set[str]:
    """Stages that an expression reads."""
    return {node.name for node in walk(e) if isinstance(node, Var)}


class _Rows:
    def __init__(self, b: LoopBuilder, place: Placement, lanes: int, unit_elements: int) -> None:
        self.unit_elements = unit_elements
        self.b = b
        self.place = place
        program = place.spec.program
        assert isinstance(program, RowProgram)
        self.program = program
        self.lanes = lanes
        lane = lane_axis(place.spec, program) if lanes > 1 else None
        self.vertical = lane if lane is not None and lane not in program.row else None
        self.horizontal = lane if lane is not None and lane in program.row else None
        self.maps = {s.name: s for s in program.stages if s.kind == "map"}
        self.kept = self._kept_maps()

    def _kept_maps(self) -> dict[str, str]:
        """Scratch buffers of maps worth keeping: they call functions and are used in a later sweep."""
        size = product(a.extent for a in self.program.row)
        size = size * self.lanes if self.vertical is not None else align(size, max(1, self.lanes))
        kept: dict[str, str] = {}
        for name, stage in self.maps.items():
            if any(isinstance(n, Call) for n in walk(stage.expr)):
                kept[name] = self.b.alloc(name, stage.expr.dtype, size)
        return kept

    # -- rows ---------------------------------------------------------------------------------------

    def emit(self) -> None:
        """Units of several rows (or of blocks of lanes, each lane a row)."""
        b, program = self.b, self.program
        outer = tuple(a for a in program.axes if a is not self.vertical)
        rows = product(a.extent for a in outer)
        blocks = ceildiv(self.vertical.extent, self.lanes) if self.vertical is not None else 1
        length = product(a.extent for a in program.row)
        width = self.lanes if self.vertical is not None else 1
        per_unit = max(1, self.unit_elements // max(1, int(length) * width)) if is_static(length) else 1  # type: ignore[arg-type]
        total = rows * blocks
        with b.units(ceildiv(total, per_unit)) as unit:
            with b.loop("line", unit * per_unit, dmin((unit + 1) * per_unit, total)) as line:
                with at_row(b, outer, line // blocks if self.vertical is not None else line) as at:
                    if self.vertical is None:
                        self._row(Point(at))
                    else:
                        start = name_index(b, line % blocks * self.lanes, "start")
                        self._block(at, start)

    def _block(self, at: dict[str, DimLike], start: DimLike) -> None:
        assert self.vertical is not None
        lane, lanes = self.vertical, self.lanes
        here = {**at, lane.name: start}
        with self.b.when(Condition(start + lanes, "<=", lane.extent)):
            self._row(Point(here, lane.name, lanes))
        with self.b.otherwise():
            self._row(Point(here, lane.name, lanes, lane.extent - start))

    def _row(self, row: Point) -> None:
        """All stages of one row (or of a vector of rows), then its results."""
        values: dict[str, Expr] = {}
        done: set[str] = set()
        for item in sweeps(self.program.stages):
            if isinstance(item, RowStage):
                values[item.name] = self.place.expr(item.expr, row, values=values)
            else:
                self._sweep(item, row, values, done)
                done |= {s.name for s in item.stages}
        self._results(row, values, done)

    # -- sweeps -------------------------------------------------------------------------------------

    def _sweep(self, sweep: Sweep, row: Point, values: dict[str, Expr], done: set[str]) -> None:
        reduces = [s for s in sweep.stages if s.kind == "reduce"]
        chains = CHAINS if self.horizontal is not None and not self._calls(sweep) else 1
        state = {s.name: [self._start(s, row) for _ in range(chains)] for s in reduces}

        def visit(point: Point, chain: int) -> None:
            local = self._map_values(sweep, point, values, done)
            for s in reduces:
                self._accumulate(s, point, local, state[s.name][chain])

        self._walk(row, visit, chains)
        for s in reduces:
            values[s.name] = self._finish(s, state[s.name])

    def _calls(self, sweep: Sweep) -> bool:
        return any(isinstance(n, Call) for s in sweep.stages for n in walk(s.expr))

    def _walk(self, row: Point, visit: Callable[[Point, int], None], chains: int) -> None:
        """Call `visit` for every element of the row, in vectors along the lanes where they run along it."""
        b, lanes = self.b, self.lanes
        *outer, inner = self.program.row or (Axis("element", 1),)
        with ExitStack() as stack:
            at = dict(row.at)
            for axis in outer:
                at[axis.name] = stack.enter_context(b.loop(axis.name, 0, axis.extent))
            if self.horizontal is None:
                with b.loop(inner.name, 0, inner.extent) as r:
                    visit(Point({**at, inner.name: r}, row.axis, row.lanes, row.count), 0)
                return
            wide = inner.extent // (lanes * chains) * (lanes * chains)
            whole = inner.extent // lanes * lanes
            if chains > 1:
                with b.loop(inner.name, 0, wide, step=lanes * chains) as r:
                    for c in range(chains):
                        visit(Point({**at, inner.name: r + c * lanes}, inner.name, lanes), c)
            with b.loop(inner.name, wide if chains > 1 else 0, whole, step=lanes) as r:
                visit(Point({**at, inner.name: r}, inner.name, lanes), 0)
            with b.when(Condition(inner.extent, ">", whole)):
                visit(Point({**at, inner.name: whole}, inner.name, lanes, inner.extent - whole), 0)

    def _map_values(
        self, sweep: Sweep | None, point: Point, values: dict[str, Expr], done: set[str]
    ) -> dict[str, Expr]:
        """Values of all stages at an element: kept maps are loaded, or computed here and stored."""
        local = dict(values)
        present = {s.name for s in sweep.stages} if sweep is not None else set()
        for name, stage in self.maps.items():
            if name not in present and name not in done:
                continue
            if name in self.kept and name in done:
                local[name] = self.b.load(self.kept[name], self._scratch_offset(point), point.lanes)
                continue
            local[name] = splat(self.place.expr(stage.expr, point, values=local), point.lanes)
            if name in self.kept:
                self.b.store(self.kept[name], self._scratch_offset(point), local[name])
        return local

    def _scratch_offset(self, point: Point) -> DimLike:
        offset: DimLike = 0
        for axis in self.program.row:
            offset = offset * axis.extent + point.at[axis.name]
        return offset * self.lanes if self.vertical is not None else offset

    # -- reductions ---------------------------------------------------------------------------------

    def _start(self, stage: RowStage, row: Point) -> tuple[Reg, ...]:
        lanes, dtype = self.lanes, stage.expr.dtype
        combiner = {"argmax": "max", "argmin": "min"}.get(stage.combiner or "", stage.combiner or "add")
        neutral = splat(const(identity(combiner, dtype), dtype), lanes)
        value = self.b.reg(stage.name, VecType(dtype, lanes), neutral)
        if stage.combiner in ARG_COMBINERS:
            return value, self.b.reg(f"{stage.name}_at", VecType(i64, lanes), const(0, i64, lanes))
        return (value,)

    def _accumulate(
        self, stage: RowStage, point: Point, values: dict[str, Expr], state: tuple[Reg, ...]
    ) -> None:
        b, lanes = self.b, self.lanes
        value = b.let(splat(self.place.expr(stage.expr, point, values=values), lanes))
        if stage.combiner in ARG_COMBINERS:
            self._arg_step(stage, point, value, state)
            return
        assert stage.combiner is not None
        if point.count is not None and self.horizontal is not None:
            mask = PrefixMask(point.count, VecType(boolean, lanes))
            value = select(
                mask, value, splat(const(identity(stage.combiner, value.dtype), value.dtype), lanes)
            )
        b.set(state[0], binary(stage.combiner, state[0].read(), value))

    def _arg_step(self, stage: RowStage, point: Point, value: Expr, state: tuple[Reg, ...]) -> None:
        """Keep the first extreme and its position; NaN beats every number."""
        b, (best, at) = self.b, state
        old = b.let(best.read())
        better = compare("gt" if stage.combiner == "argmax" else "lt", value, old)
        if value.dtype.is_float:
            nan = binary("and", unary("isnan", value), unary("not", unary("isnan", old)))
            better = binary("or", better, nan)
            better = binary("and", better, unary("not", unary("isnan", old)))
        better = b.let(better)
        position: DimLike = 0
        for axis in self.program.row:
            position = position * axis.extent + point.at[axis.name]
        b.set(at, select(better, splat(index(position), self.lanes), at.read()))
        b.set(best, select(better, value, old))

    def _finish(self, stage: RowStage, chains: list[tuple[Reg, ...]]) -> Expr:
        b = self.b
        if stage.combiner in ARG_COMBINERS:
            return b.let(chains[0][1].read())
        assert stage.combiner is not None
        total = b.let(chains[0][0].read())
        for chain in chains[1:]:
            total = b.let(binary(stage.combiner, total, chain[0].read()))
        return b.let(reduce_lanes(stage.combiner, total)) if self.horizontal is not None else total

    # -- results ------------------------------------------------------------------------------------

    def _results(self, row: Point, values: dict[str, Expr], done: set[str]) -> None:
        per_row = [(n, r) for n, r in enumerate(self.place.spec.results) if r.per_row]
        each = [(n, r) for n, r in enumerate(self.place.spec.results) if not r.per_row]
        for number, result in per_row:
            assert result.expr is not None
            self.place.store(number, row, self.place.expr(result.expr, row, values=values))
        if not each:
            return

        def visit(point: Point, _: int) -> None:
            local = self._map_values(None, point, values, done | set(self.maps))
            for number, result in each:
                assert result.expr is not None
                self.place.store(number, point, self.place.expr(result.expr, point, values=local))

        self._walk(row, visit, 1)
