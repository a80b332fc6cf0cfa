"""Programs as PT2E exports them: quantised contractions come in as integer ones."""

from __future__ import annotations

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed

import aino_ir as aino
from aino_ir.interp import run_module
from tests.passes.helpers import op_names

OPS = torch.ops.quantized_decomposed


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
