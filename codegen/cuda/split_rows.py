"""Few long rows (softmax, norms, argmax of whole tensors) by many blocks.

A row program reduces its row in passes, a pass being the reductions that need nothing of each other.  Each
pass becomes two kernels: blocks reduce a stretch of a row each, then what they found is combined in the order
of the stretches.  What has a value for each element follows as a map.  A sum of e^(x - m), where m depends on
the maximum of the same pass, needs no pass of its own: a stretch takes its own maximum, and its sum is scaled
when sums are combined; so softmax reads its row twice, as it would within a block.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from aino_ir.codegen.cuda.split_reductions import long_cut, reading_what_it_uses
from aino_ir.codegen.kernels.canonical import axes_of
from aino_ir.codegen.kernels.rows import ARG_COMBINERS, names_of
from aino_ir.compute import Axis, Check, Compute, RowProgram, RowStage, coordinates
from aino_ir.dims import DimLike, product
from aino_ir.dtypes import i64
from aino_ir.kernels import Division, KernelSpec, Operand, Part, Result
from aino_ir.loops.expr import (
    Binary,
    Call,
    Expr,
    Index,
    Read,
    Var,
    VecType,
    binary,
    call,
    compare,
    const,
    identity,
    index,
    select,
    unary,
)
from aino_ir.loops.expr_tree import map_expr, substitute_dims
from aino_ir.types import TensorType

PART = "part"
"""The axis of the stretches."""

NOWHERE = (1 << 62) - 1
"""A position behind all others."""


def split_rows(spec: KernelSpec) -> Division | None:
    """The passes of a row program and the map behind them, where rows are few and long."""
    program = spec.program
    if not isinstance(program, RowProgram) or any(a.name == PART for a in program.axes):
        return None
    reduces = [s for s in program.stages if s.kind == "reduce"]
    cut = long_cut(spec, program.axes, program.row)
    if cut is None or not reduces or any(r.per_row and r.aliases is not None for r in spec.results):
        return None
    if any(s.combiner in ARG_COMBINERS for s in reduces) and cut[0] != 0:
        return None  # positions count along all axes of the row
    return _Rows(spec, program, *cut).division()


@dataclass(frozen=True)
class _Scaled:
    """A sum of e^(x - shift), `shift` being made of maxima of the same pass."""

    maximum: str
    shift: Expr


@dataclass
class _Rows:
    """A division under construction.

    Attributes:
        cut, count, length: axis of the row that is cut, stretches, and the length of one.
        known: what stages are, in terms of operands, temporaries and reductions of the present pass.
        pending: reductions of the present pass, without maps and scalars in their expressions.
    """

    spec: KernelSpec
    program: RowProgram
    cut: int
    count: int
    length: DimLike
    known: dict[str, Expr] = field(default_factory=dict)
    pending: dict[str, RowStage] = field(default_factory=dict)
    scaled: dict[str, _Scaled] = field(default_factory=dict)
    scalars: list[RowStage] = field(default_factory=list)
    temporaries: dict[str, TensorType] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)

    def division(self) -> Division:
        """All passes, then what has a value for each element."""
        for stage in self.program.stages:
            if stage.kind == "reduce":
                self._reduce(stage)
                continue
            self.known[stage.name] = self._resolved(stage.expr)
            if stage.kind == "scalar":
                self.scalars.append(stage)
        rows = [n for n, r in enumerate(self.spec.results) if r.per_row]
        self._close(rows)
        each = [n for n, r in enumerate(self.spec.results) if not r.per_row]
        if each:
            results = [replace(self.spec.results[n], expr=self._out(n)) for n in each]
            assert results[0].expr is not None
            program = Compute((*self.program.axes, *self.program.row), results[0].expr)
            self._part("", program, results, tuple(each))
        return Division(tuple(self.temporaries.items()), tuple(self.parts))

    # -- stages

    def _resolved(self, e: Expr) -> Expr:
        """An expression without stages but reductions of the present pass."""
        return map_expr(e, lambda n: self.known.get(n.name) if isinstance(n, Var) else None)

    def _reduce(self, stage: RowStage) -> None:
        expr = self._resolved(stage.expr)
        needed = names_of(expr) & self.pending.keys()
        scaled = self._as_scaled(stage, expr, needed)
        if needed and scaled is None:
            self._close([])
            expr = self._resolved(stage.expr)
        elif scaled is not None:
            self.scaled[stage.name] = scaled
        self.pending[stage.name] = replace(stage, expr=expr)

    def _as_scaled(self, stage: RowStage, expr: Expr, needed: set[str]) -> _Scaled | None:
        exponent = expr.args[0] if isinstance(expr, Call) and expr.function == "exp" else None
        if stage.combiner != "add" or len(needed) != 1 or not isinstance(exponent, Binary):
            return None
        (maximum,) = needed
        plain = self.pending[maximum].combiner == "max"
        if not plain or exponent.op != "sub" or maximum in names_of(exponent.a):
            return None
        return _Scaled(maximum, exponent.b)

    # -- kernels

    def _close(self, rows: list[int]) -> None:
        """The kernels of the present pass; the second one computes some results of whole rows too."""
        first: tuple[Check, ...] = () if self.parts else self.program.checks
        stretch: list[RowStage] = []
        kept: dict[str, Expr] = {}
        for name, stage in self.pending.items():
            stretch.append(replace(stage, expr=self._of_stretch(stage)))
            kept[name] = Var(name, self._type(stage))
            if stage.combiner in ARG_COMBINERS:
                value = f"{name}_value"
                kind = stage.combiner.removeprefix("arg")
                stretch.append(RowStage("reduce", value, stretch[-1].expr, kind))
                kept[value] = Var(value, stage.expr.type)
                kept[name] = kept[name] + index(self._start)
        part = Axis(PART, self.count)
        axes = (*self.program.axes, part)
        found = [self._temporary(f"{name}_parts", e, axes) for name, e in kept.items()]
        row = tuple(self._within if n == self.cut else a for n, a in enumerate(self.program.row))
        self._rows("parts", RowProgram(axes, row, tuple(stretch), *_out(found), True, checks=first), found)
        stages = [s for stage in self.pending.values() for s in self._combined(stage, part)]
        stages += [replace(s, expr=self._resolved(s.expr)) for s in self.scalars]
        results = [replace(self.spec.results[n], expr=self._out(n)) for n in rows]
        whole = [self._temporary(s.name, Var(s.name, self._type(s)), self.program.axes) for s in stages]
        made = [*whole, *results]
        program = RowProgram(self.program.axes, (part,), tuple(stages), *_out(made), True)
        self._rows("rows", program, made, (*(r.name for r in whole), *rows))
        for s in stages:
            self.known[s.name] = self._read(s.name)
        self.known |= {name: self._resolved(e) for name, e in self.known.items()}
        self.pending, self.scaled, self.scalars = {}, {}, []

    def _type(self, stage: RowStage) -> VecType:
        return VecType(i64) if stage.combiner in ARG_COMBINERS else stage.expr.type

    @property
    def _within(self) -> Axis:
        return Axis(self.program.row[self.cut].name, self.length)

    @property
    def _start(self) -> DimLike:
        """Elements of the row before a stretch, where the first axis is cut."""
        inner = product(a.extent for a in self.program.row[self.cut + 1 :])
        return Axis(PART, self.count).dim * self.length * inner

    def _of_stretch(self, stage: RowStage) -> Expr:
        """What a stretch reduces: the cut axis counts from its start; neutral behind the row."""
        axis = self.program.row[self.cut]
        place = Axis(PART, self.count).dim * self.length + self._within.dim
        expr = substitute_dims(stage.expr, {axis.name: place})
        if axis.extent == self.count * self.length:
            return expr

        def guarded(e: Expr) -> Expr | None:
            if isinstance(e, Read) and e.default is None and axis.name in axes_of(e):
                return replace(e, default=const(0, e.dtype))
            return None

        assert stage.combiner is not None
        kind, dtype = stage.combiner.removeprefix("arg"), expr.dtype
        neutral = const(kind == "and" if dtype.is_bool else identity(kind, dtype), dtype)
        return select(compare("lt", Index(place), Index(axis.extent)), map_expr(expr, guarded), neutral)

    def _combined(self, stage: RowStage, part: Axis) -> list[RowStage]:
        """The stages that make a reduction of what stretches found."""
        assert stage.combiner is not None
        name, at = stage.name, coordinates((*self.program.axes, part))
        found: Expr = self._read(f"{name}_parts", at)
        if stage.combiner in ARG_COMBINERS:
            value = self._read(f"{name}_value_parts", at)
            best = Var(f"{name}_value", value.type)
            same = compare("eq", value, best)
            if value.dtype.is_float:
                same = same | (unary("isnan", value) & unary("isnan", best))
            return [
                RowStage("reduce", best.name, value, stage.combiner.removeprefix("arg")),
                RowStage("reduce", name, select(same, found, const(NOWHERE, i64)), "min"),
            ]
        if name in self.scaled:
            found = self._scaled_sum(self.scaled[name], found, at)
        return [RowStage("reduce", name, found, stage.combiner)]

    def _scaled_sum(self, how: _Scaled, found: Expr, at: tuple[DimLike, ...]) -> Expr:
        """A stretch's sum as it counts in the row; nothing where all is minus infinity, but not the row."""
        own = self._read(f"{how.maximum}_parts", at)
        whole = Var(how.maximum, own.type)
        own_shift = map_expr(how.shift, lambda e: own if isinstance(e, Var) else None)
        lowest = const(float("-inf"), own.dtype)
        empty = compare("eq", own, lowest) & compare("ne", whole, lowest)
        scale = call("exp", binary("sub", own_shift, how.shift))
        return select(empty, const(0, found.dtype), found * scale)

    # -- tensors

    def _out(self, number: int) -> Expr:
        expr = self.spec.results[number].expr
        assert expr is not None
        return self._resolved(expr)

    def _temporary(self, name: str, expr: Expr, axes: tuple[Axis, ...]) -> Result:
        shape = tuple(a.extent for a in axes)
        self.temporaries[name] = TensorType(expr.dtype, shape)
        return Result(name, expr.dtype, shape, expr=expr, index=coordinates(axes), per_row=True)

    def _read(self, name: str, at: tuple[DimLike, ...] | None = None) -> Read:
        number = len(self.spec.operands) + list(self.temporaries).index(name)
        where = coordinates(self.program.axes) if at is None else at
        return Read(number, where, VecType(self.temporaries[name].dtype))

    def _rows(
        self, kind: str, program: RowProgram, made: list[Result], writes: tuple[int | str, ...] | None = None
    ) -> None:
        self._part(f"_{kind}", program, made, tuple(r.name for r in made) if writes is None else writes)

    def _part(
        self, suffix: str, program: RowProgram | Compute, made: list[Result], writes: tuple[int | str, ...]
    ) -> None:
        own = tuple(Operand(name, t.dtype, t.shape) for name, t in self.temporaries.items())
        keys: tuple[int | str, ...] = (*range(len(self.spec.operands)), *self.temporaries)
        spec = replace(
            self.spec,
            anchor=f"{self.spec.anchor}{suffix}",
            program=program,
            operands=(*self.spec.operands, *own),
            results=tuple(made),
        )
        self.parts.append(reading_what_it_uses(spec, keys, writes))


def _out(made: list[Result]) -> tuple[Expr, tuple[DimLike, ...]]:
    """What a row program says of its first result."""
    assert made[0].expr is not None
    return made[0].expr, made[0].index
