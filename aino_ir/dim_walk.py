"""Walking over dimensions: `fold`, remainders recovered from the normal form, and coefficients."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar, cast

from aino_ir.dim_atoms import Atom, FloorDiv, Min, SymbolAtom
from aino_ir.dim_form import Dim, DimLike, atom_dim, product
from aino_ir.dim_form import floordiv as divide

T = TypeVar("T")


def fold(
    dim: DimLike,
    *,
    const: Callable[[int], T],
    symbol: Callable[[str], T],
    add: Callable[[T, T], T],
    mul: Callable[[T, T], T],
    floordiv: Callable[[T, T], T],
    minimum: Callable[[T, T], T],
    sub: Callable[[T, T], T] | None = None,
    mod: Callable[[T, T], T] | None = None,
) -> T:
    """Rebuild `dim` bottom-up with the given constructors; every printer and evaluator is one call.

    `sub`, when given, takes terms with a negative coefficient, positive terms then come first (else
    they are multiplied by a negative constant).  `mod`, when given, takes the remainders that
    `split_mods` recovers.
    """

    def visit(node: DimLike) -> T:
        if isinstance(node, int):
            return const(node)
        rest, remainders = split_mods(node) if mod is not None else (node, [])
        parts: list[tuple[int, T]] = []
        if isinstance(rest, Dim):
            parts = [(coefficient, visit_product(atoms)) for coefficient, atoms in rest.terms()]
        if mod is not None:
            parts += [(factor, mod(visit(a), visit(b))) for factor, a, b in remainders]
        if sub is not None:
            parts.sort(key=lambda part: part[0] < 0)
        total = functools.reduce(combine, parts, None)
        constant = rest.constant if isinstance(rest, Dim) else rest
        if constant and total is not None and constant < 0 and sub is not None:
            return sub(total, const(-constant))
        if constant and total is not None:
            return add(total, const(constant))
        return const(constant) if total is None else total

    def combine(total: T | None, part: tuple[int, T]) -> T:
        coefficient, value = part
        subtract = sub if total is not None and coefficient < 0 else None
        size = -coefficient if subtract is not None else coefficient
        term = value if size == 1 else mul(const(size), value)
        if total is None:
            return term
        return add(total, term) if subtract is None else subtract(total, term)

    def visit_product(atoms: tuple[Atom, ...]) -> T:
        return functools.reduce(mul, map(visit_atom, atoms))

    def visit_atom(atom: Atom) -> T:
        if isinstance(atom, SymbolAtom):
            return symbol(atom.name)
        if isinstance(atom, FloorDiv):
            return floordiv(visit(atom.a), visit(atom.b))
        return functools.reduce(minimum, map(visit, cast(Min, atom).args))

    return visit(dim)


def as_mod(dim: DimLike) -> tuple[DimLike, DimLike] | None:
    """`(a, b)` when `dim` is exactly ``a % b``, else None."""
    rest, remainders = split_mods(dim)
    if isinstance(rest, int) and rest == 0 and len(remainders) == 1 and remainders[0][0] == 1:
        return remainders[0][1:]
    return None


def split_mods(dim: DimLike) -> tuple[DimLike, list[tuple[int, DimLike, DimLike]]]:
    """`dim` as ``rest + sum(k * (a % b))``: `(rest, [(k, a, b), ...])`.

    A remainder is recovered only where that makes the rest simpler.
    """
    found: list[tuple[int, DimLike, DimLike]] = []
    rest = dim
    for atom in _quotients(dim):
        if not isinstance(rest, Dim):
            break
        outer, k = _multiple_of_divisor(rest, atom)
        if k == 0:
            continue
        without = rest - outer * atom_dim(atom)
        candidate = without - atom.a * k
        if _size(candidate) < _size(without):
            rest = candidate
            found.append((k, atom.a, atom.b))
    return rest, found


def _quotients(dim: DimLike) -> list[FloorDiv]:
    """The floor divisions that are factors of monomials of `dim`, each once, in order."""
    if isinstance(dim, int) or dim.affine:
        return []
    atoms = dict.fromkeys(atom for _, atoms in dim.terms() for atom in atoms)
    return [atom for atom in atoms if isinstance(atom, FloorDiv)]


def _size(dim: DimLike) -> int:
    if isinstance(dim, int):
        return int(dim != 0)
    return 2 * len(dim.terms()) + int(dim.constant != 0)


def coefficient_of(dim: DimLike, atom: Atom) -> DimLike | None:
    """What `atom` is multiplied by in `dim`, where it stands at most once per monomial; else None."""
    if isinstance(dim, int):
        return 0
    result: DimLike = 0
    for coefficient, atoms in dim.terms():
        if atom in atoms:
            left = list(atoms)
            left.remove(atom)
            if atom in left:
                return None
            result = result + (product(map(atom_dim, left)) * coefficient if left else coefficient)
    return result


def _multiple_of_divisor(dim: Dim, atom: FloorDiv) -> tuple[DimLike, int]:
    """`(c, k)` where `atom` has the coefficient ``c = -k * atom.b`` in `dim`; k = 0 if it has not."""
    outer = coefficient_of(dim, atom)
    if outer is None:
        return 0, 0
    if isinstance(outer, int):
        if isinstance(atom.b, Dim) or outer % atom.b:
            return 0, 0
        return outer, -outer // atom.b
    if isinstance(atom.b, int):
        return 0, 0
    k = -divide(outer, atom.b)
    return (outer, k) if isinstance(k, int) and outer is atom.b * -k else (0, 0)
