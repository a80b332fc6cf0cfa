"""The symbol table of a function: what is known about its symbolic dimensions, and proofs from it.

Every answer is three-valued where it can be: True and False are proved for all values of the
symbols, None is unknown.  `assume_eq` and `assume_ge` turn an unknown into an *entry check*, which
the compiled program tests against the real extents, and at once into a fact: a bound, a divisibility,
or an acyclic substitution ``x := expression``.  All bounds are inclusive.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from aino_ir.dim_bounds import SymbolicBounds
from aino_ir.dim_learner import Empty, Learner
from aino_ir.dim_prover import Facts
from aino_ir.dims import Dim, DimLike, floordiv, free_symbols, symbol
from aino_ir.errors.dims import (
    CheckFailed,
    ContradictoryDims,
    EmptyRange,
    ExtentMismatch,
    RankMismatch,
    SymbolOutOfRange,
    SymbolRedefined,
    UnknownSymbol,
)
from aino_ir.intervals import UNBOUNDED, Interval, intersect
from aino_ir.symbol_info import LOCAL, RELATIONS, RESERVED_NAMES, Check, Origin, SymbolInfo, model_symbol_name

__all__ = ["LOCAL", "RESERVED_NAMES", "Check", "Origin", "SymbolInfo", "Symbols", "model_symbol_name"]


_HOLDS = {"eq": operator.eq, "ge": operator.ge}


class Symbols:
    """The symbols of one function (or one loop kernel), their facts, and the checks they rest on.

    Attributes:
        checks: what `assume_eq` and `assume_ge` recorded, in order.
    """

    __slots__ = ("_declared", "_facts", "_learner", "_scopes", "checks")

    def __init__(self) -> None:
        self._declared: dict[str, SymbolInfo] = {}
        self._facts = Facts()
        self._learner = Learner(self._facts, self._rank)
        self._scopes: list[_Scope] = []
        self.checks: list[Check] = []

    # ------------------------------------------------------------------------------ the table

    def new(
        self,
        name: str,
        lo: DimLike | None = 0,
        hi: DimLike | None = None,
        step: int = 1,
        origin: Origin = LOCAL,
    ) -> Dim:
        """Declare a symbol within ``lo..hi`` (inclusive, None is unbounded) that is a multiple of `step`.

        Raises:
            InvalidSymbolName, SymbolRedefined: the name is no identifier, or taken.
            EmptyRange: no value is left.
        """
        dim = symbol(name)
        old = self._declared.get(name)
        if old is not None:
            raise SymbolRedefined(name=name, old=old.origin, new=origin)
        facts = self._facts
        least = lo if lo is None or isinstance(lo, int) else facts.interval(facts.canonical(lo))[0]
        most = hi if hi is None or isinstance(hi, int) else facts.interval(facts.canonical(hi))[1]
        if step > 1:
            least = None if least is None else -(-least // step) * step
            most = None if most is None else most // step * step
            facts.steps[name] = step
        symbolic = isinstance(lo, Dim) or isinstance(hi, Dim)
        if least is not None and most is not None and least > most and not symbolic:
            facts.steps.pop(name, None)
            raise EmptyRange(name=name, lo=lo, hi=hi, step=step)
        facts.ranges[name] = (least, most)
        if symbolic:
            facts.bounds[name] = SymbolicBounds(lo, hi)
        if least is not None and least == most and not symbolic:
            facts.solutions[name] = least
        elif lo is not None and lo is hi:
            facts.solutions[name] = facts.canonical(lo)
        self._declared[name] = SymbolInfo(lo, hi, step, origin)
        facts.memo = facts.memo.child((name, lo, hi, step, origin.kind))
        return dim

    def fresh(self, text: str) -> str:
        """An unused symbol name like `text`, which may be any string."""
        stem = re.sub(r"[^A-Za-z0-9_]+", "_", text, flags=re.ASCII).strip("_") or "d"
        if stem[0].isdigit():
            stem = "d" + stem
        name, number = stem, 1
        while name in self._declared or name in RESERVED_NAMES:
            number += 1
            name = f"{stem}_{number}"
        return name

    def data(self, op: int, result: int, upper: DimLike | None, position: int = 0) -> Dim:
        """An extent that op `op` decides at run time, in 0..upper; minted once, then found again.

        `position` tells several extents of one result apart.
        """
        name = f"d{op}_{result}" + (f"_{position}" if position else "")
        return self._of_op(name, 0, upper, Origin.data(op, result, upper))

    def value(self, op: int, element: int, lower: DimLike, upper: DimLike) -> Dim:
        """The integer in lower..upper that op `op` computes as an element; minted once, then found again."""
        return self._of_op(f"v{op}_{element}", lower, upper, Origin.value(op, 0, element))

    def _of_op(self, name: str, lower: DimLike, upper: DimLike | None, origin: Origin) -> Dim:
        """The symbol of something that an op decides at run time."""
        old = self._declared.get(name)
        while old is not None:
            if (old.origin.kind, old.origin.op, old.origin.result) == (origin.kind, origin.op, origin.result):
                return symbol(name)
            name += "_"  # the model itself uses this name
            old = self._declared.get(name)
        return self.new(name, lower, upper, origin=origin)

    def __contains__(self, name: object) -> bool:
        return name in self._declared

    def __iter__(self) -> Iterator[str]:
        return iter(self._declared)

    def __len__(self) -> int:
        return len(self._declared)

    def declared(self, name: str) -> SymbolInfo:
        """What `new` was told about `name`.

        Raises:
            UnknownSymbol: it is not in this table.
        """
        found = self._declared.get(name)
        if found is None:
            raise UnknownSymbol(name=name, dim=name, known=", ".join(self._declared) or "none")
        return found

    def info(self, name: str) -> SymbolInfo:
        """What is known about `name` now, bounds as numbers: may be tighter than `declared`."""
        origin = self.declared(name).origin
        facts = self._facts
        value = facts.canonical(symbol(name))
        lo, hi = intersect(facts.ranges.get(name, UNBOUNDED), facts.interval(value))
        return SymbolInfo(lo, hi, facts.divisor(value) or 1, origin)

    def solutions(self) -> dict[str, DimLike]:
        """Symbols that are known to equal an expression of other symbols."""
        return dict(self._facts.solutions)

    def clone(self) -> Symbols:
        """An independent copy; open scopes become part of it."""
        copy = Symbols()
        copy._declared = dict(self._declared)
        copy._facts = self._facts.clone()
        copy._learner = Learner(copy._facts, copy._rank)
        copy.checks = list(self.checks)
        return copy

    def _rank(self, name: str) -> tuple[int, int]:
        """Which symbol of an equality is expressed by the others: the one with the highest rank."""
        info = self._declared.get(name)
        if info is None:
            return (-1, 0)
        order = {"input": 0, "value": 1, "data": 2, "local": 3}
        return order[info.origin.kind], list(self._declared).index(name)

    # ------------------------------------------------------------------------------ scopes

    def push(self) -> None:
        """Open a scope: symbols and facts added from now on vanish with `pop` (recorded checks stay)."""
        self._scopes.append(_Scope(self))

    def pop(self) -> None:
        """Close the innermost scope."""
        self._scopes.pop().restore(self)

    @contextmanager
    def scope(self) -> Iterator[Symbols]:
        """`push` and `pop` as a ``with`` block."""
        self.push()
        try:
            yield self
        finally:
            self.pop()

    def open_range(self, name: str, lo: DimLike | None, hi: DimLike | None, step: int = 1) -> Dim:
        """`push`, and declare a loop variable within ``lo..hi`` (inclusive); `pop` closes it."""
        self.push()
        try:
            return self.new(name, lo, hi, step)
        except BaseException:
            self.pop()
            raise

    @contextmanager
    def with_range(self, name: str, lo: DimLike | None, hi: DimLike | None, step: int = 1) -> Iterator[Dim]:
        """A loop variable within ``lo..hi`` (inclusive) that lives as long as the ``with`` block."""
        dim = self.open_range(name, lo, hi, step)
        try:
            yield dim
        finally:
            self.pop()

    # ------------------------------------------------------------------------------ questions

    def canonical(self, a: DimLike) -> DimLike:
        """`a` with all known substitutions applied."""
        return self._facts.canonical(a)

    def simplify(self, a: DimLike) -> DimLike:
        """An equal dimension, simpler where bounds and divisibility allow."""
        return self._facts.simplify(a)

    def interval(self, a: DimLike) -> Interval:
        """Inclusive bounds of `a`; None is unbounded."""
        return self._facts.interval(self._facts.simplify(a))

    def prove_eq(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether ``a == b``: True, False or None (unknown)."""
        if a is b:
            return True
        return self._facts.decide_zero(a - b)

    def prove_ge(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether ``a >= b``: True, False or None (unknown)."""
        return self._facts.decide_nonnegative(a - b)

    def prove_gt(self, a: DimLike, b: DimLike) -> bool | None:
        """Whether ``a > b``: True, False or None (unknown)."""
        return self._facts.decide_nonnegative(a - b - 1)

    def prove_divisible(self, a: DimLike, k: DimLike) -> bool | None:
        """Whether `k` divides `a`: True, False or None (unknown)."""
        if isinstance(k, int) and k != 0:
            return self._facts.decide_multiple(a, abs(k))
        return True if self.div(a, k) is not None else None

    def div(self, a: DimLike, b: DimLike) -> DimLike | None:
        """``a / b`` where it is provably exact and `b` provably not zero, else None."""
        if isinstance(b, int):
            if b == 0 or self.prove_divisible(a, b) is not True:
                return None
            return self.simplify(floordiv(a, b))
        if self.prove_eq(b, 0) is not False:
            return None
        quotient = self.simplify(floordiv(self.canonical(a), self.canonical(b)))
        return quotient if self.prove_eq(quotient * b, a) else None

    # ------------------------------------------------------------------------------ facts

    def assume_eq(self, a: DimLike, b: DimLike, what: str) -> None:
        """Require ``a == b``: nothing if proved, else an entry check and a fact.

        Raises:
            ContradictoryDims: they can never be equal.
        """
        self._assume("eq", a, b, what, self.prove_eq(a, b))

    def assume_ge(self, a: DimLike, b: DimLike, what: str) -> None:
        """Require ``a >= b``: nothing if proved, else an entry check and a fact.

        Raises:
            ContradictoryDims: it can never hold.
        """
        self._assume("ge", a, b, what, self.prove_ge(a, b))

    def assume_divisible(self, a: DimLike, k: int, what: str) -> None:
        """Require that `k` divides `a`: the check ``a % k == 0``."""
        self.assume_eq(a - floordiv(a, k) * k, 0, what)

    def given_eq(self, a: DimLike, b: DimLike, what: str = "a known fact") -> None:
        """Take ``a == b`` as a fact without a check (the caller guarantees it, as a guard does)."""
        self._learn("eq", a, b, what)

    def given_ge(self, a: DimLike, b: DimLike, what: str = "a known fact") -> None:
        """Take ``a >= b`` as a fact without a check (the caller guarantees it, as a guard does)."""
        self._learn("ge", a, b, what)

    def restore_check(self, check: Check) -> None:
        """Record `check` and its fact even where it is already provable (reading a printed table)."""
        self._learn(check.kind, check.lhs, check.rhs, check.what)
        self.checks.append(check)

    def _assume(self, kind: str, a: DimLike, b: DimLike, what: str, proved: bool | None) -> None:
        if proved is True:
            return
        if proved is False:
            raise ContradictoryDims(what=what, left=a, right=b, relation=RELATIONS[kind], why=self._why(a, b))
        self._learn(kind, a, b, what)
        self.checks.append(Check(kind, a, b, what, self._after(a, b)))

    def _learn(self, kind: str, a: DimLike, b: DimLike, what: str) -> None:
        difference = a - b
        memo = self._facts.memo
        self.push()
        try:
            if kind == "eq":
                self._learner.learn_zero(difference)
            else:
                self._learner.learn_nonnegative(difference)
        except Empty as empty:
            self.pop()
            raise ContradictoryDims(
                what=what, left=a, right=b, relation=RELATIONS[kind], why=f" ({empty})"
            ) from None
        self._scopes.pop()
        self._facts.memo = memo.child((kind, difference))

    def _why(self, a: DimLike, b: DimLike) -> str:
        """The ranges of the symbols involved, for an error message."""
        names = sorted(free_symbols(self.canonical(a - b)))
        ranges = [_range_text(name, *self._facts.ranges.get(name, UNBOUNDED)) for name in names]
        return f" ({', '.join(ranges)})" if ranges else ""

    def _after(self, *dims: DimLike) -> int | None:
        """The op after which every symbol of `dims` has its value; None is at entry."""
        names = frozenset().union(*map(free_symbols, dims))
        late = [name for name in names if name in self._declared and self._rank(name)[0] in (1, 2)]
        if not late:
            return None
        order = {name: index for index, name in enumerate(self._declared)}
        return self._declared[max(late, key=order.__getitem__)].origin.op

    # ------------------------------------------------------------------------------ values

    def evaluate(self, a: DimLike, bindings: Mapping[str, int]) -> int:
        """The value of `a`; solved symbols need no binding.

        Raises:
            UnknownSymbol: a symbol has neither a binding nor a solution.
        """
        if isinstance(a, Dim):
            a = a if a.free_symbols() <= bindings.keys() else self.canonical(a)
        return a.evaluate(bindings) if isinstance(a, Dim) else a

    def bind(
        self,
        types: Sequence[Any],
        shapes: Sequence[Sequence[int]],
        names: Sequence[str] | None = None,
    ) -> dict[str, int]:
        """Values of the symbols in `types` (objects with a ``shape``, or shapes) for concrete `shapes`.

        Checks ranks, extents, declared ranges and all entry checks whose symbols are bound.

        Raises:
            RankMismatch, ExtentMismatch, SymbolOutOfRange, CheckFailed: the shapes do not fit.
        """
        bindings: dict[str, int] = {}
        pending: list[tuple[str, int, Dim, int]] = []
        for index, (declared, actual) in enumerate(zip(types, shapes, strict=True)):
            what = f"input {names[index]}" if names is not None else f"input {index}"
            shape = getattr(declared, "shape", declared)
            if len(shape) != len(actual):
                text = "[" + ", ".join(map(str, shape)) + "]"
                raise RankMismatch(what=what, got=len(actual), expected=text, rank=len(shape))
            for axis, (dim, extent) in enumerate(zip(shape, actual, strict=True)):
                if isinstance(dim, Dim):
                    pending.append((what, axis, dim, int(extent)))
                elif dim != extent:
                    raise ExtentMismatch(what=what, axis=axis, got=extent, expected=dim, where="")
        self._unify(pending, bindings)
        self.check_bindings(bindings)
        return bindings

    def _unify(self, pending: list[tuple[str, int, Dim, int]], bindings: dict[str, int]) -> None:
        """Bind plain symbols first, then solve what has one unknown, then compare the rest."""
        for what, axis, dim, extent in pending:
            name = dim.as_symbol()
            if name is not None and bindings.setdefault(name, extent) != extent:
                self._mismatch(what, axis, dim, extent, bindings)
        waiting = [item for item in pending if item[2].as_symbol() is None]
        progress = True
        while waiting and progress:
            progress = False
            for item in list(waiting):
                what, axis, dim, extent = item
                rest = dim.substitute(bindings)
                if isinstance(rest, Dim) and not _solve(rest, extent, bindings):
                    continue
                waiting.remove(item)
                progress = True
                if self.evaluate(dim, bindings) != extent:
                    self._mismatch(what, axis, dim, extent, bindings)
        for what, axis, dim, extent in waiting:
            if self.evaluate(dim, bindings) != extent:
                self._mismatch(what, axis, dim, extent, bindings)

    def _mismatch(self, what: str, axis: int, dim: Dim, extent: int, bindings: Mapping[str, int]) -> None:
        known = [f"{name} = {bindings[name]}" for name in sorted(dim.free_symbols()) if name in bindings]
        where = f" ({', '.join(known)})" if known else ""
        raise ExtentMismatch(what=what, axis=axis, got=extent, expected=dim, where=where)

    def _known(self, dim: DimLike, bindings: Mapping[str, int]) -> bool:
        """Whether `evaluate` would find a value for every symbol."""
        names = bindings.keys()
        return free_symbols(dim) <= names or free_symbols(self.canonical(dim)) <= names

    def check_bindings(self, bindings: Mapping[str, int], after_op: int | None = None) -> None:
        """Test declared ranges, divisibility and the checks that run at entry (or after one op).

        Raises:
            SymbolOutOfRange, CheckFailed: the values do not fit.
        """
        for name, value in bindings.items():
            info = self._declared.get(name)
            if info is not None and not _in_range(self, info, value, bindings):
                expected = _expected_text(info)
                raise SymbolOutOfRange(name=name, got=value, expected=expected)
        for check in self.checks:
            if check.after_op == after_op:
                self._test(check, bindings)

    def _test(self, check: Check, bindings: Mapping[str, int]) -> None:
        if not (self._known(check.lhs, bindings) and self._known(check.rhs, bindings)):
            return
        left, right = self.evaluate(check.lhs, bindings), self.evaluate(check.rhs, bindings)
        if not _HOLDS[check.kind](left, right):
            raise CheckFailed(
                what=check.what,
                left=check.lhs,
                relation=check.relation,
                right=check.rhs,
                left_value=left,
                right_value=right,
            )


class _Scope:
    """What `Symbols.pop` restores."""

    __slots__ = ("bounds", "declared", "memo", "nonnegative", "ranges", "solutions", "steps", "zero")

    def __init__(self, table: Symbols) -> None:
        facts = table._facts
        self.memo = facts.memo
        self.declared, self.ranges, self.steps = table._declared, facts.ranges, facts.steps
        self.bounds, self.solutions = facts.bounds, facts.solutions
        self.nonnegative, self.zero = facts.nonnegative_facts, facts.zero_facts
        table._declared, facts.ranges, facts.steps = dict(self.declared), dict(self.ranges), dict(self.steps)
        facts.bounds, facts.solutions = dict(self.bounds), dict(self.solutions)
        facts.nonnegative_facts, facts.zero_facts = list(self.nonnegative), list(self.zero)

    def restore(self, table: Symbols) -> None:
        facts = table._facts
        table._declared, facts.ranges, facts.steps = self.declared, self.ranges, self.steps
        facts.bounds, facts.solutions = self.bounds, self.solutions
        facts.nonnegative_facts, facts.zero_facts = self.nonnegative, self.zero
        facts.memo = self.memo


def _solve(rest: Dim, extent: int, bindings: dict[str, int]) -> bool:
    """Bind the one symbol of an affine `rest` so that it equals `extent`; False if that is not its form."""
    terms = rest.terms()
    if not rest.affine or len(terms) != 1:
        return False
    coefficient, _ = terms[0]
    (name,) = rest.free_symbols()
    bindings[name] = (extent - rest.constant) // coefficient
    return True


def _in_range(table: Symbols, info: SymbolInfo, value: int, bindings: Mapping[str, int]) -> bool:
    if value % info.divisible_by:
        return False
    for bound, sign in ((info.lo, 1), (info.hi, -1)):
        if bound is not None and table._known(bound, bindings):
            if sign * (value - table.evaluate(bound, bindings)) < 0:
                return False
    return True


def _range_text(name: str, lo: DimLike | None, hi: DimLike | None) -> str:
    return f"{name} in {'-inf' if lo is None else lo}..{'inf' if hi is None else hi}"


def _expected_text(info: SymbolInfo) -> str:
    lo, hi = "-inf" if info.lo is None else info.lo, "inf" if info.hi is None else info.hi
    multiple = f" and a multiple of {info.divisible_by}" if info.divisible_by > 1 else ""
    return f"in {lo}..{hi}{multiple}"
