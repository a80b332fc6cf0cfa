"""Sequences, optional values, texts and maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from onnx import TensorProto, helper

from aino_ir.dims import is_static
from aino_ir.dtypes import f32, i64
from aino_ir.frontends.onnx.export.types import element_code, element_proto
from aino_ir.frontends.onnx.export.writer import Exporter, GraphWriter, Ref, Row
from aino_ir.types import TensorType

RAW = True


def plain(kind: str, *operands: str) -> Exporter:
    """A row for an operator whose result is no tensor of numbers."""

    def write(g: GraphWriter, op: Any) -> Ref:
        given = [g.optional(getattr(op, name)) for name in operands]
        return g.nodes_of(kind, *given, dtypes=[None])[0]

    return write


def construct(g: GraphWriter, op: Any) -> Ref:
    """A sequence of given elements, or an empty one of a dtype."""
    if op.inputs:
        return g.nodes_of("SequenceConstruct", *map(g.of, op.inputs), dtypes=[None])[0]
    code = element_code(op.element.dtype) if isinstance(op.element, TensorType) else TensorProto.STRING
    return g.nodes_of("SequenceEmpty", dtypes=[None], dtype=code)[0]


def tensor_result(kind: str, *operands: str) -> Exporter:
    """A row for an operator that takes a tensor out of a structure."""

    def write(g: GraphWriter, op: Any) -> Ref:
        type_ = op.result.type
        dtype = type_.dtype if isinstance(type_, TensorType) else None
        return g.nodes_of(kind, *[g.of(getattr(op, name)) for name in operands], dtypes=[dtype])[0]

    return write


def join(g: GraphWriter, op: Any) -> Ref:
    """Elements one behind the other, or stacked."""
    (y,) = g.nodes_of(
        "ConcatFromSequence",
        g.of(op.sequence),
        dtypes=[op.result.type.dtype],
        axis=op.axis,
        new_axis=int(op.new_axis),
    )
    return y


def split(g: GraphWriter, op: Any) -> Ref:
    """A sequence of parts."""
    operands = g.of(op.x), g.optional(op.sizes)
    return g.nodes_of("SplitToSequence", *operands, dtypes=[None], axis=op.axis, keepdims=int(op.keepdims))[0]


def none(g: GraphWriter, op: Any) -> Ref:
    """No value of a type."""
    return g.nodes_of("Optional", dtypes=[None], type=element_proto(op.element))[0]


def string_constant(g: GraphWriter, op: Any) -> Ref:
    """Texts as an initializer."""
    if not all(is_static(d) for d in op.shape):
        g.refuse("its shape is symbolic")
    name = g.model.unique("texts")
    texts = [t.encode() for t in op.values]
    g.model.initializers.append(
        helper.make_tensor(name, TensorProto.STRING, [int(d) for d in op.shape], texts)
    )
    return Ref(name, None)


def normalize(g: GraphWriter, op: Any) -> Ref:
    """Texts without stop words, in one case."""
    (y,) = g.nodes_of(
        "StringNormalizer",
        g.of(op.x),
        dtypes=[None],
        case_change_action=op.case.upper(),
        is_case_sensitive=int(op.sensitive),
        stopwords=list(op.stop) or None,
    )
    return y


def full_match(g: GraphWriter, op: Any) -> Ref:
    """Texts that match a pattern as a whole."""
    return g.node("RegexFullMatch", g.of(op.x), pattern=op.pattern)


def text_split(g: GraphWriter, op: Any) -> Sequence[Ref]:
    """Texts cut at a delimiter."""
    limit = None if op.limit < 0 else op.limit
    return g.nodes_of("StringSplit", g.of(op.x), dtypes=[None, i64], delimiter=op.delimiter, maxsplit=limit)


LABELS = "ai.onnx.ml", 4
"""The operator set of LabelEncoder."""


def lookup(g: GraphWriter, op: Any) -> Ref:
    """The position of each text among keys, the first one of equal keys."""
    first: dict[str, int] = {}
    for place, key in enumerate(op.keys):
        first.setdefault(key, place)
    names: dict[str, Any] = {
        "keys_strings": list(first),
        "values_int64s": list(first.values()),
        "default_int64": -1,
    }
    return g.foreign("LabelEncoder", *LABELS, g.of(op.x), dtype=i64, **names)


def choose(g: GraphWriter, op: Any) -> Ref:
    """The text at each index, or another one."""
    names: dict[str, Any] = {"keys_int64s": list(range(len(op.texts))), "values_strings": list(op.texts)}
    index = g.cast(g.of(op.index), i64)
    return g.foreign("LabelEncoder", *LABELS, index, dtype=None, **names, default_string=op.other)


def decode(g: GraphWriter, op: Any) -> Ref:
    """A picture out of a file's bytes."""
    return g.node("ImageDecoder", g.of(op.file), pixel_format=op.colours)


