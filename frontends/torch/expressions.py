"""torch's symbolic integers, which are sympy expressions, as Dims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch

from aino_ir.dims import DimLike, ceildiv, dmax, dmin, floordiv

Table = Mapping[str, DimLike]
"""What torch's symbols, by name, stand for."""


class NoDim(Exception):
    """An expression that is no Dim; the caller names the place."""


def expression_of(number: Any) -> Any:
    """The sympy expression of a SymInt, SymFloat or SymBool."""
    return number.node.expr


def to_dim(number: int | torch.SymInt, table: Table) -> DimLike:
    """An extent of torch's as an int or a Dim.

    Raises:
        NoDim: the expression has symbols or functions that Dims do not have.
    """
    if isinstance(number, int):
        return int(number)
    return dim_of(expression_of(number), table)


def dim_of(expression: Any, table: Table) -> DimLike:
    """A sympy expression over integers as an int or a Dim; NoDim when it is none."""
    if expression.is_Integer:
        return int(expression)
    if expression.is_Symbol:
        found = table.get(expression.name)
        if found is None:
            raise NoDim(str(expression))
        return found
    rule = _RULES.get(type(expression).__name__)
    if rule is None:
        raise NoDim(str(expression))
    return rule(expression, table)


def _parts(expression: Any, table: Table) -> list[DimLike]:
    return [dim_of(argument, table) for argument in expression.args]


def _fold(function: Callable[[Any, Any], DimLike]) -> Callable[[Any, Table], DimLike]:
    def apply(expression: Any, table: Table) -> DimLike:
        first, *rest = _parts(expression, table)
        for part in rest:
            first = function(first, part)
        return first

    return apply


def _power(expression: Any, table: Table) -> DimLike:
    base, exponent = expression.args
    if not exponent.is_Integer or exponent < 0:
        raise NoDim(str(expression))
    out: DimLike = 1
    for _ in range(int(exponent)):
        out = out * dim_of(base, table)
    return out


def _rounded(divide: Callable[[Any, Any], DimLike]) -> Callable[[Any, Table], DimLike]:
    """A quotient of integers that is rounded to one."""

    def apply(expression: Any, table: Table) -> DimLike:
        (inner,) = expression.args
        if type(inner).__name__ in ("IntTrueDiv", "FloatTrueDiv"):
            numerator, denominator = inner.args
            return divide(dim_of(_integral(numerator), table), dim_of(_integral(denominator), table))
        return dim_of(_integral(inner), table)

    return apply


def _integral(expression: Any) -> Any:
    """The integer inside a conversion to float."""
    while type(expression).__name__ == "ToFloat":
        (expression,) = expression.args
    return expression


def _modular(expression: Any, table: Table) -> DimLike:
    base, divisor, modulus = _parts(expression, table)
    return floordiv(base, divisor) % modulus


_RULES: dict[str, Callable[[Any, Table], DimLike]] = {
    "Add": _fold(lambda a, b: a + b),
    "CeilToInt": _rounded(ceildiv),
    "CleanDiv": _fold(floordiv),
    "FloorDiv": _fold(floordiv),
    "FloorToInt": _rounded(floordiv),
    "Identity": _fold(lambda a, b: a),
    "Max": _fold(dmax),
    "Min": _fold(dmin),
    "Mod": _fold(lambda a, b: a % b),
    "ModularIndexing": _modular,
    "Mul": _fold(lambda a, b: a * b),
    "Pow": _power,
    "PowByNatural": _power,
    "PythonMod": _fold(lambda a, b: a % b),
    "TruncToInt": _rounded(floordiv),
}


def linear_root(expression: Any) -> tuple[sympy.Symbol, int, int] | None:
    """(symbol, a, b) when the expression is ``a * symbol + b`` with a > 0, else None."""
    symbols = sorted(expression.free_symbols, key=str)
    if len(symbols) != 1:
        return None
    (root,) = symbols
    offset = expression.subs(root, 0)
    factor = sympy.expand(expression - offset).coeff(root)
    if factor.is_Integer and factor > 0 and offset.is_Integer:
        if sympy.expand(factor * root + offset - expression) == 0:
            return root, int(factor), int(offset)
    return None
