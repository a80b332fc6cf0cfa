"""Parts of traced graphs become modules: what `torch.compile` and autograd hand over, without signatures.

A subgraph's inputs are its placeholders, its outputs what its output node holds.  Tensors that are known
not to change become constants; numbers over symbols are bound to extents of the inputs, or are inputs.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch.fx import GraphModule, Node

from aino_ir.builder import Builder
from aino_ir.dims import DimLike
from aino_ir.dtypes import f64, i64
from aino_ir.errors.base import AinoError
from aino_ir.frontends.complex_numbers import Complex
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.torch.complex import real_dtype
from aino_ir.frontends.torch.dimensions import TorchDimensions
from aino_ir.frontends.torch.dtypes import DTYPE_OF
from aino_ir.frontends.torch.expressions import expression_of
from aino_ir.frontends.torch.lower import EFFECTFUL, GraphLowering, Scope, supported
from aino_ir.frontends.torch.ops import operator_name
from aino_ir.graph import Module, Value
from aino_ir.op import Op, Trait
from aino_ir.types import TensorType


class NodeRefused(Exception):
    """A call cannot be lowered: which one, and why."""

    def __init__(self, node: Node, error: AinoError) -> None:
        super().__init__(str(error))
        self.node = node
        self.error = error


@dataclass
class Subgraph:
    """A lowered part of a graph.

    Attributes:
        module: the program.
        inputs: which placeholders are its inputs, by position.
        outputs: for each result of the graph the number of the module's output, or None: the result is
            a number, nothing, or a placeholder itself.
        owners: op id -> the call that it was made for.
    """

    module: Module
    inputs: tuple[int, ...]
    outputs: tuple[int | None, ...]
    owners: dict[int, Node] = field(default_factory=dict)


def lower_subgraph(
    graph: GraphModule, constants: Mapping[int, torch.Tensor] | None = None, name: str = "graph"
) -> Subgraph:
    """The module of a traced graph.

    Args:
        graph: calls of operators on placeholders, with torch's fake tensors in ``meta["val"]``.
        constants: placeholders, by position, whose tensors do not change.
        name: of the module.

    Raises:
        NodeRefused: a call has no lowering.
        TorchError: an input has a type that AINO does not have.
    """
    return _Lowering(graph, dict(constants or {}), name).run()


class _Lowering:
    def __init__(self, graph: GraphModule, constants: dict[int, torch.Tensor], name: str) -> None:
        self.module = graph
        self.constants = constants
        self.builder = Builder(Module(name).add_function())
        self.scope = Scope()
        self.graph = GraphLowering(self.scope, self.builder, graph)
        self.placeholders: list[Node] = [n for n in graph.graph.nodes if n.op == "placeholder"]
        self.owners: dict[int, Node] = {}

    def run(self) -> Subgraph:
        inputs = self._inputs()
        for position, tensor in self.constants.items():
            node = self.placeholders[position]
            if node.users:
                self.graph.values[node] = self.graph.constant(tensor, node.name)
        results: list[Any] = []
        for node in self.module.graph.nodes:
            if node.op == "call_function":
                self._call(node)
            elif node.op == "output":
                results = list(node.args[0])
        outputs = self._outputs(results)
        remove_dead(self.builder.function.block)
        return Subgraph(self.builder.function.module, inputs, outputs, self.owners)

    def _inputs(self) -> tuple[int, ...]:
        """Tensors that are used, and numbers that no extent of theirs tells."""
        for node in filter(is_token, self.placeholders):
            self.graph.values[node] = self.builder.constant(np.zeros(0, np.float32))
        taken = [i for i, n in enumerate(self.placeholders) if i not in self.constants and not is_token(n)]
        tensors = [i for i in taken if isinstance(self._value(i), torch.Tensor) and self._wanted(i)]
        symbols = self.builder.function.symbols
        self.scope.ranges = self._ranges()
        dimensions = TorchDimensions(symbols, self.scope.ranges)
        shapes = dimensions.declare([(self.placeholders[i].name, self._value(i).shape) for i in tensors])
        self.scope.table = dimensions.table
        for i, shape in zip(tensors, shapes, strict=True):
            node = self.placeholders[i]
            self.graph.values[node] = self.graph.input(node.name, node.meta["val"], shape)
        return (*tensors, *self._numbers(taken), *self._floats(taken))

    def _floats(self, taken: Sequence[int]) -> list[int]:
        """Floats that something reads: 0-d inputs."""
        found = []
        for i in taken:
            value, node = self._value(i), self.placeholders[i]
            if isinstance(value, torch.SymFloat) and expression_of(value).is_Symbol and node.users:
                self.graph.values[node] = self.builder.input(node.name, TensorType(f64, ()))
                self.graph.floats[expression_of(value).name] = self.graph.values[node]
                found.append(i)
        return found

    def _wanted(self, position: int) -> bool:
        """Whether something reads an input, or the extents that it alone tells."""
        return bool(self.placeholders[position].users)

    def _numbers(self, taken: Sequence[int]) -> list[int]:
        """Integers that are inputs: symbols that are no extent of an input tensor."""
        found = []
        for i in taken:
            value = self._value(i)
            if not isinstance(value, torch.SymInt) or not expression_of(value).is_Symbol:
                continue
            name = expression_of(value).name
            if name not in self.scope.table and self._is_read(name):
                self.scope.table[name] = self._bound(self.placeholders[i].name, name)
                found.append(i)
        return found

    def _is_read(self, symbol: str) -> bool:
        for node in self.module.graph.nodes:
            values = node.meta.get("val")
            for value in values if isinstance(values, (tuple, list)) else (values,):
                numbers = value.shape if isinstance(value, torch.Tensor) else (value,)
                for number in numbers:
                    if isinstance(number, torch.SymInt) and symbol in _names(number):
                        return True
        return False

    def _bound(self, name: str, symbol: str) -> DimLike:
        """An integer input as a symbol of the module."""
        value = self.builder.input(name, TensorType(i64, ()))
        low, high = self.scope.bounds_of(symbol)
        bound = self.builder.bind(value, lower=(low,), upper=(high,), what=f"the number {symbol}")
        known = self.builder.known(bound)
        assert known is not None
        return known[0]

    def _ranges(self) -> Mapping[Any, Any]:
        for node in self.placeholders:
            value = node.meta.get("val")
            numbers = value.shape if isinstance(value, torch.Tensor) else (value,)
            for number in numbers:
                if isinstance(number, torch.SymInt):
                    return number.node.shape_env.var_to_range  # type: ignore[no-any-return]
        return {}

    def _value(self, position: int) -> Any:
        return self.placeholders[position].meta.get("val")

    def _call(self, node: Node) -> None:
        module = self.builder.function.module
        before = module.last_id
        try:
            self.graph.lower(node)
        except AinoError as error:
            raise NodeRefused(node, error) from error
        for made in range(before + 1, module.last_id + 1):
            self.owners[made] = node

    def _outputs(self, results: Sequence[Any]) -> tuple[int | None, ...]:
        numbers: list[int | None] = []
        values: list[Value] = []
        for result in results:
            value = None
            if isinstance(result, Node) and result.op != "placeholder":
                found = self.graph.result(self.graph.argument(result))
                value = found if isinstance(found, Value) else None
            numbers.append(None if value is None else len(values))
            if value is not None:
                values.append(value)
        for i, value in enumerate(values):
            self.builder.output(f"output_{i}", value)
        self.builder.finish()
        return tuple(numbers)


def is_token(node: Node) -> bool:
    """Whether a placeholder only says in which order calls with effects stand: it has no value."""
    users = list(node.users)
    return bool(users) and all(
        user.op == "call_function" and operator_name(user.target) == EFFECTFUL and user.args[0] is node
        for user in users
    )


def refused_calls(graph: GraphModule) -> dict[Node, str]:
    """Every call of a graph that cannot be lowered, with the reason.

    The results of a refused call are taken for inputs, so that the calls behind it are looked at too.
    """
    probe = _Probe(graph, {}, "probe")
    probe.run()
    return _with_siblings(probe.refused)


def _with_siblings(refused: Mapping[Node, str]) -> dict[Node, str]:
    """Results are taken out of a call's tuple on the side on which the call is."""
    out: dict[Node, str] = {}
    for node, reason in refused.items():
        source = node.args[0] if node.target is operator.getitem else node
        if isinstance(source, Node):
            out.setdefault(source, reason)
            out.update((user, reason) for user in source.users if user.target is operator.getitem)
    return out


