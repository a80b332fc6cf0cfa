"""Integers that are trained: in a network written of a quantised module, weights move and stay on their grid.

Where a network decodes a constant of integers, or multiplies it with bytes, a float parameter stands behind
it.  Forward, the parameter is quantised with the constant's own scale and zero point and goes through the
very operators that the written module has, so that a step sees the values that are deployed.  Backward,
rounding is passed straight through (Bengio et al., 2013), and nothing where the grid ends.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from aino_ir.constants import Const
from aino_ir.frontends.torch.export.functions.quantization import (
    call,
    dequantize,
    dequantize_groups,
    quant_conv,
    quant_matmul,
)
from aino_ir.frontends.torch.operators import spread
from aino_ir.frontends.torch.trained_products import Product, TrainedConvolution, TrainedMatMul
from aino_ir.frontends.torch.trained_weights import TrainedWeights


class TrainedDecoded(TrainedWeights):
    """Weights that are decoded: as they are deployed."""

    def forward(self) -> Tensor:
        """The weights on their grid."""
        return on_grid(self.weight, self.scale, self.zero, self.stored)


def on_grid(x: Tensor, scale: Tensor, zero: Tensor | None, stored: str) -> Tensor:
    """x quantised to AINO's dtype `stored` and decoded again; x has the gradient where it is in range."""
    y = call("dequantize", call("quantize", x, scale, zero, stored), scale, zero, stored)
    return call("straight_through", x, y, scale, zero, scale, stored)


def train_integers(network: fx.GraphModule, handles: dict[str, Const]) -> dict[str, TrainedWeights]:
    """Put parameters behind the constants of integers that a network reads as weights, all in one way.

    Args:
        network: changed in place; its own parameters stay.
        handles: path of a tensor -> its constant.

    Returns:
        Path of each module that was put in -> the module; its parameter is `weight`.
    """
    readers = readers_of(network)
    out: dict[str, TrainedWeights] = {}
    for path, nodes in readers.items():
        handle = handles.get(path)
        if handle is None or not handle.dtype.is_integer:
            continue
        ways = {way_of(node, path) for node in nodes}
        way = ways.pop() if len(ways) == 1 else None
        made = None if way is None else way.made(network, handles, readers)
        if way is None or made is None:
            continue
        name = f"trained_integers_{len(out)}"
        network.add_submodule(name, made)
        out[name] = made
        for node in nodes:
            with network.graph.inserting_before(node):
                new = network.graph.call_module(name, way.arguments(node))
            node.replace_all_uses_with(new)
            network.graph.erase_node(node)
    network.graph.eliminate_dead_code()
    network.recompile()
    return out


Readers = dict[str, list[fx.Node]]
"""Path of a tensor -> the nodes that read it, in order."""


def readers_of(network: fx.GraphModule) -> Readers:
    """Who reads the tensors of a network."""
    found: Readers = {}
    for node in network.graph.nodes:
        if node.op == "get_attr":
            found.setdefault(str(node.target), []).extend(node.users)
    return found


@dataclass(frozen=True)
class Decoding:
    """Integers that are decoded: paths of scale and zero point ("" without), axis and size of groups."""

    path: str
    scale: str
    zero: str
    axis: int | None
    group: int | None

    def made(self, network: fx.GraphModule, handles: dict[str, Const], readers: Readers) -> TrainedWeights:
        """The module, starting where the constant is."""
        handle, codes = handles[self.path], tensor_at(network, self.path)
        scale = tensor_at(network, self.scale)
        zero = tensor_at(network, self.zero) if self.zero else None
        if self.axis is not None and self.group is not None:
            scale = spread(scale, codes, self.axis, self.group)
            zero = None if zero is None else spread(zero, codes, self.axis, self.group)
        return TrainedDecoded(handle, codes, scale, zero)

    def arguments(self, node: fx.Node) -> tuple[Any, ...]:
        """What the module is called with in place of a node."""
        return ()


@dataclass(frozen=True)
class Multiplication:
    """Integers that bytes are multiplied with: paths of scale and offset ("" without), the bytes' zero."""

    kind: type[TrainedMatMul] | type[TrainedConvolution]
    path: str
    scale: str
    offset: str
    zero: int

    def made(
        self, network: fx.GraphModule, handles: dict[str, Const], readers: Readers
    ) -> TrainedWeights | None:
        """The module; None where the scale is no unit of the weights, or others read the offset."""
        if self.offset and any(node not in readers[self.path] for node in readers[self.offset]):
            return None
        offset = tensor_at(network, self.offset) if self.offset else None
        codes, scale = tensor_at(network, self.path), tensor_at(network, self.scale)
        product = Product(codes, scale, offset, self.zero)
        if self.kind.unit_of(product) is None:
            return None
        return self.kind(handles[self.path], product, handles.get(self.offset))

    def arguments(self, node: fx.Node) -> tuple[Any, ...]:
        """What the module is called with in place of a node."""
        given = given_to(node)
        return tuple(given[name] for name in self.kind.CALLED_WITH)


Way = Decoding | Multiplication

DECODERS: tuple[Callable[..., Any], ...] = (dequantize, dequantize_groups)
"""Functions of a written module that read integers as numbers."""

MULTIPLIERS: dict[Callable[..., Any], tuple[str, type[TrainedMatMul] | type[TrainedConvolution]]] = {
    quant_matmul: ("rhs", TrainedMatMul),
    quant_conv: ("w", TrainedConvolution),
}
"""Functions of a written module that multiply integers: which of them are weights, and what trains them."""


def way_of(node: fx.Node, path: str) -> Way | None:
    """How a node reads the integers at a path; None where they are no weights to it."""
    if node.op != "call_function":
        return None
    if node.target in DECODERS:
        paths = paths_of(node, ("x", "scale", "zero"))
        given = given_to(node)
        if paths is None or paths[0] != path:
            return None
        return Decoding(*paths, given.get("axis"), given.get("group"))
    if node.target in MULTIPLIERS:
        weights, kind = MULTIPLIERS[node.target]
        paths = paths_of(node, (weights, "scale", "offset"))
        if paths is None or paths[0] != path or path in paths[1:]:
            return None
        return Multiplication(kind, *paths, given_to(node)["zero"])
    return None


def given_to(node: fx.Node) -> dict[str, Any]:
    """The arguments of a call by their names."""
    assert callable(node.target)
    return inspect.signature(node.target).bind(*node.args, **node.kwargs).arguments


def paths_of(node: fx.Node, parts: tuple[str, str, str]) -> tuple[str, str, str] | None:
    """Paths of three arguments that are tensors of the module, "" for one that is absent."""
    given = given_to(node)
    paths = []
    for part in parts:
        value = given.get(part)
        if value is not None and not (isinstance(value, fx.Node) and value.op == "get_attr"):
            return None
        paths.append("" if value is None else str(value.target))
    first, second, third = paths
    return first, second, third


def tensor_at(network: fx.GraphModule, path: str) -> Tensor:
    """A tensor of the network."""
    holder, _, leaf = path.rpartition(".")
    tensor = getattr(network.get_submodule(holder), leaf)
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach()
