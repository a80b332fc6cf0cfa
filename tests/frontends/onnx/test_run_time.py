"""Inputs that decide shapes, axes and positions and are computed while the model runs.

Each row is one model that is lowered once and run with several values of those inputs; onnx's own
evaluator says what comes out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from aino_ir.errors.base import AinoError
from aino_ir.errors.dims import CheckFailed
from aino_ir.errors.ir import IntegerDivisionByZero, NegativeExtent, OutOfRangeIndex, ValueOutOfBounds
from aino_ir.errors.onnx import InputNotConstant, NodeInvalid
from aino_ir.frontends.onnx import load_onnx
from aino_ir.interp import run_module
from aino_ir.ops.core import Bind
from aino_ir.verify import verify
from tests.frontends.onnx.models import make_model, tensor_value

I64 = TensorProto.INT64
CODES = {"f": TensorProto.FLOAT, "i": I64, "d": TensorProto.DOUBLE, "b": TensorProto.BOOL}


def one_node(
    op: str,
    inputs: Sequence[tuple[str, str, Sequence[int | str]]],
    opset: int = 18,
    outputs: int = 1,
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node whose inputs (name, kind of element, extents) are all graph inputs."""
    names = [f"y{n}" for n in range(outputs)] if outputs > 1 else ["y"]
    made = helper.make_node(op, [name for name, _, _ in inputs], names, name="the node", **attributes)
    declared = [tensor_value(name, dims, CODES[kind]) for name, kind, dims in inputs if name]
    return make_model([made], inputs=declared, outputs=names, opset=opset)


X23 = np.arange(6, dtype=np.float32).reshape(2, 3)
X234 = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
F, INT = np.float32, np.int64


def ints(*numbers: int) -> np.ndarray:
    return np.asarray(numbers, INT)


def x(*dims: int | str) -> tuple[str, str, Sequence[int | str]]:
    return ("x", "f", dims)


def i(name: str, *dims: int | str) -> tuple[str, str, Sequence[int | str]]:
    return (name, "i", dims)


