"""From a checked ONNX model to a module: names, constants, dimensions, then node after node.

Each operator's lowering is a row of a table in `aino_ir.frontends.onnx.ops`; standard operators without
a row are expanded by the body that ONNX defines them with.  Results whose contents follow from
extents become constants at once, so that no chain of shape arithmetic is left behind.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.builder import Builder, op_class
from aino_ir.constants import Const
from aino_ir.dims import is_static
from aino_ir.dtypes import DTYPES
from aino_ir.errors.base import AinoError
from aino_ir.errors.onnx import (
    InitializerTypeConflict,
    InputRankUnknown,
    InputUnknown,
    LoweringFault,
    TypeUnsupported,
)
from aino_ir.frontends.dead import remove_dead
from aino_ir.frontends.dimensions import Dimensions, DimSpec
from aino_ir.frontends.onnx.context import Lowered, NodeContext, Row, constant_array
from aino_ir.frontends.onnx.coverage import function_body, row_of, supports
from aino_ir.frontends.onnx.functions import NameSource, inline_functions
from aino_ir.frontends.onnx.names import quote
from aino_ir.frontends.onnx.nodes import (
    MapInfo,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    OnnxValue,
    OptionalInfo,
    SequenceInfo,
    TensorInfo,
    TypeInfo,
)
from aino_ir.frontends.onnx.schemas import require_operators
from aino_ir.frontends.onnx.tensors import TensorData
from aino_ir.graph import Module, Value
from aino_ir.infer import KNOWN_LIMIT, known_contents
from aino_ir.location import loc
from aino_ir.ops.core import Constant
from aino_ir.types import MapType, OptionalType, SequenceType, StringType, TensorType, Type, type_of

OVERRIDABLE_SINCE = 4
"""From this IR version on a graph input with an initializer may be overridden by the caller."""


def lower_model(
    model: OnnxModel,
    dims: Mapping[str, DimSpec] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Module:
    """The module of a model that has been read.

    Args:
        model: from `read_model`.
        dims: bounds ``(low, high)`` or extents of named dimensions.
        values: inputs that are fixed to given arrays: the module does not take them any more.

    Raises:
        UnsupportedOperators: with every operator that has no lowering, before any work is done.
        OnnxError: E0137 to E0147, with the node at fault; errors of type inference carry it too.
    """
    model = inline_functions(model)
    require_operators(model.graph, supports)
    return ModelLowering(model).module(dims, values or {})


class ModelLowering:
    """What the graphs of one model share."""

    def __init__(self, model: OnnxModel) -> None:
        self.model = model
        self.handles: dict[int, Const] = {}
        self._names: NameSource | None = None

    @property
    def names(self) -> NameSource:
        """Fresh value names for expanded functions."""
        if self._names is None:
            self._names = NameSource.of(self.model.graph)
        return self._names

    def module(self, dims: Mapping[str, DimSpec] | None, fixed: Mapping[str, Any]) -> Module:
        """The whole module."""
        lowering = self.start(dims, fixed)
        b = lowering.b
        lowering.run()
        for value in self.model.graph.outputs:
            b.output(value.name, lowering.value(value.name))
        b.finish()
        remove_dead(b.function.block)
        return b.function.module

    def start(self, dims: Mapping[str, DimSpec] | None, fixed: Mapping[str, Any]) -> GraphLowering:
        """A new module with the graph's inputs, ready for its nodes."""
        graph = self.model.graph
        for name in fixed:
            if name not in {declared.name for declared in graph.inputs}:
                known = ", ".join(quote(declared.name) for declared in graph.inputs)
                raise InputUnknown(name=quote(name), known=known)
        module = Module(_identifier(graph.name))
        b = Builder(module.add_function())
        lowering = GraphLowering(self, b, graph)
        dimensions = Dimensions(b.function.symbols, dims)
        for declared in graph.inputs:
            if declared.name in fixed:
                lowering.values[declared.name] = fixed_input(b, declared, fixed[declared.name])
                continue
            default = graph.initializers.get(declared.name)
            if default is not None and self.model.ir_version < OVERRIDABLE_SINCE:
                continue
            type_ = value_type(
                declared.type, f"graph input {quote(declared.name)}", declared.name, dimensions
            )
            lowering.values[declared.name] = b.input(declared.name, type_)
            if default is not None:
                b.function.defaults[declared.name] = self.handle(default)
        dimensions.finish()
        self.dimensions = dimensions
        return lowering

    def handle(self, tensor: TensorData) -> Const:
        """The constant handle of a tensor; the same one each time."""
        found = self.handles.get(id(tensor))
        if found is None:
            dtype = DTYPES.get(tensor.dtype)
            if dtype is None:
                raise TypeUnsupported(what=f"tensor {quote(tensor.name)}", got=tensor.dtype)
            found = Const.deferred(dtype, tensor.shape, tensor.array, tensor.name)
            self.handles[id(tensor)] = found
        return found


