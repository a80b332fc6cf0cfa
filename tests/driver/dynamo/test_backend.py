"""`torch.compile(backend="aino")`: inference, training, dynamic shapes, what stays with torch."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from aino_ir.driver.dynamo import DynamoOptions, backend, partition
from aino_ir.driver.dynamo.graph import NativeGraph
from aino_ir.errors.run import InputMismatch
from aino_ir.errors.torch import AtenUnsupported, UnknownDynamoOption, WrongDynamoOption
from aino_ir.runtime.raw import RawCall
from tests.driver.dynamo.tools import OPTIONS, by_aino, close

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4)).eval()


# -- inference ------------------------------------------------------------------------------------------


def test_a_network_is_one_native_graph(compiled: list[Any]) -> None:
    model, x = mlp(), torch.randn(3, 16)
    f = by_aino(model)
    with torch.no_grad():
        for _ in range(3):
            close(f(x), model(x))
    assert len(compiled) == 1
    names = [op.name for op in compiled[0].main.block]
    assert names.count("core.constant") == 4, "parameters are constants in inference"


def test_parameters_changed_in_place_are_seen(compiled: list[Any]) -> None:
    model, x = mlp(), torch.randn(3, 16)
    f = by_aino(model)
    with torch.no_grad():
        f(x)
        model[0].weight.mul_(2)
        close(f(x), model(x))
        model.load_state_dict({k: v + 1 for k, v in model.state_dict().items()})
        close(f(x), model(x))
        f(x)
    assert len(compiled) == 3


def test_parameters_that_keep_changing_become_inputs(compiled: list[Any]) -> None:
    """Evaluating while training: packed twice, then compiled once more, and never again."""
    model, x = mlp(), torch.randn(3, 16)
    f = by_aino(model)
    with torch.no_grad():
        for _ in range(6):
            close(f(x), model(x))
            for parameter in model.parameters():
                parameter.add_(0.125)
    assert len(compiled) == 3
    assert not any(op.name == "core.constant" for op in compiled[-1].main.block)


def test_parameters_need_not_be_packed(compiled: list[Any]) -> None:
    """What is written through `.data` is seen where parameters are inputs; exchanged storage always is."""
    model, x = mlp(), torch.randn(3, 16)
    f = by_aino(model, options={"pack_parameters": False})
    with torch.no_grad():
        close(f(x), model(x))
        model[0].weight.data.mul_(3)
        close(f(x), model(x))
    assert len(compiled) == 1
    packed = by_aino(model)
    with torch.no_grad():
        close(packed(x), model(x))
        model[0].weight.data = torch.randn(32, 16)
        close(packed(x), model(x))


def test_exchanged_parameters_are_seen_wherever_they_lie(compiled: list[Any]) -> None:
    """Memory of a parameter that is gone may be given to the next one, whose version is the same."""
    model, x = nn.Linear(512, 256, bias=False), torch.randn(3, 512)
    f = by_aino(model)
    with torch.no_grad():
        for _ in range(3):
            first = model.weight.data_ptr()
            close(f(x), model(x))
            del model.weight
            for _ in range(8):
                model.weight = nn.Parameter(torch.randn(256, 512), requires_grad=False)
                if model.weight.data_ptr() == first:
                    break
                del model.weight
            else:
                model.weight = nn.Parameter(torch.randn(256, 512), requires_grad=False)
        close(f(x), model(x))


def test_memory_is_shared_in_both_directions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code reads and writes torch's own memory."""
    given: list[tuple[list[int], list[int]]] = []
    run = RawCall.run

    def watched(self: RawCall, inputs: list[int], extents: Any, outputs: list[int]) -> None:
        given.append((list(inputs), list(outputs)))
        run(self, inputs, extents, outputs)

    monkeypatch.setattr(RawCall, "run", watched)
    f = by_aino(lambda x, y: (x + y, x * y))
    x, y = torch.randn(3, 4), torch.randn(3, 4)
    results = f(x, y)
    assert given == [([x.data_ptr(), y.data_ptr()], [r.data_ptr() for r in results])]
    close(f(x.t(), y.t())[0], (x + y).t())
    f(x.t(), y.t())
    assert given[-1][0] != [x.data_ptr(), y.data_ptr()], "what lies in another order is copied"


