"""What `Op.define` returns: an op as index notation, before any schedule.

`Compute` is a dense map with an optional reduction; `RowProgram` is a chain of row reductions and
row maps over shared axes (softmax, norms); `Nest` is for what has no pull form (scatter, sort), and
`Phases` for what decides extents of its results (nonzero, unique).
Expressions are those of `aino_ir.loops.expr` with `Read(operand, index)` leaves; coordinates are
Dims over the axes' names (`Axis.dim`), or i64 expressions for data-dependent indices.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from aino_ir.dims import DimLike, is_static, symbol
from aino_ir.dtypes import DType
from aino_ir.loops.expr import Accumulator, Expr, Read, VecType
from aino_ir.loops.expr_tree import map_expr, substitute_dims, walk
from aino_ir.loops.stmt import Status
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.graph import Value


def axis_name(text: str) -> str:
    """The name of an axis: it ends with a dot, which no symbol of a model may."""
    return text if text.endswith(".") else f"{text}."


@dataclass(frozen=True)
class Axis:
    """An iteration axis 0 <= name < extent; its name gets a dot at the end (see `axis_name`)."""

    name: str
    extent: DimLike

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", axis_name(self.name))

    @property
    def dim(self) -> DimLike:
        """The axis as a coordinate."""
        return symbol(self.name)


@dataclass(frozen=True)
class Check:
    """A run-time condition over Reads that must hold at every point of the axes; else `status`.

    `axes` is the iteration space of the check alone (usually much smaller than the op's).
    """

    axes: tuple[Axis, ...]
    condition: Expr
    status: Status
    value: Expr


@dataclass(frozen=True)
class Compute:
    """result[axes] = finish(combine over `reduce` of body).

    Attributes:
        axes: one per result axis, in order.
        body: scalar expression over Read/Index, in a compute dtype.
        reduce: reduction axes (empty: a map).
        combiner: one of loops.expr.COMBINERS when there are reduction axes.
        finish: expression over Accumulator() and Reads at `axes`; None = the accumulator itself.
        where: for a reduction, points where it is false are skipped (bool expression), or None.
        checks: run-time conditions (index ranges, zero divisors).
    """

    axes: tuple[Axis, ...]
    body: Expr
    reduce: tuple[Axis, ...] = ()
    combiner: str | None = None
    finish: Expr | None = None
    where: Expr | None = None
    checks: tuple[Check, ...] = ()

    @property
    def result_expr(self) -> Expr:
        """The finish expression, spelled out."""
        return (
            self.finish
            if self.finish is not None
            else (self.body if not self.reduce else Accumulator(self.body.type))
        )


@dataclass(frozen=True)
class RowStage:
    """One step of a RowProgram: a row reduction, a per-element map, or a per-row scalar.

    `expr` reads operands with Read, earlier stages with Var(name).  A map's value exists per
    element of the row, a reduction's and a scalar's once per row.  `combiner` may also be
    "argmax"/"argmin" (the i64 position of the first extreme; NaN counts as extreme).
    """

    kind: str  # "reduce" | "map" | "scalar"
    name: str
    expr: Expr
    combiner: str | None = None


@dataclass(frozen=True)
class RowProgram:
    """Rows of `row` axes for every point of `axes`; stages in order; `out` per element or per row.

    Attributes:
        axes: outer axes; row: the axes reduced over (several are walked in order, last fastest).
        stages: see RowStage.
        out: expression over Reads and stage Vars.
        out_index: result coordinates over axes + row names (per element), or over axes (per row).
        per_row: whether `out` has one value per row.
        extra: further results (expr, coordinates, per_row), for ops with several results.
        checks: run-time conditions of what was composed into the program.
    """

    axes: tuple[Axis, ...]
    row: tuple[Axis, ...]
    stages: tuple[RowStage, ...]
    out: Expr
    out_index: tuple[DimLike, ...]
    per_row: bool = False
    extra: tuple[tuple[Expr, tuple[DimLike, ...], bool], ...] = ()
    checks: tuple[Check, ...] = ()


class TensorRef:
    """A tensor as a Nest sees it: loads and stores by logical coordinates (made by codegen).

    Attributes:
        type: the tensor's type; load/store convert to and from the compute dtype.
    """

    type: TensorType

    def load(self, index: tuple[DimLike, ...], lanes: int = 1) -> Expr:
        """The element (or `lanes` consecutive ones along the last axis), pinned."""
        raise TypeError("abstract")

    def store(self, index: tuple[DimLike, ...], value: Expr) -> None:
        """Write an element (or value.lanes consecutive ones)."""
        raise TypeError("abstract")


NestBuild = Callable[[Any, "tuple[TensorRef, ...]", "tuple[TensorRef, ...]", DimLike], None]
"""Emits a kernel's body: builder, inputs, outputs, unit."""


@dataclass(frozen=True)
class InPlace:
    """The loops of a nest whose only result lies where an operand is, and holds its elements at first.

    Attributes:
        operand: number of the operand, of the result's type.  No other one shares its memory.
        build: as in `Nest`; it may read the operand's elements through the result.
    """

    operand: int
    build: NestBuild = field(repr=False, compare=False)


@dataclass(frozen=True)
class RunningCombination:
    """A nest whose result is, at each place along `axis`, all that came so far, combined.

    `exclusive` leaves the place itself out; with `reverse` the scan starts at the end.
    """

    axis: int
    combiner: str
    exclusive: bool = False
    reverse: bool = False


@dataclass(frozen=True)
class BestOfLines:
    """A nest whose results are the best `count` elements of each line along `axis`, in order, and their
    positions.

    `largest`: the greatest are the best; NaN is greater than every number.  Of equal ones the first is
    better.
    """

    axis: int
    count: DimLike
    largest: bool


@dataclass(frozen=True)
class OrderedUpdates:
    """A nest whose result is operand 0 with the updates of operand 2 combined into it, in row-major order.

    Each row of updates goes to one place, a coordinate in the leading axes of the result; the axes of the
    updates behind those of rows and the axes of the result behind the place are the same.  Of a place some
    coordinates are indices out of operand 1, negative ones counted from the end, those outside an error; the
    others are the row's own coordinates along the same axes.

    Attributes:
        reduction: a combiner, or "none": the last update stays.
        rows: extents of the axes that number rows.
        chosen: axes of the place whose coordinate is an index.
        depth: axes of a place.
        indices: (operand 1, row) -> the indices of a row, one for each of `chosen`.
    """

    reduction: str
    rows: tuple[DimLike, ...]
    chosen: tuple[int, ...]
    depth: int
    indices: Callable[[TensorRef, tuple[DimLike, ...]], tuple[Expr, ...]] = field(repr=False, compare=False)


Meaning = RunningCombination | BestOfLines | OrderedUpdates


@dataclass(frozen=True)
class Nest:
    """Loops written by hand: `build(builder, inputs, outputs, unit)` emits the kernel's body.

    `inputs` are the op's present operands in order.  `units` is the extent of the parallel loop; `build`
    gets the unit index as a Dim.  Several `threads` do a unit together, on GPUs only.  `meaning` says what
    the loops amount to, where that has a name, for generators that do it in another way.
    """

    build: NestBuild = field(repr=False, compare=False)
    units: DimLike = 1
    can_fail: bool = False
    scratch: tuple[tuple[str, DType, DimLike], ...] = ()
    key: str = ""
    """Text that tells this nest from others of the same op class (attributes, shapes)."""
    in_place: InPlace | None = field(default=None, repr=False, compare=False)
    """How it works over an operand, where it can."""
    threads: int = 1
    meaning: Meaning | None = None

    def over_operand(self) -> Nest:
        """The nest that writes over its operand; `in_place` is there."""
        assert self.in_place is not None
        key = f"{self.key} over {self.in_place.operand}"
        return replace(self, build=self.in_place.build, key=key, in_place=None)


@dataclass(frozen=True)
class Stage:
    """One kernel of a `Phases`: loops over tensors that are named by their place or by name.

    Attributes:
        program: a `Nest`, or a `Compute` without reduction that gives the only tensor written.
        reads: operands of the op by position among the present ones, temporaries by name.
        writes: temporaries by name, results of the op by position.
    """

    program: Nest | Compute
    reads: tuple[int | str, ...]
    writes: tuple[int | str, ...]


@dataclass(frozen=True)
class Phases:
    """An op that decides extents of its own results: some kernels find them, others then fill the results.

    Attributes:
        temporaries: tensors that the kernels share, by name.
        count: kernels that run before the extents are known; they write temporaries only.
        extents: (extent, temporary, element): where the count leaves the value of each extent (i64).
        fill: kernels that run when the extents are known, so that every size and address is exact.
    """

    temporaries: tuple[tuple[str, TensorType], ...]
    count: tuple[Stage, ...]
    extents: tuple[tuple[DimLike, str, int], ...]
    fill: tuple[Stage, ...]


def axes(prefix: str, extents: Iterable[DimLike]) -> tuple[Axis, ...]:
    """Axes named prefix0., prefix1., ..."""
    return tuple(Axis(f"{prefix}{i}", e) for i, e in enumerate(extents))


def coordinates(of: Iterable[Axis]) -> tuple[DimLike, ...]:
    """The axes as coordinates."""
    return tuple(a.dim for a in of)


def read(value: Value, operand: int, index: Iterable[DimLike | Expr], default: Expr | None = None) -> Read:
    """operand[index] in the compute dtype of the value.

    `operand` is the position of `value` among the op's *present* operands.
    """
    return Read(operand, tuple(index), VecType(value.dtype.compute), default)


def broadcast_index(shape: tuple[DimLike, ...], at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
    """Coordinates in a tensor of `shape` broadcast to the iteration point `at`."""
    tail = at[len(at) - len(shape) :]
    return tuple(0 if is_static(extent) and extent == 1 else c for extent, c in zip(shape, tail, strict=True))


def read_broadcast(value: Value, operand: int, at: tuple[DimLike, ...]) -> Read:
    """The operand broadcast numpy-wise to the point `at`."""
    return read(value, operand, broadcast_index(value.shape, at))


def place(expr: Expr, mapping: dict[int, Callable[[Read], Expr]]) -> Expr:
    """Replace the Reads of some operands by what the functions give (composition of groups)."""

    def leaf(e: Expr) -> Expr | None:
        if isinstance(e, Read) and e.operand in mapping:
            return mapping[e.operand](e)
        return None

    return map_expr(expr, leaf)


def rename_axes(compute: Compute, names: dict[str, DimLike]) -> Compute:
    """Substitute coordinates throughout (the axes tuple itself is kept)."""
    return replace(
        compute,
        body=substitute_dims(compute.body, names),
        finish=None if compute.finish is None else substitute_dims(compute.finish, names),
        where=None if compute.where is None else substitute_dims(compute.where, names),
    )


def reads(expr: Expr) -> list[Read]:
    """Every Read in a tree, those inside coordinates and defaults included."""
    out: list[Read] = []
    for e in walk(expr):
        if isinstance(e, Read):
            out.append(e)
            for part in e.index:
                if isinstance(part, Expr):
                    out.extend(reads(part))
    return out
