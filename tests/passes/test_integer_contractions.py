"""Contractions of dequantised operands become integer ones with the same results, or a reason is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.types import tensor
from tests.passes.helpers import assert_not_fused, assert_same_meaning, op_names, run_pass

PASS = "integer-contractions"
GEOMETRY = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}


def activation(b: Builder, *shape: Any, dtype: str = "u8", scale: float = 0.05, zero: int = 130) -> Value:
    x = b.input("x", tensor(dtype, *shape))
    point = b.constant(np.asarray(zero).astype(x.dtype.numpy))
    return b.dequantize(x, b.constant(np.float32(scale)), point)  # type: ignore[no-any-return]


def weights(b: Builder, *shape: int, scale: Any = 0.01, dtype: Any = np.int8, zero: Any = None) -> Value:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    w = np.random.default_rng(1).integers(low, high, shape, endpoint=True).astype(dtype)
    point = None if zero is None else b.constant(np.asarray(zero).astype(dtype))
    return b.dequantize(b.constant(w), b.constant(np.asarray(scale, np.float32)), point)  # type: ignore[no-any-return]


def finished(b: Builder, y: Value) -> Module:
    b.output("y", y)
    b.finish()
    return b.module


def check(module: Module, ops: list[str]) -> None:
    before = module.clone()
    run_pass([PASS], module)
    assert op_names(module) == ops
    assert_same_meaning(before, module)
    rng = np.random.default_rng(2)
    (value,) = module.main.inputs
    x = rng.integers(0, 256, value.shape).astype(value.dtype.numpy)  # type: ignore[arg-type]
    (want,), (got,) = run_module(before, [x]), run_module(module, [x])
    assert np.abs(got - want).max() <= 1e-5 * np.abs(want).max()
    assert not run_pass([PASS], module).changed


CHANNELS = np.linspace(0.01, 0.04, 4)[:, None, None, None]


@pytest.mark.parametrize("scale", [0.02, CHANNELS], ids=["one scale", "per channel"])
@pytest.mark.parametrize("bias", ["none", "float", "integer", "other scale"])
def test_convolution(scale: Any, bias: str) -> None:
    b = Builder()
    x, w = activation(b, 1, 3, 5, 5), weights(b, 4, 3, 3, 3, scale=scale)
    by = (np.float32(0.05) * np.asarray(scale, np.float32)).reshape(-1)
    by = by if by.size > 1 else by.reshape(())
    numbers = np.array([5, -70, 900, 0], np.int32)
    value = {
        "none": lambda: None,
        "float": lambda: b.constant((numbers * 0.01).astype(np.float32)),
        "integer": lambda: b.dequantize(b.constant(numbers), b.constant(by)),
        "other scale": lambda: b.dequantize(b.constant(numbers), b.constant(np.float32(0.5))),
    }[bias]()
    module = finished(b, b.conv(x, w, value, **{**GEOMETRY, "pads_before": (0, 0), "pads_after": (0, 0)}))
    rest = {
        "none": [],
        "integer": [],
        "float": ["tensor.reshape", "math.add"],
        "other scale": ["quant.dequantize", "tensor.reshape", "math.add"],
    }[bias]
    expected = ["quant.conv", *rest]
    if bias == "other scale":
        expected = ["quant.dequantize", "quant.conv", "tensor.reshape", "math.add"]
    check(module, expected)


def test_signed_activations_and_groups() -> None:
    b = Builder()
    x, w = activation(b, 1, 4, 5, 5, dtype="i8", zero=-3), weights(b, 4, 1, 3, 3, scale=CHANNELS)
    check(finished(b, b.conv(x, w, None, **GEOMETRY, groups=4)), ["tensor.pad", "quant.conv"])


def test_a_zero_point_of_zero_needs_no_padding() -> None:
    b = Builder()
    x, w = activation(b, 1, 3, 5, 5, zero=0), weights(b, 4, 3, 3, 3, scale=CHANNELS)
    check(finished(b, b.conv(x, w, None, **GEOMETRY)), ["quant.conv"])


@pytest.mark.parametrize("transposed", [False, True])
def test_product(transposed: bool) -> None:
    b = Builder()
    scale = np.linspace(0.01, 0.04, 6)
    shape, scale = ((6, 8), scale[:, None]) if transposed else ((8, 6), scale)
    x, w = activation(b, 3, 8), weights(b, *shape, scale=scale)
    check(finished(b, b.matmul(x, w, transpose_rhs=transposed)), ["quant.matmul"])


@pytest.mark.parametrize("zero", [0, 128])
@pytest.mark.parametrize("rows", [(), (1,), (3, 1), (2, 3, 1)])
@pytest.mark.parametrize("transposed", [False, True])
def test_rows_whose_scales_the_run_finds(rows: tuple[int, ...], zero: int, transposed: bool) -> None:
    b = Builder()
    x, scale = b.input("x", tensor("u8", 2, 3, 8)), b.input("scale", tensor("f32", *rows))
    x = b.dequantize(x, scale, b.constant(np.uint8(zero)))
    each = np.linspace(0.01, 0.04, 6)
    w = weights(b, 6, 8, scale=each[:, None]) if transposed else weights(b, 8, 6, scale=each)
    module = finished(b, b.matmul(x, w, transpose_rhs=transposed))
    before = module.clone()
    run_pass([PASS], module)
    assert op_names(module) == ["quant.matmul", "math.mul"]
    assert_same_meaning(before, module)


def whole(b: Builder, zero: Any, dtype: Any = np.int8, shape: tuple[int, ...] = (8, 6)) -> Value:
    """Weights in i32 less their zero point, as MatMulInteger has them."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    w = np.random.default_rng(1).integers(low, high, shape, endpoint=True).astype(dtype)
    point = b.cast(b.constant(np.asarray(zero).astype(dtype)), to="i32")
    return b.sub(b.cast(b.constant(w, "w"), to="i32"), point)  # type: ignore[no-any-return]


