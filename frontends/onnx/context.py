"""What the lowering of one node may ask: its inputs, what is known about them, and ways to refuse it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DTYPES, DType
from aino_ir.errors.base import AinoError
from aino_ir.errors.onnx import (
    InputNotConstant,
    NodeInputMissing,
    NodeInvalid,
    TypeUnsupported,
    VariantUnsupported,
)
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.schemas import schema_of
from aino_ir.frontends.onnx.tensors import ELEMENT_TYPES
from aino_ir.graph import Value
from aino_ir.infer import known_contents
from aino_ir.interp import Evaluation, run_op
from aino_ir.op import Op, Trait
from aino_ir.ops.core import Constant
from aino_ir.symbols import Symbols
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.frontends.onnx.lower import GraphLowering

FOLD_LIMIT = 4096
"""Values of at most this many elements are computed while lowering, when a lowering asks for them."""

FOLD_DEPTH = 64
"""Ops behind one such value that are computed at most, one behind the other."""

Array: TypeAlias = "np.ndarray[Any, Any]"
Lowered: TypeAlias = "Value | Sequence[Value | None]"
Lowering: TypeAlias = "Callable[[NodeContext, OnnxNode], Lowered]"
"""Makes a node's ops; returns its outputs (missing trailing ones are absent)."""

Row: TypeAlias = "str | Lowering"
"""A row of a family's table: the name of an elementwise op that takes the same operands, or a function."""


class NodeContext:
    """One node being lowered.

    Attributes:
        b: the builder, at the end of the node's graph.
        node: the node.
        inputs: its input values, None where one is absent.
        graph: the graph that it stands in.
    """

    __slots__ = ("b", "graph", "inputs", "node")

    def __init__(self, graph: GraphLowering, node: OnnxNode, inputs: Sequence[Value | None]) -> None:
        self.graph = graph
        self.b: Builder = graph.b
        self.node = node
        self.inputs = tuple(inputs)

    # -- inputs -------------------------------------------------------------------------------------

    @property
    def opset(self) -> int:
        """Version of the node's operator set."""
        return self.node.opset

    @property
    def symbols(self) -> Symbols:
        """The function's symbol table."""
        return self.b.function.symbols

    def input(self, index: int) -> Value | None:
        """An optional input."""
        return self.inputs[index] if index < len(self.inputs) else None

    def require(self, index: int) -> Value:
        """A required input."""
        value = self.input(index)
        if value is None:
            raise NodeInputMissing(
                loc=self.node.location, index=index, name=self.formal(index), op=self.node.operator
            )
        return value

    def tensor(self, index: int) -> Value:
        """A required input that is a tensor of numbers."""
        value = self.require(index)
        if not isinstance(value.type, TensorType):
            raise TypeUnsupported(
                loc=self.node.location, what=f"input {index} ({self.formal(index)})", got=value.type
            )
        return value

    @property
    def x(self) -> Value:
        """The first input, a tensor."""
        return self.tensor(0)

    def wants(self, output: int) -> bool:
        """Whether somebody may read an output."""
        return output < len(self.node.outputs) and bool(self.node.outputs[output])

    def formal(self, index: int) -> str:
        """The name that the operator's definition gives an input."""
        schema = schema_of(self.node.domain, self.node.op_type, self.node.opset)
        if schema is None or not schema.inputs:
            return f"number {index}"
        return quote(schema.inputs[min(index, len(schema.inputs) - 1)].name)

    # -- contents -----------------------------------------------------------------------------------

    def known(self, index: int) -> tuple[DimLike, ...]:
        """Contents of an integer input, flattened: numbers and extents; InputNotConstant when unknown."""
        found = self.contents(self.require(index))
        if found is None:
            self.refuse_unknown(index)
        return found

    def contents(self, value: Value) -> tuple[DimLike, ...] | None:
        """Contents of an integer value, flattened, where they do not depend on data."""
        known = known_contents(value, self.symbols)
        if known is not None:
            return tuple(known.reshape(-1).tolist())
        array = constant_array(value)
        return None if array is None else tuple(int(v) for v in array.reshape(-1).tolist())

    def ints(self, index: int) -> tuple[int, ...]:
        """Contents of an integer input that may not even depend on extents."""
        found = self.known(index)
        if not all(is_static(v) for v in found):
            self.refuse_unknown(index)
        return tuple(int(v) for v in found)  # type: ignore[arg-type]

    def optional_ints(self, index: int, attribute: str, since: int) -> tuple[int, ...] | None:
        """Numbers that were an attribute before operator set `since` and are an input from then on."""
        if self.opset < since:
            return self.node.ints(attribute, None)
        return None if self.input(index) is None else self.ints(index)

    def array(self, index: int) -> Array:
        """Contents of a small constant input; InputNotConstant when they depend on data."""
        found = constant_array(self.require(index))
        if found is None:
            self.refuse_unknown(index)
        return found

    def number(self, index: int, default: float) -> float:
        """A constant scalar input as a float; `default` when it is absent."""
        return default if self.input(index) is None else float(self.array(index).reshape(-1)[0])

    def flag(self, index: int, default: bool) -> bool:
        """A constant scalar input as a truth value; `default` when it is absent."""
        return default if self.input(index) is None else bool(self.array(index).reshape(-1)[0])

    # -- values -------------------------------------------------------------------------------------

    def emit(self, op: str, *operands: Value | None, **attrs: Any) -> Value:
        """The result of a new op, named as on the builder."""
        return self.b.op(op_class(op), *operands, **attrs).result

    def emit_all(self, op: str, *operands: Value | None, **attrs: Any) -> tuple[Value, ...]:
        """All results of a new op."""
        return self.b.op(op_class(op), *operands, **attrs).results

    def scalar(self, number: float | int | bool, dtype: DType) -> Value:
        """A 0-d constant."""
        return self.b.constant(np.asarray(number).astype(dtype.numpy))

    def filled(self, shape: Sequence[DimLike], number: Any, dtype: DType) -> Value:
        """A tensor of one value: a constant handle where the shape is known, else an expansion."""
        value = np.asarray(number).astype(dtype.numpy)
        if all(is_static(d) for d in shape):
            extents = tuple(int(d) for d in shape)  # type: ignore[arg-type]
            return self.b.constant(Const.deferred(dtype, extents, lambda: np.broadcast_to(value, extents)))
        return self.emit("expand", self.b.constant(value), shape=tuple(shape))

    def cast(self, value: Value, dtype: DType) -> Value:
        """The value in another dtype (itself when it has that one)."""
        return value if value.dtype is dtype else self.emit("cast", value, to=dtype)

    def reshape(self, value: Value, shape: Sequence[DimLike]) -> Value:
        """The value in another shape (itself when it has that one)."""
        if tuple(shape) == value.shape:
            return value
        return self.emit("reshape", value, shape=tuple(shape))

    def axis(self, axis: int, rank: int, what: str = "axis") -> int:
        """A possibly negative axis made non-negative and checked."""
        if not -rank <= axis < rank:
            self.invalid(what, f"within {-rank}..{rank - 1}", axis)
        return axis + rank if axis < 0 else axis

    def axes(self, axes: Sequence[int], rank: int) -> tuple[int, ...]:
        """Distinct axes, made non-negative, in the given order."""
        found = tuple(self.axis(a, rank, "axes") for a in axes)
        if len(set(found)) != len(found):
            self.invalid("axes", "distinct", list(axes))
        return found

    # -- refusals -----------------------------------------------------------------------------------

    def invalid(self, what: str, expected: object, got: object) -> NoReturn:
        """Refuse a node that contradicts the operator's definition."""
        raise NodeInvalid(
            loc=self.node.location, op=self.node.operator, what=what, expected=expected, got=got
        )

    def unsupported(self, what: str) -> NoReturn:
        """Refuse a form of the operator that has no lowering."""
        raise VariantUnsupported(loc=self.node.location, op=self.node.operator, what=what)

    def refuse_unknown(self, index: int) -> NoReturn:
        """Refuse an input that must be known at compile time and is not."""
        inputs = data_inputs(self.require(index))
        error = InputNotConstant(
            loc=self.node.location,
            index=index,
            name=self.formal(index),
            op=self.node.operator,
            sources=", ".join(f"input {quote(name)}" for name in inputs) or "data",
        )
        error.inputs = inputs
        raise error


