"""CTC and cross-entropy of a linear layer, with their gradients, against eager PyTorch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.modules.linear_cross_entropy  # defines torch.ops.torch_nn
from torch.fx.experimental.proxy_tensor import make_fx

import aino_ir as aino
from aino_ir.frontends.torch.graph import lower_graph
from aino_ir.frontends.torch.tensors import array_of
from aino_ir.interp import run_module

aten = torch.ops.aten
FRAMES = torch.log_softmax(torch.randn(7, 4, 5, generator=torch.Generator().manual_seed(0)), -1)


def close(function, *inputs: torch.Tensor) -> None:
    """Demand eager's results of a function of tensors."""
    want = function(*inputs)
    graph = make_fx(lambda *tensors: list(function(*tensors)), tracing_mode="real")(*inputs)
    got = run_module(lower_graph(graph), [array_of(t) for t in inputs])
    for ours, theirs in zip(got, want, strict=True):
        assert torch.allclose(torch.from_numpy(ours.copy()), theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("flat", [False, True])
def test_alignments_of_all_lengths(zero_infinity: bool, flat: bool) -> None:
    """Repeated labels need a blank between them, the last target is empty, the third does not fit."""
    rows = [[1, 1, 2], [4, 3], [2, 2, 2], []]
    lengths = [len(row) for row in rows]
    frames = [7, 5, 3, 6]
    padded = [row + [9] * (4 - len(row)) for row in rows]  # what lies behind a target is not looked at
    targets = torch.tensor([label for row in rows for label in row]) if flat else torch.tensor(padded)

    def gradient(x: torch.Tensor, targets: torch.Tensor, slope: torch.Tensor):
        loss, steps = aten._ctc_loss(x, targets, frames, lengths, 0, zero_infinity)
        found = aten._ctc_loss_backward(slope, x, targets, frames, lengths, loss, steps, 0, zero_infinity)
        return loss, found if zero_infinity else found[:, [0, 1, 3]]

    close(gradient, FRAMES, targets, torch.tensor([1.0, -2.0, 0.5, 1.0]))


def test_targets_without_labels() -> None:
    empty = torch.zeros(4, 0, dtype=torch.int64)
    close(lambda x, t: aten._ctc_loss(x, t, [7, 7, 7, 7], [0, 0, 0, 0])[:1], FRAMES, empty)
    one = torch.tensor([[2], [3], [0], [1]])
    close(lambda x, t: aten._ctc_loss(x, t, [7, 0, 1, 7], [1, 0, 0, 1], 2)[:1], FRAMES, one)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("weighted", [False, True])
def test_a_linear_layer_and_its_loss(reduction: str, weighted: bool) -> None:
    torch.manual_seed(0)
    x, w, bias = torch.randn(9, 6), torch.randn(5, 6), torch.randn(5)
    target = torch.tensor([0, 4, 2, 3, 3, 1, 0, 2, 4])
    weight = torch.rand(5) if weighted else None
    more = (None, weight, 3, 4, "compact", torch.float32)
    if reduction == "none":
        call = torch.ops.torch_nn._linear_cross_entropy_batch_chunked_no_reduction
        close(lambda x, w, b, t: [call(x, w, t, b, *more[1:])], x, w, bias, target)
        return
    call = torch.ops.torch_nn._linear_cross_entropy_batch_chunked
    rest = (weight, reduction, 3, 0.0, 4, "compact", torch.float32, True)
    close(lambda x, w, b, t: call(x, w, t, b, *rest, True, True, True), x, w, bias, target)
    close(lambda x, w, t: call(x, w, t, None, *rest, False, False, False), x, w, target)


def test_modules_with_a_ctc_loss_export() -> None:
    class Loss(torch.nn.Module):
        def forward(self, frames: torch.Tensor, targets: torch.Tensor, *lengths: torch.Tensor):
            frames = frames.log_softmax(-1)
            return torch.nn.functional.ctc_loss(frames, targets, *lengths, zero_infinity=True)

    targets = torch.tensor([[1, 1, 2], [4, 3, 0], [2, 2, 2], [1, 1, 1]])
    inputs = (FRAMES, targets, torch.tensor([7, 5, 3, 6]), torch.tensor([3, 2, 1, 0]))
    (got,) = aino.compile(aino.load(Loss(), example_inputs=inputs), "reference").run(*inputs)
    assert torch.allclose(got, Loss()(*inputs), rtol=1e-4)
