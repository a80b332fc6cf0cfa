"""The base of elementwise ops: broadcast like numpy, one scalar expression beside `evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from aino_ir.compute import Compute, axes, coordinates, read_broadcast
from aino_ir.dims import DimLike
from aino_ir.dtypes import DType, boolean
from aino_ir.infer import InferContext
from aino_ir.loops.expr import Arg, Expr, VecType
from aino_ir.loops.expr_tree import map_expr
from aino_ir.op import Op, Trait
from aino_ir.types import TensorType, Type

if TYPE_CHECKING:
    from aino_ir.graph import Value


class Elementwise(Op):
    """out[i] = expr(operands[i]), operands broadcast numpy-wise.

    Subclasses give `expr` (and `evaluate`, written independently of it), and override `dtypes` or
    `result_dtype` where the default (all operands and the result of one numeric dtype) is wrong.
    """

    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.ELEMENTWISE})
    accepts: ClassVar[str] = "number"  # a key of ACCEPTS
    derive_samples: ClassVar[bool] = True
    """Whether operands all have one dtype of `accepts`, so that samples can be derived."""
    sample_attrs: ClassVar[tuple[dict[str, Any], ...]] = ({},)
    """Attributes to sample: the derived operands are used with each of them."""

    def expr(self, *args: Any, **named: Any) -> Expr:
        """The scalar expression over operands in their compute dtypes."""
        raise TypeError(f"{self.name} declares no expr")

    def result_dtype(self, ic: InferContext) -> DType:
        """Element dtype of the result, checking the operands' dtypes."""
        dtype = ic.same_dtype(*self.present_operands())
        if not ACCEPTS[self.accepts](dtype):
            ic.bad_dtype("dtype of operand 0", f"{self.accepts}", dtype)
        return dtype

    def infer(self, ic: InferContext) -> list[Type]:
        dtype = self.result_dtype(ic)
        shapes = [ic.tensor(v, f"operand {i}").shape for i, v in enumerate(self.present_operands())]
        return [TensorType(dtype, ic.result_shape(ic.broadcast(*shapes)))]

    def define(self) -> Compute:
        space = axes("i", self.result.shape)
        at = coordinates(space)
        args = [read_broadcast(v, i, at) for i, v in enumerate(self.present_operands())]
        return Compute(space, self.expr(*args), checks=self.checks(at))

    def checks(self, at: tuple[DimLike, ...]) -> tuple[Any, ...]:
        """Run-time conditions (integer division)."""
        return ()

    def scalar(self) -> Expr:
        """The expression over Arg(0), Arg(1), ...: what fusion composes."""
        return self.expr(*[Arg(i, VecType(v.dtype.compute)) for i, v in enumerate(self.present_operands())])

    def forward(self, source: Value, at: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """The same element: the anchor's value must have the result's shape."""
        if source.shape != self.result.shape:
            raise TypeError(f"{self.name}: the anchor's value is broadcast here")
        return at

    def cost(self) -> DimLike:
        """One operation per result element."""
        return self.result.type.size  # type: ignore[union-attr]


class Comparison(Elementwise):
    """An elementwise op whose result is bool."""

    accepts = "any"

    def result_dtype(self, ic: InferContext) -> DType:
        super().result_dtype(ic)
        return boolean


ACCEPTS: dict[str, Any] = {
    "number": lambda d: d.is_float or d.is_integer,
    "float": lambda d: d.is_float,
    "integer": lambda d: d.is_integer,
    "bool": lambda d: d.is_bool,
    "integer_or_bool": lambda d: d.is_integer or d.is_bool,
    "any": lambda d: d.is_float or d.is_integer or d.is_bool,
}
"""Dtype families that `Elementwise.accepts` names."""


def substitute_args(expr: Expr, args: list[Expr]) -> Expr:
    """A `scalar()` expression over given operand expressions."""
    return map_expr(expr, lambda e: args[e.index] if isinstance(e, Arg) else None)
