"""Composition: one op, or a fused group of ops, as one `KernelSpec`.

Inside a group, maps are inlined by substitution: the value of an inner op at a coordinate is its
definition with operand Reads replaced by the producers' values at the mapped coordinates.  At most
one op of a group may reduce (the anchor); what stands before it becomes its prologue (inside the
body), what stands after it its epilogue (over the Accumulator).  Movements after the anchor
(transpose, reshape) only change the coordinates that results are written to.
Inner values of storage dtypes round as they would outside.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from aino_ir.codegen.lower.group import Group, StorageOf
from aino_ir.codegen.lower.inlining import Composer
from aino_ir.codegen.lower.program_parts import (
    dim_symbols,
    mapped_program,
    program_expressions,
    program_extents,
    renumbered,
    renumbered_program,
)
from aino_ir.compute import Axis, Compute, Nest, RowProgram, axes, axis_name, coordinates, reads
from aino_ir.dims import DimLike, free_symbols, symbol
from aino_ir.errors.codegen import NotComposable
from aino_ir.graph import Value
from aino_ir.kernels import Attention, KernelSpec, Operand, Program, Result
from aino_ir.loops.expr import (
    Accumulator,
    Expr,
    Read,
    Var,
    VecType,
)
from aino_ir.loops.expr_tree import walk
from aino_ir.op import Op
from aino_ir.symbols import Symbols
from aino_ir.types import TensorType

LEAST = -(1 << 62)
"""The least value of an integer symbol, where nothing else is known."""


def compose(group: Group, storage: StorageOf, symbols: Symbols, numerics: str = "default") -> Composed:
    """The spec of a group, and the graph values behind its operands.

    Args:
        group: the ops of one kernel.
        storage: where a value outside the group lives.
        symbols: the function's table, for the bounds of the symbols that occur.
    """
    composer = Composer(group)
    program = composer.program()
    results = [
        (v, None if e is None else composer.resolved(e), at, scalar)
        for v, e, at, scalar in _results(composer, program)
    ]
    program = mapped_program(program, composer.resolved)
    composer.checks = [
        replace(c, condition=composer.resolved(c.condition), value=composer.resolved(c.value))
        for c in composer.checks
    ]
    checks = tuple(composer.checks)
    if any(_needs_anchor(e) for c in checks for e in (c.condition, c.value)):
        reason = "a run-time check needs the reduction's result before it is there"
        raise NotComposable(loc=group.op.loc, op=group.op.name, reason=reason)
    if isinstance(program, (RowProgram, Attention)):
        program = replace(program, checks=checks)
    if isinstance(program, Compute):
        program = replace(program, checks=checks, finish=None)
        if not program.reduce:
            body = results[0][1]
            assert body is not None
            program = replace(program, axes=_map_axes(group, program), body=body)
    numbers = _used_operands(program, [e for _, e, _, _ in results], composer)
    renumber: dict[int, int] = {}
    for new, old in enumerate(numbers):
        renumber.setdefault(old, new)
    program = renumbered_program(program, renumber)
    operands = _operands(group, composer, numbers, storage)
    made = tuple(
        _result(v, expr if expr is None else renumbered(expr, renumber), index, per_row, storage, i)
        for i, (v, expr, index, per_row) in enumerate(results)
    )
    spec = KernelSpec(
        composer.anchor.name.rsplit(".", 1)[-1],
        program,
        operands,
        made,
        symbol_bounds(program, operands, made, symbols),
        numerics,
        label=", ".join(o.name for o in group.ops),
    )
    return Composed(spec, tuple(group.outer[n] for n in numbers))


@dataclass(frozen=True)
class Composed:
    """A spec and the values that its operands are."""

    spec: KernelSpec
    operands: tuple[Value, ...]


def _map_axes(group: Group, program: Compute) -> tuple[Axis, ...]:
    return axes("i", group.outputs[0].shape)


def _results(
    composer: Composer, program: Program
) -> list[tuple[Value, Expr | None, tuple[DimLike, ...], bool]]:
    group, anchor = composer.group, composer.anchor
    if isinstance(program, Nest):
        return [(v, None, (), False) for v in group.outputs]
    if isinstance(program, Compute) and not program.reduce:
        at = coordinates(axes("i", group.outputs[0].shape))
        return [(v, composer.value(v, at), at, False) for v in group.outputs]
    start, value, per_row = _anchor_result(program, anchor)
    composer.anchored = {anchor.results[0]: value}
    index = forward_coordinates(group, anchor.results[0], start)
    out: list[tuple[Value, Expr | None, tuple[DimLike, ...], bool]] = []
    for v in group.outputs:
        if v.op is anchor and v.index > 0:
            assert isinstance(program, RowProgram)
            expr, at, scalar = program.extra[v.index - 1]
            out.append((v, composer.operands_inlined(anchor, expr), at, scalar))
        elif v is anchor.results[0]:
            out.append((v, value, index[v], per_row))
        else:
            out.append((v, composer.value(v, index[v]), index[v], per_row))
    return out


def _anchor_result(program: Program, anchor: Op) -> tuple[tuple[DimLike, ...], Expr, bool]:
    """(coordinates of the anchor's result at the iteration point, its value there, once per row)."""
    if isinstance(program, Compute):
        return coordinates(program.axes), program.result_expr, False
    if isinstance(program, RowProgram):
        return program.out_index, program.out, program.per_row
    assert isinstance(program, Attention)
    return (
        tuple(symbol(axis_name(n)) for n in ("b", "h", "q", "d")),
        Accumulator(VecType(anchor.results[0].dtype.compute)),
        False,
    )


def forward_coordinates(
    group: Group, start: Value, at: tuple[DimLike, ...]
) -> dict[Value, tuple[DimLike, ...]]:
    """For each value computed from the anchor's: which of its elements the iteration point makes."""
    known = {start: at}
    for op in group.ops:
        source = next((v for v in op.present_operands() if v in known), None)
        if source is None or any(r in known for r in op.results):
            continue
        known[op.result] = op.forward(source, known[source])
    return known


def _used_operands(program: Program, exprs: list[Expr | None], composer: Composer) -> list[int]:
    """Group inputs that are the kernel's operands: all of a nest's op; q, k and v of an attention first."""
    if isinstance(program, Nest):
        return [composer.group.number[v] for v in composer.anchor.present_operands()]
    used: set[int] = set()
    fixed: list[int] = []
    if isinstance(program, Attention):
        fixed = [composer.group.number[v] for v in list(composer.anchor.present_operands())[:3]]
    for e in (*program_expressions(program), *(e for e in exprs if e is not None)):
        used |= {r.operand for r in reads(e)}
    return [*fixed, *sorted(used - set(fixed))]


def _needs_anchor(expr: Expr) -> bool:
    """Whether an expression reads the anchor's result (an accumulator, a stage of its rows)."""
    for e in walk(expr):
        if isinstance(e, (Accumulator, Var)):
            return True
        if isinstance(e, Read) and any(_needs_anchor(c) for c in e.index if isinstance(c, Expr)):
            return True
    return False


def _operands(
    group: Group, composer: Composer, numbers: list[int], storage: StorageOf
) -> tuple[Operand, ...]:
    names = _operand_names(group)
    out: list[Operand] = []
    for n in numbers:
        v = group.outer[n]
        if any(o.name == names[n] for o in out):  # the same value twice (q is k): each needs a name
            names[n] = f"{names[n]}_again"
        where = storage(v)
        assert isinstance(v.type, TensorType)
        out.append(
            Operand(
                names[n],
                v.type.dtype,
                v.type.shape,
                where.layout,
                where.allocated,
                where.constant,
                where.zeros,
                where.short,
            )
        )
    return tuple(out)


def _operand_names(group: Group) -> list[str]:
    """A C identifier for each group input: the operand name of its first reader, made unique."""
    wanted: list[str] = []
    for v in group.inputs:
        reader = next((o for o in group.ops if v in o.operands), group.op)
        position = reader.operands.index(v) if v in reader.operands else 0
        name = next((k for k, (a, b) in reader.segments().items() if a <= position < b), "x")
        wanted.append(name)
    out: list[str] = []
    for name in wanted:
        unique, n = name, 2
        while unique in out:
            unique, n = f"{name}{n}", n + 1
        out.append(unique)
    return out


def _result(
    v: Value, expr: Expr | None, index: tuple[DimLike, ...], per_row: bool, storage: StorageOf, number: int
) -> Result:
    where = storage(v)
    assert isinstance(v.type, TensorType)
    name = "out" if number == 0 else f"out{number + 1}"
    return Result(
        name,
        v.type.dtype,
        v.type.shape,
        where.layout,
        where.allocated,
        False,
        expr=expr,
        index=index,
        per_row=per_row,
    )


def symbol_bounds(
    program: Program, operands: tuple[Operand, ...], results: tuple[Result, ...], symbols: Symbols
) -> tuple[tuple[str, int, int | None], ...]:
    """(name, lo, hi) of every symbol that a kernel's extents and expressions mention."""
    names: set[str] = set()
    for o in (*operands, *results):
        for d in (*o.shape, *(o.allocated or ())):
            names |= free_symbols(d)
    for d in program_extents(program):
        names |= free_symbols(d)
    for e in (*program_expressions(program), *(r.expr for r in results if r.expr is not None)):
        names |= {n for n in dim_symbols(e) if n in symbols}
    out = []
    for name in sorted(names):
        lo, hi = symbols.interval(symbol(name))
        out.append((name, LEAST if lo is None else lo, hi))
    return tuple(out)
