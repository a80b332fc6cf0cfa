"""`aino.quantize`: options, what it keeps and refuses, and that what runs has the interpreter's bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.driver.api import compile_options
from aino_ir.dtypes import bf16
from aino_ir.errors.compression import (
    CalibrationNotFinite,
    CalibrationOverflow,
    EmptyCalibration,
    SchemeOptionMisplaced,
)
from aino_ir.errors.usage import OptionTooSmall, UnknownOption
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.passes.compression.report import CompressionReport
from aino_ir.pattern import constant_of
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor
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


def test_weights_that_stay_in_the_cache_are_not_decoded_for_nothing() -> None:
    """48 rows, 200 kB of weights: from beyond the second cache a quarter of the bytes pays, from within not."""
    module = mlp(batch=48, width=784, hidden=64)
    goal = compile_options("c:avx2").target
    near = aino.quantize(module, "int8-weight", target=replace(goal, l2_bytes=1 << 19)).compression.row("fc1")
    assert not near.applied and "would be slower" in near.reason
    far = aino.quantize(module, "int8-weight", target=replace(goal, l2_bytes=1 << 17)).compression.row("fc1")
    assert far.applied and far.seconds_before > near.seconds_before


def test_bf16_is_what_layers_store_and_read() -> None:
    module = mlp(batch=3, width=40, hidden=24)
    x = samples(module, 1, seed=5)[0]
    q = aino.quantize(module, "bf16", guard=False)
    products = [op for op in q.main.block if op.name == "nn.matmul"]
    assert len(products) == len(q.compression.applied) == 2
    assert all(v.dtype is bf16 for op in products for v in op.present_operands())
    row = q.compression.row("fc1")
    assert row.bits == 16 and 2 * row.bytes_after == row.bytes_before + 8
    (before,), (want,) = run_module(module, x), run_module(q, x)
    assert 0 < np.abs(want - before).max() < 0.05 * np.abs(before).max()
    for target in ("c:avx2", "c:portable"):
        if runnable(target):
            exe = aino.compile(q, target)
            assert disagreement(exe.run(*x)[0], want, "approximate", dtype=bf16) is None, target
            kernels = [k["candidate"] for k in exe.report.to_dict()["kernels"]]
            assert len(kernels) == 3, (
                kernels
            )  # the input's rounding, and two products that round what they make
    again = aino.load(aino.to_onnx(q))
    (got,) = run_module(again, x)
    assert disagreement(got, want, "approximate", dtype=bf16) is None


def test_bf16_is_for_convolutions_with_sums_of_them_too() -> None:
    module = cnn()
    x = samples(module, 1, seed=5)[0]
    q = aino.quantize(module, "bf16", calibration=samples(module), guard=False)
    assert all(op.result.dtype is bf16 for op in q.main.block if op.name in ("nn.conv", "nn.matmul"))
    assert q.compression.floor.after > 35
    (got,), (want,) = aino.compile(q).run(*x), run_module(q, x)
    assert disagreement(got, want, "approximate", dtype=bf16) is None


def test_bf16_pays_where_one_instruction_multiplies_it() -> None:
    """64 rows: the products are bound by arithmetic."""
    module = mlp(batch=64, width=256, hidden=128)
    fast = aino.quantize(module, "bf16", target="c:avx512bf16").compression.row("fc1")
    assert fast.applied and fast.seconds_before > 1.5 * fast.seconds_after
    slow = aino.quantize(module, "bf16", target="c:avx2").compression.row("fc1")
    assert not slow.applied and "would be slower" in slow.reason


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
        ({"scheme": "bf16", "short_sums": 1}, SchemeOptionMisplaced, "multiply bytes"),
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


def upsampling() -> Module:
    """A transposed convolution of stride 2, up, and a product of what it makes."""
    rng = np.random.default_rng(2)
    b = Builder()
    x = b.input("x", tensor("f32", 1, 8, 5, 6))
    w = b.constant(rng.standard_normal((8, 12, 4, 4)).astype(np.float32) / 8, "up.weight")
    bias = b.constant(rng.standard_normal(12).astype(np.float32))
    attrs = {"strides": (2, 2), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
    b.output("y", b.relu(b.conv_transpose(x, w, bias, **attrs, output_padding=(0, 0))))
    b.finish()
    return b.module


def test_transposed_convolutions_are_integer_ones() -> None:
    """One for each remainder of the positions by the stride, all of the same weights."""
    module = upsampling()
    q = aino.quantize(module, calibration=samples(module), guard=False)
    assert op_names(q).count("quant.conv") == 4
    assert not {"nn.conv", "nn.conv_transpose"} & set(op_names(q))
    assert [r.name for r in q.compression.applied] == ["up", "up#2", "up#3", "up#4"]
    assert q.compression.floor.after > 30
    x = samples(module, 1, seed=11)[0]
    exe, whole = aino.compile(q), aino.compile(module)
    assert not exe.report.undone and not whole.report.undone
    (got,), (want,) = exe.run(*x), run_module(q, x)
    assert np.array_equal(got, want)
    assert disagreement(whole.run(*x)[0], run_module(module, x)[0], "approximate") is None


def test_calibration_data_that_is_not_finite_is_refused() -> None:
    module = mlp()
    data = samples(module)
    data[2][0][1, 3] = np.nan
    with pytest.raises(CalibrationNotFinite, match="'x'"):
        aino.quantize(module, calibration=data)


def test_data_on_which_the_model_overflows_is_refused() -> None:
    module = mlp()
    with pytest.raises(CalibrationOverflow, match="'fc2'"):
        aino.quantize(module, calibration=[(np.full((4, 20), 3e38, np.float32),)])


@pytest.mark.parametrize("ignore", ["fc1*", ("fc1*",), ("fc1*", "head*")])
def test_patterns_are_one_or_some_and_said_where_they_mean_nothing(ignore: Any) -> None:
    module = mlp()
    for made in (
        aino.quantize(module, "int8", calibration=samples(module), ignore=ignore, guard=False),
        aino.prune(module, 0.5, ignore=ignore, guard=False),
    ):
        report = made.compression
        assert [r.name for r in report.refused] == ["fc1"]
        assert (report.notes != []) == ("head*" in ignore)
        assert ("'head*' of layers to ignore means none" in str(report)) == ("head*" in ignore)


def test_a_model_without_layers_says_so() -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 4, 4))))
    b.finish()
    for made in (aino.quantize(b.module, "int8-weight"), aino.prune(b.module, 0.5)):
        assert made.compression.notes == ["there is no layer that this could be done to"]


@pytest.mark.parametrize("options", [{"min_sqnr": "a"}, {"min_sqnr": np.nan}, {"max_drop": np.nan}])
def test_floors_are_numbers(options: dict[str, Any]) -> None:
    metric = (lambda run: 1.0) if "max_drop" in options else None
    with pytest.raises(OptionTooSmall, match="must be a number of at least"):
        aino.quantize(mlp(), "int8-weight", metric=metric, **options)


def test_ranges_of_nothing_are_quantised_by_one() -> None:
    """All zeros: the input's grid has scale 1, and what is computed from zeros is right."""
    module = mlp()
    zeros = [tuple(np.zeros_like(x) for x in sample) for sample in samples(module, 2)]
    q = aino.quantize(module, calibration=zeros, guard=False)
    first = next(op for op in q.main.block if op.name == "quant.quantize")
    assert float(constant_of(first.scale).array()) == 1.0  # type: ignore[attr-defined,union-attr]
    (got,), (want,) = aino.compile(q).run(*zeros[0]), run_module(module, zeros[0])
    assert np.abs(got - want).max() <= 0.02 * np.abs(want).max()


