"""A slow evaluator of what `Op.define` returns: the oracle of route A.

`Compute` and `RowProgram` are evaluated at all points with numpy index grids, reductions combined in
row-major order one element after the other in the compute dtype.  A `Nest` is built and run by the
loop interpreter.  Reads outside an operand without a default, and result elements that are never
written, are faults of the definition and raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.compute import Axis, Check, Compute, Nest, Phases, RowProgram, RowStage, Stage, TensorRef
from aino_ir.constants import round_array
from aino_ir.dims import Dim, DimLike, product
from aino_ir.dims import fold as fold_dim
from aino_ir.dtypes import DType
from aino_ir.errors.ir import BadDefinition, IntegerDivisionByZero, OutOfRangeIndex
from aino_ir.interp import load_array
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr import Accumulator, Expr, Index, Read, Var, VecType, binary, identity
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.stmt import Access, Status
from aino_ir.op import Op
from aino_ir.types import TensorType

Array = np.ndarray[Any, Any]

POINTS_AT_ONCE = 1 << 20
"""Points of a reduction that are evaluated in one go."""


def evaluate_op_definition(
    op: Op, arrays: Sequence[Any], bindings: Mapping[str, int] | None = None
) -> tuple[Array, ...]:
    """The results of an op by its definition, as stored arrays; `arrays` has None for absent operands."""
    types = [v.type for v in op.results]
    operands = [v.type for v in op.present_operands()]
    present = [a for a in arrays if a is not None]
    return evaluate_definition(op.define(), present, operands, types, bindings, name=op.name)  # type: ignore[arg-type]


def evaluate_definition(
    definition: Compute | RowProgram | Nest | Phases,
    arrays: Sequence[Array],
    operand_types: Sequence[TensorType],
    result_types: Sequence[TensorType],
    bindings: Mapping[str, int] | None = None,
    name: str = "definition",
) -> tuple[Array, ...]:
    """The results of a definition.

    Args:
        definition: what `Op.define` returned.
        arrays: the present operands, in their storage dtypes.
        operand_types: their types.
        result_types: types of the results, in order.
        bindings: values of symbols in extents.
        name: for messages.

    Returns:
        One array per result in its storage dtype.

    Raises:
        OutOfRangeIndex, IntegerDivisionByZero: a run-time check failed.
        BadDefinition: the definition reads outside an operand or leaves results unwritten.
    """
    environment = dict(bindings or {})
    if isinstance(definition, Phases):
        return _run_phases(definition, arrays, operand_types, result_types, environment, name)
    if isinstance(definition, Nest):
        return _run_nest(definition, arrays, operand_types, result_types, environment, name)
    loaded = [load_array(a, t.dtype, "native") for a, t in zip(arrays, operand_types, strict=True)]
    with np.errstate(all="ignore"):
        if isinstance(definition, Compute):
            for check in definition.checks:
                _run_check(check, loaded, environment, name)
            computed: tuple[Array, ...] = (_compute(definition, loaded, environment, name),)
        else:
            computed = _row_program(definition, loaded, result_types, environment, name)
    return tuple(round_array(a, t.dtype) for a, t in zip(computed, result_types, strict=True))


class _Grid:
    """Points of some axes, and what expressions are there.

    Attributes:
        shape: extents of the axes (the shape of a full array of values).
        points: symbol -> its value, an array that broadcasts to the shape.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        points: Mapping[str, Any],
        arrays: Sequence[Array],
        name: str,
        values: dict[str, Array] | None = None,
        total: Array | None = None,
    ) -> None:
        self.shape = shape
        self.points = points
        self.arrays = arrays
        self.name = name
        self.values = values or {}
        self.total = total
        self.active: Array | None = None

    def value(self, expr: Expr) -> Array:
        """An expression at all points, broadcastable to the grid's shape."""
        return evaluate(expr, leaf=self._leaf)

    def full(self, expr: Expr) -> Array:
        """An expression at all points, spelled out."""
        return np.broadcast_to(self.value(expr), self.shape)

    def dim(self, dim: DimLike) -> Any:
        """A dimension at all points."""
        return fold_dim(
            dim,
            const=np.int64,
            symbol=lambda name: self.points[name],
            add=np.add,
            mul=np.multiply,
            floordiv=np.floor_divide,
            minimum=np.minimum,
        )

    def _leaf(self, e: Expr) -> Array | None:
        match e:
            case Read():
                return self._read(e)
            case Index(dim=dim):
                return np.asarray(self.dim(dim), np.int64)
            case Accumulator():
                return self.total
            case Var(name=name):
                return self.values.get(name)
        return None

    def _read(self, read: Read) -> Array:
        source = self.arrays[read.operand]
        inside: Any = True
        place = []
        for part, extent in zip(read.index, source.shape, strict=True):
            at = np.asarray(self.value(part) if isinstance(part, Expr) else self.dim(part))
            legal = (at >= 0) & (at < extent)
            inside = inside & legal
            place.append(np.where(legal, at, 0))
        if np.all(inside):
            return np.asarray(source[tuple(place)])
        if read.default is None:
            seen = ~np.asarray(inside) if self.active is None else ~np.asarray(inside) & self.active
            if np.any(seen):
                raise BadDefinition(
                    op=self.name, problem=f"reads operand {read.operand} outside its bounds: {read}"
                )
        fallback = np.zeros((), source.dtype) if read.default is None else self.value(read.default)
        picked = source[tuple(place)] if source.size else fallback
        return np.where(inside, picked, fallback)


