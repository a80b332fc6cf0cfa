"""Dims as C index expressions, with the interval analysis that tells when ``/`` and ``%`` are enough.

C's division truncates and a Dim's rounds down; they agree where numerator and divisor are known not
to be negative.  Elsewhere a helper is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import reduce

from aino_ir.codegen.cstyle.literals import integer
from aino_ir.codegen.cstyle.names import Names
from aino_ir.codegen.cstyle.text import Code, binary, call, prefix
from aino_ir.dims import Atom, Dim, DimLike, FloorDiv, Min, SymbolAtom, floordiv, split_mods

Interval = tuple["int | None", "int | None"]
"""The least and the greatest value, both included; None where there is no bound."""

UNKNOWN: Interval = (None, None)


@dataclass
class Ranges:
    """What is known of the symbols in scope, by name."""

    known: dict[str, Interval] = field(default_factory=dict)

    def of(self, dim: DimLike) -> Interval:
        """An interval that holds every value of `dim`."""
        if isinstance(dim, int):
            return dim, dim
        rest, mods = remainders(dim)
        total: Interval = (rest, rest) if isinstance(rest, int) else (rest.constant, rest.constant)
        if isinstance(rest, Dim):
            for coefficient, atoms in rest.terms():
                product: Interval = (coefficient, coefficient)
                for atom in atoms:
                    product = _multiply(product, self._of_atom(atom))
                total = _add(total, product)
        for coefficient, _, divisor in mods:
            high = self.of(divisor)[1]
            remainder: Interval = (0, None if high is None else high - 1)
            total = _add(total, _multiply((coefficient, coefficient), remainder))
        return total

    def is_natural(self, dim: DimLike) -> bool:
        """Whether `dim` is known not to be negative."""
        low = self.of(dim)[0]
        return low is not None and low >= 0

    def is_positive(self, dim: DimLike) -> bool:
        """Whether `dim` is known to be at least 1."""
        low = self.of(dim)[0]
        return low is not None and low >= 1

    def _of_atom(self, atom: Atom) -> Interval:
        if isinstance(atom, SymbolAtom):
            return self.known.get(atom.name, UNKNOWN)
        if isinstance(atom, Min):
            parts = [self.of(arg) for arg in atom.args]
            highs = [high for _, high in parts if high is not None]
            lows = [low for low, _ in parts if low is not None]
            return min(lows) if len(lows) == len(parts) else None, min(highs, default=None)
        if isinstance(atom, FloorDiv):
            return self._of_quotient(atom)
        return UNKNOWN

    def _of_quotient(self, atom: FloorDiv) -> Interval:
        (low, high), (divisor_low, divisor_high) = self.of(atom.a), self.of(atom.b)
        if divisor_low is None or divisor_low < 1:
            return UNKNOWN
        if low is not None:
            by = divisor_low if low < 0 else divisor_high
            low = 0 if by is None else low // by
        if high is not None:
            by = divisor_low if high >= 0 else divisor_high
            high = -1 if by is None else high // by
        return low, high


def _add(a: Interval, b: Interval) -> Interval:
    low = None if a[0] is None or b[0] is None else a[0] + b[0]
    high = None if a[1] is None or b[1] is None else a[1] + b[1]
    return low, high


def _multiply(a: Interval, b: Interval) -> Interval:
    if (0, 0) in (a, b):
        return 0, 0
    if None not in a and None not in b:
        products = [x * y for x in a for y in b if x is not None and y is not None]
        return min(products), max(products)
    if a[0] is not None and b[0] is not None and a[0] >= 0 and b[0] >= 0:
        return a[0] * b[0], None
    if a[1] is not None and a[1] <= 0 and b[0] is not None and b[0] >= 0:
        return None, a[1] * b[0]
    if b[1] is not None and b[1] <= 0 and a[0] is not None and a[0] >= 0:
        return None, b[1] * a[0]
    return UNKNOWN


class IndexPrinter:
    """Prints Dims over the names and ranges of one function; `helper` gives the name of a helper."""

    def __init__(self, names: Names, ranges: Ranges, helper: Callable[[str], str]) -> None:
        self.names = names
        self.ranges = ranges
        self.helper = helper

    def code(self, dim: DimLike) -> Code:
        """`dim` as an ``int64_t`` expression."""
        if isinstance(dim, int):
            return integer(dim)
        rest, mods = remainders(dim)
        parts = [(k, self._modulo(a, b)) for k, a, b in mods]
        constant = rest
        if isinstance(rest, Dim):
            constant = rest.constant
            parts = [self._term(coefficient, atoms) for coefficient, atoms in rest.terms()] + parts
        parts.sort(key=lambda part: (part[0] < 0, -abs(part[0])))
        assert isinstance(constant, int)
        if not parts:
            return integer(constant)
        leads = constant > 0 and parts[0][0] < 0  # 11 - j, not -j + 11
        total = integer(constant) if leads else None
        for coefficient, value in parts:
            total = _accumulate(total, coefficient, value)
        assert total is not None
        if constant == 0 or leads:
            return total
        return binary("-" if constant < 0 else "+", total, integer(abs(constant)))

    def _term(self, coefficient: int, atoms: tuple[Atom, ...]) -> tuple[int, Code]:
        first = atoms[0]
        if len(atoms) == 1 and isinstance(first, Min) and _reads_as_maximum(coefficient, first):
            return -coefficient, self._fold("max", [-arg for arg in first.args])
        return coefficient, reduce(lambda a, b: binary("*", a, b), map(self._atom, atoms))

    def _atom(self, atom: Atom) -> Code:
        if isinstance(atom, SymbolAtom):
            return Code(self.names[atom.name])
        if isinstance(atom, FloorDiv):
            return self._divide("/", "floordiv", atom.a, atom.b)
        assert isinstance(atom, Min)
        return self._fold("min", list(atom.args))

    def _modulo(self, a: DimLike, b: DimLike) -> Code:
        return self._divide("%", "floormod", a, b)

    def _divide(self, operator: str, helper: str, a: DimLike, b: DimLike) -> Code:
        if self.ranges.is_natural(a) and self.ranges.is_positive(b):
            return binary(operator, self.code(a), self.code(b))
        return call(self.helper(helper), self.code(a), self.code(b))

    def _fold(self, helper: str, args: list[DimLike]) -> Code:
        return reduce(lambda a, b: call(self.helper(helper), a, b), map(self.code, args))


def remainders(dim: DimLike) -> tuple[DimLike, list[tuple[int, DimLike, DimLike]]]:
    """`dim` as ``rest + sum(k * (a % b))``, also where a is a quotient: (x//m) % n = x//m - n*(x//(m*n))."""
    rest, mods = split_mods(dim)
    if not isinstance(rest, Dim):
        return rest, mods
    quotients = [
        (coefficient, atoms[0])
        for coefficient, atoms in rest.terms()
        if len(atoms) == 1 and isinstance(atoms[0], FloorDiv) and isinstance(atoms[0].b, int)
    ]
    for k, inner in quotients:
        for other, outer in quotients:
            assert isinstance(inner, FloorDiv) and isinstance(outer, FloorDiv)
            assert isinstance(inner.b, int) and isinstance(outer.b, int)
            ratio = outer.b // inner.b
            if outer.a is inner.a and ratio > 1 and outer.b % inner.b == 0 and other == -k * ratio:
                value = floordiv(inner.a, inner.b)
                rest = rest - value * k - floordiv(outer.a, outer.b) * other
                return rest, [*mods, (k, value, ratio)]
    return rest, mods


def _reads_as_maximum(coefficient: int, atom: Min) -> bool:
    """Whether -max(a, b) reads better for min(-a, -b), and max(i - j, 0) for -min(j - i, 0)."""
    if all(_has_sign(arg, -1) for arg in atom.args):
        return True
    return coefficient < 0 and not all(_has_sign(arg, 1) for arg in atom.args)


def _has_sign(dim: DimLike, sign: int) -> bool:
    """Whether every coefficient has the sign; a constant also may be 0."""
    if isinstance(dim, int):
        return dim * sign >= 0
    return all(coefficient * sign > 0 for coefficient, _ in dim.terms())


def _accumulate(total: Code | None, coefficient: int, value: Code) -> Code:
    size = abs(coefficient)
    if size != 1 and value.operator in ("/", "%"):
        value = Code(f"({value.text})")
    if total is None:
        return prefix("-", value) if coefficient == -1 else _times(value, coefficient)
    return binary("-" if coefficient < 0 else "+", total, _times(value, size))


def _times(value: Code, factor: int) -> Code:
    return value if factor == 1 else binary("*", value, integer(factor))
