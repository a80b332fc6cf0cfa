"""Sequences and optional values: lists and absent values, served by the runtime in Python.

An empty sequence has 0-d elements in its type; the first element that is inserted decides.

Positions count from the end when negative; one outside of the sequence is an error.  What an element's
extents are is known where all elements agree; elsewhere they depend on data.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from aino_ir.dims import is_static
from aino_ir.dtypes import boolean, i64
from aino_ir.errors.ir import OutOfRangeIndex
from aino_ir.graph import Value
from aino_ir.infer import InferContext
from aino_ir.op import Op, Trait, bool_attr, int_attr, operand, optional_operand, type_attr, variadic_operand
from aino_ir.ops.control import yielded
from aino_ir.types import OptionalType, SequenceType, StringType, TensorType, Type

HOST = frozenset({Trait.HOST})


class Construct(Op):
    """out = the sequence of the operands; `element` is the type of each (extents may differ)."""

    name = "sequence.construct"
    traits = HOST
    inputs = variadic_operand()
    element = type_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        for n, v in enumerate(self.inputs):
            if not alike(v.type, self.element):
                ic.bad_operand(f"type of operand {n}", str(self.element), v.type)
        return [SequenceType(self.element)]

    def evaluate(self, ev: Any, *items: Any) -> list[Any]:
        return [stored(ev, v, a) for v, a in zip(self.inputs, items, strict=True)]


class At(Op):
    """out = the element at a position."""

    name = "sequence.at"
    traits = HOST
    sequence = operand()
    position = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        check_position(ic, self.position)
        return [opened(ic, sequence_element(ic, self.sequence), 0)]

    def evaluate(self, ev: Any, sequence: list[Any], position: Any) -> Any:
        return sequence[place(self, position, len(sequence))]


class Insert(Op):
    """out = the sequence with x before a position (at the end when it is absent)."""

    name = "sequence.insert"
    traits = HOST
    sequence = operand()
    x = operand()
    position = optional_operand()

    def infer(self, ic: InferContext) -> list[Type]:
        element = sequence_element(ic, self.sequence)
        if is_open(element) and isinstance(self.x.type, TensorType):
            element = TensorType(element.dtype, self.x.shape)  # type: ignore[union-attr]
        if not alike(self.x.type, element):
            ic.bad_operand("type of x", str(element), self.x.type)
        if self.position is not None:
            check_position(ic, self.position)
        return [SequenceType(element)]

    def evaluate(self, ev: Any, sequence: list[Any], x: Any, position: Any = None) -> list[Any]:
        count = len(sequence)
        at = count if position is None else place(self, position, count, past_end=True)
        return [*sequence[:at], stored(ev, self.x, x), *sequence[at:]]


class Erase(Op):
    """out = the sequence without the element at a position (the last one when it is absent)."""

    name = "sequence.erase"
    traits = HOST
    sequence = operand()
    position = optional_operand()

    def infer(self, ic: InferContext) -> list[Type]:
        if self.position is not None:
            check_position(ic, self.position)
        return [SequenceType(sequence_element(ic, self.sequence))]

    def evaluate(self, ev: Any, sequence: list[Any], position: Any = None) -> list[Any]:
        at = place(self, -1 if position is None else position, len(sequence))
        return [*sequence[:at], *sequence[at + 1 :]]


class Length(Op):
    """out = the number of elements, i64."""

    name = "sequence.length"
    traits = HOST
    sequence = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        sequence_element(ic, self.sequence)
        return [TensorType(i64, ())]

    def evaluate(self, ev: Any, sequence: list[Any]) -> Any:
        return np.asarray(len(sequence), np.int64)


class Join(Op):
    """out = the elements one behind the other along `axis`, or with `new_axis` stacked along it."""

    name = "sequence.join"
    traits = HOST | {Trait.DATA_DEPENDENT}
    sequence = operand()
    axis = int_attr(0)
    new_axis = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        element = sequence_element(ic, self.sequence)
        if not isinstance(element, TensorType):
            ic.bad_operand("element", "a tensor", element)
        shape = list(opened(ic, element, 0).shape)  # type: ignore[union-attr]
        axis = ic.axis(self.axis, len(shape) + self.new_axis)
        joined = ic.data_symbol(0, None, len(shape))
        shape[axis : axis + (not self.new_axis)] = [joined]
        return [TensorType(element.dtype, tuple(shape))]

    def evaluate(self, ev: Any, sequence: list[Any]) -> Any:
        return (np.stack if self.new_axis else np.concatenate)(sequence, axis=self.axis)


class Split(Op):
    """out = x cut along `axis` in parts of the given sizes (a scalar: of that size, the last smaller).

    Without `keepdims` the parts have one element, and the axis vanishes.
    """

    name = "sequence.split"
    traits = HOST
    x = operand()
    sizes = optional_operand()
    axis = int_attr(0)
    keepdims = bool_attr(True)

    def infer(self, ic: InferContext) -> list[Type]:
        x = ic.tensor(self.x, "x")
        axis = ic.axis(self.axis, x.rank)
        part = (
            () if not self.keepdims else (1,) if self.sizes is None else (ic.data_symbol(0, x.shape[axis]),)
        )
        return [SequenceType(TensorType(x.dtype, (*x.shape[:axis], *part, *x.shape[axis + 1 :])))]

    def evaluate(self, ev: Any, x: Any, sizes: Any = None) -> list[Any]:
        extent = x.shape[self.axis]
        if sizes is None:
            ends = list(range(1, extent))
        elif np.ndim(sizes) == 0:
            ends = list(range(int(sizes), extent, max(int(sizes), 1)))
        else:
            ends = np.cumsum(sizes)[:-1].tolist()
        parts = [stored(ev, self.x, p) for p in np.split(x, ends, axis=self.axis)]
        return parts if self.keepdims else [np.squeeze(p, self.axis) for p in parts]


class Map(Op):
    """results = sequences of what the body makes of each element.

    The region takes (an element of each of the first `sequences` operands, then the other operands).
    """

    name = "sequence.map"
    traits = HOST
    region_names = ("body",)
    inputs = variadic_operand()
    sequences = int_attr(1)

    def infer(self, ic: InferContext) -> list[Type]:
        for v in self.inputs[: self.sequences]:
            sequence_element(ic, v)
        (body,) = self.regions
        if len(body.args) != len(self.inputs):
            ic.bad_operand("arguments of the body", str(len(self.inputs)), len(body.args))
        return [SequenceType(t) for t in yielded(body)]

    def evaluate(self, ev: Any, *inputs: Any) -> tuple[Any, ...]:
        sequences, others = inputs[: self.sequences], inputs[self.sequences :]
        (body,) = self.regions
        rows = [ev.block(body, [*items, *others]) for items in zip(*sequences, strict=True)]
        return tuple([row[i] for row in rows] for i in range(len(self.results)))


class Some(Op):
    """out = x as an optional value that is present."""

    name = "optional.some"
    traits = HOST
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return [OptionalType(self.x.type)]

    def evaluate(self, ev: Any, x: Any) -> Any:
        return stored(ev, self.x, x)


class Absent(Op):
    """out = an optional value that is absent; `element` is the type that it would have."""

    name = "optional.none"
    traits = HOST
    element = type_attr()

    def infer(self, ic: InferContext) -> list[Type]:
        return [OptionalType(self.element)]

    def evaluate(self, ev: Any) -> Any:
        return None


class Has(Op):
    """out = whether an optional value is present."""

    name = "optional.has"
    traits = HOST
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        optional_element(ic, self.x)
        return [TensorType(boolean, ())]

    def evaluate(self, ev: Any, x: Any) -> Any:
        return np.asarray(x is not None)


class Get(Op):
    """out = an optional value that must be present."""

    name = "optional.get"
    traits = HOST
    x = operand()

    def infer(self, ic: InferContext) -> list[Type]:
        return [opened(ic, optional_element(ic, self.x), 0)]

    def evaluate(self, ev: Any, x: Any) -> Any:
        if x is None:
            raise OutOfRangeIndex(loc=self.loc, op=self.name, index=0, extent=0)
        return x


# ---------------------------------------------------------------------------------- shared pieces


def alike(a: Type, b: Type) -> bool:
    """Whether two types are equal but for extents."""
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        return a.dtype is b.dtype and a.rank == b.rank
    if isinstance(a, StringType) and isinstance(b, StringType):
        return len(a.shape) == len(b.shape)
    return a == b


def is_open(element: Type) -> bool:
    """Whether an element type is that of an empty sequence, whose elements' rank is not known yet."""
    return isinstance(element, TensorType) and element.rank == 0


