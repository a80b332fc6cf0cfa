"""Symbolic dimensions: a hash-consed integer normal form.

A `Dim` is a sum ``constant + coefficient * monomial + ...``; a monomial is a product of atoms, and an
atom is a symbol, a floor division or a minimum.  The form holds only facts that are true for every
value of every symbol: ``a % b = a - b*(a//b)``, ``max(a, b) = -min(-a, -b)``, nested floor divisions
are merged, multiples of a divisor leave the division, minima are flat and sorted.  What needs bounds
(``(4*i + j)//4`` is ``i`` for ``0 <= j < 4``) belongs to `aino_ir.symbols.Symbols.simplify`.

A constant dimension *is* a Python int, so every operation may return an int.  Equal normal forms are
one object: ``==`` is identity.  ``<`` and ``bool()`` raise `DimComparison`, since only a symbol
table can decide them.  Dividing by a symbolic expression assumes it is not zero.
"""

from __future__ import annotations

import functools
import operator
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from math import gcd
from typing import Any, NoReturn, Union, cast

from aino_ir.dim_atoms import Atom, FloorDiv, Min, Monomial, SymbolAtom, evaluate, sum_text
from aino_ir.errors.dims import (
    DimComparison,
    DimDivisionByZero,
    DimTooComplex,
    InvalidSymbolName,
    NotADimension,
)
from aino_ir.interning import Interned

DimLike = Union[int, "Dim"]
"""A dimension: a Python int when constant, else a `Dim`."""

