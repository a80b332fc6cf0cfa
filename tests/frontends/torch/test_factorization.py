"""Linear algebra of PyTorch where its operator samples do not look."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

import aino_ir as aino
from aino_ir.errors.base import UserError
from aino_ir.frontends.torch.graph import lower_graph
from aino_ir.graph import Module
from aino_ir.interp import run_module

BATCH = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


class Calls(torch.nn.Module):
    """A function as a module."""

    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: torch.Tensor):
        return self.function(*inputs)


def run(function, *inputs: torch.Tensor, target: str = "reference", dynamic_shapes=None):
    module = aino.load(Calls(function), example_inputs=inputs, dynamic_shapes=dynamic_shapes)
    return aino.compile(module, target).run(*inputs)


@pytest.mark.parametrize("target", ["reference", "c"])
def test_inverses_and_solutions(target: str) -> None:
    inverse, solution, sign = run(
        lambda x: (torch.linalg.inv(x), torch.linalg.solve(x, x[0, 0]), torch.linalg.slogdet(x)[0]),
        BATCH,
        target=target,
    )
    assert torch.allclose(inverse @ BATCH, torch.eye(4, dtype=torch.float64).expand(3, 4, 4))
    assert torch.allclose(BATCH @ solution[..., None], BATCH[0, 0][:, None].expand(3, 4, 1))
    assert torch.equal(sign, torch.linalg.slogdet(BATCH)[0])


@pytest.mark.parametrize("target", ["reference", "c"])
def test_singular_matrices_are_errors_as_in_eager(target: str) -> None:
    def inverse(x: torch.Tensor) -> torch.Tensor:
        return torch.linalg.inv(x)

    module = aino.load(Calls(inverse), example_inputs=(BATCH,))
    exe = aino.compile(module, target)
    exe.run(BATCH)
    broken = BATCH.clone()
    broken[1, 3] = 0
    with pytest.raises(torch.linalg.LinAlgError):
        torch.linalg.inv(broken)
    with pytest.raises(UserError, match=r"linalg\.inv"):
        exe.run(broken)


def test_any_number_of_matrices_of_any_size() -> None:
    n, m = torch.export.Dim("n", min=2, max=9), torch.export.Dim("m", min=2, max=9)
    function = Calls(lambda x: torch.linalg.lu_solve(*torch.linalg.lu_factor(x), x))
    module = aino.load(function, example_inputs=(BATCH,), dynamic_shapes=(({0: n, 1: m, 2: m},),))
    exe = aino.compile(module, "reference")
    for shape in ((3, 4, 4), (2, 7, 7)):
        x = torch.randn(shape, dtype=torch.float64) + 5 * torch.eye(shape[-1], dtype=torch.float64)
        (y,) = exe.run(x)
        assert torch.allclose(y, torch.eye(shape[-1], dtype=torch.float64).expand(shape))


def test_gradients_through_solutions() -> None:
    def loss(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return torch.linalg.solve(a, b).square().sum() + torch.linalg.det(a).sum()

    a, b = BATCH.clone().requires_grad_(), BATCH[:, :, :2].clone().requires_grad_()
    loss(a, b).backward()
    want = (a.grad, b.grad)
    a.grad = b.grad = None
    torch.compile(loss, backend="aino", options={"target": "reference"})(a, b).backward()
    assert torch.allclose(a.grad, want[0]) and torch.allclose(b.grad, want[1])


def close(function, *inputs: torch.Tensor) -> Module:
    """Demand eager's results of a function that torch.export does not take; gives its module."""
    graph = make_fx(lambda *tensors: list(function(*tensors)), tracing_mode="real")(*inputs)
    module = lower_graph(graph)
    for got, want in zip(run_module(module, [t.numpy() for t in inputs]), function(*inputs), strict=True):
        assert torch.allclose(torch.from_numpy(got.copy()), want, rtol=1e-4, atol=1e-5)
    return module


@pytest.mark.parametrize("driver", ["gels", "gelsy", "gelsd", "gelss"])
@pytest.mark.parametrize("rows", [3, 4, 6])
def test_least_squares(driver: str, rows: int) -> None:
    torch.manual_seed(0)
    a, b, line = torch.randn(2, rows, 4), torch.randn(2, rows, 3), torch.randn(2, rows)

    def several(a: torch.Tensor, b: torch.Tensor, line: torch.Tensor):
        return *torch.linalg.lstsq(a, b, driver=driver), torch.linalg.lstsq(a, line, driver=driver)[0]

    close(several, a, b, line)


def test_residuals_of_a_low_rank_are_refused() -> None:
    a, b = torch.ones(5, 2), torch.randn(5, 1)
    a[:, 1] = torch.arange(5.0)
    module = close(lambda a, b: torch.linalg.lstsq(a, b, driver="gelsd")[1:2], a, b)
    with pytest.raises(UserError, match=r"linalg\.lstsq"):
        run_module(module, [np.ones((5, 2), np.float32), b.numpy()])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_exponentials_of_matrices(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, 5, dtype=dtype) * torch.tensor([0.0, 0.1, 1, 4], dtype=dtype)[:, None, None]
    (got,) = run(torch.linalg.matrix_exp, x)
    wide = torch.linalg.matrix_exp(x.double())
    within = 1e-6 if dtype is torch.float32 else 1e-13
    assert ((got - wide).abs().amax((1, 2)) <= within * wide.abs().amax((1, 2))).all()
    (empty,) = run(torch.linalg.matrix_exp, torch.zeros(2, 0, 0))
    assert empty.shape == (2, 0, 0)


def test_modules_with_least_squares_export() -> None:
    torch.manual_seed(0)
    for driver in ("gels", "gelsd"):
        for a, b in (((2, 5, 3), (2, 5, 2)), ((3, 3), (3,)), ((2, 3, 4), (2, 3))):
            inputs = torch.randn(a), torch.randn(b)

            def several(a: torch.Tensor, b: torch.Tensor, driver: str = driver):
                return tuple(torch.linalg.lstsq(a, b, driver=driver))

            for got, want in zip(run(several, *inputs), several(*inputs), strict=True):
                assert got.shape == want.shape and torch.allclose(got, want, rtol=1e-4, atol=1e-5)