def data_inputs(value: Value) -> tuple[str, ...]:
    """Names of the block arguments that a value is computed from."""
    found: dict[str, None] = {}
    seen, ahead = {value}, [value]
    while ahead:
        current = ahead.pop()
        if current.op is None:
            found[current.name] = None
            continue
        new = [v for v in current.op.present_operands() if v not in seen]
        seen.update(new)
        ahead.extend(new)
    return tuple(found)


def element_dtype(code: int, what: str, loc: object) -> DType:
    """The dtype of an ONNX data type number; TypeUnsupported when AINO has none for it."""
    row = ELEMENT_TYPES.get(code)
    if row is None or row.name not in DTYPES:
        raise TypeUnsupported(loc=loc, what=what, got=row.name if row is not None else f"number {code}")
    return DTYPES[row.name]


def constant_array(value: Value) -> Array | None:
    """Contents of a small value that follows from constants alone, or None."""
    return _constant_array(value, {}, 0)


def _constant_array(value: Value, seen: dict[Value, Array | None], depth: int) -> Array | None:
    op = value.op
    if isinstance(op, Constant):
        return op.value.array() if op.value.size <= FOLD_LIMIT else None
    if op is None or depth > FOLD_DEPTH or not _foldable(op):
        return None
    if value not in seen:
        env: dict[Value, Any] = {}
        for operand in op.present_operands():
            env[operand] = _constant_array(operand, seen, depth + 1)
        unknown = any(array is None for array in env.values())
        if not unknown:
            try:
                run_op(op, env, Evaluation())
            except AinoError:  # an index out of range, a division by zero: left for the run, if it gets there
                unknown = True
        seen.update({r: None if unknown else env[r] for r in op.results})
    return seen[value]


def _foldable(op: Op) -> bool:
    if op.regions or op.has(Trait.RANDOM) or op.has(Trait.HOST) or op.has(Trait.DATA_DEPENDENT):
        return False
    return not op.reads_symbols() and all(
        isinstance(r.type, TensorType) and r.type.is_static and int(r.type.size) <= FOLD_LIMIT  # type: ignore[arg-type]
        for r in op.results
    )
