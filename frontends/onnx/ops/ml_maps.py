"""ai.onnx.ml: maps made of rows, and rows made of maps."""

from __future__ import annotations

from typing import Any

from aino_ir.dtypes import DType, f32, i64
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.graph import Value
from aino_ir.types import MapType, StringType

DOMAIN = "ai.onnx.ml"

MISSING = "0.f"
"""What ONNX Runtime puts where a sparse map of texts has no key."""

DECIMALS = 6
"""Digits behind the point of numbers that become texts."""

LARGEST_MAP = 1 << 24
"""Sparse maps of more places are refused."""


def keys_of(c: NodeContext, node: OnnxNode, numbers: str, texts: str) -> dict[str, Any]:
    """Keys from two attributes, one of which must be given."""
    found = {"numbers": node.ints(numbers, ()), "texts": node.strs(texts, ())}
    if bool(found["numbers"]) == bool(found["texts"]):
        c.invalid(f"{numbers} and {texts}", "one of them", tuple(map(len, found.values())))
    return found


def map_input(c: NodeContext) -> MapType:
    """The type of the first input, which must be a map."""
    type_ = c.require(0).type
    if not isinstance(type_, MapType):
        c.invalid("type of X", "a map", type_)
    return type_


def zip_map(c: NodeContext, node: OnnxNode) -> Value:
    """Each row as a map from the classes to its elements; a vector is one row."""
    x, keys = c.x, keys_of(c, node, "classlabels_int64s", "classlabels_strings")
    if x.rank not in (1, 2):
        c.invalid("rank of X", "1 or 2", x.rank)
    x = c.reshape(x, (1, x.shape[0])) if x.rank == 1 else x
    return c.emit("map.zip", c.cast(x, f32), **keys)


def dict_vectorizer(c: NodeContext, node: OnnxNode) -> Value:
    """The values of the vocabulary's keys as a row."""
    map_input(c)
    return c.emit("map.values", c.require(0), **keys_of(c, node, "int64_vocabulary", "string_vocabulary"))


TO: dict[str, DType | None] = {"TO_FLOAT": f32, "TO_INT64": i64, "TO_STRING": None}


def cast_map(c: NodeContext, node: OnnxNode) -> Value:
    """A map's values in the order of its keys (dense), or each at the place that its key says (sparse)."""
    x, type_ = c.require(0), map_input(c)
    form, to, size = node.str("map_form", "DENSE"), node.str("cast_to", "TO_FLOAT"), node.int("max_map", 1)
    if form not in ("DENSE", "SPARSE") or to not in TO or not 0 < size <= LARGEST_MAP:
        expected = f"DENSE or SPARSE, {', '.join(TO)}, at least 1"
        c.invalid("map_form, cast_to and max_map", expected, (form, to, size))
    if isinstance(type_.key, StringType):
        c.invalid("keys of X", "integers", type_.key)
    if form == "DENSE":
        return _converted(c, c.emit("map.sorted", x), TO[to])
    places = tuple(range(size))
    if TO[to] is None:
        return c.emit("map.values", x, numbers=places, other=MISSING, decimals=DECIMALS)
    return _converted(c, c.emit("map.values", x, numbers=places, other="0"), TO[to])


def _converted(c: NodeContext, row: Value, dtype: DType | None) -> Value:
    """A row as numbers of a dtype, or as texts without one."""
    texts = isinstance(row.type, StringType)
    if dtype is None:
        return row if texts else c.emit("text.format", row, decimals=DECIMALS)
    if texts:
        return c.emit("text.parse", row, to=dtype)
    return row if row.dtype is dtype else c.emit("cast", row, to=dtype, semantics="x86")


TABLE: dict[str, Row] = {"CastMap": cast_map, "DictVectorizer": dict_vectorizer, "ZipMap": zip_map}