def text_format(g: GraphWriter, op: Any) -> Ref:
    """Numbers as texts in the form that Cast gives them."""
    if op.decimals >= 0:
        g.refuse("ONNX has no such form of a number")
    return g.nodes_of("Cast", g.of(op.x), dtypes=[None], to=TensorProto.STRING)[0]


def text_parse(g: GraphWriter, op: Any) -> Ref:
    """Texts as numbers."""
    return g.nodes_of("Cast", g.of(op.x), dtypes=[op.to], to=element_code(op.to))[0]


ML = "ai.onnx.ml", 1
"""The operator set of the operators on maps."""


def map_zip(g: GraphWriter, op: Any) -> Ref:
    """Rows as maps, whose values are f32 in ONNX."""
    if op.x.dtype is not f32:
        g.refuse("maps of rows hold f32 in ONNX")
    keys = {"classlabels_strings": op.texts} if op.texts else {"classlabels_int64s": op.numbers}
    return g.foreign("ZipMap", *ML, g.of(op.x), dtype=None, **keys)


def map_values(g: GraphWriter, op: Any) -> Ref:
    """Values of keys."""
    dtype = op.result.type.dtype if isinstance(op.result.type, TensorType) else None
    if op.decimals >= 0:
        if op.texts or op.numbers != tuple(range(len(op.numbers))) or op.other != "0.f" or op.decimals != 6:
            g.refuse("ONNX has no such texts of a map's numbers")
        names: dict[str, Any] = {"cast_to": "TO_STRING", "map_form": "SPARSE", "max_map": len(op.numbers)}
        return g.foreign("CastMap", *ML, g.of(op.x), dtype=None, **names)
    if dtype is None and op.other:
        g.refuse("keys that a map lacks have an empty text in ONNX")
    keys = {"string_vocabulary": op.texts} if op.texts else {"int64_vocabulary": op.numbers}
    return g.foreign("DictVectorizer", *ML, g.of(op.x), dtype=dtype, **keys)


def map_sorted(g: GraphWriter, op: Any) -> Ref:
    """Values in the order of their keys."""
    type_ = op.x.type
    if isinstance(type_.value, TensorType) and type_.value.dtype is not f32:
        g.refuse("ONNX sorts maps to f32 and to texts")
    dtype = f32 if isinstance(type_.value, TensorType) else None
    to = "TO_STRING" if dtype is None else "TO_FLOAT"
    return g.foreign("CastMap", *ML, g.of(op.x), dtype=dtype, cast_to=to, map_form="DENSE")


TABLE: dict[str, Row] = {
    "image.decode": decode,
    "map.sorted": map_sorted,
    "map.values": map_values,
    "map.zip": map_zip,
    "optional.get": tensor_result("OptionalGetElement", "x"),
    "optional.has": "OptionalHasElement",
    "optional.none": none,
    "optional.some": plain("Optional", "x"),
    "sequence.at": tensor_result("SequenceAt", "sequence", "position"),
    "sequence.construct": construct,
    "sequence.erase": plain("SequenceErase", "sequence", "position"),
    "sequence.insert": plain("SequenceInsert", "sequence", "x", "position"),
    "sequence.join": join,
    "sequence.length": "SequenceLength",
    "sequence.split": split,
    "text.choose": choose,
    "text.concat": plain("StringConcat", "lhs", "rhs"),
    "text.eq": "Equal",
    "text.format": text_format,
    "text.lookup": lookup,
    "text.normalize": normalize,
    "text.parse": text_parse,
    "text.regex_full_match": full_match,
    "text.split": text_split,
    "text.string_constant": string_constant,
}
