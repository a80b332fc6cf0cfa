"""Row programs with a block for each row: softmax, norms, argmax over long rows.

Every thread takes each `THREADS`-th element of the row.  A reduction is one pass of all threads over the
row, then a tree over their partial results in shared memory.  Maps are computed again where they are read,
so that nothing but results is written to memory.
"""

from __future__ import annotations

from collections.abc import Iterable

from aino_ir.codegen.kernels.access import Placement, Point
from aino_ir.codegen.kernels.emit import emit_checks
from aino_ir.codegen.kernels.naming import header, kernel_name
from aino_ir.compute import RowProgram, RowStage
from aino_ir.dims import DimLike, is_static, product
from aino_ir.dtypes import i64
from aino_ir.kernels import Candidate, KernelSpec, Reject
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import Expr, VecType, binary, compare, const, identity, index, select, unary
from aino_ir.loops.registers import Reg
from aino_ir.loops.stmt import LoopFn
from aino_ir.target import Target

THREADS = 128
"""Threads of a block; a power of two."""

SHORT = 64
"""Rows of fewer elements are left to one thread each."""


class BlockRowGenerator:
    """Kernels of `RowProgram`s over long rows."""

    name = "block rows"

    def candidates(self, spec: KernelSpec, target: Target) -> Iterable[Candidate | Reject]:
        """One candidate for rows that are long enough, or whose length is not known."""
        program = spec.program
        if not isinstance(program, RowProgram):
            yield Reject(self.name, "not a row program")
            return
        length = product(a.extent for a in program.row)
        if is_static(length) and int(length) < SHORT:  # type: ignore[arg-type]
            yield Reject(self.name, f"rows of {length} elements")
            return
        yield Candidate(self.name, f"a block of {THREADS} threads a row", cost=1e-6)

    def build(self, spec: KernelSpec, candidate: Candidate, target: Target) -> LoopFn:
        """The loops."""
        b = LoopBuilder(kernel_name(spec))
        place = Placement(b, spec)
        emit_checks(place)
        _BlockRows(b, place).emit()
        return b.finish(header(spec, candidate))


