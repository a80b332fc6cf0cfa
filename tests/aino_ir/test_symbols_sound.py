"""Every answer of a symbol table is checked against brute force over small ranges."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.dims import Dim, DimLike, dmax, dmin, symbol
from aino_ir.errors.dims import ContradictoryDims
from aino_ir.symbols import Origin, Symbols

NAMES = ("x", "y", "z")
Environment = dict[str, int]


@dataclass(frozen=True)
class Case:
    """A table's declarations and the facts to add: (kind, a, b)."""

    ranges: tuple[tuple[int, int, int], ...]
    origins: tuple[Origin, ...]
    facts: tuple[tuple[str, DimLike, DimLike], ...]


BINARY: list[Callable[[DimLike, DimLike], DimLike]] = [operator.add, operator.sub, dmin, dmax]


def dims(symbolic: bool = True) -> st.SearchStrategy[DimLike]:
    """Dimensions of the kinds that shapes and index expressions have."""
    leaves = st.one_of(st.integers(-4, 8), st.sampled_from([symbol(name) for name in NAMES]))

    def extend(inner: st.SearchStrategy[DimLike]) -> st.SearchStrategy[DimLike]:
        choices = [
            st.builds(lambda f, p, q: f(p, q), st.sampled_from(BINARY), inner, inner),
            st.builds(operator.mul, inner, st.integers(-4, 4)),
            st.builds(operator.floordiv, inner, st.integers(2, 5)),
            st.builds(operator.mod, inner, st.integers(2, 5)),
        ]
        if symbolic:
            choices.append(st.builds(operator.mul, inner, inner))
            positive = st.builds(lambda d: dmax(d, 1), inner)
            choices.append(
                st.builds(lambda p, q: p - q * (p // q) if isinstance(q, Dim) else p % q, inner, positive)
            )
            choices.append(st.builds(operator.floordiv, inner, positive))
        return st.one_of(choices)

    return st.recursive(leaves, extend, max_leaves=5)


ORIGINS = st.sampled_from([Origin.input("i", 0), Origin.data(1, 0, None), Origin.local()])
RANGES = st.builds(
    lambda lo, n, step: (lo * step, (lo + n) * step, step),
    st.integers(-2, 2),
    st.integers(0, 4),
    st.integers(1, 3),
)
FACTS = st.tuples(st.sampled_from(["eq", "ge"]), dims(), dims())
CASES = st.builds(
    Case,
    st.tuples(RANGES, RANGES, RANGES),
    st.tuples(ORIGINS, ORIGINS, ORIGINS),
    st.lists(FACTS, max_size=2).map(tuple),
)


def value(dim: DimLike, env: Environment) -> int:
    return dim.evaluate(env) if isinstance(dim, Dim) else dim


HOLDS = {"eq": operator.eq, "ge": operator.ge}


def environments(case: Case) -> list[Environment]:
    """All assignments within the declared ranges that satisfy the facts."""
    axes = [range(lo, hi + 1, step) for lo, hi, step in case.ranges]
    every = [dict(zip(NAMES, point, strict=True)) for point in itertools.product(*axes)]
    return [
        env for env in every if all(HOLDS[kind](value(a, env), value(b, env)) for kind, a, b in case.facts)
    ]


def table(case: Case) -> Symbols | None:
    """The table with all facts, or None if it found them contradictory."""
    symbols = Symbols()
    for name, (lo, hi, step), origin in zip(NAMES, case.ranges, case.origins, strict=True):
        symbols.new(name, lo, hi, step, origin)
    try:
        for kind, a, b in case.facts:
            (symbols.assume_eq if kind == "eq" else symbols.assume_ge)(a, b, "fact")
    except ContradictoryDims:
        return None
    return symbols


def check(answer: bool | None, truths: set[bool]) -> None:
    if answer is not None and truths:
        assert truths == {answer}


@settings(max_examples=450, deadline=None, derandomize=True)
@given(CASES, dims(), dims())
def test_answers_are_sound(case: Case, a: DimLike, b: DimLike) -> None:
    envs = environments(case)
    symbols = table(case)
    if symbols is None:
        assert not envs, "facts that some assignment satisfies were called contradictory"
        return
    pairs = [(value(a, env), value(b, env)) for env in envs]
    check(symbols.prove_eq(a, b), {p == q for p, q in pairs})
    check(symbols.prove_ge(a, b), {p >= q for p, q in pairs})
    check(symbols.prove_gt(a, b), {p > q for p, q in pairs})
    for k in (2, 3, 4):
        check(symbols.prove_divisible(a, k), {p % k == 0 for p, _ in pairs})
    exact = symbols.div(a, b)
    simple = symbols.simplify(a)
    canonical = symbols.canonical(a)
    lo, hi = symbols.interval(a)
    for env, (p, q) in zip(envs, pairs, strict=True):
        assert value(simple, env) == p
        assert value(canonical, env) == p
        assert (lo is None or lo <= p) and (hi is None or p <= hi)
        if exact is not None:
            assert q != 0 and value(exact, env) * q == p


@settings(max_examples=250, deadline=None, derandomize=True)
@given(CASES)
def test_checks_admit_exactly_the_assignments_of_the_facts(case: Case) -> None:
    symbols = table(case)
    if symbols is None:
        return
    axes = [range(lo, hi + 1, step) for lo, hi, step in case.ranges]
    admitted = [
        env
        for env in (dict(zip(NAMES, point, strict=True)) for point in itertools.product(*axes))
        if all(HOLDS[c.kind](value(c.lhs, env), value(c.rhs, env)) for c in symbols.checks)
    ]
    assert admitted == environments(case)


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    dims(symbolic=False),
    dims(symbolic=False),
    st.integers(0, 5),
    st.integers(0, 4),
    st.integers(-3, 3),
    st.integers(1, 4),
)
def test_loop_variables_with_symbolic_bounds_are_sound(
    a: DimLike, b: DimLike, least: int, extra: int, shift: int, tile: int
) -> None:
    """x is a size, y a loop variable below it, z one within a tile."""
    symbols = Symbols()
    x = symbols.new("x", least, least + extra, origin=Origin.input("i", 0))
    envs = []
    with symbols.with_range("y", shift, x - 1) as y, symbols.with_range("z", y * tile, y * tile + tile - 1):
        for size in range(least, least + extra + 1):
            for outer in range(shift, size):
                envs += [{"x": size, "y": outer, "z": outer * tile + n} for n in range(tile)]
        pairs = [(value(a, env), value(b, env)) for env in envs]
        check(symbols.prove_eq(a, b), {p == q for p, q in pairs})
        check(symbols.prove_ge(a, b), {p >= q for p, q in pairs})
        simple, (lo, hi) = symbols.simplify(a), symbols.interval(a)
        for env, (p, _) in zip(envs, pairs, strict=True):
            assert value(simple, env) == p
            assert (lo is None or lo <= p) and (hi is None or p <= hi)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(dims(), dims())
def test_intervals_of_one_symbol_are_tight_enough(a: DimLike, b: DimLike) -> None:
    """With every symbol fixed, each expression is decided completely."""
    symbols = Symbols()
    env = {"x": 3, "y": 0, "z": 5}
    for name, fixed in env.items():
        symbols.new(name, fixed, fixed)
    assert symbols.prove_eq(a, b) is (value(a, env) == value(b, env))
    assert symbols.prove_ge(a, b) is (value(a, env) >= value(b, env))
    assert symbols.simplify(a) == value(a, env)
