"""Sums of products taken apart into rows, columns and terms: GEMM, convolution, einsum.

Axes that move only the first factor are the rows, those of the second the columns, those of both (or
neither) are a stack; a convolution is the product that its index arithmetic makes of it, borders included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from aino_ir.codegen.kernels.canonical import axes_of, drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.compute import Axis, Compute
from aino_ir.dims import DimLike, product
from aino_ir.kernels import KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Binary, Expr, Read

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


def inner_slope(of: Product, side: int, axes: Sequence[Axis]) -> DimLike | None:
    """Elements from one step of the innermost axis to the next in a factor that is a plain read."""
    factor = of.factors[side]
    if not isinstance(factor, Read) or any(isinstance(c, Expr) for c in factor.index):
        return None
    address = of.spec.operands[factor.operand].addr(factor.index)  # type: ignore[arg-type]
    inner, outer = axes[-1], axes[:-1]
    if any(slope(address, a.name) is None for a in outer):
        return None
    return slope(address, inner.name)