def test_weights_of_zeros_stay_zeros() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 20))
    b.output("y", b.matmul(x, b.constant(np.zeros((20, 24), np.float32), "fc.weight")))
    b.finish()
    for scheme in ("int8", "int8-dynamic", "int8-weight", "int4-weight"):
        q = aino.quantize(b.module, scheme, calibration=samples(b.module), guard=False)
        (got,) = run_module(q, samples(b.module, 1)[0])
        assert q.compression.applied and not got.any(), scheme


def test_the_last_group_may_be_shorter() -> None:
    module = mlp()
    q = aino.quantize(module, "int4-weight", group=7, guard=False)
    scales = [op.scale.shape for op in q.main.block if op.name == "quant.dequantize_groups"]  # type: ignore[attr-defined]
    assert scales == [(3, 24), (4, 10)]
    x = samples(module, 1, seed=11)[0]
    (got,), (want,) = aino.compile(q).run(*x), run_module(q, x)
    assert disagreement(got, want, "approximate") is None


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
    assert sum(len(x) for (x,) in inputs) == 1000

    def run() -> Any:
        session = Session(aino.to_onnx(q))
        return [session.run(x)[0] for x in inputs]

    theirs = np.stack(in_child(run))
    ours = np.stack([run_module(q, x)[0] for x in inputs])
    quantum = (ours.max() - ours.min()) / 255
    assert np.abs(theirs - ours).max() <= quantum
