"""Which operators the frontend takes: those with a row in a table, and those that ONNX gives a body."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import onnx.defs

from aino_ir.errors.onnx import UnsupportedOperators
from aino_ir.frontends.onnx.context import Row
from aino_ir.frontends.onnx.functions import NameSource, expand_function
from aino_ir.frontends.onnx.legacy import legacy_row
from aino_ir.frontends.onnx.nodes import OnnxNode, TypeInfo
from aino_ir.frontends.onnx.ops import REGISTERED, TABLE
from aino_ir.frontends.onnx.schemas import known_domains, schema_of


def row_of(node: OnnxNode) -> Row | None:
    """The lowering of a node's operator, or None when it has no row."""
    return legacy_row(node) or TABLE.get((node.domain, node.op_type))


def supports(node: OnnxNode) -> bool:
    """Whether a node's operator can be lowered."""
    if (node.domain, node.op_type) in REGISTERED:
        return True
    if (node.domain, node.op_type) in TABLE:
        known = (node.domain, node.op_type) in defined_operators()
        return not known or schema_of(node.domain, node.op_type, node.opset) is not None
    return has_function(node.domain, node.op_type, node.opset)


@cache
def defined_operators() -> frozenset[tuple[str, str]]:
    """(domain, operator) of all that the installed onnx has ever defined; rows may serve others too."""
    return frozenset((s.domain, s.name) for s in onnx.defs.get_all_schemas_with_history())


@cache
def has_function(domain: str, op_type: str, opset: int) -> bool:
    """Whether ONNX defines an operator by a body of other operators."""
    schema = schema_of(domain, op_type, opset)
    if schema is None or schema.deprecated:
        return False
    return bool(schema.function_opset_versions or schema.context_dependent_function_opset_versions)


def function_body(
    node: OnnxNode, types: Sequence[TypeInfo | None], names: NameSource
) -> tuple[OnnxNode, ...]:
    """The nodes that stand for a node whose operator has no row."""
    body = expand_function(node, types, names)
    if body is None:
        raise UnsupportedOperators(
            loc=node.location, count=1, operators=f"{node.operator} version {node.opset}"
        )
    return body


def supported_operators() -> tuple[tuple[str, str], ...]:
    """(domain, operator) of all that can be lowered at the newest operator sets, sorted."""
    newest = {domain: high for domain, (_, high) in known_domains().items()}
    found = set()
    for schema in onnx.defs.get_all_schemas():
        key = (schema.domain, schema.name)
        if not schema.deprecated and (key in TABLE or has_function(*key, newest[schema.domain])):
            found.add(key)
    return tuple(sorted(found))
