"""Writing ONNX graphs: names, nodes, initializers and extents.

A `GraphWriter` collects the nodes of one graph; what the graphs of a model share (names, initializers,
the operator set that is needed) lies in its `ModelWriter`.  Values made on the way are `Ref`s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import onnx
from onnx import helper, numpy_helper

from aino_ir.constants import Const
from aino_ir.dims import Dim, DimLike, fold, is_static
from aino_ir.dtypes import DType, boolean, dtype_of, i64
from aino_ir.errors.export import ExtentNotExportable, OpNotExportable
from aino_ir.frontends.extents import line_of
from aino_ir.frontends.onnx.export.legal import parameter, substitutes
from aino_ir.frontends.onnx.export.types import element_code
from aino_ir.graph import Block, Function, Value
from aino_ir.op import Op
from aino_ir.symbols import Symbols
from aino_ir.types import StringType, TensorType

OPSET = 21
"""The operator set of a model whose operators need no newer one."""

NEWER = {"Attention": 23, "BitCast": 26, "CumProd": 26, "RMSNormalization": 23, "Swish": 24}
"""Operators that came after `OPSET`."""

NEWER_TYPES = {"f4e2m1": 23, "f8e8m0": 24, "i2": 25, "u2": 25}
"""Dtypes that came after `OPSET`."""

DECIDED = {
    **dict.fromkeys(
        ("And", "Equal", "Greater", "GreaterOrEqual", "IsInf", "IsNaN", "Less", "LessOrEqual", "Not"),
        boolean,
    ),
    **dict.fromkeys(("OptionalHasElement", "Or", "RegexFullMatch", "Xor"), boolean),
    **dict.fromkeys(("ArgMax", "ArgMin", "NonMaxSuppression", "NonZero", "SequenceLength", "Shape"), i64),
}
"""Operators whose result has a dtype of its own; others have that of their first operand."""


@dataclass(frozen=True)
class Ref:
    """A value of the ONNX graph: its name, and its dtype (None for what is no tensor of numbers)."""

    name: str
    dtype: DType | None


@dataclass
class ModelWriter:
    """What the graphs of one model share.

    Attributes:
        initializers: of the main graph; inner graphs see them too.
        renamed: names given on the way -> names for people, applied at the end.
        opset: the operator set that the nodes so far need.
        domains: other operator sets that they need, with versions.
    """

    initializers: list[onnx.TensorProto] = field(default_factory=list)
    by_name: dict[str, onnx.TensorProto] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    opset: int = OPSET
    domains: dict[str, int] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    constants: dict[Any, Ref] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        """`name`, or the first of `name_1`, `name_2` ... that is free; it is taken from then on."""
        found, number = name, self.counts.get(name, 0)
        while found in self.used or not found:
            number += 1
            found = f"{name}_{number}"
        self.counts[name] = number
        self.used.add(found)
        return found

    def initializer(self, array: np.ndarray[Any, Any], name: str) -> Ref:
        """A new initializer."""
        dtype = dtype_of(array.dtype)
        found = self.unique(name)
        self.by_name[found] = numpy_helper.from_array(np.asarray(array, order="C"), found)
        self.initializers.append(self.by_name[found])
        return Ref(found, dtype)


class GraphWriter:
    """The nodes of one graph.

    Attributes:
        model: what is shared.
        symbols: the table of the function being written.
        nodes: so far, in order.
        op: the op being exported.
        raw: whether `of` gives operands as they are stored, and not as AINO computes with them.
    """

    def __init__(self, model: ModelWriter, symbols: Symbols, parent: GraphWriter | None = None) -> None:
        self.model = model
        self.symbols = symbols
        self.nodes: list[onnx.NodeProto] = []
        self.made: set[str] = set()
        self.refs: dict[Value, Ref] = {} if parent is None else dict(parent.refs)
        self.sources: dict[str, Callable[[], Ref]] = {} if parent is None else dict(parent.sources)
        self.by_op: dict[tuple[int, int], Ref] = {} if parent is None else parent.by_op
        self.extents: dict[Any, Ref] = {} if parent is None else dict(parent.extents)
        self.op: Op | None = None if parent is None else parent.op
        self.raw = True

    # -- values -------------------------------------------------------------------------------------

    def bind(self, value: Value, ref: Ref) -> None:
        """Say what a value of the module is, and learn the symbols that its shape tells."""
        self.refs[value] = ref
        if value.op is not None:
            self.by_op[value.op.id, value.index] = ref
        if value.name and ref.name in self.made and ref.name not in self.model.renamed:
            self.model.renamed[ref.name] = self.model.unique(value.name)
        if not isinstance(value.type, (TensorType, StringType)):
            return
        for axis, dim in enumerate(value.type.shape):
            if isinstance(dim, Dim):
                self._learn(dim, ref, axis)

    def _learn(self, dim: Dim, ref: Ref, axis: int) -> None:
        line = line_of(dim)
        if line is None or line.symbol in self.sources:
            return

        def solve() -> Ref:
            found = self.axis_extent(ref, axis)
            found = self.node("Sub", found, self.vector([line.offset])) if line.offset else found
            return self.node("Div", found, self.vector([line.scale])) if line.scale != 1 else found

        self.sources[line.symbol] = solve

    def of(self, value: Value) -> Ref:
        """What a value is: as stored, or where arithmetic is done on it, in its compute dtype."""
        ref = self.refs[value]
        if self.raw or ref.dtype is None or not ref.dtype.is_storage:
            return ref
        return self.cast(ref, ref.dtype.compute)

    def optional(self, value: Value | None) -> Ref | None:
        """`of`, for an operand that may be absent."""
        return None if value is None else self.of(value)

    # -- nodes --------------------------------------------------------------------------------------

    def nodes_of(
        self, kind: str, *inputs: Ref | None, dtypes: Sequence[DType | None], **attributes: Any
    ) -> tuple[Ref, ...]:
        """The results of a new node, of given dtypes; what ONNX has no types for is done in wider ones."""
        given = [None if r is None else r.dtype for r in inputs]
        opset = max(NEWER.get(kind, OPSET), opset_of(*given, *dtypes))
        self.model.opset = max(self.model.opset, opset)
        changed = substitutes(kind, opset, given)
        if not changed:
            return self._node(kind, inputs, dtypes, attributes)
        wide: list[Ref | None] = []
        for index, ref in enumerate(inputs):
            variable, _ = parameter(kind, opset, index)
            to = changed.get(variable, ref.dtype if ref is not None else None)
            if ref is not None and variable in changed and (to is None or kind == "Cast"):
                self.refuse(f"{kind} does not take {ref.dtype}, and no wider type either")
            wide.append(ref if ref is None or to is None else self.cast(ref, to))
        between = [
            changed.get(parameter(kind, opset, i, results=True)[0], dtype) for i, dtype in enumerate(dtypes)
        ]
        made = self._node(kind, wide, between, attributes)
        return tuple(r if d is None else self.cast(r, d) for r, d in zip(made, dtypes, strict=True))

    def _node(
        self,
        kind: str,
        inputs: Sequence[Ref | None],
        dtypes: Sequence[DType | None],
        attributes: Mapping[str, Any],
    ) -> tuple[Ref, ...]:
        model = self.model
        name = model.unique(kind)
        outputs = [name if len(dtypes) == 1 else model.unique(f"{name}_{i}") for i in range(len(dtypes))]
        names = ["" if r is None else r.name for r in inputs]
        while names and not names[-1]:
            names.pop()
        given = {k: v for k, v in attributes.items() if v is not None}
        node = helper.make_node(kind, names, outputs, name=name, **given)
        if self.op is not None and self.op.loc:
            node.doc_string = str(self.op.loc)
        self.nodes.append(node)
        self.made.update(outputs)
        return tuple(Ref(n, d) for n, d in zip(outputs, dtypes, strict=True))

    def node(self, kind: str, *inputs: Ref | None, dtype: DType | None = None, **attributes: Any) -> Ref:
        """The only result of a new node."""
        found = dtype or DECIDED.get(kind)
        if found is None:
            found = next((r.dtype for r in inputs if r is not None), None)
        return self.nodes_of(kind, *inputs, dtypes=[found], **attributes)[0]

    def foreign(
        self, kind: str, domain: str, version: int, *inputs: Ref, dtype: DType | None, **attributes: Any
    ) -> Ref:
        """The only result of a node of another operator set than ONNX's own."""
        self.model.domains[domain] = version
        return self._node(kind, inputs, [dtype], {**attributes, "domain": domain})[0]

    def cast(self, ref: Ref, to: DType) -> Ref:
        """A value in another dtype (itself when it has that one); too large for an 8-bit float is not cut."""
        if ref.dtype is to or ref.dtype is None:
            return ref
        saturate = 0 if to.name.startswith("f8") and to.name != "f8e8m0" else None
        return self.node("Cast", ref, dtype=to, to=element_code(to), saturate=saturate)

    # -- constants ----------------------------------------------------------------------------------

    def constant(self, array: Any, dtype: DType | None = None) -> Ref:
        """A small constant; equal ones are one initializer."""
        data = np.asarray(array) if dtype is None else np.asarray(array).astype(dtype.numpy)
        key = (data.dtype.name, data.shape, data.tobytes())
        found = self.model.constants.get(key)
        if found is None:
            found = self.model.constants[key] = self.model.initializer(data, "constant")
        return found

    def handle(self, const: Const) -> Ref:
        """A constant of the module; a handle that is used twice is one initializer."""
        found = self.model.constants.get(const.identity)
        if found is None:
            found = self.model.initializer(const.array(), const.name or "constant")
            self.model.constants[const.identity] = found
        return found

    def known(self, ref: Ref) -> np.ndarray[Any, Any] | None:
        """The array of a constant, None for another value."""
        found = self.model.by_name.get(ref.name)
        return None if found is None else numpy_helper.to_array(found)

    def scalar(self, number: float | int | bool, like: Ref | DType) -> Ref:
        """A 0-d constant in the dtype of another value."""
        dtype = like.dtype if isinstance(like, Ref) else like
        assert dtype is not None
        return self.constant(number, dtype)

    def vector(self, numbers: Sequence[int]) -> Ref:
        """A constant list of integers."""
        return self.constant(np.asarray(numbers, np.int64).reshape(len(numbers)))

    # -- extents ------------------------------------------------------------------------------------

    def axis_extent(self, ref: Ref, axis: int) -> Ref:
        """The extent of an axis, as a vector of one number."""
        key = (ref.name, axis)
        if key not in self.extents:
            self.extents[key] = self.node("Shape", ref, start=axis, end=axis + 1)
        return self.extents[key]

    def extent(self, dim: DimLike) -> Ref:
        """An extent as a vector of one number."""
        if is_static(dim):
            return self.vector([int(dim)])  # type: ignore[arg-type]
        if dim not in self.extents:
            self.extents[dim] = fold(
                dim,
                const=lambda n: self.vector([n]),
                symbol=lambda name: self._known_symbol(name, dim),
                add=lambda a, b: self.node("Add", a, b),
                sub=lambda a, b: self.node("Sub", a, b),
                mul=lambda a, b: self.node("Mul", a, b),
                floordiv=self.floor_quotient,
                minimum=lambda a, b: self.node("Min", a, b),
                mod=lambda a, b: self.node("Mod", a, b),
            )
        return self.extents[dim]

    def floor_quotient(self, a: Ref, b: Ref) -> Ref:
        """floor(a / b) of integers: the remainder of ONNX's Mod has the sign of b."""
        return self.node("Div", self.node("Sub", a, self.node("Mod", a, b)), b)

    def element(self, ref: Ref, place: int) -> Ref:
        """An element of an integer value, in row-major order, as a vector of one number."""
        flat = self.node("Reshape", self.cast(ref, i64), self.vector([-1]))
        return self.node("Slice", flat, self.vector([place]), self.vector([place + 1]))

    def dims(self, dims: Sequence[DimLike]) -> Ref:
        """Extents as a vector."""
        if all(is_static(d) for d in dims):
            return self.vector([int(d) for d in dims])  # type: ignore[arg-type]
        if len(dims) == 1:
            return self.extent(dims[0])
        return self.node("Concat", *[self.extent(d) for d in dims], axis=0)

    def number(self, dim: DimLike) -> Ref:
        """An extent as a scalar."""
        if is_static(dim):
            return self.constant(np.int64(dim))  # type: ignore[arg-type]
        return self.node("Squeeze", self.extent(dim), self.vector([0]))

    def _known_symbol(self, name: str, dim: DimLike) -> Ref:
        key = ("symbol", name)
        if key not in self.extents:
            self.extents[key] = self._symbol(name, dim)
        return self.extents[key]

    def _symbol(self, name: str, dim: DimLike) -> Ref:
        found = self.sources.get(name)
        if found is not None:
            return found()
        symbols = self.symbols
        if name in symbols:
            origin = symbols.declared(name).origin
            bound = self.by_op.get((origin.op, 0)) if origin.kind == "value" else None
            if bound is not None:  # an element of what core.bind was given
                return self.element(bound, origin.element)
            solved = symbols.simplify(_dim(name))
            if not (isinstance(solved, Dim) and solved.as_symbol() == name):
                return self.extent(solved)
        loc = self.op.loc if self.op is not None else None
        raise ExtentNotExportable(loc=loc, dim=dim, format="ONNX", symbol=f"'{name}'")

    # -- shapes -------------------------------------------------------------------------------------

    def reshape(self, ref: Ref, shape: Sequence[DimLike]) -> Ref:
        """A value in another shape."""
        open_axes = [a for a, d in enumerate(shape) if not is_static(d)]
        fixed = [int(d) for d in shape if is_static(d)]  # type: ignore[arg-type]
        if len(open_axes) == 1 and 0 not in fixed:
            target = self.vector([int(d) if is_static(d) else -1 for d in shape])  # type: ignore[arg-type]
        else:
            target = self.dims(shape)
        return self.node("Reshape", ref, target, allowzero=1 if 0 in fixed or len(open_axes) > 1 else None)

    def transpose(self, ref: Ref, perm: Sequence[int]) -> Ref:
        """A value with its axes in another order."""
        return ref if list(perm) == list(range(len(perm))) else self.node("Transpose", ref, perm=list(perm))

    def unsqueeze(self, ref: Ref, *axes: int) -> Ref:
        """A value with new axes of extent 1."""
        return self.node("Unsqueeze", ref, self.vector(axes)) if axes else ref

    def filled(self, number: float, shape: Sequence[DimLike], dtype: DType) -> Ref:
        """A tensor of one value."""
        return self.node("Expand", self.scalar(number, dtype), self.dims(shape))

    # -- inner graphs -------------------------------------------------------------------------------

    @contextmanager
    def inner(self) -> Iterator[GraphWriter]:
        """A writer for a graph inside of the current node; it sees everything made so far."""
        yield GraphWriter(self.model, self.symbols, self)

    def called(self, symbols: Symbols) -> GraphWriter:
        """A writer for the body of another function, whose nodes become part of this graph."""
        body = GraphWriter(self.model, symbols)
        body.nodes, body.made, body.by_op = self.nodes, self.made, self.by_op
        return body

    def graph(self, name: str, inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[Any]) -> Any:
        """The nodes as a graph; `outputs` are (ref, type) pairs."""
        infos: list[onnx.ValueInfoProto] = []
        for ref, proto in outputs:
            inside = ref if ref.name in self.made else self.node("Identity", ref)
            if any(info.name == inside.name for info in infos):
                inside = self.node("Identity", inside)
            infos.append(helper.make_value_info(inside.name, proto))
        return helper.make_graph(self.nodes, name, list(inputs), infos)

    # -- refusals -----------------------------------------------------------------------------------

    def refuse(self, reason: str) -> NoReturn:
        """Say that the current op cannot be written."""
        assert self.op is not None
        raise OpNotExportable(loc=self.op.loc, op=f"'{self.op.name}'", format="ONNX", reason=reason)

    def proves(self, a: DimLike, b: DimLike) -> bool:
        """Whether two extents are the same for every value of the symbols."""
        return self.symbols.prove_eq(a, b) is True


def _dim(name: str) -> Dim:
    from aino_ir.dims import symbol

    return symbol(name)


def opset_of(*dtypes: DType | None) -> int:
    """The first operator set, `OPSET` or above, that has all of some dtypes."""
    return max((NEWER_TYPES.get(d.name, OPSET) for d in dtypes if d is not None), default=OPSET)


Exporter = Callable[[GraphWriter, Any], Ref | Sequence[Ref]]
"""Writes one op; returns its results."""

Row = str | Exporter
"""A row of a family's table: an operator that takes the same operands, or a function."""

Rows = Mapping[str, Row]

__all__ = [
    "OPSET",
    "Block",
    "Exporter",
    "Function",
    "GraphWriter",
    "ModelWriter",
    "Ref",
    "Row",
    "Rows",
]