class GraphLowering:
    """One graph (the main one or a subgraph) on its way into a block.

    Attributes:
        b: builds at the end of the block.
        values: what the names of the graph stand for so far.
        numbers: results of shape arithmetic at run time, by op and operands, so that each is made once.
    """

    def __init__(
        self, model: ModelLowering, b: Builder, graph: OnnxGraph, values: Mapping[str, Value] | None = None
    ) -> None:
        self.model = model
        self.b = b
        self.graph = graph
        self.values: dict[str, Value] = dict(values or {})
        self.numbers: dict[object, Value] = {}

    def run(self) -> None:
        """Lower every node."""
        for node in self.graph.nodes:
            self.lower(node)

    def value(self, name: str) -> Value:
        """The value of a name; an initializer becomes a constant where it is first read."""
        found = self.values.get(name)
        if found is None:
            found = self.values[name] = self.constant(self.graph.initializers[name], name)
        return found

    def constant(self, tensor: TensorData, name: str = "") -> Value:
        """A constant of the model."""
        if tensor.dtype == "str":
            texts = [str(t) for t in np.asarray(tensor.array()).reshape(-1).tolist()]
            return self.b.string_constant(values=texts, shape=tensor.shape)  # type: ignore[no-any-return]
        return self.b.constant(self.model.handle(tensor), name)

    def nested(self, b: Builder, graph: OnnxGraph, values: Mapping[str, Value]) -> list[Value]:
        """Lower a subgraph with another builder; returns its outputs."""
        inner = GraphLowering(self.model, b, graph, values)
        inner.run()
        return [inner.value(output.name) for output in graph.outputs]

    def recomputed(self, name: str, given: Mapping[str, Value]) -> Value:
        """What a value of the graph is when others have given values: their nodes are lowered once more.

        Nodes that do not depend on given values keep their results.

        Raises:
            KeyError: the graph has no such value.
        """
        inner = GraphLowering(self.model, self.b, self.graph, {**self.values, **given})
        for node in self._behind(name, given):
            inner.lower(node)
            inner.values.update(given)
        return inner.value(name)

    def _behind(self, name: str, given: Mapping[str, Value]) -> list[OnnxNode]:
        """The nodes that make a value of given ones, or that make what is not there yet, in order."""
        makers = {output: node for node in self.graph.nodes for output in node.outputs if output}
        needed: set[str] = set()
        ahead = [name]
        while ahead:
            wanted = ahead.pop()
            if wanted in needed or wanted in given or wanted not in makers:
                continue
            needed.update(o for o in makers[wanted].outputs if o)
            ahead.extend((*makers[wanted].inputs, *makers[wanted].captures))
        changed, found = set(given), []
        for node in self.graph.nodes:
            outputs = {o for o in node.outputs if o}
            if outputs & needed and (
                changed.intersection((*node.inputs, *node.captures)) or not outputs & self.values.keys()
            ):
                changed |= outputs
                found.append(node)
        return found

    def close(self, b: Builder, outputs: Sequence[Value]) -> None:
        """End a region that yields `outputs`."""
        b.op(op_class("core.return"), *outputs)
        remove_dead(b.block)

    def lower(self, node: OnnxNode) -> None:
        """Lower one node, and name its outputs."""
        self.b.loc = loc(node.location)
        inputs = [self.value(name) if name else None for name in node.inputs]
        row = row_of(node)
        if row is None:
            self.expand(node, inputs)
            return
        context = NodeContext(self, node, inputs)
        try:
            lowered = _apply(row, context)
        except AinoError as error:
            if not error.loc:
                error.loc = node.location
            raise
        except (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise LoweringFault(loc=node.location, op=node.operator, reason=quote(reason)[1:-1]) from error
        outputs = (lowered,) if isinstance(lowered, Value) else lowered
        for name, value in zip(node.outputs, outputs, strict=False):
            if name and value is not None:
                self.values[name] = self.settle(value, name)
        missing = [n for n in node.outputs[len(outputs) :] if n]
        missing += [n for n, v in zip(node.outputs, outputs, strict=False) if n and v is None]
        if missing:
            context.unsupported(f"its output {quote(missing[0])}")

    def expand(self, node: OnnxNode, inputs: Sequence[Value | None]) -> None:
        """Lower the body that ONNX defines an operator with."""
        types = [None if v is None else type_info(v.type) for v in inputs]
        body = function_body(node, types, self.model.names)
        inner = OnnxGraph(node.op_type, (), (), {}, {}, body)
        require_operators(inner, supports)
        for part in body:
            self.lower(part)

    def settle(self, value: Value, name: str) -> Value:
        """`value`, or a constant in its place when its contents are known; it gets the name as a hint."""
        if value.op is not None and not isinstance(value.op, Constant) and _decides_shapes(value):
            array = self.settled_array(value)
            if array is not None:
                return self.b.constant(array, name)
        if not value.name:
            value.name = name
        return value

    def settled_array(self, value: Value) -> Any:
        """Contents of a small integer value that follow from extents and constants, or None."""
        known = known_contents(value, self.b.function.symbols)
        if known is None:
            return constant_array(value)
        numbers = known.reshape(-1).tolist()
        if not all(is_static(n) for n in numbers):
            return None
        return np.asarray(numbers, value.dtype.numpy).reshape(known.shape)


def _decides_shapes(value: Value) -> bool:
    """Whether a value is of the kind that shapes are computed with: few integers or truth values."""
    type_ = value.type
    if not isinstance(type_, TensorType) or not (type_.dtype.is_integer or type_.dtype.is_bool):
        return False
    return type_.is_static and int(type_.size) <= KNOWN_LIMIT  # type: ignore[arg-type]


def _apply(row: Row, context: NodeContext) -> Lowered:
    if isinstance(row, str):
        return context.emit_all(row, *context.inputs)
    return row(context, context.node)


def fixed_input(b: Builder, declared: OnnxValue, value: Any) -> Value:
    """A constant in place of an input; InitializerTypeConflict when it does not fit the declared type."""
    array = np.asarray(value)
    got = type_of(array)
    info = declared.type
    fits = isinstance(info, TensorInfo) and isinstance(got, TensorType) and got.dtype.name == info.dtype
    if fits and info.dims is not None:  # type: ignore[union-attr]
        dims = info.dims  # type: ignore[union-attr]
        fits = len(dims) == array.ndim and all(
            not isinstance(d, int) or d == e for d, e in zip(dims, array.shape, strict=True)
        )
    if not fits:
        shown = str(got) if got is not None else str(array.dtype)
        raise InitializerTypeConflict(name=quote(declared.name), got=shown, declared=str(info))
    return b.constant(array, declared.name)


def value_type(declared: TypeInfo | None, what: str, name: str, dimensions: Dimensions) -> Type:
    """The type of a declared value; its open dimensions become symbols."""
    if isinstance(declared, TensorInfo):
        if declared.dims is None:
            raise InputRankUnknown(name=quote(name))
        shape = tuple(dimensions.extent(d, name, axis) for axis, d in enumerate(declared.dims))
        if declared.dtype == "str":
            return StringType(shape)
        if declared.dtype in DTYPES:
            return TensorType(DTYPES[declared.dtype], shape)
    if isinstance(declared, SequenceInfo) and _rank_unknown(declared.element):
        return SequenceType(TensorType(DTYPES[declared.element.dtype], ()))  # type: ignore[union-attr]
    if isinstance(declared, MapInfo):
        return MapType(_scalar(declared.key), _scalar(_element_of(declared, what)))
    if isinstance(declared, (SequenceInfo, OptionalInfo)):
        wrapped = SequenceType if isinstance(declared, SequenceInfo) else OptionalType
        return wrapped(value_type(declared.element, what, name, dimensions))
    raise TypeUnsupported(what=what, got=declared)


def _element_of(declared: MapInfo, what: str) -> str:
    """What a map's values are: tensors, in fact scalars, of numbers or texts."""
    if isinstance(declared.value, TensorInfo) and declared.value.dtype in {"str", *DTYPES}:
        return declared.value.dtype
    raise TypeUnsupported(what=what, got=declared)


def _scalar(dtype: str) -> TensorType | StringType:
    return StringType(()) if dtype == "str" else TensorType(DTYPES[dtype], ())


def _rank_unknown(element: TypeInfo | None) -> bool:
    """Whether a sequence is declared without saying which rank its elements have.

    Its type is then that of an empty one, and takes the rank of what is first put in.
    """
    return isinstance(element, TensorInfo) and element.dims is None and element.dtype in DTYPES


def type_info(type_: Type) -> TypeInfo | None:
    """A type as ONNX says it, for functions whose body depends on it."""
    if isinstance(type_, TensorType):
        return TensorInfo(type_.dtype.name, _declared_dims(type_.shape))
    if isinstance(type_, StringType):
        return TensorInfo("str", _declared_dims(type_.shape))
    if isinstance(type_, SequenceType):
        return SequenceInfo(type_info(type_.element))
    if isinstance(type_, MapType):
        key = "str" if isinstance(type_.key, StringType) else type_.key.dtype.name
        return MapInfo(key, type_info(type_.value))
    return OptionalInfo(type_info(type_.element))


def _declared_dims(shape: Iterable[Any]) -> tuple[int | str, ...]:
    return tuple(int(d) if is_static(d) else str(d) for d in shape)


def _identifier(text: str) -> str:
    """A module name: letters, digits and underscores."""
    stem = re.sub(r"[^A-Za-z0-9_]+", "_", text, flags=re.ASCII).strip("_")[:60]
    return stem if stem and not stem[0].isdigit() else f"model_{stem}".rstrip("_")
