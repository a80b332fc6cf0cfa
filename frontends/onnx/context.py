"""What the lowering of one node may ask: its inputs, what is known about them, and ways to refuse it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeAlias

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import DTYPES, DType
from aino_ir.errors.onnx import (
    InputNotConstant,
    NodeInputMissing,
    NodeInvalid,
    TypeUnsupported,
    VariantUnsupported,
)
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.folding import Array as Array
from aino_ir.frontends.folding import constant_array as constant_array
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import OnnxNode
from aino_ir.frontends.onnx.schemas import schema_of
from aino_ir.frontends.onnx.tensors import ELEMENT_TYPES
from aino_ir.graph import Value
from aino_ir.infer import known_contents
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.frontends.onnx.lower import GraphLowering

Lowered: TypeAlias = "Value | Sequence[Value | None]"
Lowering: TypeAlias = "Callable[[NodeContext, OnnxNode], Lowered]"
"""Makes a node's ops; returns its outputs (missing trailing ones are absent)."""

Row: TypeAlias = "str | Lowering"
"""A row of a family's table: the name of an elementwise op that takes the same operands, or a function."""


class NodeContext(Emitter):
    """One node being lowered.

    Attributes:
        b: the builder, at the end of the node's graph.
        node: the node.
        inputs: its input values, None where one is absent.
        graph: the graph that it stands in.
    """

    __slots__ = ("graph", "inputs", "node")

    def __init__(self, graph: GraphLowering, node: OnnxNode, inputs: Sequence[Value | None]) -> None:
        super().__init__(graph.b)
        self.graph = graph
        self.node = node
        self.inputs = tuple(inputs)

    # -- inputs -------------------------------------------------------------------------------------

    @property
    def opset(self) -> int:
        """Version of the node's operator set."""
        return self.node.opset

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

    def scalar_of(self, index: int) -> Value:
        """An input of one element as a 0-d value."""
        value = self.tensor(index)
        if is_static(value.type.size) and value.type.size != 1:  # type: ignore[union-attr]
            self.invalid(f"number of elements of input {self.formal(index)}", 1, value.type.size)  # type: ignore[union-attr]
        return self.reshape(value, ())

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