MAX_TERMS = 4096
"""Most products of terms that one multiplication may form."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


_Terms = tuple[tuple[Monomial, int], ...]

_SYMBOLS: Interned[SymbolAtom] = Interned()
_ATOMS: Interned[Atom] = Interned()
_MONOMIALS: Interned[Monomial] = Interned()
_DIMS: Interned[Dim] = Interned()


class Dim:
    """A symbolic integer in normal form; made by `symbol` and arithmetic, never directly.

    Attributes:
        constant: the constant part of the sum.
        affine: whether every monomial is one symbol.
    """

    __slots__ = ("__weakref__", "_symbols", "_terms", "_text", "affine", "constant")
    constant: int
    affine: bool
    _terms: _Terms
    _symbols: frozenset[str] | None
    _text: str | None

    def terms(self) -> list[tuple[int, tuple[Atom, ...]]]:
        """The sum without its `constant`: (coefficient, atoms) in canonical order."""
        return [(coefficient, monomial.atoms) for monomial, coefficient in self._terms]

    def free_symbols(self) -> frozenset[str]:
        """Names of all symbols inside."""
        if self._symbols is None:
            self._symbols = frozenset().union(*(monomial.symbols for monomial, _ in self._terms))
        return self._symbols

    def as_symbol(self) -> str | None:
        """The name, when this is exactly one symbol."""
        if self.constant or len(self._terms) != 1:
            return None
        monomial, coefficient = self._terms[0]
        return cast(SymbolAtom, monomial.atoms[0]).name if coefficient == 1 and monomial.is_symbol else None

    def substitute(self, mapping: Mapping[str, DimLike]) -> DimLike:
        """This with every symbol named in `mapping` replaced, all at once."""
        return _substitute(self, mapping)

    def evaluate(self, env: Mapping[str, int]) -> int:
        """The value for concrete symbols.

        Raises:
            UnknownSymbol: a symbol has no value in `env`.
            DimDivisionByZero: a divisor is zero.
        """
        return evaluate(self, env, self)

    def __add__(self, other: DimLike) -> DimLike:
        if type(other) is int:
            return _shift(self, other)
        if isinstance(other, Dim):
            return _combine(self, other, 1)
        return self + _coerce(other)

    __radd__ = __add__

    def __sub__(self, other: DimLike) -> DimLike:
        if type(other) is int:
            return _shift(self, -other)
        if isinstance(other, Dim):
            return 0 if self is other else _combine(self, other, -1)
        return self - _coerce(other)

    def __rsub__(self, other: DimLike) -> DimLike:
        return _scale(self, -1) + _coerce(other)

    def __neg__(self) -> DimLike:
        return _scale(self, -1)

    def __pos__(self) -> DimLike:
        return self

    def __mul__(self, other: DimLike) -> DimLike:
        if type(other) is int:
            return _scale(self, other)
        if isinstance(other, Dim):
            return _multiply(self, other)
        return self * _coerce(other)

    __rmul__ = __mul__

    def __floordiv__(self, other: DimLike) -> DimLike:
        return floordiv(self, other)

    def __rfloordiv__(self, other: DimLike) -> DimLike:
        return floordiv(other, self)

    def __mod__(self, other: DimLike) -> DimLike:
        return self - floordiv(self, other) * other

    def __rmod__(self, other: DimLike) -> DimLike:
        return _coerce(other) - self * floordiv(other, self)

    def __lt__(self, other: object) -> NoReturn:
        raise DimComparison(what=f"{self} < {other}", dim=self)

    def __le__(self, other: object) -> NoReturn:
        raise DimComparison(what=f"{self} <= {other}", dim=self)

    def __gt__(self, other: object) -> NoReturn:
        raise DimComparison(what=f"{self} > {other}", dim=self)

    def __ge__(self, other: object) -> NoReturn:
        raise DimComparison(what=f"{self} >= {other}", dim=self)

    def __bool__(self) -> NoReturn:
        raise DimComparison(what=f"bool({self})", dim=self)

    def __str__(self) -> str:
        if self._text is None:
            self._text = sum_text(self)
        return self._text

    def __repr__(self) -> str:
        return f"Dim({self})"

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)

    def __copy__(self) -> Dim:
        return self

    def __deepcopy__(self, memo: object) -> Dim:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from aino_ir.dim_parser import parse

        return parse, (str(self),)


RECENT_RESULTS = 8192
"""Results of each arithmetic operation that are kept for reuse; they also keep temporaries interned."""

_cached = functools.lru_cache(RECENT_RESULTS)


def forget_recent() -> None:
    """Drop the results kept for reuse (long fuzzing runs, tests of memory)."""
    for function in (_shift, _combine, _scale, _multiply, _divide_by_int, _divide_by_dim, _minimum):
        function.cache_clear()


def _intern(constant: int, terms: _Terms) -> DimLike:
    """The one object for a sum; `terms` are sorted, without zeros.  An empty sum is an int."""
    if not terms:
        return constant
    key = (constant, terms)
    found = _DIMS.get(key)
    if found is not None:
        return found
    dim = Dim()
    dim.constant = constant
    dim._terms = terms
    dim._symbols = dim._text = None
    dim.affine = all(monomial.is_symbol for monomial, _ in terms)
    return _DIMS.add(key, dim)


def _monomial_key(term: tuple[Monomial, int]) -> str:
    return term[0].key


def _from_dict(constant: int, coefficients: dict[Monomial, int]) -> DimLike:
    terms = [term for term in coefficients.items() if term[1]]
    if len(terms) > 1:
        terms.sort(key=_monomial_key)
    return _intern(constant, tuple(terms))


def _monomial(atoms: tuple[Atom, ...]) -> Monomial:
    found = _MONOMIALS.get(atoms)
    return found if found is not None else _MONOMIALS.add(atoms, Monomial(atoms))


def _times(a: Monomial, b: Monomial) -> Monomial:
    return _monomial(tuple(sorted(a.atoms + b.atoms, key=operator.attrgetter("key"))))


def atom_dim(atom: Atom) -> Dim:
    """The dimension that is exactly `atom`."""
    return cast(Dim, _intern(0, ((_monomial((atom,)), 1),)))


def _of_monomial(monomial: Monomial) -> Dim:
    return cast(Dim, _intern(0, ((monomial, 1),)))


def _coerce(value: object) -> DimLike:
    """`value` as a dimension: ints of any kind (numpy's too) become Python ints."""
    if type(value) is int or isinstance(value, Dim):
        return value
    try:
        return operator.index(cast(Any, value))
    except TypeError:
        raise NotADimension(value=repr(value), kind=type(value).__name__) from None


@_cached
def _shift(a: Dim, constant: int) -> DimLike:
    """``a + constant``."""
    return _intern(a.constant + constant, a._terms)


@_cached
def _combine(a: Dim, b: Dim, sign: int) -> DimLike:
    """``a + sign*b``."""
    coefficients = dict(a._terms)
    for monomial, coefficient in b._terms:
        coefficients[monomial] = coefficients.get(monomial, 0) + sign * coefficient
    return _from_dict(a.constant + sign * b.constant, coefficients)


@_cached
def _scale(a: Dim, factor: int) -> DimLike:
    if factor == 1:
        return a
    if factor == 0:
        return 0
    return _intern(a.constant * factor, tuple([(m, c * factor) for m, c in a._terms]))


@_cached
def _multiply(a: Dim, b: Dim) -> DimLike:
    size = len(a._terms) * len(b._terms)
    if size > MAX_TERMS:
        raise DimTooComplex(size=size, what="terms", limit=MAX_TERMS)
    coefficients: dict[Monomial, int] = {}
    for m, c in a._terms:
        for n, d in b._terms:
            both = _times(m, n)
            coefficients[both] = coefficients.get(both, 0) + c * d
        if b.constant:
            coefficients[m] = coefficients.get(m, 0) + c * b.constant
    if a.constant:
        for n, d in b._terms:
            coefficients[n] = coefficients.get(n, 0) + d * a.constant
    return _from_dict(a.constant * b.constant, coefficients)


# ---------------------------------------------------------------------------------- floor division


def floordiv(a: DimLike, b: DimLike) -> DimLike:
    """``a // b`` in normal form.

    Raises:
        DimDivisionByZero: `b` is the constant 0.
    """
    a, b = _coerce(a), _coerce(b)
    if isinstance(b, Dim):
        return _divide_by_dim(a, b)
    if b == 0:
        raise DimDivisionByZero(numerator=a, divisor=b)
    if b < 0:
        a, b = -a, -b
    if b == 1:
        return a
    return _divide_by_int(a, b) if isinstance(a, Dim) else a // b


def _truncated(value: int, divisor: int) -> tuple[int, int]:
    """Quotient towards zero and remainder with the sign of `value`; `divisor` is positive."""
    quotient = value // divisor if value >= 0 else -(-value // divisor)
    return quotient, value - quotient * divisor


@_cached
def _divide_by_int(a: Dim, m: int) -> DimLike:
    """``a // m`` for ``m > 1``: multiples of `m` leave, then the common divisor, then nesting."""
    quotient, constant = divmod(a.constant, m)
    whole: list[tuple[Monomial, int]] = []
    rest: list[tuple[Monomial, int]] = []
    common = m
    for monomial, coefficient in a._terms:
        multiple, remainder = _truncated(coefficient, m)
        if multiple:
            whole.append((monomial, multiple))
        if remainder:
            rest.append((monomial, remainder))
            common = gcd(common, remainder)
    outside = _intern(quotient, tuple(whole))
    if not rest:
        return outside
    if common > 1:
        rest = [(monomial, coefficient // common) for monomial, coefficient in rest]
        constant, m = constant // common, m // common
    inside = cast(Dim, _intern(constant, tuple(rest)))
    if all(coefficient < 0 for _, coefficient in rest):  # floor(-y / m) = -ceil(y / m)
        return outside - floordiv(m - 1 - inside, m)
    merged = _merge_nested(inside, m)
    return outside + (atom_dim(_floordiv_atom(inside, m)) if merged is None else merged)


def _merge_nested(inside: Dim, m: int) -> DimLike | None:
    """``(p//q + y)//m = (p + q*y)//(q*m)``, when exactly one such quotient stands in `inside`."""
    found: tuple[Monomial, int] | None = None
    for monomial, coefficient in inside._terms:
        if len(monomial.atoms) == 1 and isinstance(monomial.atoms[0], FloorDiv) and coefficient in (1, -1):
            if found is not None:
                return None
            found = (monomial, coefficient)
    if found is None:
        return None
    monomial, sign = found
    atom = cast(FloorDiv, monomial.atoms[0])
    others = inside - _of_monomial(monomial) * sign
    if isinstance(atom.b, Dim) and (sign < 0 or isinstance(others, Dim)):
        return None
    numerator = atom.a if sign > 0 else atom.b - 1 - atom.a
    return floordiv(numerator + atom.b * others, atom.b * m)


def _floordiv_atom(a: DimLike, b: DimLike) -> Atom:
    key = ("//", a, b)
    found = _ATOMS.get(key)
    return found if found is not None else _ATOMS.add(key, FloorDiv(a, b))


@_cached
def _divide_by_dim(a: DimLike, b: Dim) -> DimLike:
    """``a // b`` for a symbolic `b`: exact multiples leave, then common factors cancel."""
    if isinstance(a, Dim):
        outside, a = _split_multiples(a, b)
    else:
        outside = 0
    if isinstance(a, int) and a == 0:
        return outside
    if b.constant <= 0 and all(coefficient < 0 for _, coefficient in b._terms):
        a, b = -a, cast(Dim, -b)
    a, divisor = _cancel(a, b)
    if isinstance(divisor, int):
        return outside + floordiv(a, divisor)
    return outside + atom_dim(_floordiv_atom(a, divisor))


def _split_multiples(a: Dim, b: Dim) -> tuple[DimLike, DimLike]:
    """`(q, r)` with ``a = q*b + r``: term by term for a monomial `b`, else only if `r` is 0."""
    quotient: DimLike = 0
    remainder: DimLike = a
    if len(b._terms) == 1 and not b.constant:
        divisor, k = b._terms[0]
        for monomial, coefficient in a._terms:
            left = _without(monomial, divisor)
            multiple = _truncated(coefficient, abs(k))[0] * (1 if k > 0 else -1)
            if left is not None and multiple:
                quotient = quotient + _product_of(left) * multiple
        return quotient, a - quotient * b
    lead, k = b._terms[-1]
    for _ in range(16):  # polynomial long division, bounded
        if isinstance(remainder, int):
            break
        monomial, coefficient = remainder._terms[-1]
        left = _without(monomial, lead)
        if left is None or coefficient % k:
            return 0, a
        step = _product_of(left) * (coefficient // k)
        quotient = quotient + step
        remainder = remainder - step * b
    return (quotient, 0) if isinstance(remainder, int) and remainder == 0 else (0, a)


def _without(monomial: Monomial, divisor: Monomial) -> tuple[Atom, ...] | None:
    """The atoms of `monomial` less those of `divisor`, or None if it is no factor."""
    atoms = list(monomial.atoms)
    for atom in divisor.atoms:
        if atom not in atoms:
            return None
        atoms.remove(atom)
    return tuple(atoms)


def _product_of(atoms: tuple[Atom, ...]) -> DimLike:
    return _of_monomial(_monomial(atoms)) if atoms else 1


def _cancel(a: DimLike, b: Dim) -> tuple[DimLike, DimLike]:
    """`a` and `b` without their common integer factor and their common atoms."""
    terms: _Terms = b._terms + (a._terms if isinstance(a, Dim) else ())
    constants = (b.constant, a.constant if isinstance(a, Dim) else a)
    common = gcd(*constants, *(coefficient for _, coefficient in terms))
    shared = _shared_atoms(terms) if constants == (0, 0) else []
    if common == 1 and not shared:
        return a, b
    factor = _monomial(tuple(shared)) if shared else None
    return _reduced(a, common, factor), _reduced(b, common, factor)


def _shared_atoms(terms: _Terms) -> list[Atom]:
    """The atoms, with repetition, that stand in every monomial."""
    shared = Counter(terms[0][0].atoms)
    for monomial, _ in terms[1:]:
        shared &= Counter(monomial.atoms)
    return sorted(shared.elements(), key=operator.attrgetter("key"))


def _reduced(a: DimLike, common: int, factor: Monomial | None) -> DimLike:
    if isinstance(a, int):
        return a // common
    result: DimLike = a.constant // common
    for monomial, coefficient in a._terms:
        left = monomial.atoms if factor is None else cast("tuple[Atom, ...]", _without(monomial, factor))
        result = result + _product_of(left) * (coefficient // common)
    return result


# ---------------------------------------------------------------------------------- minimum, maximum


def dmin(first: DimLike, *others: DimLike) -> DimLike:
    """The least of its arguments, in normal form: flat, sorted, without common parts."""
    return _minimum(tuple([_coerce(argument) for argument in (first, *others)]))


@_cached
def _minimum(arguments: tuple[DimLike, ...]) -> DimLike:
    least: dict[_Terms, int] = {}
    for argument in arguments:
        for part in _flattened(argument):
            terms, constant = (part._terms, part.constant) if isinstance(part, Dim) else ((), part)
            least[terms] = min(constant, least.get(terms, constant))
    common = dict.fromkeys(next(iter(least)))
    for terms in least:
        common = {term: None for term in terms if term in common}
    if common:  # without its common terms an argument may be a minimum that flattens
        outside = _intern(0, tuple(common))
        return outside + dmin(*[argument - outside for argument in arguments])
    parts = [_intern(constant, terms) for terms, constant in least.items()]
    if len(parts) == 1:
        return parts[0]
    parts.sort(key=_argument_key)
    shift = min(part.constant for part in parts if isinstance(part, Dim))
    parts = [part - shift for part in parts]
    scale = gcd(*(gcd(p.constant, *(c for _, c in p._terms)) if isinstance(p, Dim) else p for p in parts))
    args = tuple([_reduced(part, scale, None) for part in parts]) if scale > 1 else tuple(parts)
    return shift + atom_dim(_min_atom(args)) * scale


def dmax(first: DimLike, *others: DimLike) -> DimLike:
    """The greatest of its arguments: ``-min(-a, -b)``."""
    return -dmin(-_coerce(first), *(-_coerce(other) for other in others))


def _argument_key(argument: DimLike) -> tuple[bool, list[tuple[str, int]]]:
    """Sort key of an argument of a minimum: the constant last, then by terms."""
    if isinstance(argument, int):
        return True, []
    return False, [(monomial.key, coefficient) for monomial, coefficient in argument._terms]


def _min_atom(args: tuple[DimLike, ...]) -> Atom:
    key = ("min", args)
    found = _ATOMS.get(key)
    return found if found is not None else _ATOMS.add(key, Min(args))


def _flattened(argument: DimLike) -> list[DimLike]:
    """``k*min(a, b) + y`` with one such term and k > 0 as ``[k*a + y, k*b + y]``."""
    if isinstance(argument, int):
        return [argument]
    found: list[tuple[Min, int]] = []
    for monomial, coefficient in argument._terms:
        atom = monomial.atoms[0]
        if len(monomial.atoms) == 1 and isinstance(atom, Min):
            found.append((atom, coefficient))
    if len(found) != 1 or found[0][1] < 0:
        return [argument]
    minimum, k = found[0]
    rest = argument - atom_dim(minimum) * k
    return [part for inner in minimum.args for part in _flattened(rest + inner * k)]


# ---------------------------------------------------------------------------------- making and asking


def symbol(name: str) -> Dim:
    """The dimension that is the symbol `name`.

    Raises:
        InvalidSymbolName: `name` is not an ASCII identifier (dots are allowed after the first letter).
    """
    found = _SYMBOLS.get(name)
    if found is None:
        if not _NAME.match(name):
            raise InvalidSymbolName(name=name)
        found = _SYMBOLS.add(name, SymbolAtom(name))
    return atom_dim(found)


def is_static(dim: DimLike) -> bool:
    """Whether `dim` is a constant."""
    return not isinstance(dim, Dim)


def free_symbols(dim: DimLike) -> frozenset[str]:
    """Names of the symbols in `dim`; empty for an int."""
    return dim.free_symbols() if isinstance(dim, Dim) else frozenset()


def ceildiv(a: DimLike, b: DimLike) -> DimLike:
    """``a / b`` rounded up."""
    return -floordiv(-_coerce(a), b)


def align(a: DimLike, multiple: DimLike) -> DimLike:
    """The least multiple of `multiple` that is not below `a`."""
    return ceildiv(a, multiple) * multiple


def product(dims: Iterable[DimLike]) -> DimLike:
    """The product of `dims`; 1 for none."""
    result: DimLike = 1
    for dim in dims:
        result = result * dim
    return result


# ---------------------------------------------------------------------------------- values


def _substitute(dim: Dim, mapping: Mapping[str, DimLike]) -> DimLike:
    if mapping.keys().isdisjoint(dim.free_symbols()):
        return dim
    result: DimLike = 0
    untouched: dict[Monomial, int] = {}
    for monomial, coefficient in dim._terms:
        if mapping.keys().isdisjoint(monomial.symbols):
            untouched[monomial] = coefficient
            continue
        value: DimLike = coefficient
        for atom in monomial.atoms:
            value = value * _substitute_atom(atom, mapping)
        result = result + value
    return result + _from_dict(dim.constant, untouched)


def substitute(dim: DimLike, mapping: Mapping[str, DimLike]) -> DimLike:
    """`dim` with every symbol named in `mapping` replaced, all at once; ints stay."""
    return _substitute(dim, mapping) if isinstance(dim, Dim) else dim


def value_of(dim: DimLike, symbols: Mapping[str, int]) -> int:
    """The number that an extent is for numbers of its symbols."""
    return dim.evaluate(symbols) if isinstance(dim, Dim) else int(dim)


def _substitute_atom(atom: Atom, mapping: Mapping[str, DimLike]) -> DimLike:
    if isinstance(atom, SymbolAtom):
        value = mapping.get(atom.name)
        return atom_dim(atom) if value is None else _coerce(value)
    if isinstance(atom, FloorDiv):
        return floordiv(substitute(atom.a, mapping), substitute(atom.b, mapping))
    return dmin(*[substitute(argument, mapping) for argument in cast(Min, atom).args])
