"""Batch norms in training, and all losses at once: what PyTorch makes of the same network by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.ops.call import Call
from aino_ir.ops.normalize import BatchNorm
from aino_ir.types import tensor

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from aino_ir.driver.distill import Trainee  # noqa: E402

RNG = np.random.default_rng(0)
X = [RNG.standard_normal((6, 3, 5, 5)).astype(np.float32) * 2 + 1 for _ in range(3)]
LABELS = [RNG.integers(0, 4, 6) for _ in X]


class Net(nn.Module):
    """Convolution, norm, product: logits, and features."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv, self.norm, self.last = nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: Any) -> Any:
        features = torch.relu(self.norm(self.conv(x))).mean((2, 3))
        return self.last(features), features


def sgd(parameters: list[Any]) -> Any:
    return torch.optim.SGD(parameters, lr=0.02)


def by_hand(student: Any, teacher: Any, weights: dict[str, float], temperature: float, epochs: int) -> None:
    """Train in PyTorch."""
    stepper = sgd(list(student.parameters()))
    student.train()
    for _ in range(epochs):
        for x, labels in zip(X, LABELS, strict=True):
            logits, features = student(torch.as_tensor(x))
            with torch.no_grad():
                wanted, wanted_features = teacher(torch.as_tensor(x))
            soft = F.softmax(wanted / temperature, -1)
            ours = F.log_softmax(logits / temperature, -1)
            loss = weights["logits"] * temperature**2 * F.kl_div(ours, soft, reduction="batchmean")
            loss = loss + weights["features"] * F.mse_loss(features, wanted_features)
            loss = loss + weights["labels"] * F.cross_entropy(logits, torch.as_tensor(labels))
            stepper.zero_grad()
            loss.backward()
            stepper.step()


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_a_student_with_norms_is_what_pytorch_makes_of_it(mode: str) -> None:
    """Loaded in evaluation mode, statistics are constants; in training mode, states."""
    student, teacher = Net(0), Net(1).eval()
    module = aino.load(student.train(mode == "train"), (torch.as_tensor(X[0]),))
    losses = {"logits": 0.7, "features": 0.5, "labels": 0.3}
    data = list(zip(X, LABELS, strict=True))
    taught = aino.distill(module, teacher, data, losses=losses, temperature=3.0, epochs=2, optimizer=sgd)
    by_hand(student, teacher, losses, 3.0, 2)
    student.train(mode == "train")
    if mode == "eval":
        (norm,) = [op for op in taught.walk() if isinstance(op, BatchNorm)]
        found = norm.mean.op.value, norm.variance.op.value  # type: ignore[union-attr]
        assert [c.name for c in found] == ["norm.running_mean", "norm.running_var"]
    else:
        by_name = {state.name: state.init for state in taught.main.states}
        found = by_name["norm.running_mean"], by_name["norm.running_var"]
        assert int(by_name["norm.num_batches_tracked"].array()) == 6
    np.testing.assert_allclose(found[0].array(), student.norm.running_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1].array(), student.norm.running_var, rtol=1e-4, atol=1e-5)
    got = aino.compile(taught, "reference").run(X[0])
    for ours, theirs in zip(got, student(torch.as_tensor(X[0])), strict=True):
        np.testing.assert_allclose(ours, theirs.detach(), rtol=1e-3, atol=1e-4)


def normed(batch: int, axis: int) -> Module:
    """Two norms that share one constant for their means."""
    b = Builder()
    shape = (batch, 4) if axis == 1 else (batch, 3, 4)
    y = b.input("x", tensor("f32", *shape))
    ones, zeros = b.constant(np.ones(4, np.float32), "ones"), b.constant(np.zeros(4, np.float32), "zeros")
    for _ in range(2):
        y = b.batch_norm(b.mul(y, b.constant(np.float32(3))), ones, zeros, zeros, ones, axis=axis)
    b.output("y", y)
    b.finish()
    return b.module


def statistics(module: Module) -> list[Any]:
    return [
        v.op.value.array()
        for op in module.walk()
        if isinstance(op, BatchNorm)
        for v in (op.mean, op.variance)  # type: ignore[union-attr]
    ]


def test_norms_that_share_constants_have_statistics_of_their_own() -> None:
    trainee = Trainee(normed(8, axis=2))
    x = RNG.standard_normal((8, 3, 4)).astype(np.float32)
    trainee.network(torch.as_tensor(x))
    mean, variance, second_mean, second_variance = statistics(trainee.result())
    flat = 3 * x.reshape(-1, 4)
    np.testing.assert_allclose(mean, 0.1 * flat.mean(0), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * flat.var(0, ddof=1), rtol=1e-4)
    np.testing.assert_allclose(second_mean, 0.0, atol=1e-6)
    np.testing.assert_allclose(second_variance, 0.9 + 0.9 * 24 / 23, rtol=1e-4)


def test_one_value_a_channel_tells_no_statistics() -> None:
    module = normed(1, axis=1)
    trainee = Trainee(module)
    x = RNG.standard_normal((1, 4)).astype(np.float32)
    seen = trainee.network(torch.as_tensor(x)).detach().numpy()
    np.testing.assert_allclose(seen, aino.compile(module, "reference").run(x)[0], rtol=1e-5)
    for old, new in zip(statistics(module), statistics(trainee.result()), strict=True):
        np.testing.assert_array_equal(old, new)


def test_norms_of_a_function_that_is_called_twice_have_one_history() -> None:
    module = Module("calls")
    b = Builder(module.add_function("main"))
    inner = Builder(module.add_function("normed"))
    x = inner.input("x", tensor("f32", 8, 4))
    ones, zeros = inner.constant(np.ones(4, np.float32)), inner.constant(np.zeros(4, np.float32))
    inner.output("y", inner.batch_norm(x, ones, zeros, zeros, ones))
    inner.finish()
    x, y = b.input("x", tensor("f32", 8, 4)), b.input("y", tensor("f32", 8, 4))
    for name, value in (("a", x), ("b", y)):
        b.output(name, b.op(Call, value, callee="normed", symbols=[], dims=[]).results[0])
    b.finish()
    trainee = Trainee(module)
    given = [RNG.standard_normal((8, 4)).astype(np.float32) + n for n in (1, 5)]
    trainee.network(*map(torch.as_tensor, given))
    mean, _ = statistics(trainee.result())
    np.testing.assert_allclose(mean, 0.09 * given[0].mean(0) + 0.1 * given[1].mean(0), rtol=1e-4)