def shared_views(graph: GraphModule) -> set[Node]:
    """Views among the results that share memory with another result: torch has to make them."""
    (output,) = [n for n in graph.graph.nodes if n.op == "output"]
    results = [n for n in output.args[0] if isinstance(n, Node)]
    roots = {n: _view_chain(n) for n in results}
    found: set[Node] = set()
    for root, chain in roots.values():
        if root.op != "placeholder" and sum(other is root for other, _ in roots.values()) > 1:
            found.update(chain)
    return found


def _view_chain(node: Node) -> tuple[Node, list[Node]]:
    """The call that made a result's memory, and the views on the way from it."""
    chain: list[Node] = []
    while isinstance(node.target, torch._ops.OpOverload) and node.target.is_view:
        chain.append(node)
        (node,) = node.all_input_nodes[:1]
    return node, chain


class _Probe(_Lowering):
    """Lowers what it can."""

    def __init__(self, graph: GraphModule, constants: dict[int, torch.Tensor], name: str) -> None:
        super().__init__(graph, constants, name)
        self.refused: dict[Node, str] = {}

    def _call(self, node: Node) -> None:
        if not is_lowered(node):
            self._refuse(node, "it has no lowering")
            return
        try:
            super()._call(node)
        except NodeRefused as refusal:
            self._refuse(node, refusal.error.message)

    def _refuse(self, node: Node, reason: str) -> None:
        self.refused[node] = reason
        metas = node.meta.get("val")
        made = [self._stand_in(node, m) for m in (metas if isinstance(metas, (tuple, list)) else (metas,))]
        self.graph.values[node] = made if isinstance(metas, (tuple, list)) else made[0]

    def _stand_in(self, node: Node, meta: Any) -> Value | Complex | None:
        if not isinstance(meta, torch.Tensor) or real_dtype(meta.dtype) not in DTYPE_OF:
            return None
        shape = []
        extents: Sequence[Any] = meta.shape
        for number in extents:
            if isinstance(number, torch.SymInt) and expression_of(number).is_Symbol:
                name = expression_of(number).name
                fresh = self.builder.function.symbols.fresh(name)
                self.scope.table.setdefault(name, self.builder.symbol(fresh))
            shape.append(self.graph.extent(number, f"the result of {node.target}"))
        return self.graph.input(node.name, meta, tuple(shape))

    def _outputs(self, results: Sequence[Any]) -> tuple[int | None, ...]:
        self.builder.finish()
        for op in self.builder.function.block:
            node = self.owners.get(op.id)
            if node is not None and node not in self.refused:
                self._look_at(node, op)
        return ()

    def _look_at(self, node: Node, op: Op) -> None:
        """Ops that only Python serves are better left to torch."""
        if op.has(Trait.HOST):
            self.refused[node] = f"{op.name} has no native code"


