"""From a decomposed graph of ATen calls to a module: inputs, constants, states, then call after call.

Each operator's lowering is a row of a table in `aino_ir.frontends.torch.ops`.  What torch says about a
result (dtype, shape) is compared with what the ops infer, so that a wrong row is an error and not a
wrong number.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily
from torch.fx import Graph, GraphModule, Node

from aino_ir.builder import Builder
from aino_ir.dims import DimLike, is_static
from aino_ir.errors.base import AinoError
from aino_ir.errors.torch import AtenUnsupported, SymbolUnsupported, TorchLoweringFault, TorchTypeUnsupported
from aino_ir.frontends.complex_numbers import Complex, by_parts, joined, split
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.torch.binding import bound_arguments
from aino_ir.frontends.torch.complex import is_complex, real_dtype, touches_complex
from aino_ir.frontends.torch.context import NodeContext, argument_types, type_text
from aino_ir.frontends.torch.dimensions import FAR, finite
from aino_ir.frontends.torch.dtypes import DTYPE_OF
from aino_ir.frontends.torch.expressions import NoDim, dim_of, expression_of
from aino_ir.frontends.torch.locations import location_of
from aino_ir.frontends.torch.ops import complex_row_of, operator_name, row_of
from aino_ir.frontends.torch.scalars import scalar_value
from aino_ir.frontends.torch.tensors import Handles
from aino_ir.graph import Value
from aino_ir.types import TensorType

SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)
"""torch's numbers over symbols."""

NUMBERS = (int, float, bool, *SYMBOLIC)

ASSERTIONS = frozenset({"aten._assert_scalar.default", "aten._assert_tensor_metadata.default"})
"""Calls that check what the module checks itself: its ops record the extents that they rest on."""

EFFECTFUL = "higher_order.with_effects"
"""Calls an operator, its second argument, in the order that tokens say."""


@dataclass
class Scope:
    """What the graphs of one program share.

    Attributes:
        table: what torch's symbols stand for, by name.
        handles: constant handles of tensors.
        ranges: torch's bounds of its symbols.
    """

    table: dict[str, DimLike] = field(default_factory=dict)
    handles: Handles = field(default_factory=Handles)
    ranges: Mapping[Any, Any] = field(default_factory=dict)

    def bounds(self, number: Any) -> tuple[int, int]:
        """Inclusive bounds of an integer that torch reads off data."""
        return self.bounds_of(str(expression_of(number)))

    def bounds_of(self, wanted: str) -> tuple[int, int]:
        """The same by the name of its symbol."""
        values = next((v for symbol, v in self.ranges.items() if str(symbol) == wanted), None)
        low, high = (None, None) if values is None else (finite(values.lower), finite(values.upper))
        return (-FAR if low is None else low, FAR if high is None else high)


def require_supported(graphs: Sequence[Graph]) -> None:
    """Refuse types that AINO does not have, and all operators without a lowering at once."""
    for graph in graphs:
        for node in graph.nodes:
            _require_types(node)
    missing = [node for graph in graphs for node in graph.nodes if not supported(node)]
    if missing:
        lines = dict.fromkeys(
            f"  {node.target}({argument_types(node)}) at {location_of(node) or 'a line that torch made'}"
            for node in missing
        )
        raise AtenUnsupported(count=len({str(n.target) for n in missing}), operators="\n".join(lines))


def supported(node: Node) -> bool:
    """Whether a node needs no lowering, or has one."""
    if node.op != "call_function" or node.target is operator.getitem or is_number(node):
        return True
    if str(node.target) in ASSERTIONS:
        return True
    if touches_complex(node):
        return complex_row_of(node.target)[0] is not None
    target = node.args[1] if operator_name(node.target) == EFFECTFUL else node.target
    return row_of(target) is not None


def _require_types(node: Node) -> None:
    values = node.meta.get("val")
    for value in values if isinstance(values, (tuple, list)) else (values,):
        if not isinstance(value, torch.Tensor):
            continue
        if real_dtype(value.dtype) not in DTYPE_OF or value.layout != torch.strided:
            what = f"the result of {node.target}" if node.op == "call_function" else f"input {node.name}"
            raise TorchTypeUnsupported(loc=location_of(node), what=what, got=type_text(value))


