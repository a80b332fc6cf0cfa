"""Rows that PyTorch's own operator samples do not reach, against eager PyTorch."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.fx.experimental.proxy_tensor import make_fx

import aino_ir as aino
from aino_ir.errors.torch import AtenVariant
from aino_ir.frontends.torch.graph import lower_graph
from aino_ir.frontends.torch.ops import row_of
from aino_ir.frontends.torch.tensors import array_of
from aino_ir.interp import run_module


def lowered(function, *inputs: torch.Tensor, mode: str = "fake"):
    """The module of a function of tensors."""
    graph = make_fx(lambda *tensors: [function(*tensors)], tracing_mode=mode)(*inputs)
    return lower_graph(graph)


def agrees(function, *inputs: torch.Tensor) -> None:
    (got,) = run_module(lowered(function, *inputs), [array_of(t) for t in inputs])
    assert torch.allclose(torch.from_numpy(got), function(*inputs), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("size", [(7, 5), (6, 8), (3, 4), (1, 9)])
def test_gradient_of_adaptive_means(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    gradient, x = torch.randn(2, 3, min(3, size[0]), 4), torch.randn(2, 3, *size)
    agrees(torch.ops.aten._adaptive_avg_pool2d_backward.default, gradient, x)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_slices_written_along_an_axis_stay_where_they_are(axis: int) -> None:
    torch.manual_seed(0)
    x, places = torch.randn(4, 5, 6), torch.tensor([3, 0])
    source = x.narrow(axis, 0, 2) * 2
    for write in (torch.index_copy, torch.index_add):
        agrees(lambda x, i, s, write=write: write(x, axis, i, s), x, places, source)

    def put(x: torch.Tensor, places: torch.Tensor, source: torch.Tensor, add: bool = False) -> torch.Tensor:
        return torch.ops.aten.index_put.default(x, [*[None] * (axis % 3), places], source, add)

    for add in (False, True):
        agrees(lambda x, i, s, add=add: put(x, i, s, add), x, places, source)
        agrees(lambda x, i, s, add=add: put(x, i, s, add), x, places, torch.tensor(2.0))
    for write in (put, lambda x, i, s: torch.index_copy(x, axis, i, s)):
        module = lowered(write, x, places, source)
        assert not any(op.name == "tensor.transpose" for op in module.walk())


def test_products_in_groups() -> None:
    pytest.importorskip("transformers.integrations.moe")
    torch.manual_seed(0)
    ends = torch.tensor([2, 2, 7], dtype=torch.int32)
    call = torch.ops.transformers.grouped_mm_fallback.default
    agrees(call, torch.randn(7, 4), torch.randn(3, 4, 5), ends)


@pytest.mark.parametrize("value", [-2.5, -1.0, -0.25, 0.0, 0.3, 1.0, 4.5, 30.0])
def test_special_functions_at_poles_and_between(value: float) -> None:
    x = torch.tensor([value, value + 1e-3], dtype=torch.float64)
    agrees(torch.lgamma, x)
    agrees(lambda x: torch.erfinv(x / 40), x)
    if value != -1.0:  # eager gives NaN there, and so do we
        agrees(torch.digamma, x)


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_derivatives_of_the_digamma_function(n: int) -> None:
    x = torch.tensor([0.02, 0.5, 1.0, 3.7, 12.0, 250.0], dtype=torch.float64)
    agrees(lambda x: torch.polygamma(n, x), x)
    below = torch.tensor([-0.4, -1.7, -6.2, -20.3], dtype=torch.float64)
    shifted = torch.polygamma(n, below + 25)  # psi_n(x) = psi_n(x + 25) - sum of (-1)^n n! / (x + k)^(n+1)
    terms = sum((below + k) ** -(n + 1) for k in range(25)) * (-1.0) ** n * math.factorial(n)
    (got,) = run_module(lowered(lambda x: torch.polygamma(n, x), below), [below.numpy()])
    assert torch.allclose(torch.from_numpy(got), shifted - terms, rtol=1e-9)


@pytest.mark.parametrize("size", [(3, 3), (4, 5), (2, 3, 4), (1, 1, 1)])
@pytest.mark.parametrize("part", [0, 1])
def test_windows_that_random_numbers_place(size: tuple[int, ...], part: int) -> None:
    pools = {2: torch.nn.functional.fractional_max_pool2d, 3: torch.nn.functional.fractional_max_pool3d}

    def f(x: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
        found = pools[len(size)](x, 2, output_size=size, return_indices=True, _random_samples=numbers)
        return found[part]

    agrees(f, torch.randn(2, 3, *(7, 6, 9)[-len(size) :]), torch.rand(2, 3, len(size)))


def test_symbolic_parts_are_refused() -> None:
    call = torch.ops.aten._adaptive_avg_pool2d_backward.default
    with pytest.raises(AtenVariant, match="symbolic"):
        lowered(call, torch.randn(2, 3, 2, 2), torch.randn(2, 3, 7, 5), mode="symbolic")


def test_core_aten_is_covered() -> None:
    """All of core ATen but random numbers, offsets and sizes of memory has a row or is taken apart."""
    from aino_ir.frontends.torch.capture import export_decompositions

    taken_apart = export_decompositions()
    schemas = torch._C._jit_get_all_schemas()
    names = {s.name.removeprefix("aten::") for s in schemas if s.name.startswith("aten::")}
    missing = {
        str(overload)
        for name in sorted(names)
        if isinstance(packet := getattr(torch.ops.aten, name, None), torch._ops.OpOverloadPacket)
        for overload in (getattr(packet, o) for o in packet.overloads())
        if torch.Tag.core in overload.tags and row_of(overload) is None and overload not in taken_apart
    }
    assert missing <= {
        "aten.rand.default",
        "aten.randperm.default",
        "aten.resize_.default",
        "aten.sym_storage_offset.default",
    }


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("size", [(3, 11), (20, 2), (7, 5), (1, 1)])
def test_resizing_without_aliasing(mode: str, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    for corners in (False, True):
        agrees(
            lambda x, corners=corners: F.interpolate(
                x, size, mode=mode, antialias=True, align_corners=corners
            ),
            x,
        )
    agrees(lambda x: F.interpolate(x, scale_factor=(0.4, 1.7), mode=mode, antialias=True), x)


def test_windows_and_frequencies_are_constants() -> None:
    for function in (torch.hamming_window, torch.blackman_window, torch.bartlett_window):
        module = lowered(lambda x, f=function: x * f(9), torch.ones(9))
        assert len(list(module.main.block)) == 3, "a constant, a product, a return"
        agrees(lambda x, f=function: x * f(9), torch.ones(9))
    agrees(lambda x: x + torch.kaiser_window(8, periodic=False, beta=9.0), torch.ones(8))
    agrees(lambda x: x + torch.fft.fftfreq(7, 0.5) + torch.fft.rfftfreq(13), torch.ones(7))


@pytest.mark.parametrize("repeats", [[2, 0, 3, 1], [0, 0], [1], [4, 0, 0]])
def test_repeated_as_often_as_the_data_says(repeats: list[int]) -> None:
    class Repeated(torch.nn.Module):
        def forward(self, x: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
            return x.repeat_interleave(counts, dim=0)

    x, counts = torch.arange(3.0 * len(repeats)).reshape(-1, 3), torch.tensor(repeats)
    module = aino.load(Repeated(), example_inputs=(x, counts))
    (got,) = run_module(module, [array_of(x), array_of(counts)])
    assert torch.equal(torch.from_numpy(got), Repeated()(x, counts))


@pytest.mark.parametrize("least", [0, 9])
def test_numbers_counted(least: int) -> None:
    class Counted(torch.nn.Module):
        def forward(self, x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return torch.bincount(x, minlength=least), torch.bincount(x, w, least)

    x, w = torch.tensor([1, 5, 1, 0, 5, 5]), torch.arange(6.0)
    module = aino.load(Counted(), example_inputs=(x, w))
    for got, wanted in zip(run_module(module, [array_of(x), array_of(w)]), Counted()(x, w), strict=True):
        assert torch.equal(torch.from_numpy(got), wanted)


def test_bits_moved_by_operators() -> None:
    x = torch.tensor([-20, 7, 0, 9])
    agrees(lambda x: (x >> 1) + (x << 3), x)


def test_products_of_bytes() -> None:
    a = torch.randint(-128, 128, (20, 16), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    agrees(torch._int_mm, a, a[:16, :].T.contiguous())