ROWS: list[tuple[str, onnx.ModelProto, list[list[Any]]]] = [
    (
        "Reshape",
        one_node("Reshape", [x(2, 3, 4), i("s", 2)]),
        [[X234, ints(*s)] for s in ((4, 6), (0, -1), (-1, 3), (24, 1), (-1, 0))],
    ),
    (
        "Reshape of an unknown extent",
        one_node("Reshape", [x("n", 4), i("s", 3)]),
        [[X234.reshape(6, 4), ints(3, -1, 2)], [X23.reshape(-1)[:4].reshape(1, 4), ints(0, 2, -1)]],
    ),
    (
        "Reshape with allowzero",
        one_node("Reshape", [x(0, 3, 4), i("s", 3)], allowzero=1),
        [[X234[:0], ints(3, 4, 0)], [X234[:0], ints(0, 7, 9)]],
    ),
    (
        "Expand",
        one_node("Expand", [x(3, 1), i("s", 3)]),
        [[X23[:1].T, ints(*s)] for s in ((2, 3, 4), (2, 1, 1), (1, 1, 5), (0, 3, 2))],
    ),
    (
        "Expand of an unknown extent",
        one_node("Expand", [x("n"), i("s", 2)]),
        [[X23[0], ints(2, 3)], [X23[0], ints(2, 1)], [X23[0, :1], ints(2, 4)], [X23[0, :0], ints(2, 1)]],
    ),
    ("Tile", one_node("Tile", [x(2, 3), i("r", 2)]), [[X23, ints(*r)] for r in ((1, 1), (2, 3), (0, 1))]),
    (
        "ConstantOfShape",
        one_node("ConstantOfShape", [i("s", 3)]),
        [[ints(2, 3, 1)], [ints(0, 2, 2)]],
    ),
    (
        "Slice",
        one_node("Slice", [x(2, 3, 4), i("b", 2), i("e", 2)]),
        [
            [X234, ints(*b), ints(*e)]
            for b, e in (((0, 0), (2, 3)), ((-1, 1), (9, -1)), ((1, 2), (1, 2)), ((-9, 0), (2**62, -(2**62))))
        ],
    ),
    (
        "Slice with axes",
        one_node("Slice", [x(2, 3, 4), i("b", 2), i("e", 2), i("a", 2)]),
        [[X234, ints(0, 1), ints(1, 3), ints(*a)] for a in ((0, 1), (2, 1), (-1, 0))],
    ),
    (
        "Slice with steps",
        one_node("Slice", [x(2, 3, 4), i("b", 1), i("e", 1), i("a", 1), i("t", 1)]),
        [
            [X234, ints(b), ints(e), ints(a), ints(t)]
            for b, e, a, t in ((0, 4, 2, 2), (-1, -9, 2, -1), (3, 0, -1, -2), (2, 0, 1, 1), (1, 9, 1, 7))
        ],
    ),
    (
        "Pad",
        one_node("Pad", [x(2, 3), i("p", 4)]),
        [[X23, ints(*p)] for p in ((0, 0, 0, 0), (1, 2, 0, 3))],
    ),
    (
        "Pad by reflection",
        one_node("Pad", [x(2, 3), i("p", 4)], mode="reflect"),
        [[X23, ints(*p)] for p in ((1, 2, 0, 1), (0, 0, 1, 2))],
    ),
    (
        "Pad with axes",
        one_node("Pad", [x(2, 3), i("p", 2), ("v", "f", ()), i("a", 1)]),
        [[X23, ints(1, 2), F(7), ints(a)] for a in (0, 1, -1)],
    ),
    (
        "Split",
        one_node("Split", [x(2, 6), i("s", 2)], outputs=2, axis=1),
        [[np.arange(12, dtype=F).reshape(2, 6), ints(*s)] for s in ((2, 4), (6, 0), (1, 5))],
    ),
    (
        "Squeeze",
        one_node("Squeeze", [x(1, 3, 1), i("a", 1)]),
        [[X23[:1, :, None], ints(a)] for a in (0, 2, -1, -3)],
    ),
    (
        "Unsqueeze",
        one_node("Unsqueeze", [x(2, 3), i("a", 2)]),
        [[X23, ints(*a)] for a in ((0, 1), (3, 0), (-1, 1), (2, 3))],
    ),
    (
        "ReduceSum",
        one_node("ReduceSum", [x(2, 3, 4), i("a", 1)]),
        [[X234, ints(a)] for a in (0, 1, 2, -1)],
    ),
    (
        "ReduceMax without kept extents",
        one_node("ReduceMax", [x(2, "n", 4), i("a", 2)], keepdims=0),
        [[X234, ints(*a)] for a in ((0, 1), (2, 0), (-2, -1))],
    ),
    (
        "ReduceMean over any number of axes",
        one_node("ReduceMean", [x(2, 3, 4), i("a", "n")]),
        [[X234, ints(*a)] for a in ((), (1,), (0, -1), (2, 1, 0))],
    ),
    (
        "ReduceProd of nothing",
        one_node("ReduceProd", [x(2, 3), i("a", "n")], noop_with_empty_axes=1),
        [[X23, ints(*a)] for a in ((), (1,))],
    ),
    (
        "CumSum",
        one_node("CumSum", [x(2, 3, 4), i("a")], exclusive=1),
        [[X234, INT(a)] for a in (0, 1, 2, -3)],
    ),
    ("TopK", one_node("TopK", [x(2, 3), i("k", 1)], outputs=2), [[X23, ints(k)] for k in (0, 1, 3)]),
    (
        "OneHot",
        one_node("OneHot", [i("j", 3), i("d"), ("v", "f", (2,))]),
        [[ints(0, 2, -1), INT(d), np.asarray([0, 5], F)] for d in (3, 4)],
    ),
    (
        "OneHot of a float depth",
        one_node("OneHot", [i("j", 3), ("d", "f", ()), ("v", "f", (2,))]),
        [[ints(0, 2, 1), F(3), np.asarray([0, 5], F)]],
    ),
    (
        "Range",
        one_node("Range", [i("a"), i("b"), i("d")]),
        [[INT(a), INT(b), INT(d)] for a, b, d in ((0, 5, 1), (7, -2, -3), (3, 3, 1), (0, 10, 4), (5, 0, 1))],
    ),
    (
        "Range of floats",
        one_node("Range", [("a", "f", ()), ("b", "f", ()), ("d", "f", ())]),
        [[F(a), F(b), F(d)] for a, b, d in ((0, 1, 0.25), (3, -1, -1.5), (2, 1, 0.5))],
    ),
    (
        "Trilu",
        one_node("Trilu", [x(2, 3, 4), i("k")]),
        [[X234, INT(k)] for k in (0, 1, -2, 9)],
    ),
]


