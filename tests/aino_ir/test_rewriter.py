"""The rewriter: logs, refusals, rollback, fuel, order, locations."""

from __future__ import annotations

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.location import loc
from aino_ir.op import Op
from aino_ir.rewriter import Fuel, Refusal, Rewriter, type_mismatch
from aino_ir.text import print_module
from aino_ir.types import SequenceType, Type, permuted, tensor
from aino_ir.verify import verify


def chain() -> tuple[Builder, Op, Op, Op]:
    """x -> relu -> neg -> abs, each with a location."""
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    ops = []
    for name in ("relu", "neg", "abs"):
        b.loc = loc(f"node '{name}'")
        x = getattr(b, name)(x)
        ops.append(x.op)
    b.output("y", x)
    verify(b.module)
    return b, ops[0], ops[1], ops[2]


def names(module: Module) -> list[str]:
    return [op.name for op in module.main.block]


def test_a_replacement_is_logged_in_full() -> None:
    b, relu, neg, absolute = chain()
    rw = Rewriter(b.function)
    new = rw.builder(neg).exp(relu.result)
    assert rw.replace(neg, new, "NegIsExp", [relu])
    (entry,) = rw.log
    assert (entry.seq, entry.rule) == (0, "NegIsExp")
    assert entry.matched == (neg.id, relu.id)
    assert entry.removed == (neg.id,)  # relu is still read
    assert entry.added == (new.op.id,)
    assert entry.replaced == ((neg.result.id, new.id),)
    assert entry.touched == (new.op.id, absolute.id)
    assert entry.loc.entries == ("node 'neg'", "node 'relu'")
    assert new.op.loc == entry.loc and rw.changed and rw.last_touched == [new.op, absolute]
    assert names(b.module) == ["math.relu", "math.exp", "math.abs", "core.return"]
    verify(b.module)


def test_matched_ops_that_nothing_reads_go_too() -> None:
    b, relu, neg, absolute = chain()
    rw = Rewriter(b.function)
    assert rw.replace(absolute, rw.builder(absolute).exp(relu.operands[0]), "Collapse", [neg, relu])
    assert set(rw.log[0].removed) == {relu.id, neg.id, absolute.id}
    assert names(b.module) == ["math.exp", "core.return"]
    verify(b.module)


def test_an_existing_value_may_stand_in() -> None:
    b, relu, neg, _ = chain()
    rw = Rewriter(b.function)
    assert rw.replace(neg, relu.result, "DropNeg")
    assert rw.log[0].added == () and names(b.module) == ["math.relu", "math.abs", "core.return"]
    verify(b.module)


def test_names_go_on() -> None:
    b, relu, neg, _ = chain()
    neg.result.name = "hidden"
    rw = Rewriter(b.function)
    rw.replace(neg, relu.result, "DropNeg")
    assert relu.result.name == "hidden"


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        (tensor("f64", 4), "dtype f64 cannot stand for f32"),
        (tensor("f32", 4, 1), "rank 2 cannot stand for 1"),
        (tensor("f32", 5), "extent 5 of axis 0 is not provably 4"),
        (SequenceType(tensor("f32", 4)), "type seq<f32[4]> cannot stand for f32[4]"),
    ],
)
def test_types_must_agree(wrong: Type, reason: str) -> None:
    b, relu, neg, _ = chain()
    other = b.input("other", wrong)
    rw = Rewriter(b.function)
    assert not rw.replace(neg, other, "Wrong", [relu])
    assert rw.refusals == [Refusal("Wrong", neg.id, reason, neg.loc)] and not rw.log


def test_layouts_must_agree() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    y = b.op(op_class("core.relayout"), x, layouts=[permuted(1, 0)]).result
    assert "layout" in str(type_mismatch(b.function, x, y))


def test_extents_must_be_provably_equal() -> None:
    b = Builder()
    s, t = b.symbol("s", 1, 8), b.symbol("t", 1, 8)
    x, y = b.input("x", tensor("f32", s)), b.input("y", tensor("f32", t))
    z = b.relu(x)
    b.output("z", z)
    rw = Rewriter(b.function)
    assert not rw.replace(z.op, y, "Unknown")
    assert "not provably" in rw.refusals[0].reason
    b.function.symbols.assume_eq(s, t, "equal")
    assert rw.replace(z.op, y, "Known")


