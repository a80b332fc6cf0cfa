"""Backward operators that are derived from forward ones, against torch.autograd."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from aino_ir.frontends.torch.graph import lower_graph
from aino_ir.frontends.torch.ops.derivatives import TABLE
from aino_ir.frontends.torch.tensors import array_of
from aino_ir.interp import run_module

aten = torch.ops.aten


def normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + len(shape)))


def gradients(function: Callable[..., Tensor], *operands: Tensor) -> list[Tensor]:
    """A random cotangent of the result, and what autograd gives each operand for it."""
    leaves = [x.clone().requires_grad_() for x in operands]
    y = function(*leaves)
    cotangent = normal(*y.shape)
    return [cotangent, *torch.autograd.grad(y, leaves, cotangent)]


def agrees(call: Any, *arguments: Any, wanted: list[Tensor]) -> None:
    """The lowering of a backward call gives what autograd gave."""
    tensors = [a for a in arguments if isinstance(a, Tensor)]

    def function(*given: Tensor) -> list[Tensor]:
        ahead = iter(given)
        result = call(*(next(ahead) if isinstance(a, Tensor) else a for a in arguments))
        return list(result) if isinstance(result, (tuple, list)) else [result]

    module = lower_graph(make_fx(function, tracing_mode="fake")(*tensors))
    got = run_module(module, [array_of(t) for t in tensors])
    assert len(got) == len(wanted)
    for ours, theirs in zip(got, wanted, strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("size", [(9, 11), (3, 2), (5, 7)])
@pytest.mark.parametrize("mode", ["bilinear", "bicubic", "nearest", "nearest-exact"])
def test_resized_planes(mode: str, size: tuple[int, int]) -> None:
    x = normal(2, 3, 5, 7)
    name = {"nearest-exact": "_upsample_nearest_exact2d"}.get(mode, f"upsample_{mode}2d")
    call = getattr(aten, f"{name}_backward").default
    for corners in (False, True) if "nearest" not in mode else (None,):
        gradient, wanted = gradients(
            lambda x, c=corners: F.interpolate(x, size, mode=mode, align_corners=c), x
        )
        more = () if corners is None else (corners,)
        agrees(call, gradient, list(size), list(x.shape), *more, wanted=[wanted])


def test_resized_lines_and_volumes() -> None:
    x, y = normal(2, 3, 6), normal(1, 2, 3, 4, 2)
    gradient, wanted = gradients(lambda x: F.interpolate(x, 9, mode="linear"), x)
    agrees(aten.upsample_linear1d_backward.default, gradient, [9], list(x.shape), False, wanted=[wanted])
    size = [4, 3, 5]
    gradient, wanted = gradients(lambda y: F.interpolate(y, size, mode="trilinear"), y)
    agrees(aten.upsample_trilinear3d_backward.default, gradient, size, list(y.shape), False, wanted=[wanted])
    gradient, wanted = gradients(lambda y: F.interpolate(y, size), y)
    agrees(aten.upsample_nearest3d_backward.default, gradient, size, list(y.shape), wanted=[wanted])


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("mode", [0, 1])
def test_sampled_planes(mode: int, padding: int, corners: bool) -> None:
    x, grid = normal(2, 3, 5, 4), normal(2, 3, 6, 2)
    cotangent, *wanted = gradients(lambda x, g: aten.grid_sampler_2d(x, g, mode, padding, corners), x, grid)
    call = aten.grid_sampler_2d_backward.default
    agrees(call, cotangent, x, grid, mode, padding, corners, [True, True], wanted=wanted)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0])
def test_distances_also_of_equal_rows(p: float) -> None:
    a, b = normal(4, 3), normal(5, 3)
    b[2] = a[1]
    cotangent, wanted, _ = gradients(lambda a, b: torch.cdist(a, b, p), a, b)
    agrees(aten._cdist_backward.default, cotangent, a, b, p, torch.cdist(a, b, p), wanted=[wanted])


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_replicated_borders(rank: int) -> None:
    x, padding = normal(2, 3, *(4, 5, 3)[:rank]), [1, 2, 0, 3, 2, 1][: 2 * rank]
    cotangent, wanted = gradients(lambda x: F.pad(x, padding, "replicate"), x)
    call = getattr(aten, f"replication_pad{rank}d_backward").default
    agrees(call, cotangent, x, padding, wanted=[wanted])


@pytest.mark.parametrize("include", [True, False])
@pytest.mark.parametrize("divisor", [None, 3])
def test_means_of_windows(include: bool, divisor: int | None) -> None:
    x = normal(2, 3, 7, 6)
    options = ([3, 2], [2, 2], [1, 1], False, include, divisor)
    cotangent, wanted = gradients(lambda x: aten.avg_pool2d(x, *options), x)
    agrees(aten.avg_pool2d_backward.default, cotangent, x, *options, wanted=[wanted])
    y = normal(2, 4, 5, 4)
    cotangent, wanted = gradients(lambda y: aten.avg_pool3d(y, [2, 2, 2], [2, 1, 2], [0, 1, 0]), y)
    more = ([2, 2, 2], [2, 1, 2], [0, 1, 0], False, True, None)
    agrees(aten.avg_pool3d_backward.default, cotangent, y, *more, wanted=[wanted])


def test_adaptive_means_of_volumes() -> None:
    x = normal(2, 3, 5, 4, 6)
    cotangent, wanted = gradients(lambda x: F.adaptive_avg_pool3d(x, (2, 4, 3)), x)
    agrees(aten._adaptive_avg_pool3d_backward.default, cotangent, x, wanted=[wanted])


def test_largest_of_windows() -> None:
    x = normal(2, 3, 5, 6)
    cotangent, wanted = gradients(lambda x: F.adaptive_max_pool2d(x, (2, 4)), x)
    places = F.adaptive_max_pool2d(x, (2, 4), return_indices=True)[1]
    agrees(aten.adaptive_max_pool2d_backward.default, cotangent, x, places, wanted=[wanted])
    y = normal(2, 3, 4, 5, 4)
    cotangent, wanted = gradients(lambda y: F.max_pool3d(y, 2, 1), y)
    places = F.max_pool3d(y, 2, 1, return_indices=True)[1]
    options = ([2] * 3, [1] * 3, [0] * 3, [1] * 3, False)
    call = aten.max_pool3d_with_indices_backward.default
    agrees(call, cotangent, y, *options, places, wanted=[wanted])


@pytest.mark.parametrize("axis", [0, 2])
def test_normed_weights(axis: int) -> None:
    v = normal(4, 3, 2)
    g = normal(*(n if a == axis else 1 for a, n in enumerate(v.shape)))
    cotangent, *wanted = gradients(lambda v, g: torch._weight_norm(v, g, axis), v, g)
    norms = torch._weight_norm_interface(v, g, axis)[1]
    agrees(aten._weight_norm_interface_backward.default, cotangent, v, g, norms, axis, wanted=wanted)


@pytest.mark.parametrize("name", ["hardshrink", "softshrink"])
def test_shrunk(name: str) -> None:
    x = normal(40)
    cotangent, wanted = gradients(lambda x: getattr(F, name)(x, 0.4), x)
    agrees(getattr(aten, f"{name}_backward").default, cotangent, x, 0.4, wanted=[wanted])


def test_keys_that_serve_several_heads() -> None:
    q, k, v = normal(2, 4, 5, 8), normal(2, 2, 5, 8), normal(2, 2, 5, 8)
    cotangent, *wanted = gradients(
        lambda q, k, v: F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), q, k, v
    )
    forward = aten._scaled_dot_product_flash_attention_for_cpu.default
    y, sums = forward(q, k, v, 0.0, True)
    call = aten._scaled_dot_product_flash_attention_for_cpu_backward.default
    agrees(call, cotangent, q, k, v, y, sums, 0.0, True, wanted=wanted)


@pytest.mark.parametrize("padding", [-1, 4])
@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
def test_bags_of_embeddings(mode: str, padding: int) -> None:
    table, indices, offsets = normal(9, 3), torch.tensor([4, 0, 8, 4, 4, 2, 7]), torch.tensor([0, 3, 3, 5])
    number = ["sum", "mean", "max"].index(mode)
    kept = None if padding < 0 else padding
    cotangent, wanted = gradients(
        lambda t: F.embedding_bag(indices, t, offsets, mode=mode, padding_idx=kept), table
    )
    saved = aten._embedding_bag(table, indices, offsets, False, number, False, None, False, padding)[1:]
    call = aten._embedding_bag_backward.default
    more = (9, False, number, False, None, padding)
    agrees(call, cotangent, indices, offsets, *saved, *more, wanted=[wanted])


def test_every_row_names_an_operator() -> None:
    assert all(hasattr(aten, name.removeprefix("aten.")) for name in TABLE)
