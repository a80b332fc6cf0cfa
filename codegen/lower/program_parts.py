"""The expressions, extents and symbols of a program, and programs with other expressions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aino_ir.compute import Compute, Nest, RowProgram
from aino_ir.dims import Dim, DimLike
from aino_ir.kernels import Program
from aino_ir.loops.expr import (
    Expr,
    Index,
    Read,
)
from aino_ir.loops.expr_tree import map_expr, walk


def program_expressions(program: Program) -> list[Expr]:
    """Every expression of a program."""
    if isinstance(program, Nest):
        return []
    checked = [e for c in program.checks for e in (c.condition, c.value)]
    if isinstance(program, Compute):
        return [program.body, *(e for e in (program.finish, program.where) if e is not None), *checked]
    if isinstance(program, RowProgram):
        extra = (e for e, _, _ in program.extra)
        return [*(s.expr for s in program.stages), program.out, *extra, *checked]
    return [program.score, *checked]


def renumbered(expr: Expr, renumber: dict[int, int]) -> Expr:
    """An expression whose Reads are of other operands: new position by old one."""

    def leaf(e: Expr) -> Expr | None:
        if not isinstance(e, Read):
            return None
        index = tuple(map_expr(c, leaf) if isinstance(c, Expr) else c for c in e.index)
        default = None if e.default is None else map_expr(e.default, leaf)
        return replace(e, operand=renumber[e.operand], index=index, default=default)

    return map_expr(expr, leaf)


def renumbered_program(program: Program, renumber: dict[int, int]) -> Program:
    """A program whose Reads are of other operands; see `renumbered`."""
    return mapped_program(program, lambda e: renumbered(e, renumber))


def mapped_program(program: Program, change: Callable[[Expr], Expr]) -> Program:
    """The program with every expression changed."""

    def sub(e: Expr | None) -> Expr | None:
        return None if e is None else change(e)

    if isinstance(program, Nest):
        return program
    checks = tuple(replace(c, condition=change(c.condition), value=change(c.value)) for c in program.checks)
    if isinstance(program, Compute):
        return replace(
            program,
            body=change(program.body),
            finish=sub(program.finish),
            where=sub(program.where),
            checks=checks,
        )
    if isinstance(program, RowProgram):
        stages = tuple(replace(s, expr=change(s.expr)) for s in program.stages)
        extra = tuple((change(e), at, scalar) for e, at, scalar in program.extra)
        return replace(program, stages=stages, out=change(program.out), extra=extra, checks=checks)
    return replace(program, score=change(program.score), checks=checks)


def program_extents(program: Program) -> list[DimLike]:
    """The extents that a program itself names: of its loops, of its checks, of its scratch."""
    if isinstance(program, Nest):
        return [program.units, *(size for _, _, size in program.scratch)]
    checked = [axis.extent for check in program.checks for axis in check.axes]
    if isinstance(program, Compute):
        return [*(axis.extent for axis in (*program.axes, *program.reduce)), *checked]
    if isinstance(program, RowProgram):
        return [*(axis.extent for axis in (*program.axes, *program.row)), *checked]
    inner = (program.batch, program.heads, program.kv_heads, program.queries, program.keys)
    return [*inner, program.width, program.value_width, program.offset, *checked]


def dim_symbols(expr: Expr) -> set[str]:
    """Symbols of every Dim in a tree."""
    names: set[str] = set()
    for e in walk(expr):
        dims: list[DimLike | Expr] = []
        if isinstance(e, Index):
            dims = [e.dim]
        elif isinstance(e, Read):
            dims = list(e.index)
        for d in dims:
            if isinstance(d, Dim):
                names |= d.free_symbols()
            elif isinstance(d, Expr):
                names |= dim_symbols(d)
    return names
