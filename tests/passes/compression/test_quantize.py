"""Quantisation of whole modules: exact integers inside, errors as small as bits allow, reasons for the rest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.errors.compression import CompressionWithStates, WeightsNotFinite
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.passes.compression.guard import sqnr
from aino_ir.passes.compression.layers import prepared
from aino_ir.passes.compression.numbers import weight_recipe
from aino_ir.passes.compression.quantize import Quantization, Request, input_rows
from aino_ir.types import tensor
from aino_ir.verify import verify
from tests.passes.compression.models import SAME, cnn, mlp, samples, weights
from tests.passes.helpers import op_names

STATIC = Request("static", weight_recipe(8, "channel", 0, True))
DYNAMIC = Request("dynamic", weight_recipe(8, "channel", 0, True))
FOUR = Request("", weight_recipe(4, "group", 16, True))
EIGHT = Request("", weight_recipe(8, "channel", 0, True))


def quantized(
    module: Module, request: Request, count: int = 6, only: Any = None
) -> tuple[Module, Quantization]:
    work = Quantization(prepared(module), request, samples(module, count) if count else [])
    rows = [p.row for p in work.proposals()]
    work.rows = rows
    names = frozenset(r.name for r in rows if not r.reason)
    result = work.build(names if only is None else frozenset(only))
    verify(result)
    return result, work


def loss(module: Module, result: Module) -> float:
    (x,) = samples(module, 1, seed=9)[0]
    return sqnr(run_module(result, [x])[0], run_module(module, [x])[0])


@pytest.mark.parametrize("build", [mlp, cnn])
@pytest.mark.parametrize(
    ("request_", "least"),
    [(STATIC, 30.0), (DYNAMIC, 35.0), (EIGHT, 40.0), (FOUR, 18.0)],
    ids=["s", "d", "8", "4"],
)
def test_schemes_keep_the_outputs(build: Any, request_: Request, least: float) -> None:
    module = build()
    result, work = quantized(module, request_)
    assert loss(module, result) > least
    assert all(
        r.sqnr is not None and r.sqnr > 15 and r.measured_on == "output" for r in work.rows if not r.reason
    )


def test_static_layers_are_integer_contractions() -> None:
    result, _ = quantized(cnn(), STATIC)
    names = op_names(result)
    assert names.count("quant.conv") == 2 and names.count("quant.matmul") == 1
    assert "nn.conv" not in names and "nn.matmul" not in names
    sums = next(op for op in result.main.block if op.name == "math.add")
    assert any(v.op is not None and v.op.name == "quant.dequantize" for v in sums.operands if v is not None)


def test_pools_and_movements_before_a_layer_carry_bytes() -> None:
    """What c2 makes is rounded once, and its largest are found among bytes."""
    work = Quantization(cnn(), STATIC, samples(cnn()))
    work.proposals()
    module = work.build(frozenset(work.ready))
    pools = [op for op in module.main.block if op.name == "nn.max_pool"]
    assert [op.result.dtype.name for op in pools] == ["u8"]
    without = work.build(frozenset(work.ready) - {"fc"})
    assert [op.result.dtype.name for op in without.main.block if op.name == "nn.max_pool"] == ["f32"]


def test_means_read_bytes_that_exist_anyway() -> None:
    """A pool beside a convolution, as in Inception's blocks, and the mean of a picture."""
    rng = np.random.default_rng(0)
    b = Builder()
    x = b.relu(b.input("x", tensor("f32", 2, 8, 6, 6)))
    one = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
    left = b.conv(x, b.constant(weights(rng, 8, 8, 3, 3, fan=72), "left"), **SAME)
    pooled = b.avg_pool(x, kernel=(3, 3), **SAME)
    right = b.conv(pooled, b.constant(weights(rng, 8, 8, 1, 1, fan=8), "right"), **one)
    b.output("y", b.add(left, right))
    b.output("mean", b.reduce_mean(x, axes=(2, 3)))
    b.finish()
    result, _ = quantized(b.module, STATIC)
    names = op_names(result)
    assert names.count("quant.conv") == 3 and names.count("reduce.sum") == 1
    assert "nn.avg_pool" not in names and "reduce.mean" not in names
    (x,) = samples(b.module, 1, seed=9)[0]
    for got, want in zip(run_module(result, [x]), run_module(b.module, [x]), strict=True):
        assert sqnr(got, want) > 30.0


def test_weight_only_keeps_integers_beside_their_scales() -> None:
    result, _ = quantized(mlp(), FOUR, count=0)
    assert op_names(result).count("quant.dequantize_groups") == 2
    constants = [op.value for op in result.main.block if op.name == "core.constant"]  # type: ignore[attr-defined]
    assert sorted(c.shape for c in constants if c.dtype.name == "i4") == [(20, 24), (24, 10)]


def test_without_data_the_weights_are_compared() -> None:
    _, work = quantized(mlp(), FOUR, count=0)
    assert all(r.measured_on == "weights" and r.sqnr is not None for r in work.rows)