def test_calls_that_do_not_fit_are_refused() -> None:
    """torch's guards keep such calls away; who gets past them gets an error, no wild read."""
    x = torch.randn(3, 4)
    graph = native_graph(lambda x: [x * 2], x)
    close(graph(x)[0], x * 2)
    for wrong in (torch.randn(3, 5), torch.zeros(3, 4, dtype=torch.float64)):
        with pytest.raises(InputMismatch):
            graph(wrong)
    assert graph(torch.randn(4, 3).t())[0].shape == (3, 4)
    assert graph(torch.randn(13)[1:].reshape(3, 4))[0].shape == (3, 4)


def native_graph(f: Any, *inputs: torch.Tensor) -> NativeGraph:
    """A function as a native graph, without Dynamo."""
    return NativeGraph(make_fx(f, tracing_mode="fake")(*inputs), (), DynamoOptions.of(OPTIONS))


def test_empty_and_scalar_tensors() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([x, x]) + y, x.sum() * y

    for rows in (0, 2):
        got, want = (
            by_aino(f)(torch.ones(rows, 3), torch.tensor(2.0)),
            f(torch.ones(rows, 3), torch.tensor(2.0)),
        )
        for a, b in zip(got, want, strict=True):
            close(a, b)


def test_tensors_made_of_numbers_are_constants(compiled: list[Any]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return x[torch.tensor([2, 0])] * torch.tensor(1.5) + torch.tensor([[0.5], [-1.0]])

    x = torch.randn(3, 4)
    close(by_aino(f)(x), f(x))
    assert len(compiled) == 1 and not partition._reported


def test_lengths_do_not_recompile(compiled: list[Any]) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(x * 2, -1) + x.mean(0)

    g = by_aino(f, dynamic=True)
    for rows in (3, 5, 1000, 7):
        x = torch.randn(rows, 9)
        close(g(x), f(x))
    assert len(compiled) == 1


def test_numbers_come_and_go(compiled: list[Any]) -> None:
    """Integers are inputs of a graph where no extent tells them, and results that torch goes on with."""

    def f(x: torch.Tensor, n: int) -> tuple[torch.Tensor, int]:
        return x.reshape(-1) * n + x.shape[0], x.shape[0] * 2 + n

    g = by_aino(f, dynamic=True)
    for rows, n in ((3, 4), (5, 6), (6, 9)):
        x = torch.randn(rows, 4)
        got, want = g(x, n), f(x, n)
        close(got[0], want[0])
        assert got[1] == want[1]
    assert len(compiled) <= 2


def test_integers_of_both_signs() -> None:
    g = by_aino(lambda x, n: x * n - n, dynamic=True)
    x = torch.randn(3, 4)
    for n in (5, -7, 9, -2):
        close(g(x, n), x * n - n)


def test_floats_out_of_data_do_not_cut_a_graph(compiled: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._dynamo.config, "capture_scalar_outputs", True)

    def f(x: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
        factor = s.item()
        return torch.relu(x * factor) + factor / 2

    g = by_aino(f, fullgraph=True)
    for value in (2.5, -3.0):
        x, s = torch.randn(3, 4), torch.tensor(value)
        close(g(x, s), f(x, s))
    assert len(compiled) == 1


def test_floats_cross_between_torch_and_native_parts(scalars: None) -> None:
    """torch finds the number out; the part behind takes it as an input."""

    def f(x: torch.Tensor) -> torch.Tensor:
        factor = torch.linalg.eigvals(x @ x.T).real.sum().item()
        return torch.relu(x * factor) + factor

    g = by_aino(f, fullgraph=True)
    for _ in range(2):
        x = torch.randn(4, 4)
        close(g(x), f(x))


def test_lengths_are_noticed_by_themselves(compiled: list[Any]) -> None:
    """Without `dynamic`: the first length is fixed, the second makes it a symbol, then nothing is compiled."""
    model = mlp()
    f = by_aino(model)
    with torch.no_grad():
        for rows in (3, 5, 8, 13, 21):
            x = torch.randn(rows, 16)
            close(f(x), model(x))
    assert len(compiled) == 2


def test_changed_inputs_and_aliases() -> None:
    def f(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x.add_(1)
        y = x * 2
        return y.view(-1), y.t()

    a, b = torch.ones(3, 4), torch.ones(3, 4)
    got, want = by_aino(f)(a), f(b)
    close(a, b)
    for x, y in zip(got, want, strict=True):
        close(x, y)
    assert got[0].data_ptr() == got[1].data_ptr()


def test_results_are_laid_out_as_torch_says() -> None:
    conv = nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last).eval()
    x = torch.randn(1, 3, 6, 7).to(memory_format=torch.channels_last)
    with torch.no_grad():
        got, want = by_aino(conv)(x), conv(x)
    close(got, want)
    assert got.stride() == want.stride()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.int64, torch.bool])
