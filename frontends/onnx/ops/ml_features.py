"""ai.onnx.ml: features made of features (scaling, imputing, encoding, selecting)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import product
from aino_ir.dtypes import DType, f32, i64
from aino_ir.frontends.floats import Number
from aino_ir.frontends.onnx.context import NodeContext, Row
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.ops.movement import cut
from aino_ir.graph import Value
from aino_ir.types import StringType

DOMAIN = "ai.onnx.ml"

UNUSED = "_Unused"
"""The default of texts that nothing maps to."""


def as_float(c: NodeContext, x: Value) -> Value:
    """x as the operators of this domain compute it: f64 stays, all else becomes f32."""
    return x if x.dtype.is_float and x.dtype.bits == 64 else c.cast(x, f32)


def vector(c: NodeContext, numbers: Sequence[float], dtype: DType) -> Value:
    """Numbers of an attribute as a 1-d constant."""
    return c.b.constant(np.asarray(numbers).astype(dtype.numpy))


def array_feature_extractor(c: NodeContext, node: OnnxNode) -> Value:
    """Columns of the last axis, in the order of the indices."""
    x, indices = c.x, c.tensor(1)
    if x.rank == 0:
        c.invalid("rank of X", "at least 1", 0)
    chosen = c.reshape(indices, (product(indices.shape),))
    y = c.emit("gather", x, chosen, axis=x.rank - 1)
    return c.reshape(y, (1, *y.shape)) if x.rank == 1 else y


def binarizer(c: NodeContext, node: OnnxNode) -> Value:
    """1 above the threshold, else 0."""
    x = c.x
    above = c.emit("gt", as_float(c, x), c.scalar(node.float("threshold", 0.0), as_float(c, x).dtype))
    return c.cast(above, x.dtype)


def feature_vectorizer(c: NodeContext, node: OnnxNode) -> Value:
    """Inputs side by side, each cut or filled up with zeros to its width."""
    widths = node.ints("inputdimensions", ())
    if len(widths) != len(c.inputs):
        c.invalid("number of inputdimensions", len(c.inputs), len(widths))
    parts = []
    for number, width in enumerate(widths):
        x = c.cast(c.tensor(number), f32)
        x = c.reshape(x, (x.shape[0], product(x.shape[1:]))) if x.rank != 2 else x
        extent = x.shape[1]
        if c.symbols.prove_ge(extent, width):
            parts.append(cut(c, x, 1, 0, width))
        else:
            parts.append(c.emit("pad", x, before=(0, 0), after=(0, width - extent)))
    return parts[0] if len(parts) == 1 else c.emit("concat", *parts, axis=1)


def imputer(c: NodeContext, node: OnnxNode) -> Value:
    """One value of each column stands for the missing ones."""
    x = c.x
    kind = "int64s" if x.dtype.is_integer else "floats"
    values = (
        node.ints("imputed_value_int64s", ()) if kind == "int64s" else node.floats("imputed_value_floats", ())
    )
    if not values:
        c.invalid(f"imputed_value_{kind}", "given", "nothing")
    if kind == "floats":
        missing = node.float("replaced_value_float", 0.0)
        gone = c.emit("is_nan", x) if np.isnan(missing) else c.emit("eq", x, c.scalar(missing, x.dtype))
    else:
        gone = c.emit("eq", x, c.scalar(node.int("replaced_value_int64", 0), x.dtype))
    return c.emit("select", gone, vector(c, values, x.dtype), x)


def scaler(c: NodeContext, node: OnnxNode) -> Value:
    """(x - offset) * scale, column by column."""
    x = c.cast(c.x, f32)
    y = Number(c, x) - Number(c, vector(c, node.floats("offset", (0.0,)), f32))
    return (y * Number(c, vector(c, node.floats("scale", (1.0,)), f32))).value


def normalizer(c: NodeContext, node: OnnxNode) -> Value:
    """Rows divided by their largest element, or by their norm; rows of zeros stay."""
    x, norm = c.cast(c.x, f32), node.str("norm", "MAX")
    ops = {"MAX": "reduce.max", "L1": "reduce.l1", "L2": "reduce.l2"}
    if norm not in ops or x.rank not in (1, 2):
        c.invalid("norm and rank of X", "MAX, L1 or L2, and 1 or 2", (norm, x.rank))
    size = Number(c, c.emit(ops[norm], x, axes=(x.rank - 1,), keepdims=True))
    return (Number(c, x) / size.equals(0.0).choose(1.0, size)).value


# -- encodings ----------------------------------------------------------------------------------------


def position_of(c: NodeContext, x: Value, keys: Sequence[Any]) -> Value:
    """The position of each element among keys (the first one), or -1; NaN finds NaN from version 4 on."""
    if isinstance(x.type, StringType):
        return c.emit("text.lookup", x, keys=[str(k) for k in keys])
    table = np.asarray(keys).astype(x.dtype.numpy)
    column = c.reshape(x, (*x.shape, 1))
    same = c.emit("eq", column, c.b.constant(table))
    if x.dtype.is_float and c.opset >= 4 and np.isnan(table).any():
        nan = c.emit("logical_and", c.emit("is_nan", column), c.b.constant(np.isnan(table)))
        same = c.emit("logical_or", same, nan)
    places = c.b.constant(np.arange(len(keys), 0, -1, dtype=np.int64))
    ranked = c.emit("select", same, places, c.scalar(0, i64))
    best = c.emit("reduce.max", ranked, axes=(x.rank,), keepdims=False)
    found = c.emit("sub", c.scalar(len(keys), i64), best)
    return c.emit("select", c.emit("gt", best, c.scalar(0, i64)), found, c.scalar(-1, i64))


def chosen(c: NodeContext, place: Value, values: Sequence[Any], other: Any, dtype: DType | None) -> Value:
    """Values at positions, `other` where there is none; texts without a dtype."""
    if dtype is None:
        return c.emit("text.choose", place, texts=[str(v) for v in values], other=str(other))
    table = c.b.constant(np.asarray([*values, other]).astype(dtype.numpy))
    last = c.scalar(len(values), i64)
    missing = c.emit("lt", place, c.scalar(0, i64))
    return c.emit("gather", table, c.emit("select", missing, last, place), axis=0)


def one_hot_encoder(c: NodeContext, node: OnnxNode) -> Value:
    """A new last axis with 1 at the category; a value of no category is an error unless `zeros`."""
    x = c.require(0)
    strings = isinstance(x.type, StringType)
    keys: Sequence[Any] = node.strs("cats_strings", ()) if strings else node.ints("cats_int64s", ())
    if not keys:
        c.invalid("categories", "given for the type of X", "nothing")
    place = position_of(c, x if strings else c.cast(x, i64), keys)
    rows = np.eye(len(keys) + node.int("zeros", 1), len(keys), dtype=np.float32)
    missing = c.emit("lt", place, c.scalar(0, i64))
    return c.emit(
        "gather", c.b.constant(rows), c.emit("select", missing, c.scalar(len(keys), i64), place), axis=0
    )


def label_encoder(c: NodeContext, node: OnnxNode) -> Value:
    """Each element replaced by the value of its key, or by a default."""
    x = c.require(0)
    if "classes_strings" in node.attributes:
        return _by_classes(c, node, x, node.strs("classes_strings"))
    keys, _ = _listed(node, "keys")
    values, dtype = _listed(node, "values")
    if keys is None or values is None or len(keys) != len(values):
        c.invalid("keys and values", "given, and equally many", (keys and len(keys), values and len(values)))
    if "default_tensor" in node.attributes:
        tensor = node.tensor("default_tensor")
        other: Any = np.asarray(tensor.array()).reshape(-1)[0]
    elif dtype is None:
        other = node.str("default_string", UNUSED)
    elif dtype.is_integer:
        other = node.int("default_int64", -1)
    else:
        other = node.float("default_float", -0.0)
    return chosen(c, position_of(c, x, keys), values, other, dtype)


def _by_classes(c: NodeContext, node: OnnxNode, x: Value, classes: Sequence[str]) -> Value:
    """Texts to their positions, and positions to texts."""
    if isinstance(x.type, StringType):
        places = list(range(len(classes)))
        return chosen(c, position_of(c, x, classes), places, node.int("default_int64", -1), i64)
    return c.emit("text.choose", x, texts=classes, other=node.str("default_string", UNUSED))


def _listed(node: OnnxNode, which: str) -> tuple[Sequence[Any] | None, DType | None]:
    """Keys or values of an encoder, in whichever attribute they stand; texts have no dtype."""
    if f"{which}_int64s" in node.attributes:
        return node.ints(f"{which}_int64s"), i64
    if f"{which}_floats" in node.attributes:
        return node.floats(f"{which}_floats"), f32
    if f"{which}_strings" in node.attributes:
        return node.strs(f"{which}_strings"), None
    tensor = node.tensor(f"{which}_tensor", None)
    if tensor is None:
        return None, None
    array = np.asarray(tensor.array()).reshape(-1)
    if tensor.dtype == "str":
        return [str(t) for t in array.tolist()], None
    from aino_ir.dtypes import DTYPES

    return list(array), DTYPES[tensor.dtype]


def category_mapper(c: NodeContext, node: OnnxNode) -> Value:
    """Texts to integers or back, by two lists."""
    x, numbers, texts = c.require(0), node.ints("cats_int64s"), node.strs("cats_strings")
    if len(numbers) != len(texts):
        c.invalid("categories", "equally many integers and texts", (len(numbers), len(texts)))
    if isinstance(x.type, StringType):
        return chosen(c, position_of(c, x, texts), numbers, node.int("default_int64", -1), i64)
    return chosen(c, position_of(c, x, numbers), texts, node.str("default_string", UNUSED), None)


TABLE: dict[str, Row] = {
    "ArrayFeatureExtractor": array_feature_extractor,
    "Binarizer": binarizer,
    "CategoryMapper": category_mapper,
    "FeatureVectorizer": feature_vectorizer,
    "Imputer": imputer,
    "LabelEncoder": label_encoder,
    "Normalizer": normalizer,
    "OneHotEncoder": one_hot_encoder,
    "Scaler": scaler,
}
