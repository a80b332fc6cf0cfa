"""Index expressions: readable, and equal to the Dim for every value of its symbols."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aino_ir.codegen.cstyle.index import IndexPrinter, Ranges
from aino_ir.codegen.cstyle.names import Names
from aino_ir.dims import DimLike, dmax, dmin, floordiv, symbol

I, J, N = (symbol(name) for name in "ijn")
RANGES = {"i": (0, 15), "j": (0, 7), "n": (None, None)}


def text_of(dim: DimLike) -> str:
    return IndexPrinter(Names(), Ranges(dict(RANGES)), lambda op: f"{op}_i64").code(dim).text


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (I * 64 + J, "i * 64 + j"),
        (J + I * 64 - 3, "i * 64 + j - 3"),
        (I % 4, "i % 4"),
        (I // 4, "i / 4"),
        ((I // 4) * 16 + I % 4, "(i / 4) * 12 + i"),
        ((I // 4) % 2, "i / 4 % 2"),
        (N // 4, "floordiv_i64(n, 4)"),
        (N % 4, "floormod_i64(n, 4)"),
        (11 - J, "11 - j"),
        (-I * 2, "i * -2"),
        (-I, "-i"),
        (dmin(I, N), "min_i64(i, n)"),
        (dmax(I, J), "max_i64(i, j)"),
        (dmax(I - J, 0), "max_i64(i - j, 0)"),
        (I * N + J * N, "i * n + j * n"),
        (5, "5"),
        (I * 5_000_000_000, "i * INT64_C(5000000000)"),
    ],
)
def test_text(dim: DimLike, text: str) -> None:
    assert text_of(dim) == text


def dims() -> st.SearchStrategy[DimLike]:
    leaves = st.one_of(st.sampled_from([I, J, N]), st.integers(-9, 9))

    def grow(inner: st.SearchStrategy[DimLike]) -> st.SearchStrategy[DimLike]:
        return st.one_of(
            st.tuples(inner, inner).map(lambda p: p[0] + p[1]),
            st.tuples(inner, inner).map(lambda p: p[0] - p[1]),
            st.tuples(inner, st.integers(-6, 6)).map(lambda p: p[0] * p[1]),
            st.tuples(inner, st.integers(1, 8)).map(lambda p: floordiv(p[0], p[1])),
            st.tuples(inner, st.integers(2, 8)).map(lambda p: p[0] % p[1]),
            st.tuples(inner, inner).map(lambda p: dmin(*p)),
            st.tuples(inner, inner).map(lambda p: dmax(*p)),
        )

    return st.recursive(leaves, grow, max_leaves=8)


def run(text: str, env: dict[str, int]) -> int:
    """C's meaning of an index expression: division truncates."""
    import ast

    tree = ast.parse(re.sub(r"INT64_C\((\d+)\)", r"\1", text), mode="eval").body
    helpers = {"min": min, "max": max, "floordiv": lambda a, b: a // b, "floormod": lambda a, b: a % b}

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=v):
                return v
            case ast.Name(id=name):
                return env[name]
            case ast.UnaryOp(op=ast.USub(), operand=x):
                return -value(x)
            case ast.Call(func=ast.Name(id=name), args=args):
                return helpers[name.removesuffix("_i64")](*map(value, args))
            case ast.BinOp(left=left, op=op, right=right):
                a, b = value(left), value(right)
                quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0
                table = {ast.Add: a + b, ast.Sub: a - b, ast.Mult: a * b}
                table |= {ast.Div: quotient, ast.Mod: a - quotient * b}
                return table[type(op)]
        raise AssertionError(ast.dump(node))

    return value(tree)


@given(dims(), st.integers(0, 15), st.integers(0, 7), st.integers(-20, 20))
def test_text_means_the_dim(dim: DimLike, i: int, j: int, n: int) -> None:
    env = {"i": i, "j": j, "n": n}
    expected = dim if isinstance(dim, int) else dim.evaluate(env)
    assert run(text_of(dim), env) == expected


@given(dims(), st.integers(0, 15), st.integers(0, 7), st.integers(-20, 20))
def test_intervals_hold_every_value(dim: DimLike, i: int, j: int, n: int) -> None:
    value = dim if isinstance(dim, int) else dim.evaluate({"i": i, "j": j, "n": n})
    for ranges in (RANGES, {**RANGES, "n": (-20, 20)}, {"j": (0, None)}):
        low, high = Ranges(dict(ranges)).of(dim)
        assert low is None or low <= value
        assert high is None or value <= high
