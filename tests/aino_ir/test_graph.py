"""Blocks as linked lists, order, def-use counts, ids."""

from __future__ import annotations

import random

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.dtypes import DTYPES, f32
from aino_ir.errors.ir import UnsupportedArray
from aino_ir.graph import Block, Module, comes_before, count_uses
from aino_ir.op import Op
from aino_ir.ops.core import Return
from aino_ir.types import tensor
from aino_ir.verify import verify


def loose(number: int) -> Op:
    return Return(number, (), ())


def block_of(count: int) -> tuple[Block, list[Op]]:
    block = Block()
    ops = [loose(i) for i in range(count)]
    for op in ops:
        block.insert(op)
    return block, ops


def ids(block: Block) -> list[int]:
    forward = [op.id for op in block]
    assert forward == [op.id for op in reversed(block)][::-1]
    assert len(block) == len(forward)
    return forward


def in_order(block: Block) -> bool:
    positions = [op._position for op in block]
    return positions == sorted(set(positions))


def test_ops_are_linked_in_order() -> None:
    block, (a, b, c) = block_of(3)
    assert ids(block) == [0, 1, 2]
    assert (block.first, block.last) == (a, c)
    new = loose(9)
    block.insert(new, b)
    assert ids(block) == [0, 9, 1, 2]
    assert comes_before(a, new) and comes_before(new, b) and not comes_before(c, a)
    front = loose(8)
    block.insert(front, a)
    assert ids(block) == [8, 0, 9, 1, 2] and block.first is front


def test_removal_at_either_end_and_inside() -> None:
    block, (a, b, c) = block_of(3)
    block.remove(b)
    assert ids(block) == [0, 2] and b.block is None
    block.remove(a)
    assert ids(block) == [2] and block.first is block.last is c
    block.remove(c)
    assert ids(block) == [] and block.first is None and block.last is None
    block.insert(a)
    assert ids(block) == [0]


def test_iteration_survives_removal_of_the_current_op() -> None:
    block, _ = block_of(6)
    seen = []
    for op in block:
        seen.append(op.id)
        if op.id % 2:
            block.remove(op)
    assert seen == list(range(6)) and ids(block) == [0, 2, 4]


def test_iteration_survives_removal_of_what_comes_next() -> None:
    block, ops = block_of(6)
    seen = []
    for op in block:
        seen.append(op.id)
        if op.id == 1:
            for gone in ops[2:5]:
                block.remove(gone)
    assert seen == [0, 1, 5]


def test_iteration_survives_removal_of_the_current_op_and_the_next() -> None:
    block, ops = block_of(5)
    seen = []
    for op in block:
        seen.append(op.id)
        if op.id == 1:
            block.remove(ops[1])
            block.remove(ops[2])
    assert seen == [0, 1, 3, 4]


def test_iteration_sees_what_is_inserted_behind_it() -> None:
    block, ops = block_of(3)
    seen = []
    for op in block:
        seen.append(op.id)
        if op.id == 1:
            block.insert(loose(7), ops[2])
            block.insert(loose(8), ops[1])
    assert seen == [0, 1, 7, 2]


def test_a_moved_op_is_not_seen_twice_when_it_moves_up() -> None:
    block, ops = block_of(4)
    seen = []
    for op in block:
        seen.append(op.id)
        if op.id == 2:
            block.remove(ops[3])
            block.insert(ops[3], ops[0])
    assert seen == [0, 1, 2]


def test_positions_are_renumbered_when_floats_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    renumber, calls = Block._renumber, []
    monkeypatch.setattr(Block, "_renumber", lambda self: (calls.append(len(self)), renumber(self)))
    block, (a, b) = block_of(2)
    for i in range(400):
        block.insert(loose(100 + i), b if i % 2 else a._next)  # halves the gaps at both ends
        assert in_order(block)
    assert ids(block)[0] == 0 and ids(block)[-1] == 1
    assert 1 <= len(calls) <= 20


def test_random_edits_agree_with_a_list() -> None:
    rng = random.Random(7)
    block, model = Block(), []
    for number in range(2000):
        if model and rng.random() < 0.4:
            gone = model.pop(rng.randrange(len(model)))
            block.remove(gone)
        else:
            op, place = loose(number), rng.randint(0, len(model))
            block.insert(op, model[place] if place < len(model) else None)
            model.insert(place, op)
    assert list(block) == model and in_order(block)
    assert list(reversed(block)) == model[::-1]


def test_uses_are_counted_per_operand() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    square = b.mul(x, x)
    double = b.add(x, square)
    assert x.users == {square.op: 2, double.op: 1}
    assert (x.use_count, square.use_count, double.use_count) == (3, 1, 0)
    count_uses(square.op, square.op.operands, -1)
    assert x.users == {double.op: 1}
    count_uses(square.op, square.op.operands)
    assert list(x.users) == [double.op, square.op]


