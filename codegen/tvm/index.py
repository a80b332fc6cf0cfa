"""Dims as TVMScript index expressions: TVM's ``//`` and ``%`` round down on integers, as a Dim's do."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from aino_ir.codegen.cstyle.index import remainders
from aino_ir.codegen.tvm.text import ADDITIVE, PREFIX, Text, binary, call, prefix
from aino_ir.dims import Atom, Dim, DimLike, FloorDiv, Min, SymbolAtom, free_symbols

LARGEST = 1 << 31


def needs_int64(*dims: DimLike) -> bool:
    """Whether arithmetic on 32 bits may not do for Dims: they have symbols, or are large."""
    return any(bool(free_symbols(d)) or abs(int(d)) >= LARGEST for d in dims)  # type: ignore[arg-type]


class IndexText:
    """Prints Dims.

    Args:
        name: gives the text of a symbol.
        constant: gives the text of a number that stands alone.
    """

    def __init__(self, name: Callable[[str], Text], constant: Callable[[int], Text]) -> None:
        self.name = name
        self.constant = constant

    def text(self, dim: DimLike) -> Text:
        """`dim` as an expression."""
        if isinstance(dim, int):
            return self.constant(dim)
        rest, mods = remainders(dim)
        parts = [(k, self.divided("%", a, b)) for k, a, b in mods]
        constant = rest
        if isinstance(rest, Dim):
            constant = rest.constant
            parts = [
                (k, reduce(lambda a, b: binary("*", a, b), map(self._atom, atoms)))
                for k, atoms in rest.terms()
            ] + parts
        assert isinstance(constant, int)
        if not parts:
            return self.constant(constant)
        parts.sort(key=lambda part: (part[0] < 0, -abs(part[0])))
        leads = constant > 0 and parts[0][0] < 0  # 11 - j, not -j + 11
        total = Text(str(constant)) if leads else None
        for coefficient, value in parts:
            total = _added(total, coefficient, value)
        assert total is not None
        if constant == 0 or leads:
            return total
        return binary("-" if constant < 0 else "+", total, Text(str(abs(constant))))

    def divided(self, operator: str, a: DimLike, b: DimLike) -> Text:
        """``a // b`` or ``a % b``."""
        return binary(operator, self.text(a), self._operand(b))

    def _operand(self, dim: DimLike) -> Text:
        return Text(str(dim)) if isinstance(dim, int) and dim >= 0 else self.text(dim)

    def _atom(self, atom: Atom) -> Text:
        if isinstance(atom, SymbolAtom):
            return self.name(atom.name)
        if isinstance(atom, FloorDiv):
            return self.divided("//", atom.a, atom.b)
        assert isinstance(atom, Min)
        return reduce(lambda a, b: call("T.min", a, b), map(self.text, atom.args))


def _added(total: Text | None, coefficient: int, value: Text) -> Text:
    size = abs(coefficient)
    scaled = value if size == 1 else binary("*", Text(value.at(PREFIX)), Text(str(size)))
    if total is None:
        return prefix("-", scaled) if coefficient < 0 else scaled
    return Text(f"{total.at(ADDITIVE)} {'-' if coefficient < 0 else '+'} {scaled.at(ADDITIVE + 1)}", ADDITIVE)


__all__ = ["IndexText", "needs_int64"]