def is_number(node: Node) -> bool:
    """Whether a node gives a number over symbols, which is read off its meta data."""
    value = node.meta.get("val")
    return isinstance(value, NUMBERS) and not _reads_data(node)


def _reads_data(node: Node) -> bool:
    """Whether a number comes out of a tensor's data (`item`)."""
    return str(node.target) in ("aten._local_scalar_dense.default", "aten.item.default")


class GraphLowering:
    """One graph on its way into a block.

    Attributes:
        b: builds at the end of the block.
        values: what nodes stand for so far: a value, or a sequence of them.
        floats: what torch's symbols of floats stand for, by name.
    """

    def __init__(self, scope: Scope, b: Builder, module: GraphModule) -> None:
        self.scope = scope
        self.b = b
        self.module = module
        self.values: dict[Node, Any] = {}
        self.floats: dict[str, Value] = {}

    def run(self) -> list[Any]:
        """Lower every call; returns what the graph's output node holds, flattened as it is."""
        for node in self.module.graph.nodes:
            if node.op == "call_function":
                self.lower(node)
            elif node.op == "output":
                results = node.args[0]
                listed = results if isinstance(results, (list, tuple)) else [results]
                return [self.argument(a) for a in listed]
        return []

    def lower(self, node: Node) -> None:
        """Lower one call."""
        self.b.loc = location_of(node)
        if node.target is operator.getitem and not is_number(node):
            sequence, index = node.args
            self.values[node] = self._element(node, sequence, index)
            return
        if is_number(node) or str(node.target) in ASSERTIONS:
            return
        context = NodeContext(self, node)
        try:
            lowered = self._called(context)
        except AinoError as error:
            if not error.loc:
                error.loc = self.b.loc
            raise
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise TorchLoweringFault(loc=self.b.loc, op=context.operator, reason=reason) from error
        if isinstance(node.meta.get("val"), torch.SymFloat) and isinstance(lowered, Value):
            self.floats[str(expression_of(node.meta["val"]))] = lowered
            self.values[node] = lowered
            return
        if not isinstance(lowered, (Value, Complex, Sequence)):  # a number that is read off data
            self.scope.table[str(expression_of(node.meta["val"]))] = lowered
            self.values[node] = lowered
            return
        if isinstance(lowered, (Value, Complex)) and not isinstance(node.meta.get("val"), (tuple, list)):
            self._check(node, lowered, node.meta["val"])
            self.values[node] = lowered
            return
        results: list[Any] = [lowered] if isinstance(lowered, (Value, Complex)) else list(lowered)
        for index, (result, meta) in enumerate(zip(results, node.meta.get("val") or (), strict=False)):
            if result is not None:
                self._check(node, result, meta, index)
        self.values[node] = results

    def _called(self, context: NodeContext) -> Any:
        """What the row of a call makes."""
        target = context.node.target
        if not touches_complex(context.node):
            return bound_arguments(context, row_of(target))()
        row, each_part = complex_row_of(target)
        call = bound_arguments(context, row)
        return by_parts(context, call) if each_part else call()

    def _element(self, node: Node, sequence: Any, index: Any) -> Value | None:
        results = self.values[sequence]
        found = results[index] if index < len(results) else None
        if found is None and node.users:
            NodeContext(self, sequence).unsupported(f"its result {index}")
        return found

    def _check(self, node: Node, value: Value | Complex, meta: Any, index: int = 0) -> None:
        """Compare a lowered result with what torch says."""
        if isinstance(value, Complex):
            self._check(node, value.imaginary, meta, index)
            value = value.real
        dtype, rank = DTYPE_OF[real_dtype(meta.dtype)], meta.dim()
        extents = tuple(d if isinstance(d, int) else None for d in meta.shape)
        fits = value.dtype is dtype and value.rank == rank
        if fits:
            pairs = zip(value.shape, extents, strict=True)
            fits = all(e is None or not is_static(d) or d == e for d, e in pairs)
        if not fits:
            reason = f"result {index} is {value.type}, PyTorch says {type_text(meta)}"
            raise TorchLoweringFault(loc=self.b.loc, op=str(node.target), reason=reason)
        self._learn(meta, value)
        if not value.name:
            value.name = node.name

    def _learn(self, meta: Any, value: Value) -> None:
        """Give a name to extents that the call decides: torch's new symbols are those of the op."""
        for theirs, ours in zip(meta.shape, value.shape, strict=True):
            if isinstance(theirs, torch.SymInt):
                expression = expression_of(theirs)
                if expression.is_Symbol:
                    self.scope.table.setdefault(expression.name, ours)

    # -- arguments ----------------------------------------------------------------------------------

    def argument(self, argument: Any) -> Any:
        """An argument of a call: nodes become values, numbers over symbols Dims, lists are walked."""
        if isinstance(argument, Node):
            return self._node(argument)
        if isinstance(argument, (list, tuple)):
            return [self.argument(a) for a in argument]
        if isinstance(argument, torch.dtype):
            found = DTYPE_OF.get(real_dtype(argument))
            if found is None:
                raise TorchTypeUnsupported(loc=self.b.loc, what="an argument", got=argument)
            return found
        return argument

    def _node(self, node: Node) -> Any:
        found = self.values.get(node)
        if found is not None:
            return found
        if node.op == "get_attr":
            return self._attribute(node)
        value = node.meta.get("val")
        if isinstance(value, SYMBOLIC):
            return self.number(value)
        if isinstance(value, (int, float, bool)):
            return value
        raise TorchLoweringFault(loc=location_of(node), op=str(node.target), reason="it has no value")

    def number(self, number: Any) -> Any:
        """A number over symbols: an int or Dim where it is one, else a 0-d value computed from extents."""
        expression = expression_of(number)
        if isinstance(number, torch.SymInt):
            try:
                return self.b.function.symbols.simplify(dim_of(expression, self.scope.table))
            except NoDim as problem:
                raise SymbolUnsupported(loc=self.b.loc, what="an argument", got=expression) from problem
        return scalar_value(self.b, expression, self.scope.table, self.floats)

    def extent(self, number: Any, what: str) -> DimLike:
        """An extent of torch's in AINO's terms."""
        if isinstance(number, int):
            return int(number)
        try:
            return self.b.function.symbols.simplify(dim_of(expression_of(number), self.scope.table))
        except NoDim as problem:
            raise SymbolUnsupported(loc=self.b.loc, what=what, got=expression_of(number)) from problem

    def _attribute(self, node: Node) -> Any:
        found: Any = self.module
        for name in str(node.target).split("."):
            found = getattr(found, name)
        if isinstance(found, torch.Tensor):
            return self.constant(found, str(node.target))
        return found

    def constant(self, tensor: torch.Tensor, name: str) -> Value | Complex:
        """A tensor of the program as a constant."""
        with unset_fake_temporarily():  # torch.compile calls its backends while it traces
            if is_complex(tensor):
                pairs = torch.view_as_real(tensor.detach().resolve_conj())
                return split(Emitter(self.b), self.b.constant(self.scope.handles.of(pairs, name), name))
            return self.b.constant(self.scope.handles.of(tensor, name), name)

    # -- the border ---------------------------------------------------------------------------------

    def input(self, name: str, fake: torch.Tensor, shape: tuple[DimLike, ...]) -> Value | Complex:
        """An input of the module; complex numbers come as pairs in a last axis."""
        if is_complex(fake):
            return split(Emitter(self.b), self.b.input(name, tensor_type(fake, (*shape, 2))))
        return self.b.input(name, tensor_type(fake, shape))

    def result(self, value: Any) -> Any:
        """What leaves the module for a value: complex numbers leave as pairs."""
        return joined(Emitter(self.b), value) if isinstance(value, Complex) else value

    # -- regions ------------------------------------------------------------------------------------

    def nested(self, b: Builder, module: GraphModule, values: Mapping[int, Any]) -> list[Any]:
        """Lower a subgraph with another builder; `values` are its placeholders by position."""
        inner = GraphLowering(self.scope, b, module)
        placeholders = [n for n in module.graph.nodes if n.op == "placeholder"]
        for position, value in values.items():
            inner.values[placeholders[position]] = value
        return inner.run()


def tensor_type(fake: torch.Tensor, shape: tuple[DimLike, ...]) -> TensorType:
    """The type of an input."""
    return TensorType(DTYPE_OF[real_dtype(fake.dtype)], shape)