def test_absent_operands_have_no_users() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    op = Return(99, (None, x), ())
    count_uses(op, op.operands)
    assert x.users == {op: 1} and list(op.present_operands()) == [x]


def test_ids_are_unique_and_reserved() -> None:
    module = Module()
    assert [module.new_id() for _ in range(3)] == [1, 2, 3]
    module.reserve_ids(10)
    module.reserve_ids(4)
    assert module.new_id() == 11 and module.last_id == 11


def test_walks_enter_regions() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    region = b.region([x.type], lambda inner, v: [inner.relu(inner.neg(v))])
    b.output("y", b.fused(x, regions=[region]))
    module = b.module
    names = [op.name for op in module.walk()]
    assert names == ["core.fused", "math.neg", "math.relu", "core.return", "core.return"]
    assert module.op_count() == 5
    assert region.parent is module.main.block.first


def test_a_function_tells_inputs_states_and_outputs_apart() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    cell = b.state("cell", tensor("f32", 2))
    total = b.add(x, cell)
    b.output("y", total)
    function = b.finish([total])
    assert function.inputs == [x] and function.state_args == [cell]
    assert function.outputs == (total,) and function.results == (total, total)
    verify(function.module)


def test_printing_a_module_shortens_it() -> None:
    b = Builder()
    b.output("y", b.constant(np.arange(100.0, dtype=np.float32)))
    text = str(b.module)
    assert "weight f32[100]" in text and "names" not in text


# -- constants ----------------------------------------------------------------------------------------


def test_constants_are_equal_by_type_and_bytes() -> None:
    zeros = Const.of(np.zeros(4, np.float32))
    assert zeros == Const.of(np.zeros(4, np.float32)) and hash(zeros) == hash(
        Const.of(np.zeros(4, np.float32))
    )
    assert zeros.digest == Const.of(np.zeros(2, np.int64)).digest  # the same bytes ...
    assert zeros != Const.of(np.zeros(2, np.int64))  # ... of another type
    assert zeros != Const.of(np.zeros((2, 2), np.float32))
    assert zeros != Const.of(-np.zeros(4, np.float32))
    assert zeros != "zeros"


def test_a_deferred_constant_is_read_once_and_shaped() -> None:
    reads = []

    def load() -> np.ndarray:
        reads.append(1)
        return np.arange(6, dtype=np.float32)

    const = Const.deferred(f32, (2, 3), load, "w")
    assert not reads and repr(const) == "Const(f32[2, 3], w)"
    assert const.array().shape == (2, 3) and const.array() is const.array()
    assert const.array(wide=True).dtype == np.float64
    assert reads == [1] and (const.size, const.nbytes) == (6, 24)


def test_a_lazy_constant_is_computed_wide_and_rounded_once() -> None:
    b = Builder()
    kind = tensor("f32", 1)
    region = b.region([kind, kind], lambda inner, p, q: [inner.sub(inner.add(p, q), p)])
    big, small = Const.of(np.array([1e8], np.float32)), Const.of(np.array([1.5], np.float32))
    lazy = Const.lazy(region, (big, small), kind)
    assert lazy.is_lazy and lazy.array().tolist() == [1.5] and lazy.array().dtype == np.float32
    assert (big.array() + small.array() - big.array()).tolist() == [0]
    assert lazy.array(wide=True).dtype == np.float64


def test_lazy_constants_are_told_apart_by_region_and_inputs() -> None:
    b = Builder()
    kind = tensor("f32", 1)
    one, two = Const.of(np.ones(1, np.float32)), Const.of(np.full(1, 2, np.float32))

    def lazy(body, *inputs: Const) -> Const:
        return Const.lazy(b.region([kind] * len(inputs), body), inputs, kind)

    def plus(inner, p, q):
        return [inner.add(p, q)]

    assert lazy(plus, one, two) == lazy(plus, one, two)
    assert lazy(plus, one, two) != lazy(plus, two, one)
    assert lazy(plus, one, two) != lazy(lambda inner, p, q: [inner.sub(p, q)], one, two)


def test_bytes_in_the_other_order_are_swapped() -> None:
    swapped = np.array([1.0, 2.0], ">f4")
    assert Const.of(swapped).array().tolist() == [1, 2]
    assert Const.of(swapped) == Const.of(np.array([1.0, 2.0], np.float32))


@pytest.mark.parametrize("array", [np.array(["a"]), np.zeros(1, "datetime64[s]"), np.array([object()])])
def test_arrays_without_an_element_type_are_refused(array: np.ndarray) -> None:
    with pytest.raises(UnsupportedArray, match="no element type"):
        Const.of(array)


@pytest.mark.parametrize("name", sorted(DTYPES))
def test_every_dtype_has_bytes_to_hash(name: str) -> None:
    a = Const.of(np.zeros((), DTYPES[name].numpy))
    b = Const.of(np.ones((), DTYPES[name].numpy))
    assert a.digest != b.digest and a.nbytes == DTYPES[name].numpy.itemsize
