"""The float parameter behind a constant of integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from aino_ir.constants import Const
from aino_ir.frontends.torch.export.functions.quantization import call


class TrainedWeights(nn.Module):
    """A parameter that stands for integers.

    Attributes:
        handle: the constant.
        stored: its dtype.
        weight: f32, integers less their zero point times `scale`.
        scale, zero: of every element, or what broadcasts to that; None: zero points are 0.
    """

    scale: Tensor
    zero: Tensor | None

    def __init__(self, handle: Const, codes: Tensor, scale: Tensor, zero: Tensor | None) -> None:
        super().__init__()
        self.handle = handle
        self.stored = handle.dtype.name
        start = call("dequantize", codes, scale.to(torch.float32), zero, self.stored)
        self.weight = nn.Parameter(start)
        self.register_buffer("scale", scale.clone())
        self.register_buffer("zero", None if zero is None else zero.clone())

    def codes(self) -> Tensor:
        """The integers that the parameter stands for now; without a gradient."""
        return call("quantize", self.weight.detach(), self.scale, self.zero, self.stored)

    def constants(self) -> list[tuple[Const, np.ndarray[Any, Any]]]:
        """Constants of the module, and what they are now."""
        return [(self.handle, self.codes().cpu().numpy().astype(self.handle.dtype.numpy))]

    def stay_inside(self) -> None:
        """Put the parameter back where its integers have what kernels rely on; called after each step."""
