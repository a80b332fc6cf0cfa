"""Maps from integers or texts to numbers or texts: Python dicts, served by the runtime in Python.

A map has a type of keys and one of values, both scalar; which keys it has only the run knows.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.dtypes import i64
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.op import Op, Trait, int_attr, ints_attr, operand, str_attr, strs_attr
from aino_ir.ops.math import Array
from aino_ir.ops.text import texts
from aino_ir.types import MapType, SequenceType, StringType, TensorType, Type

HOST = frozenset({Trait.HOST})


class MapZip(Op):
    """out = for each row of x [rows, columns] a map from the columns' keys to their elements.

    The keys are `numbers` or `texts`, one a column; of equal ones the last counts.
    """

    name = "map.zip"
    traits = HOST
    x = operand()
    numbers = ints_attr(())
    texts = strs_attr(())

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        ic.rank(self.x, 2, "x")
        keys = key_list(self, ic)
        ic.same(x.shape[1], len(keys), "columns and keys")
        key = StringType(()) if self.texts else TensorType(i64, ())
        return [SequenceType(MapType(key, TensorType(x.dtype, ())))]

    def evaluate(self, ev: Any, x: Array) -> list[dict[Any, Any]]:
        keys = self.texts or self.numbers
        return [dict(zip(keys, row, strict=True)) for row in x.tolist()]


class MapValues(Op):
    """out [1, keys] = the value of each of `numbers` or `texts`, in their order.

    Where the map lacks a key it is 0, or `other` for texts; keys that nobody asks for do not count.
    With `decimals` (0 or more) numbers become texts with so many digits behind the point.
    """

    name = "map.values"
    traits = HOST
    x = operand()
    numbers = ints_attr(())
    texts = strs_attr(())
    other = str_attr("")
    decimals = int_attr(-1)

    def infer(self, ic: InferContext) -> list[Type]:
        type_ = map_type(ic, self.x)
        keys = key_list(self, ic)
        if isinstance(type_.key, StringType) != bool(self.texts):
            ic.bad_attribute("keys", f"of the map's kind, {type_.key}", keys[:3])
        return [StringType((1, len(keys))) if self.decimals >= 0 else row_type(type_, len(keys))]

    def evaluate(self, ev: Any, x: dict[Any, Any]) -> Array:
        missing = self.other if is_text(self) else 0
        if self.decimals >= 0:
            x = {key: v if isinstance(v, str) else f"{v:.{self.decimals}f}" for key, v in x.items()}
        return row(self, [x.get(key, missing) for key in self.texts or self.numbers])


class MapSorted(Op):
    """out [1, size] = all values of a map in the order of their keys."""

    name = "map.sorted"
    traits = HOST | {Trait.DATA_DEPENDENT}
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return [row_type(map_type(ic, self.x), ic.data_symbol(0, None))]

    def evaluate(self, ev: Any, x: dict[Any, Any]) -> Array:
        return row(self, [x[key] for key in sorted(x)])


def map_type(ic: InferContext, value: Value) -> MapType:
    """The type of an operand that must be a map."""
    if not isinstance(value.type, MapType):
        ic.bad_operand("type of the operand", "a map", value.type)
    return value.type


def key_list(op: Any, ic: InferContext) -> tuple[Any, ...]:
    """The keys that an op names: numbers or texts, not both."""
    if bool(op.numbers) == bool(op.texts):
        ic.bad_attribute("numbers and texts", "one of them", (len(op.numbers), len(op.texts)))
    return tuple(op.texts or op.numbers)


def row_type(type_: MapType, size: Any) -> Type:
    """A tensor [1, size] of a map's values."""
    if isinstance(type_.value, StringType):
        return StringType((1, size))
    return TensorType(type_.value.dtype, (1, size))


def is_text(op: Op) -> bool:
    """Whether an op's result holds texts."""
    return isinstance(op.results[0].type, StringType)


def row(op: Op, values: list[Any]) -> Array:
    """Values as the op's result [1, size]."""
    if is_text(op):
        return texts(values, (1, len(values)))
    return np.asarray(values, op.results[0].dtype.numpy).reshape(1, len(values))
