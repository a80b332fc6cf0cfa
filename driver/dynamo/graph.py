"""One graph, or part of one, that runs as native code: compiled at its first call, with the real tensors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from aino_ir.driver.api import AnyExecutable, collector_frozen, compile
from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.frontends.torch.expressions import expression_of
from aino_ir.frontends.torch.subgraph import Subgraph, lower_subgraph
from aino_ir.runtime.values import to_torch

Versions = tuple[tuple[int, int], ...]
"""Address and version of each tensor that was taken for a constant."""


class NativeGraph:
    """Calls of operators as one native program.

    Tensors at `static` positions (parameters, buffers) are taken for constants: packed when the graph is
    first called, and again when one of them was changed in place or exchanged.

    Attributes:
        graph: what is computed.
        compilations: how often it was compiled so far.
    """

    def __init__(
        self, graph: GraphModule, static: Sequence[int], options: DynamoOptions, name: str = "graph"
    ) -> None:
        self.graph = graph
        self.static = tuple(static)
        self.options = options
        self.name = name
        self.compilations = 0
        self._lock = threading.Lock()
        self._ready: tuple[Versions, _Program] | None = None

    def __call__(self, *args: Any) -> list[Any]:
        """Run on real tensors and numbers, in the order of the graph's placeholders."""
        versions = tuple([_version(args[i]) for i in self.static])
        ready = self._ready
        if ready is None or ready[0] != versions:
            ready = self._compiled(versions, args)
        return ready[1].run(args)

    def _compiled(self, versions: Versions, args: Sequence[Any]) -> tuple[Versions, _Program]:
        with self._lock:
            if self._ready is None or self._ready[0] != versions:
                constants = {i: args[i].detach() for i in self.static}
                with collector_frozen():
                    lowered = lower_subgraph(self.graph, constants, self.name)
                executable = compile(lowered.module, **self.options.compile_arguments())
                self._ready = (versions, _Program(self.graph, lowered, executable))
                self.compilations += 1
            return self._ready


def _version(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class _Program:
    """A compiled graph, and how its results are made of the executable's outputs."""

    def __init__(self, graph: GraphModule, lowered: Subgraph, executable: AnyExecutable) -> None:
        self.executable = executable
        self.inputs = lowered.inputs
        placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
        (output,) = [n for n in graph.graph.nodes if n.op == "output"]
        position = {n: i for i, n in enumerate(placeholders)}
        symbols = _symbol_sources(placeholders)
        self.results = [
            _result(node, number, position, symbols)
            for node, number in zip(output.args[0], lowered.outputs, strict=True)
        ]

    def run(self, args: Sequence[Any]) -> list[Any]:
        """The graph's results."""
        inputs = [_input(args[i]) for i in self.inputs]
        outputs = self.executable.run(*inputs)
        return [result(args, outputs) for result in self.results]


def _input(value: Any) -> Any:
    return value if isinstance(value, torch.Tensor) else np.asarray(value, np.int64)


Result = Callable[[Sequence[Any], Sequence[Any]], Any]
"""Makes one result of the graph from its arguments and the executable's outputs."""


def _result(
    node: Any, number: int | None, position: dict[Node, int], symbols: dict[str, Callable[..., int]]
) -> Result:
    if number is not None:
        order = _memory_order(node.meta["val"])
        if order is None:
            return lambda args, outputs: _tensor(outputs[number])
        return lambda args, outputs: _strided(_tensor(outputs[number]), order)
    if not isinstance(node, Node):
        return lambda args, outputs: node
    if node in position:
        return lambda args, outputs: args[position[node]]
    value = node.meta["val"]
    if not isinstance(value, torch.SymInt):
        return lambda args, outputs: value
    expression = expression_of(value)
    sources = {s: symbols[s.name] for s in expression.free_symbols}
    return lambda args, outputs: int(expression.subs({s: f(args) for s, f in sources.items()}))


def _tensor(output: Any) -> torch.Tensor:
    return output if isinstance(output, torch.Tensor) else to_torch(np.asarray(output))


def _memory_order(fake: torch.Tensor) -> tuple[int, ...] | None:
    """Axes from the slowest to the fastest, where torch lays a result out in another order than row-major."""
    if fake.is_contiguous():
        return None
    strides = [int(s) if isinstance(s, int) else s.node.hint for s in fake.stride()]
    if any(s is None for s in strides):
        return None
    order = tuple(sorted(range(fake.dim()), key=lambda a: -strides[a]))
    dense = fake.permute(order).is_contiguous()
    return order if dense else None


def _strided(tensor: torch.Tensor, order: tuple[int, ...]) -> torch.Tensor:
    """The same values in another memory order: what torch's view operations behind it count on."""
    inverse = [order.index(a) for a in range(len(order))]
    return tensor.permute(order).contiguous().permute(inverse)


def _symbol_sources(placeholders: Sequence[Node]) -> dict[str, Callable[..., int]]:
    """Which argument tells each symbol's value."""
    found: dict[str, Callable[..., int]] = {}
    for i, node in enumerate(placeholders):
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt) and expression_of(value).is_Symbol:
            found.setdefault(expression_of(value).name, lambda args, i=i: int(args[i]))
        elif isinstance(value, torch.Tensor):
            extents: Sequence[Any] = value.shape
            for axis, extent in enumerate(extents):
                if isinstance(extent, torch.SymInt) and expression_of(extent).is_Symbol:
                    name = expression_of(extent).name
                    found.setdefault(name, lambda args, i=i, axis=axis: int(args[i].shape[axis]))
    return found
