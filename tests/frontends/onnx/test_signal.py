"""Fourier transforms: fast ones, products with matrices, axes that the run decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from aino_ir.frontends.onnx import load_onnx
from aino_ir.graph import Module
from aino_ir.interp import run_module
from tests.frontends.onnx.models import make_model, tensor_value

RNG = np.random.default_rng(11)


def transform(shape: tuple[int, ...], axis: int | None, **attributes: Any) -> Module:
    """A DFT along an axis, or along one that is an input."""
    ports = [tensor_value("x", shape)]
    inputs = ["x", "", "axis"]
    constants = []
    if axis is None:
        ports.append(tensor_value("axis", (), TensorProto.INT64))
    else:
        constants.append(onnx.numpy_helper.from_array(np.int64(axis), "axis"))
    node = helper.make_node("DFT", inputs, ["y"], **attributes)
    return load_onnx(make_model([node], ports, [onnx.ValueInfoProto(name="y")], constants, opset=20))


def of_numpy(x: np.ndarray, axis: int, inverse: bool, onesided: bool) -> np.ndarray:
    """The same in double precision."""
    z = x[..., 0].astype(np.float64) + (1j * x[..., 1] if x.shape[-1] == 2 else 0)
    if inverse:
        back = np.fft.irfft(z, axis=axis)[..., None] if onesided else np.fft.ifft(z, axis=axis)
        return np.asarray(back) if onesided else np.stack([back.real, back.imag], -1)
    y = np.fft.fft(z, axis=axis)
    if onesided:
        y = np.take(y, range(x.shape[axis] // 2 + 1), axis)
    return np.stack([y.real, y.imag], -1)


def close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got, want, atol=2e-6 * np.sqrt(got.size) * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("n", [1, 2, 6, 7, 10, 15, 34, 512, 600, 1026])
@pytest.mark.parametrize(
    ("inverse", "onesided"), [(False, False), (False, True), (True, False), (True, True)]
)
def test_transforms(n: int, inverse: bool, onesided: bool) -> None:
    for parts in (2,) if inverse else (1, 2):
        if onesided and parts == 2 and not inverse:
            continue  # half a spectrum is that of real numbers
        x = RNG.normal(size=(2, n, 3, parts)).astype(np.float32)
        if inverse and onesided and n < 2:
            continue
        module = transform(x.shape, 1, inverse=int(inverse), onesided=int(onesided))
        close(run_module(module, [x])[0], of_numpy(x, 1, inverse, onesided))


def ops(module: Module) -> set[str]:
    return {op.name for op in module.walk()}


def test_long_lines_and_small_ones_are_transformed_fast() -> None:
    assert "signal.fft" in ops(transform((1, 1024, 1), 1))
    assert "signal.fft" in ops(transform((1, 10, 2), 1))
    assert "signal.fft" not in ops(transform((500, 128, 2), 1))  # a product takes less time
    assert "signal.fft" not in ops(transform((1, 521, 1), 1))  # a prime


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("inverse", [0, 1])
def test_an_axis_that_the_run_decides(parts: int, inverse: int) -> None:
    x = RNG.normal(size=(2, 5, 6, parts)).astype(np.float32)
    module = transform(x.shape, None, inverse=inverse)
    assert "control.if" in ops(module)
    for axis in (0, 1, 2, -2, -4):
        close(run_module(module, [x, np.int64(axis)])[0], of_numpy(x, axis % 4, bool(inverse), False))
