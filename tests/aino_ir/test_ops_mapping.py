"""Maps: what the ops compute and refuse."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.errors.ir import BadAttribute, BadOperand
from aino_ir.interp import run_module
from aino_ir.types import MapType, StringType, Type, tensor

NUMBERS = MapType(tensor("i64"), tensor("f32"))
NAMES = MapType(StringType(()), tensor("f64"))
TEXTS = MapType(tensor("i64"), StringType(()))


def apply(name: str, value: Any, type_: Type, **attrs: Any) -> Any:
    b = Builder()
    b.output("y", b.op(op_class(name), b.input("x", type_), **attrs).result)
    return run_module(b.module, [value])[0]


def test_rows_as_maps() -> None:
    x = np.array([[1, 2.5], [3, 4]], np.float32)
    type_ = tensor("f32", 2, 2)
    assert apply("map.zip", x, type_, numbers=(7, 5)) == [{7: 1.0, 5: 2.5}, {7: 3.0, 5: 4.0}]
    assert apply("map.zip", x, type_, texts=("a", "a")) == [{"a": 2.5}, {"a": 4.0}]
    assert apply("map.zip", x[:0], tensor("f32", 0, 2), texts=("a", "b")) == []


def test_values_of_keys() -> None:
    got = apply("map.values", {1: 2.5, 9: 4.0}, NUMBERS, numbers=(3, 1))
    assert got.dtype == np.float32 and got.tolist() == [[0.0, 2.5]]
    assert apply("map.values", {"a": 0.1}, NAMES, texts=("b", "a")).tolist() == [[0.0, 0.1]]
    assert apply("map.values", {1: "u"}, TEXTS, numbers=(0, 1), other="-").tolist() == [["-", "u"]]
    got = apply("map.values", {1: 2.5}, NUMBERS, numbers=(0, 1), other="0.f", decimals=3)
    assert got.tolist() == [["0.f", "2.500"]]


def test_values_in_order() -> None:
    assert apply("map.sorted", {4: 1.5, -1: 2.0}, NUMBERS).tolist() == [[2.0, 1.5]]
    assert apply("map.sorted", {}, NUMBERS).shape == (1, 0)
    assert apply("map.sorted", {4: "u", 1: "v"}, TEXTS).tolist() == [["v", "u"]]


def test_refusals() -> None:
    x = tensor("f32", 2, 2)
    with pytest.raises(BadAttribute, match="one of them"):
        apply("map.zip", None, x)
    with pytest.raises(BadAttribute, match="one of them"):
        apply("map.values", {}, NUMBERS, numbers=(1,), texts=("a",))
    with pytest.raises(BadAttribute, match="of the map's kind"):
        apply("map.values", {}, NUMBERS, texts=("a",))
    with pytest.raises(BadOperand, match="a map"):
        apply("map.sorted", None, x)
