"""Rows with a block of threads for each: softmax, norms, argmax, reductions, products with a vector.

Threads take vectors of up to 16 bytes, each `threads`-th one.  A row that fits into the block's registers
is read once: every stage finds the elements that the first one has loaded, and maps that were computed.
Of longer rows each sweep (reductions that need nothing of each other) is a pass.  Partial results are
combined within warps by exchanges, between warps through shared memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from aino_ir.codegen.cuda.exchange import exchanged
from aino_ir.codegen.cuda.product import Product, analyse
from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.canonical import drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.codegen.kernels.rows import Sweep, lane_axis, sweeps
from aino_ir.compute import Axis, Compute, RowProgram, RowStage
from aino_ir.dims import Dim, DimLike, ceildiv, free_symbols, is_static, product
from aino_ir.dtypes import DType, boolean, i64
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import (
    Accumulator,
    Binary,
    Compare,
    Expr,
    Index,
    PrefixMask,
    Read,
    Var,
    VecType,
    binary,
    compare,
    const,
    identity,
    index,
    minimum,
    reduce_lanes,
    select,
    splat,
    unary,
)
from aino_ir.loops.expr_tree import map_expr, walk
from aino_ir.loops.stmt import LoopFn
from aino_ir.loops.warp import WARP
from aino_ir.target import Target

SHORT = 64
"""Rows of fewer elements are left to one thread each."""

MANY = 2048
"""So many rows that lie across are done a row a thread, whose neighbours then read neighbouring elements."""

FEW = 1024
"""So few rows have a block each even where they may be short."""

WIDE_BYTES = 16
HELD = 32
"""Elements that a thread keeps in registers."""

MOST_THREADS = 1024
SYMBOLIC_THREADS = 256


@dataclass(frozen=True)
class Rows:
    """How rows are done.

    Attributes:
        spec: a row program.
        lanes: elements of a vector; 1 where neighbours in the row do not lie side by side.
        threads: of a block.
        held: vectors that a thread keeps, 0 = every sweep is a loop.
        end: where rows end along their first axis, over the outer ones; None: at its extent.
    """

    spec: KernelSpec
    lanes: int
    threads: int
    held: int
    end: DimLike | None = None

    def __str__(self) -> str:
        how = "read once" if self.held else "a pass a sweep"
        return f"a block of {self.threads} threads a row, {self.lanes} lanes, {how}"


def as_rows(spec: KernelSpec) -> tuple[KernelSpec, DimLike | None] | str:
    """A spec as a row program, and where its rows end (see `Rows`); or why it is none."""
    program = spec.program
    if isinstance(program, RowProgram):
        return spec, None
    if not isinstance(program, Compute) or program.combiner is None:
        return "neither a row program nor a reduction"
    spec = merge_axes(drop_unit_axes(spec))
    program = spec.program
    assert isinstance(program, Compute) and program.combiner is not None
    if not program.reduce:
        return "a reduction of one element"
    body = program.body
    first = _neutral(program.combiner, body.dtype)
    end, where = _row_end(program)
    if where is not None:
        body = select(where, body, first)
    total = Var("total", body.type)

    def finished(e: Expr | None) -> Expr:
        given = e if e is not None else program.result_expr
        return map_expr(given, lambda node: total if isinstance(node, Accumulator) else None)

    results = tuple(replace(r, expr=finished(r.expr), per_row=True) for r in spec.results)
    stage = RowStage("reduce", "total", body, program.combiner)
    out = results[0]
    assert out.expr is not None
    rows = RowProgram(
        program.axes, program.reduce, (stage,), out.expr, out.index, True, checks=program.checks
    )
    return replace(spec, program=rows, results=results), end


def _row_end(program: Compute) -> tuple[DimLike | None, Expr | None]:
    """Where a condition ends the first axis of the terms, and the rest of the condition."""
    where = program.where
    first, *others = (where.a, where.b) if isinstance(where, Binary) and where.op == "and" else (where,)
    if not (isinstance(first, Compare) and first.op == "lt"):
        return None, where
    if not (isinstance(first.a, Index) and isinstance(first.b, Index)):
        return None, where
    name, place = program.reduce[0].name, first.a.dim
    if not isinstance(place, Dim) or slope(place, name) != 1:
        return None, where
    end = first.b.dim - place.substitute({name: 0})
    if free_symbols(end) & {a.name for a in program.reduce}:
        return None, where
    return end, others[0] if others else None


def _neutral(combiner: str, dtype: DType) -> Expr:
    return const(combiner == "and" if dtype.is_bool else identity(combiner, dtype), dtype)


def plan_rows(spec: KernelSpec) -> Rows | str:
    """How a spec's rows are done, or why not by blocks."""
    as_program = as_rows(spec)
    if isinstance(as_program, str):
        return as_program
    if isinstance(analyse(spec), Product):
        return "a product of many rows and columns"
    found, end = as_program
    program = found.program
    assert isinstance(program, RowProgram)
    length = product(a.extent for a in program.row)
    if is_static(length) and int(length) < SHORT:  # type: ignore[arg-type]
        return f"rows of {length} elements"
    lane = lane_axis(found, program)
    along = lane is not None and lane is program.row[-1]
    rows = _guess(program.axes)
    if not along and rows >= MANY:
        return f"{rows} rows that lie across"
    if isinstance(spec.program, Compute) and along and _guess(program.row[-1:]) < WARP:
        return "elements that lie side by side are few"
    lanes = _lanes(found, program) if along and not any(map(_seeks, program.stages)) else 1
    if not is_static(length):
        few = is_static(product(a.extent for a in program.axes)) and rows <= FEW
        if isinstance(spec.program, Compute) and not few:
            return "a reduction of unknown length, which may be short"
        return Rows(found, lanes, SYMBOLIC_THREADS, 0, end)
    vectors = product(a.extent for a in program.row[:-1]) * ceildiv(program.row[-1].extent, lanes)
    each = max(1, HELD // lanes)
    threads = WARP
    while threads < MOST_THREADS and threads * min(4, each) < int(vectors):  # type: ignore[arg-type]
        threads *= 2
    held = -(-int(vectors) // threads)  # type: ignore[arg-type]
    exact = int(vectors) % threads == 0  # type: ignore[arg-type]
    fits = held <= each and (exact or (len(program.row) == 1 and lanes > 1)) and end is None
    return Rows(found, lanes, threads if fits else min(threads, 512), held if fits else 0, end)


def _guess(axes: tuple[Axis, ...]) -> int:
    size = 1
    for axis in axes:
        size *= extent_or(axis.extent, 1024)
    return size


def _lanes(spec: KernelSpec, program: RowProgram) -> int:
    """Elements of the widest type that is read or written along the row in 16 bytes."""
    used = {r.operand for e in _expressions(spec, program) for r in walk(e) if isinstance(r, Read)}
    dtypes = [spec.operands[n].dtype for n in used] + [r.dtype for r in spec.results if not r.per_row]
    widest = max((max(d.bytes, d.compute.bytes // 2) for d in dtypes), default=4)
    return max(1, min(8, WIDE_BYTES // widest))


def _expressions(spec: KernelSpec, program: RowProgram) -> list[Expr]:
    return [*(s.expr for s in program.stages), *(r.expr for r in spec.results if r.expr is not None)]


class BlockRowGenerator:
    """Kernels of rows that are long enough for a block."""

    name = "block rows"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate."""
        found = plan_rows(spec)
        if isinstance(found, str):
            yield Reject(self.name, found)
        else:
            yield Candidate(self.name, str(found), cost=1e-7)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        rows = plan_rows(spec)
        assert isinstance(rows, Rows)
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, rows.spec)
        emit_checks(place)
        _BlockRows(b, place, rows).emit()
        return b.finish(header(spec, candidate))


Visit = Callable[[Point], None]
State = tuple[Expr, ...]
"""A reduction so far: its value, and for argmax and argmin where that stands."""


class _BlockRows:
    def __init__(self, b: LoopBuilder, place: Placement, rows: Rows) -> None:
        self.b = b
        self.place = place
        self.rows = rows
        program = rows.spec.program
        assert isinstance(program, RowProgram)
        self.program = program
        self.values: dict[str, Expr] = {}
        self.maps: list[RowStage] = []
        self.row: dict[str, DimLike] = {}
        self.extents = [a.extent for a in program.row]
        """Of the axes of the present row."""

    def emit(self) -> None:
        """Stage after stage, then the results."""
        b, program = self.b, self.program
        with b.units(product(a.extent for a in program.axes), self.rows.threads) as unit:
            extents = {a.name: a.extent for a in program.axes}
            self.row = dict(zip(extents, b.split(unit, extents), strict=True)) if extents else {}
            if self.rows.end is not None:
                self._end_row(self.rows.end)
            for item in sweeps(program.stages):
                if isinstance(item, Sweep):
                    self._sweep(item)
                else:
                    self.values[item.name] = self.place.expr(item.expr, Point(self.row), values=self.values)
            self.maps = [s for s in program.stages if s.kind == "map"]
            self._results()

    def _end_row(self, end: DimLike) -> None:
        """Let the first axis of this row end where it does."""
        b, extent = self.b, self.extents[0]
        here = end.substitute(self.row) if isinstance(end, Dim) else end
        self.extents[0] = b.index(minimum(index(here), index(extent)), None, extent, "length")

    # -- elements -----------------------------------------------------------------------------------

    def _walk(self, visit: Visit) -> None:
        """Call `visit` for the vectors of this thread: one after the other, or in a loop."""
        b, rows = self.b, self.rows
        inner, extent = self.program.row[-1], self.extents[-1]
        vectors = product(self.extents[:-1]) * ceildiv(extent, rows.lanes)
        if rows.held:
            for number in range(rows.held):
                vector = b.dim(b.thread + number * rows.threads)
                last = (number + 1) * rows.threads * rows.lanes
                single = len(self.program.row) == 1
                whole = last <= inner.extent if single else self._fills
                visit(self._point(vector, None if whole else inner.extent))
            return
        with b.loop("vector", b.thread, vectors, step=rows.threads) as vector:
            point = self._point(vector, None)
            start = point.at[inner.name]
            if rows.lanes == 1 or self._fills:
                visit(point)
                return
            with b.when(Condition(start + rows.lanes, "<=", extent)):
                visit(point)
            with b.otherwise():
                visit(replace(point, count=extent - start))

    @property
    def _fills(self) -> bool:
        """Whether the innermost extent is a whole number of vectors."""
        extent = self.extents[-1]
        return is_static(extent) and int(extent) % self.rows.lanes == 0  # type: ignore[arg-type]

    def _point(self, vector: DimLike, extent: DimLike | None) -> Point:
        """Where a vector starts; `extent` where it may reach past the row's end."""
        b, lanes = self.b, self.rows.lanes
        *outer, inner = self.program.row
        extents = {a.name: extent for a, extent in zip(outer, self.extents, strict=False)}
        extents[inner.name] = ceildiv(self.extents[-1], lanes)
        if outer:
            *found, block = b.split(vector, extents)
        else:
            found, block = [], vector
        at = {**self.row, **dict(zip(extents, found, strict=False)), inner.name: block * lanes}
        if lanes == 1:
            return Point(at)
        count = None if extent is None else extent - block * lanes
        return Point(at, inner.name, lanes, count)

    def _mapped(self, point: Point) -> dict[str, Expr]:
        """Values of stages at an element, the maps so far among them."""
        values = dict(self.values)
        for stage in self.maps:
            values[stage.name] = self.place.expr(stage.expr, point, values=values)
        return values

    # -- reductions ---------------------------------------------------------------------------------

    def _sweep(self, sweep: Sweep) -> None:
        """Reductions in one pass; maps that stand before them are computed on the way."""
        b, lanes = self.b, self.rows.lanes
        self.maps = self.maps + [s for s in sweep.stages if s.kind == "map" and s not in self.maps]
        reduces = [s for s in sweep.stages if s.kind == "reduce"]
        registers = {}
        for s in reduces:
            dtype = s.expr.dtype
            first = splat(_neutral(_kind(s), dtype), lanes)
            registers[s.name] = [b.reg(s.name, VecType(dtype, lanes), first)]
            if _seeks(s):
                registers[s.name].append(b.reg(f"{s.name}_at", VecType(i64), (1 << 62) - 1))

        def visit(point: Point) -> None:
            values = self._mapped(point)
            for s in reduces:
                value = b.let(splat(self.place.expr(s.expr, point, values=values), lanes))
                if point.count is not None and lanes > 1:
                    inside = PrefixMask(point.count, VecType(boolean, lanes))
                    value = b.let(select(inside, value, splat(_neutral(_kind(s), value.dtype), lanes)))
                state: State = (value, self._position(point)) if _seeks(s) else (value,)
                old = tuple(b.let(r.read()) for r in registers[s.name])
                for register, new in zip(registers[s.name], self._combined(s, old, state), strict=True):
                    b.set(register, new)

        self._walk(visit)
        for s in reduces:
            state = tuple(b.let(r.read()) for r in registers[s.name])
            if not _seeks(s):
                state = (b.let(reduce_lanes(_kind(s), state[0])),)
            self.values[s.name] = self._between_threads(s, state)[-1]

    def _position(self, point: Point) -> Expr:
        flat: DimLike = 0
        for axis in self.program.row:
            flat = flat * axis.extent + point.at[axis.name]
        return index(flat)

    def _combined(self, s: RowStage, old: State, new: State) -> State:
        """Two partial results as one."""
        if not _seeks(s):
            return (binary(_kind(s), old[0], new[0]),)
        b = self.b
        better = compare("gt" if _kind(s) == "max" else "lt", new[0], old[0])
        equal = compare("eq", new[0], old[0])
        if new[0].dtype.is_float:
            is_nan, was_nan = b.let(unary("isnan", new[0])), b.let(unary("isnan", old[0]))
            better = (better | (is_nan & ~was_nan)) & ~was_nan
            equal = equal | (is_nan & was_nan)
        wins = b.let(better | (equal & compare("lt", new[1], old[1])))
        return tuple(b.let(select(wins, n, o)) for n, o in zip(new, old, strict=True))

    def _between_threads(self, s: RowStage, state: State) -> State:
        """The result, known to all threads."""
        b, warps = self.b, self.rows.threads // WARP
        distance = WARP // 2
        while distance:
            other = tuple(exchanged(b, x, distance) for x in state)
            state = tuple(b.let(x) for x in self._combined(s, state, other))
            distance //= 2
        if warps == 1:
            return state
        parts = [b.share(f"{s.name}_part", x.dtype, warps) for x in state]
        with b.when(Condition(b.thread % WARP, "<", 1)):
            for part, x in zip(parts, state, strict=True):
                b.store(part, b.thread // WARP, x)
        b.barrier()
        found = [tuple(b.load(part, warp) for part in parts) for warp in range(warps)]
        while len(found) > 1:  # halves, as lanes are combined
            half = len(found) // 2
            found = [
                tuple(b.let(x) for x in self._combined(s, *pair))
                for pair in zip(found[:half], found[half:], strict=True)
            ]
        return found[0]

    # -- results ------------------------------------------------------------------------------------

    def _results(self) -> None:
        b, results = self.b, list(enumerate(self.place.spec.results))
        per_row = [(n, r) for n, r in results if r.per_row]
        if per_row:
            with b.when(Condition(b.thread, "<", 1)):
                for number, result in per_row:
                    assert result.expr is not None
                    point = Point(self.row)
                    self.place.store(number, point, self.place.expr(result.expr, point, values=self.values))
        each = [(n, r) for n, r in results if not r.per_row]
        if not each:
            return

        def visit(point: Point) -> None:
            values = self._mapped(point)
            for number, result in each:
                assert result.expr is not None
                self.place.store(number, point, self.place.expr(result.expr, point, values=values))

        self._walk(visit)


def _seeks(s: RowStage) -> bool:
    """Whether a reduction wants the place of an extreme."""
    return s.combiner in ("argmax", "argmin")


def _kind(s: RowStage) -> str:
    assert s.combiner is not None
    return s.combiner.removeprefix("arg")
