"""Complex numbers inside and at the border of a program."""

from __future__ import annotations

import pytest
import torch

import aino_ir as aino
from aino_ir.errors.torch import TorchTypeUnsupported
from tests.frontends.torch.test_factorization import Calls, run

torch.manual_seed(0)
REAL = torch.randn(2, 6, 8)
NUMBERS = torch.randn(3, 5, dtype=torch.complex64)
OTHERS = torch.randn(3, 5, dtype=torch.complex64)


@pytest.mark.parametrize("target", ["reference", "c"])
def test_rotary_positions(target: str) -> None:
    """Llama's reference code turns pairs as complex numbers."""
    turns = torch.polar(torch.ones(6, 4), torch.outer(torch.arange(6.0), torch.rand(4)))

    def rotated(x: torch.Tensor) -> torch.Tensor:
        pairs = torch.view_as_complex(x.reshape(2, 6, 4, 2))
        return torch.view_as_real(pairs * turns.to(x.device)).flatten(2)  # exported with an assertion

    (y,) = run(rotated, REAL, target=target)
    assert torch.allclose(y, rotated(REAL), atol=1e-6)


def spectrum(x: torch.Tensor) -> torch.Tensor:
    z = torch.fft.rfft2(x, norm="ortho")
    return torch.fft.irfft2(z * z.conj(), s=x.shape[-2:], norm="ortho") + z.abs().sum()


@pytest.mark.parametrize("target", ["reference", "c"])
@pytest.mark.parametrize("shape", [(2, 6, 8), (1, 5, 7), (3, 1, 1)])
def test_transforms_there_and_back(target: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    (y,) = run(spectrum, x, target=target)
    assert torch.allclose(y, spectrum(x), atol=1e-4)


FUNCTIONS = {
    "abs": torch.abs,
    "add": lambda x, y: torch.add(x, y, alpha=2 - 1j),
    "angle": torch.angle,
    "cos": torch.cos,
    "cosh": torch.cosh,
    "div": lambda x, y: x / y + 1 / x,
    "eq": lambda x, y: (x == y) | (x != x.conj()),
    "exp": torch.exp,
    "log": torch.log,
    "matmul": lambda x, y: x @ y.T,
    "mixed": lambda x, y: torch.cat([x, y.real * x]) * 2.5j,
    "pow": lambda x, y: x**y + x**2 + x**0,
    "reciprocal": torch.reciprocal,
    "sgn": torch.sgn,
    "sin": torch.sin,
    "sinh": torch.sinh,
    "sqrt": torch.sqrt,
    "sub": lambda x, y: -(x - y) + torch.ones_like(x),
    "sum": lambda x, y: x.sum(0) + y.mean(0).imag,
    "tanh": torch.tanh,
    "where": lambda x, y: torch.where(x.real > 0, x, y),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_of_complex_numbers(name: str) -> None:
    function = FUNCTIONS[name]
    given = (NUMBERS, OTHERS) if function.__name__ == "<lambda>" else (NUMBERS,)
    module = aino.load(Calls(function), example_inputs=given)
    (y,) = aino.compile(module, "reference").run(*(torch.view_as_real(x) for x in given))
    want = function(*given)
    assert torch.allclose(torch.view_as_complex(y) if want.is_complex() else y, want, rtol=1e-4, atol=1e-5)


def test_division_and_magnitude_do_not_overflow() -> None:
    x = torch.tensor([1e38 + 1e38j, 1e-38 - 1e-38j, 0j], dtype=torch.complex64)
    module = aino.load(Calls(lambda x: (x / x[0], x.abs())), example_inputs=(x,))
    quotient, size = aino.compile(module, "reference").run(torch.view_as_real(x))
    assert torch.allclose(torch.view_as_complex(quotient)[0], torch.tensor(1 + 0j))
    assert torch.allclose(size[1:], torch.tensor([1.4142e-38, 0.0]), rtol=1e-3)


def test_complex_tensors_through_torch_compile() -> None:
    def product(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x * y.conj()).T.contiguous() + 1j

    made = torch.compile(product, backend="aino", options={"target": "reference", "strict": True})
    assert torch.allclose(made(NUMBERS, OTHERS), product(NUMBERS, OTHERS))
    assert torch.allclose(made(NUMBERS.conj(), OTHERS), product(NUMBERS.conj(), OTHERS))


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
def test_half_precision_complex_numbers_are_refused() -> None:
    with pytest.raises(TorchTypeUnsupported, match="complex32"):
        run(lambda x: x.to(torch.complex32), REAL)
