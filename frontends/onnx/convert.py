"""From protobuf messages to the plain structures of nodes.py, checking everything on the way.

Nothing of onnx but its generated message classes is used, and no message outlives the conversion.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from aino_ir.errors.onnx import (
    AttributeInvalid,
    DuplicateName,
    EmptyName,
    InvalidType,
    OpsetConflict,
    OpsetMissing,
)
from aino_ir.frontends.onnx.limits import Limits, check_limit
from aino_ir.frontends.onnx.names import domain_label, domain_of, quote, text_of
from aino_ir.frontends.onnx.nodes import (
    Attribute,
    Dim,
    FunctionKey,
    MapInfo,
    OnnxFunction,
    OnnxGraph,
    OnnxNode,
    OnnxValue,
    OpaqueInfo,
    OptionalInfo,
    SequenceInfo,
    SparseTensorInfo,
    TensorInfo,
    TypeInfo,
)
from aino_ir.frontends.onnx.order import free_names, sort_nodes
from aino_ir.frontends.onnx.tensors import (
    Buffer,
    ExternalReader,
    TensorData,
    check_dims,
    element_type,
    read_sparse,
    read_tensor,
)

KINDS: Mapping[int, tuple[str, str]] = {
    1: ("float", "f"),
    2: ("int", "i"),
    3: ("string", "s"),
    4: ("tensor", "t"),
    5: ("graph", "g"),
    6: ("floats", "floats"),
    7: ("ints", "ints"),
    8: ("strings", "strings"),
    9: ("tensors", "tensors"),
    10: ("graphs", "graphs"),
    11: ("sparse_tensor", "sparse_tensor"),
    12: ("sparse_tensors", "sparse_tensors"),
    13: ("type", "tp"),
    14: ("types", "type_protos"),
}
"""AttributeProto.AttributeType -> our kind and the field that holds the value."""

_KIND_OF_FIELD = {field: kind for kind, field in KINDS.values()}


class Converter:
    """Converts the messages of one model.

    Attributes:
        limits: bounds on counts and sizes.
        external: reader of external data.
        local: keys of the model's functions, which need no operator set.
    """

    def __init__(
        self,
        limits: Limits,
        external: ExternalReader | None = None,
        local: frozenset[FunctionKey] = frozenset(),
    ) -> None:
        self.limits = limits
        self.external = external
        self.local = local
        self._nodes = 0
        self._values = 0

    def graph(
        self,
        proto: Any,
        opsets: Mapping[str, int],
        scope: str = "",
        depth: int = 1,
        raw: Mapping[int, Buffer] | None = None,
    ) -> OnnxGraph:
        """A GraphProto; `raw` holds raw data of initializers that was taken out before parsing."""
        check_limit("nesting of subgraphs", depth, self.limits.depth, scope)
        self._count_values(len(proto.initializer) + len(proto.input) + len(proto.output), scope)
        self._count_values(len(proto.value_info), scope)
        inputs = self._values_of(proto.input, "graph input", scope)
        outputs = self._values_of(proto.output, "graph output", scope)
        initializers = self._initializers(proto, scope, raw or {})
        nodes = self.nodes(proto.node, opsets, scope, depth)
        known = {value.name: "a graph input" for value in inputs}
        known.update(dict.fromkeys(initializers, "an initializer"))
        nodes = sort_nodes(nodes, known, scope)
        return OnnxGraph(
            name=text_of(proto.name, "name of a graph", scope),
            inputs=inputs,
            outputs=outputs,
            initializers=initializers,
            value_info=self._value_info(proto.value_info, scope),
            nodes=nodes,
            captures=free_names(nodes, known, (value.name for value in outputs)),
        )

    def nodes(self, protos: Any, opsets: Mapping[str, int], scope: str, depth: int) -> tuple[OnnxNode, ...]:
        """A list of NodeProto in the order given."""
        self._nodes += len(protos)
        check_limit("number of nodes", self._nodes, self.limits.nodes, scope)
        return tuple(self._node(proto, index, opsets, scope, depth) for index, proto in enumerate(protos))

    def _node(self, proto: Any, index: int, opsets: Mapping[str, int], scope: str, depth: int) -> OnnxNode:
        where = f"node #{index} {scope}".rstrip()
        op_type = text_of(proto.op_type, "operator name", where)
        if not op_type:
            raise EmptyName(loc=where, what="an operator")
        domain = domain_of(text_of(proto.domain, "operator domain", where))
        overload = text_of(proto.overload, "overload", where)
        bare = OnnxNode(
            name=text_of(proto.name, "node name", where),
            op_type=op_type,
            domain=domain,
            opset=opsets.get(domain, 0),
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            overload=overload,
            index=index,
            scope=scope,
        )
        self._count_values(len(bare.inputs) + len(bare.outputs), bare.location)
        names: tuple[object, ...] = bare.inputs + bare.outputs
        for name in names:
            if not isinstance(name, str):
                text_of(name, "name of a node's input or output", bare.location)
        if not bare.opset and (domain, op_type, overload) not in self.local:
            imported = ", ".join(map(domain_label, opsets)) or "none"
            raise OpsetMissing(loc=bare.location, op=bare.operator, domain=bare.label, imported=imported)
        if not proto.attribute:
            return bare
        attributes = self.attributes(proto.attribute, opsets, bare.location, depth)
        return OnnxNode(
            bare.name,
            op_type,
            domain,
            bare.opset,
            bare.inputs,
            bare.outputs,
            attributes,
            overload,
            index,
            scope,
        )

    def attributes(
        self, protos: Any, opsets: Mapping[str, int], loc: str, depth: int
    ) -> dict[str, Attribute]:
        """A list of AttributeProto by name; a subgraph's scope names the attribute and the node."""
        found: dict[str, Attribute] = {}
        for proto in protos:
            name = text_of(proto.name, "attribute name", loc)
            if not name:
                raise EmptyName(loc=loc, what="an attribute")
            if name in found:
                raise DuplicateName(loc=loc, what="attribute", name=quote(name), first="another value")
            found[name] = self._attribute(proto, name, opsets, loc, depth)
        return found

    def _attribute(self, proto: Any, name: str, opsets: Mapping[str, int], loc: str, depth: int) -> Attribute:
        filled = [field.name for field, _ in proto.ListFields() if field.name in _KIND_OF_FIELD]
        kind, field = self._kind(proto, name, filled, loc)
        reference = text_of(proto.ref_attr_name, f"reference of attribute {quote(name)}", loc)
        if reference:
            if filled:
                reason = f"it refers to {quote(reference)} and holds a value too"
                raise AttributeInvalid(loc=loc, name=quote(name), reason=reason)
            return Attribute(kind, None, reference)
        what = f"attribute {quote(name)}"
        stored = getattr(proto, field)
        convert = self._scalar_converter(kind, what, opsets, loc, depth)
        if kind.endswith("s"):
            self._count_values(len(stored), loc)
            return Attribute(kind, tuple(stored) if convert is None else tuple(map(convert, stored)))
        return Attribute(kind, stored if convert is None else convert(stored))

    def _kind(self, proto: Any, name: str, filled: list[str], loc: str) -> tuple[str, str]:
        """Kind and field of an attribute; old files leave the type to the field that is filled."""
        if proto.type == 0 and proto.ref_attr_name and not filled:
            return "", ""
        if proto.type == 0 and len(filled) == 1:
            return _KIND_OF_FIELD[filled[0]], filled[0]
        known = KINDS.get(proto.type)
        if known is None:
            reason = f"its type is {proto.type} and {len(filled)} of its fields are filled"
            raise AttributeInvalid(loc=loc, name=quote(name), reason=reason)
        if any(field != known[1] for field in filled):
            reason = f"its type is {known[0]}, but it holds {', '.join(_KIND_OF_FIELD[f] for f in filled)}"
            raise AttributeInvalid(loc=loc, name=quote(name), reason=reason)
        if known[0] in _MESSAGES and not filled and not proto.ref_attr_name:
            raise AttributeInvalid(
                loc=loc, name=quote(name), reason=f"its type is {known[0]}, but it is empty"
            )
        return known

    def _scalar_converter(
        self, kind: str, what: str, opsets: Mapping[str, int], loc: str, depth: int
    ) -> Callable[[Any], Any] | None:
        """What turns one stored item of the kind into its plain form; None when it is plain already."""
        single = kind.removesuffix("s")
        if single == "tensor":
            return lambda item: read_tensor(item, what, self.limits, loc, external=self.external)
        if single == "sparse_tensor":
            return lambda item: read_sparse(item, what, self.limits, loc, external=self.external)
        if single == "type":
            return lambda item: self.type(item, what, loc)
        if single == "graph":
            scope = f"in {what} of {loc}"
            return lambda item: self.graph(item, opsets, scope, depth + 1)
        return None

    def _initializers(self, proto: Any, scope: str, raw: Mapping[int, Buffer]) -> dict[str, TensorData]:
        found: dict[str, TensorData] = {}
        for index, item in enumerate(proto.initializer):
            what = self._tensor_label(item.name, index, scope)
            tensor = read_tensor(item, what, self.limits, scope, raw.get(index), self.external)
            _add_unique(found, tensor.name, tensor, f"initializer {index}", scope)
        for index, item in enumerate(proto.sparse_initializer):
            what = self._tensor_label(item.values.name, index, scope)
            tensor = read_sparse(item, what, self.limits, scope, self.external)
            _add_unique(found, tensor.name, tensor, f"sparse initializer {index}", scope)
        return found

    def _tensor_label(self, name: object, index: int, scope: str) -> str:
        return f"tensor {quote(text_of(name, f'name of initializer {index}', scope))}"

    def _values_of(self, protos: Any, what: str, scope: str) -> tuple[OnnxValue, ...]:
        values = []
        for index, proto in enumerate(protos):
            name = text_of(proto.name, f"name of {what} {index}", scope)
            if not name:
                raise EmptyName(loc=scope, what=f"{what} {index}")
            declared = (
                self.type(proto.type, f"{what} {quote(name)}", scope) if proto.HasField("type") else None
            )
            values.append(OnnxValue(name, declared))
        _check_unique(values, what, scope)
        return tuple(values)

    def _value_info(self, protos: Any, scope: str) -> dict[str, TypeInfo]:
        found: dict[str, TypeInfo] = {}
        for proto in protos:
            name = text_of(proto.name, "name of a declared type", scope)
            declared = (
                self.type(proto.type, f"value {quote(name)}", scope) if proto.HasField("type") else None
            )
            if declared is not None:
                found[name] = declared
        return found

    def type(self, proto: Any, what: str, loc: object, depth: int = 1) -> TypeInfo | None:
        """A TypeProto; None when it is empty or leaves the element type open."""
        check_limit(f"nesting of the type of {what}", depth, self.limits.depth, loc)
        case = proto.WhichOneof("value")
        if case is None:
            return None
        inner = getattr(proto, case)
        if case in ("tensor_type", "sparse_tensor_type"):
            if inner.elem_type == 0:
                return None
            dtype = element_type(inner.elem_type, what, loc).name
            dims = self._dims(inner.shape, what, loc) if inner.HasField("shape") else None
            return TensorInfo(dtype, dims) if case == "tensor_type" else SparseTensorInfo(dtype, dims)
        if case in ("sequence_type", "optional_type"):
            element = self.type(inner.elem_type, what, loc, depth + 1)
            return SequenceInfo(element) if case == "sequence_type" else OptionalInfo(element)
        if case == "map_type":
            key = element_type(inner.key_type, f"key of {what}", loc).name
            return MapInfo(key, self.type(inner.value_type, what, loc, depth + 1))
        if case == "opaque_type":
            domain = text_of(inner.domain, f"domain of the type of {what}", loc)
            return OpaqueInfo(domain, text_of(inner.name, f"name of the type of {what}", loc))
        raise InvalidType(loc=loc, what=what, reason=f"its kind {case} is unknown")

    def _dims(self, shape: Any, what: str, loc: object) -> tuple[Dim, ...]:
        check_limit(f"rank of {what}", len(shape.dim), self.limits.rank, loc)
        dims: list[Dim] = []
        for axis, proto in enumerate(shape.dim):
            case = proto.WhichOneof("value")
            if case == "dim_value":
                dims.append(proto.dim_value)
            elif case == "dim_param":
                dims.append(text_of(proto.dim_param, f"dimension {axis} of {what}", loc) or None)
            else:
                dims.append(None)
        check_dims(tuple(dim for dim in dims if isinstance(dim, int)), what, self.limits, loc)
        return tuple(dims)

    def function(self, proto: Any) -> OnnxFunction:
        """A FunctionProto."""
        name = text_of(proto.name, "name of a function")
        domain = domain_of(text_of(proto.domain, "domain of a function"))
        overload = text_of(proto.overload, "overload of a function")
        opsets = read_opsets(proto.opset_import)
        label = quote(".".join(part for part in (domain, name, overload) if part))
        loc = f"function {label}"
        if not name:
            raise EmptyName(loc=loc, what="a function")
        self._count_values(len(proto.input) + len(proto.output) + len(proto.attribute), loc)
        inputs = self._parameter_names(proto.input, "input", loc)
        nodes = self.nodes(proto.node, opsets, f"in {loc}", 1)
        return OnnxFunction(
            name=name,
            domain=domain,
            overload=overload,
            inputs=inputs,
            outputs=tuple(text_of(item, "name of a function output", loc) for item in proto.output),
            attributes=self._parameter_names(proto.attribute, "attribute", loc),
            defaults=self.attributes(proto.attribute_proto, opsets, loc, 1),
            opsets=opsets,
            nodes=sort_nodes(nodes, dict.fromkeys(inputs, "a function input"), f"in {loc}"),
        )

    def _parameter_names(self, names: Iterable[object], what: str, loc: str) -> tuple[str, ...]:
        found: dict[str, str] = {}
        for index, stored in enumerate(names):
            name = text_of(stored, f"name of {what} {index}", loc)
            _add_unique(found, name, name, f"function {what} {index}", loc)
        return tuple(found)

    def _count_values(self, count: int, loc: object) -> None:
        self._values += count
        check_limit("number of values", self._values, self.limits.values, loc)


