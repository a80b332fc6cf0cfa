"""An ONNX model as plain, frozen data: no protobuf message is reachable from here.

Names, shapes and attributes have been checked by the reader (see reader.py); values are TensorData.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, overload

from aino_ir.errors.onnx import AttributeKindMismatch, AttributeMissing
from aino_ir.frontends.onnx.names import domain_label, quote, text_of
from aino_ir.frontends.onnx.tensors import TensorData

_Int: TypeAlias = int
_Float: TypeAlias = float
_Str: TypeAlias = str
_T = TypeVar("_T")
_D = TypeVar("_D")
_REQUIRED: Any = object()

Dim: TypeAlias = int | str | None
"""An extent: a number, a named dimension, or unknown."""


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """A tensor type: dtype name (``str`` for strings) and extents; `dims` is None for unknown rank."""

    dtype: str
    dims: tuple[Dim, ...] | None

    def __str__(self) -> str:
        if self.dims is None:
            return f"{self.dtype}[*]"
        shown = (
            quote(dim)[1:-1] if isinstance(dim, str) else "?" if dim is None else str(dim)
            for dim in self.dims
        )
        return f"{self.dtype}[{', '.join(shown)}]"


@dataclass(frozen=True, slots=True)
class SparseTensorInfo:
    """A sparse tensor type."""

    dtype: str
    dims: tuple[Dim, ...] | None

    def __str__(self) -> str:
        return f"sparse({TensorInfo(self.dtype, self.dims)})"


@dataclass(frozen=True, slots=True)
class SequenceInfo:
    """A sequence of values of one type; `element` is None when the type is left open."""

    element: TypeInfo | None

    def __str__(self) -> str:
        return f"seq({self.element})"


@dataclass(frozen=True, slots=True)
class OptionalInfo:
    """A value that may be absent."""

    element: TypeInfo | None

    def __str__(self) -> str:
        return f"optional({self.element})"


@dataclass(frozen=True, slots=True)
class MapInfo:
    """A map from keys of a dtype to values of one type."""

    key: str
    value: TypeInfo | None

    def __str__(self) -> str:
        return f"map({self.key}, {self.value})"


@dataclass(frozen=True, slots=True)
class OpaqueInfo:
    """A type that only the operators of its domain understand."""

    domain: str
    name: str

    def __str__(self) -> str:
        return f"opaque({quote(self.domain)}, {quote(self.name)})"


TypeInfo: TypeAlias = TensorInfo | SparseTensorInfo | SequenceInfo | OptionalInfo | MapInfo | OpaqueInfo


@dataclass(frozen=True, slots=True)
class OnnxValue:
    """A named value and its declared type (None when the model leaves it open)."""

    name: str
    type: TypeInfo | None


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute.

    Attributes:
        kind: int, float, string, tensor, graph, sparse_tensor, type or the plural of one of them;
            "" for a reference that leaves it open.
        value: int, float, bytes, TensorData, OnnxGraph, TypeInfo, or a tuple of them for plurals.
        reference: the enclosing function's attribute that it stands for (function bodies only).
    """

    kind: str
    value: Any
    reference: str | None = None


class _Bound(Generic[_T]):
    """An accessor of one node: `node.ints("axes")`, or with a default for when it is absent."""

    __slots__ = ("_kind", "_node")

    def __init__(self, node: OnnxNode, kind: str) -> None:
        self._node = node
        self._kind = kind

    @overload
    def __call__(self, name: str) -> _T: ...

    @overload
    def __call__(self, name: str, default: _D) -> _T | _D: ...

    def __call__(self, name: str, default: Any = _REQUIRED) -> Any:
        found = self._node.attributes.get(name)
        kind = self._kind
        if found is None:
            if default is _REQUIRED:
                raise AttributeMissing(loc=self._node.location, name=quote(name), expected=kind)
            return default
        if found.kind != kind:
            raise AttributeKindMismatch(
                loc=self._node.location, name=quote(name), expected=kind, got=found.kind
            )
        return _TEXT[kind](found.value, name, self._node) if kind in _TEXT else found.value


def _text(value: bytes, name: str, node: OnnxNode) -> str:
    return text_of(value, f"attribute {quote(name)}", node.location)


def _texts(value: tuple[bytes, ...], name: str, node: OnnxNode) -> tuple[str, ...]:
    return tuple(_text(item, name, node) for item in value)


_TEXT: Mapping[str, Any] = {"string": _text, "strings": _texts}


class _Accessor(Generic[_T]):
    """Typed access to attributes of one kind.

    Calling it raises AttributeMissing when there is neither the attribute nor a default,
    AttributeKindMismatch when it is of another kind, InvalidText when a string is not UTF-8.
    """

    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def __get__(self, node: OnnxNode, owner: type) -> _Bound[_T]:
        return _Bound(node, self._kind)


