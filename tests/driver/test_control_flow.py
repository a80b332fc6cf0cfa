"""ONNX control flow and recurrent nets from file to native code, against the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir.driver.coverage import check_model
from aino_ir.driver.pipeline import Compilation, CompileOptions
from aino_ir.plan import Plan, Repeat, Run, walk
from aino_ir.target import detect_host, parse_target

STEPS, BATCH, INPUT, HIDDEN = 20, 3, 5, 8
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
FLOAT = TensorProto.FLOAT


def recurrent(
    kind: str, *, lengths: bool = False, peepholes: bool = False, first: bool = False, **attributes: Any
) -> onnx.ModelProto:
    """A layer with constant weights; x, and where wanted lengths and first states, are inputs."""
    rng = np.random.default_rng(len(kind))
    directions = 2 if attributes.get("direction") == "bidirectional" else 1
    width = GATES[kind] * HIDDEN
    shapes = {"W": (width, INPUT), "R": (width, HIDDEN), "B": (2 * width,), "P": (3 * HIDDEN,)}
    names = ["W", "R", "B", *(["P"] if peepholes else [])]
    weights = [
        numpy_helper.from_array(0.4 * rng.standard_normal((directions, *shapes[n])).astype(np.float32), n)
        for n in names
    ]
    rows = attributes.get("layout", 0)
    inputs = [
        helper.make_tensor_value_info("x", FLOAT, [BATCH, STEPS, INPUT] if rows else [STEPS, BATCH, INPUT])
    ]
    given = ["x", "W", "R", "B", "", "", "", ""]
    if lengths:
        given[4] = "lengths"
        inputs.append(helper.make_tensor_value_info("lengths", TensorProto.INT32, [BATCH]))
    if first:
        given[5] = "h"
        inputs.append(helper.make_tensor_value_info("h", FLOAT, [directions, BATCH, HIDDEN]))
    if peepholes:
        given[7] = "P"
    while not given[-1]:
        given.pop()
    outputs = ["y", "y_h", *(["y_c"] if kind == "LSTM" else [])]
    node = helper.make_node(kind, given, outputs, hidden_size=HIDDEN, name="layer", **attributes)
    values = [helper.make_tensor_value_info(o, FLOAT, None) for o in outputs]
    graph = helper.make_graph([node], kind.lower(), inputs, values, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def inputs_of(model: onnx.ModelProto) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    made = {}
    for value in model.graph.input:
        shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        if value.name == "lengths":
            made[value.name] = np.array([STEPS, 1, 13], np.int32)
        else:
            made[value.name] = rng.standard_normal(shape).astype(np.float32)
    return made


RECURRENT: dict[str, dict[str, Any]] = {
    "rnn": {"kind": "RNN", "direction": "bidirectional", "activations": ["Relu", "Softsign"]},
    "rnn, clipped, batch first": {"kind": "RNN", "clip": 0.2, "layout": 1, "direction": "reverse"},
    "gru": {"kind": "GRU", "lengths": True, "first": True},
    "gru, reset first": {"kind": "GRU", "linear_before_reset": 1, "activations": ["HardSigmoid", "ScaledTanh"], "activation_alpha": [0.3, 0.9], "activation_beta": [0.4, 1.1]},
    "lstm": {"kind": "LSTM", "direction": "bidirectional", "lengths": True, "first": True},
    "lstm, peepholes": {"kind": "LSTM", "peepholes": True, "input_forget": 1, "clip": 1.5},
    "lstm, other activations": {"kind": "LSTM", "activations": ["HardSigmoid", "Affine", "LeakyRelu"], "activation_alpha": [0.2, 0.1, 0.3], "activation_beta": [0.5, 0.1]},
}  # fmt: skip


@pytest.mark.parametrize("name", RECURRENT)
def test_long_recurrent_nets_are_native(name: str) -> None:
    model = recurrent(**RECURRENT[name])
    assert {row.status for row in check_model(model, parse_target("c", detect_host()))} == {"native"}
    given = inputs_of(model)
    wanted = aino.compile(model, "reference").run(given)
    for threads in (1, 2):
        for got, want in zip(aino.compile(model, threads=threads).run(given), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-5)


def plan_of(model: Any) -> tuple[Plan, Compilation]:
    compilation = Compilation(CompileOptions(parse_target("c:avx2", detect_host())))
    (plan,) = compilation.plans(aino.load(model)).values()
    return plan, compilation


@pytest.mark.parametrize("kind", GATES)
def test_products_in_a_loop_have_packed_weights(kind: str) -> None:
    plan, compilation = plan_of(recurrent(kind))
    assert not compilation.passes.undone and compilation.passes.sites.complete
    (loop,) = (s for s in plan.steps if isinstance(s, Repeat))
    kernels = [plan.kernels[s.kernel] for s in walk(loop.body) if isinstance(s, Run)]
    products = [k for k in kernels if "matmul" in k.spec.label]
    assert len(products) == (2 if kind == "GRU" else 1)
    assert all(k.candidate.generator == "contract" and k.candidate.packings for k in products)
    assert len(kernels) <= {"RNN": 1, "GRU": 5, "LSTM": 3}[kind]
    assert loop.nodes and "layer" in loop.nodes[0]


def text_model(body: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]>\n{body}')


NEWTON = """
newton (float[4] a) => (float[4] root) {
    steps = Constant <value_int = 12>()
    yes = Constant <value = bool {1}>()
    root = Loop (steps, yes, a) <body = body (int64 i, bool go, float[4] x) => (bool on, float[4] next) {
        half = Constant <value_float = 0.5>()
        tiny = Constant <value_float = 1e-6>()
        q = Div (a, x)
        s = Add (x, q)
        next = Mul (s, half)
        d = Sub (next, x)
        size = Abs (d)
        axis = Constant <value_ints = [0]>()
        most = ReduceMax <keepdims = 0> (size)
        on = Greater (most, tiny)
    }>
}
"""

CHOICE = """
choice (float[2, 3] x, float[2, 3] y) => (float[2, 3] z) {
    total = ReduceSum <keepdims = 0> (x)
    zero = Constant <value_float = 0.0>()
    c = Greater (total, zero)
    z = If (c) <then_branch = t () => (float[2, 3] a) { a = Mul (x, y) },
                else_branch = e () => (float[2, 3] b) {
                    s = Sub (x, y)
                    b = If (c) <then_branch = u () => (float[2, 3] d) { d = Identity (s) },
                                else_branch = v () => (float[2, 3] f) { f = Exp (s) }>
                }>
}
"""

SUMS = """
sums (float[n, 3] x, float[3] start) => (float[3] last, float[n, 3] all) {
    last, all = Scan <num_scan_inputs = 1, body = body (float[3] s, float[3] v) => (float[3] t, float[3] w) {
        t = Add (s, v)
        w = Identity (t)
    }> (start, x)
}
"""


def test_a_loop_ends_by_its_condition() -> None:
    a = np.array([2, 9, 0.25, 1e4], np.float32)
    (root,) = aino.compile(text_model(NEWTON)).run(a)
    (want,) = aino.compile(text_model(NEWTON), "reference").run(a)
    np.testing.assert_allclose(root, want, rtol=1e-6)
    np.testing.assert_allclose(root[:3], np.sqrt(a[:3]), rtol=1e-6)


def test_choices() -> None:
    exe = aino.compile(text_model(CHOICE), threads=2)
    x, y = np.full((2, 3), 2, np.float32), np.ones((2, 3), np.float32)
    assert exe.run(x, y)[0].tolist() == (x * y).tolist()
    np.testing.assert_allclose(exe.run(-x, y)[0], np.exp(-x - y), rtol=1e-6)


def test_a_scan_of_any_length_saved_and_loaded(tmp_path: Path) -> None:
    aino.compile(text_model(SUMS)).save(tmp_path / "sums.aino")
    exe = aino.load_executable(tmp_path / "sums.aino")
    for n in (0, 1, 9):
        x = np.arange(3 * n, dtype=np.float32).reshape(n, 3)
        last, all_ = exe.run(x, np.ones(3, np.float32))
        assert (
            all_.tolist() == (1 + np.cumsum(x, axis=0)).tolist() and last.tolist() == (1 + x.sum(0)).tolist()
        )


@pytest.mark.parametrize("model", [NEWTON, CHOICE, SUMS])
@pytest.mark.parametrize("level", [0, 1])
def test_all_levels(model: str, level: int) -> None:
    loaded = aino.load(text_model(model))
    given = [
        np.abs(
            np.random.default_rng(1).standard_normal([4 if not isinstance(d, int) else d for d in v.shape])
        ).astype(np.float32)
        for v in loaded.main.inputs
    ]
    wanted = aino.compile(loaded, "reference").run(*given)
    for got, want in zip(aino.compile(loaded, level=level).run(*given), wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5)