def _extents(axes: Sequence[Axis], environment: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(a.extent.evaluate(environment) if isinstance(a.extent, Dim) else int(a.extent) for a in axes)


def _mesh(axes: Sequence[Axis], extents: Sequence[int], before: int = 0) -> dict[str, Array]:
    """Coordinates of the axes as arrays that broadcast together, after `before` leading axes."""
    rank = len(axes)
    shape = [tuple(-1 if i == j else 1 for j in range(rank)) for i in range(rank)]
    return {
        a.name: np.arange(e).reshape((1,) * before + s) for a, e, s in zip(axes, extents, shape, strict=True)
    }


def _run_check(check: Check, arrays: Sequence[Array], environment: Mapping[str, int], name: str) -> None:
    extents = _extents(check.axes, environment)
    grid = _Grid(extents, {**environment, **_mesh(check.axes, extents)}, arrays, name)
    holds = grid.full(check.condition)
    if np.all(holds):
        return
    value = int(grid.full(check.value)[~holds].reshape(-1)[0])
    if check.status is Status.DIVISION_BY_ZERO:
        raise IntegerDivisionByZero(op=name)
    if check.status is Status.INDEX_OUT_OF_RANGE:
        raise OutOfRangeIndex(op=name, index=value, extent="its axis")
    raise BadDefinition(op=name, problem=f"fails with {check.status.name}, value {value}")


def _compute(compute: Compute, arrays: Sequence[Array], environment: Mapping[str, int], name: str) -> Array:
    extents = _extents(compute.axes, environment)
    grid = _Grid(extents, {**environment, **_mesh(compute.axes, extents)}, arrays, name)
    if not compute.reduce:
        return grid.full(compute.body)
    grid.total = _reduction(compute, extents, arrays, environment, name)
    return grid.full(compute.result_expr)


def _reduction(
    compute: Compute,
    extents: tuple[int, ...],
    arrays: Sequence[Array],
    environment: Mapping[str, int],
    name: str,
) -> Array:
    """The combined value at every point of the axes, before `finish`."""
    assert compute.combiner is not None
    inner = _extents(compute.reduce, environment)
    length = int(np.prod(inner, dtype=np.int64))
    mesh = _mesh(compute.axes, extents, before=1)
    total = np.full(extents, identity(compute.combiner, compute.body.dtype), compute.body.dtype.numpy)
    combine = _combine(compute.combiner, compute.body.dtype)
    step = max(1, POINTS_AT_ONCE // max(1, total.size))
    for start in range(0, length, step):
        flat = np.arange(start, min(start + step, length))
        column = (-1,) + (1,) * len(extents)
        at = {
            a.name: i.reshape(column)
            for a, i in zip(compute.reduce, np.unravel_index(flat, inner), strict=True)
        }
        grid = _Grid((flat.size, *extents), {**environment, **mesh, **at}, arrays, name)
        if compute.where is not None:
            grid.active = grid.full(compute.where)
        values = grid.full(compute.body)
        for k in range(flat.size):
            combined = combine(total, values[k])
            total = combined if grid.active is None else np.where(grid.active[k], combined, total)
    return total


def _combine(combiner: str, dtype: DType) -> Callable[[Array, Array], Array]:
    kind = VecType(dtype)
    node = binary(combiner, Var("a", kind), Var("b", kind))
    return lambda a, b: evaluate(node, {"a": a, "b": b})


def _row_program(
    program: RowProgram,
    arrays: Sequence[Array],
    types: Sequence[TensorType],
    environment: dict[str, int],
    name: str,
) -> tuple[Array, ...]:
    every = (*program.axes, *program.row)
    extents = _extents(every, environment)
    outer = len(program.axes)
    grid = _Grid(extents, {**environment, **_mesh(every, extents)}, arrays, name)
    per_row = _Grid((*extents[:outer], *(1 for _ in program.row)), {}, arrays, name)
    per_row.points, per_row.values = grid.points, grid.values
    for stage in program.stages:
        if stage.kind == "reduce":
            grid.values[stage.name] = _row_reduction(stage, grid.full(stage.expr), outer)
        else:
            grid.values[stage.name] = (grid if stage.kind == "map" else per_row).full(stage.expr)
    outputs = ((program.out, program.out_index, program.per_row), *program.extra)
    results = []
    for (expr, index, once), type in zip(outputs, types, strict=True):
        shape = _shape(type, environment)
        results.append(_scatter(per_row if once else grid, expr, index, shape, name))
    return tuple(results)


def _row_reduction(stage: RowStage, values: Array, outer: int) -> Array:
    """One value per row, row axes kept with extent 1."""
    assert stage.combiner is not None
    kept = values.shape[:outer] + (1,) * (values.ndim - outer)
    length = int(np.prod(values.shape[outer:], dtype=np.int64))
    rows = values.reshape(*values.shape[:outer], length)
    if stage.combiner in ("argmax", "argmin"):
        return np.reshape(_first_extreme(rows, stage.combiner), kept)
    combine = _combine(stage.combiner, stage.expr.dtype)
    total = np.full(rows.shape[:-1], identity(stage.combiner, stage.expr.dtype), rows.dtype)
    for k in range(rows.shape[-1]):
        total = combine(total, rows[..., k])
    return np.reshape(total, kept)


def _first_extreme(rows: Array, combiner: str) -> Array:
    """Positions of the first largest (smallest) element, NaN being extreme."""
    best = rows[..., 0]
    position = np.zeros(rows.shape[:-1], np.int64)
    for k in range(1, rows.shape[-1]):
        candidate = rows[..., k]
        better = candidate > best if combiner == "argmax" else candidate < best
        better = (better | (candidate != candidate)) & ~(best != best)
        best, position = np.where(better, candidate, best), np.where(better, k, position)
    return position


def _scatter(grid: _Grid, expr: Expr, index: Sequence[DimLike], shape: tuple[int, ...], name: str) -> Array:
    values = grid.full(expr)
    result = np.zeros(shape, values.dtype)
    written = np.zeros(shape, bool)
    place = tuple(np.broadcast_to(grid.dim(d), grid.shape).reshape(-1) for d in index)
    flat = values.reshape(-1)
    result[place], written[place] = (flat if index else flat[0]), True
    if not written.all():
        raise BadDefinition(op=name, problem=f"leaves {int((~written).sum())} result elements unwritten")
    return result


def _shape(type: TensorType, environment: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(d.evaluate(environment) if isinstance(d, Dim) else int(d) for d in type.shape)


# ---------------------------------------------------------------------------------- nests


class _Tensor(TensorRef):
    """A row-major parameter of a kernel under construction."""

    def __init__(self, builder: LoopBuilder, buffer: str, type: TensorType) -> None:
        self.builder = builder
        self.buffer = buffer
        self.type = type

    def load(self, index: tuple[DimLike, ...], lanes: int = 1) -> Expr:
        return self.builder.load(self.buffer, self.type.layout.addr(self.type.shape, index), lanes)

    def store(self, index: tuple[DimLike, ...], value: Expr) -> None:
        self.builder.store(self.buffer, self.type.layout.addr(self.type.shape, index), value)


def _run_phases(
    phases: Phases,
    arrays: Sequence[Array],
    operand_types: Sequence[TensorType],
    result_types: Sequence[TensorType],
    environment: dict[str, int],
    name: str,
) -> tuple[Array, ...]:
    """Stage by stage; extents are bound between the count and the fill."""
    types: dict[int | str, TensorType] = {**dict(enumerate(operand_types)), **dict(phases.temporaries)}
    found: dict[int | str, Array] = dict(enumerate(arrays))
    for stage in phases.count:
        found.update(_run_stage(stage, found, types, types, environment, name))
    for extent, cell, element in phases.extents:
        value = int(found[cell].reshape(-1)[element])
        symbol = extent.as_symbol() if isinstance(extent, Dim) else None
        if symbol is None or environment.setdefault(symbol, value) != value:
            expected = extent.evaluate(environment) if isinstance(extent, Dim) else extent
            if expected != value:
                raise BadDefinition(op=name, problem=f"an extent is {value}, but its type says {extent}")
    results: dict[int | str, Array] = {}
    written: dict[int | str, TensorType] = {**dict(phases.temporaries), **dict(enumerate(result_types))}
    for stage in phases.fill:
        for key, array in _run_stage(stage, found, types, written, environment, name).items():
            (found if isinstance(key, str) else results)[key] = array
    return tuple(results[i] for i in range(len(result_types)))


def _run_stage(
    stage: Stage,
    found: Mapping[int | str, Array],
    types: Mapping[int | str, TensorType],
    written: Mapping[int | str, TensorType],
    environment: Mapping[str, int],
    name: str,
) -> dict[int | str, Array]:
    arrays, operands = [found[key] for key in stage.reads], [types[key] for key in stage.reads]
    results = [written[key] for key in stage.writes]
    if isinstance(stage.program, Compute):
        made = evaluate_definition(stage.program, arrays, operands, results, environment, name)
    else:
        before = [found.get(key) if isinstance(key, str) else None for key in stage.writes]
        made = _run_nest(stage.program, arrays, operands, results, environment, name, before)
    return dict(zip(stage.writes, made, strict=True))


def _run_nest(
    nest: Nest,
    arrays: Sequence[Array],
    operand_types: Sequence[TensorType],
    result_types: Sequence[TensorType],
    environment: Mapping[str, int],
    name: str,
    before: Sequence[Array | None] = (),
) -> tuple[Array, ...]:
    """Results of a nest; `before` is what it finds in them, where that matters."""
    results = [np.zeros(_shape(t, environment), t.dtype.numpy) for t in result_types]
    for result, contents in zip(results, before, strict=False):
        if contents is not None:
            result[...] = contents
    units = nest.units.evaluate(environment) if isinstance(nest.units, Dim) else nest.units
    if units == 0:
        return tuple(results)
    builder = LoopBuilder("nest")
    for symbol, value in environment.items():
        builder.symbol(symbol, value, value)
    inputs = [_parameter(builder, f"x{i}", t, Access.READ) for i, t in enumerate(operand_types)]
    outputs = [_parameter(builder, f"y{i}", t, Access.READ_WRITE) for i, t in enumerate(result_types)]
    for scratch, dtype, size in nest.scratch:
        builder.alloc(scratch, dtype, size)
    with builder.units(nest.units) as unit:
        nest.build(builder, tuple(inputs), tuple(outputs), unit)
    views = [np.ascontiguousarray(a).reshape(-1) for a in arrays] + [r.reshape(-1) for r in results]
    outcome = run_kernel(builder.finish(), views, environment)
    if outcome.status is Status.INDEX_OUT_OF_RANGE:
        raise OutOfRangeIndex(op=name, index=outcome.value, extent="its axis")
    if outcome.status is not Status.OK:
        raise BadDefinition(op=name, problem=f"fails with {outcome.status.name}, value {outcome.value}")
    return tuple(results)


def _parameter(builder: LoopBuilder, name: str, type: TensorType, access: Access) -> _Tensor:
    return _Tensor(builder, builder.param(name, type.dtype, product(type.shape), access), type)