@pytest.mark.parametrize("rows", [(), (1,), (3, 1), (2, 1, 1)])
@pytest.mark.parametrize("weight", [(np.int8, 0), (np.uint8, 3), (np.int8, np.arange(6) * 20)])
def test_zero_points_that_the_run_finds(rows: tuple[int, ...], weight: tuple[Any, Any]) -> None:
    """As codes that are decoded, and as MatMulInteger multiplies them: the same bits there."""
    kind, of_weights = weight
    b = Builder()
    x, zero = b.input("x", tensor("u8", 2, 3, 8)), b.input("zero", tensor("u8", *rows))
    scale = b.constant(np.float32(0.03)) if rows == () else b.input("scale", tensor("f32", *rows))
    y = b.matmul(b.dequantize(x, scale, zero), weights(b, 8, 6, dtype=kind, zero=of_weights))
    y = b.add(y, b.constant(np.float32(1)))
    decoded = finished(b, y)
    b = Builder()
    x, zero = b.input("x", tensor("u8", 2, 3, 8)), b.input("zero", tensor("u8", *rows))
    sums = b.matmul(b.sub(b.cast(x, to="i32"), b.cast(zero, to="i32")), whole(b, of_weights, kind))
    widened = finished(b, b.mul(b.cast(sums, to="f32"), b.constant(np.float32(0.3))))
    for module in (decoded, widened):
        before = module.clone()
        run_pass([PASS], module)
        assert "quant.matmul" in op_names(module) and "nn.matmul" not in op_names(module)
        assert ("reduce.sum" in op_names(module)) == (kind is np.uint8 or np.ndim(of_weights) > 0)
        assert_same_meaning(before, module)
    rng = np.random.default_rng(3)
    for extreme in (0, 255):
        given = [rng.integers(0, 256, (2, 3, 8)).astype(np.uint8), np.full(rows, extreme, np.uint8)]
        (want,), (got,) = run_module(before, given), run_module(module, given)
        np.testing.assert_array_equal(got, want)


def test_weights_with_a_zero_point_that_does_not_fit() -> None:
    """Integers about a centre, whose product with the sums of rows is added."""
    b = Builder()
    w = weights(b, 8, 6, dtype=np.uint8, zero=3)
    check(finished(b, b.matmul(activation(b, 3, 8), w)), WITH_ROW_SUMS)


WITH_ROW_SUMS = ["math.cast", "reduce.sum", "math.mul", "math.add", "quant.matmul"]


def test_weights_with_a_zero_point_that_fits() -> None:
    b = Builder()
    w = weights(b, 8, 6, dtype=np.uint8, zero=128)
    check(finished(b, b.matmul(activation(b, 3, 8), w)), ["quant.matmul"])


WINDOWS = {
    "kernel": (3, 2),
    "strides": (2, 1),
    "dilations": (1, 1),
    "pads_before": (1, 0),
    "pads_after": (1, 1),
}


@pytest.mark.parametrize("zero", [0, 130])
@pytest.mark.parametrize("count_include_pad", [False, True])
@pytest.mark.parametrize("dtype", ["u8", "i8"])
def test_means_of_windows_are_sums_of_codes(zero: int, count_include_pad: bool, dtype: str) -> None:
    b = Builder()
    x = activation(b, 2, 3, 6, 5, zero=zero if dtype == "u8" else zero - 130, dtype=dtype)
    y = b.avg_pool(x, **WINDOWS, count_include_pad=count_include_pad)
    padded = ["tensor.pad"] if (zero if dtype == "u8" else zero - 130) else []
    check(finished(b, b.add(y, b.constant(np.float32(1)))), [*padded, "quant.conv", "math.add"])


@pytest.mark.parametrize("zero", [0, 130])
def test_means_of_axes_are_sums_of_codes(zero: int) -> None:
    b = Builder()
    y = b.reduce_mean(activation(b, 2, 3, 6, 5, zero=zero), axes=(-1, 2), keepdims=True)
    check(finished(b, y), ["math.cast", "reduce.sum", "quant.dequantize"])


