"""The normal form of dimensions: identities, text, and equality with plain integer arithmetic."""

from __future__ import annotations

import copy
import gc
import operator
import pickle
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir import dim_form
from aino_ir.dims import (
    Dim,
    DimLike,
    FloorDiv,
    Min,
    SymbolAtom,
    align,
    as_mod,
    ceildiv,
    coefficient_of,
    dmax,
    dmin,
    floordiv,
    fold,
    free_symbols,
    is_static,
    parse_dim,
    product,
    split_mods,
    substitute,
    symbol,
)
from aino_ir.errors.dims import (
    DimComparison,
    DimDivisionByZero,
    DimSyntax,
    DimTooComplex,
    InvalidSymbolName,
    NotADimension,
    UnknownSymbol,
)

a, b, i, j, s, t = map(symbol, "abijst")


def dim(value: DimLike) -> Dim:
    assert isinstance(value, Dim)
    return value


# ------------------------------------------------------------------------- property tests


@dataclass(frozen=True)
class Tree:
    """A plain expression tree, evaluated without any of the code under test."""

    op: str
    args: tuple[Tree | int | str, ...]


OPERATIONS: dict[str, Callable[..., int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": operator.floordiv,
    "%": operator.mod,
    "min": min,
    "max": max,
}
BUILDERS: dict[str, Callable[..., DimLike]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "//": floordiv,
    "%": lambda x, y: x - floordiv(x, y) * y,
    "min": dmin,
    "max": dmax,
}


def evaluate_tree(tree: Tree | int | str, env: Mapping[str, int]) -> int:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return env[tree]
    return OPERATIONS[tree.op](*(evaluate_tree(x, env) for x in tree.args))


def build_dim(tree: Tree | int | str) -> DimLike:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return symbol(tree)
    return BUILDERS[tree.op](*(build_dim(x) for x in tree.args))


NAMES = ("a", "b", "s", "t")
INTEGERS = st.integers(-9, 9)
DIVISORS = st.integers(-9, 9).filter(bool)
LEAVES = st.one_of(INTEGERS, st.sampled_from(NAMES))


def trees(symbolic_divisors: bool) -> st.SearchStrategy[Tree | int | str]:
    def extend(inner: st.SearchStrategy[Tree | int | str]) -> st.SearchStrategy[Tree | int | str]:
        divisors = st.one_of(DIVISORS, inner) if symbolic_divisors else DIVISORS
        return st.one_of(
            st.builds(lambda op, x, y: Tree(op, (x, y)), st.sampled_from("+-*"), inner, inner),
            st.builds(lambda op, x, y: Tree(op, (x, y)), st.sampled_from(["min", "max"]), inner, inner),
            st.builds(lambda op, x, y: Tree(op, (x, y)), st.sampled_from(["//", "%"]), inner, divisors),
        )

    return st.recursive(LEAVES, extend, max_leaves=8)


ENVIRONMENTS = st.fixed_dictionaries({name: st.integers(-12, 40) for name in NAMES})


@settings(max_examples=400, deadline=None, derandomize=True)
@given(trees(symbolic_divisors=False), ENVIRONMENTS)
def test_normal_form_keeps_the_value(tree: Tree | int | str, env: dict[str, int]) -> None:
    value = build_dim(tree)
    got = value.evaluate(env) if isinstance(value, Dim) else value
    assert got == evaluate_tree(tree, env)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(trees(symbolic_divisors=True), ENVIRONMENTS)
def test_normal_form_keeps_the_value_with_symbolic_divisors(
    tree: Tree | int | str, env: dict[str, int]
) -> None:
    try:
        expected = evaluate_tree(tree, env)
        value = build_dim(tree)
    except (ZeroDivisionError, DimDivisionByZero):
        return  # a zero divisor has no value to keep
    assert (value.evaluate(env) if isinstance(value, Dim) else value) == expected


@settings(max_examples=400, deadline=None, derandomize=True)
@given(trees(symbolic_divisors=True))
def test_text_round_trip_gives_the_same_object(tree: Tree | int | str) -> None:
    try:
        value = build_dim(tree)
    except DimDivisionByZero:
        return
    text = str(value)
    assert text.isascii()
    again = parse_dim(text)
    assert again is value or again == value
    assert str(again) == text


@settings(max_examples=300, deadline=None, derandomize=True)
@given(trees(symbolic_divisors=False), trees(symbolic_divisors=False), ENVIRONMENTS)
def test_substitution_commutes_with_evaluation(
    tree: Tree | int | str, inner: Tree | int | str, env: dict[str, int]
) -> None:
    value, replacement = build_dim(tree), build_dim(inner)
    replaced = substitute(value, {"s": replacement, "t": s})
    now = {**env, "s": evaluate_tree(inner, env), "t": env["s"]}
    assert substitute(replaced, env) == evaluate_tree(tree, now)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(trees(symbolic_divisors=True))
def test_fold_rebuilds_the_same_dimension(tree: Tree | int | str) -> None:
    try:
        value = build_dim(tree)
    except DimDivisionByZero:
        return
    plain = fold(
        value,
        const=lambda c: c,
        symbol=symbol,
        add=operator.add,
        mul=operator.mul,
        floordiv=floordiv,
        minimum=dmin,
    )
    assert plain is value or plain == value
    rich = fold(
        value,
        const=lambda c: c,
        symbol=symbol,
        add=operator.add,
        mul=operator.mul,
        floordiv=floordiv,
        minimum=dmin,
        sub=operator.sub,
        mod=operator.mod,
    )
    assert rich is value or rich == value


@settings(max_examples=200, deadline=None, derandomize=True)
@given(trees(symbolic_divisors=False), trees(symbolic_divisors=False), trees(symbolic_divisors=False))
def test_ring_laws_are_identities(x: Tree | int | str, y: Tree | int | str, z: Tree | int | str) -> None:
    p, q, r = build_dim(x), build_dim(y), build_dim(z)
    same(p + q, q + p)
    same((p + q) + r, p + (q + r))
    same(p * q, q * p)
    same((p * q) * r, p * (q * r))
    same(p * (q + r), p * q + p * r)
    same(p - p, 0)
    same(dmin(p, q), dmin(q, p))
    same(dmin(dmin(p, q), p), dmin(p, q))


def same(x: DimLike, y: DimLike) -> None:
    assert x is y or (isinstance(x, int) and x == y), f"{x} is not {y}"


# ------------------------------------------------------------------------- the normal form


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (2 * s + b * (s // 8) - 1, "2*s + b*(s//8) - 1"),
        (dmin(4, a), "min(a, 4)"),
        (dmin(a, dmin(b, 4), 9), "min(a, b, 4)"),
        (dmax(s, 1), "max(s, 1)"),
        (dmin(-s, 4), "-max(s, -4)"),
        (3 - 2 * dmax(a, b), "-2*max(a, b) + 3"),
        (s % 8, "s - 8*(s//8)"),
        ((s // 2) // 3, "s//6"),
        ((s // 4 + t) // 2, "(s + 4*t)//8"),
        ((t - s // 4) // 2, "(-s + 4*t + 3)//8"),
        ((s // t) // 3, "s//(3*t)"),
        ((s // t + b) // 3, "(b + s//t)//3"),
        ((8 * s + 3) // 4, "2*s"),
        ((8 * s + b) // 4, "2*s + b//4"),
        ((4 * s + 6) // 8, "(s + 1)//2"),
        (ceildiv(s, 8), "(s + 7)//8"),
        (-((-s) // 8), "(s + 7)//8"),
        (align(s, 16), "16*((s + 15)//16)"),
        ((b * s * 768) // (b * s), "768"),
        ((b * s + s) // (b + 1), "s"),
        ((6 * s) // (4 * s), "1"),
        (s // 1, "s"),
        (s // -2, "-((s + 1)//2)"),
        (12 % s, "-s*(12//s) + 12"),
        (-s, "-s"),
        (-(s // 8), "-(s//8)"),
        (1 - s, "-s + 1"),
        (dmin(i + 8, s), "min(i + 8, s)"),
        (dmin(s + 1, 4), "min(s, 3) + 1"),
        (dmin(8 * s, 64), "8*min(s, 8)"),
        (dmin(i + s, i + t), "i + min(s, t)"),
        (dmin(s, s + 3), "s"),
        (dmax(dmin(0, s), dmin(0, s) + dmax(0, a)), "max(a, 0) + min(s, 0)"),
        (dmin(s + dmin(a, 3), s + b), "s + min(a, b, 3)"),
        (s * s, "s*s"),
        ((s + 1) * (s - 1), "s*s - 1"),
        ((s + 2 - 3) // 2 + 1, "(s + 1)//2"),
    ],
)
def test_canonical_text(value: DimLike, text: str) -> None:
    assert str(value) == text
    same(parse_dim(str(value)), value)


def test_equal_forms_are_one_object() -> None:
    assert (s + 3) - 3 is s
    assert 2 * (s + b) - s - b is b + s
    assert (s // 2) * 2 + s % 2 is s
    assert s == s
    assert s != t
    assert len({s + t, t + s, s + 1}) == 2
    assert dmax(a, b) is -dmin(-a, -b)


def test_constants_are_python_ints() -> None:
    for value in (s - s, 0 * s, (s + 5) - s, dmin(3, 4), floordiv(7, 2), product([]), (4 * s) // s):
        assert type(value) is int
        assert is_static(value)
    assert not is_static(s)
    assert product([2, s, 3]) is 6 * s
    assert s * True is s


def test_numpy_integers_become_python_ints() -> None:
    three = np.int64(3)
    for value in (s + three, three + s, dmin(three, s), floordiv(s, three), floordiv(three, s)):
        same(parse_dim(str(value)), value)
    assert type(dmin(np.int32(2), 5)) is int
    table = np.array([s, 2, t], dtype=object) * np.array([2, 3, s], dtype=object)
    assert list(table) == [2 * s, 6, s * t]


@pytest.mark.parametrize("value", [1.5, "s", None])
def test_other_operands_are_refused(value: object) -> None:
    for operation in (operator.add, operator.sub, operator.mul, operator.floordiv):
        with pytest.raises(NotADimension, match="neither an integer nor a dimension"):
            operation(s, value)
        with pytest.raises(NotADimension):
            operation(value, s)


@pytest.mark.parametrize("operation", [operator.lt, operator.le, operator.gt, operator.ge])
def test_ordering_raises(operation: Callable[[object, object], bool]) -> None:
    with pytest.raises(DimComparison, match="prove_ge"):
        operation(s, 4)
    with pytest.raises(DimComparison):
        operation(4, s)


def test_truth_raises() -> None:
    with pytest.raises(DimComparison, match=r"bool\(s\)"):
        bool(s)


def test_division_by_zero() -> None:
    with pytest.raises(DimDivisionByZero, match="s is divided by 0"):
        s // 0
    with pytest.raises(DimDivisionByZero):
        s % 0
    with pytest.raises(DimDivisionByZero, match="12 is divided by s"):
        dim(12 // s).evaluate({"s": 0})


def test_evaluate_names_the_missing_symbol() -> None:
    with pytest.raises(UnknownSymbol, match=r"symbol t of s \+ t has no value; known symbols: s"):
        dim(s + t).evaluate({"s": 1})
    assert dim(s + t).evaluate({"s": 1, "t": np.int64(2), "x": 9}) == 3  # type: ignore[dict-item]


@pytest.mark.parametrize("name", ["", "batch size", "1s", "s-1", "s\n", "ß", "a;b"])
def test_symbol_names_are_identifiers(name: str) -> None:
    with pytest.raises(InvalidSymbolName):
        symbol(name)


def test_structure_is_open_to_printers() -> None:
    value = dim(3 * a * (s // t) + dmin(a, b, 7) - 2)
    assert value.constant == -2
    (one, (least,)), (three, (first, quotient)) = value.terms()
    assert (one, three) == (1, 3)
    assert isinstance(least, Min) and least.args == (a, b, 7)
    assert isinstance(first, SymbolAtom) and first.name == "a"
    assert isinstance(quotient, FloorDiv) and (quotient.a, quotient.b) == (s, t)
    assert value.free_symbols() == {"a", "b", "s", "t"}
    assert free_symbols(4) == frozenset()
    assert coefficient_of(value, quotient) is 3 * a
    assert coefficient_of(s * s, s.terms()[0][1][0]) is None
    assert coefficient_of(3, quotient) == 0
    assert s.as_symbol() == "s"
    assert [dim(x).as_symbol() for x in (2 * s, s + 1, s * t, s // 2)] == [None] * 4


def test_remainders_are_recovered() -> None:
    assert as_mod(s % 8) == (s, 8)
    assert as_mod((s + 3) % b) == (s + 3, b)
    assert as_mod(12 % s) == (12, s)
    assert as_mod(s) is None
    assert as_mod(2 * (s % 8)) is None
    assert split_mods(2 * (s % 8) + t) == (t, [(2, s, 8)])
    assert split_mods((s + 3) % 4 - 3) == (-3, [(1, s + 3, 4)])
    assert split_mods(s // 8) == (s // 8, [])
    assert split_mods(5) == (5, [])


def test_fold_prints_c_like_text() -> None:
    text = fold(
        (s + 3) % 4 - t * (s // 8) - 2,
        const=str,
        symbol=str,
        add="({} + {})".format,
        sub="({} - {})".format,
        mul="{}*{}".format,
        floordiv="({} / {})".format,
        mod="({} % {})".format,
        minimum="min({}, {})".format,
    )
    assert text == "((((s + 3) % 4) - t*(s / 8)) - 2)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        (" - 3 ", -3),
        ("s", s),
        ("2*(s+1)", 2 * s + 2),
        ("s%8", s % 8),
        ("s//2//3", s // 6),
        ("-s//8", (-s) // 8),
        ("max(min(a,b),4)", dmax(dmin(a, b), 4)),
        ("min + max", symbol("min") + symbol("max")),
        ("a.b_1", symbol("a.b_1")),
        ("--s", s),
    ],
)
def test_parse(text: str, value: DimLike) -> None:
    same(parse_dim(text), value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected an integer, a symbol or `\\(` at column 1, found ''"),
        ("2*", "column 3, found ''"),
        ("2*(s", "expected `\\)` at column 5"),
        ("s s", "expected an operator or the end at column 3, found 's'"),
        ("s / 2", "column 3, found '/'"),
        ("min(a,)", "column 7"),
        ("f(a)", "column 2"),
        ("s$", "found '\\$'"),
        ("9" * 5000, "expected an integer of at most 100 digits at column 1"),
        ("(" * 5000, "at most 50 nested"),
        ("-" * 5000 + "s", "at most 50 nested"),
    ],
)
def test_parse_errors_point_at_the_place(text: str, message: str) -> None:
    with pytest.raises(DimSyntax, match=message):
        parse_dim(text)


def test_expressions_that_explode_are_refused() -> None:
    wide = sum((symbol(f"w{n}") for n in range(70)), 0)
    with pytest.raises(DimTooComplex, match="4900 terms, more than the limit of 4096"):
        wide * wide
    deep: DimLike = s
    with pytest.raises(DimTooComplex, match="characters"):
        for n in range(64):
            deep = dmin(deep // 3 + symbol(f"u{n}") * deep, t)


def test_copies_are_the_same_object() -> None:
    value = dim(dmin(s, 4) + s // 3)
    assert copy.copy(value) is value
    assert copy.deepcopy([value])[0] is value
    assert pickle.loads(pickle.dumps(value)) is value
    assert repr(value) == f"Dim({value})"
    assert f"{value:>4}" == str(value)


def test_dead_dimensions_are_forgotten() -> None:
    dim_form.forget_recent()
    gc.collect()
    before = len(dim_form._DIMS), len(dim_form._MONOMIALS), len(dim_form._ATOMS), len(dim_form._SYMBOLS)
    kept = [dmin(symbol(f"z{n}") // 3, t * n + 7) for n in range(50)]
    assert len(dim_form._DIMS) >= before[0] + 50
    del kept
    dim_form.forget_recent()
    gc.collect()
    after = len(dim_form._DIMS), len(dim_form._MONOMIALS), len(dim_form._ATOMS), len(dim_form._SYMBOLS)
    assert after <= before


def test_interning_holds_across_threads() -> None:
    barrier = threading.Barrier(4)
    results: list[list[DimLike]] = []

    def work() -> None:
        barrier.wait()
        results.append([dmin(symbol(f"q{n}") * 3 + 1, t) // 5 for n in range(300)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(x is y for row in results for x, y in zip(row, results[0], strict=True))