@pytest.mark.parametrize(("model", "runs"), [r[1:] for r in ROWS], ids=[r[0] for r in ROWS])
def test_one_lowering_serves_every_value(model: onnx.ModelProto, runs: list[list[Any]]) -> None:
    module = load_onnx(model)
    verify(module)
    names = [v.name for v in model.graph.input]
    evaluator = ReferenceEvaluator(model)
    for arrays in runs:
        want = evaluator.run(None, dict(zip(names, arrays, strict=True)))
        got = run_module(module, arrays)
        for w, g in zip(want, got, strict=True):
            assert g.shape == np.shape(w), arrays[1:]
            assert g.dtype == np.asarray(w).dtype
            np.testing.assert_array_equal(g, w)


WRONG: list[tuple[str, onnx.ModelProto, list[Any], type[AinoError], str]] = [
    (
        "another number of elements",
        one_node("Reshape", [x(2, 3), i("s", 2)]),
        [X23, ints(4, 2)],
        CheckFailed,
        "element count",
    ),
    (
        "a negative extent",
        one_node("ConstantOfShape", [i("s", 1)]),
        [ints(-2)],
        ValueOutOfBounds,
        "'shape'|'input'",
    ),
    (
        "extents that do not meet",
        one_node("Expand", [x(3), i("s", 1)]),
        [X23[0], ints(2)],
        CheckFailed,
        "broadcast",
    ),
    (
        "an axis out of range",
        one_node("ReduceSum", [x(2, 3), i("a", 1)]),
        [X23, ints(2)],
        OutOfRangeIndex,
        "index 2",
    ),
    (
        "an axis that is no unit",
        one_node("Squeeze", [x(1, 3), i("a", 1)]),
        [X23[:1], ints(1)],
        CheckFailed,
        "count",
    ),
    (
        "a step of 0",
        one_node("Slice", [x(2, 3), i("b", 1), i("e", 1), i("a", 1), i("t", 1)]),
        [X23, ints(0), ints(1), ints(0), ints(0)],
        IntegerDivisionByZero,
        "zero",
    ),
    (
        "parts that are too large",
        one_node("Split", [x(4), i("s", 2)], outputs=2),
        [X23.reshape(-1)[:4], ints(3, 2)],
        CheckFailed,
        "sum",
    ),
    (
        "more than there is",
        one_node("TopK", [x(3), i("k", 1)], outputs=2),
        [X23[0], ints(4)],
        ValueOutOfBounds,
        "k is 4",
    ),
    (
        "too much cut off",
        one_node("Pad", [x(3), i("p", 2)]),
        [X23[0], ints(-2, -2)],
        CheckFailed,
        "padded extent",
    ),
]


@pytest.mark.parametrize(
    ("model", "arrays", "error", "text"), [r[1:] for r in WRONG], ids=[r[0] for r in WRONG]
)
def test_wrong_values_name_the_node(
    model: onnx.ModelProto, arrays: list[Any], error: type[AinoError], text: str
) -> None:
    module = load_onnx(model)
    with pytest.raises(error, match=text) as caught:
        run_module(module, arrays)
    assert "'the node'" in str(caught.value)


