"""Quotients and remainders of kernels with symbols: each is computed once, outside of the loops.

TVM writes a quotient by a number that it does not know as several of its operands, and its simplifier looks
at each of them anew; a variable (not a `T.let`, which it would put back) holds what depends on the symbols
alone, or on them and the unit.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.text import PythonNames, Text, binary, call, variable_lines
from aino_ir.dims import DimLike, free_symbols
from aino_ir.loops.stmt import UNIT


class SharedQuotients:
    """The quotients of one kernel.

    Attributes:
        before, inside: lines that compute them, in front of the loop over units and at its start.

    Args:
        symbols: the kernel's.
        names: where variables get their names.
        ranges: what is known of the symbols and of the unit.
    """

    def __init__(self, symbols: Collection[str], names: PythonNames, ranges: Ranges) -> None:
        self.symbols = frozenset(symbols)
        self.names = names
        self.ranges = ranges
        self.before: list[str] = []
        self.inside: list[str] = []
        self._known: dict[tuple[str, DimLike, DimLike], Text] = {}

    def shared(self, operator: str, a: DimLike, b: DimLike, text: Callable[[DimLike], Text]) -> Text | None:
        """The variable of ``a // b`` or ``a % b``, if that may be computed early; `text` prints Dims."""
        used = free_symbols(a) | free_symbols(b)
        if not self.symbols or not used <= self.symbols | {UNIT}:
            return None
        key = operator, a, b
        if key not in self._known:
            value = divided(operator, a, b, self.ranges, text)
            name = self.names.fresh("quotient" if operator == "//" else "remainder")
            lines = self.inside if UNIT in used else self.before
            lines += variable_lines(name, "int64", value)
            self._known[key] = Text(name)
        return self._known[key]


def divided(operator: str, a: DimLike, b: DimLike, ranges: Ranges, text: Callable[[DimLike], Text]) -> Text:
    """``a // b`` or ``a % b``: as the machine divides where no operand can be negative.

    A divisor that may be zero where nothing is done with the quotient is taken for one.
    """
    divisor = text(b) if ranges.is_positive(b) else _not_zero(text(b))
    if ranges.is_natural(a) and ranges.is_natural(b):
        return call("T.truncdiv" if operator == "//" else "T.truncmod", text(a), divisor)
    return binary(operator, text(a), divisor)


def _not_zero(divisor: Text) -> Text:
    """The divisor, which may be negative, or one in the place of zero."""
    zero, one = Text("T.int64(0)"), Text("T.int64(1)")
    return call("T.Select", call("T.EQ", divisor, zero), one, divisor)


class SharingIndexText(IndexText):
    """Prints Dims whose quotients may be shared."""

    def __init__(
        self, name: Callable[[str], Text], constant: Callable[[int], Text], quotients: SharedQuotients
    ) -> None:
        super().__init__(name, constant)
        self.quotients = quotients

    def divided(self, operator: str, a: DimLike, b: DimLike) -> Text:
        """The variable, if there is one."""
        found = self.quotients.shared(operator, a, b, self.text)
        return found if found is not None else super().divided(operator, a, b)