def is_lowered(node: Node) -> bool:
    """Whether a call has a lowering whose meaning does not depend on torch's state."""
    target = node.target
    if isinstance(target, torch._ops.OpOverload):
        if target._schema.is_mutable or is_draw(node):
            return False
    return supported(node) and all(_is_plain(v) for v in (node, *node.all_input_nodes))


def is_draw(node: Node) -> bool:
    """Whether a call takes random numbers; with a dropout of 0, or outside of training, it takes none."""
    target = node.target
    if not isinstance(target, torch._ops.OpOverload) or torch.Tag.nondeterministic_seeded not in target.tags:
        return False
    for position, argument in enumerate(target._schema.arguments):
        if argument.name in ("dropout_p", "training"):
            given = node.kwargs.get(argument.name, argument.default_value)
            return bool(node.args[position] if position < len(node.args) else given)
    return True


def _is_plain(node: Node) -> bool:
    """Whether a node's tensors are of kinds that AINO has."""
    values = node.meta.get("val")
    tensors = [
        v for v in (values if isinstance(values, (tuple, list)) else (values,)) if isinstance(v, torch.Tensor)
    ]
    return all(
        real_dtype(t.dtype) in DTYPE_OF
        and t.layout == torch.strided
        and t.device.type == "cpu"
        and not t.is_quantized
        for t in tensors
    )


def _names(number: torch.SymInt) -> set[str]:
    return {symbol.name for symbol in expression_of(number).free_symbols}
