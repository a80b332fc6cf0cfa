"""Ops that decide extents of their results: kernels that count, symbols bound, kernels that fill."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from aino_ir.codegen.lower.compose import symbol_bounds
from aino_ir.compute import Compute, Phases, Stage, coordinates
from aino_ir.dims import Dim, DimLike, free_symbols, symbol
from aino_ir.kernels import KernelSpec, Operand, Result
from aino_ir.op import Op
from aino_ir.plan import Bind, BufferKind, Require, Run, View
from aino_ir.symbols import Check, Symbols
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.codegen.lower.lowering import Lowering

Tensors = Mapping[int | str, tuple[Operand, View]]
"""What a stage may read or write: operands and temporaries, or results and temporaries."""


def emit_phases(lowering: Lowering, op: Op, phases: Phases) -> None:
    """Add the steps of an op that decides extents to the plan."""
    plan = lowering.plan
    temporaries: dict[int | str, tuple[Operand, View]] = {}
    for name, type_ in phases.temporaries:
        size = type_.layout.bound(type_.shape) * type_.dtype.bytes
        buffer = plan.new_buffer(BufferKind.ARENA, size, name=name)
        view = View(buffer.id, 0, type_.dtype, type_.shape)
        temporaries[name] = _as_operand(name, view), view
    readable = {**temporaries}
    present = [(place, value) for place, value in enumerate(op.operands) if value is not None]
    for i, (place, value) in enumerate(present):
        name = _operand_name(op, place)  # one value may be two operands
        view = lowering.storage.views[value]
        constant = value.op is not None and value.op.name == "core.constant"
        readable[i] = _as_operand(name, view, constant), view
    for number, stage in enumerate(phases.count):
        _emit_stage(lowering, op, f"count{number or ''}", stage, readable, temporaries)
    for extent, name, element in phases.extents:
        _, view = temporaries[name]
        cell = View(view.buffer, element * view.dtype.bytes, view.dtype, ())
        bind_extent(lowering, op, extent, cell)
    emit_requirements(lowering, op)
    writable = {**temporaries}
    for i, value in enumerate(op.results):
        view = lowering.storage.views[value]
        writable[i] = _as_operand("out" if i == 0 else f"out{i + 1}", view), view
    for number, stage in enumerate(phases.fill):
        _emit_stage(lowering, op, f"fill{number or ''}", stage, {**readable, **temporaries}, writable)


def _as_operand(name: str, view: View, constant: bool = False) -> Operand:
    return Operand(name, view.dtype, view.shape, view.layout, view.allocated, constant)


def _operand_name(op: Op, position: int) -> str:
    return next(k for k, (a, b) in op.segments().items() if a <= position < b)


def _emit_stage(
    lowering: Lowering, op: Op, name: str, stage: Stage, readable: Tensors, writable: Tensors
) -> None:
    """One kernel of a phase."""
    operands = tuple(readable[key][0] for key in stage.reads)
    written = [writable[key][0] for key in stage.writes]
    program = stage.program
    body, index = (program.body, coordinates(program.axes)) if isinstance(program, Compute) else (None, ())
    results = tuple(
        Result(w.name, w.dtype, w.shape, w.layout, w.allocated, False, expr=body, index=index)
        for w in written
    )
    symbols = symbol_bounds(program, operands, results, lowering.function.symbols)
    anchor = f"{op.name.rsplit('.', 1)[-1]}_{name}"
    spec = KernelSpec(
        anchor, program, operands, results, symbols, lowering.options.numerics, label=f"{op.name} ({name})"
    )
    kernel = lowering.kernel(spec, op)
    views = (*(readable[key][1] for key in stage.reads), *(writable[key][1] for key in stage.writes))
    lowering.steps.append(Run(kernel.function.name, views, loc=op.loc, nodes=op.loc.entries))


def emit_bind(lowering: Lowering, op: Op) -> None:
    """Add the steps of a `core.bind`: each element of its operand becomes the value of a symbol."""
    view = lowering.storage.views[op.result]
    symbols = lowering.function.symbols
    wanted = {symbols.declared(name).origin.element: name for name in lowering.decided.of(op)}
    assert isinstance(op.result.type, TensorType)
    for element, name in sorted(wanted.items()):
        at = _coordinates_of(element, op.result.type.shape)
        offset = view.layout.addr(view.allocated if view.allocated is not None else view.shape, at)
        cell = View(view.buffer, view.offset + offset * view.dtype.bytes, view.dtype, ())
        bind_extent(lowering, op, symbol(name), cell, f"element {element} of {op.what}")  # type: ignore[attr-defined]
    emit_requirements(lowering, op)


def _coordinates_of(element: int, shape: tuple[DimLike, ...]) -> tuple[int, ...]:
    out: list[int] = []
    for extent in reversed(shape):
        assert isinstance(extent, int)
        out.append(element % extent)
        element //= extent
    return tuple(reversed(out))


def bind_extent(lowering: Lowering, op: Op, extent: DimLike, cell: View, what: str = "") -> None:
    """Bind the symbol that stands for an extent to a cell; any other extent must be what the cell holds."""
    table = lowering.function.symbols
    name = extent.as_symbol() if isinstance(extent, Dim) else None
    if name is not None and name in lowering.decided.names:
        info = table.declared(name)
        lowering.steps.append(Bind(name, cell, info.lo, info.hi, info.divisible_by, op.loc, what))
        return
    name = bind_anew(lowering, op, cell)
    check = Check("eq", symbol(name), extent, f"{op.name}: an extent that was deduced", op.id)
    lowering.steps.append(Require(check, op.loc))


def bind_anew(lowering: Lowering, op: Op, cell: View) -> str:
    """Bind a new symbol, which only the plan has, to a cell; returns its name."""
    plan = lowering.plan
    name = f"count{len(plan.symbols)}"
    while name in lowering.function.symbols or name in plan.symbols:
        name += "_"
    plan.symbols.append(name)
    plan.decided.append(name)
    plan.symbol_bounds[name] = (0, None)
    lowering.steps.append(Bind(name, cell, 0, None, 1, op.loc))
    return name


def emit_requirements(lowering: Lowering, op: Op) -> None:
    """Test what is demanded of extents when the last of them is one that this op has decided."""
    mine = set(lowering.decided.of(op))
    for check in lowering.function.symbols.checks:
        names = free_symbols(check.lhs) | free_symbols(check.rhs)
        if names & mine and lowering.decided.known_behind(op, check.lhs, check.rhs):
            lowering.steps.append(Require(check, op.loc))


def entry_checks(symbols: Symbols, decided: Mapping[str, object]) -> list[Check]:
    """The checks that can be tested before anything runs."""
    return [c for c in symbols.checks if not (free_symbols(c.lhs) | free_symbols(c.rhs)) & decided.keys()]