def test_a_refusal_takes_back_what_was_built() -> None:
    b, relu, neg, _ = chain()
    text = print_module(b.module)
    rw = Rewriter(b.function)
    inner = rw.builder(neg)
    wrong = inner.sum(inner.exp(inner.abs(relu.result)), axes=[0], keepdims=True)
    assert not rw.replace(neg, wrong, "Wrong")
    assert print_module(b.module) == text
    assert not relu.result.users.keys() - {neg}
    verify(b.module)
    assert rw.replace(neg, rw.builder(neg).exp(relu.result), "Right") and len(rw.log) == 1


def test_a_rule_may_give_its_own_reason() -> None:
    b, relu, neg, _ = chain()
    rw = Rewriter(b.function)
    rw.builder(neg).exp(relu.result)
    assert rw.refuse("Rule", neg, "it would be slower") is False
    assert rw.refusals[0].reason == "it would be slower" and len(b.block) == 4


def test_fuel_stops_after_so_many() -> None:
    b, relu, neg, absolute = chain()
    fuel = Fuel(1)
    rw = Rewriter(b.function, fuel)
    assert rw.replace(neg, relu.result, "First")
    count = len(b.block)
    assert not rw.replace(absolute, rw.builder(absolute).exp(relu.result), "Second")
    assert fuel.left == 0 and len(rw.log) == 1 and not rw.refusals and len(b.block) == count
    verify(b.module)


def test_sites_on_the_skip_list_do_not_fire() -> None:
    b, relu, neg, _ = chain()
    rw = Rewriter(b.function, skip=frozenset({("Drop", neg.id)}))
    assert not rw.replace(neg, relu.result, "Drop")
    assert not rw.replace_value(neg.result, relu.result, "Drop")
    assert not rw.log
    assert rw.replace(neg, relu.result, "Other")


def test_multiple_results_and_none_for_unused_ones() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    region = b.region([x.type], lambda inner, v: [inner.relu(v), inner.neg(v)])
    first, second = b.fused(x, regions=[region])
    b.output("y", first)
    module = b.module
    rw = Rewriter(b.function)
    assert not rw.replace(first.op, [rw.builder(first.op).exp(x)], "Short")
    assert rw.refusals[-1].reason == "2 results cannot become 1"
    assert not rw.replace(first.op, [None, rw.builder(first.op).exp(x)], "Used")
    assert rw.refusals[-1].reason == "result 0 is still used"
    assert rw.replace(first.op, [rw.builder(first.op).exp(x), None], "Right")
    assert names(module) == ["math.exp", "core.return"] and not second.users
    verify(module)


def test_the_replacement_may_read_what_it_replaces() -> None:
    b, _, neg, _ = chain()
    rw = Rewriter(b.function)
    inner = Builder(b.function, before=neg._next, record=False, on_create=rw._pending.append)
    twice = inner.exp(inner.abs(neg.result))
    assert rw.replace(neg, twice, "Wrap")
    assert names(b.module) == ["math.relu", "math.neg", "math.abs", "math.exp", "math.abs", "core.return"]
    assert neg.id not in rw.log[0].removed
    verify(b.module)


def test_a_cycle_is_refused() -> None:
    b, relu, _, absolute = chain()
    text = print_module(b.module)
    rw = Rewriter(b.function)
    assert not rw.replace(relu, absolute.result, "Loop")
    assert "is computed from" in rw.refusals[0].reason
    assert not rw.replace_value(relu.result, absolute.result, "Loop")
    assert print_module(b.module) == text
    verify(b.module)


def test_a_later_value_is_moved_up_with_all_it_needs() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 4)), b.input("y", tensor("f32", 4))
    early = b.relu(x)
    b.output("a", b.neg(early))
    late = b.exp(b.abs(b.mul(y, y)))
    b.output("b", late)
    module = b.module
    rw = Rewriter(b.function)
    assert rw.replace(early.op, late, "Later")
    assert names(module) == ["math.mul", "math.abs", "math.exp", "math.neg", "core.return"]
    verify(module)


