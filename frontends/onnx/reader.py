"""Reading an ONNX model: from a path, bytes or a ModelProto to checked, plain data.

The file is untrusted.  It is parsed by protobuf's own bindings alone; sizes, counts, nesting, names,
order, types, tensors and external data are checked here, and every fault is an error with a code.
Memory stays in proportion to the file: weights are memory-mapped, never copied by the reader.
"""

from __future__ import annotations

import mmap
import os
import stat
from collections.abc import Mapping
from typing import Any, TypeAlias

import onnx
from google.protobuf.message import DecodeError

from aino_ir.errors.onnx import (
    AttributeReferenceStray,
    DuplicateName,
    FunctionInvalid,
    InitializerTypeConflict,
    InvalidType,
    ModelCorrupt,
    ModelIncomplete,
    ModelSourceInvalid,
    ModelUnreadable,
    UnsupportedIrVersion,
)
from aino_ir.frontends.onnx.convert import Converter, read_opsets
from aino_ir.frontends.onnx.external_data import ExternalFolder
from aino_ir.frontends.onnx.limits import DEFAULT, Limits, check_limit
from aino_ir.frontends.onnx.names import domain_of, quote, text_of
from aino_ir.frontends.onnx.nodes import (
    FunctionKey,
    OnnxFunction,
    OnnxGraph,
    OnnxModel,
    OnnxNode,
    TensorInfo,
)
from aino_ir.frontends.onnx.order import check_names, check_node_names
from aino_ir.frontends.onnx.schemas import check_nodes, check_opsets, known_domains
from aino_ir.frontends.onnx.tensors import Buffer, TensorData
from aino_ir.frontends.onnx.wire import slim

OLDEST_IR_VERSION = 3
"""The first version of the file format with operator set imports."""

Source: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | onnx.ModelProto"


def read_model(
    source: Source, limits: Limits = DEFAULT, *, folder: str | os.PathLike[str] | None = None
) -> OnnxModel:
    """Read and check a model.

    Args:
        source: path, serialized ModelProto, or ModelProto.
        limits: bounds that protect against hostile files.
        folder: where external data lies; by default the folder of the path.

    Raises:
        OnnxError: one of E0101 to E0139, with the node or value at fault.
    """
    raw: Mapping[int, Buffer] = {}
    if isinstance(source, onnx.ModelProto):
        proto = source
    elif isinstance(source, (bytes, bytearray, memoryview)):
        view = memoryview(source).cast("B")
        proto, raw = _parse(view if view.readonly else memoryview(bytes(view)), "the given data", limits)
    elif isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        if not isinstance(path, str):
            raise ModelSourceInvalid(got="a path of bytes")
        proto, raw = _parse(_open(path, limits), quote(path), limits)
        folder = os.path.dirname(path) or "." if folder is None else folder
    else:
        raise ModelSourceInvalid(got=type(source).__name__)
    return _Reader(proto, limits, ExternalFolder(folder)).model(raw)


