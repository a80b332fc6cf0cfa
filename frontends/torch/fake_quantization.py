"""Integers that are trained: in a network written of a quantised module, weights move and stay on their grid.

Where a network decodes a constant of integers, a float parameter stands behind it.  Forward, the parameter is
quantised with the constant's own scale and zero point and decoded by the very operators that the written
module has, so that a step sees the values that are deployed.  Backward, rounding is passed straight through
(Bengio et al., 2013), and nothing where the grid ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx, nn

from aino_ir.constants import Const
from aino_ir.frontends.torch.export.functions.quantization import call, dequantize, dequantize_groups
from aino_ir.frontends.torch.operators import spread


@dataclass(frozen=True)
class Latent:
    """The parameter behind a constant of integers.

    Attributes:
        handle: the constant.
        parameter: f32, in the units of the decoded weights.
        scale, zero: of every element, or what broadcasts to that; None: zero points are 0.
    """

    handle: Const
    parameter: nn.Parameter
    scale: Tensor
    zero: Tensor | None

    def integers(self) -> np.ndarray[Any, Any]:
        """The constant that the parameter stands for now."""
        with torch.no_grad():
            codes = call("quantize", self.parameter, self.scale, self.zero, self.handle.dtype.name)
        return codes.cpu().numpy().astype(self.handle.dtype.numpy)


def on_grid(x: Tensor, scale: Tensor, zero: Tensor | None, stored: str) -> Tensor:
    """x quantised to AINO's dtype `stored` and decoded again; x has the gradient where it is in range."""
    y = call("dequantize", call("quantize", x, scale, zero, stored), scale, zero, stored)
    return call("straight_through", x, y, scale, zero, stored)


def train_integers(network: fx.GraphModule, handles: dict[str, Const]) -> dict[str, Latent]:
    """Put parameters behind the constants of integers that a network only decodes, all in one way.

    Args:
        network: changed in place; its own parameters stay.
        handles: path of a tensor -> its constant.

    Returns:
        Path of the new parameter -> what it stands for.
    """
    readers: dict[str, list[fx.Node]] = {}
    for node in network.graph.nodes:
        if node.op == "get_attr" and _is_integer(handles.get(str(node.target))):
            readers.setdefault(str(node.target), []).extend(node.users)
    out: dict[str, Latent] = {}
    for path, nodes in readers.items():
        ways = {_way(node, path) for node in nodes}
        way = ways.pop() if len(ways) == 1 else None
        if way is None:
            continue
        name = f"trained_integers_{len(out)}"
        out[name] = latent = _latent(network, handles[path], path, way)
        network.register_parameter(name, latent.parameter)
        for part, tensor in (("scale", latent.scale), ("zero", latent.zero)):
            if tensor is not None:
                network.register_buffer(f"{name}_{part}", tensor, persistent=False)
        for node in nodes:
            _replace(network, node, name, latent)
    network.graph.eliminate_dead_code()
    network.recompile()
    return out


DECODERS: tuple[Callable[..., Any], ...] = (dequantize, dequantize_groups)
"""Functions of a written module that read integers as numbers."""


@dataclass(frozen=True)
class _Way:
    """How integers are decoded: paths of scale and zero point ("" without), axis and size of groups."""

    scale: str
    zero: str
    axis: int | None
    group: int | None


def _way(node: fx.Node, path: str) -> _Way | None:
    """How a node decodes the integers at a path; None where it does something else."""
    if node.op != "call_function" or node.target not in DECODERS:
        return None
    given = inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments
    paths = []
    for part in ("x", "scale", "zero"):
        value = given.get(part)
        if value is not None and not (isinstance(value, fx.Node) and value.op == "get_attr"):
            return None
        paths.append("" if value is None else str(value.target))
    if paths[0] != path:
        return None
    return _Way(paths[1], paths[2], given.get("axis"), given.get("group"))


def _latent(network: fx.GraphModule, handle: Const, path: str, way: _Way) -> Latent:
    """The parameter, starting where the constant is."""
    codes = _tensor(network, path)
    scale = _tensor(network, way.scale)
    zero = _tensor(network, way.zero) if way.zero else None
    if way.axis is not None and way.group is not None:
        scale = spread(scale, codes, way.axis, way.group)
        zero = None if zero is None else spread(zero, codes, way.axis, way.group)
    start = call("dequantize", codes, scale.to(torch.float32), zero, handle.dtype.name)
    return Latent(handle, nn.Parameter(start), scale.clone(), None if zero is None else zero.clone())


def _replace(network: fx.GraphModule, node: fx.Node, name: str, latent: Latent) -> None:
    with network.graph.inserting_before(node):
        x, scale = network.graph.get_attr(name), network.graph.get_attr(f"{name}_scale")
        zero = None if latent.zero is None else network.graph.get_attr(f"{name}_zero")
        made = network.graph.call_function(on_grid, (x, scale, zero, latent.handle.dtype.name))
    node.replace_all_uses_with(made)
    network.graph.erase_node(node)


def _tensor(network: fx.GraphModule, path: str) -> Tensor:
    holder, _, leaf = path.rpartition(".")
    tensor = getattr(network.get_submodule(holder), leaf)
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _is_integer(handle: Const | None) -> bool:
    return handle is not None and handle.dtype.is_integer
