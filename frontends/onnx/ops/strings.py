"""Strings."""

from __future__ import annotations

from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value


def split(c: NodeContext, node: OnnxNode) -> tuple[Value, ...]:
    """Texts cut at a delimiter."""
    limit = node.int("maxsplit", -1)
    return c.emit_all("text.split", c.require(0), delimiter=node.str("delimiter", ""), limit=limit)


def full_match(c: NodeContext, node: OnnxNode) -> Value:
    """Texts that match a pattern as a whole."""
    return c.emit("text.regex_full_match", c.require(0), pattern=node.str("pattern", ""))


def normalize(c: NodeContext, node: OnnxNode) -> Value:
    """Texts without stop words, in one case."""
    return c.emit(
        "text.normalize",
        c.require(0),
        case=node.str("case_change_action", "NONE").lower(),
        sensitive=bool(node.int("is_case_sensitive", 0)),
        stop=node.strs("stopwords", ()),
    )


TABLE: dict[str, Row] = {
    "RegexFullMatch": full_match,
    "StringConcat": "text.concat",
    "StringNormalizer": normalize,
    "StringSplit": split,
}
