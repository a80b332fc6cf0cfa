"""`aino.distill`: the student learns, zeros and scales stay, and what cannot be learnt from is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.errors.distill import DistillDataWrong, LossNotFinite, NothingToTrain
from aino_ir.errors.usage import OptionTooSmall, UnknownOption
from aino_ir.graph import Module
from aino_ir.ops.core import Constant
from aino_ir.passes.compression.weights import weights
from aino_ir.types import tensor
from tests.passes.compression.networks import mlp

torch = pytest.importorskip("torch")

from aino_ir.driver.distill import Trainee  # noqa: E402
from aino_ir.frontends.torch.fake_quantization import on_grid  # noqa: E402

SIZES = (16, 32, 5)
DATA = [np.random.default_rng(n).standard_normal((64, 16)).astype(np.float32) for n in range(4)]


def outputs(module: Module, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.asarray(aino.compile(module, "reference").run(x)[0])


def distance(a: Module, b: Module) -> float:
    """Mean squared difference of the distributions of both."""

    def softmax(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        e = np.exp(y - y.max(1, keepdims=True))
        return np.asarray(e / e.sum(1, keepdims=True))

    return float(np.mean([np.mean((softmax(outputs(a, x)) - softmax(outputs(b, x))) ** 2) for x in DATA]))


def test_a_pruned_student_comes_nearer_and_keeps_its_zeros() -> None:
    teacher = mlp(SIZES)
    student = aino.prune(teacher, 0.7, scope="local", guard=False)
    taught = aino.distill(student, teacher, DATA, epochs=12)
    assert distance(taught, teacher) < 0.7 * distance(student, teacher)
    for old, new in zip(weights(student), weights(taught), strict=True):
        before, after = old.handle.array(), new.handle.array()
        assert np.all(after[before == 0] == 0) and np.any(after != before)
        assert old.handle.name == new.handle.name


def test_shapes_of_a_smaller_student_stay() -> None:
    teacher = mlp(SIZES)
    student = aino.prune(teacher, 0.5, structure="channel", guard=False)
    taught = aino.distill(student, aino.to_torch(teacher), DATA, losses={"logits": 1.0}, epochs=6)
    assert [v.type for v in taught.main.outputs] == [v.type for v in student.main.outputs]
    assert [w.handle.shape for w in weights(taught)] == [(16, 16), (16, 5)]
    assert distance(taught, teacher) < distance(student, teacher)


def test_labels_alone_need_no_teacher_outputs() -> None:
    student = mlp(SIZES)
    labelled = [(x, x[:, :5].argmax(1)) for x in DATA]

    def right(module: Module) -> float:
        return float(np.mean([np.mean(outputs(module, x).argmax(1) == y) for x, y in labelled]))

    taught = aino.distill(student, student, labelled, losses={"labels": 1.0}, epochs=30, optimizer=fast)
    assert right(taught) > right(student) + 0.3


def test_features_are_the_outputs_after_the_first() -> None:
    def two(scale: float) -> Module:
        b = Builder()
        x = b.input("x", tensor("f32", 64, 16))
        hidden = b.matmul(x, b.constant(np.full((16, 4), scale, np.float32), "w"))
        b.output("y", b.matmul(hidden, b.constant(np.eye(4, dtype=np.float32), "v")))
        b.output("hidden", hidden)
        return b.module

    def sgd(parameters: list[Any]) -> Any:
        return torch.optim.SGD(parameters, lr=0.05)

    taught = aino.distill(two(0.1), two(0.3), DATA, losses={"features": 1.0}, epochs=50, optimizer=sgd)
    found = {w.name: w.handle.array() for w in weights(taught)}
    np.testing.assert_allclose(found["w"], 0.3, atol=0.02)
    with pytest.raises(DistillDataWrong, match="after the first"):
        aino.distill(mlp(SIZES), mlp(SIZES), DATA, losses={"features": 1.0})


def constants(module: Module, kind: str) -> list[Const]:
    """Constants that the ops of one kind read: first operands, then the others."""
    ops = [op for op in module.walk() if op.name.startswith(kind)]
    first = [op.operands[0] for op in ops]
    values = first + [v for op in ops for v in op.operands[1:]]
    return [v.op.value for v in values if v is not None and isinstance(v.op, Constant)]


def fast(parameters: list[Any]) -> Any:
    return torch.optim.Adam(parameters, lr=5e-3)


@pytest.mark.parametrize("symmetric", [True, False])
def test_integers_are_trained_and_scales_stay(symmetric: bool) -> None:
    teacher = mlp((16, 32, 5))
    student = aino.quantize(teacher, "int4-weight", guard=False, group=16, symmetric=symmetric)
    taught = aino.distill(student, teacher, DATA, epochs=15)
    old, new = constants(student, "quant.dequantize"), constants(taught, "quant.dequantize")
    assert [(c.dtype, c.shape, c.name) for c in old] == [(c.dtype, c.shape, c.name) for c in new]
    moved = [bool(np.any(a.array() != b.array())) for a, b in zip(old, new, strict=True)]
    assert moved[0] and not any(moved[2:]) and len(moved) == (4 if symmetric else 6)
    assert distance(taught, teacher) < 0.8 * distance(student, teacher)


@pytest.mark.parametrize(
    ("scheme", "options"),
    [("int8-weight", {}), ("int4-weight", {"group": 8}), ("int4-weight", {"group": 8, "symmetric": False})],
)
def test_a_step_sees_the_bits_that_are_deployed(scheme: str, options: dict[str, Any]) -> None:
    """Rows of the identity pick weights, so that there is nothing to round in a product."""
    b = Builder()
    rows = b.input("x", tensor("f32", 16, 16))
    array = np.random.default_rng(0).standard_normal((16, 24)).astype(np.float32)
    b.output("y", b.matmul(rows, b.constant(array, "w")))
    trainee = Trainee(aino.quantize(b.module, scheme, guard=False, **options))
    (made,) = trainee.integers
    path = f"{made}.weight"
    with torch.no_grad():
        parameter = trainee.network.get_parameter(path)
        parameter += 0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    eye = np.eye(16, dtype=np.float32)
    seen = trainee.network(torch.as_tensor(eye)).detach().numpy()
    assert np.any(seen != array)
    module = trainee.result()
    for target in ("reference", "c"):
        np.testing.assert_array_equal(aino.compile(module, target).run(eye)[0], seen)


def test_gradients_pass_rounding_but_not_the_end_of_the_grid() -> None:
    x = torch.tensor([0.24, 0.9, -3.0, 99.0], requires_grad=True)
    y = on_grid(x, torch.tensor(0.5), torch.tensor(1, dtype=torch.int8), "i4")
    assert y.tolist() == [0.0, 1.0, -3.0, 3.0]
    y.sum().backward()
    assert x.grad is not None and x.grad.tolist() == [1.0, 1.0, 1.0, 0.0]


def test_zeros_of_pruned_integers_stay() -> None:
    teacher = mlp(SIZES)
    student = aino.prune(teacher, 0.8, scope="local", guard=False)
    student = aino.quantize(student, "int4-weight", guard=False, group=8)
    taught = aino.distill(student, teacher, DATA, epochs=4, optimizer=fast)
    pairs = zip(
        constants(student, "quant.dequantize")[:2], constants(taught, "quant.dequantize"), strict=False
    )
    for old, new in pairs:
        assert np.all(new.array()[old.array() == 0] == 0) and np.any(new.array() != old.array())


def test_equal_constants_that_train_as_one_are_one_in_the_result() -> None:
    b = Builder()
    array = np.random.default_rng(0).standard_normal((16, 16)).astype(np.float32)
    first, second = Const.of(array, "first"), Const.of(array.copy(), "second")
    assert first.digest == second.digest  # known, so that they are written as one tensor
    y = b.relu(b.matmul(b.input("x", tensor("f32", 64, 16)), b.constant(first)))
    b.output("y", b.matmul(y, b.constant(second)))
    trainee = Trainee(b.module)
    with torch.no_grad():
        for parameter in trainee.trained().values():
            parameter += 1.0
    x = DATA[0]
    seen = trainee.network(torch.as_tensor(x)).detach().numpy()
    np.testing.assert_allclose(outputs(trainee.result(), x), seen, rtol=1e-4, atol=1e-4)


def test_the_student_itself_is_left_alone() -> None:
    student = mlp(SIZES)
    before = [w.handle.array().copy() for w in weights(student)]
    aino.distill(student, mlp(SIZES), DATA)
    for w, array in zip(weights(student), before, strict=True):
        np.testing.assert_array_equal(w.handle.array(), array)


@pytest.mark.parametrize(
    ("data", "given", "error"),
    [
        ([], {}, DistillDataWrong),
        ([np.full((64, 16), np.nan, np.float32)], {}, DistillDataWrong),
        (DATA, {"losses": {"labels": 1.0}}, DistillDataWrong),
        (DATA, {"losses": {"attention": 1.0}}, UnknownOption),
        (DATA, {"losses": {}}, UnknownOption),
        (DATA, {"losses": {"logits": -1.0}}, OptionTooSmall),
        (DATA, {"temperature": 0.0}, OptionTooSmall),
        (DATA, {"epochs": 0}, OptionTooSmall),
    ],
)
def test_bad_calls_are_refused(data: list[Any], given: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        aino.distill(mlp(SIZES), mlp(SIZES), data, **given)


def test_teachers_of_other_shapes_are_refused() -> None:
    with pytest.raises(DistillDataWrong, match="shapes"):
        aino.distill(mlp(SIZES), mlp((16, 32, 6)), DATA)


def test_a_student_without_weights_has_nothing_to_learn() -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 64, 16))))
    with pytest.raises(NothingToTrain):
        aino.distill(b.module, mlp(SIZES), DATA)


def test_divergence_is_an_error() -> None:
    def wild(parameters: list[Any]) -> Any:
        return torch.optim.SGD(parameters, lr=1e30)

    with pytest.raises(LossNotFinite):
        aino.distill(mlp(SIZES), mlp(SIZES, 64), [x * 3 for x in DATA], epochs=5, optimizer=wild)
