"""TVMScript text: names, literals, parentheses."""

from __future__ import annotations

import math

import pytest

from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.text import PythonNames, Text, binary, call, comment, literal, prefix
from aino_ir.dims import dmax, dmin, symbol
from aino_ir.dtypes import DTYPES


def test_parentheses_stand_where_python_needs_them() -> None:
    a, b, c = Text("a"), Text("b"), Text("c")
    assert binary("*", binary("+", a, b), c).text == "(a + b) * c"
    assert binary("+", binary("*", a, b), c).text == "a * b + c"
    assert binary("-", a, binary("-", b, c)).text == "a - (b - c)"
    assert binary("&", binary("|", a, b), c).text == "(a | b) & c"
    assert binary("<", binary("<", a, b), c).text == "(a < b) < c"
    assert prefix("-", binary("+", a, b)).text == "-(a + b)"
    assert call("f", a, binary("+", b, c)).text == "f(a, b + c)"


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, "f32", "T.float32(0.10000000149011612)"),
        (0.1, "f64", "T.float64(0.1)"),
        (1e300, "f64", 'T.reinterpret("float64", T.int64(9094988921128908188))'),
        (math.inf, "f32", 'T.float32("inf")'),
        (-math.inf, "f64", 'T.float64("-inf")'),
        (math.nan, "f32", 'T.float32("nan")'),
        (-0.0, "f32", "T.float32(-0.0)"),
        (-(1 << 63), "i64", "T.int64(-9223372036854775808)"),
        ((1 << 64) - 1, "u64", 'T.reinterpret("uint64", T.int64(-1))'),
        (200, "u8", "T.uint8(200)"),
        (True, "bool", "T.bool(True)"),
    ],
)
def test_literals_are_exact(value: float, dtype: str, text: str) -> None:
    assert literal(value, DTYPES[dtype]).text == text


def test_names_are_unique_and_none_is_special() -> None:
    names = PythonNames()
    given = [
        names[n] for n in ("x", "x.", "lambda", "T", "status", "3d", "a b", "max_f32", "Upper", "", "i0.")
    ]
    assert len(set(given)) == len(given) and all(n.isidentifier() for n in given)
    assert not {"lambda", "T", "status", "max_f32", "Upper"} & set(given)
    assert names["x"] == "x" and given[-1] == "i0"


def test_comments_stay_comments() -> None:
    assert comment("a\nb\u2028\U0001f600") == "a b\\u2028\\U0001f600"


def test_indices_read_as_arithmetic() -> None:
    i, j = symbol("i."), symbol("j.")
    text = IndexText(lambda n: Text(n.removesuffix(".")), lambda v: Text(str(v)))
    cases = {
        i * 4 + j: "i * 4 + j",
        i // 4 + i % 3: "i // 4 + i % 3",
        11 - j: "11 - j",
        dmin(i, j): "T.min(i, j)",
        (i + j) // 2 * 3 - 1: "((i + j) // 2) * 3 - 1",
        dmax(i, 5): "-T.min(-i, -5)",
        (i + 1) * j: "j + i * j",
        i * -2: "-(i * 2)",
    }
    assert {wanted: text.text(dim).text for dim, wanted in cases.items()} == {w: w for w in cases.values()}