def test_moves_carry_integers() -> None:
    b = Builder()
    x = activation(b, 1, 3, 4, 4)
    y = b.max_pool(x, kernel=(2, 2), strides=(2, 2), dilations=(1, 1), pads_before=(0, 0), pads_after=(0, 0))
    y = b.matmul(b.reshape(b.transpose(y, perm=(0, 2, 3, 1)), shape=(1, 12)), weights(b, 12, 5))
    check(finished(b, y), ["nn.max_pool", "tensor.transpose", "tensor.reshape", "quant.matmul"])


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda b: b.conv(
                activation(b, 1, 8, 3, 3), weights(b, 6, 8, 1, 1, dtype=np.uint8, zero=3), **GEOMETRY
            ),
            "do not fit 8 bits",
        ),
        (lambda b: b.matmul(activation(b, 3, 8), weights(b, 8, 6, scale=np.ones((8, 1)))), "another axis"),
        (lambda b: b.matmul(activation(b, 2, 3, 8), weights(b, 2, 8, 6)), "stack of matrices"),
        (lambda b: b.matmul(activation(b, 8, 3), weights(b, 8, 6), transpose_lhs=True), "is transposed"),
        (lambda b: b.matmul(activation(b, 3, 8, dtype="i16"), weights(b, 8, 6)), "has 16 bits"),
        (lambda b: b.matmul(activation(b, 3, 8), weights(b, 8, 6, dtype=np.int16)), "weights have 16 bits"),
        (
            lambda b: b.matmul(
                b.dequantize(b.input("x", tensor("u8", 3, 8)), b.constant(np.ones(8, np.float32))),
                weights(b, 8, 6),
            ),
            "no single constant",
        ),
        (
            lambda b: b.matmul(
                b.dequantize(b.input("x", tensor("u8", 3, 8)), b.input("s", tensor("f32", 8))),
                weights(b, 8, 6),
            ),
            "varies along the sum",
        ),
        (
            lambda b: b.matmul(
                b.dequantize(
                    b.input("x", tensor("u8", 3, 8)),
                    b.input("s", tensor("f32", 3, 1)),
                    b.input("z", tensor("u8", 8)),
                ),
                weights(b, 8, 6),
            ),
            "zero point varies along the sum",
        ),
        (
            lambda b: b.cast(b.matmul(b.input("x", tensor("i32", 3, 8)), whole(b, 0)), to="f32"),
            "no widened byte",
        ),
        (
            lambda b: b.cast(
                b.matmul(
                    b.sub(b.cast(b.input("x", tensor("u8", 3, 8)), to="i32"), b.input("z", tensor("i32"))),
                    whole(b, 0),
                ),
                to="f32",
            ),
            "no byte",
        ),
        (
            lambda b: b.cast(
                b.matmul(
                    b.sub(
                        b.cast(b.input("x", tensor("u8", 3, 8)), to="i32"),
                        b.cast(b.input("z", tensor("u8", 8)), to="i32"),
                    ),
                    whole(b, 0),
                ),
                to="f32",
            ),
            "varies along the sum",
        ),
        (
            lambda b: b.cast(
                b.matmul(
                    b.cast(b.input("x", tensor("u8", 3, 8)), to="i32"), b.input("w", tensor("i32", 8, 6))
                ),
                to="f32",
            ),
            "the weights are no constants",
        ),
        (
            lambda b: b.cast(
                b.matmul(
                    b.cast(b.input("x", tensor("u8", 3, 8)), to="i32"),
                    b.constant(np.full((8, 6), 256, np.int32)),
                ),
                to="f32",
            ),
            "leave 32 bits",
        ),
        (
            lambda b: b.matmul(
                activation(b, 3, 8), b.dequantize(b.input("w", tensor("i8", 8, 6)), b.constant(np.float32(1)))
            ),
            "are no constants",
        ),
        (
            lambda b: b.avg_pool(activation(b, 2, 3, 6, 5), **WINDOWS, ceil_mode=True),
            "beyond the padding",
        ),
        (
            lambda b: b.avg_pool(activation(b, 2, b.symbol("c", 1, 9), 6, 5), **WINDOWS),
            "symbolic number of channels",
        ),
        (
            lambda b: b.reduce_mean(activation(b, 2, b.symbol("c", 1, 9)), axes=(1,)),
            "symbolic number of codes",
        ),
        (
            lambda b: b.reduce_mean(activation(b, 2, 3, dtype="i16"), axes=(1,)),
            "has 16 bits",
        ),
        (
            lambda b: b.max_pool(
                activation(b, 1, 3, 4, 4, scale=-1.0),
                kernel=(2, 2),
                strides=(2, 2),
                dilations=(1, 1),
                pads_before=(0, 0),
                pads_after=(0, 0),
            ),
            "not positive",
        ),
    ],
)
def test_what_stays_has_a_reason(build: Any, reason: str) -> None:
    b = Builder()
    assert_not_fused(finished(b, build(b)), [PASS], reason)


def test_sums_that_leave_32_bits_stay() -> None:
    b = Builder()
    w = b.dequantize(b.constant(np.full((40000, 2), 127, np.int8)), b.constant(np.float32(1)))
    assert_not_fused(finished(b, b.matmul(activation(b, 1, 40000, zero=255), w)), [PASS], "out of 32 bits")
