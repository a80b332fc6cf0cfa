"""Factorisations of matrices, by LAPACK as PyTorch calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def cholesky(x: Tensor) -> tuple[Tensor, Tensor]:
    """L of L L^T, and the first row at which there is none; from there on L is NaN."""
    factor, failed = torch.linalg.cholesky_ex(x)
    number = torch.arange(1, x.shape[-1] + 1, device=x.device)
    bad = (failed.unsqueeze(-1) > 0) & (number >= failed.unsqueeze(-1))
    lost = bad.unsqueeze(-2) & torch.ones_like(x, dtype=torch.bool).tril()
    return factor.tril().masked_fill(lost, float("nan")), failed.to(torch.int64)


def signs(vectors: Tensor) -> Tensor:
    """1 or -1 for each column: the sign of its first element of at least half the largest magnitude."""
    size = vectors.abs()
    leading = (size >= size.amax(-2, keepdim=True) / 2).to(torch.uint8).argmax(-2, keepdim=True)
    return torch.where(vectors.gather(-2, leading) < 0, -1, 1).to(vectors.dtype)


def eigh(x: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of symmetric matrices."""
    if x.shape[-1] == 0:
        return x.new_empty(x.shape[:-1]), x
    values, vectors = torch.linalg.eigh(x, UPLO="L")
    return values, vectors * signs(vectors)


def householder_product(x: Tensor, scales: Tensor) -> Tensor:
    """Columns of a product of reflections."""
    made: Tensor = torch.linalg.householder_product(x, scales)
    return made


def lu(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Packed factors, exchanged rows, and the first pivot that is zero."""
    packed, pivots, singular = torch.linalg.lu_factor_ex(x)
    return packed, pivots.to(torch.int64) - 1, singular.to(torch.int64)


def qr(x: Tensor) -> tuple[Tensor, Tensor]:
    """R and reflections, packed, and the scales of these."""
    packed, scales = torch.geqrf(x)
    return packed, scales


def solve_triangular(a: Tensor, x: Tensor, upper: bool, unit: bool) -> Tensor:
    """The solutions of triangular systems."""
    found: Tensor = torch.linalg.solve_triangular(a, x, upper=upper, unitriangular=unit)
    return found


def svd(x: Tensor, full: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The singular value decomposition."""
    left, values, right = torch.linalg.svd(x, full_matrices=full)
    right = right.mT
    if x.shape[-1] == 0:
        return left, values, right
    turned = signs(right)
    count = values.shape[-1]
    left = torch.cat([left[..., :count] * turned, left[..., count:]], -1)
    return left, values, right * turned


TABLE: dict[str, Callable[..., Any]] = {
    "linalg.cholesky": cholesky,
    "linalg.eigh": eigh,
    "linalg.householder_product": householder_product,
    "linalg.lu": lu,
    "linalg.qr": qr,
    "linalg.solve_triangular": solve_triangular,
    "linalg.svd": svd,
}
