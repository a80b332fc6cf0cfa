"""The verifier: one broken module per numbered invariant."""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import symbol
from aino_ir.dtypes import f32
from aino_ir.errors.ir import InvariantBroken
from aino_ir.graph import Module, Value
from aino_ir.infer import InferContext
from aino_ir.location import loc
from aino_ir.op import OPS, Op, operand
from aino_ir.types import Layout, SequenceType, TensorType, permuted, tensor
from aino_ir.verify import INVARIANTS, OP_CHECKS, same_logical_type, verified, verify, verify_ops


def sample() -> Builder:
    """x -> relu -> softmax -> fused(neg, abs), a matmul, a state, a symbol."""
    b = Builder()
    s = b.symbol("s", 1, 64)
    x = b.input("x", tensor("f32", s, 4))
    total = b.state("total", tensor("f32", 4))
    b.loc = loc("node 'relu'")
    y = b.relu(x)
    z = b.softmax(y)
    region = b.region([z.type], lambda inner, v: [inner.abs(inner.neg(v))])
    w = b.fused(z, regions=[region])
    b.output("w", w[0] if isinstance(w, tuple) else w)
    b.output("m", b.matmul(z, b.constant(np.ones((4, 2), np.float32))))
    b.finish([b.add(total, b.constant(np.ones(4, np.float32)))])
    return b


def op_named(module: Module, name: str) -> Op:
    return next(op for op in module.walk() if op.name == name)


def break_1(m: Module) -> None:
    op_named(m, "normalize.softmax").id = op_named(m, "math.relu").id


def break_1_counter(m: Module) -> None:
    op_named(m, "math.relu").result.id = m.last_id + 1


def break_2(m: Module) -> None:
    op_named(m, "normalize.softmax")._position = -5.0


def break_2_block(m: Module) -> None:
    unused = Builder(m.main, before=m.main.block.first).constant(np.ones(2))
    assert unused.op is not None
    unused.op.block = None


def break_4_gone(m: Module) -> None:
    op_named(m, "normalize.softmax").block = None


def break_3(m: Module) -> None:
    relu, softmax = op_named(m, "math.relu"), op_named(m, "normalize.softmax")
    assert relu.block is not None
    relu.block.remove(relu)
    relu.block = None
    block = softmax.block
    assert block is not None
    block.insert(relu, softmax._next)


def break_3_block(m: Module) -> None:
    neg, softmax = op_named(m, "math.neg"), op_named(m, "normalize.softmax")
    old = neg.operands[0]
    assert old is not None
    neg.operands = (softmax.result,)
    old.users.clear()
    softmax.result.users[neg] = 1


def break_4(m: Module) -> None:
    op_named(m, "math.relu").result.users.clear()


def break_4_count(m: Module) -> None:
    relu = op_named(m, "math.relu")
    relu.result.users[op_named(m, "normalize.softmax")] = 2


def break_4_stranger(m: Module) -> None:
    relu = op_named(m, "math.relu")
    relu.result.users[op_named(m, "nn.matmul")] = 1


def break_4_producer(m: Module) -> None:
    op_named(m, "math.relu").result.op = op_named(m, "normalize.softmax")


def break_5(m: Module) -> None:
    relu = op_named(m, "math.relu")
    for value in relu.present_operands():
        value.users.clear()
    relu.operands = ()


def break_5_absent(m: Module) -> None:
    relu = op_named(m, "math.relu")
    for value in relu.present_operands():
        value.users.clear()
    relu.operands = (None,)


def break_6(m: Module) -> None:
    op_named(m, "normalize.softmax").attributes = ()


def break_6_kind(m: Module) -> None:
    op_named(m, "nn.matmul").attributes = ("yes", False)


def break_6_absent(m: Module) -> None:
    op_named(m, "nn.matmul").attributes = (None, False)


def break_6_object(m: Module) -> None:
    op_named(m, "core.constant").attributes = (3,)


def break_7(m: Module) -> None:
    op_named(m, "math.relu").result.type = tensor("f64", symbol("s"), 4)


def break_7_count(m: Module) -> None:
    relu = op_named(m, "math.relu")
    relu.results = (*relu.results, Value(m.new_id(), relu.result.type, relu, 1))


def break_7_illegal(m: Module) -> None:
    softmax = op_named(m, "normalize.softmax")
    softmax.attributes = tuple(9 if isinstance(v, int) else v for v in softmax.attributes)


def break_8(m: Module) -> None:
    m.main.block.remove(m.main.block.terminator)


def break_8_middle(m: Module) -> None:
    b = Builder(m.main, before=m.main.block.first)
    b.op(op_class("core.return"))


def break_8_region(m: Module) -> None:
    region = op_named(m, "core.fused").regions[0]
    last = region.terminator
    region.remove(last)
    for value in last.present_operands():
        value.users.clear()


def break_9(m: Module) -> None:
    op_named(m, "core.fused").regions[0].parent = op_named(m, "math.relu")


def break_9_function(m: Module) -> None:
    op_named(m, "core.fused").regions[0].function = Module().add_function()


def break_10(m: Module) -> None:
    m.main.input_names.append("more")


def break_10_results(m: Module) -> None:
    m.main.output_names.pop()


def break_11(m: Module) -> None:
    u = symbol("undeclared")
    m.main.block.args[0].type = tensor("f32", u, 4)


def break_11_attribute(m: Module) -> None:
    Builder(m.main, before=m.main.block.first).dims_vector([symbol("undeclared"), 1])


