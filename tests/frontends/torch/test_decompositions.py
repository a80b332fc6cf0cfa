"""Forms that AINO takes apart itself, in exported programs and in graphs of torch.compile."""

from __future__ import annotations

import pytest
import torch

import aino_ir as aino
from aino_ir.errors.torch import AtenUnsupported, AtenVariant
from tests.frontends.torch.test_factorization import run


def test_running_statistics_of_instances_move() -> None:
    torch.manual_seed(0)
    theirs = torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True, momentum=0.3)
    ours = torch.nn.InstanceNorm2d(3, affine=True, track_running_stats=True, momentum=0.3)
    x = torch.randn(2, 3, 4, 5) * 2 + 1
    exe = aino.compile(aino.load(ours, example_inputs=(x,)), "reference")
    for factor in (1.0, 0.5):
        (got,) = exe.run(x * factor)
        assert torch.allclose(got, theirs(x * factor), rtol=1e-4, atol=1e-5)
    still = theirs.eval()
    (got,) = run(lambda x: still(x), x)
    assert torch.allclose(got, still(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dim", [-1, -2, 0, None])
def test_runs_along_an_axis_counted_from_the_end(dim: int | None) -> None:
    x = torch.tensor([[1.0, 1, 2, 2, 2], [1, 1, 3, 3, 3]])

    def runs(x: torch.Tensor):
        return torch.unique_consecutive(x, return_inverse=True, return_counts=True, dim=dim)

    for got, want in zip(run(runs, x), runs(x), strict=True):
        assert torch.equal(got, want)


def test_slopes_are_drawn_in_training_alone() -> None:
    x = torch.randn(9)
    (got,) = run(lambda x: torch.rrelu(x, 0.1, 0.5, training=False), x)
    assert torch.allclose(got, torch.where(x < 0, x * 0.3, x))
    with pytest.raises((AtenUnsupported, AtenVariant)):
        run(lambda x: torch.rrelu(x, 0.1, 0.5, training=True), x)


def test_memory_in_another_shape() -> None:
    x, part = torch.randn(4, 5), torch.randn(2, 3)
    (got,) = run(lambda x, part: torch.as_strided_scatter(x, part, (2, 3), (7, 2), 1), x, part)
    assert torch.equal(got, torch.as_strided_scatter(x, part, (2, 3), (7, 2), 1))
    for dim, keep in (((), False), ((0,), True), ((0, 1), False)):
        for values in (x, (x * 9).long()):
            (got,) = run(lambda v, d=dim, k=keep: torch.hash_tensor(v, d, keepdim=k), values)
            assert torch.equal(got, torch.hash_tensor(values, dim, keepdim=keep))
