"""Distinct elements, histograms and segments, compiled and with extents that a run decides."""

from __future__ import annotations

import pytest
import torch

from tests.frontends.torch.test_factorization import run

X = torch.tensor([[3.0, 1, 1], [2, 2, 2], [2, 3, 1]])


def check(function, *inputs: torch.Tensor, target: str) -> None:
    want = function(*inputs)
    got = run(function, *inputs, target=target)
    for a, b in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("target", ["reference", "c"])
def test_counts(target: str) -> None:
    check(
        lambda x: (
            *torch.unique(x, return_inverse=True, return_counts=True),
            *torch.unique_consecutive(x, return_inverse=True, return_counts=True),
            *torch.unique_consecutive(x, dim=0, return_counts=True),
            torch.nonzero_static(x > 1.5, size=9),
            torch.histogram(x, 4, range=(1.0, 3.0), density=True)[0],
            torch.segment_reduce(x, "max", lengths=torch.tensor([1, 0, 2]), initial=0.5),
            torch.segment_reduce(x, "mean", offsets=torch.tensor([0, 2, 3]), axis=0),
        ),
        X,
        target=target,
    )
