"""Sums of products taken apart into rows, columns and terms: GEMM, convolution, einsum.

Axes that move only the first factor are the rows, those of the second the columns, those of both (or
neither) are a stack; a convolution is the product that its index arithmetic makes of it, borders included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from aino_ir.codegen.kernels.canonical import axes_of, drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim, DimLike, free_symbols, product
from aino_ir.kernels import KernelSpec, Operand
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Binary, Const, Expr, Read
from aino_ir.types import Layout

LEAST = 16
"""Rows, columns and terms that a tile wants; below that a thread for each element does as well."""

SYMBOLIC_EXTENT = 128


@dataclass(frozen=True)
class Product:
    """A sum of products, taken apart.

    Attributes:
        spec: canonical.
        factors: what is multiplied.
        stack, rows, columns: axes of the result.
        terms: axes of the sum.
    """

    spec: KernelSpec
    factors: tuple[Expr, Expr]
    stack: tuple[Axis, ...]
    rows: tuple[Axis, ...]
    columns: tuple[Axis, ...]
    terms: tuple[Axis, ...]

    def extent(self, axes: tuple[Axis, ...]) -> DimLike:
        """Elements of some axes together."""
        return product(a.extent for a in axes)

    def coordinates(self, b: LoopBuilder, axes: tuple[Axis, ...], flat: DimLike) -> dict[str, DimLike]:
        """A flat number of some axes as coordinates."""
        if not axes:
            return {}
        extents = {a.name: a.extent for a in axes}
        return dict(zip(extents, b.split(flat, extents), strict=True))


def analyse(spec: KernelSpec) -> Product | str:
    """A spec as rows times columns, or why it is no such thing."""
    program = spec.program
    if not isinstance(program, Compute) or program.combiner != "add" or program.where is not None:
        return "not a plain sum"
    if not isinstance(program.body, Binary) or program.body.op != "mul" or program.body.dtype.is_bool:
        return "not a sum of products"
    spec = merge_axes(drop_unit_axes(spec))
    program = spec.program
    assert isinstance(program, Compute) and isinstance(program.body, Binary)
    factors = (program.body.a, program.body.b)
    moves = [axes_of(f) for f in factors]
    rows = tuple(a for a in program.axes if a.name in moves[0] and a.name not in moves[1])
    columns = tuple(a for a in program.axes if a.name in moves[1] and a.name not in moves[0])
    stack = tuple(a for a in program.axes if a not in rows and a not in columns)
    if min(extent_of(rows), extent_of(columns), extent_of(program.reduce)) < LEAST:
        return f"fewer than {LEAST} rows, columns or terms"
    if any(a.name not in moves[0] & moves[1] for a in program.reduce):
        return "a term that does not move both factors"
    return Product(spec, factors, stack, rows, columns, program.reduce)


def extent_of(axes: Sequence[Axis]) -> int:
    """Elements of some axes together, a guess where they are not known."""
    return math.prod(extent_or(a.extent, SYMBOLIC_EXTENT) for a in axes)


@dataclass(frozen=True)
class Run:
    """Neighbours along an axis of a factor.

    Attributes:
        step: elements from one to the next; None where that is not constant or the factor is no plain read.
        extent: of the axis.
        whole: whether those that lie side by side are all inside of the operand or all outside, where they
            count as zeros.
    """

    step: DimLike | None
    extent: DimLike
    whole: bool


def run_along(spec: KernelSpec, factor: Expr, axes: Sequence[Axis]) -> Run:
    """Neighbours along the innermost of some axes."""
    inner, outer = axes[-1], axes[:-1]
    if not isinstance(factor, Read) or any(isinstance(c, Expr) for c in factor.index):
        return Run(None, inner.extent, False)
    operand = spec.operands[factor.operand]
    address = operand.addr(factor.index)  # type: ignore[arg-type]
    if any(slope(address, a.name) is None for a in outer):
        return Run(None, inner.extent, False)
    return Run(slope(address, inner.name), inner.extent, _is_whole(factor, operand, inner))


def _is_whole(factor: Read, operand: Operand, axis: Axis) -> bool:
    if factor.default is None:
        return True
    follows = all(
        c is axis.dim and operand.shape[n] == axis.extent
        for n, c in enumerate(factor.index)
        if isinstance(c, Dim) and axis.name in c.free_symbols()
    )
    return follows and isinstance(factor.default, Const) and factor.default.value == 0


def innermost_last(of: Product) -> Product:
    """The terms in the order that suits the factors: last an axis along which most are contiguous."""

    def suits(axis: Axis) -> int:
        return sum(
            run_along(of.spec, f, (axis,)).step == 1 or terms_last(of, f) is not None for f in of.factors
        )

    best = max(reversed(of.terms), key=suits)
    return replace(of, terms=(*(a for a in of.terms if a is not best), best))


def terms_last(of: Product, factor: Expr) -> Layout | None:
    """The layout in which the terms of a factor are contiguous, where it is a plain read of a constant."""
    if not isinstance(factor, Read) or not of.spec.operands[factor.operand].constant:
        return None
    if factor.default is not None or any(isinstance(c, Expr) for c in factor.index):
        return None
    rank = {a.name: n for n, a in enumerate(of.terms, 1)}

    def place(axis: int) -> tuple[int, int]:
        moving = free_symbols(factor.index[axis])  # type: ignore[arg-type]
        return max((rank.get(name, 0) for name in moving), default=0), axis

    return Layout(tuple((axis, None) for axis in sorted(range(len(factor.index)), key=place)))
