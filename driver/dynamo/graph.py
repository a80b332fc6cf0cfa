"""One graph, or part of one, that runs as native code: compiled at its first call, with the real tensors."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from aino_ir.driver.api import AnyExecutable, collector_frozen, compile
from aino_ir.driver.dynamo.numbers import argument_sources, number_function
from aino_ir.driver.dynamo.options import DynamoOptions
from aino_ir.driver.dynamo.places import graph_device, moved
from aino_ir.driver.dynamo.tensors import TensorCall
from aino_ir.frontends.torch.complex import is_complex
from aino_ir.frontends.torch.subgraph import Subgraph, lower_subgraph
from aino_ir.runtime.raw import RawCall
from aino_ir.runtime.values import to_torch

LOG = logging.getLogger("aino")

Versions = tuple[tuple[int, int], ...]
"""Address and version of each tensor that was taken for a constant."""

PACKINGS = 2
"""How often parameters are packed: when they change again after that, they are inputs from then on."""


class NativeGraph:
    """Calls of operators as one native program.

    Tensors at `static` positions (parameters, buffers) are taken for constants: packed when the graph is
    first called, and again when one of them was changed in place or exchanged.  Where they keep changing
    (a network that is evaluated while it is trained) the graph is compiled once more, with these tensors
    as inputs, and never again for their sake.

    Attributes:
        graph: what is computed.
        compilations: how often it was compiled so far.
    """

    def __init__(
        self, graph: GraphModule, static: Sequence[int], options: DynamoOptions, name: str = "graph"
    ) -> None:
        self.graph = graph
        self.static = tuple(static) if options.pack_parameters else ()
        self.options = options
        self.name = name
        self.compilations = 0
        self._lock = threading.Lock()
        self._ready: tuple[Versions, _Program] | None = None
        self._packed: list[torch.Tensor] = []
        """What the versions are of: while it is kept, its memory becomes no other tensor's."""

    def __call__(self, *args: Any) -> list[Any]:
        """Run on real tensors and numbers, in the order of the graph's placeholders."""
        versions = tuple([_version(args[i]) for i in self.static]) if self.static else ()
        ready = self._ready
        if ready is None or ready[0] != versions:
            ready = self._compiled(versions, args)
        return ready[1].run(args)

    def _compiled(self, versions: Versions, args: Sequence[Any]) -> tuple[Versions, _Program]:
        with self._lock:
            if self._ready is not None and self._ready[0] == versions:
                return self._ready
            if self.static and self.compilations >= PACKINGS:
                LOG.info("%s: parameters change again and again, and are no constants any more", self.name)
                self.static, versions = (), ()
            constants = {i: args[i].detach().cpu() for i in self.static}
            device = graph_device(self.graph)
            with collector_frozen():
                lowered = lower_subgraph(self.graph, constants, self.name)
            executable = compile(lowered.module, **self.options.compile_arguments(device))
            self._ready = (versions, _Program(self.graph, lowered, executable, device))
            self._packed = [args[i].detach() for i in self.static]
            self.compilations += 1
            return self._ready


def _version(tensor: torch.Tensor) -> tuple[int, int]:
    return tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version


class _Program:
    """A compiled graph, and how its results are made of the executable's outputs."""

    def __init__(
        self, graph: GraphModule, lowered: Subgraph, executable: AnyExecutable, device: torch.device
    ) -> None:
        self.device = device
        self.executable = executable
        self.inputs = lowered.inputs
        raw = RawCall.of(executable)
        self.call = TensorCall(raw, lowered.inputs) if raw is not None else None
        placeholders = [n for n in graph.graph.nodes if n.op == "placeholder"]
        (output,) = [n for n in graph.graph.nodes if n.op == "output"]
        values = [placeholders[i].meta.get("val") for i in lowered.inputs]
        self.complex = [i for i, v in zip(lowered.inputs, values, strict=True) if is_complex(v)]
        position = {n: i for i, n in enumerate(placeholders)}
        sources = argument_sources(placeholders)
        self.results = [
            _result(node, number, position, sources)
            for node, number in zip(output.args[0], lowered.outputs, strict=True)
        ]
        self.plain = all(r is None for r in self.results)

    def run(self, args: Sequence[Any]) -> list[Any]:
        """The graph's results."""
        if self.complex:
            args = list(args)
            for i in self.complex:  # as pairs of real numbers
                args[i] = torch.view_as_real(args[i].detach().resolve_conj())
        outputs = self.call(args) if self.call is not None else self._by_arrays(args)
        if self.plain:
            return outputs
        made = iter(outputs)
        return [next(made) if result is None else result(args, made) for result in self.results]

    def _by_arrays(self, args: Sequence[Any]) -> list[Any]:
        """The same through the executable's own interface: on a GPU, or where Python takes part in a run."""
        given = [args[i] for i in self.inputs]
        if self.device.type != "cpu":
            return list(self.executable.run(*moved(given, self.device)))
        outputs = self.executable.run(*map(as_array, given))
        return [o if isinstance(o, torch.Tensor) else to_torch(np.asarray(o)) for o in outputs]


def as_array(value: Any) -> Any:
    """An argument of a graph as executables take it: tensors as they are, numbers as 0-d arrays."""
    if isinstance(value, torch.Tensor):
        return value
    return np.asarray(value, np.float64 if isinstance(value, float) else np.int64)


Result = Callable[[Sequence[Any], Any], Any]
"""Makes one result of the graph from its arguments and the outputs that are left."""


def _result(
    node: Any,
    number: int | None,
    position: dict[Node, int],
    sources: dict[str, Callable[[Sequence[Any]], Any]],
) -> Result | None:
    """How a result is made; None = it is the next output as it is.  Outputs are taken in order."""
    if number is not None:
        value = node.meta["val"]
        if isinstance(value, torch.SymFloat):
            return lambda args, made: next(made).item()
        order = _memory_order(value)
        if value.is_complex():
            return lambda args, made: _strided(torch.view_as_complex(next(made)), order)
        return None if order is None else lambda args, made: _strided(next(made), order)
    if not isinstance(node, Node):
        return lambda args, made: node
    if node in position:
        return lambda args, made: args[position[node]]
    value = node.meta["val"]
    if not isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        return lambda args, made: value
    function = number_function(value, sources)
    return lambda args, made: function(args)


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


def _strided(tensor: torch.Tensor, order: tuple[int, ...] | None) -> torch.Tensor:
    """The same values in another memory order: what torch's view operations behind it count on."""
    if order is None:
        return tensor
    inverse = [order.index(a) for a in range(len(order))]
    return tensor.permute(order).contiguous().permute(inverse)
