"""What symbolic dimensions consist of: atoms and products of them, their text and their values.

Text is canonical: equal atoms have equal text, which also sorts them.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from aino_ir.errors.dims import DimDivisionByZero, DimTooComplex, UnknownSymbol

if TYPE_CHECKING:
    from aino_ir.dim_form import Dim, DimLike

MAX_TEXT = 10_000
"""Most characters of a floor division or minimum."""


class Atom:
    """An indivisible factor of a monomial: `SymbolAtom`, `FloorDiv` or `Min`; interned.

    Attributes:
        key: canonical ASCII sort key, equal only for the same atom.
        symbols: names of the symbols inside.
        text: canonical ASCII text of the atom.
    """

    __slots__ = ("__weakref__", "key", "symbols", "text")
    key: str
    symbols: frozenset[str]
    text: str

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.text})"


class SymbolAtom(Atom):
    """A symbol, by name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = self.text = name
        self.key = "0" + name
        self.symbols = frozenset((name,))


class FloorDiv(Atom):
    """``a // b`` rounding towards minus infinity; `b` is an int above 1 or a `Dim` that is not zero."""

    __slots__ = ("a", "b")

    def __init__(self, a: DimLike, b: DimLike) -> None:
        self.a = a
        self.b = b
        self.text = f"{_operand(a)}//{_operand(b)}"
        self.key = "1" + _bounded(self.text)
        self.symbols = _symbols(a) | _symbols(b)


class Min(Atom):
    """The least of two or more dimensions; a constant comes last."""

    __slots__ = ("args",)

    def __init__(self, args: tuple[DimLike, ...]) -> None:
        self.args = args
        self.text = f"min({', '.join(map(str, args))})"
        self.key = "2" + _bounded(self.text)
        self.symbols = frozenset().union(*map(_symbols, args))


def _symbols(dim: DimLike) -> frozenset[str]:
    return frozenset() if isinstance(dim, int) else dim.free_symbols()


def _bounded(text: str) -> str:
    if len(text) > MAX_TEXT:
        raise DimTooComplex(size=len(text), what="characters", limit=MAX_TEXT)
    return text


class Monomial:
    """A product of atoms in sorted order, interned; powers are repeated atoms."""

    __slots__ = ("__weakref__", "atoms", "dim", "is_symbol", "key", "symbols", "text")

    def __init__(self, atoms: tuple[Atom, ...]) -> None:
        self.atoms = atoms
        self.key = chr(len(atoms)) + "*".join(atom.key for atom in atoms)
        self.symbols = atoms[0].symbols if len(atoms) == 1 else frozenset().union(*(a.symbols for a in atoms))
        self.text = atoms[0].text if len(atoms) == 1 else "*".join(map(_factor, atoms))
        self.is_symbol = len(atoms) == 1 and isinstance(atoms[0], SymbolAtom)


# ---------------------------------------------------------------------------------- values


def evaluate(dim: DimLike, env: Mapping[str, int], whole: DimLike) -> int:
    """The value of `dim`, which is a part of `whole`, for concrete symbols; see `Dim.evaluate`."""
    if isinstance(dim, int):
        return dim
    total = dim.constant
    for monomial, coefficient in dim._terms:
        value = coefficient
        for atom in monomial.atoms:
            value *= _evaluate_atom(atom, env, whole)
        total += value
    return total


def _evaluate_atom(atom: Atom, env: Mapping[str, int], whole: DimLike) -> int:
    if isinstance(atom, SymbolAtom):
        try:
            return operator.index(env[atom.name])
        except KeyError:
            raise UnknownSymbol(name=atom.name, dim=whole, known=", ".join(env) or "none") from None
    if isinstance(atom, FloorDiv):
        numerator, divisor = evaluate(atom.a, env, whole), evaluate(atom.b, env, whole)
        if divisor == 0:
            raise DimDivisionByZero(numerator=atom.a, divisor=atom.b)
        return numerator // divisor
    return min(evaluate(argument, env, whole) for argument in cast(Min, atom).args)


# ---------------------------------------------------------------------------------- text


def _operand(dim: DimLike) -> str:
    """Text of an operand of a floor division."""
    text = str(dim)
    bare = dim >= 0 if isinstance(dim, int) else dim.as_symbol() is not None
    return text if bare else f"({text})"


def _factor(atom: Atom) -> str:
    return f"({atom.text})" if isinstance(atom, FloorDiv) else atom.text


def _as_maximum(monomial: Monomial) -> str | None:
    """Text of ``-min(-a, ...)`` as ``max(a, ...)``, where that reads better."""
    atom = monomial.atoms[0]
    if len(monomial.atoms) != 1 or not isinstance(atom, Min):
        return None
    if not all(coefficient < 0 for _, coefficient in cast("Dim", atom.args[0])._terms):
        return None
    return f"max({', '.join(str(-argument) for argument in atom.args)})"


def sum_text(dim: Dim) -> str:
    """The text of a sum, such as ``2*s + 1``."""
    pieces: list[str] = []
    for monomial, coefficient in dim._terms:
        maximum = _as_maximum(monomial)
        text = monomial.text if maximum is None else maximum
        sign, size = (coefficient < 0) is (maximum is None), abs(coefficient)
        if len(monomial.atoms) == 1 and (size > 1 or (sign and not pieces)) and maximum is None:
            text = _factor(monomial.atoms[0])
        if size > 1:
            text = f"{size}*{text}"
        pieces.append((" - " if sign else " + ") + text if pieces else ("-" if sign else "") + text)
    if dim.constant:
        pieces.append(f" {'-' if dim.constant < 0 else '+'} {abs(dim.constant)}")
    return "".join(pieces)
