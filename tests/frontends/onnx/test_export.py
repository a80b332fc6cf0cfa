"""`to_onnx`: what is written passes onnx's checker and runs in ONNX Runtime with the interpreter's results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import aino_ir as aino
from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dtypes import DTYPES
from aino_ir.errors.export import ExtentNotExportable, OpNotExportable
from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.export import external_weights
from aino_ir.frontends.onnx.export.legal import WIDER, substitutes
from aino_ir.frontends.onnx.export.ops import TABLE
from aino_ir.graph import Module
from aino_ir.interp import run_function, run_module
from aino_ir.op import OPS, operand
from aino_ir.ops.activation import FloatUnary
from aino_ir.tolerance import disagreement
from aino_ir.types import permuted, tensor
from tests.conformance.batch import in_child
from tests.conformance.cases import share
from tests.conformance.onnx_cases import cases
from tests.conformance.onnxruntime_session import Session
from tests.conformance.round_trip import check, defined_samples, optimised, trips_of

Array = np.ndarray[Any, Any]


UNWRITTEN = {
    "linalg.cholesky",
    "linalg.eigh",
    "linalg.householder_product",
    "linalg.lu",
    "linalg.qr",
    "linalg.solve_triangular",
    "linalg.svd",
    "svm.pairwise_coupling",
}
"""Ops that ONNX has no operator for, and that nobody has composed yet (docs/status.md)."""


def ran(module: Module, *inputs: Any) -> list[Array]:
    """The module's outputs from ONNX Runtime, in a process of its own; they agree with the interpreter's."""

    def run() -> Any:
        model = aino.to_onnx(module)
        check(model)
        return Session(model).run(inputs)

    got = in_child(run)
    assert isinstance(got, list), got
    main = module.main
    for actual, wanted in zip(got, run_function(main, inputs[: len(main.input_names)]), strict=True):
        assert disagreement(actual, wanted, "approximate") is None
    return got


def test_every_op_has_an_exporter() -> None:
    own = {name for name, cls in OPS.items() if cls.__module__.startswith("aino_ir.ops")}
    assert own - TABLE.keys() == {"core.return", *UNWRITTEN}


@pytest.mark.parametrize("op", ["math.select", "trees.leaves"])
def test_every_sample_runs_in_onnx_runtime(op: str) -> None:
    trips = trips_of(list(defined_samples(lambda name: name.startswith(f"{op}/"))))
    assert trips and not [t for t in trips if t.status in ("wrong", "crashed", "refused")]
    assert [t for t in trips if t.status == "passed"]


def test_samples_of_ops_run_in_onnx_runtime() -> None:
    chosen = list(defined_samples(lambda name: share(name, 30, 3)))
    trips = trips_of(chosen)
    assert len(trips) > 80
    bad = [t for t in trips if t.status in ("wrong", "crashed")]
    assert not bad, bad
    assert sum(t.status == "passed" for t in trips) > 0.8 * len(trips)


@pytest.mark.slow
def test_suite_cases_survive_the_round_trip() -> None:
    trips = trips_of(list(cases(wanted=lambda name: share(name, 40, 3))))
    assert not [t for t in trips if t.status in ("wrong", "crashed")]
    assert sum(t.status == "passed" for t in trips) > 15


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bert_base_small", "mobilenet_v2_small"])
def test_workload_survives_the_round_trip(name: str) -> None:
    (trip,) = trips_of([name])
    assert trip.status == "passed", trip


def test_names_of_people_are_kept() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    hidden = b.relu(x)
    hidden.name = "hidden"
    b.output("y", b.mul(hidden, b.constant(np.float32(2), "two")))
    model = aino.to_onnx(b.module)
    assert [list(n.output) for n in model.graph.node] == [["hidden"], ["y"]]
    assert [t.name for t in model.graph.initializer] == ["two"]
    assert model.producer_name == "aino" and model.opset_import[0].version == 21


def test_names_that_clash_stay_apart() -> None:
    b = Builder()
    x = b.input("Relu", tensor("f32", 2))
    first, second = b.relu(x), b.neg(x)
    first.name = second.name = "y"
    b.output("y", b.add(first, second))
    b.output("Add", b.abs(second))
    ran(b.module, np.array([-1, 2], np.float32))


def test_outputs_that_are_no_nodes_are_copied() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    y = b.relu(x)
    for name, value in (("a", x), ("b", y), ("c", y), ("d", b.constant(np.float32([1, 2])))):
        b.output(name, value)
    assert len(ran(b.module, np.array([-1, 2], np.float32))) == 4


def test_symbols_are_named_dimensions_and_computed_from_shapes() -> None:
    b = Builder()
    s, t = b.symbol("s", 1), b.symbol("t", 1)
    x = b.input("x", tensor("f32", s, 4, t))
    y = b.reshape(b.transpose(x, perm=(0, 2, 1)), shape=(s * t, 4))
    b.output("y", b.concat(y, b.expand(b.constant(np.float32(1)), shape=(s + t // 2, 4)), axis=0))
    b.output("z", b.range(start=s, size=t, step=-2))
    model = aino.to_onnx(b.module)
    assert [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim] == [
        "s",
        4,
        "t",
    ]
    for extents in ((2, 4, 3), (1, 4, 7)):
        ran(b.module, np.arange(np.prod(extents), dtype=np.float32).reshape(extents))


def test_symbol_inside_of_an_extent_is_solved_for() -> None:
    b = Builder()
    s = b.symbol("s", 1)
    x = b.input("x", tensor("f32", 2 * s + 1))
    b.output("y", b.slice(x, starts=(0,), sizes=(s,), steps=(2,)))
    model = aino.to_onnx(b.module)
    check(model)
    (y,) = in_child(lambda: Session(model).run([np.arange(7, dtype=np.float32)]))
    assert y.tolist() == [0, 2, 4]


def test_slice_backwards_to_a_symbolic_start() -> None:
    b = Builder()
    s = b.symbol("s", 1)
    x = b.input("x", tensor("f32", s))
    b.output("y", b.slice(x, starts=(s - 1,), sizes=(s,), steps=(-1,)))
    ran(b.module, np.arange(5, dtype=np.float32))


def test_numbers_that_become_extents() -> None:
    b = Builder()
    x, n = b.input("x", tensor("f32", 6)), b.input("n", tensor("i32", 2))
    bound = b.bind(n, lower=(0, 1), upper=(3, 3))
    start, size = b.known(bound) or ()
    b.output("y", b.slice(x, starts=(start,), sizes=(size,), steps=(1,)))
    (y,) = ran(b.module, np.arange(6, dtype=np.float32), np.array([2, 3], np.int32))
    assert y.tolist() == [2, 3, 4]


def test_state_is_an_input_with_a_default_and_an_output() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    total = b.state("total", tensor("f32", 2), Const.of(np.array([10, 20], np.float32)))
    new = b.add(total, x)
    b.output("y", b.neg(new))
    b.finish([new])
    assert [v.name for v in aino.to_onnx(b.function.module).graph.output] == ["y", "total.next"]
    _, after = ran(b.function.module, np.array([1, 2], np.float32))
    assert after.tolist() == [11, 22]


def test_calls_are_written_out() -> None:
    b = Builder()
    n = b.symbol("n", 1)
    inner = Builder(b.function.module.add_function("twice"))
    m = inner.symbol("m", 1)
    given = inner.input("given", tensor("f32", m, 2))
    inner.output("flat", inner.reshape(inner.add(given, given), shape=(2 * m,)))
    inner.finish()
    x = b.input("x", tensor("f32", n, 2))
    for name in "yz":
        result = b.op(op_class("core.call"), x, callee="twice", symbols=("m",), dims=(n,)).result
        b.output(name, result)
    assert "core.call" not in {n.op_type for n in aino.to_onnx(b.module).graph.node}
    ran(b.module, np.arange(6, dtype=np.float32).reshape(3, 2))


def test_defaults_of_inputs() -> None:
    node = helper.make_node("Add", ["x", "d"], ["y"])
    ports = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [2]) for n in ("x", "d", "y")]
    default = onnx.numpy_helper.from_array(np.array([5, 6], np.float32), "d")
    graph = helper.make_graph([node], "g", ports[:2], ports[2:], [default])
    module = load_onnx(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    (y,) = ran(module, np.array([1, 2], np.float32))
    assert y.tolist() == [6, 8]


def test_layouts_and_groups_leave_no_trace() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    other = b.op(op_class("core.relayout"), x, layouts=[permuted(1, 0)]).result
    body = b.region([other.type], lambda inner, v: [inner.exp(inner.neg(v))])
    group = b.op(op_class("core.fused"), other, regions=[body])
    b.output("y", b.op(op_class("core.relayout"), group.result).result)
    assert [n.op_type for n in aino.to_onnx(b.module).graph.node] == ["Neg", "Exp"]
    ran(b.module, np.ones((2, 3), np.float32))


def test_control_flow_sees_values_outside() -> None:
    b = Builder()
    c, x, k = (
        b.input(n, t) for n, t in (("c", tensor("bool")), ("x", tensor("f32", 3)), ("k", tensor("f32", 3)))
    )
    then = b.region([x.type, k.type], lambda r, u, v: [r.add(u, v)])
    otherwise = b.region([x.type, k.type], lambda r, u, v: [u])
    chosen = b.op(op_class("control.if"), c, x, k, regions=[then, otherwise]).result

    def turn(r: Builder, i: Any, go: Any, carried: Any, seen: Any) -> list[Any]:
        after = r.mul(carried, seen)
        return [go, after, r.add(after, r.cast(i, to="f32"))]

    body = b.region([tensor("i64"), tensor("bool"), x.type, k.type], turn)
    trips = b.constant(np.int64(3))
    final, stack = b.op(op_class("control.loop"), trips, None, chosen, k, carried=1, regions=[body]).results
    step = b.region([x.type, tensor("f32", 3), k.type], lambda r, s, e, seen: [r.add(s, e), r.sub(e, seen)])
    scanned = b.op(op_class("control.scan"), final, stack, k, states=1, regions=[step]).results
    for n, value in enumerate((chosen, final, stack, *scanned)):
        b.output(f"y{n}", value)
    for condition in (True, False):
        ran(b.module, np.bool_(condition), np.float32([1, 2, 3]), np.float32([2, -1, 0.5]))


@pytest.mark.parametrize("dtype", ["bf16", "f16", "f8e4m3fn", "f8e5m2"])
def test_stored_types_round_where_aino_rounds(dtype: str) -> None:
    rng = np.random.default_rng(3)
    kind = DTYPES[dtype]
    b = Builder()
    x, y = (b.input(n, tensor(dtype, 4, 5)) for n in "xy")
    b.output("z", b.add(b.mul(x, y), x))
    b.output("w", b.matmul(x, y, transpose_rhs=True))
    arrays = [rng.normal(size=(4, 5)).astype(kind.numpy) for _ in range(2)]
    z, _ = ran(b.module, *arrays)
    if dtype != "f16":  # between two operators an engine may keep f16 in wider registers
        assert (z == run_module(b.module, arrays)[0]).all()


def test_types_that_an_operator_lacks_are_widened() -> None:
    b = Builder()
    x = b.input("x", tensor("i16", 2, 70))
    b.output("y", b.reduce_sum(x, axes=(1,)))
    model = aino.to_onnx(b.module)
    assert [n.op_type for n in model.graph.node] == ["Cast", "ReduceSum", "Cast"]
    (y,) = ran(b.module, np.full((2, 70), 32000, np.int16))
    assert y.dtype == np.int16  # and wraps
    assert substitutes("ReduceSum", 21, [DTYPES["f32"]]) == {}
    assert all(DTYPES[w].bits >= DTYPES[n].bits for n, wide in WIDER.items() for w in wide)


def test_layout_pass_and_fusion_change_no_result() -> None:
    rng = np.random.default_rng(5)
    b = Builder()
    x = b.input("x", tensor("f32", 1, 8, 9, 9))
    for n in range(2):
        w = b.constant(rng.normal(size=(8, 8, 3, 3)).astype(np.float32), f"w{n}")
        ones = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
        x = b.relu(b.add(b.conv(x, w, **ones), x))
    b.output("y", b.softmax(b.reduce_mean(x, axes=(2, 3)), axis=1))
    module = optimised(b.module)
    assert any(op.name == "core.fused" for op in module.walk())
    ran(module, rng.normal(size=(1, 8, 9, 9)).astype(np.float32))


def test_same_module_same_bytes() -> None:
    def made() -> bytes:
        b = Builder()
        x = b.input("x", tensor("f32", b.symbol("n"), 3))
        b.output("y", b.silu(b.attention(*[b.reshape(x, shape=(1, 1, b.symbol("n"), 3))] * 3)))
        return aino.to_onnx(b.module).SerializeToString(deterministic=True)

    assert made() == made()


def test_weights_move_to_a_file_of_their_own(tmp_path: Any) -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 64))
    w = np.random.default_rng(1).normal(size=(64, 64)).astype(np.float32)
    b.output("y", b.add(b.matmul(x, b.constant(w, "w")), b.constant(w[0] * 2, "b")))
    model = aino.to_onnx(b.module)
    (tmp_path / "m.data").write_bytes(b"".join(external_weights(model, "m.data")))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    again = load_onnx(tmp_path / "m.onnx")
    x0 = np.ones((2, 64), np.float32)
    assert (run_module(again, [x0])[0] == run_module(b.module, [x0])[0]).all()
    assert (tmp_path / "m.onnx").stat().st_size < 2000


# -- refusals -----------------------------------------------------------------------------------------


class Unheard(FloatUnary):
    """An op that no exporter knows."""

    name = "test.unheard"
    x = operand()


OPS.pop(Unheard.name)  # other tests walk over all ops


def _unknown(b: Builder) -> Any:
    return b.op(Unheard, b.input("x", tensor("f32", 2))).result


def _symmetric(b: Builder) -> Any:
    x = b.input("x", tensor("f32", b.symbol("n", 4)))
    return b.pad(x, before=(2,), after=(0,), mode="symmetric")


def _many_bits(b: Builder) -> Any:
    b.input("x", tensor("f32", b.symbol("n", 4)))
    return b.random_bits(shape=(b.symbol("n"),), seed=1)


def _double_boxes(b: Builder) -> Any:
    boxes, scores = b.input("b", tensor("f64", 1, 6, 4)), b.input("s", tensor("f64", 1, 1, 6))
    return b.non_max_suppression(boxes, scores, limit=2)


def _no_wider_type(b: Builder) -> Any:
    return b.matmul(*[b.input(n, tensor("c64", 2, 2)) for n in "xy"])


REFUSED: Sequence[tuple[Callable[[Builder], Any], str]] = (
    (_unknown, "'test.unheard' cannot be written as ONNX: no exporter knows this op"),
    (_symmetric, "mirrors borders of symbolic extents"),
    (_many_bits, "a number of bits that is symbolic"),
    (_double_boxes, "no boxes in double precision"),
    (_no_wider_type, "MatMul does not take c64"),
)


@pytest.mark.parametrize(("build", "reason"), REFUSED)
def test_what_cannot_be_written_is_refused_by_name(build: Callable[[Builder], Any], reason: str) -> None:
    b = Builder()
    b.output("y", build(b))
    with pytest.raises(OpNotExportable, match="AINO-E0151") as caught:
        aino.to_onnx(b.module)
    assert reason in caught.value.message


def test_extent_that_nothing_tells_is_refused() -> None:
    b = Builder()
    n = b.symbol("n", 1)
    x = b.input("x", tensor("f32", n * n))
    b.output("y", b.slice(x, starts=(0,), sizes=(n,), steps=(1,)))
    with pytest.raises(ExtentNotExportable, match="no value has 'n' as an extent"):
        aino.to_onnx(b.module)


def test_narrow_types_pass_through_the_harness() -> None:
    b = Builder()
    x = b.input("x", tensor("i4", 3))
    b.output("y", b.cast(b.cast(x, to="i8"), to="i4"))
    (y,) = ran(b.module, np.array([-8, 0, 7], ml_dtypes.int4))
    assert y.dtype == ml_dtypes.int4