@dataclass(frozen=True, slots=True, eq=False)
class OnnxNode:
    """One operator call.

    Attributes:
        name: the model's label, often empty and not always unique.
        op_type: operator or function name; `domain` ("" is ai.onnx) and `overload` complete it.
        opset: version of the domain's operator set that gives it meaning; 0 when none is imported.
        inputs: value names, "" for an absent optional one.
        outputs: value names, "" for one that nobody wants.
        attributes: by name.
        index: position in the graph that it was written in.
        scope: where that graph stands, "" for the main graph.
    """

    name: _Str
    op_type: _Str
    domain: _Str
    opset: _Int
    inputs: tuple[_Str, ...]
    outputs: tuple[_Str, ...]
    attributes: Mapping[_Str, Attribute] = field(default_factory=dict)
    overload: _Str = ""
    index: _Int = 0
    scope: _Str = ""

    int = _Accessor[_Int]("int")
    float = _Accessor[_Float]("float")
    str = _Accessor[_Str]("string")
    tensor = _Accessor[TensorData]("tensor")
    graph = _Accessor["OnnxGraph"]("graph")
    sparse_tensor = _Accessor[TensorData]("sparse_tensor")
    type = _Accessor[TypeInfo]("type")
    ints = _Accessor[tuple[_Int, ...]]("ints")
    floats = _Accessor[tuple[_Float, ...]]("floats")
    strs = _Accessor[tuple[_Str, ...]]("strings")
    tensors = _Accessor[tuple[TensorData, ...]]("tensors")
    graphs = _Accessor[tuple["OnnxGraph", ...]]("graphs")
    types = _Accessor[tuple[TypeInfo, ...]]("types")

    @property
    def location(self) -> _Str:
        """The node as messages name it, such as ``node 'conv1' (Conv)``; ASCII and short."""
        label = quote(self.name) if self.name else f"#{self.index}"
        place = f"node {label} ({quote(self.op_type)[1:-1]})"
        return f"{place} {self.scope}" if self.scope else place

    @property
    def operator(self) -> _Str:
        """The operator as messages name it: ``'Conv'``, or with its domain, ``'com.example.Foo'``."""
        return quote(f"{self.domain}.{self.op_type}" if self.domain else self.op_type)

    @property
    def label(self) -> _Str:
        """The operator set as messages name it."""
        return domain_label(self.domain)

    def subgraphs(self) -> Iterator[OnnxGraph]:
        """The graphs among its attributes, in the attributes' order."""
        for attribute in self.attributes.values():
            if attribute.kind == "graph" and attribute.reference is None:
                yield attribute.value
            elif attribute.kind == "graphs" and attribute.reference is None:
                yield from attribute.value

    @property
    def captures(self) -> tuple[_Str, ...]:
        """Outer values that its subgraphs read, each once, in order of first use."""
        return tuple(dict.fromkeys(name for graph in self.subgraphs() for name in graph.captures))


@dataclass(frozen=True, slots=True, eq=False)
class OnnxGraph:
    """A graph in SSA form with its nodes in topological order.

    Attributes:
        initializers: constants by name; one that is also an input is that input's default.
        value_info: declared types of inner values, by name.
        captures: values of enclosing graphs that it or its subgraphs read (empty for a main graph).
    """

    name: str
    inputs: tuple[OnnxValue, ...]
    outputs: tuple[OnnxValue, ...]
    initializers: Mapping[str, TensorData]
    value_info: Mapping[str, TypeInfo]
    nodes: tuple[OnnxNode, ...]
    captures: tuple[str, ...] = ()


FunctionKey: TypeAlias = tuple[str, str, str]
"""Domain, name and overload of a function."""


@dataclass(frozen=True, slots=True, eq=False)
class OnnxFunction:
    """A function: nodes over named inputs; attributes of its nodes may refer to its own.

    Attributes:
        attributes: names of attributes without a default.
        defaults: attributes with one.
        opsets: operator sets that its nodes use.
    """

    name: str
    domain: str
    overload: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[str, ...]
    defaults: Mapping[str, Attribute]
    opsets: Mapping[str, int]
    nodes: tuple[OnnxNode, ...]

    @property
    def key(self) -> FunctionKey:
        """What a node names it by."""
        return self.domain, self.name, self.overload

    @property
    def label(self) -> str:
        """The function as messages name it."""
        return quote(".".join(part for part in (self.domain, self.name, self.overload) if part))


@dataclass(frozen=True, slots=True, eq=False)
class OnnxModel:
    """A whole model.

    Attributes:
        ir_version: version of the file format.
        opsets: imported operator sets, domain ("" is ai.onnx) -> version.
        graph: the main graph.
        functions: model-local functions; empty once they are inlined.
        metadata: the model's own key-value pairs.
        producer: name and version of the tool that wrote it.
        unknown_domains: imported domains that neither ONNX nor a function of the model defines.
    """

    ir_version: int
    opsets: Mapping[str, int]
    graph: OnnxGraph
    functions: Mapping[FunctionKey, OnnxFunction] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    producer: str = ""
    unknown_domains: tuple[str, ...] = ()


def walk_nodes(graph: OnnxGraph) -> Iterator[OnnxNode]:
    """All nodes of a graph, those of a node's subgraphs right after it."""
    for node in graph.nodes:
        yield node
        for inner in node.subgraphs():
            yield from walk_nodes(inner)
