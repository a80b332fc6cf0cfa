"""What the installed onnx package says about operators: versions, arity, attributes.

Only the tables of onnx.defs are read; its checker and shape inference, which are C++ and not made
for hostile models, are never called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnx.defs

from aino_ir.errors.onnx import (
    AttributeKindMismatch,
    AttributeMissing,
    AttributeUnknown,
    NodeArity,
    NodeInputMissing,
    OpsetOutOfRange,
    UnsupportedOperators,
)
from aino_ir.frontends.onnx.names import domain_label, quote
from aino_ir.frontends.onnx.nodes import FunctionKey, OnnxGraph, OnnxNode, walk_nodes

_UNBOUNDED = 2**31 - 1
_LISTED = 20
"""Unsupported operators that a message lists."""


@cache
def known_domains() -> Mapping[str, tuple[int, int]]:
    """Operator domains that the installed onnx defines, with the versions that the reader takes."""
    newest: dict[str, int] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        newest[schema.domain] = max(newest.get(schema.domain, 1), schema.since_version)
    newest[""] = onnx.defs.onnx_opset_version()
    return {domain: (1, version) for domain, version in newest.items()}


def check_opsets(opsets: Mapping[str, int], loc: object = None) -> None:
    """OpsetOutOfRange when a version of a known domain is older or newer than what is known."""
    for domain, version in opsets.items():
        low, high = known_domains().get(domain, (1, _UNBOUNDED))
        if not low <= version <= high:
            raise OpsetOutOfRange(loc=loc, domain=domain_label(domain), got=version, low=low, high=high)


@dataclass(frozen=True)
class Signature:
    """An operator's schema as plain data.

    Attributes:
        since: the version that introduced this meaning.
        inputs, outputs: least and largest number.
        required: for each leading input that must be given, its formal name.
        attributes: kind by name; `needed` are those without which a node is malformed.
        deprecated: whether the operator may no longer be used.
    """

    since: int
    inputs: tuple[int, int]
    outputs: tuple[int, int]
    required: tuple[tuple[int, str], ...]
    attributes: Mapping[str, str]
    needed: tuple[str, ...]
    deprecated: bool


def schema_of(domain: str, op_type: str, opset: int) -> Any | None:
    """onnx's own schema of an operator at an operator set version, or None when there is none."""
    if domain not in known_domains() or opset < 1:
        return None
    try:
        return onnx.defs.get_schema(op_type, opset, domain)
    except onnx.defs.SchemaError:
        return None


@cache
def signature(domain: str, op_type: str, opset: int) -> Signature | None:
    """The signature of an operator at an operator set version, or None when onnx has no such operator."""
    schema = schema_of(domain, op_type, opset)
    if schema is None:
        return None
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return Signature(
        since=schema.since_version,
        inputs=(schema.min_input, schema.max_input),
        outputs=(schema.min_output, schema.max_output),
        required=tuple((i, item.name) for i, item in enumerate(schema.inputs) if item.option == single),
        attributes={name: kind_of(item.type) for name, item in schema.attributes.items()},
        needed=tuple(name for name, item in schema.attributes.items() if item.required),
        deprecated=schema.deprecated,
    )


def kind_of(attribute_type: Any) -> str:
    """Our name of a schema's attribute type (FLOAT is float, TYPE_PROTOS is types)."""
    return str(attribute_type.name).lower().replace("type_proto", "type")


def check_node(node: OnnxNode) -> None:
    """Check a node against its operator's schema; operators without one, or deprecated, pass.

    Raises:
        NodeArity, NodeInputMissing, AttributeUnknown, AttributeKindMismatch, AttributeMissing.
    """
    known = signature(node.domain, node.op_type, node.opset)
    if known is None or known.deprecated:
        return
    for side, names, (low, high) in (
        ("inputs", node.inputs, known.inputs),
        ("outputs", node.outputs, known.outputs),
    ):
        if not low <= len(names) <= high:
            most = "any number of" if high == _UNBOUNDED else high
            raise NodeArity(
                loc=node.location,
                op=node.operator,
                opset=node.opset,
                low=low,
                high=most,
                side=side,
                got=len(names),
            )
    for index, name in known.required:
        if index < len(node.inputs) and not node.inputs[index]:
            raise NodeInputMissing(loc=node.location, index=index, name=quote(name), op=node.operator)
    _check_attributes(node, known)


def _check_attributes(node: OnnxNode, known: Signature) -> None:
    for name, attribute in node.attributes.items():
        kind = known.attributes.get(name)
        if kind is None:
            raise AttributeUnknown(
                loc=node.location,
                name=quote(name),
                op=node.operator,
                opset=node.opset,
                known=", ".join(map(quote, sorted(known.attributes))) or "none",
            )
        if attribute.kind and attribute.kind != kind:
            raise AttributeKindMismatch(
                loc=node.location, name=quote(name), expected=kind, got=attribute.kind
            )
    for name in known.needed:
        if name not in node.attributes:
            raise AttributeMissing(loc=node.location, name=quote(name), expected=known.attributes[name])


def check_nodes(nodes: Iterable[OnnxNode], local: Mapping[FunctionKey, object]) -> None:
    """`check_node` for all nodes and the nodes of their subgraphs, except calls of the model's functions."""
    for node in nodes:
        if (node.domain, node.op_type, node.overload) not in local:
            check_node(node)
        if node.attributes:
            for graph in node.subgraphs():
                check_nodes(graph.nodes, local)


@dataclass(frozen=True)
class UnsupportedOperator:
    """An operator that a model uses and nothing implements: how often, and where first."""

    domain: str
    op_type: str
    opset: int
    count: int
    first: str

    def __str__(self) -> str:
        name = quote(f"{self.domain}.{self.op_type}" if self.domain else self.op_type)
        return f"{name} version {self.opset} ({self.count} nodes, first: {self.first})"


def unsupported_operators(
    graph: OnnxGraph, supported: Callable[[OnnxNode], bool]
) -> tuple[UnsupportedOperator, ...]:
    """Every operator in a graph and its subgraphs that `supported` refuses, in order of first use."""
    found: dict[tuple[str, str, int], list[OnnxNode]] = {}
    for node in walk_nodes(graph):
        if not supported(node):
            found.setdefault((node.domain, node.op_type, node.opset), []).append(node)
    return tuple(UnsupportedOperator(*key, len(nodes), nodes[0].location) for key, nodes in found.items())


def require_operators(graph: OnnxGraph, supported: Callable[[OnnxNode], bool]) -> None:
    """UnsupportedOperators, listing all of them, when `supported` refuses any node."""
    missing = unsupported_operators(graph, supported)
    if missing:
        more = [f"and {len(missing) - _LISTED} more"] if len(missing) > _LISTED else []
        listed = "; ".join([*map(str, missing[:_LISTED]), *more])
        raise UnsupportedOperators(loc=missing[0].first, count=len(missing), operators=listed)
