"""Op declarations: operands, attributes, traits, names."""

from __future__ import annotations

from typing import Any

import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.op import (
    OPS,
    Op,
    Trait,
    attribute_key,
    float_attr,
    int_attr,
    operand,
    operand_count_ok,
    operand_segments,
    optional_operand,
    variadic_operand,
)
from aino_ir.types import tensor


class Sandwich(Op):
    """A declaration with every kind of operand; it has no name, so it is not registered."""

    first = operand()
    middle = variadic_operand()
    last = optional_operand()
    size = int_attr(3)
    weight = float_attr()


class Tail(Op):
    """One required and two optional operands."""

    x = operand()
    y = optional_operand()
    z = optional_operand()


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


def test_segments_and_counts() -> None:
    assert operand_segments(Sandwich, 4) == {"first": (0, 1), "middle": (1, 3), "last": (3, 4)}
    assert operand_segments(Tail, 2) == {"x": (0, 1), "y": (1, 2), "z": (2, 2)}
    assert [operand_count_ok(Tail, n) for n in range(5)] == [False, True, True, True, False]
    assert [operand_count_ok(Sandwich, n) for n in range(4)] == [False, False, True, True]


def test_subclasses_inherit_and_extend_declarations() -> None:
    class Wide(Sandwich):
        extra = int_attr(7)

    assert [name for name, _ in Wide.declaration.attrs] == ["size", "weight", "extra"]
    assert Wide.declaration.operands == Sandwich.declaration.operands
    assert len(Sandwich.declaration.attrs) == 2


def test_descriptors_of_the_class_are_the_declarations() -> None:
    assert Sandwich.size.kind == "int" and Sandwich.first.name == "first"
    assert Sandwich.middle.name == "middle" and Sandwich.last.name == "last"


def test_attribute_keys_tell_bits_and_kinds_apart() -> None:
    assert attribute_key("float", 0.0) != attribute_key("float", -0.0)
    assert attribute_key("float", float("nan")) == attribute_key("float", float("nan"))
    assert attribute_key("floats", (0.0, 1.0)) != attribute_key("floats", (-0.0, 1.0))
    assert attribute_key("float", None) is None


def test_a_name_is_declared_once() -> None:
    try:
        type("Mine", (Op,), {"name": "test.mine", "__qualname__": "Mine"})
        type("Mine", (Op,), {"name": "test.mine", "__qualname__": "Mine"})  # the same class, read again
        with pytest.raises(TypeError, match=r"op name test\.mine is declared twice"):
            type("Other", (Op,), {"name": "test.mine", "__qualname__": "Other"})
    finally:
        OPS.pop("test.mine", None)


def test_traits_are_asked_of_class_and_op() -> None:
    assert op_class("core.return").has(Trait.TERMINATOR) and not op_class("add").has(Trait.TERMINATOR)
    assert op_class("add").has(Trait.ELEMENTWISE)


def test_an_op_shows_its_wiring() -> None:
    a, b = values(2)
    assert repr(Sandwich(1, (a, None, b), (3, 0.5))) == f"< = (%{a.id}, _, %{b.id})>"


@pytest.mark.parametrize("method", ["infer", "evaluate", "forward"])
def test_what_a_class_does_not_declare_it_cannot_do(method: str) -> None:
    op = Sandwich(1, tuple(values(2)), (3, 0.5))
    arguments = {"infer": (None,), "evaluate": (None,), "forward": (op.first, ())}[method]
    with pytest.raises(TypeError):
        getattr(op, method)(*arguments)
    assert op.define() is None and op.decompose(None) is None and op.cost() == 0 and op.samples() == ()
