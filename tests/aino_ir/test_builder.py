"""Building graphs, op declarations, attributes and the block's linked list."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import symbol
from aino_ir.errors.ir import BadAttribute, BadOperand
from aino_ir.graph import comes_before
from aino_ir.op import Op, attribute_key, float_attr, int_attr, operand, optional_operand, variadic_operand
from aino_ir.types import tensor


class Sandwich(Op):
    """A declaration with every kind of operand; it has no name, so it is not registered."""

    first = operand()
    middle = variadic_operand()
    last = optional_operand()
    size = int_attr(3)
    weight = float_attr()


def values(count: int) -> list[Any]:
    b = Builder()
    return [b.input(f"x{i}", tensor("f32", 2)) for i in range(count)]


def test_declarations_are_read_off_the_class() -> None:
    declared = Sandwich.declaration
    assert declared.operands == (("first", "one"), ("middle", "variadic"), ("last", "optional"))
    assert [name for name, _ in declared.attrs] == ["size", "weight"]


def test_operands_are_found_by_name() -> None:
    a, b, c, d = values(4)
    op = Sandwich(1, (a, b, c, d), (3, 0.5))
    assert op.first is a and op.middle == (b, c) and op.last is d
    short = Sandwich(2, (a, None), (3, 0.5))
    assert short.middle == () and short.last is None
    assert op.attrs() == {"size": 3, "weight": 0.5}


def test_attribute_keys_tell_bits_and_kinds_apart() -> None:
    assert attribute_key("float", 0.0) != attribute_key("float", -0.0)
    assert attribute_key("float", float("nan")) == attribute_key("float", float("nan"))
    assert attribute_key("floats", (0.0, 1.0)) != attribute_key("floats", (-0.0, 1.0))
    assert attribute_key("float", None) is None


def test_constants_are_told_apart_by_type_and_bytes() -> None:
    zeros = Const.of(np.zeros(1024, np.float32))
    assert zeros == Const.of(np.zeros(1024, np.float32))
    assert zeros != Const.of(np.zeros((1, 512), np.int64))
    assert zeros != Const.of(np.zeros((32, 32), np.float32))
    assert zeros.digest == Const.of(np.zeros((1, 512), np.int64)).digest


def test_ops_are_found_by_full_and_short_names() -> None:
    assert op_class("math.add") is op_class("add") is op_class("math_add")
    assert op_class("max").name == "math.max"
    assert op_class("reduce_max").name == "reduce.max"
    with pytest.raises(AttributeError, match="no op is called 'frobnicate'"):
        Builder().frobnicate  # noqa: B018


def test_wrong_calls_are_refused() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    with pytest.raises(BadOperand, match=r"operand count must be \(lhs, rhs\), got 1"):
        b.add(x)
    with pytest.raises(BadOperand, match="operand count"):
        b.exp(x, x)
    with pytest.raises(BadAttribute, match="'slope' must be one of: alpha"):
        b.leaky_relu(x, slope=0.1)
    with pytest.raises(BadAttribute, match="'alpha' must be float"):
        b.leaky_relu(x, alpha="steep")
    with pytest.raises(BadAttribute, match="'to' must be given"):
        b.cast(x)


def test_uses_are_counted() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    y = b.mul(x, x)
    assert x.users == {y.op: 2} and x.use_count == 2
    b.output("y", y)
    module = b.module
    assert list(y.users) == [module.main.block.terminator]
    assert module.main.results == (y,)


def test_ops_keep_their_order_under_insertion() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    last = b.relu(x).op
    assert last is not None
    middle = Builder(b.function, before=last)
    ops = [middle.exp(x).op for _ in range(2000)]  # more than float positions can halve
    assert list(b.function.block) == [*ops, last]
    assert all(comes_before(p, q) for p, q in zip(ops, [*ops[1:], last]))  # noqa: B905
    first = Builder(b.function, before=ops[0]).neg(x).op
    assert b.function.block.first is first and len(b.function.block) == 2002


def test_iteration_survives_removal() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    ops = [b.relu(x).op for _ in range(4)]
    seen = []
    for op in b.function.block:
        seen.append(op)
        if op is ops[1]:
            b.function.block.remove(op)
            assert ops[2] is not None
            b.function.block.remove(ops[2])
    assert seen == [ops[0], ops[1], ops[3]]


def test_extents_as_values_are_constants_where_they_can_be() -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    assert b.symbol("s") is s
    assert b.dims_vector([2, 3]).op.name == "core.constant"  # type: ignore[union-attr]
    vector = b.dims_vector([s, 3])
    assert vector.op is not None and vector.op.name == "core.dims"
    assert b.known(vector) == (symbol("s"), 3)


def test_ids_are_never_reused() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    first = b.relu(x)
    assert first.op is not None
    b.function.block.remove(first.op)
    second = b.relu(x)
    assert second.op is not None
    assert len({x.id, first.id, second.id, first.op.id, second.op.id}) == 5