def _open(path: str, limits: Limits) -> memoryview:
    """The bytes of a regular file, memory-mapped."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelUnreadable(path=quote(path), reason=reason.lower()) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ModelUnreadable(path=quote(path), reason="it is not a regular file")
        check_limit(f"size of {quote(path)} in bytes", status.st_size, limits.file_bytes)
        if not status.st_size:
            return memoryview(b"")
        return memoryview(mmap.mmap(descriptor, status.st_size, access=mmap.ACCESS_READ))
    except OSError as error:
        raise ModelUnreadable(path=quote(path), reason=str(error.strerror).lower()) from error
    finally:
        os.close(descriptor)


def _parse(data: memoryview, source: str, limits: Limits) -> tuple[Any, Mapping[int, Buffer]]:
    """The ModelProto without large raw data, and that data by position among the initializers."""
    check_limit(f"size of {source} in bytes", len(data), limits.file_bytes)
    slimmed = slim(data, source, limits)
    try:
        return onnx.ModelProto.FromString(slimmed.message), slimmed.raw
    except DecodeError as error:
        raise ModelCorrupt(source=source, reason=str(error).lower()) from error


class _Reader:
    """Checks and converts one ModelProto."""

    def __init__(self, proto: Any, limits: Limits, external: ExternalFolder) -> None:
        self.proto = proto
        self.limits = limits
        self.external = external

    def model(self, raw: Mapping[int, Buffer]) -> OnnxModel:
        proto = self.proto
        opsets = self._header()
        local = self._function_keys()
        converter = Converter(self.limits, self.external.read, local)
        functions = self._functions(converter)
        graph = converter.graph(proto.graph, opsets, raw=raw)
        check_names(graph)
        _check_interface(graph)
        _check_references(graph.nodes, frozenset())
        check_nodes(graph.nodes, functions)
        producer = (proto.producer_name, proto.producer_version)
        defined = {*known_domains(), *(domain for domain, _, _ in local)}
        return OnnxModel(
            ir_version=proto.ir_version,
            opsets=opsets,
            graph=graph,
            functions=functions,
            metadata={
                text_of(pair.key, "metadata key"): text_of(pair.value, "metadata value")
                for pair in proto.metadata_props
            },
            producer=" ".join(filter(None, (text_of(part, "producer") for part in producer))),
            unknown_domains=tuple(domain for domain in opsets if domain not in defined),
        )

    def _header(self) -> dict[str, int]:
        """Check versions; returns the imported operator sets."""
        proto = self.proto
        if not proto.ir_version:
            raise ModelIncomplete(part="IR version")
        if not OLDEST_IR_VERSION <= proto.ir_version <= onnx.IR_VERSION:
            raise UnsupportedIrVersion(got=proto.ir_version, low=OLDEST_IR_VERSION, high=int(onnx.IR_VERSION))
        if not proto.HasField("graph"):
            raise ModelIncomplete(part="graph")
        opsets = read_opsets(proto.opset_import)
        if not opsets:
            raise ModelIncomplete(part="operator set imports")
        check_opsets(opsets)
        return opsets

    def _function_keys(self) -> frozenset[FunctionKey]:
        found: set[FunctionKey] = set()
        check_limit("number of functions", len(self.proto.functions), self.limits.nodes)
        for proto in self.proto.functions:
            name = text_of(proto.name, "name of a function")
            domain = domain_of(text_of(proto.domain, "domain of a function"))
            key = (domain, name, text_of(proto.overload, "overload of a function"))
            if key in found:
                label = quote(".".join(part for part in key if part))
                raise DuplicateName(what="function", name=label, first="another function")
            found.add(key)
        return frozenset(found)

    def _functions(self, converter: Converter) -> dict[FunctionKey, OnnxFunction]:
        functions = {}
        for proto in self.proto.functions:
            function = converter.function(proto)
            functions[function.key] = function
        for function in functions.values():
            check_function(function)
            check_nodes(function.nodes, functions)
        return functions


def check_function(function: OnnxFunction) -> None:
    """Check the names, operator sets and attribute references of a function's body."""
    loc = f"function {function.label}"
    check_opsets(function.opsets, loc)
    check_node_names(function.nodes, function.inputs)
    defined = {*function.inputs, *(name for node in function.nodes for name in node.outputs)}
    for name in function.outputs:
        if name not in defined:
            raise FunctionInvalid(name=function.label, reason=f"does not define its output {quote(name)}")
    _check_references(function.nodes, frozenset(function.attributes) | frozenset(function.defaults))


def _check_references(nodes: tuple[OnnxNode, ...], attributes: frozenset[str]) -> None:
    """AttributeReferenceStray when an attribute refers to none of `attributes`."""
    for node in nodes:
        for name, attribute in node.attributes.items():
            if attribute.reference is not None and attribute.reference not in attributes:
                raise AttributeReferenceStray(
                    loc=node.location, name=quote(name), reference=quote(attribute.reference)
                )
        if node.attributes:
            for graph in node.subgraphs():
                _check_references(graph.nodes, attributes)


def _check_interface(graph: OnnxGraph) -> None:
    """Inputs of the main graph have types, and initializers of the same name fit them."""
    for value in graph.inputs:
        declared = value.type
        if declared is None:
            raise InvalidType(what=f"graph input {quote(value.name)}", reason="it has no element type")
        default = graph.initializers.get(value.name)
        if default is not None and not _fits(default, declared):
            got = TensorInfo(default.dtype, default.shape)
            raise InitializerTypeConflict(name=quote(value.name), got=str(got), declared=str(declared))


def _fits(default: TensorData, declared: object) -> bool:
    """Whether a default value has the dtype, the rank and the fixed extents that an input declares."""
    if not isinstance(declared, TensorInfo) or declared.dtype != default.dtype:
        return False
    if declared.dims is None:
        return True
    return len(declared.dims) == len(default.shape) and all(
        not isinstance(dim, int) or dim == extent
        for dim, extent in zip(declared.dims, default.shape, strict=True)
    )
