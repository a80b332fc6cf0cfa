"""What is known about dimensions, and the numbers that follow at once: intervals and divisors.

Intervals are exact for affine expressions over independent symbols; of others they are sound.  Answers are
memoised until a fact changes.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from math import gcd, lcm
from typing import NamedTuple, TypeVar, cast

from aino_ir.dims import Atom, Dim, DimLike, FloorDiv, Min, SymbolAtom, atom_dim, coefficient_of, floordiv
from aino_ir.intervals import (
    UNBOUNDED,
    Interval,
    add_intervals,
    divide_intervals,
    intersect,
    multiply_intervals,
    scale_interval,
)

AnyBounds = TypeVar("AnyBounds", bound="Bounds")

MEMO_CHILDREN = 256
"""Grown states remembered per state before they are forgotten."""
MEMO_LIMIT = 20_000
"""Answers kept per memo table before it is emptied."""


class SymbolicBounds(NamedTuple):
    """Bounds of a symbol that are themselves dimensions (a loop variable below a symbolic extent)."""

    lo: DimLike | None
    hi: DimLike | None


class Memo:
    """Answers that hold for one state of the facts.

    A state that grows by the same declaration or fact again (the loops of a kernel are opened over
    and over) finds the answers of the last time: `children` maps what was added to its memo.
    """

    __slots__ = ("canonical", "children", "intervals", "nonnegative", "products", "simplified", "zero")

    def __init__(self) -> None:
        self.children: dict[Hashable, Memo] = {}
        self.canonical: dict[Dim, DimLike] = {}
        self.intervals: dict[Dim, Interval] = {}
        self.nonnegative: dict[Dim, bool] = {}
        self.products: dict[tuple[Atom, ...], Interval] = {}
        self.simplified: dict[Dim, DimLike] = {}
        self.zero: dict[Dim, bool | None] = {}

    def child(self, added: Hashable) -> Memo:
        """The memo of this state plus `added`."""
        found = self.children.get(added)
        if found is None:
            if len(self.children) >= MEMO_CHILDREN:
                self.children.clear()
            found = self.children[added] = Memo()
        return found

    def trim(self) -> None:
        """Keep memory bounded."""
        tables = self.canonical, self.intervals, self.nonnegative, self.products, self.simplified, self.zero
        for table in tables:
            if len(table) > MEMO_LIMIT:
                table.clear()


class Bounds:
    """What is known about the symbols of one table, and what follows without a search.

    Attributes:
        ranges: numeric bounds by symbol.
        steps: what a symbol is a multiple of, where above 1.
        bounds: symbolic bounds by symbol, later symbols may be bounded by earlier ones.
        solutions: symbols that equal an expression; no solved symbol stands in any solution.
        nonnegative_facts: expressions known to be at least 0.
        zero_facts: expressions known to be 0, where they could not become a solution.
    """

    __slots__ = ("bounds", "memo", "nonnegative_facts", "ranges", "solutions", "steps", "zero_facts")

    def __init__(self) -> None:
        self.ranges: dict[str, Interval] = {}
        self.steps: dict[str, int] = {}
        self.bounds: dict[str, SymbolicBounds] = {}
        self.solutions: dict[str, DimLike] = {}
        self.nonnegative_facts: list[Dim] = []
        self.zero_facts: list[Dim] = []
        self.memo = Memo()

    def changed(self) -> None:
        """Forget memoised answers; called after every new fact."""
        self.memo = Memo()

    def clone(self: AnyBounds) -> AnyBounds:
        """An independent copy."""
        copy = type(self)()
        copy.ranges, copy.steps = dict(self.ranges), dict(self.steps)
        copy.bounds, copy.solutions = dict(self.bounds), dict(self.solutions)
        copy.nonnegative_facts = list(self.nonnegative_facts)
        copy.zero_facts = list(self.zero_facts)
        return copy

    # ------------------------------------------------------------------------------ values

    def canonical(self, dim: DimLike) -> DimLike:
        """`dim` with all solved symbols replaced."""
        if isinstance(dim, int) or not self.solutions:
            return dim
        memo = self.memo.canonical
        found = memo.get(dim)
        if found is None:
            found = memo[dim] = dim.substitute(self.solutions)
        return found

    def divisor(self, dim: DimLike) -> int:
        """An integer that divides `dim` for all values (0 for the constant 0)."""
        if isinstance(dim, int):
            return abs(dim)
        result = dim.constant
        for coefficient, atoms in dim.terms():
            if result == 1:
                break
            for atom in atoms:
                coefficient *= self._atom_divisor(atom)
            result = gcd(result, coefficient)
        return abs(result)

    def _atom_divisor(self, atom: Atom) -> int:
        if isinstance(atom, SymbolAtom):
            return self.steps.get(atom.name, 1)
        if isinstance(atom, FloorDiv):
            inner = self.divisor(atom.a)
            return inner // atom.b if isinstance(atom.b, int) and inner % atom.b == 0 else 1
        return gcd(*(self.divisor(argument) for argument in cast(Min, atom).args))

    def interval(self, dim: DimLike) -> Interval:
        """Bounds of `dim`; exact for affine expressions over independent symbols."""
        if isinstance(dim, int):
            return dim, dim
        memo = self.memo.intervals
        found = memo.get(dim)
        if found is None:
            found = memo[dim] = self._affine_interval(dim) if dim.affine else self._general_interval(dim)
        return found

    def _affine_interval(self, dim: Dim) -> Interval:
        lo: int | None = dim.constant
        hi: int | None = dim.constant
        ranges = self.ranges
        for monomial, coefficient in dim._terms:
            least, most = ranges.get(cast(SymbolAtom, monomial.atoms[0]).name, UNBOUNDED)
            if coefficient < 0:
                least, most = most, least
            lo = None if lo is None or least is None else lo + coefficient * least
            hi = None if hi is None or most is None else hi + coefficient * most
        return lo, hi

    def _general_interval(self, dim: Dim) -> Interval:
        lo: int | None = dim.constant
        hi: int | None = dim.constant
        for monomial, coefficient in dim._terms:
            atoms = monomial.atoms
            least, most = self._atom_interval(atoms[0]) if len(atoms) == 1 else self._product_interval(atoms)
            if coefficient < 0:
                least, most = most, least
            lo = None if lo is None or least is None else lo + coefficient * least
            hi = None if hi is None or most is None else hi + coefficient * most
        result = (lo, hi)
        for other in self._relational_intervals(dim):
            result = intersect(result, other)
        return result

    def _product_interval(self, atoms: tuple[Atom, ...]) -> Interval:
        found = self.memo.products.get(atoms)
        if found is None:
            found = self.memo.products[atoms] = self._new_product_interval(atoms)
        return found

    def _new_product_interval(self, atoms: tuple[Atom, ...]) -> Interval:
        result: Interval = (1, 1)
        for atom in dict.fromkeys(atoms):
            base = power = self._atom_interval(atom)
            for _ in range(atoms.count(atom) - 1):
                power = multiply_intervals(power, base)
            if atoms.count(atom) % 2 == 0:
                power = intersect(power, (0, None))
            result = multiply_intervals(result, power)
        return result

    def _atom_interval(self, atom: Atom) -> Interval:
        if isinstance(atom, SymbolAtom):
            return self.ranges.get(atom.name, UNBOUNDED)
        if isinstance(atom, FloorDiv):
            return divide_intervals(self.interval(atom.a), self.interval(atom.b))
        parts = [self.interval(argument) for argument in cast(Min, atom).args]
        lows = [lo for lo, _ in parts]
        highs = [hi for _, hi in parts if hi is not None]
        return None if None in lows else min(cast("list[int]", lows)), min(highs) if highs else None

    def _relational_intervals(self, dim: Dim) -> Iterator[Interval]:
        """Bounds that see that atoms share symbols with other terms (remainders, tails of tiles)."""
        relaxed: list[tuple[int, FloorDiv]] = []
        remainders: set[Atom] = set()
        alone = len(dim._terms) == 1
        for monomial, coefficient in dim._terms:
            for atom in monomial.atoms:
                if isinstance(atom, FloorDiv) and isinstance(atom.b, Dim):
                    if atom not in remainders:  # it stands in many terms of an expanded product
                        remainders.add(atom)
                        yield self._remainder_interval(dim, atom)
                elif alone or len(monomial.atoms) > 1 or not self._is_shared(dim, atom):
                    continue
                elif isinstance(atom, FloorDiv):
                    relaxed.append((coefficient, atom))
                elif isinstance(atom, Min):
                    yield self._min_interval(dim, coefficient, atom)
        if relaxed:
            yield self._relaxed_interval(dim, relaxed)

    @staticmethod
    def _is_shared(dim: Dim, atom: Atom) -> bool:
        """Whether a term without `atom` holds one of its symbols; False for a symbol, which needs no help."""
        if isinstance(atom, SymbolAtom):
            return False
        symbols = atom.symbols
        return any(
            atom not in monomial.atoms and not symbols.isdisjoint(monomial.symbols)
            for monomial, _ in dim._terms
        )

    def _min_interval(self, dim: Dim, coefficient: int, atom: Min) -> Interval:
        """The minimum is one of its arguments and at most each of them."""
        rest = dim - atom_dim(atom) * coefficient
        parts = [self.interval(rest + argument * coefficient) for argument in atom.args]
        lows = [lo for lo, _ in parts]
        highs = [hi for _, hi in parts]
        if coefficient > 0:
            known = [hi for hi in highs if hi is not None]
            return None if None in lows else min(cast("list[int]", lows)), min(known) if known else None
        known = [lo for lo in lows if lo is not None]
        return max(known) if known else None, None if None in highs else max(cast("list[int]", highs))

    def _relaxed_interval(self, dim: Dim, quotients: list[tuple[int, FloorDiv]]) -> Interval:
        """Bounds through ``a//m = (a - a%m) / m`` with ``0 <= a%m < m``, over a common denominator."""
        scale = lcm(*(cast(int, atom.b) for _, atom in quotients))
        relaxed: DimLike = dim * scale
        slack: Interval = (0, 0)
        for coefficient, atom in quotients:
            m = cast(int, atom.b)
            factor = scale * coefficient // m
            relaxed = relaxed - atom_dim(atom) * (scale * coefficient) + atom.a * factor
            most = m - gcd(self.divisor(atom.a), m)
            slack = add_intervals(slack, scale_interval((0, most), -factor))
        lo, hi = add_intervals(self.interval(relaxed), slack)
        return None if lo is None else -(-lo // scale), None if hi is None else hi // scale

    def _remainder_interval(self, dim: Dim, atom: FloorDiv) -> Interval:
        """Bounds of ``... + k*(a - b*(a//b))`` for a symbolic positive b: the remainder is below b."""
        outer = coefficient_of(dim, atom)
        least, most = self.interval(atom.b)
        if outer is None or isinstance(outer, int) or least is None or least < 1:
            return UNBOUNDED
        k = -floordiv(outer, atom.b)
        if not isinstance(k, int) or outer is not atom.b * -k:
            return UNBOUNDED
        rest = dim - atom_dim(atom) * outer - atom.a * k
        remainder: Interval = (0, None if most is None else most - 1)
        return add_intervals(self.interval(rest), scale_interval(remainder, k))

    def term_divisor(self, coefficient: int, atoms: tuple[Atom, ...]) -> int:
        """An integer that divides a term for all values."""
        for atom in atoms:
            coefficient *= self._atom_divisor(atom)
        return abs(coefficient)
