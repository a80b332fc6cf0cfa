"""Which target a graph gets by where its tensors lie; on fake tensors, and on an emulated GPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx

from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.driver.dynamo import graph as native_graph
from aino_ir.driver.dynamo.graph import NativeGraph
from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.driver.dynamo.places import AUTO, calls_elsewhere, graph_device, main_device, moved, target_for
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.errors.cuda import NoCudaDevice
from aino_ir.runtime.cuda import tensors

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def traced(body: Any, *devices: str, shape: tuple[int, ...] = (3, 4)) -> GraphModule:
    """A graph over fake tensors, which may be on GPUs that are not there."""
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        inputs = [mode.from_tensor(torch.zeros(shape if d != "number" else ())) for d in devices]
        placed = [
            torch.empty_like(x, device=d) if d.startswith("cuda") else x
            for x, d in zip(inputs, devices, strict=True)
        ]
        return make_fx(body)(*placed)


def test_tensors_on_a_gpu_choose_the_target() -> None:
    graph = traced(lambda x: torch.relu(x) + 1, "cuda:0")
    assert graph_device(graph).type == "cuda"
    assert graph_device(traced(torch.relu, "cpu")) == CPU
    with emulated_gpu(EmulatedGpus([(9, 0), (8, 6)])):
        assert target_for(AUTO, GPU) == "cuda:sm_90a"
        assert target_for(AUTO, torch.device("cuda:1")) == "cuda:sm_86"
        assert target_for("c:avx2", GPU) == "c:avx2"
        assert target_for(AUTO, CPU) == "c"
        with pytest.raises(NoCudaDevice):
            target_for(AUTO, torch.device("cuda:2"))


def test_the_default_follows_the_tensors() -> None:
    with emulated_gpu():
        assert DynamoOptions().compile_arguments(GPU)["target"] == "cuda:sm_80"
    assert DynamoOptions().compile_arguments(CPU)["target"] == "c"
    assert DynamoOptions(target="reference").compile_arguments(CPU)["target"] == "reference"


def test_calls_across_devices_stay_with_torch() -> None:
    graph = traced(lambda x, y: torch.relu(x) + y.to("cuda:0"), "cuda:0", "cpu")
    (node,) = calls_elsewhere(graph)
    assert "to_copy" in str(node.target)
    assert not calls_elsewhere(traced(lambda x, y: x * y, "cuda:0", "number"))
    assert not calls_elsewhere(traced(lambda x, y: x * y, "cpu", "cpu"))


def test_numbers_become_tensors_of_the_device() -> None:
    x = torch.zeros(2)
    values = moved([x, 3, 2.5, torch.tensor(1.0)], CPU)
    assert values[0] is x
    assert [v.dtype for v in values[1:]] == [torch.int64, torch.float64, torch.float32]
    assert main_device([3, x]) == CPU


class OnGpu(torch.Tensor):
    """A tensor of the CPU that says it were on a GPU."""

    __module__ = "torch"

    @property
    def device(self) -> Any:  # type: ignore[override]
        return SimpleNamespace(type="cuda", index=0)


def test_a_graph_on_a_gpu_runs_there(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = traced(lambda x, y: (torch.softmax(x @ y, -1),), "cuda:0", "cuda:0", shape=(4, 4))
    with emulated_gpu() as gpus:

        def placed(value: torch.Tensor) -> Any:
            gpus.adopt(value.data_ptr(), value.nbytes)
            return value.as_subclass(OnGpu)

        def empty(shape: Any, dtype: Any, device: str) -> Any:
            return placed(torch.zeros(shape, dtype=dtype))

        stream = SimpleNamespace(cuda_stream=0)
        fake = SimpleNamespace(
            empty=empty, float32=torch.float32, cuda=SimpleNamespace(current_stream=lambda number: stream)
        )
        monkeypatch.setattr(tensors.TorchMaker, "module", staticmethod(lambda: fake))
        monkeypatch.setattr(native_graph, "moved", lambda values, device: values)
        native = NativeGraph(graph, [], DynamoOptions(cache=False))
        x, y = torch.randn(4, 4), torch.randn(4, 4)
        (got,) = native(placed(x), placed(y))
        gpus.finish()
        torch.testing.assert_close(got.as_subclass(torch.Tensor), torch.softmax(x @ y, -1))
        assert gpus.launched