RANKS = [
    one_node("Reshape", [x(2, 3), i("s", "n")]),
    one_node("ReduceSum", [x(2, 3), i("a", "n")], keepdims=0),
    one_node("Squeeze", [x(1, 3), i("a", "n")]),
    one_node("Unsqueeze", [x(2, 3), i("a", "n")]),
]


@pytest.mark.parametrize("model", RANKS, ids=[m.graph.node[0].op_type for m in RANKS])
def test_a_rank_that_depends_on_data_is_refused(model: onnx.ModelProto) -> None:
    with pytest.raises(InputNotConstant, match=r"input 1 .* depends on input '[sa]'"):
        load_onnx(model)


def test_negative_pads_cut_off() -> None:
    module = load_onnx(one_node("Pad", [x(2, 3), i("p", 4)]))
    assert run_module(module, [X23, ints(-1, 1, 0, -2)])[0].tolist() == [[0, 3]]


def test_known_elements_stay_known() -> None:
    """[batch of x, data] as a shape: the first extent is the symbol of the input, only the other is bound."""
    nodes = [
        helper.make_node("Shape", ["x"], ["all"]),
        helper.make_node("Gather", ["all", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "k"], ["target"], axis=0),
        helper.make_node("Expand", ["x", "target"], ["y"]),
    ]
    zero = helper.make_tensor("zero", I64, [1], [0])
    inputs = [tensor_value("x", ["batch", 1]), tensor_value("k", [1], I64)]
    module = load_onnx(make_model(nodes, inputs=inputs, initializers=[zero]))
    assert module.main.outputs[0].shape[0] is module.main.inputs[0].shape[0]
    assert [op.x.shape for op in module.walk() if isinstance(op, Bind)] == [(1,)]
    assert run_module(module, [np.ones((4, 1), F), ints(3)])[0].shape == (4, 3)


