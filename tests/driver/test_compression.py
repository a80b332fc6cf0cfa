"""`aino.quantize`: options, what it keeps and refuses, and that what runs has the interpreter's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.errors.compression import EmptyCalibration, SchemeOptionMisplaced
from aino_ir.errors.usage import OptionTooSmall, UnknownOption
from aino_ir.interp import run_module
from aino_ir.passes.compression.report import CompressionReport
from tests.codegen.native import runnable
from tests.passes.compression.models import cnn, mlp, samples
from tests.passes.helpers import op_names


def test_static_int8_has_the_same_bits_everywhere() -> None:
    module = cnn()
    q = aino.quantize(module, calibration=samples(module), guard=False)
    assert isinstance(q.compression, CompressionReport) and len(q.compression.applied) == 3
    x = samples(module, 1, seed=11)[0]
    (want,) = run_module(q, x)
    for target in ("c:avx2", "c:portable"):
        if not runnable(target):
            continue
        exe = aino.compile(q, target)
        (got,) = exe.run(*x)
        assert np.array_equal(got, want), target
        kernels = [k["candidate"] for k in exe.report.to_dict()["kernels"]]
        assert sum(k.startswith("dot") for k in kernels) == 3, kernels
    assert exe.host_steps == 0


def test_the_guard_compares_modelled_time_and_says_so() -> None:
    module = mlp(batch=64, width=256, hidden=128)
    q = aino.quantize(module, calibration=samples(module), target="c:avx2")
    row = q.compression.row("fc1")
    assert row.applied and row.timing == "modelled"
    assert row.seconds_after is not None and row.seconds_before is not None
    assert row.seconds_after < row.seconds_before
    assert "times faster (modelled)" in row.reason
    assert q.compression.bytes_after < q.compression.bytes_before / 3


def test_bf16_keeps_weights_in_half_the_bytes() -> None:
    module = mlp(batch=3, width=40, hidden=24)
    x = samples(module, 1, seed=5)[0]
    q = aino.quantize(module, "bf16", guard=False)
    assert op_names(q).count("quant.widen") == 2 and len(q.compression.applied) == 2
    row = q.compression.row("fc1")
    assert row.bits == 16 and 2 * row.bytes_after == row.bytes_before + 8
    (before,), (want,) = run_module(module, x), run_module(q, x)
    assert 0 < np.abs(want - before).max() < 0.05 * np.abs(before).max()
    for target in ("c:avx2", "c:portable"):
        if runnable(target):
            exe = aino.compile(q, target)
            assert np.allclose(exe.run(*x)[0], want, rtol=1e-4, atol=1e-5), target
            kernels = exe.report.to_dict()["kernels"]
            assert len(kernels) == 2, kernels  # nothing widens the weights on its own
    from onnx.reference import ReferenceEvaluator

    theirs = ReferenceEvaluator(aino.to_onnx(q)).run(
        None, dict(zip((n for n, _ in exe.inputs), x, strict=True))
    )
    assert np.allclose(theirs[0], want, rtol=1e-4, atol=1e-5)


def test_the_floor_takes_layers_back() -> None:
    module = mlp(batch=64, width=256, hidden=128)
    q = aino.quantize(module, "int8", calibration=samples(module), min_sqnr=300.0)
    assert not q.compression.applied
    assert "quant" not in " ".join(op_names(q))
    assert q.compression.floor.holds


def test_a_metric_is_asked() -> None:
    module = mlp(batch=64, width=256, hidden=128)
    data = samples(module)
    want = run_module(module, data[0])[0].argmax(axis=1)
    asked = []

    def agreement(run: Any) -> float:
        asked.append(1)
        return float((run(*data[0])[0].argmax(axis=1) == want).mean())

    q = aino.quantize(module, calibration=data, metric=agreement, max_drop=0.05)
    assert q.compression.floor.before == 1.0 and q.compression.floor.least == 0.95
    assert len(asked) == 1 + q.compression.floor.evaluations


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"scheme": "int7"}, UnknownOption, "int8"),
        ({"calibrator": "median"}, UnknownOption, "entropy"),
        ({"method": "awq"}, UnknownOption, "gptq"),
        ({"scheme": "int4-weight", "per": "row"}, UnknownOption, "channel"),
        ({"scheme": "int4-weight", "group": 0}, OptionTooSmall, "group"),
        ({"per": "group"}, SchemeOptionMisplaced, "weight-only"),
        ({"scheme": "int8-weight", "short_sums": 1}, SchemeOptionMisplaced, "multiply bytes"),
        ({"short_sums": 3}, UnknownOption, "short_sums"),
        ({"scheme": "bf16", "per": "channel"}, SchemeOptionMisplaced, "no scales"),
        ({"scheme": "bf16", "symmetric": True}, SchemeOptionMisplaced, "no scales"),
        ({"scheme": "bf16", "method": "gptq"}, SchemeOptionMisplaced, "too little"),
        ({"scheme": "int8-dynamic", "symmetric": True}, SchemeOptionMisplaced, "in the middle"),
        ({}, EmptyCalibration, "no calibration data"),
        ({"scheme": "int8-weight", "method": "gptq"}, EmptyCalibration, "no calibration data"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], error: type, text: str) -> None:
    with pytest.raises(error, match=text):
        aino.quantize(mlp(), **options)


def test_the_original_is_left_alone() -> None:
    module = mlp()
    before = str(module)
    aino.quantize(module, "int4-weight", guard=False)
    assert str(module) == before


def test_quantised_models_come_back_as_integer_programs() -> None:
    module = cnn()
    q = aino.quantize(module, calibration=samples(module), guard=False)
    again = aino.load(aino.to_onnx(q))
    assert {"quant.conv", "quant.matmul"} <= set(op_names(again))
    assert not {"nn.conv", "nn.matmul"} & set(op_names(again))
    x = samples(module, 1, seed=11)[0]
    (want,), (got,) = run_module(q, x), run_module(again, x)
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()


@pytest.mark.slow
def test_onnx_runtime_agrees_within_one_quantum() -> None:
    from tests.conformance.batch import in_child
    from tests.conformance.onnxruntime_session import Session

    module = cnn()
    q = aino.quantize(module, calibration=samples(module, 32), guard=False)
    inputs = samples(module, 500, seed=12)

    def run() -> Any:
        session = Session(aino.to_onnx(q))
        return [session.run(x)[0] for x in inputs]

    theirs = np.stack(in_child(run))
    ours = np.stack([run_module(q, x)[0] for x in inputs])
    quantum = (ours.max() - ours.min()) / 255
    assert np.abs(theirs - ours).max() <= quantum
