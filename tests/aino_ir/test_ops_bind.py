"""`core.bind`: numbers computed at run time that decide extents and positions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.errors.base import AinoError
from aino_ir.errors.dims import CheckFailed
from aino_ir.errors.ir import BadAttribute, BadOperand, ValueOutOfBounds
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.location import loc
from aino_ir.ops.core import Bind
from aino_ir.symbols import Origin
from aino_ir.text import parse, print_module
from aino_ir.types import tensor
from aino_ir.verify import verify


def bound_shape(b: Builder, numbers: Value, upper: int = 100) -> tuple[Any, ...]:
    """The symbols of a 1-d value, each in 0..upper."""
    count = int(numbers.shape[0])
    bound = b.op(Bind, numbers, lower=[0] * count, upper=[upper] * count, what="shape").result
    known = b.known(bound)
    assert known is not None
    return known


def reshaping() -> Module:
    """x [2, 6] seen with a shape that is an input."""
    b = Builder(loc=loc("node 'r'"))
    x, shape = b.input("x", tensor("f32", 2, 6)), b.input("shape", tensor("i64", 2))
    b.output("y", b.reshape(x, shape=bound_shape(b, shape)))
    return b.module


def test_elements_become_symbols_of_the_op() -> None:
    module = reshaping()
    bind = next(op for op in module.walk() if isinstance(op, Bind))
    symbols = module.main.symbols
    names = [str(d) for d in symbols]
    assert [symbols.declared(n).origin for n in names] == [
        Origin.value(bind.id, 0, 0),
        Origin.value(bind.id, 0, 1),
    ]
    verify(module)  # infers again
    assert len(symbols) == 2
    assert symbols.declared(names[0])[:2] == (0, 100)


@pytest.mark.parametrize("shape", [(3, 4), (12, 1), (1, 12)])
def test_the_run_decides_the_shape(shape: tuple[int, int]) -> None:
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    (y,) = run_module(reshaping(), [x, np.asarray(shape)])
    assert np.array_equal(y, x.reshape(shape))


def test_a_number_outside_of_its_bounds_names_the_node() -> None:
    x = np.zeros((2, 6), np.float32)
    with pytest.raises(ValueOutOfBounds, match=r"element 1 of shape is -4.*0..100") as caught:
        run_module(reshaping(), [x, np.asarray([3, -4])])
    assert "node 'r'" in str(caught.value)


def test_checks_on_the_symbols_run_after_the_op_and_name_the_node() -> None:
    with pytest.raises(CheckFailed, match="element count") as caught:
        run_module(reshaping(), [np.zeros((2, 6), np.float32), np.asarray([3, 5])])
    assert "node 'r'" in str(caught.value)


def test_text_and_clone_keep_the_symbols() -> None:
    module = reshaping()
    text = print_module(module)
    again = parse(text)
    assert print_module(again) == text
    x = np.arange(12, dtype=np.float32).reshape(2, 6)
    for copy in (again, module.clone()):
        assert run_module(copy, [x, np.asarray([4, 3])])[0].shape == (4, 3)


def test_bounds_may_be_extents() -> None:
    b = Builder()
    n = b.symbol("n", 1, 9)
    x, count = b.input("x", tensor("f32", n)), b.input("count", tensor("i32"))
    bound = b.op(Bind, count, lower=[0], upper=[n], what="count").result
    (size,) = b.known(bound) or ()
    b.output("y", b.slice(x, starts=[0], sizes=[size], steps=[1]))
    module = b.module
    assert not module.main.symbols.checks  # size <= n is a fact
    assert run_module(module, [np.arange(5, dtype=np.float32), np.asarray(3, np.int32)])[0].tolist() == [
        0,
        1,
        2,
    ]
    with pytest.raises(ValueOutOfBounds, match=r"is 6, but must be in 0..5"):
        run_module(module, [np.arange(5, dtype=np.float32), np.asarray(6, np.int32)])


def test_a_binding_inside_of_a_region_ends_with_it() -> None:
    b = Builder()
    x, sizes = b.input("x", tensor("f32", 4)), b.input("sizes", tensor("i64", 3))

    def body(inner: Builder, turn: Value, go: Value, total: Value, x: Value, sizes: Value) -> list[Value]:
        here = inner.reshape(inner.gather(sizes, turn), shape=(1,))
        (size,) = bound_shape(inner, here, 4)
        part = inner.slice(x, starts=[0], sizes=[size], steps=[1])
        return [go, inner.add(total, inner.reduce_sum(part, axes=(0,), keepdims=False))]

    types = [tensor("i64"), tensor("bool"), tensor("f32"), x.type, sizes.type]
    region = b.region(types, body)
    trips, start = b.constant(np.int64(3)), b.constant(np.float32(0))
    b.output("y", b.loop(trips, None, start, x, sizes, carried=1, regions=[region]))
    y = run_module(b.module, [np.float32([1, 2, 4, 8]), np.asarray([1, 4, 2])])[0]
    assert y == 1 + 15 + 3


@pytest.mark.parametrize(
    ("type_", "bounds", "error"),
    [
        (tensor("f32", 2), 2, BadOperand),
        (tensor("i64", 65), 65, BadOperand),
        (tensor("i64", 2), 3, BadAttribute),
    ],
)
def test_ill_formed_bindings_are_refused(type_: Any, bounds: int, error: type[AinoError]) -> None:
    b = Builder()
    with pytest.raises(error):
        b.op(Bind, b.input("x", type_), lower=[0] * bounds, upper=[1] * bounds)


def test_the_reference_target_runs_it() -> None:
    exe = aino.compile(reshaping(), "reference")
    assert exe.run(np.zeros((2, 6), np.float32), np.asarray([6, 2]))[0].shape == (6, 2)