def test_equal_targets_share_their_symbols() -> None:
    """Two Expands to one shape have provably equal results: adding them needs no check."""
    nodes = [
        helper.make_node("Expand", ["x", "s"], ["a"]),
        helper.make_node("Expand", ["z", "s"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    inputs = [tensor_value("x", [1, 1]), tensor_value("z", [1]), tensor_value("s", [2], I64)]
    module = load_onnx(make_model(nodes, inputs=inputs))
    assert not module.main.symbols.checks
    assert sum(isinstance(op, Bind) for op in module.walk()) == 1


def test_a_negative_size_limit_is_an_error_of_the_run() -> None:
    module = load_onnx(one_node("Tile", [x(2), i("r", 1)]))
    with pytest.raises((ValueOutOfBounds, NegativeExtent), match="-1"):
        run_module(module, [X23[0, :2], ints(-1)])


def close_to_reference(model: onnx.ModelProto, runs: Sequence[Sequence[Any]], tolerance: float) -> None:
    """Lower once, run each row, and compare with onnx's evaluator."""
    module = load_onnx(model)
    verify(module)
    names = [v.name for v in model.graph.input]
    for arrays in runs:
        want = ReferenceEvaluator(model).run(None, dict(zip(names, arrays, strict=True)))
        for w, g in zip(want, run_module(module, list(arrays)), strict=True):
            assert g.shape == np.shape(w), arrays[1:]
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance)


SIGNAL = np.random.default_rng(5).standard_normal((2, 12, 6, 1)).astype(np.float32)
COMPLEX = np.random.default_rng(6).standard_normal((2, 7, 4, 2)).astype(np.float32)


def dft_model(data: np.ndarray, **attributes: Any) -> onnx.ModelProto:
    return one_node("DFT", [x(*data.shape), i("n"), i("a")], opset=20, **attributes)


@pytest.mark.parametrize("inverse", [0, 1])
def test_dft_of_a_run_time_length_and_axis(inverse: int) -> None:
    runs = [[COMPLEX, INT(n), INT(a)] for n, a in ((7, 1), (4, 2), (9, 1), (3, -2), (5, 0))]
    close_to_reference(dft_model(COMPLEX, inverse=inverse), runs, 1e-5)


def test_dft_of_a_real_signal_has_half_a_spectrum() -> None:
    runs = [[SIGNAL, INT(n), INT(a)] for n, a in ((12, 1), (7, 1), (6, 2), (1, 0))]
    close_to_reference(dft_model(SIGNAL, onesided=1), runs, 1e-4)


def test_dft_of_an_unknown_extent_goes_forth_and_back() -> None:
    nodes = [
        helper.make_node("DFT", ["x", "", "axis"], ["half"], onesided=1),
        helper.make_node("DFT", ["half", "", "axis"], ["y"], onesided=1, inverse=1),
    ]
    axis = helper.make_tensor("axis", I64, [], [1])
    inputs = [tensor_value("x", [2, "n", 1])]
    module = load_onnx(make_model(nodes, inputs=inputs, initializers=[axis], opset=20))
    for length in (4, 8, 10):
        signal = SIGNAL[:, :length, 0]
        assert np.allclose(run_module(module, [signal])[0], signal, atol=1e-5)


def test_stft_of_run_time_frames() -> None:
    inputs = [x(2, "n", 1), i("step"), ("w", "f", ("m",)), i("length")]
    runs = [
        [SIGNAL[:, :, 0], INT(step), np.hanning(length).astype(np.float32), INT(length)]
        for step, length in ((2, 4), (3, 6), (1, 12))
    ]
    close_to_reference(one_node("STFT", inputs, opset=17), runs, 1e-4)


def test_stft_without_a_window_needs_a_frame_length() -> None:
    node = helper.make_node("STFT", ["x", "step"], ["y"])
    model = make_model([node], inputs=[tensor_value("x", [1, 8, 1]), tensor_value("step", [], I64)])
    with pytest.raises(NodeInvalid, match="a window or a frame_length"):
        load_onnx(model)


def test_mel_filters_of_run_time_parameters() -> None:
    inputs = [i("bins"), i("length"), i("rate"), ("low", "f", ()), ("high", "f", ())]
    runs = [
        [INT(8), INT(16), INT(8192), F(0), F(4096)],
        [INT(5), INT(64), INT(16000), F(300), F(7000)],
    ]
    close_to_reference(one_node("MelWeightMatrix", inputs, opset=17), runs, 1e-6)


def test_col2im_of_run_time_shapes() -> None:
    model = one_node("Col2Im", [x(1, "rows", "columns"), i("image", 2), i("block", 2)], pads=[0, 1, 1, 0])
    rng = np.random.default_rng(3)
    runs = []
    for image, block in (((4, 4), (2, 2)), ((3, 5), (1, 3)), ((5, 5), (5, 5))):
        cells = (image[0] + 1 - block[0] + 1) * (image[1] + 1 - block[1] + 1)
        columns = rng.standard_normal((1, 2 * block[0] * block[1], cells)).astype(np.float32)
        runs.append([columns, ints(*image), ints(*block)])
    close_to_reference(model, runs, 1e-5)


def test_suppression_by_run_time_limits() -> None:
    inputs = [
        ("b", "f", (1, 4, 4)),
        ("s", "f", (1, 2, 4)),
        i("limit", 1),
        ("overlap", "f", (1,)),
        ("least", "f", (1,)),
    ]
    boxes = F([[[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, 2, 1, 3], [0, 2.1, 1, 3.1]]])
    scores = F([[[0.9, 0.8, 0.3, 0.7], [0.1, 0.2, 0.3, 0.4]]])
    runs = [
        [boxes, scores, ints(limit), F([overlap]), F([least])]
        for limit, overlap, least in ((3, 0.5, 0), (1, 0.5, 0.35), (4, 0.95, 0.25), (0, 0.5, 0))
    ]
    close_to_reference(one_node("NonMaxSuppression", inputs), runs, 0)
