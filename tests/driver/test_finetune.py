"""A pruned or quantised program goes to PyTorch, is trained there, and comes back as what it was."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.graph import Module
from aino_ir.ops.core import Constant
from aino_ir.passes.compression.weights import weights
from tests.passes.compression.networks import mlp

torch = pytest.importorskip("torch")

SIZES = (16, 32, 32, 5)
RNG = np.random.default_rng(3)
DATA = [RNG.standard_normal((64, 16)).astype(np.float32) for _ in range(4)]
WANTED = torch.tensor(RNG.standard_normal((64, 5)).astype(np.float32))
X = torch.tensor(DATA[0])


def tuned(module: Module, steps: int = 12) -> tuple[Module, Any, list[float]]:
    """The module after training in PyTorch, what was trained, and the loss by step."""
    written = aino.to_torch(module, keep_zeros=True)
    optimizer = torch.optim.AdamW(written.parameters(), 0.01)
    losses = []
    for _ in range(steps):
        loss = (written(X) - WANTED).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return aino.load(written, (X,)), written, losses


def comes_back(module: Module) -> Module:
    """Checks what holds for every module; returns the trained one."""
    again, written, losses = tuned(module)
    assert losses[-1] < 0.9 * losses[0]
    with torch.no_grad():
        wanted = written(X)
    for target in ("reference", "c"):
        (got,) = aino.compile(again, target, threads=1).run(X)
        assert float((got - wanted).abs().max()) <= 1e-4 * float(wanted.abs().max()), target
    return again


def numbers(module: Module) -> dict[tuple[str, tuple[Any, ...]], int]:
    """Ops on quantised numbers, and the dtypes that they have: how many there are of each."""
    return Counter(
        (op.name, tuple(v.dtype.name for v in op.present_operands()))
        for op in module.walk()
        if op.name.startswith("quant.")
    )


def codes(module: Module) -> list[bytes]:
    """The integers of the weights."""
    constants = [op.value for op in module.walk() if isinstance(op, Constant)]
    found = [c.array() for c in constants if c.dtype.is_integer and len(c.shape) == 2]
    return sorted(np.asarray(a, np.int8).tobytes() for a in found)


def test_zeros_of_a_pruned_program_stay() -> None:
    pruned = aino.prune(mlp(SIZES), 0.7, scope="local", guard=False)
    again = comes_back(pruned)
    for old, new in zip(weights(pruned), weights(again), strict=True):
        before, after = old.handle.array(), new.handle.array()
        assert before.shape == after.shape
        np.testing.assert_array_equal(after == 0, before == 0)
        assert np.any(after != before)


def test_a_smaller_program_stays_small() -> None:
    pruned = aino.prune(mlp(SIZES), 0.5, structure="channel", guard=False)
    again = comes_back(pruned)
    shapes = [w.handle.shape for w in weights(pruned)]
    assert [w.handle.shape for w in weights(again)] == shapes
    assert shapes[0][1] < SIZES[1]


@pytest.mark.parametrize("scheme", ["int8", "int8-dynamic", "int8-weight", "int4-weight"])
def test_quantised_numbers_are_quantised_again(scheme: str) -> None:
    given: dict[str, Any] = {"calibration": DATA} if scheme == "int8" else {}
    quantised = aino.quantize(mlp(SIZES), scheme, guard=False, ignore=("fc2*",), **given)
    again = comes_back(quantised)
    assert numbers(quantised) and numbers(again) == numbers(quantised)
    assert codes(quantised) and codes(again) == codes(quantised)


def test_rounding_passes_its_gradient_straight_through() -> None:
    """Where a number saturates there is none."""
    scale, x = torch.tensor(0.5), torch.tensor([0.2, 10.0, 90.0, -90.0], requires_grad=True)
    y = torch.ops.aino.dequantize(torch.ops.aino.quantize(x, scale, None, "i8"), scale, None, "i8")
    z = torch.ops.aino.straight_through(x, y, scale, None, scale, "i8")
    assert z.tolist() == [0.0, 10.0, 63.5, -64.0]
    z.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0, 0.0, 0.0]
    x.grad = None
    y = torch.ops.aino.dequantize(torch.ops.aino.quantize(x, scale, None, "i8"), scale * 3, None, "i8")
    torch.ops.aino.straight_through(x, y, scale, None, scale * 3, "i8").sum().backward()
    assert x.grad.tolist() == [3.0, 3.0, 0.0, 0.0]  # decoded by another scale: 3 x


def test_widened_floats_learn() -> None:
    x = torch.ones(3, dtype=torch.bfloat16, requires_grad=True)
    (torch.ops.aino.widen(x, "bf16") * 2).sum().backward()
    assert x.grad is not None and x.grad.dtype is torch.bfloat16 and x.grad.tolist() == [2.0] * 3


def float_gradient(codes: Any, product: Any) -> Any:
    """The gradient of a product of floats."""
    x = codes.clone().requires_grad_()
    product(x).square().sum().backward()
    return x.grad


def test_products_of_bytes_have_the_gradient_of_products_of_floats() -> None:
    """At multiples of the scales nothing is rounded, so both are the same."""
    torch.manual_seed(1)
    ops, x_scale, scale = torch.ops.aino, torch.tensor(0.5), torch.tensor([0.25])
    w = torch.randint(-4, 5, (6, 3), dtype=torch.int8)
    x = (torch.randint(-8, 8, (2, 4, 6)) * 0.5).requires_grad_()
    y = ops.integer_matmul(ops.quantize(x, x_scale, None, "i8"), w, scale * x_scale, None, 0)
    z = ops.through_matmul(x, y, x_scale, None, w, scale * x_scale, "i8")
    z.square().sum().backward()
    torch.testing.assert_close(x.grad, float_gradient(x.detach(), lambda x: x @ (w * scale)))

    w = torch.randint(-4, 5, (4, 2, 3, 3), dtype=torch.int8)
    x = (torch.randint(-8, 8, (2, 4, 7, 6)) * 0.5).requires_grad_()
    zero, geometry = torch.tensor(16, dtype=torch.uint8), ([2, 1], [1, 2], [1, 0], [0, 2], 2)
    offset = (-16 * w.sum((1, 2, 3))).int()
    codes = ops.quantize(x, x_scale, zero, "u8")
    y = ops.integer_convolution(codes, w, scale * x_scale, offset, *geometry, 16)
    z = ops.through_convolution(x, y, x_scale, zero, w, scale * x_scale, *geometry, "u8")

    def product(x: Any) -> Any:
        padded = torch.nn.functional.pad(x, (0, 2, 1, 0))
        return torch.conv2d(padded, w * scale, None, (2, 1), 0, (1, 2), 2)

    torch.testing.assert_close(z, product(x.detach()))
    z.square().sum().backward()
    torch.testing.assert_close(x.grad, float_gradient(x.detach(), product))


@pytest.mark.parametrize("shape", [(1,), (3, 1), ()])
def test_scales_learn(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    codes, zero = torch.randint(-8, 8, (3, 5), dtype=torch.int8), torch.tensor(2, dtype=torch.int8)
    scale = torch.rand(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s: torch.ops.aino.dequantize(codes, s, zero, "i4"), (scale,))
    groups = torch.rand(3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda s: torch.ops.aino.dequantize_groups(codes, s, None, 1, 2, "i4"), (groups,)
    )
