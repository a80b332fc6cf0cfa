"""Students that multiply bytes: a step sees the deployed bits, weights and biases move, the rest stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.graph import Module, Value
from aino_ir.ops.core import Constant
from aino_ir.passes.compression.calibration import run_watched
from aino_ir.short_sums import MOST, lane_sums
from aino_ir.types import tensor
from tests.passes.compression.models import HALF, SAME, cnn, mlp, samples, weights

torch = pytest.importorskip("torch")

from aino_ir.driver.distill import Trainee  # noqa: E402
from aino_ir.frontends.torch.export.functions.quantization import quantize  # noqa: E402
from aino_ir.frontends.torch.trained_products import (  # noqa: E402
    Product,
    TrainedConvolution,
    TrainedMatMul,
    shrunk,
)

Array = np.ndarray[Any, Any]


def mobile() -> Module:
    """A strided stem, a depthwise convolution and a pointwise one, with biases and a pool."""
    rng = np.random.default_rng(2)
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3, 9, 9))

    def conv(x: Value, name: str, shape: tuple[int, ...], **attrs: Any) -> Value:
        fan = int(np.prod(shape[1:]))
        w = b.constant(weights(rng, *shape, fan=fan), f"{name}.weight")
        return b.conv(x, w, b.constant(weights(rng, shape[0], fan=4)), **attrs)  # type: ignore[no-any-return]

    h = b.clip(conv(x, "stem", (8, 3, 3, 3), **{**SAME, "strides": (2, 2)}), min=0.0, max=6.0)
    h = b.max_pool(b.relu(conv(h, "depthwise", (8, 1, 3, 3), **SAME, groups=8)), **HALF)
    plain = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (0, 0), "pads_after": (0, 0)}
    b.output("y", b.reshape(conv(h, "pointwise", (5, 8, 1, 1), **plain), shape=(2, 20)))
    b.finish()
    return b.module


def student_of(build: Any, scheme: str, **options: Any) -> tuple[Module, list[Any]]:
    """A quantised student, and data: inputs, one array an item."""
    teacher = build()
    data = samples(teacher, 4)
    given = {"calibration": data} if scheme == "int8" else {}
    student = aino.quantize(teacher, scheme, guard=False, **given, **options)
    return student, [x for (x,) in data]


def codes_while_training(trainee: Trainee, x: Array) -> list[Array]:
    """What the network quantises, in order."""
    found = []

    class Watching(torch.fx.Interpreter):
        def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
            made = super().call_function(target, args, kwargs)
            if target is quantize:
                found.append(made.numpy())
            return made

    with torch.no_grad():
        Watching(trainee.network).run(torch.as_tensor(x))
    return found


def codes_deployed(module: Module, x: Array) -> list[Array]:
    """What the module quantises, in order."""
    found: list[Array] = []
    ops = [op for op in module.main.block if op.name == "quant.quantize"]
    watches = {op.id: lambda ev, op, operands, results: found.append(results[0]) for op in ops}
    run_watched(module.main, [x], watches)
    return found


def integers_of(module: Module) -> list[Array]:
    """The constants of integers."""
    ops = [op for op in module.walk() if isinstance(op, Constant)]
    return [op.value.array() for op in ops if op.value.dtype.name in ("i8", "i32")]


@pytest.mark.parametrize(("build", "scheme"), [(cnn, "int8"), (mobile, "int8"), (mlp, "int8-dynamic")])
def test_a_step_sees_the_integers_that_are_deployed(build: Any, scheme: str) -> None:
    student, data = student_of(build, scheme)
    trainee = Trainee(student)
    products = [op for op in student.walk() if op.name in ("quant.conv", "quant.matmul")]
    assert len(trainee.integers) == len(products) >= 2
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in trainee.trained().values():
            parameter += 0.2 * parameter.abs().mean() * torch.randn(parameter.shape)
            parameter += 0.05 * torch.randn(parameter.shape)
    trainee.stay_inside()
    taught = trainee.result()
    moved = [np.any(a != b) for a, b in zip(integers_of(student), integers_of(taught), strict=True)]
    assert moved and all(moved)
    exes = [aino.compile(taught, target, verify="off") for target in ("reference", "c")]
    for x in data:
        seen, deployed = codes_while_training(trainee, x), codes_deployed(taught, x)
        assert len(seen) == len(deployed) >= 1
        for a, b in zip(seen, deployed, strict=True):
            np.testing.assert_array_equal(a, b)
        y = trainee.network(torch.as_tensor(x)).detach().numpy()
        for exe in exes:
            np.testing.assert_array_equal(exe.run(x)[0], y)


def gap(module: Module, teacher: Module, data: list[Array]) -> float:
    """Mean squared difference of the outputs."""
    run = [aino.compile(m, "reference") for m in (module, teacher)]
    return float(np.mean([np.mean((run[0].run(x)[0] - run[1].run(x)[0]) ** 2) for x in data]))


def test_integer_students_come_nearer_and_keep_their_structure() -> None:
    teacher = cnn()
    student, data = student_of(cnn, "int8")
    spoilt = Trainee(student)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in spoilt.trained().values():
            parameter += 0.2 * parameter.abs().mean() * torch.randn(parameter.shape)
    spoilt.stay_inside()
    worse = spoilt.result()
    taught = aino.distill(worse, teacher, data, epochs=15, temperature=2.0)
    assert gap(taught, teacher, data) < 0.4 * gap(worse, teacher, data)
    assert [op.name for op in taught.walk()] == [op.name for op in student.walk()]
    for old, new in zip(student.walk(), taught.walk(), strict=True):
        assert [v.type for v in old.results] == [v.type for v in new.results]
        if isinstance(old, Constant) and isinstance(new, Constant) and not old.result.rank:
            np.testing.assert_array_equal(old.value.array(), new.value.array())  # scales, zero points


def test_gradients_are_those_of_the_float_product() -> None:
    """Where a layer's numbers lie on the grid, both are the same function."""
    torch.manual_seed(0)
    codes = torch.randint(-100, 100, (6, 3), dtype=torch.int8)
    scale, offset = torch.tensor([0.5, 0.25, 1.5]), torch.tensor([3, -20, 7], dtype=torch.int32)
    layer = TrainedMatMul(aino_const(codes), Product(codes, scale, offset, 5), aino_const(offset))
    x = torch.randint(0, 255, (2, 4, 6), dtype=torch.uint8)
    y = layer(x, ())
    g = torch.randn(y.shape)
    y.backward(g)
    w = (layer.weight.detach() / layer.scale).requires_grad_()
    o = torch.zeros(3, requires_grad=True)
    base = offset + 5 * codes.sum(0)
    wanted = ((x.float() - 5) @ w + base + o) * scale
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-2)
    wanted.backward(g)
    torch.testing.assert_close(layer.weight.grad * layer.scale, w.grad)
    torch.testing.assert_close(layer.bias.grad * layer.bias_unit, o.grad)

    codes = torch.randint(-100, 100, (4, 2, 3, 3), dtype=torch.int8)
    scale, offset = torch.rand(4, 1, 1) + 0.1, torch.arange(4, dtype=torch.int32)
    conv = TrainedConvolution(aino_const(codes), Product(codes, scale, offset, 7), aino_const(offset))
    x = torch.randint(0, 255, (2, 4, 7, 6), dtype=torch.uint8)
    geometry = ([2, 1], [1, 2], [1, 0], [0, 2], 2)
    y = conv(x, *geometry, ())
    g = torch.randn(y.shape)
    y.backward(g)
    w = (conv.weight.detach() / conv.scale).requires_grad_()
    padded = torch.nn.functional.pad(x.float() - 7, (0, 2, 1, 0))
    bias = (offset + 7 * codes.sum((1, 2, 3))).float()
    wanted = torch.conv2d(padded, w, bias, (2, 1), 0, (1, 2), 2) * scale
    torch.testing.assert_close(y, wanted, rtol=1e-4, atol=1e-2)
    wanted.backward(g)
    torch.testing.assert_close(conv.weight.grad * conv.scale, w.grad)


