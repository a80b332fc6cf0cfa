"""Numbers that torch computes from extents (`x.shape[0] / 2`, `math.sqrt(n)`) as 0-d values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import f64
from aino_ir.errors.torch import SymbolUnsupported
from aino_ir.frontends.torch.expressions import NoDim, Table, dim_of
from aino_ir.graph import Value


def scalar_value(
    b: Builder, expression: Any, table: Table, floats: Mapping[str, Value] = MappingProxyType({})
) -> Any:
    """A float or truth value over symbols: a plain number where it is known, else an f64 or bool value.

    Args:
        b: builds at the end of a block.
        expression: of torch's.
        table: what integer symbols stand for.
        floats: what symbols of floats stand for: 0-d f64 values.
    """
    if getattr(expression, "is_number", False):
        return float(expression)
    if str(expression) in ("True", "False"):
        return str(expression) == "True"
    return _Scalars(b, table, floats).value(expression)


class _Scalars:
    """Builds the ops of an expression, innermost first."""

    def __init__(self, b: Builder, table: Table, floats: Mapping[str, Value]) -> None:
        self.b = b
        self.table = table
        self.floats = floats

    def value(self, expression: Any) -> Value:
        """A 0-d value: f64, or bool of a relation."""
        if expression.is_number:
            return self.b.constant(np.float64(expression))
        if str(expression) in self.floats:
            return self.floats[str(expression)]
        try:
            return self._extent(dim_of(expression, self.table))
        except NoDim:
            name = type(expression).__name__
        rule = _RULES.get(name)
        if rule is None:
            raise SymbolUnsupported(what="a number", got=expression)
        return rule(self, [self.value(argument) for argument in expression.args])

    def _extent(self, dim: DimLike) -> Value:
        if is_static(dim):
            return self.b.constant(np.float64(int(dim)))  # type: ignore[arg-type]
        flat = self.b.reshape(self.b.dims_vector([dim]), shape=())
        return self.b.cast(flat, to=f64)  # type: ignore[no-any-return]


def _chain(op: str) -> Callable[[_Scalars, list[Value]], Value]:
    def apply(scalars: _Scalars, parts: list[Value]) -> Value:
        first, *rest = parts
        for part in rest:
            first = getattr(scalars.b, op)(first, part)
        return first

    return apply


def _same(scalars: _Scalars, parts: list[Value]) -> Value:
    return parts[0]


def _unary(op: str) -> Callable[[_Scalars, list[Value]], Value]:
    return lambda scalars, parts: getattr(scalars.b, op)(parts[0])


_RULES: dict[str, Callable[[_Scalars, list[Value]], Value]] = {
    "Add": _chain("add"),
    "CeilToInt": _unary("ceil"),
    "Equality": _chain("eq"),
    "FloatPow": _chain("pow"),
    "FloatTrueDiv": _chain("div"),
    "FloorToInt": _unary("floor"),
    "GreaterThan": _chain("ge"),
    "IntTrueDiv": _chain("div"),
    "LessThan": _chain("le"),
    "Max": _chain("max"),
    "Min": _chain("min"),
    "Mul": _chain("mul"),
    "OpaqueUnaryFn_exp": _unary("exp"),
    "OpaqueUnaryFn_log": _unary("log"),
    "OpaqueUnaryFn_log2": _unary("log2"),
    "OpaqueUnaryFn_sqrt": _unary("sqrt"),
    "Pow": _chain("pow"),
    "StrictGreaterThan": _chain("gt"),
    "StrictLessThan": _chain("lt"),
    "ToFloat": _same,
    "TruncToInt": _unary("trunc"),
    "Unequality": _chain("ne"),
}
