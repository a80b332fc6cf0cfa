"""What the parts of a product with a sparse weight are."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aino_ir.codegen.kernels.canonical import axes_of, drop_unit_axes, merge_axes, slope
from aino_ir.codegen.kernels.roles import extent_or
from aino_ir.compute import Axis, Compute
from aino_ir.dims import Dim
from aino_ir.kernels import KernelSpec
from aino_ir.loops.expr import Binary, Call, Expr, Read
from aino_ir.loops.expr_tree import walk
from aino_ir.sparsity import ZeroPattern

SYMBOLIC_ROWS = 128
"""Rows that costs assume where a run decides them."""


@dataclass(frozen=True)
class SparseProduct:
    """A product with a sparse weight, taken apart.

    Attributes:
        spec: canonical.
        weight: its operand number; zeros: its pattern; axes: of outputs and inputs in it.
        x: the other factor.
        output: the axis of outputs.
        outer: axes of which each point is a product of its own.
    """

    spec: KernelSpec
    weight: int
    zeros: ZeroPattern
    axes: tuple[int, ...]
    x: Expr
    output: Axis
    outer: tuple[Axis, ...]

    @property
    def element(self) -> int:
        """Bytes of an element as it is computed with."""
        return self.spec.operands[self.weight].dtype.compute.bytes

    @property
    def times(self) -> int:
        """How many products there are, in the eyes of costs."""
        return math.prod(extent_or(a.extent, SYMBOLIC_ROWS) for a in self.outer)

    def result_slope(self, axis: Axis) -> object:
        """Elements from one result to the next along an axis; None where that is not constant."""
        result = self.spec.results[0]
        return slope(result.addr(result.index), axis.name)

    def x_slope(self, axis: Axis) -> object:
        """Elements from one point of x to the next along an axis; None where that is not constant."""
        if not isinstance(self.x, Read) or any(isinstance(c, Expr) for c in self.x.index):
            return None
        return slope(self.spec.operands[self.x.operand].addr(self.x.index), axis.name)  # type: ignore[arg-type]


@dataclass(frozen=True)
class SparseRoles(SparseProduct):
    """A product of matrices: unit axes are dropped, contiguous neighbours merged.

    Attributes:
        inner: the axis of inputs.
        row: the axis of x that rows run along, or None when there is one row.
    """

    inner: Axis
    row: Axis | None

    @property
    def rows_contiguous(self) -> bool:
        """Whether x itself has rows in order, so that vectors of rows are plain loads."""
        return self.row is not None and self.x_slope(self.row) == 1


def analyse(spec: KernelSpec) -> SparseRoles | str:
    """The roles of a product of matrices, or why a spec is none with a sparse weight."""
    reason = unfit(spec)
    if reason is not None:
        return reason
    spec = merge_axes(drop_unit_axes(spec))
    program = spec.program
    assert isinstance(program, Compute)
    if len(program.reduce) != 1:
        return f"a sum over {len(program.reduce)} axes"
    factors = factors_of(spec)
    return factors if isinstance(factors, str) else _placed(spec, program, *factors)


def unfit(spec: KernelSpec) -> str | None:
    """Why a spec is no sum of products of floats with a sparse constant, or None."""
    if not any(o.zeros is not None for o in spec.operands):
        return "no constant operand is mostly zero"
    program = spec.program
    if not isinstance(program, Compute) or program.combiner != "add" or program.where is not None:
        return "not a sum"
    if not isinstance(program.body, Binary) or program.body.op != "mul" or len(spec.results) != 1:
        return "not a sum of products"
    return None if program.body.dtype.is_float else "not a sum of floats"


def factors_of(spec: KernelSpec) -> tuple[Read, Expr] | str:
    """(the sparse weight, the other factor) of such a sum."""
    program = spec.program
    assert isinstance(program, Compute) and isinstance(program.body, Binary)
    factors = (program.body.a, program.body.b)
    found = [i for i, f in enumerate(factors) if _is_weight(spec, f)]
    if len(found) != 1:
        return "no factor is just the sparse constant"
    weight, x = factors[found[0]], factors[1 - found[0]]
    assert isinstance(weight, Read)
    if any(isinstance(node, Call) for node in walk(x)):
        return "its operand needs a math function at every use"
    return weight, x


def weight_axes(spec: KernelSpec, program: Compute, weight: Read) -> tuple[Axis, dict[str, int]] | str:
    """(the axis of outputs, axis name -> axis of the weight) where the whole weight is read plainly."""
    names = {n: a for a, c in enumerate(weight.index) if (n := _axis(c)) is not None}
    plain = all(_axis(c) is not None or c == 0 for c in weight.index if not isinstance(c, Expr))
    outputs = [a for a in program.axes if a.name in names]
    if not plain or len(outputs) != 1 or set(names) != {outputs[0].name, *(a.name for a in program.reduce)}:
        return "the weight is no plain matrix here"
    shape = spec.operands[weight.operand].shape
    if any(a.extent != shape[names[a.name]] for a in (outputs[0], *program.reduce)):
        return "it takes a part of the weight"
    return outputs[0], names


def _is_weight(spec: KernelSpec, factor: Expr) -> bool:
    return isinstance(factor, Read) and spec.operands[factor.operand].zeros is not None


def _placed(spec: KernelSpec, program: Compute, weight: Read, x: Expr) -> SparseRoles | str:
    (inner,) = program.reduce
    found = weight_axes(spec, program, weight)
    if isinstance(found, str):
        return found
    output, names = found
    if output.name in axes_of(x):
        return "the other factor varies with the outputs"
    zeros = spec.operands[weight.operand].zeros
    assert zeros is not None
    axes = (names[output.name], names[inner.name])
    rest = [a for a in program.axes if a is not output]
    row = max(reversed(rest), key=lambda a: extent_or(a.extent, SYMBOLIC_ROWS)) if rest else None
    outer = tuple(a for a in rest if a is not row)
    return SparseRoles(spec, weight.operand, zeros, axes, x, output, outer, inner, row)


def _axis(c: object) -> str | None:
    return c.as_symbol() if isinstance(c, Dim) else None
