"""Turning inequalities and equalities over dimensions into facts.

A fact takes the strongest form that applies: a numeric bound or divisor of one symbol, an acyclic
substitution ``x := expression``, else a stored inequality or equality.  Facts never form a cycle:
solutions are kept free of solved symbols.
"""

from __future__ import annotations

from collections.abc import Callable
from math import gcd, lcm

from aino_ir.dim_prover import Facts
from aino_ir.dims import (
    Atom,
    Dim,
    DimLike,
    FloorDiv,
    Min,
    SymbolAtom,
    atom_dim,
    floordiv,
    free_symbols,
    product,
    split_mods,
    substitute,
    symbol,
)
from aino_ir.intervals import UNBOUNDED, intersect


class Empty(Exception):
    """No assignment of the symbols is left; the text says which symbol ran out of values."""


class Learner:
    """Adds facts to one `Facts`.

    `rank` orders symbols: of an equality the symbol with the highest rank is expressed by the others,
    and a symbol is never expressed by one whose rank has a higher first component.
    """

    __slots__ = ("facts", "rank")

    def __init__(self, facts: Facts, rank: Callable[[str], tuple[int, int]]) -> None:
        self.facts = facts
        self.rank = rank

    # ------------------------------------------------------------------------------ inequalities

    def learn_nonnegative(self, dim: DimLike) -> None:
        """Take ``dim >= 0`` as a fact.

        Raises:
            Empty: it contradicts what is known.
        """
        dim = self.facts.simplify(dim)
        if isinstance(dim, int):
            if dim < 0:
                raise Empty(f"{dim} is negative")
            return
        common = gcd(*(coefficient for coefficient, _ in dim.terms()))
        if common > 1:  # c*y + k >= 0 is y >= ceil(-k/c), that is y + floor(k/c) >= 0
            dim = (dim - dim.constant) // common + dim.constant // common
        if (
            isinstance(dim, int)
            or self._learn_term(dim)
            or self._learn_minimum(dim)
            or self._learn_factor(dim)
        ):
            return
        if not self.facts.is_nonnegative(dim):
            self.facts.nonnegative_facts.append(dim)
            self.facts.changed()
        self._propagate(dim)

    def _learn_term(self, dim: Dim) -> bool:
        """``c*atom + k >= 0``: a bound of a symbol, or of what a quotient divides."""
        terms = dim.terms()
        if len(terms) != 1:
            return False
        coefficient, atoms = terms[0]
        if len(atoms) > 1:
            if coefficient > 0 and dim.constant < 0 and all(self._is_natural(atom) for atom in atoms):
                for atom in dict.fromkeys(atoms):
                    self.learn_nonnegative(atom_dim(atom) - 1)
            return False
        atom = atoms[0]
        least = -(dim.constant // coefficient) if coefficient > 0 else None
        most = dim.constant // -coefficient if coefficient < 0 else None
        if isinstance(atom, SymbolAtom):
            self._bound(atom.name, least, most)
            return True
        if isinstance(atom, FloorDiv) and isinstance(atom.b, int):
            if least is not None:
                self.learn_nonnegative(atom.a - least * atom.b)
            elif most is not None:
                self.learn_nonnegative(most * atom.b + atom.b - 1 - atom.a)
            return True
        return False

    def _is_natural(self, atom: Atom) -> bool:
        least = self.facts.interval(atom_dim(atom))[0]
        return least is not None and least >= 0

    def _learn_minimum(self, dim: Dim) -> bool:
        """``c*min(a, b) + y >= 0`` with c > 0 holds for each argument."""
        for coefficient, atoms in dim.terms():
            atom = atoms[0]
            if len(atoms) == 1 and isinstance(atom, Min) and coefficient > 0:
                rest = dim - atom_dim(atom) * coefficient
                for argument in atom.args:
                    self.learn_nonnegative(rest + argument * coefficient)
                return True
        return False

    def _learn_factor(self, dim: Dim) -> bool:
        """``x*y >= 0`` with x >= 1 is ``y >= 0``."""
        factor = self._common_factor(dim)
        if factor is None:
            return False
        self.learn_nonnegative(floordiv(dim, factor))
        return True

    def _common_factor(self, dim: Dim) -> Dim | None:
        """A factor of all terms that is known to be at least 1."""
        if dim.constant:
            return None
        terms = dim.terms()
        for atom in terms[0][1]:
            if all(atom in atoms for _, atoms in terms) and len(terms) > 1:
                least = self.facts.interval(atom_dim(atom))[0]
                if least is not None and least >= 1:
                    return atom_dim(atom)
        return None

    def _propagate(self, dim: Dim) -> None:
        """``c*x + rest >= 0`` bounds x by the extreme value of the rest."""
        for coefficient, atoms in dim.terms():
            atom = atoms[0]
            if len(atoms) > 1 or not isinstance(atom, SymbolAtom):
                continue
            most_rest = self.facts.interval(dim - atom_dim(atom) * coefficient)[1]
            if most_rest is None:
                continue
            if coefficient > 0:
                self._bound(atom.name, -(most_rest // coefficient), None)
            else:
                self._bound(atom.name, None, most_rest // -coefficient)

    def _bound(self, name: str, lo: int | None, hi: int | None) -> None:
        """Tighten the numeric range of a symbol."""
        facts = self.facts
        old = facts.ranges.get(name, UNBOUNDED)
        least, most = intersect(old, (lo, hi))
        step = facts.steps.get(name, 1)
        if step > 1:
            least = None if least is None else -(-least // step) * step
            most = None if most is None else most // step * step
        if (least, most) == old:
            return
        if least is not None and most is not None and least > most:
            raise Empty(f"{name} would have to be in {least}..{most}")
        facts.ranges[name] = (least, most)
        facts.changed()
        if least is not None and least == most and name not in facts.solutions:
            self._solve(name, least)

    # ------------------------------------------------------------------------------ equalities

    def learn_zero(self, dim: DimLike) -> None:
        """Take ``dim == 0`` as a fact.

        Raises:
            Empty: it contradicts what is known.
        """
        dim = self.facts.simplify(dim)
        if isinstance(dim, int):
            if dim != 0:
                raise Empty(f"{dim} is not zero")
            return
        common = gcd(*(coefficient for coefficient, _ in dim.terms()))
        if dim.constant % common:
            raise Empty(f"{dim} is never zero")
        reduced = floordiv(dim, common)
        if isinstance(reduced, int) or self._learn_remainder(reduced) or self._learn_solution(reduced):
            return
        factor = self._common_factor(reduced)
        if factor is not None:
            self.learn_zero(floordiv(reduced, factor))
            return
        self.facts.zero_facts.append(reduced)
        self.facts.changed()
        self._learn_divisors(reduced)
        self.learn_nonnegative(reduced)
        self.learn_nonnegative(-reduced)

    def _learn_remainder(self, dim: Dim) -> bool:
        """``k*(a % b) == v`` is ``b`` divides ``a - v/k``."""
        rest, remainders = split_mods(dim)
        if isinstance(rest, Dim) or len(remainders) != 1:
            return False
        factor, a, b = remainders[0]
        if isinstance(b, Dim):
            return False
        value, inexact = divmod(-rest, factor)
        if inexact or not 0 <= value < b:
            raise Empty(f"({a}) % {b} is never {-rest}/{factor}")
        self._learn_multiple(a - value, b)
        return True

    def _learn_solution(self, dim: Dim) -> bool:
        """``x - y == 0`` is ``x := y`` for the symbol with the highest rank that stands alone."""
        best: tuple[tuple[int, int], str, int] | None = None
        terms = dim.terms()
        for coefficient, atoms in terms:
            atom = atoms[0]
            if len(atoms) > 1 or not isinstance(atom, SymbolAtom) or abs(coefficient) != 1:
                continue
            uses = sum(atom.name in other.symbols for _, others in terms for other in others)
            rank = self.rank(atom.name)
            if uses == 1 and (best is None or rank > best[0]):
                best = (rank, atom.name, coefficient)
        if best is None:
            return False
        (origin, _), name, coefficient = best
        value = (dim - symbol(name) * coefficient) * -coefficient
        if any(self.rank(other)[0] > origin for other in free_symbols(value)):
            return False
        self._solve(name, value)
        return True

    def _solve(self, name: str, value: DimLike) -> None:
        """Record ``name := value`` and move all that is known about `name` to `value`."""
        facts = self.facts
        for other, expression in list(facts.solutions.items()):
            if name in free_symbols(expression):
                facts.solutions[other] = substitute(expression, {name: value})
        facts.solutions[name] = value
        again = [fact for fact in facts.nonnegative_facts if name in fact.free_symbols()]
        zeros = [fact for fact in facts.zero_facts if name in fact.free_symbols()]
        facts.nonnegative_facts = [fact for fact in facts.nonnegative_facts if fact not in again]
        facts.zero_facts = [fact for fact in facts.zero_facts if fact not in zeros]
        facts.changed()
        lo, hi = facts.ranges.get(name, UNBOUNDED)
        symbolic = facts.bounds.get(name, UNBOUNDED)
        for bound in (lo, symbolic[0]):
            if bound is not None:
                self.learn_nonnegative(value - bound)
        for bound in (hi, symbolic[1]):
            if bound is not None:
                self.learn_nonnegative(bound - value)
        if facts.steps.get(name, 1) > 1:
            self._learn_multiple(value, facts.steps[name])
        for fact in again:
            self.learn_nonnegative(fact)
        for fact in zeros:
            self.learn_zero(fact)

    def _learn_divisors(self, dim: Dim) -> None:
        """``c*x + k*y == 0`` makes x a multiple of k/gcd and y one of c/gcd."""
        for coefficient, atoms in dim.terms():
            rest = dim - product(map(atom_dim, atoms)) * coefficient
            k = self.facts.divisor(rest)
            if k > 1 and len(atoms) == 1:
                self._learn_multiple(atom_dim(atoms[0]), k // gcd(k, coefficient))

    def _learn_multiple(self, dim: DimLike, k: int) -> None:
        """Take "k divides `dim`" as a fact."""
        decided = self.facts.decide_multiple(dim, k)
        if decided is True:
            return
        if decided is False:
            raise Empty(f"{dim} is never a multiple of {k}")
        dim = self.facts.simplify(dim)
        residue = dim - floordiv(dim, k) * k  # normal form: what is left modulo k
        terms = self.facts.terms_modulo(dim, k) if isinstance(dim, Dim) else []
        constant = dim.constant if isinstance(dim, Dim) else dim
        atom = terms[0][1][0] if len(terms) == 1 and len(terms[0][1]) == 1 else None
        if isinstance(atom, SymbolAtom):
            coefficient = terms[0][0]
            common = gcd(coefficient, k)
            if constant % common:
                raise Empty(f"{dim} is never a multiple of {k}")
            period = k // common
            if (constant // common) % period == 0:
                name = atom.name
                self.facts.steps[name] = lcm(self.facts.steps.get(name, 1), period)
                self.facts.changed()
                self._bound(name, None, None)
                return
        if isinstance(residue, Dim):
            self.facts.zero_facts.append(residue)
            self.facts.changed()