class _BlockRows:
    def __init__(self, b: LoopBuilder, place: Placement) -> None:
        self.b = b
        self.place = place
        program = place.spec.program
        assert isinstance(program, RowProgram)
        self.program = program
        self.length = product(a.extent for a in program.row)
        self.values: dict[str, Expr] = {}
        self.maps: list[RowStage] = []
        self._parts: dict[str, str] = {}
        self._places = ""

    def emit(self) -> None:
        """Stage after stage, then the results."""
        b, program = self.b, self.program
        reduces = [s for s in program.stages if s.kind == "reduce"]
        for dtype in dict.fromkeys(s.expr.dtype for s in reduces):
            self._parts[dtype.name] = b.share(f"part_{dtype}", dtype, THREADS)
        if any(s.combiner in ("argmax", "argmin") for s in reduces):
            self._places = b.share("place_of_part", i64, THREADS)
        with b.units(product(a.extent for a in program.axes), THREADS) as unit:
            extents = {a.name: a.extent for a in program.axes}
            row = dict(zip(extents, b.split(unit, extents), strict=True)) if extents else {}
            for stage in program.stages:
                if stage.kind == "scalar":
                    self.values[stage.name] = self.place.expr(stage.expr, Point(row), values=self.values)
                elif stage.kind == "map":
                    self.maps.append(stage)
                elif stage.combiner in ("argmax", "argmin"):
                    self.values[stage.name] = self._position(stage, row)
                else:
                    self.values[stage.name] = self._reduced(stage, row)
            self._results(row)

    # -- elements -----------------------------------------------------------------------------------

    def _at(self, row: dict[str, DimLike], position: DimLike) -> Point:
        extents = {a.name: a.extent for a in self.program.row}
        here = dict(zip(extents, self.b.split(position, extents), strict=True)) if extents else {}
        return Point({**row, **here})

    def _element(self, e: Expr, point: Point) -> Expr:
        """An expression at an element, with the maps so far."""
        values = dict(self.values)
        for stage in self.maps:
            values[stage.name] = self.place.expr(stage.expr, point, values=values)
        return self.place.expr(e, point, values=values)

    # -- reductions ---------------------------------------------------------------------------------

    def _reduced(self, stage: RowStage, row: dict[str, DimLike]) -> Expr:
        """A reduction of the row, known to all threads."""
        b, dtype, combiner = self.b, stage.expr.dtype, stage.combiner
        assert combiner is not None
        total = b.reg(stage.name, VecType(dtype), identity(combiner, dtype))
        with b.loop("position", b.thread, self.length, step=THREADS) as position:
            value = self._element(stage.expr, self._at(row, position))
            b.set(total, binary(combiner, total.read(), value))
        parts = self._parts[dtype.name]
        b.store(parts, b.thread, total.read())
        b.barrier()
        for half in _halves():
            with b.when(Condition(b.thread, "<", half)):
                other = b.load(parts, b.thread + half)
                b.store(parts, b.thread, binary(combiner, b.load(parts, b.thread), other))
            b.barrier()
        result = b.let(b.load(parts, 0))
        b.barrier()
        return result

    def _position(self, stage: RowStage, row: dict[str, DimLike]) -> Expr:
        """The first position of the row's extreme, NaN being one; 0 of rows that hold nothing better."""
        b, dtype = self.b, stage.expr.dtype
        kind = "max" if stage.combiner == "argmax" else "min"
        best = b.reg("best", VecType(dtype), identity(kind, dtype))
        place = b.reg("place", VecType(i64), const((1 << 62) - 1, "i64"))
        with b.loop("position", b.thread, self.length, step=THREADS) as position:
            value = b.let(self._element(stage.expr, self._at(row, position)))
            self._keep(kind, (best, place), value, index(position))
        values, places = self._parts[dtype.name], self._places
        b.store(values, b.thread, best.read())
        b.store(places, b.thread, place.read())
        b.barrier()
        for half in _halves():
            with b.when(Condition(b.thread, "<", half)):
                self._keep(
                    kind, (best, place), b.load(values, b.thread + half), b.load(places, b.thread + half)
                )
                b.store(values, b.thread, best.read())
                b.store(places, b.thread, place.read())
            b.barrier()
        result = b.let(b.load(places, 0))
        b.barrier()
        return result

    def _keep(self, kind: str, kept: tuple[Reg, Reg], value: Expr, position: Expr) -> None:
        """Keep the better of two, the earlier of equal ones."""
        b, (best, place) = self.b, kept
        old, old_place = b.let(best.read()), b.let(place.read())
        better = compare("gt" if kind == "max" else "lt", value, old)
        equal = compare("eq", value, old)
        if value.dtype.is_float:
            is_nan, was_nan = unary("isnan", value), b.let(unary("isnan", old))
            better = (better | (is_nan & ~was_nan)) & ~was_nan
            equal = equal | (is_nan & was_nan)
        wins = b.let(better | (equal & compare("lt", position, old_place)))
        b.set(best, select(wins, value, old))
        b.set(place, select(wins, position, old_place))

    # -- results ------------------------------------------------------------------------------------

    def _results(self, row: dict[str, DimLike]) -> None:
        b, results = self.b, list(enumerate(self.place.spec.results))
        per_row = [(n, r) for n, r in results if r.per_row]
        if per_row:
            with b.when(Condition(b.thread, "<", 1)):
                for number, result in per_row:
                    assert result.expr is not None
                    point = Point(row)
                    self.place.store(number, point, self.place.expr(result.expr, point, values=self.values))
        each = [(n, r) for n, r in results if not r.per_row]
        if each:
            with b.loop("position", b.thread, self.length, step=THREADS) as position:
                point = self._at(row, position)
                for number, result in each:
                    assert result.expr is not None
                    self.place.store(number, point, self._element(result.expr, point))


def _halves() -> Iterable[int]:
    half = THREADS // 2
    while half:
        yield half
        half //= 2
