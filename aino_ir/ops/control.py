"""Control flow: a choice, a loop, a scan.  Regions are isolated: what they read stands among the operands.

The region's arguments are described with each op, `captures` being values that every run of it sees.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, dmax
from aino_ir.graph import Block, Value
from aino_ir.infer import InferContext
from aino_ir.op import Op, bool_attr, int_attr, operand, optional_operand, variadic_operand
from aino_ir.types import OptionalType, SequenceType, StringType, TensorType, Type


class If(Op):
    """out = then(captures) if condition else otherwise(captures).

    Both regions yield as many values of the same dtypes and ranks; extents in which they differ depend
    on data.
    """

    name = "control.if"
    region_names = ("then", "otherwise")
    condition = operand()
    captures = variadic_operand()

    def infer(self, ic: InferContext) -> list[Type]:
        condition = ic.tensor(self.condition, "condition")
        if not condition.dtype.is_bool:
            ic.bad_dtype("dtype of condition", "bool", condition.dtype)
        for region, name in zip(self.regions, self.region_names, strict=True):
            check_arguments(ic, region, [v.type for v in self.captures], name)
        first, second = (yielded(region) for region in self.regions)
        if len(first) != len(second):
            ic.bad_operand("number of values of both regions", str(len(first)), len(second))
        return [common_type(ic, a, b, i) for i, (a, b) in enumerate(zip(first, second, strict=True))]

    def capture(self, position: int) -> Value | None:
        return self.captures[position]

    def evaluate(self, ev: Any, condition: Any, *captures: Any) -> tuple[Any, ...]:
        chosen = self.regions[0 if bool(np.asarray(condition).reshape(-1)[0]) else 1]
        return tuple(ev.block(chosen, captures))


class Loop(Op):
    """carried..., stacked... = body run while the condition holds, `trips` times at most.

    The region takes (i64 iteration, bool condition, carried..., captures...) and yields (condition,
    carried..., elements...); `inputs` are the first carried values, then the captures.  Elements are
    stacked along a new first axis.  Without `trips` there is no bound, without `condition` it starts
    true.  A `counted` loop has `trips` turns, whatever its conditions are.
    """

    name = "control.loop"
    region_names = ("body",)
    trips = optional_operand()
    condition = optional_operand()
    inputs = variadic_operand()
    carried = int_attr()
    counted = bool_attr(False)

    def infer(self, ic: InferContext) -> list[Type]:
        (body,) = self.regions
        found = yielded(body)
        if not 0 <= self.carried <= min(len(self.inputs), len(found) - 1):
            ic.bad_attribute("carried", f"within 0..{min(len(self.inputs), len(found) - 1)}", self.carried)
        if len(body.args) != 2 + len(self.inputs):
            ic.bad_operand("arguments of the body", str(2 + len(self.inputs)), len(body.args))
        if self.counted and self.trips is None:
            ic.bad_operand("trips", "given for a counted loop", None)
        self._check_scalars(ic, found[0])
        results: list[Type] = []
        for i, type_ in enumerate(found[1:]):
            if i < self.carried:
                results.append(common_type(ic, self.inputs[i].type, type_, i))
            elif isinstance(type_, TensorType):
                shape = tuple(local_to_data(ic, d, i, a + 1) for a, d in enumerate(type_.shape))
                results.append(TensorType(type_.dtype, (self._turns(ic, i), *shape)))
            else:
                ic.bad_operand(f"element {i - self.carried}", "a tensor", type_)
        return results

    def _check_scalars(self, ic: InferContext, again: Type) -> None:
        """Demand that counts are integers and conditions bools, of one element each."""
        (body,) = self.regions
        scalars = [
            ("the iteration", body.args[0].type, "i64"),
            ("the body's condition", body.args[1].type, "bool"),
            ("the next condition", again, "bool"),
            *(("condition", v.type, "bool") for v in (self.condition,) if v is not None),
        ]
        if self.trips is not None and not ic.tensor(self.trips, "trips").dtype.is_integer:
            ic.bad_dtype("dtype of trips", "an integer", self.trips.dtype)
        for what, type_, dtype in scalars:
            if not isinstance(type_, TensorType) or type_.dtype.name != dtype:
                ic.bad_operand(f"type of {what}", dtype, type_)

    def _turns(self, ic: InferContext, result: int) -> DimLike:
        """How many elements a stacked result has."""
        known = ic.known_dims(self.trips)
        bound = dmax(known[0], 0) if known else None
        return bound if self.counted and bound is not None else ic.data_symbol(result, bound)

    def capture(self, position: int) -> Value | None:
        number = position - 2
        return self.inputs[number] if number >= self.carried else None

    def evaluate(self, ev: Any, trips: Any, condition: Any, *inputs: Any) -> tuple[Any, ...]:
        limit = None if trips is None else int(np.asarray(trips).reshape(-1)[0])
        go = self.counted or condition is None or bool(np.asarray(condition).reshape(-1)[0])
        (body,) = self.regions
        carried, captures = list(inputs[: self.carried]), inputs[self.carried :]
        elements: list[list[Any]] = [[] for _ in self.results[self.carried :]]
        turn = 0
        while go and (limit is None or turn < limit):
            out = ev.block(body, [np.int64(turn), np.bool_(go), *carried, *captures])
            go = self.counted or bool(np.asarray(out[0]).reshape(-1)[0])
            carried = list(out[1 : 1 + self.carried])
            for found, value in zip(elements, out[1 + self.carried :], strict=True):
                found.append(value)
            turn += 1
        stacks = [stacked(ev, e, r.type) for e, r in zip(elements, self.results[self.carried :], strict=True)]
        return (*carried, *stacks)


class Scan(Op):
    """states..., stacked... = body run over the first axis of sequences, in order.

    The region takes (states..., one element of each sequence..., captures...) and yields (states...,
    elements...); `inputs` are the first states, the sequences, the captures.  States keep their types.
    """

    name = "control.scan"
    region_names = ("body",)
    inputs = variadic_operand()
    states = int_attr()
    sequences = int_attr(1)

    def infer(self, ic: InferContext) -> list[Type]:
        (body,) = self.regions
        sequences = self.inputs[self.states : self.states + self.sequences]
        if not sequences or len(sequences) != self.sequences:
            ic.bad_attribute("sequences", "at least 1, and given", self.sequences)
        length = ic.tensor(sequences[0], "sequence 0").shape[0]
        wanted: list[Type] = [v.type for v in self.inputs[: self.states]]
        for n, v in enumerate(sequences):
            type_ = ic.tensor(v, f"sequence {n}")
            length = ic.same(length, type_.shape[0], "lengths of the sequences")
            wanted.append(TensorType(type_.dtype, type_.shape[1:]))
        wanted += [v.type for v in self.inputs[self.states + self.sequences :]]
        check_arguments(ic, body, wanted, "body")
        found = yielded(body)
        if len(found) < self.states:
            ic.bad_operand("values of the body", f"at least {self.states}", len(found))
        for n, (before, after) in enumerate(zip(wanted, found[: self.states], strict=False)):
            check_same_type(ic, before, after, f"state {n}")
        elements: list[Type] = []
        for n, element in enumerate(found[self.states :]):
            if not isinstance(element, TensorType):
                ic.bad_operand(f"element {n}", "a tensor", element)
            elements.append(TensorType(element.dtype, (length, *element.shape)))
        return [*wanted[: self.states], *elements]

    def capture(self, position: int) -> Value | None:
        return self.inputs[position] if position >= self.states + self.sequences else None

    def evaluate(self, ev: Any, *inputs: Any) -> tuple[Any, ...]:
        (body,) = self.regions
        states = list(inputs[: self.states])
        sequences = inputs[self.states : self.states + self.sequences]
        captures = inputs[self.states + self.sequences :]
        elements: list[list[Any]] = [[] for _ in self.results[self.states :]]
        for turn in range(sequences[0].shape[0]):
            out = ev.block(body, [*states, *(s[turn] for s in sequences), *captures])
            states = list(out[: self.states])
            for found, value in zip(elements, out[self.states :], strict=True):
                found.append(value)
        stacks = [stacked(ev, e, r.type) for e, r in zip(elements, self.results[self.states :], strict=True)]
        return (*states, *stacks)


CONTROL = (If, Loop, Scan)
"""Ops whose regions run by themselves, once or many times."""


def yielded(region: Block) -> list[Type]:
    """Types of the values that a region yields."""
    return [v.type for v in region.terminator.present_operands()]


def check_arguments(ic: InferContext, region: Block, wanted: Sequence[Type], name: str) -> None:
    """Demand that a region takes arguments of given types."""
    if len(region.args) != len(wanted):
        ic.bad_operand(f"arguments of region '{name}'", str(len(wanted)), len(region.args))
    for n, (argument, type_) in enumerate(zip(region.args, wanted, strict=True)):
        check_same_type(ic, type_, argument.type, f"argument {n} of region '{name}'")


def check_same_type(ic: InferContext, a: Type, b: Type, what: str) -> None:
    """Demand two equal types, extents being proved or checked at entry."""
    if isinstance(a, TensorType) and isinstance(b, TensorType):
        if a.dtype is not b.dtype:
            ic.bad_dtype(f"dtype of {what}", str(a.dtype), b.dtype)
        ic.same_shape(a.shape, b.shape, what)
    elif a != b:
        ic.bad_operand(f"type of {what}", str(a), b)


def common_type(ic: InferContext, a: Type, b: Type, result: int) -> Type:
    """The type of a value that has one of two: where extents are not the same, they depend on data."""
    if a == b:
        return a
    if isinstance(a, SequenceType) and isinstance(b, SequenceType):
        return _common_sequence(ic, a, b, result)
    if isinstance(a, OptionalType) and isinstance(b, OptionalType):
        return OptionalType(common_type(ic, a.element, b.element, result))
    tensors = isinstance(a, TensorType) and isinstance(b, TensorType) and a.dtype is b.dtype
    strings = isinstance(a, StringType) and isinstance(b, StringType)
    if not (tensors or strings) or len(a.shape) != len(b.shape):  # type: ignore[union-attr]
        ic.bad_operand(f"type of value {result}", str(a), b)
    shape = tuple(
        x if ic.symbols.prove_eq(x, y) and not is_local(ic, y) else ic.data_symbol(result, None, axis)
        for axis, (x, y) in enumerate(zip(a.shape, b.shape, strict=True))  # type: ignore[union-attr]
    )
    return StringType(shape) if isinstance(a, StringType) else TensorType(a.dtype, shape)  # type: ignore[union-attr]


def _common_sequence(ic: InferContext, a: SequenceType, b: SequenceType, result: int) -> Type:
    """The sequence type that holds either; an empty sequence has 0-d elements in its type."""
    x, y = a.element, b.element
    if not isinstance(x, TensorType) or not isinstance(y, TensorType) or x.dtype is not y.dtype:
        ic.bad_operand(f"type of value {result}", str(a), b)
    if x.rank == 0 or y.rank == 0:
        return a if y.rank == 0 else b
    return SequenceType(common_type(ic, x, y, result))


def is_local(ic: InferContext, dim: DimLike) -> bool:
    """Whether an extent is known inside of a region only."""
    if isinstance(dim, int):
        return False
    return any(ic.symbols.declared(name).origin.kind != "input" for name in dim.free_symbols())


def local_to_data(ic: InferContext, dim: DimLike, result: int, position: int) -> DimLike:
    """An extent of a region as an extent outside of it."""
    return ic.data_symbol(result, None, position) if is_local(ic, dim) else dim


def stacked(ev: Any, elements: list[Any], type_: Type) -> Any:
    """Elements along a new first axis; of none, an empty array (unknown extents are 0)."""
    if elements:
        return np.stack(elements)
    assert isinstance(type_, TensorType)
    names = ev.bindings.keys()
    shape = [
        d if isinstance(d, int) else ev.size(d) if d.free_symbols() <= names else 0 for d in type_.shape[1:]
    ]
    return np.zeros((0, *shape), type_.dtype.compute.numpy)
