"""Where the tensors of a graph lie, and the target that follows from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from aino_ir.runtime.cuda.device import open_device

AUTO = "auto"
"""The target that follows from where tensors lie."""


def main_device(values: Iterable[Any]) -> torch.device:
    """The device where a graph runs: the first GPU among those of its tensors, else the CPU."""
    devices = [v.device for v in values if isinstance(v, torch.Tensor)]
    return next((d for d in devices if d.type != "cpu"), torch.device("cpu"))


def graph_device(graph: GraphModule) -> torch.device:
    """The device of a traced graph, by its fake tensors."""
    return main_device(v for node in graph.graph.nodes for v in _values(node))


def target_for(chosen: str, device: torch.device) -> str:
    """The target of a graph: the one that was chosen, else what its device is.

    Raises:
        NoCudaDriver, NoCudaDevice: there is no such device.
    """
    if chosen != AUTO:
        return chosen
    return f"cuda:{open_device(device.index or 0).isa}" if device.type == "cuda" else "c"


def calls_elsewhere(graph: GraphModule) -> dict[Node, str]:
    """Calls with tensors that are not on the graph's device -> why they stay with torch.

    Numbers as 0-d tensors of the CPU go with tensors of any device, as in torch.
    """
    device = graph_device(graph)
    found = {}
    for node in graph.graph.nodes:
        if node.op == "call_function":
            tensors = [*_values(node), *(v for n in node.all_input_nodes for v in _values(n))]
            others = {str(t.device) for t in tensors if _is_elsewhere(t, device)}
            if others:
                found[node] = f"it has tensors on {', '.join(sorted(others))}, the graph is on {device}"
    return found


def moved(values: Sequence[Any], device: torch.device) -> list[Any]:
    """Arguments of a call, those that are numbers or 0-d tensors of the CPU as tensors of a device."""
    return [_moved(v, device) for v in values]


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, torch.Tensor):
        return value if value.device == device or value.dim() else value.to(device)
    dtype = torch.float64 if isinstance(value, float) else torch.int64
    return torch.tensor(value, dtype=dtype, device=device)


def _is_elsewhere(tensor: torch.Tensor, device: torch.device) -> bool:
    same = (tensor.device.type, tensor.device.index or 0) == (device.type, device.index or 0)
    return not same and not (tensor.device.type == "cpu" and tensor.dim() == 0)


def _values(node: Node) -> Iterator[torch.Tensor]:
    """The tensors that a node stands for."""
    found = node.meta.get("val")
    for value in found if isinstance(found, (list, tuple)) else (found,):
        if isinstance(value, torch.Tensor):
            yield value
