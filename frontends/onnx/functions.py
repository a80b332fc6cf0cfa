"""Functions: inlining a model's own ones, and expanding standard operators that ONNX defines by a body.

A call is replaced by the body's nodes: inputs and outputs take the caller's names, everything else
gets a fresh name, references to attributes take the call's values (or the defaults, or vanish).
Every node keeps the operator set version of the function that it came from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import onnx
import onnx.defs
from onnx.shape_inference import InferenceError

from aino_ir.errors.onnx import (
    AttributeKindMismatch,
    FunctionInvalid,
    FunctionRecursion,
    UnbuildableFunction,
)
from aino_ir.frontends.onnx.convert import KINDS, Converter
from aino_ir.frontends.onnx.limits import DEFAULT, Limits, check_limit
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import (
    Attribute,
    FunctionKey,
    MapInfo,
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxValue,
    OptionalInfo,
    SequenceInfo,
    SparseTensorInfo,
    TensorInfo,
    TypeInfo,
    walk_nodes,
)
from aino_ir.frontends.onnx.order import check_node_names
from aino_ir.frontends.onnx.schemas import check_node, known_domains, schema_of
from aino_ir.frontends.onnx.tensors import CODES

_NAME_LENGTH = 64
"""Fresh names keep this much of the label and of the name that they come from."""

_IDENTITY_OPSET = 13
"""Version of Identity for functions that import no standard operators."""


class NameSource:
    """Hands out value names that no graph of the model uses."""

    def __init__(self, used: Iterable[str] = ()) -> None:
        self._used = set(used)
        self._counters: dict[str, int] = {}

    @classmethod
    def of(cls, graph: OnnxGraph) -> NameSource:
        """A source that avoids every name in a graph and its subgraphs."""
        return cls(_all_names(graph))

    def fresh(self, base: str) -> str:
        """`base`, or `base` with the first free number appended."""
        name = base
        while name in self._used:
            self._counters[base] = self._counters.get(base, 0) + 1
            name = f"{base}_{self._counters[base]}"
        self._used.add(name)
        return name


def _all_names(graph: OnnxGraph) -> Iterable[str]:
    yield from (value.name for value in graph.inputs)
    yield from graph.initializers
    for node in graph.nodes:
        yield from node.inputs
        yield from node.outputs
        for inner in node.subgraphs():
            yield from _all_names(inner)


def inline_functions(model: OnnxModel, limits: Limits = DEFAULT) -> OnnxModel:
    """The model with every call of a model-local function replaced by the function's nodes.

    Raises:
        FunctionRecursion: functions call each other in a circle.
        FunctionInvalid, AttributeKindMismatch: a call does not fit the function.
        LimitExceeded: the result would be too large; found before anything is built.
    """
    if not model.functions:
        return model
    _Measurer(model.functions, limits).check(model.graph)
    graph = _Inliner(model.functions, NameSource.of(model.graph)).graph(model.graph)
    return replace(model, graph=graph, functions={})


@dataclass(frozen=True)
class _Measure:
    """Nodes, operand slots, nesting of subgraphs and of calls that an inlined piece comes to."""

    nodes: int = 0
    slots: int = 0
    depth: int = 0
    calls: int = 0

    def beside(self, other: _Measure) -> _Measure:
        return _Measure(
            self.nodes + other.nodes,
            self.slots + other.slots,
            max(self.depth, other.depth),
            max(self.calls, other.calls),
        )


class _Measurer:
    """Computes the size of an inlined model, each function once."""

    def __init__(self, functions: Mapping[FunctionKey, OnnxFunction], limits: Limits) -> None:
        self.functions = functions
        self.limits = limits
        self.measured: dict[FunctionKey, _Measure] = {}
        self.path: dict[FunctionKey, None] = {}

    def check(self, graph: OnnxGraph) -> None:
        """LimitExceeded when the inlined graph would lie above a limit."""
        total = self.nodes(graph.nodes)
        check_limit("number of nodes after inlining", total.nodes, self.limits.nodes)
        check_limit("number of values after inlining", total.slots, self.limits.values)
        check_limit("nesting of subgraphs after inlining", total.depth + 1, self.limits.depth)

    def nodes(self, nodes: Iterable[OnnxNode]) -> _Measure:
        total = _Measure()
        for node in nodes:
            total = total.beside(self.node(node))
        return total

    def node(self, node: OnnxNode) -> _Measure:
        key = (node.domain, node.op_type, node.overload)
        if key in self.functions:
            return self.function(key, node)
        inner = _Measure()
        for graph in node.subgraphs():
            found = self.nodes(graph.nodes)
            inner = inner.beside(replace(found, depth=found.depth + 1))
        return _Measure(1, len(node.inputs) + len(node.outputs)).beside(inner)

    def function(self, key: FunctionKey, call: OnnxNode) -> _Measure:
        found = self.measured.get(key)
        if found is not None:
            return found
        if key in self.path:
            trail = list(self.path)
            circle = [*trail[trail.index(key) :], key]
            names = " -> ".join(self.functions[step].label for step in circle)
            raise FunctionRecursion(loc=call.location, functions=names)
        check_limit("nesting of function calls", len(self.path) + 1, self.limits.depth, call.location)
        self.path[key] = None
        body = self.nodes(self.functions[key].nodes)
        outputs = len(self.functions[key].outputs)
        found = _Measure(body.nodes + outputs, body.slots + 2 * outputs, body.depth, body.calls + 1)
        check_limit("nesting of function calls", found.calls, self.limits.depth, call.location)
        del self.path[key]
        self.measured[key] = found
        return found


class _Inliner:
    """Replaces calls, from the outside in."""

    def __init__(self, functions: Mapping[FunctionKey, OnnxFunction], names: NameSource) -> None:
        self.functions = functions
        self.names = names

    def graph(self, graph: OnnxGraph) -> OnnxGraph:
        return replace(graph, nodes=self.nodes(graph.nodes))

    def nodes(self, nodes: Iterable[OnnxNode]) -> tuple[OnnxNode, ...]:
        found: list[OnnxNode] = []
        for node in nodes:
            function = self.functions.get((node.domain, node.op_type, node.overload))
            if function is not None:
                found.extend(self.nodes(instantiate(function, node, node.attributes, self.names)))
            elif any(True for _ in node.subgraphs()):
                found.append(replace(node, attributes=_map_graphs(node.attributes, self.graph)))
            else:
                found.append(node)
        return tuple(found)


def _map_graphs(attributes: Mapping[str, Attribute], change: Any) -> dict[str, Attribute]:
    """The attributes with every graph among them changed."""
    changed = dict(attributes)
    for name, attribute in attributes.items():
        if attribute.reference is None and attribute.kind == "graph":
            changed[name] = Attribute("graph", change(attribute.value))
        elif attribute.reference is None and attribute.kind == "graphs":
            changed[name] = Attribute("graphs", tuple(map(change, attribute.value)))
    return changed


def instantiate(
    function: OnnxFunction, call: OnnxNode, attributes: Mapping[str, Attribute], names: NameSource
) -> tuple[OnnxNode, ...]:
    """The nodes of a function's body in place of `call`, with the given attribute values.

    Nodes of the body that are calls themselves stay calls.

    Raises:
        FunctionInvalid: the call gives more inputs or outputs, or other attributes, than are declared.
        AttributeKindMismatch: an attribute is of another kind than the body's use of it.
    """
    _check_call(function, call, attributes)
    return _Instance(function, call, attributes, names).nodes()


def _check_call(function: OnnxFunction, call: OnnxNode, attributes: Mapping[str, Attribute]) -> None:
    for side, got, most in (
        ("inputs", len(call.inputs), len(function.inputs)),
        ("outputs", len(call.outputs), len(function.outputs)),
    ):
        if got > most:
            reason = f"has {most} {side}, the call gives {got}"
            raise FunctionInvalid(loc=call.location, name=function.label, reason=reason)
    for name in attributes:
        if name not in function.attributes and name not in function.defaults:
            reason = f"has no attribute {quote(name)}, which the call gives"
            raise FunctionInvalid(loc=call.location, name=function.label, reason=reason)


class _Instance:
    """One call being replaced."""

    def __init__(
        self, function: OnnxFunction, call: OnnxNode, attributes: Mapping[str, Attribute], names: NameSource
    ) -> None:
        self.function = function
        self.call = call
        self.bound = {**function.defaults, **attributes}
        self.names = names
        self.prefix = (call.name or call.op_type)[:_NAME_LENGTH]
        self.scope = f"in function {function.label} called by {call.location}"

    def nodes(self) -> tuple[OnnxNode, ...]:
        missing = len(self.function.inputs) - len(self.call.inputs)
        renamed = dict(zip(self.function.inputs, (*self.call.inputs, *[""] * missing), strict=True))
        copies: list[tuple[str, str]] = []
        produced = {name for node in self.function.nodes for name in node.outputs if name}
        for inner, outer in zip(self.function.outputs, self.call.outputs, strict=False):
            if not outer:
                continue
            if inner in produced and inner not in renamed:
                renamed[inner] = outer
            else:
                copies.append((inner, outer))
        body = [self._node(node, renamed) for node in self._defining(self.function.nodes, renamed)]
        return (*body, *(self._copy(inner, outer, renamed) for inner, outer in copies))

    def _defining(self, nodes: Sequence[OnnxNode], renamed: dict[str, str]) -> Sequence[OnnxNode]:
        """Give every output of `nodes` that has no outer name yet a fresh one."""
        for node in nodes:
            for name in node.outputs:
                if name and name not in renamed:
                    renamed[name] = self._fresh(name)
        return nodes

    def _fresh(self, name: str) -> str:
        return self.names.fresh(f"{self.prefix}/{name[:_NAME_LENGTH]}")

    def _copy(self, inner: str, outer: str, renamed: Mapping[str, str]) -> OnnxNode:
        """A node for an output that is an input of the function, or that is returned twice."""
        source = renamed[inner]
        if not source:
            reason = f"returns its input {quote(inner)}, which the call leaves empty"
            raise FunctionInvalid(loc=self.call.location, name=self.function.label, reason=reason)
        opset = self.function.opsets.get("", _IDENTITY_OPSET)
        return OnnxNode("", "Identity", "", opset, (source,), (outer,), scope=self.scope)

    def _node(self, node: OnnxNode, renamed: Mapping[str, str]) -> OnnxNode:
        attributes: dict[str, Attribute] = {}
        for name, attribute in node.attributes.items():
            value = attribute if attribute.reference is None else self._bound(node, name, attribute)
            if value is not None:
                attributes[name] = value
        return replace(
            node,
            name=f"{self.prefix}/{node.name[:_NAME_LENGTH]}" if node.name else "",
            inputs=tuple(renamed[name] if name else "" for name in node.inputs),
            outputs=tuple(renamed[name] if name else "" for name in node.outputs),
            attributes=_map_graphs(attributes, lambda graph: self._graph(graph, renamed)),
            scope=self.scope,
        )

    def _bound(self, node: OnnxNode, name: str, attribute: Attribute) -> Attribute | None:
        """The value that a reference stands for; None when the call gives none and there is no default."""
        value = self.bound.get(attribute.reference or "")
        if value is not None and attribute.kind and value.kind != attribute.kind:
            raise AttributeKindMismatch(
                loc=self.call.location, name=quote(name), expected=attribute.kind, got=value.kind
            )
        return value

    def _graph(self, graph: OnnxGraph, outer: Mapping[str, str]) -> OnnxGraph:
        """A subgraph of the body; its own values get fresh names too, so that they hide nothing."""
        renamed = dict(outer)
        for name in dict.fromkeys([*(value.name for value in graph.inputs), *graph.initializers]):
            renamed[name] = self._fresh(name)
        for node in graph.nodes:
            renamed.update({name: self._fresh(name) for name in node.outputs if name})
        return OnnxGraph(
            name=graph.name,
            inputs=tuple(OnnxValue(renamed[value.name], value.type) for value in graph.inputs),
            outputs=tuple(OnnxValue(renamed[value.name], value.type) for value in graph.outputs),
            initializers={renamed[name]: tensor for name, tensor in graph.initializers.items()},
            value_info={renamed[name]: info for name, info in graph.value_info.items() if name in renamed},
            nodes=tuple(self._node(node, renamed) for node in graph.nodes),
            captures=tuple(dict.fromkeys(renamed[name] for name in graph.captures)),
        )


def expand_function(
    node: OnnxNode, input_types: Sequence[TypeInfo | None], names: NameSource, limits: Limits = DEFAULT
) -> tuple[OnnxNode, ...] | None:
    """The body that ONNX gives for a standard operator, in place of the node.

    Args:
        node: a call of a standard operator.
        input_types: type of each input, None where it is absent or unknown.
        names: where new value names come from.

    Returns:
        Nodes over the node's own inputs and outputs, or None when ONNX defines no body for the node
        (or only one that takes graphs or tensors as attributes).
    """
    schema = schema_of(node.domain, node.op_type, node.opset)
    if schema is None or schema.deprecated:
        return None
    check_node(node)
    attributes = {**_default_attributes(node.domain, node.op_type, schema.since_version), **node.attributes}
    version = _nearest(schema.function_opset_versions, node.opset)
    if version is not None:
        function = _static_body(node.domain, node.op_type, schema.since_version, version)
    else:
        version = _nearest(schema.context_dependent_function_opset_versions, node.opset)
        message = None if version is None else _node_message(node)
        if version is None or message is None:
            return None
        types = [type_message(info).SerializeToString() for info in input_types]
        function = _built_body(schema, version, node, message, types, limits)
    if function is None:
        return None
    declared = {*function.attributes, *function.defaults}
    return instantiate(function, node, {k: v for k, v in attributes.items() if k in declared}, names)


def _nearest(versions: Sequence[int], opset: int) -> int | None:
    """The newest body that is no newer than the operator set, else the oldest one."""
    older = [version for version in versions if version <= opset]
    return max(older) if older else min(versions, default=None)


@cache
def _default_attributes(domain: str, op_type: str, since: int) -> Mapping[str, Attribute]:
    schema = schema_of(domain, op_type, since)
    assert schema is not None
    defaults = [a.default_value for a in schema.attributes.values() if a.default_value.name]
    return Converter(DEFAULT).attributes(defaults, {}, f"schema of {quote(op_type)}", 1)


@cache
def _static_body(domain: str, op_type: str, since: int, version: int) -> OnnxFunction | None:
    schema = schema_of(domain, op_type, since)
    assert schema is not None
    stored = schema.get_function_with_opset_version(version)
    return _body(stored, DEFAULT) if stored else None


def _built_body(
    schema: Any, version: int, node: OnnxNode, message: bytes, types: list[bytes], limits: Limits
) -> OnnxFunction | None:
    """A body that depends on the node; UnbuildableFunction when onnx refuses the node."""
    try:
        stored = schema.get_context_dependent_function_with_opset_version(version, message, types)
    except (InferenceError, onnx.defs.SchemaError, RuntimeError, ValueError) as error:
        raise UnbuildableFunction(loc=node.location, op=node.operator, reason=quote(str(error))) from error
    return _body(stored, limits) if stored else None


def _body(stored: bytes, limits: Limits) -> OnnxFunction:
    """A body that onnx built, with the operator set that some bodies leave out."""
    proto = onnx.FunctionProto.FromString(stored)
    if not any(item.domain in ("", "ai.onnx") for item in proto.opset_import):
        proto.opset_import.add(domain="", version=known_domains()[""][1])
    function = Converter(limits).function(proto)
    check_node_names(function.nodes, function.inputs)
    return function


_CODE_OF_KIND = {kind: (code, field) for code, (kind, field) in KINDS.items()}
_PLAIN_KINDS = frozenset({"float", "int", "string", "floats", "ints", "strings"})


def _node_message(node: OnnxNode) -> bytes | None:
    """A node as a serialized NodeProto; None when an attribute is more than numbers and strings."""
    proto = onnx.NodeProto(
        op_type=node.op_type, domain=node.domain, input=list(node.inputs), output=list(node.outputs)
    )
    for name, attribute in node.attributes.items():
        if attribute.kind not in _PLAIN_KINDS or attribute.reference is not None:
            return None
        code, field = _CODE_OF_KIND[attribute.kind]
        item = proto.attribute.add(name=name, type=code)
        if attribute.kind.endswith("s"):
            getattr(item, field).extend(attribute.value)
        else:
            setattr(item, field, attribute.value)
    return bytes(proto.SerializeToString())


def type_message(info: TypeInfo | None) -> Any:
    """A type as a TypeProto; empty for None."""
    proto = onnx.TypeProto()
    if isinstance(info, (TensorInfo, SparseTensorInfo)):
        tensor = proto.tensor_type if isinstance(info, TensorInfo) else proto.sparse_tensor_type
        tensor.elem_type = CODES[info.dtype]
        if info.dims is not None:
            tensor.shape.SetInParent()
            for dim in info.dims:
                extent = tensor.shape.dim.add()
                if isinstance(dim, int):
                    extent.dim_value = dim
                elif dim is not None:
                    extent.dim_param = dim
    elif isinstance(info, SequenceInfo):
        proto.sequence_type.elem_type.CopyFrom(type_message(info.element))
    elif isinstance(info, OptionalInfo):
        proto.optional_type.elem_type.CopyFrom(type_message(info.element))
    elif isinstance(info, MapInfo):
        proto.map_type.key_type = CODES[info.key]
        proto.map_type.value_type.CopyFrom(type_message(info.value))
    return proto


def function_calls(graph: OnnxGraph, functions: Mapping[FunctionKey, OnnxFunction]) -> int:
    """How many nodes of a graph and its subgraphs call one of `functions`."""
    return sum((node.domain, node.op_type, node.overload) in functions for node in walk_nodes(graph))
