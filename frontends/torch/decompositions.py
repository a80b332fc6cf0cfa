"""Forms of operators that AINO takes apart itself, where torch's own rule would lose something.

A rule gives NotImplemented for the forms that have a row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from aino_ir.frontends.torch.fast_paths import multi_head_attention, transformer_encoder_layer

aten = torch.ops.aten


def instance_norm(
    x: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    use_input_stats: bool,
    momentum: float,
    eps: float,
    cudnn_enabled: bool,
) -> Any:
    """Running statistics are updated in place, which the operator's schema does not say.

    Each item of the batch moves them, and their mean stays.
    """
    if not use_input_stats or running_mean is None or running_var is None:
        return NotImplemented
    y = aten.instance_norm.default(x, weight, bias, None, None, True, momentum, eps, cudnn_enabled)
    axes = list(range(2, x.dim()))
    variance, mean = torch.var_mean(x, axes, correction=1)
    for running, own in ((running_mean, mean), (running_var, variance)):
        moved = running * (1 - momentum) + momentum * own.to(running.dtype).mean(0)
        running.copy_(moved)
    return y


def unique_consecutive(
    x: torch.Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """Of an axis counted from the end torch derives a wrong shape."""
    if dim is None or dim >= 0:
        return NotImplemented
    return aten.unique_consecutive.default(x, return_inverse, return_counts, dim % max(x.dim(), 1))


GRAPH: dict[Any, Callable[..., Any]] = {
    aten._native_multi_head_attention.default: multi_head_attention,
    aten._transformer_encoder_layer_fwd.default: transformer_encoder_layer,
    aten.unique_consecutive.default: unique_consecutive,
}
"""Operators in any graph."""

EXPORT: dict[Any, Callable[..., Any]] = {**GRAPH, aten.instance_norm.default: instance_norm}
"""Operators in an exported program, composite ones included."""