def test_any_set_of_layers_can_be_built() -> None:
    module = cnn()
    result, _ = quantized(module, STATIC, only=["c2"])
    assert op_names(result).count("quant.conv") == 1 and op_names(result).count("nn.conv") == 1
    nothing, _ = quantized(module, STATIC, only=[])
    (x,) = samples(module, 1)[0]
    assert np.array_equal(run_module(nothing, [x])[0], run_module(prepared(module), [x])[0])


def test_ignored_layers_say_so() -> None:
    _, work = quantized(cnn(), replace(STATIC, ignore=("c*",)))
    assert [r.reason for r in work.rows] == ["ignored by name", "ignored by name", ""]


def test_dynamic_rows_are_for_products() -> None:
    _, work = quantized(cnn(), DYNAMIC)
    assert [r.reason for r in work.rows] == ["rows are quantised for products only"] * 2 + [""]


def test_gptq_beats_rounding() -> None:
    for module in (mlp(batch=64), cnn()):
        (value,) = module.main.inputs
        rng = np.random.default_rng(5)
        few = rng.standard_normal((8, *value.shape)).astype(np.float32)  # inputs that hang together
        data = [(np.tensordot(rng.standard_normal(8).astype(np.float32), few, 1),) for _ in range(24)]
        losses = []
        for compensate in (False, True):
            request = replace(FOUR, recipe=weight_recipe(4, "channel", 0, True), compensate=compensate)
            work = Quantization(prepared(module), request, data)
            result = work.build(frozenset(p.row.name for p in work.proposals()))
            pairs = [(run_module(result, x)[0], run_module(module, x)[0]) for x in data]
            losses.append(sqnr(*map(np.stack, zip(*pairs, strict=True))))
        assert losses[1] > losses[0] + 1.0


def test_bias_correction_takes_the_mean_error_off() -> None:
    module = mlp(batch=64)
    shifted = [(s[0] + 2.0,) for s in samples(module, 6)]
    errors = []
    for correct in (False, True):
        work = Quantization(prepared(module), replace(FOUR, bias_correction=correct), shifted)
        result = work.build(frozenset(p.row.name for p in work.proposals()))
        difference = run_module(result, shifted[0])[0] - run_module(module, shifted[0])[0]
        errors.append(float(np.abs(difference.mean(axis=0)).mean()))
    assert errors[1] < errors[0] / 2


def test_one_row_tells_no_mean_error() -> None:
    """Taking it off would make that row exact, and others worse."""
    module = mlp(batch=1)
    work = Quantization(prepared(module), STATIC, samples(module, 1))
    rows = [p.row for p in work.proposals()]
    assert all(p.correction is None for p in work.ready.values())
    assert all(r.sqnr is not None and np.isfinite(r.sqnr) for r in rows)


def test_layers_alone_go_from_bytes_to_bytes() -> None:
    module = cnn()
    work = Quantization(prepared(module), STATIC, samples(module))
    before, after = work.proposals()[1].alone()  # type: ignore[misc]
    moves = "tensor.transpose"
    assert op_names(before) == [moves, "nn.conv", "quant.quantize", moves]
    assert op_names(after)[0] == moves and op_names(after)[-3:] == ["quant.conv", "quant.quantize", moves]
    assert after.main.inputs[0].dtype.name == after.main.outputs[0].dtype.name == "u8"


def test_rows_of_convolutions_are_those_that_weights_multiply() -> None:
    module = cnn()
    conv = next(op for op in module.main.block if op.name == "nn.conv")
    (x,) = samples(module, 1)[0]
    w = conv.operands[1].op.value.array()  # type: ignore[union-attr]
    rows = input_rows(conv, x)
    assert rows is not None
    y = (rows @ w.reshape(8, -1).T).reshape(2, 8, 8, 8).transpose(0, 3, 1, 2)
    b = Builder()
    from tests.passes.compression.models import SAME

    b.output("y", b.conv(b.input("x", tensor("f32", 2, 3, 8, 8)), b.constant(w), None, **SAME))
    b.finish()
    assert np.allclose(y, run_module(b.module, [x])[0], atol=1e-4)


def test_weights_that_are_not_finite_are_refused_by_name() -> None:
    module = mlp()
    op = next(op for op in module.main.block if op.name == "core.constant")
    bad = op.value.array().copy()  # type: ignore[attr-defined]
    bad[0, 0] = np.nan
    op.attributes = (Const.of(bad, "fc1.weight"),)
    with pytest.raises(WeightsNotFinite, match="layer 'fc1'"):
        Quantization(module, EIGHT, []).proposals()


def test_models_with_states_cannot_be_calibrated() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    state = b.state("cache", tensor("f32", 2))
    b.output("y", b.add(x, state))
    b.finish([x])
    with pytest.raises(CompressionWithStates, match="state 'cache'"):
        Quantization(b.module, EIGHT, [(np.zeros(2, np.float32),)])
