"""The interpreter: precisions, symbols, checks, states, regions and what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import symbol
from aino_ir.errors.dims import CheckFailed, SymbolOutOfRange
from aino_ir.errors.ir import IntegerDivisionByZero, NegativeExtent, UnevaluableOp
from aino_ir.errors.run import InputMismatch, WrongInputCount
from aino_ir.graph import Block
from aino_ir.infer import InferContext
from aino_ir.interp import Evaluation, decomposition, run_block, run_function, run_module
from aino_ir.location import Loc
from aino_ir.op import OPS, Op, float_attr, operand, optional_operand
from aino_ir.types import OptionalType, Type, tensor
from aino_ir.verify import verify

S, T = symbol("s"), symbol("t")


def f32(*values: float) -> Any:
    return np.array(values, np.float32)


def test_native_rounds_every_result_and_wide_none() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    b.output("y", b.sub(b.add(x, b.constant(f32(1e-9))), x))
    (native,) = run_module(b.module, [f32(1)])
    (wide,) = run_module(b.module, [f32(1)], "wide")
    assert native.tolist() == [0] and native.dtype == np.float32
    assert wide.dtype == np.float64 and abs(wide[0] - 1e-9) < 1e-15


def test_low_precision_computes_in_f32_and_stores_rounded() -> None:
    import ml_dtypes

    b = Builder()
    x = b.input("x", tensor("bf16", 2))
    b.output("y", b.add(x, x))
    (y,) = run_module(b.module, [np.array([1.0, 3.0], ml_dtypes.bfloat16)])
    assert y.dtype == ml_dtypes.bfloat16 and y.astype(np.float32).tolist() == [2, 6]


def test_a_cast_rounds_even_when_wide() -> None:
    b = Builder()
    b.output("y", b.cast(b.input("x", tensor("f64", 1)), to="f32"))
    (y,) = run_module(b.module, [np.array([1 + 2.0**-40])], "wide")
    assert y.tolist() == [1.0]


def test_symbols_are_bound_by_inputs_and_held_to() -> None:
    b = Builder()
    b.symbol("s", 1, 64)
    x = b.input("x", tensor("f32", S, 2))
    y = b.input("y", tensor("f32", S * 2))
    b.output("z", b.relu(x))
    b.output("w", b.relu(y))
    outputs = run_module(b.module, [np.ones((3, 2), np.float32), np.ones(6, np.float32)])
    assert [o.shape for o in outputs] == [(3, 2), (6,)]
    with pytest.raises(InputMismatch, match=r"extent of axis 0 \(2\*s\) must be 6, got 5"):
        run_module(b.module, [np.ones((3, 2), np.float32), np.ones(5, np.float32)])
    with pytest.raises(InputMismatch, match="rank"):
        run_module(b.module, [np.ones(3, np.float32), np.ones(6, np.float32)])


def test_static_extents_of_inputs_are_checked() -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 3))))
    with pytest.raises(InputMismatch, match="must be 3, got 4"):
        run_module(b.module, [np.ones(4, np.float32)])


def test_entry_checks_run() -> None:
    b = Builder()
    b.symbol("s", 1, 64)
    b.symbol("t", 1, 64)
    b.output("y", b.add(b.input("x", tensor("f32", S)), b.input("z", tensor("f32", T))))
    (y,) = run_module(b.module, [f32(1, 2), f32(3, 4)])
    assert y.tolist() == [4, 6]
    with pytest.raises(CheckFailed, match="broadcast"):
        run_module(b.module, [f32(1, 2), f32(3, 4, 5)])


def test_states_start_at_zero_or_their_first_value_and_come_back() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    total = b.state("total", tensor("f32", 2))
    new = b.add(total, x)
    b.output("y", new)
    b.finish([new])
    assert [v.tolist() for v in run_function(b.function, [f32(1, 2)])] == [[1, 2], [1, 2]]
    second = run_function(b.function, [f32(1, 2)], states=[f32(5, 5)])
    assert second[1].tolist() == [6, 7]


def test_regions_run_on_their_own() -> None:
    b = Builder()
    kind = tensor("f32", 2)
    region = b.region([kind, kind], lambda inner, p, q: [inner.mul(inner.add(p, q), q)])
    x = b.input("x", kind)
    op = b.op(op_class("core.fused"), x, x, regions=[region])
    b.output("y", op.result)
    (y,) = run_module(b.module, [f32(2, 3)])
    assert y.tolist() == [8, 18]


def test_errors_name_the_users_node() -> None:
    b = Builder(loc=Loc(("node 'half'",)))
    x = b.input("x", tensor("i32", 1))
    b.output("y", b.div(x, b.constant(np.zeros(1, np.int32))))
    with pytest.raises(IntegerDivisionByZero, match="half") as raised:
        run_module(b.module, [np.ones(1, np.int32)])
    assert "AINO-E0502" in str(raised.value)


def test_a_block_without_terminator_cannot_run() -> None:
    with pytest.raises(UnevaluableOp, match="no terminator"):
        run_block(Block(), [], Evaluation())


def test_extents_below_zero_are_refused_at_run_time() -> None:
    with pytest.raises(NegativeExtent):
        Evaluation(bindings={"s": 1}).dims([S - 3])
    assert Evaluation(bindings={"s": 4}).dims([S - 3, 2]) == (1, 2)


def test_values_are_dropped_after_their_last_use_but_not_before() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1))
    y = b.add(x, x)
    for _ in range(5):
        y = b.mul(y, x)
    b.output("y", y)
    b.output("again", x)
    assert [v.tolist() for v in run_module(b.module, [f32(2)])] == [[128], [2]]


# -- ops that are only declared by what they are made of ----------------------------------------------


class Swish(Op):
    """out = x * sigmoid(beta * x) + shift, by simpler ops alone."""

    x = operand()
    shift = optional_operand()
    beta = float_attr(2.0)

    def infer(self, ic: InferContext) -> list[Type]:
        return [ic.tensor(self.x, "x")]

    def decompose(self, b: Builder) -> Any:
        gate = b.sigmoid(b.mul(self.x, b.constant(np.array(self.beta, self.x.dtype.numpy))))
        out = b.mul(self.x, gate)
        return out if self.shift is None else b.add(out, self.shift)


def swish(x: Any, beta: float) -> Any:
    return x / (1 + np.exp(-beta * x))


@pytest.mark.parametrize("shifted", [False, True])
def test_an_op_without_evaluate_is_evaluated_by_its_parts(shifted: bool) -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    x = b.input("x", tensor("f32", s))
    shift = b.input("shift", tensor("f32", 1)) if shifted else None
    op = b.op(Swish, x, shift, beta=0.5)
    b.output("y", op.result)
    verify(b.module)
    given = np.linspace(-3, 3, 7, dtype=np.float32)
    (y,) = run_module(b.module, [given, f32(10)][: 1 + shifted])
    np.testing.assert_allclose(y, swish(given.astype(np.float64), 0.5) + 10 * shifted, rtol=1e-6)
    (wide,) = run_module(b.module, [given, f32(10)][: 1 + shifted], "wide")
    np.testing.assert_allclose(wide, swish(given.astype(np.float64), 0.5) + 10 * shifted, rtol=1e-15)
    assert list(x.users) == [op]  # evaluation left the graph alone


def test_a_decomposition_is_a_block_of_simpler_ops() -> None:
    b = Builder()
    op = b.op(Swish, b.input("x", tensor("f32", 2)))
    block = decomposition(op)
    assert block is not None
    assert [o.name for o in block] == ["core.constant", "math.mul", "math.sigmoid", "math.mul", "core.return"]
    assert decomposition(b.relu(b.input("y", tensor("f32", 2))).op) is None


def test_data_symbols_of_a_decomposition_do_not_meet_the_functions_own() -> None:
    class Found(Op):
        x = operand()

        def infer(self, ic: InferContext) -> list[Type]:
            return [tensor("i64", 1, ic.data_symbol(0, self.x.shape[0]))]

        def decompose(self, b: Builder) -> Any:
            return b.nonzero(self.x)

    b = Builder()
    x = b.input("x", tensor("f32", 6))
    b.output("first", b.op(Found, x).result)
    b.output("second", b.op(Found, b.neg(b.relu(x))).result)
    first, second = run_module(b.module, [f32(0, 1, -1, 2, 0, 3)])
    assert first.tolist() == [[1, 2, 3, 5]] and second.tolist() == [[1, 3, 5]]


def test_an_op_that_says_nothing_about_its_meaning_cannot_run() -> None:
    class Silent(Op):
        x = operand()

        def infer(self, ic: InferContext) -> list[Type]:
            return [ic.tensor(self.x, "x")]

    b = Builder(loc=Loc(("node 'silent'",)))
    b.output("y", b.op(Silent, b.input("x", tensor("f32", 1))).result)
    with pytest.raises(UnevaluableOp, match="neither evaluate nor decompose") as raised:
        run_module(b.module, [f32(1)])
    assert "node 'silent'" in str(raised.value)


def test_every_named_op_has_a_meaning() -> None:
    op_class("add")
    silent = [
        name
        for name, cls in OPS.items()
        if cls.evaluate is Op.evaluate and cls.decompose is Op.decompose and name != "core.return"
    ]
    assert not silent


def test_a_wrong_number_of_values_is_found() -> None:
    class Two(Op):
        x = operand()

        def infer(self, ic: InferContext) -> list[Type]:
            return [ic.tensor(self.x, "x")]

        def evaluate(self, ev: Evaluation, x: Any) -> Any:
            return x, x

    b = Builder()
    b.output("y", b.op(Two, b.input("x", tensor("f32", 1))).result)
    with pytest.raises(UnevaluableOp, match="gives 2 values for 1 results"):
        run_module(b.module, [f32(1)])


# -- inputs -------------------------------------------------------------------------------------------


def test_inputs_left_out_have_their_defaults() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 1)), b.input("y", tensor("f32", 1))
    b.function.defaults["y"] = Const.of(f32(5))
    b.output("z", b.sub(x, y))
    assert run_module(b.module, [f32(7)])[0].tolist() == [2]
    assert run_module(b.module, [f32(7), None])[0].tolist() == [2]
    assert run_module(b.module, [f32(7), f32(1)])[0].tolist() == [6]
    for wrong in ([], [None, f32(1)], [f32(1), f32(1), f32(1)]):
        with pytest.raises(WrongInputCount):
            run_module(b.module, wrong)


def test_optional_inputs_may_be_none() -> None:
    b = Builder()
    b.output("y", b.input("x", OptionalType(tensor("f32", 1))))
    assert run_module(b.module, [None]) == (None,)


def test_states_are_counted_and_typed() -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    x = b.input("x", tensor("f32", s))
    cell = b.state("cell", tensor("f32", s))
    first = b.state("first", tensor("f32", 2), Const.of(f32(3, 4)))
    b.output("y", b.add(x, cell))
    b.finish([x, first])
    y, cell_after, first_after = run_function(b.function, [f32(1, 2, 3)])
    assert y.tolist() == [1, 2, 3] and cell_after.tolist() == [1, 2, 3] and first_after.tolist() == [3, 4]
    with pytest.raises(WrongInputCount, match="1 states"):
        run_function(b.function, [f32(1)], states=[f32(1)])
    with pytest.raises(InputMismatch, match="extent of axis 0"):
        run_function(b.function, [f32(1, 2)], states=[f32(1), f32(3, 4)])


# -- extents that ops decide --------------------------------------------------------------------------


def test_checks_on_extents_of_data_run_after_their_op() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 6))
    found = b.nonzero(x)
    extent = found.shape[1]
    b.function.symbols.assume_ge(extent, 2, "at least two values")
    b.output("y", found)
    verify(b.module)
    assert b.function.symbols.checks[0].after_op == found.op.id
    (y,) = run_module(b.module, [f32(0, 1, 0, 2, 0, 3)])
    assert y.tolist() == [[1, 3, 5]]
    with pytest.raises(CheckFailed, match="at least two values"):
        run_module(b.module, [f32(0, 1, 0, 0, 0, 0)])


def test_extents_of_data_stay_within_their_bound() -> None:
    class Liar(Op):
        x = operand()

        def infer(self, ic: InferContext) -> list[Type]:
            return [tensor("f32", ic.data_symbol(0, 2))]

        def evaluate(self, ev: Evaluation, x: Any) -> Any:
            return x

    b = Builder()
    b.output("y", b.op(Liar, b.input("x", tensor("f32", 3))).result)
    with pytest.raises(SymbolOutOfRange):
        run_module(b.module, [f32(1, 2, 3)])


def test_symbolic_evaluation_gives_up_where_only_numbers_will_do() -> None:
    b = Builder()
    s = b.symbol("s", 1, 8)
    vector = b.dims_vector([s, 4])
    assert b.known(b.mul(vector, b.constant(np.array([2, 3])))) == (2 * s, 12)
    assert b.known(b.div(vector, b.constant(np.array([0, 1])))) is None