def test_moving_up_a_deep_chain_needs_no_deep_stack() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 4)), b.input("y", tensor("f32", 4))
    early = b.relu(x)
    b.output("a", b.neg(early))
    late = y
    for _ in range(3000):
        late = b.neg(late)
    b.output("b", late)
    module = b.module
    rw = Rewriter(b.function)
    assert rw.replace(early.op, late, "Later")
    verify(module)


def test_one_value_of_many_and_arguments_are_replaced() -> None:
    b, relu, _, _ = chain()
    z = b.function.add_argument(tensor("f32", 4), "z")
    b.function.input_names.append("z")
    rw = Rewriter(b.function)
    assert rw.replace_value(relu.operands[0], z, "Rewire")
    (entry,) = rw.log
    assert entry.removed == () and entry.replaced == ((b.function.inputs[0].id, z.id),)
    assert entry.touched == (relu.id,) and relu.operands == (z,)
    assert not rw.replace_value(b.function.inputs[0], z, "Unused")
    assert not rw.replace_value(z, b.function.add_argument(tensor("f64", 4)), "Wrong")
    assert rw.refusals[-1].reason.startswith("dtype")


def test_erasing_needs_no_users() -> None:
    b, relu, neg, _ = chain()
    rw = Rewriter(b.function)
    assert not rw.erase(neg, "Dead")
    assert "still used" in rw.refusals[0].reason
    dead = Builder(b.function, before=neg).exp(relu.result)
    assert rw.erase(dead.op, "Dead")
    assert rw.log[0].removed == (dead.op.id,) and dead.op not in relu.result.users
    again = Builder(b.function, before=neg).exp(relu.result)
    assert not Rewriter(b.function, skip=frozenset({("Dead", again.op.id)})).erase(again.op, "Dead")
    assert not Rewriter(b.function, Fuel(0)).erase(again.op, "Dead")


def test_single_operands_are_set_where_types_and_order_allow() -> None:
    b, relu, neg, absolute = chain()
    rw = Rewriter(b.function)
    terminator = b.block.terminator
    rw.set_operand(terminator, 0, absolute.result, "Same")
    assert not rw.log
    rw.set_operand(terminator, 0, neg.result, "Output")
    assert terminator.operands == (neg.result,) and rw.log[0].touched == (terminator.id,)
    assert rw.log[0].replaced == ((absolute.result.id, neg.result.id),)
    rw.set_operand(relu, 0, absolute.result, "Later")
    assert rw.refusals[-1].reason.endswith("is made later")
    rw.set_operand(terminator, 0, b.function.add_argument(tensor("i8", 4)), "Wrong")
    assert rw.refusals[-1].reason == "dtype i8 cannot stand for f32"
    assert len(rw.log) == 1


def test_the_meaning_stays() -> None:
    b, relu, neg, _ = chain()
    x = np.array([-2, -0.5, 0.5, 2], np.float32)
    (before,) = run_module(b.module, [x])
    rw = Rewriter(b.function)
    inner = rw.builder(neg)
    assert rw.replace(neg, inner.mul(relu.result, inner.constant(np.float32(-1))), "NegIsMul")
    (after,) = run_module(b.module, [x])
    np.testing.assert_array_equal(before, after)
    verify(b.module)


def test_locations_are_a_union_without_repeats() -> None:
    a, c = loc("a", "b"), loc("b", "c")
    assert a.union(c).entries == ("a", "b", "c") and a.union(a) is a
    assert not loc() and str(a) == "a, b"
    many = loc().union(*(loc(str(i)) for i in range(100)))
    assert len(many.entries) == 16


def test_users_of_both_results_are_rewired_once_each() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    y = b.relu(x)
    b.output("z", b.mul(y, y))
    module = b.module
    rw = Rewriter(b.function)
    new = rw.builder(y.op).abs(x)
    rw.replace(y.op, new, "Both")
    assert new.users == {module.main.results[0].op: 2}
    assert rw.log[0].touched == (new.op.id, module.main.results[0].op.id)
    verify(module)