def break_12(m: Module) -> None:
    op_named(m, "math.relu").result.type = TensorType(f32, (symbol("s"), 4), permuted(1, 0, 2))


def break_12_argument(m: Module) -> None:
    m.main.block.args[0].type = TensorType(f32, (symbol("s"), 4), Layout(((0, "o"), (1, None)), ((0, 4),)))


def break_12_negative(m: Module) -> None:
    m.main.block.args[0].type = SequenceType(tensor("f32", -4))


def break_13(m: Module) -> None:
    m.main.states[0].type = tensor("f32", 5)


def break_13_new_value(m: Module) -> None:
    m.main.states[0].type = m.main.block.args[1].type = tensor("f64", 4)


def break_14(m: Module) -> None:
    m.main.output_names[1] = "w"


def break_14_inputs(m: Module) -> None:
    m.main.states[0].name = "x"


def break_15(m: Module) -> None:
    op_named(m, "math.relu").regions = op_named(m, "core.fused").regions


def break_16(m: Module) -> None:
    b = Builder(m.add_function("again"))
    b.finish()
    Builder(b.function, before=b.function.block.last).op(op_class("core.call"), callee="again")


BREAKS: list[Callable[[Module], None]] = [
    f for name, f in list(globals().items()) if name.startswith("break_")
]


def test_the_sample_is_sound() -> None:
    with verified(sample().module) as module:
        assert module.op_count() == 11


@pytest.mark.parametrize("damage", BREAKS, ids=lambda f: f.__name__)
def test_a_broken_invariant_is_named(damage: Callable[[Module], None]) -> None:
    module = sample().module
    damage(module)
    with pytest.raises(InvariantBroken) as raised:
        verify(module)
    assert raised.value.fields["number"] == int(damage.__name__.split("_")[1]), raised.value.message


def test_every_invariant_has_a_counterexample() -> None:
    assert (
        {int(f.__name__.split("_")[1]) for f in BREAKS}
        == set(INVARIANTS)
        == set(range(1, len(INVARIANTS) + 1))
    )


def test_the_message_has_title_op_and_place() -> None:
    module = sample().module
    break_7(module)
    with pytest.raises(InvariantBroken, match=r"invariant 7 \(result types") as raised:
        verify(module)
    assert "math.relu" in raised.value.message and "f64" in raised.value.message
    assert str(raised.value.loc) == "node 'relu'"


def test_an_infer_that_crashes_is_a_broken_invariant() -> None:
    class Crash(Op):
        """Not an op that anyone should have."""

        name = "test.crash"
        x = operand()
        healthy = True

        def infer(self, ic: InferContext) -> list[TensorType]:
            if self.healthy:
                return [self.x.type]
            raise KeyError("shape")

    try:
        b = Builder()
        b.output("y", b.op(Crash, b.input("x", tensor("f32", 2))).result)
        verify(b.module)
        Crash.healthy = False
        with pytest.raises(InvariantBroken, match="infer raises KeyError: 'shape'"):
            verify(b.module)
    finally:
        del OPS["test.crash"]


def test_undecided_extents_count_as_checked() -> None:
    b = Builder()
    s, t = b.symbol("s", 1, 64), b.symbol("t", 1, 64)
    b.output("y", b.add(b.input("x", tensor("f32", s)), b.input("z", tensor("f32", t))))
    assert len(b.function.symbols.checks) == 1
    verify(b.module)


def test_layouts_are_not_compared_with_what_infer_says() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    b.output("y", b.op(op_class("core.relayout"), x, layouts=[permuted(1, 0)]).result)
    verify(b.module)
    assert same_logical_type(tensor("f32", 2, 3), TensorType(f32, (2, 3), permuted(1, 0)), b.function)
    assert not same_logical_type(tensor("f32", 2, 3), tensor("f32", 3, 2), b.function)
    assert not same_logical_type(tensor("f32", 2), SequenceType(tensor("f32", 2)), b.function)


def test_only_the_named_ops_are_judged() -> None:
    module = sample().module
    relu = op_named(module, "math.relu")
    break_7(module)
    verify_ops(module, [])
    verify_ops(module, [op_named(module, "math.neg").id])
    with pytest.raises(InvariantBroken):
        verify_ops(module, [relu.id])


def test_the_interface_is_judged_with_any_op() -> None:
    module = sample().module
    break_14(module)
    with pytest.raises(InvariantBroken):
        verify_ops(module, [op_named(module, "math.neg").id])


def test_float_attributes_may_be_nan_and_zero_of_either_sign() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    for slope in (0.5, float("nan"), float("inf"), -0.0):
        b.output(f"y{slope}", b.leaky_relu(x, alpha=slope))
    verify(b.module)


def test_handles_count_as_attributes_of_their_kind() -> None:
    b = Builder()
    b.output("y", b.op(op_class("core.constant"), value=Const.of(np.ones(2))).result)
    verify(b.module)


def test_work_is_linear_in_ops_and_uses(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    checks = tuple((lambda op, check=check: (calls.append(1), check(op))[1]) for check in OP_CHECKS)
    monkeypatch.setattr(sys.modules["aino_ir.verify"], "OP_CHECKS", checks)
    counts = []
    for size in (50, 100):
        calls.clear()
        b = Builder()
        x = b.input("x", tensor("f32", 2))
        for _ in range(size):
            x = b.relu(x)
        b.output("y", x)
        verify(b.module)
        counts.append(len(calls))
    assert counts == [(n + 1) * len(OP_CHECKS) for n in (50, 100)]
