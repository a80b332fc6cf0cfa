"""Tensors of strings: what the ops compute and refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.errors.ir import BadAttribute, BadOperand
from aino_ir.errors.run import InputMismatch, TextUnreadable
from aino_ir.interp import run_module
from aino_ir.types import StringType, tensor


def apply(name: str, *operands: list[Any], **attrs: Any) -> Any:
    """Results of an op on nested lists of texts."""
    arrays = [np.asarray(o, object) for o in operands]
    b = Builder()
    values = [b.input(f"x{i}", StringType(a.shape)) for i, a in enumerate(arrays)]
    for i, result in enumerate(b.op(op_class(name), *values, **attrs).results):
        b.output(f"y{i}", result)
    return [y.tolist() for y in run_module(b.module, arrays)]


def test_meaning() -> None:
    assert apply("text.concat", [["a"], ["b"]], ["x", "y"]) == [[["ax", "ay"], ["bx", "by"]]]
    assert apply("text.eq", ["a", "b"], ["a"]) == [[True, False]]
    assert apply("text.regex_full_match", ["ab", "abc"], pattern="a.") == [[True, False]]
    assert apply("text.split", ["a,b,c", ""], delimiter=",") == [[["a", "b", "c"], ["", "", ""]], [3, 1]]
    assert apply("text.split", [" a  b "], limit=1) == [[["a", "b "]], [2]]
    assert apply("text.normalize", ["A", "b", "C"], case="lower", stop=("B",)) == [["a", "c"]]
    assert apply("text.normalize", ["A", "b"], sensitive=True, stop=("B",)) == [["A", "b"]]
    assert apply("text.normalize", ["x"], stop=("X",)) == [[""]]
    assert apply("text.string_constant", values=("a", "b"), shape=(2, 1)) == [[["a"], ["b"]]]


def test_refusals() -> None:
    with pytest.raises(BadAttribute, match="2 texts"):
        apply("text.string_constant", values=("a",), shape=(2,))
    with pytest.raises(BadAttribute, match="regular expression"):
        apply("text.regex_full_match", ["a"], pattern="(")
    with pytest.raises(BadAttribute, match="none, lower or upper"):
        apply("text.normalize", ["a"], case="title")
    with pytest.raises(BadOperand, match="rank of x"):
        apply("text.normalize", [[["a"]]])
    b = Builder()
    with pytest.raises(BadOperand, match="a tensor of strings"):
        b.op(op_class("text.split"), b.input("x", tensor("f32", 2)))


def test_extents_of_strings_are_bound() -> None:
    b = Builder()
    x = b.input("x", StringType((b.symbol("rows"),)))
    b.output("y", b.dims_vector(x.shape))
    module = b.module
    assert run_module(module, [np.asarray(["a", "b"], object)])[0].tolist() == [2]
    with pytest.raises(InputMismatch):
        run_module(module, [np.asarray([["a"]], object)])


def test_numbers_as_texts_and_back() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    b.output("general", b.op(op_class("text.format"), x).result)
    b.output("fixed", b.op(op_class("text.format"), x, decimals=2).result)
    values = np.array([-0.0, 123456.789, np.nan, -np.inf], np.float32)
    general, fixed = run_module(b.module, [values])
    assert general.tolist() == ["-0", "123456.79", "NaN", "-INF"]
    assert fixed.tolist() == ["-0.00", "123456.79", "nan", "-inf"]
    assert apply("text.parse", ["1.5", " -2", "1e39", "INF"], to="f32") == [[1.5, -2, np.inf, np.inf]]
    assert apply("text.parse", ["300", "1.9", "-1"], to="i8") == [[44, 1, -1]]
    assert apply("text.parse", ["9223372036854775807"], to="i64") == [[2**63 - 1]]
    assert apply("text.parse", ["1", "0"], to="bool") == [[True, False]]
    for text, to in (("abc", "f32"), ("nan", "i32"), ("", "i64")):
        with pytest.raises(TextUnreadable, match="is no"):
            apply("text.parse", [text], to=to)
    with pytest.raises(BadAttribute, match="a real dtype"):
        apply("text.parse", ["1"], to="c64")
