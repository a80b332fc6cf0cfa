"""What follows about dimensions from known facts: intervals, divisibility, simplification, proofs.

`Facts` holds what is known about symbols (ranges, divisibility, symbolic bounds, linear inequalities
and equalities) and answers questions soundly: an answer is true for every assignment of integers to
the symbols that satisfies the facts, and "unknown" is always allowed.  Inequalities are decided by
interval analysis first, then by a bounded search that replaces atoms by their bounds (a greedy form
of Fourier-Motzkin elimination).  Answers are memoised until a fact changes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from math import gcd
from typing import cast

from aino_ir.dim_bounds import Bounds
from aino_ir.dims import (
    Atom,
    Dim,
    DimLike,
    FloorDiv,
    Min,
    SymbolAtom,
    atom_dim,
    coefficient_of,
    dmin,
    floordiv,
    free_symbols,
    product,
    substitute,
    symbol,
)
from aino_ir.intervals import UNBOUNDED

SEARCH_DEPTH = 5
"""Replacements in a row that a proof of an inequality may use."""
SEARCH_VISITS = 400
"""Expressions that a search looks at: their number grows fast with that of their terms and facts."""
SEARCH_NODES = 48
"""Expressions that one proof of an inequality may look at."""
SIMPLIFY_ROUNDS = 4
"""Rewritings in a row of one expression; each is exact, so stopping early is only less simple."""


class Facts(Bounds):
    """Proofs about dimensions from what `Bounds` holds."""

    __slots__ = ()

    # ------------------------------------------------------------------------------ simplifying

    def simplify(self, dim: DimLike) -> DimLike:
        """An equal dimension, simpler where the facts allow."""
        dim = self.canonical(dim)
        if isinstance(dim, int) or dim.affine:
            return dim
        memo = self.memo.simplified
        found = memo.get(dim)
        if found is not None:
            return found
        result: DimLike = dim
        for _ in range(SIMPLIFY_ROUNDS):
            previous = result
            if isinstance(result, int) or result.affine:
                break
            result = self._simplify_once(result)
            if result is previous or isinstance(result, int):
                break
        memo[dim] = result
        return result

    def _simplify_once(self, dim: Dim) -> DimLike:
        result: DimLike = dim.constant
        for coefficient, atoms in dim.terms():
            value: DimLike = coefficient
            for atom in atoms:
                value = value * self._simplify_atom(atom)
            result = result + value
        return self._undo_exact_quotients(result)

    def _simplify_atom(self, atom: Atom) -> DimLike:
        if isinstance(atom, SymbolAtom):
            return atom_dim(atom)
        if isinstance(atom, FloorDiv):
            return self._simplify_quotient(self.simplify(atom.a), self.simplify(atom.b))
        args = [self.simplify(argument) for argument in cast(Min, atom).args]
        kept: list[DimLike] = []
        for index, argument in enumerate(args):
            others = kept + args[index + 1 :]
            if not any(self.is_nonnegative(argument - other) for other in others):
                kept.append(argument)
        return dmin(*kept)

    def _simplify_quotient(self, a: DimLike, b: DimLike) -> DimLike:
        quotient = floordiv(a, b)
        if isinstance(quotient, int) or isinstance(a, int):
            return quotient
        if isinstance(b, Dim):
            if self.is_nonnegative(a) and self.is_nonnegative(b - 1 - a):
                return 0
            return quotient
        lo, hi = self.interval(a)
        if lo is not None and hi is not None and lo // b == hi // b:
            return lo // b
        multiples = [
            (coefficient, atoms, self.term_divisor(coefficient, atoms)) for coefficient, atoms in a.terms()
        ]
        for g in sorted({gcd(d, b) for _, _, d in multiples} - {1}, reverse=True):
            split = self._split_quotient(a, b, g, multiples)
            if split is not None:
                return split
        return quotient

    def _split_quotient(
        self, a: Dim, b: int, g: int, multiples: list[tuple[int, tuple[Atom, ...], int]]
    ) -> DimLike | None:
        """``(g*x + r) // b = (x + r//g) // (b/g)`` where r stays within one multiple of g, or g is b."""
        whole: DimLike = 0
        rest: DimLike = a.constant
        for coefficient, atoms, divisor in multiples:
            if divisor % g:
                rest = rest + product(map(atom_dim, atoms)) * coefficient
            else:
                whole = whole + self._exact_part(coefficient, atoms, g)
        lo, hi = self.interval(rest)
        if lo is None or hi is None or lo // g != hi // g:
            return whole + floordiv(rest, b) if g == b else None
        return floordiv(whole + lo // g, b // g)

    def _exact_part(self, coefficient: int, atoms: tuple[Atom, ...], g: int) -> DimLike:
        """A term divided by `g`, which divides it: first the coefficient, then atom by atom."""
        common = gcd(coefficient, g)
        result: DimLike = coefficient // common
        left = g // common
        for atom in atoms:
            part = gcd(self._atom_divisor(atom), left)
            left //= part
            result = result * floordiv(atom_dim(atom), part)
        return result

    def _undo_exact_quotients(self, dim: DimLike) -> DimLike:
        """``c*(a//m)`` as ``(c/m)*a`` where m divides both `a` and c."""
        if isinstance(dim, int) or dim.affine:
            return dim
        result: DimLike = dim
        for coefficient, atoms in dim.terms():
            for atom in atoms:
                if not isinstance(atom, FloorDiv) or isinstance(atom.b, Dim) or coefficient % atom.b:
                    continue
                if self.divisor(atom.a) % atom.b == 0:
                    others = list(atoms)
                    others.remove(atom)
                    outer = product(map(atom_dim, others))
                    result = (
                        result
                        - outer * atom_dim(atom) * coefficient
                        + outer * atom.a * (coefficient // atom.b)
                    )
                    break
        return result

    def in_units(self, dim: DimLike) -> DimLike:
        """`dim` with every symbol known to be a multiple of k written ``k*(x//k)``, which cancels more."""
        names = [name for name in free_symbols(dim) if name in self.steps]
        if not names:
            return dim
        return substitute(dim, {name: symbol(name) // self.steps[name] * self.steps[name] for name in names})

    # ------------------------------------------------------------------------------ decisions

    def decide_nonnegative(self, dim: DimLike) -> bool | None:
        """Whether ``dim >= 0``: True, False or None (unknown)."""
        dim = self.simplify(dim)
        if isinstance(dim, int):
            return dim >= 0
        if self.is_nonnegative(dim):
            return True
        return False if self.is_nonnegative(-dim - 1) else None

    def decide_zero(self, dim: DimLike) -> bool | None:
        """Whether ``dim == 0``: True, False or None (unknown)."""
        dim = self.simplify(dim)
        if isinstance(dim, int):
            return dim == 0
        memo = self.memo.zero
        if dim in memo:
            return memo[dim]
        found = memo[dim] = self._decide_zero(dim)
        return found

    def _decide_zero(self, dim: Dim) -> bool | None:
        lo, hi = self.interval(dim)
        if (lo is not None and lo > 0) or (hi is not None and hi < 0):
            return False
        common = gcd(*(self.term_divisor(coefficient, atoms) for coefficient, atoms in dim.terms()))
        if dim.constant % common:
            return False
        units = self.simplify(self.in_units(dim))
        if isinstance(units, int):
            return units == 0
        if any(dim is fact * k for fact in self.zero_facts for k in self._factors(dim, fact)):
            return True
        if self.is_nonnegative(dim):
            return True if self.is_nonnegative(-dim) else False if self.is_nonnegative(dim - 1) else None
        return False if self.is_nonnegative(-dim - 1) else None

    @staticmethod
    def _factors(dim: Dim, fact: Dim) -> list[int]:
        """The integer multiple of `fact` that could equal `dim`."""
        (monomial, mine), (other, coefficient) = dim._terms[0], fact._terms[0]
        return [mine // coefficient] if monomial is other and mine % coefficient == 0 else []

    def decide_multiple(self, dim: DimLike, k: int) -> bool | None:
        """Whether the positive `k` divides `dim`: True, False or None (unknown)."""
        dim = self.simplify(dim)
        if isinstance(dim, int):
            return dim % k == 0
        left = self.terms_modulo(dim, k)
        if not left:
            return dim.constant % k == 0
        common = gcd(k, *(self.term_divisor(coefficient, atoms) for coefficient, atoms in left))
        if dim.constant % common:
            return False
        remainder = self.simplify(dim - floordiv(dim, k) * k)
        return remainder == 0 if isinstance(remainder, int) else self.decide_zero(remainder)

    def terms_modulo(self, dim: Dim, k: int) -> list[tuple[int, tuple[Atom, ...]]]:
        """The terms of `dim` that are not known to be multiples of `k`."""
        return [term for term in dim.terms() if self.term_divisor(*term) % k]

    # ------------------------------------------------------------------------------ inequalities

    def is_nonnegative(self, dim: DimLike) -> bool:
        """Whether ``dim >= 0`` follows from the facts; False also means unknown."""
        if isinstance(dim, int):
            return dim >= 0
        lo, hi = self.interval(dim)
        if lo is not None and lo >= 0:
            return True
        if hi is not None and hi < 0:
            return False
        memo = self.memo.nonnegative
        found = memo.get(dim)
        if found is None:
            memo[dim] = False  # a proof that asks for itself is no proof
            found = memo[dim] = self._search(dim, SEARCH_DEPTH, {}, iter(range(SEARCH_VISITS)))
            self.memo.trim()
        return found

    def _search(self, dim: DimLike, depth: int, seen: dict[DimLike, int], visits: Iterator[int]) -> bool:
        """Depth-first search over replacements that only make the expression smaller.

        Args:
            dim: what should not be negative.
            depth: replacements that may follow.
            seen: expressions that were expanded, and how deep the search behind them went.
            visits: one is taken for each expression that is looked at; without one the search gives up.
        """
        if next(visits, None) is None:
            return False
        lo, hi = self.interval(dim)
        if lo is not None and lo >= 0:
            return True
        if isinstance(dim, int) or (hi is not None and hi < 0) or depth == 0:
            return False
        if seen.get(dim, 0) >= depth or len(seen) >= SEARCH_NODES:
            return False
        seen[dim] = depth
        for parts in self._smaller(dim):
            if all(self._search(part, depth - 1, seen, visits) for part in parts):
                return True
            if next(visits, None) is None:
                return False
        return False

    def _smaller(self, dim: Dim) -> Iterator[list[DimLike]]:
        """Alternatives; each is a list of expressions such that ``dim >= 0`` if all of them are."""
        yield from self._by_bounds(dim)
        for coefficient, atoms in dim.terms():
            for atom in dict.fromkeys(atoms):
                if isinstance(atom, Min) and len(atoms) == 1:
                    rest = dim - atom_dim(atom) * coefficient
                    cases = [rest + argument * coefficient for argument in atom.args]
                    if coefficient > 0:
                        yield cases
                    else:
                        yield from ([case] for case in cases)
                elif isinstance(atom, FloorDiv):
                    smaller = self._by_quotient(dim, atom)
                    if smaller is not None:
                        yield [smaller]
        yield from self._by_facts(dim)
        yield from self._by_factor(dim)

    def _by_bounds(self, dim: Dim) -> Iterator[list[DimLike]]:
        """Replace a symbol by its symbolic bound, the latest symbol first."""
        names = dim.free_symbols()
        for name, bounds in reversed(self.bounds.items()):
            if name in names:
                smaller = self._replaced(dim, name, bounds.lo, bounds.hi)
                if smaller is not None:
                    yield [smaller]

    def _by_factor(self, dim: Dim) -> Iterator[list[DimLike]]:
        """Replace a symbol inside products by its numeric bound."""
        if dim.affine:
            return
        for name in sorted(dim.free_symbols()):
            lo, hi = self.ranges.get(name, UNBOUNDED)
            smaller = self._replaced(dim, name, lo, hi)
            if smaller is not None:
                yield [smaller]

    def _replaced(self, dim: Dim, name: str, lo: DimLike | None, hi: DimLike | None) -> DimLike | None:
        """`dim` with its factor `name` at the bound that makes it least, if its coefficient has a sign."""
        variable = symbol(name)
        outer = coefficient_of(dim, variable.terms()[0][1][0])
        if outer is None or (isinstance(outer, int) and outer == 0):
            return None
        least, most = self.interval(outer)
        bound = lo if least is not None and least >= 0 else hi if most is not None and most <= 0 else None
        return None if bound is None else self.canonical(dim + outer * (bound - variable))

    def _by_quotient(self, dim: Dim, atom: FloorDiv) -> DimLike | None:
        """Replace ``b * (a//b)`` by `a` or ``a - b + 1``, whichever makes `dim` smaller.

        Where no factor b stands before the quotient, the whole is multiplied by it first: for an
        integer d and b >= 1, ``d >= 0`` is ``b*d + b - 1 >= 0``.
        """
        divisor = atom.b
        least = self.interval(divisor)[0]
        outer = coefficient_of(dim, atom)
        if least is None or least < 1 or outer is None:
            return None
        lo, hi = self.interval(outer)
        if lo is not None and lo >= 0:
            bound = atom.a - divisor + 1
        elif hi is not None and hi <= 0:
            bound = atom.a
        else:
            return None
        rest = dim - outer * atom_dim(atom)
        factor = floordiv(outer, divisor)
        if factor * divisor == outer:
            return self.canonical(rest + factor * bound)
        return self.canonical((rest + 1) * divisor - 1 + outer * bound)

    def _by_facts(self, dim: Dim) -> Iterator[list[DimLike]]:
        """Subtract a multiple of a known non-negative (or zero) expression that cancels a term."""
        own = dict(dim._terms)
        names = dim.free_symbols()
        for is_zero, facts in ((False, self.nonnegative_facts), (True, self.zero_facts)):
            for fact in facts:
                if names.isdisjoint(fact.free_symbols()):
                    continue
                factors: dict[DimLike, None] = {}
                for monomial, coefficient in fact._terms:
                    mine = own.get(monomial, 0)
                    if mine and mine % coefficient == 0 and (is_zero or mine // coefficient > 0):
                        factors[mine // coefficient] = None
                if not dim.affine:
                    factors.update(self._symbolic_factors(dim, fact))
                yield from ([dim - fact * factor] for factor in factors)

    def _symbolic_factors(self, dim: Dim, fact: Dim) -> dict[DimLike, None]:
        """Non-negative products by which `fact` cancels the sign and atoms of a term of `dim`."""
        factors: dict[DimLike, None] = {}
        for coefficient, atoms in dim.terms():
            for other, part in fact.terms():
                left = Counter(atoms) - Counter(part)
                if (
                    not Counter(part) <= Counter(atoms)
                    or not left
                    or coefficient % other
                    or coefficient // other < 0
                ):
                    continue
                factor = product(map(atom_dim, left.elements()))
                least = self.interval(factor)[0]
                if least is not None and least >= 0:
                    factors[factor * (coefficient // other)] = None
        return factors