def aino_const(codes: Any) -> Any:
    from aino_ir.constants import Const

    return Const.of(codes.numpy(), "w")


@pytest.mark.parametrize(("build", "scheme"), [(cnn, "int8"), (mlp, "int8-dynamic")])
def test_gradients_reach_the_input_as_in_floats(build: Any, scheme: str) -> None:
    """Through pools of bytes, and through scales that the run finds."""
    student, data = student_of(build, scheme)
    found = []
    for module in (student, build()):
        x = torch.tensor(data[0], requires_grad=True)
        network = Trainee(module).network
        network(x).mul(torch.linspace(-1, 1, 10)).sum().backward()
        found.append(x.grad.reshape(-1))
    assert float(torch.cosine_similarity(*found, dim=0)) > 0.97


def test_weights_whose_sums_fit_16_bits_still_do() -> None:
    student, _ = student_of(cnn, "int8", short_sums=2)
    trainee = Trainee(student)
    fitting = list(trainee.integers.values())
    assert [made.depth >= 2 for made in fitting] == [True] * 3
    before = [made.weight.detach().clone() for made in fitting]
    with torch.no_grad():
        for made in fitting:
            made.weight.mul_(1.7)
    trainee.stay_inside()
    for made, old in zip(fitting, before, strict=True):
        codes = made.codes().numpy()
        channel = made.CHANNEL % codes.ndim
        assert lane_sums(codes, 1 - channel, made.depth).max() <= MOST
        assert not torch.equal(made.weight, old)
    codes = shrunk(torch.tensor([[100.4, 90.0, -3.0, 2.0], [1.0, 2.0, -3.0, 4.0]]), [1])
    assert torch.round(codes).clamp(min=0).sum(1).max() <= MOST
    assert codes[1].tolist() == [1.0, 2.0, -3.0, 4.0] and codes[0, 2] == -3.0


def test_zeros_of_pruned_products_stay() -> None:
    teacher = mlp()
    data = samples(teacher, 4)
    student = aino.prune(teacher, 0.8, scope="local", guard=False)
    student = aino.quantize(student, "int8", calibration=data, guard=False)
    taught = aino.distill(student, teacher, [x for (x,) in data])
    pairs = [
        (a, b) for a, b in zip(integers_of(student), integers_of(taught), strict=True) if a.dtype == np.int8
    ]
    assert len(pairs) == 2
    for old, new in pairs:
        assert np.mean(old == 0) > 0.7 and np.all(new[old == 0] == 0) and np.any(new != old)


def test_products_whose_scale_is_no_unit_of_their_weights_stay() -> None:
    """A scale for each row of the result, and a zero point without an offset."""
    torch.manual_seed(0)
    codes = torch.randint(-9, 9, (6, 3), dtype=torch.int8)
    rows = Product(codes, torch.rand(4, 1), None, 0)
    assert TrainedMatMul.unit_of(rows) is None
    assert TrainedMatMul.unit_of(Product(codes, torch.tensor(0.5), None, 3)) is None
    assert TrainedMatMul.unit_of(Product(codes, torch.tensor([1.0, 0.0, 1.0]), None, 0)) is None
    assert TrainedMatMul.unit_of(Product(codes, torch.tensor(0.5), None, 0)) is not None