_MESSAGES = frozenset({"tensor", "graph", "sparse_tensor", "type"})


def _check_unique(values: list[OnnxValue], what: str, scope: str) -> None:
    """Inputs have names of their own everywhere; outputs only where callers ask for them by name."""
    if what == "graph output" and scope:
        return
    seen: set[str] = set()
    for value in values:
        if value.name in seen:
            raise DuplicateName(loc=scope, what=what, name=quote(value.name), first=f"another {what}")
        seen.add(value.name)


def _add_unique(found: dict[str, Any], name: str, value: object, what: str, loc: object) -> None:
    if not name:
        raise EmptyName(loc=loc, what=what)
    if name in found:
        kind = what.rsplit(" ", 1)[0]
        raise DuplicateName(loc=loc, what=kind, name=quote(name), first=f"another {kind}")
    found[name] = value


def read_opsets(protos: Any) -> dict[str, int]:
    """A list of OperatorSetIdProto as domain -> version; OpsetConflict when a domain has two versions."""
    opsets: dict[str, int] = {}
    for proto in protos:
        domain = domain_of(text_of(proto.domain, "domain of an operator set"))
        version = int(proto.version)
        if opsets.setdefault(domain, version) != version:
            raise OpsetConflict(domain=domain_label(domain), first=opsets[domain], second=version)
    return opsets
