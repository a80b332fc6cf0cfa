"""Factorisations by what they promise, interpreted and compiled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.errors.ir import BadOperand, DTypeMismatch, ShapeMismatch
from aino_ir.interp import run_module
from aino_ir.op import OPS
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.types import tensor
from tests.codegen.native import compile_module

Array = np.ndarray[Any, Any]

RNG = np.random.default_rng(7)
TALL = RNG.normal(size=(2, 6, 4))
LOW_RANK = RNG.normal(size=(2, 6, 2)) @ RNG.normal(size=(2, 2, 4))


def applied(target: str, name: str, *arrays: Array, **attrs: Any) -> list[Array]:
    """The results of one op on arrays."""
    b = Builder()
    values = [b.input(f"x{i}", tensor(f"f{a.dtype.itemsize * 8}", *a.shape)) for i, a in enumerate(arrays)]
    for i, result in enumerate(b.op(OPS[name], *values, **attrs).results):
        b.output(f"y{i}", result)
    if target == "interpreter":
        return list(run_module(b.module, list(arrays)))
    with opened_or_temporary() as store:
        return list(compile_module(b.module, store, target).run(list(arrays)))


def transposed(x: Array) -> Array:
    return np.swapaxes(x, -1, -2)


TARGETS = pytest.mark.parametrize("target", ["interpreter", "c:portable"])


@TARGETS
@pytest.mark.parametrize("x", [TALL, transposed(TALL), LOW_RANK[:, :4]], ids=["tall", "wide", "singular"])
def test_lu_is_a_product(target: str, x: Array) -> None:
    packed, rows, singular = applied(target, "linalg.lu", x)
    for number, matrix in enumerate(x):
        steps = min(matrix.shape)
        moved = matrix.copy()
        for k, row in enumerate(rows[number]):
            moved[[k, row]] = moved[[row, k]]
        low = np.tril(packed[number][:, :steps], -1) + np.eye(len(matrix), steps)
        assert np.abs(low).max() <= 1
        np.testing.assert_allclose(low @ np.triu(packed[number][:steps]), moved, atol=1e-12)
    assert singular.tolist() == [0, 0] or x is not TALL


@TARGETS
def test_lu_names_the_first_zero_pivot(target: str) -> None:
    x = np.array([[[1.0, 2], [2, 4]], [[0, 0], [0, 1]], [[1, 0], [0, 1]]])
    assert applied(target, "linalg.lu", x)[2].tolist() == [2, 1, 0]


@TARGETS
@pytest.mark.parametrize("x", [TALL, transposed(TALL), LOW_RANK], ids=["tall", "wide", "low rank"])
def test_qr_is_a_product(target: str, x: Array) -> None:
    packed, scales = applied(target, "linalg.qr", x)
    m, n = x.shape[-2:]
    wide = np.zeros((2, m, max(m, n)))
    wide[..., :n] = packed
    (q,) = applied(target, "linalg.householder_product", wide[..., :m], scales)
    np.testing.assert_allclose(transposed(q) @ q, np.broadcast_to(np.eye(m), (2, m, m)), atol=1e-12)
    np.testing.assert_allclose(q @ np.triu(packed), x, atol=1e-12)


@TARGETS
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("x", [TALL, LOW_RANK, TALL * 0, TALL * 1e200], ids=["any", "low", "zero", "large"])
def test_singular_values(target: str, x: Array, full: bool) -> None:
    left, values, right = applied(target, "linalg.svd", x, full=full)
    scale = max(np.abs(x).max(), 1e-9)
    for side in (left, right):
        columns = side.shape[-1]
        np.testing.assert_allclose(
            transposed(side) @ side, np.broadcast_to(np.eye(columns), (2, columns, columns)), atol=1e-12
        )
    np.testing.assert_allclose(
        (left[..., :4] * values[:, None]) @ transposed(right) / scale, x / scale, atol=1e-12
    )
    np.testing.assert_allclose(values / scale, np.linalg.svd(x / scale, compute_uv=False), atol=1e-12)


@TARGETS
def test_columns_of_negligible_singular_values_are_orthogonal_to_the_others(target: str) -> None:
    x = np.array(
        [
            [-0.8984375, 1.6171875, 1.484375, -1.4921875],
            [0, 0, -0.5390625, -0.033203125],
            [1.71875, 1.71875, 0, 0],
            [0, 0, 0, 0],
        ]
    )
    left, values, _ = applied(target, "linalg.svd", x)
    assert values[3] < 1e-14
    np.testing.assert_allclose(left.T @ left, np.eye(4), atol=1e-12)


@TARGETS
def test_eigenvalues_that_coincide(target: str) -> None:
    q = np.linalg.qr(RNG.normal(size=(5, 5)))[0]
    x = (q * [1, 1, 1, 2, -3]) @ q.T
    values, vectors = applied(target, "linalg.eigh", np.tril(x))
    np.testing.assert_allclose(values, [-3, 1, 1, 1, 2], atol=1e-12)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(5), atol=1e-12)
    np.testing.assert_allclose(x @ vectors, vectors * values, atol=1e-12)


@TARGETS
@pytest.mark.parametrize("name", ["linalg.eigh", "linalg.svd", "linalg.lu", "linalg.qr", "linalg.cholesky"])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_poisoned_matrices_come_to_an_end(target: str, name: str, poison: float) -> None:
    x = TALL[:, :4].copy()
    x[0, 1, 0] = poison
    with np.errstate(all="ignore"):
        results = applied(target, name, x)
    assert not all(np.isfinite(r[0]).all() for r in results)


@TARGETS
def test_cholesky_says_where_it_fails(target: str) -> None:
    x = np.stack([np.diag([4.0, 9, 1]), np.diag([1.0, -1, 1]), np.diag([0.0, 1, 1])])
    out, failed = applied(target, "linalg.cholesky", x)
    assert failed.tolist() == [0, 2, 1]
    np.testing.assert_array_equal(out[0], np.diag([2.0, 3, 1]))
    assert np.isnan(out[1, 1, 1]) and out[1, 0, 0] == 1


@TARGETS
def test_triangles_that_are_not_read_are_not_read(target: str) -> None:
    a = RNG.normal(size=(3, 3)) + 4 * np.eye(3)
    x = RNG.normal(size=(3, 2))
    for upper in (False, True):
        for unit in (False, True):
            used = np.triu(a) if upper else np.tril(a)
            if unit:
                np.fill_diagonal(used, 1)
            (y,) = applied(target, "linalg.solve_triangular", a, x, upper=upper, unit=unit)
            np.testing.assert_allclose(used @ y, x, atol=1e-12)


X = np.ones((3, 4), np.float32)


@pytest.mark.parametrize(
    ("name", "arrays", "error"),
    [
        ("linalg.lu", (X.astype(np.float16)[0],), BadOperand),
        ("linalg.cholesky", (X,), ShapeMismatch),
        ("linalg.eigh", (X,), ShapeMismatch),
        ("linalg.svd", (X,), BadOperand),
        ("linalg.solve_triangular", (X[:, :3], X.astype(np.float64)), DTypeMismatch),
        ("linalg.solve_triangular", (X[:, :3], X[None]), BadOperand),
        ("linalg.solve_triangular", (X[:2, :2], X), ShapeMismatch),
        ("linalg.householder_product", (X.T, X[0].astype(np.float64)), DTypeMismatch),
        ("linalg.householder_product", (X.T, X), BadOperand),
        ("linalg.householder_product", (X.T, X[0]), BadOperand),
        ("linalg.householder_product", (X, X[0]), BadOperand),
        ("linalg.householder_product", (X[None], X), ShapeMismatch),
    ],
)
def test_illegal_matrices_are_refused(name: str, arrays: tuple[Array, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        applied("interpreter", name, *arrays)


def test_integers_have_no_factors() -> None:
    b = Builder()
    with pytest.raises(DTypeMismatch):
        b.op(OPS["linalg.lu"], b.input("x", tensor("i32", 2, 2)))