def opened(ic: InferContext, type_: Type, result: int) -> Type:
    """A type whose symbolic extents are this op's own: those of another element may differ."""
    if isinstance(type_, TensorType):
        shape = tuple(
            d if is_static(d) else ic.data_symbol(result, None, a) for a, d in enumerate(type_.shape)
        )
        return TensorType(type_.dtype, shape)
    if isinstance(type_, StringType):
        return StringType(
            tuple(d if is_static(d) else ic.data_symbol(result, None, a) for a, d in enumerate(type_.shape))
        )
    return type_


def sequence_element(ic: InferContext, value: Value) -> Type:
    """The element type of an operand that must be a sequence."""
    if not isinstance(value.type, SequenceType):
        _refuse(ic, "a sequence", value)
    return value.type.element


def optional_element(ic: InferContext, value: Value) -> Type:
    """The element type of an operand that must be optional."""
    if not isinstance(value.type, OptionalType):
        _refuse(ic, "an optional value", value)
    return value.type.element


def _refuse(ic: InferContext, expected: str, value: Value) -> NoReturn:
    ic.bad_operand("type of the operand", expected, value.type)


def check_position(ic: InferContext, value: Value) -> None:
    """Demand an integer scalar."""
    type_ = ic.tensor(value, "position")
    if not type_.dtype.is_integer or type_.rank > 1:
        ic.bad_operand("position", "an integer scalar", type_)


def place(op: Op, position: Any, count: int, past_end: bool = False) -> int:
    """A position made non-negative, and checked."""
    at = int(np.asarray(position).reshape(-1)[0])
    if not -count <= at < count + past_end:
        raise OutOfRangeIndex(loc=op.loc, op=op.name, index=at, extent=count)
    return at + count if at < 0 else at


def stored(ev: Any, value: Value, array: Any) -> Any:
    """An operand as a list keeps it: a tensor in its storage dtype."""
    type_ = value.type
    if not isinstance(type_, TensorType) or (ev.wide and type_.dtype.is_float):
        return array
    return np.asarray(array).astype(type_.dtype.numpy, copy=False)