def test_other_dtypes(dtype: torch.dtype) -> None:
    x = (torch.randn(3, 5) * 4).to(dtype)

    def f(x: torch.Tensor) -> torch.Tensor:
        return torch.where(x > 0, x, x.logical_not().to(x.dtype)).sum(0)

    got, want = by_aino(f)(x), f(x)
    assert got.dtype is want.dtype
    torch.testing.assert_close(got, want)


def test_nothing_to_compute() -> None:
    x = torch.randn(2, 3)
    same, nothing, three = by_aino(lambda x: (x, None, 3))(x)
    assert torch.equal(same, x) and nothing is None and three == 3


# -- what stays with torch --------------------------------------------------------------------------------


def with_a_guest(x: torch.Tensor) -> torch.Tensor:
    """Two native parts around an operator that AINO does not have."""
    y = torch.relu(x) * 3
    values = torch.linalg.eigvals(y @ y.T).real.sum()
    return torch.tanh(y) + values


def test_an_operator_without_a_lowering_stays_with_torch(
    compiled: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    x = torch.randn(4, 4)
    with caplog.at_level(logging.WARNING, "aino"):
        close(by_aino(with_a_guest)(x), with_a_guest(x))
        torch._dynamo.reset()
        close(by_aino(with_a_guest)(x + 1), with_a_guest(x + 1))
    assert compiled, "the rest is native"
    reports = [r.getMessage() for r in caplog.records if "linalg_eig" in r.getMessage()]
    assert len(reports) == 1 and "stays with torch" in reports[0]


def test_strict_refuses_what_would_stay_with_torch() -> None:
    with pytest.raises(torch._dynamo.exc.BackendCompilerFailed, match="linalg_eig") as caught:
        by_aino(with_a_guest, options={"strict": True})(torch.randn(4, 4))
    assert isinstance(caught.value.inner_exception, AtenUnsupported)


def test_random_numbers_are_those_of_eager() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return F.dropout(torch.relu(x), 0.5, True) * torch.rand_like(x)

    x = torch.randn(5, 16)
    torch.manual_seed(3)
    got = by_aino(f)(x)
    torch.manual_seed(3)
    assert torch.equal(got, f(x))


def test_graph_breaks_are_fine() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x * 2
        torch._dynamo.graph_break()
        return y.sum(0)

    x = torch.randn(3, 4)
    close(by_aino(f)(x), f(x))


# -- training -----------------------------------------------------------------------------------------------


class Network(nn.Module):
    """A convolution, a norm, a pool, attention and an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.norm = nn.BatchNorm2d(8)
        self.embed = nn.Embedding(11, 16)
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(8 * 4 + 16, 5)

    def forward(self, image: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        seen = F.max_pool2d(F.gelu(self.norm(self.conv(image))), 2).flatten(1)
        heard = self.embed(words)
        heard = self.attend(heard, heard, heard, need_weights=False)[0].mean(1)
        return self.head(torch.cat([seen, heard], 1))


def steps(model: Callable[..., torch.Tensor], parameters: Any, count: int) -> list[float]:
    optimizer = torch.optim.SGD(parameters, 0.1)
    rng = torch.Generator().manual_seed(1)
    losses = []
    for _ in range(count):
        image = torch.randn(4, 3, 8, 8, generator=rng)
        words = torch.randint(0, 11, (4, 6), generator=rng)
        loss = F.cross_entropy(model(image, words), torch.arange(4))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.slow
def test_training_follows_eager(compiled: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    model = Network()
    twin = copy.deepcopy(model)
    with caplog.at_level(logging.WARNING, "aino"):
        got = steps(by_aino(model), model.parameters(), 12)
    want = steps(twin, twin.parameters(), 12)
    assert got == pytest.approx(want, rel=1e-4)
    for (name, a), b in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4, msg=lambda text, n=name: f"{n}: {text}")
    assert len(compiled) == 2, "one graph forward, one backward"
    assert not caplog.records, "nothing stays with torch"


GEOMETRIES = [
    {"stride": 1},
    {"stride": 2, "padding": 1},
    {"padding": 1, "dilation": 2},
    {"stride": 2, "padding": 1, "groups": 2},
    {"stride": 3, "groups": 4},
]


@pytest.mark.slow
@pytest.mark.parametrize("transposed", [False, True])
def test_gradients_of_convolutions(transposed: bool) -> None:
    function = F.conv_transpose2d if transposed else F.conv2d

    def f(x: torch.Tensor, *weights: torch.Tensor) -> torch.Tensor:
        pairs = zip(weights, GEOMETRIES, strict=True)
        return sum((function(x, w, **g).square().sum() for w, g in pairs), start=torch.zeros(()))

    shapes = [(4, 4 // g.get("groups", 1), 3, 3) for g in GEOMETRIES]
    given = [torch.randn(2, 4, 9, 10), *(torch.randn(s) for s in shapes)]
    gradients = []
    for g in (f, by_aino(f)):
        leaves = [t.clone().requires_grad_() for t in given]
        g(*leaves).backward()
        gradients.append([t.grad for t in leaves])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-2)


def test_gradients_of_pools_and_attention() -> None:
    def f(x: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        pools = F.max_pool2d(x, 3, 2, 1).square().sum() + F.avg_pool2d(x, 2).square().sum()
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return pools + seen.square().sum()

    given = [torch.randn(2, 3, 8, 9), *(torch.randn(2, 3, 5, 8) for _ in range(3))]
    gradients = []
    for g in (f, by_aino(f)):
        leaves = [t.clone().requires_grad_() for t in given]
        g(*leaves).backward()
        gradients.append([t.grad for t in leaves])
    for a, b in zip(*gradients, strict=True):
        close(a, b)


# -- options ------------------------------------------------------------------------------------------------


def test_options_are_typed() -> None:
    assert DynamoOptions.of({"target": "reference"}).target == "reference"
    with pytest.raises(UnknownDynamoOption, match="no option 'max_autotune'"):
        DynamoOptions.of({"max_autotune": True})
    with pytest.raises(WrongDynamoOption, match="must be int or NoneType, got 'two'"):
        DynamoOptions.of({"threads": "two"})
    with pytest.raises(WrongDynamoOption, match="must be int, got True"):
        DynamoOptions.of({"level": True})
    with pytest.raises(Exception, match="no option 'speed'"):
        by_aino(mlp(), options={"speed": 11})(torch.randn(1, 16))


def test_the_reference_target_runs_graphs_too() -> None:
    model, x = mlp(), torch.randn(3, 16)
    with torch.no_grad():
        close(torch.compile(model, backend=backend, options={"target": "reference"})(x), model(x))


def test_tensors_made_inside_are_constants_in_training(
    compiled: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        places = torch.tensor([2, 0, 2])
        y = x.clone()
        y[:, 1] = 0
        return y[places] * torch.tensor(1.5)

    x = torch.randn(3, 4, requires_grad=True)
    with caplog.at_level(logging.WARNING, "aino"):
        got = by_aino(f, fullgraph=True)(x)
    (gradient,) = torch.autograd.grad(got.square().sum(), x)
    (wanted,) = torch.autograd.grad(f(x).square().sum(), x)
    assert torch.equal(got, f(x)) and torch.allclose(gradient, wanted)
    assert len(compiled) == 2 and not [r for r in caplog.records if r.name == "aino"]
