"""What PT2E quantisation writes, against PyTorch's own meaning of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.ao.quantization.fx._decomposed

import aino_ir as aino
from aino_ir.errors.torch import AtenVariant
from aino_ir.interp import run_module
from tests.frontends.torch.test_factorization import run
from tests.passes.helpers import op_names

OPS = torch.ops.quantized_decomposed
X = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
SCALES = torch.rand(8, generator=torch.Generator().manual_seed(1)) / 20 + 0.01
ZEROS = torch.arange(-4, 4)
TOKENS = torch.rand(6, 1, generator=torch.Generator().manual_seed(2)) / 20 + 0.01

THERE = {
    "per tensor": lambda x: OPS.quantize_per_tensor(x, 0.03, 5, 0, 255, torch.uint8),
    "of tensors": lambda x: OPS.quantize_per_tensor.tensor(x, SCALES[0], ZEROS[1], -128, 127, torch.int8),
    "narrow": lambda x: OPS.quantize_per_tensor(x, 0.01, 0, -100, 100, torch.int8),
    "16 bits": lambda x: OPS.quantize_per_tensor(x, 1e-4, 0, -32768, 32767, torch.int16),
    "per channel": lambda x: OPS.quantize_per_channel(x, SCALES, ZEROS, 1, -127, 127, torch.int8),
    "per token": lambda x: OPS.quantize_per_token(x, TOKENS, ZEROS[:6, None], -128, 127, torch.int8),
    "per group": lambda x: OPS.quantize_per_channel_group(
        x, SCALES.repeat(2)[:12].reshape(6, 2), torch.zeros(6, 2, dtype=torch.int64), -8, 7, torch.int8, 4
    ),
}


@pytest.mark.parametrize("name", THERE)
def test_codes_are_at_most_one_apart(name: str) -> None:
    (got,) = run(THERE[name], X)
    want = THERE[name](X)
    assert got.dtype is want.dtype
    apart = (got.long() - want.long()).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 0.02


CODES = torch.randint(-128, 127, (6, 8), dtype=torch.int8, generator=torch.Generator().manual_seed(3))

BACK = {
    "per tensor": lambda q: OPS.dequantize_per_tensor(q, 0.03, 5, -128, 127, torch.int8),
    "of tensors": lambda q: OPS.dequantize_per_tensor.tensor(q, SCALES[0], ZEROS[1], -128, 127, torch.int8),
    "per channel": lambda q: OPS.dequantize_per_channel(q, SCALES, ZEROS, 1, -128, 127, torch.int8),
    "no zeros": lambda q: OPS.dequantize_per_channel(q, SCALES, None, -1, -128, 127, torch.int8),
    "per token": lambda q: OPS.dequantize_per_token(
        q, TOKENS, ZEROS[:6, None], -128, 127, torch.int8, torch.float32
    ),
    "per group": lambda q: OPS.dequantize_per_channel_group(
        q, SCALES.repeat(2)[:12].reshape(6, 2), None, -128, 127, torch.int8, 4, torch.float32
    ),
}


@pytest.mark.parametrize("name", BACK)
def test_numbers_of_codes(name: str) -> None:
    (got,) = run(BACK[name], CODES)
    assert torch.allclose(got, BACK[name](CODES), rtol=1e-6)


CHOSEN = {
    "affine": lambda x: OPS.choose_qparams(x, -128, 127, 1e-8, torch.int8),
    "symmetric": lambda x: OPS.choose_qparams_symmetric(x, -127, 127, 1e-8, torch.int8),
    "per token": lambda x: OPS.choose_qparams_per_token(x, torch.int8),
    "per token, affine": lambda x: OPS.choose_qparams_per_token_asymmetric(x, torch.int8),
}


@pytest.mark.parametrize("name", CHOSEN)
@pytest.mark.parametrize("shift", [0.0, 3.0])
def test_scales_and_zero_points_of_data(name: str, shift: float) -> None:
    x = X + shift
    for got, want in zip(run(CHOSEN[name], x), CHOSEN[name](x), strict=True):
        assert got.shape == want.shape  # dtypes are those of the fake tensors, which say f64 for some
        assert torch.allclose(got.double(), want.double(), rtol=1e-6)


@pytest.mark.parametrize("target", ["c"])
def test_a_layer_runs_natively_in_integers(target: str) -> None:
    weight = THERE["per channel"](torch.randn(8, 8))

    def layer(x: torch.Tensor) -> torch.Tensor:
        codes = OPS.quantize_per_tensor(x, 0.05, 3, -128, 127, torch.int8)
        wide = OPS.dequantize_per_tensor(codes, 0.05, 3, -128, 127, torch.int8)
        w = OPS.dequantize_per_channel(
            weight, SCALES, torch.zeros(8, dtype=torch.int64), 0, -127, 127, torch.int8
        )
        return torch.nn.functional.linear(wide, w)

    (got,) = run(layer, X, target=target)
    assert torch.allclose(got, layer(X), atol=0.05)


def test_codes_without_a_type_are_refused() -> None:
    with pytest.raises(AtenVariant, match="quantisation to i32"):
        run(lambda x: OPS.quantize_per_tensor(x, 0.03, 5, -(2**31), 2**31 - 1, torch.int32), X)


class Quantized(torch.nn.Module):
    """A linear layer with weights of 8 bits for each channel, between bytes."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        weight = torch.randint(-127, 128, (6, 16), generator=generator, dtype=torch.int8)
        self.register_buffer("weight", weight)
        self.register_buffer("scales", torch.linspace(0.01, 0.02, 6))
        self.register_buffer("zeros", torch.zeros(6, dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = OPS.quantize_per_tensor.default(x, 0.05, 10, -128, 127, torch.int8)
        x = OPS.dequantize_per_tensor.default(x, 0.05, 10, -128, 127, torch.int8)
        w = OPS.dequantize_per_channel.default(self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8)
        y = torch.nn.functional.linear(x, w)
        return OPS.quantize_per_tensor.default(y, 0.03, 0, -100, 100, torch.int8)


def test_quantised_layers_are_integer_products() -> None:
    net = Quantized()
    x = torch.randn(3, 16, generator=torch.Generator().manual_seed(1)) * 2
    module = aino.load(net, (x,))
    assert "quant.matmul" in op_names(module) and "nn.matmul" not in op_names(module)
    (got,) = run_module(module, [x.numpy()])
    want = net(x).numpy()
    assert got.dtype == want.dtype == np.int8
    assert np.abs(got.astype(int) - want).max() <= 1
    assert want.max() <= 100


def test_rows_with_scales_of_their_own_are_integer_products() -> None:
    """Dynamic quantisation, a scale for each token."""

    class Dynamic(Quantized):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scales, zeros = OPS.choose_qparams_per_token.default(x, torch.int8)
            codes = OPS.quantize_per_token.default(x, scales, zeros, -128, 127, torch.int8)
            wide = OPS.dequantize_per_token.default(
                codes, scales, zeros, -128, 127, torch.int8, torch.float32
            )
            w = OPS.dequantize_per_channel.default(
                self.weight, self.scales, self.zeros, 0, -127, 127, torch.int8
            )
            return torch.nn.functional.linear(wide, w)

    net = Dynamic()
    x = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(1)) * 2
    module = aino.load(net, (x,))
    assert "quant.matmul" in op_names(module) and "nn.matmul" not in op_names(module)
    (got,) = run_module(module, [x.numpy()])
    want = net(x).numpy()
    assert np.abs(got - want).max() <= 0.02 * np.abs(want).max()


def test_channels_are_quantised_along_their_axis() -> None:
    class PerChannel(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            scales, zeros = torch.tensor([0.5, 1.0, 2.0]), torch.tensor([0, 3, -4])
            return OPS.quantize_per_channel.default(x, scales, zeros, 1, -128, 127, torch.int8)

    x = torch.linspace(-40, 40, 12).reshape(4, 3)
    (got,) = run_module(aino.load(PerChannel(), (x,)), [x.numpy()])
    assert np.abs(got.astype(int) - PerChannel()(x).numpy()).max() <= 1
