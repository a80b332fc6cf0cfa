"""Errors of reading and lowering an ONNX model: files, limits, types, tensors, graphs, functions, nodes.

Every name that reaches a message is quoted, escaped to ASCII and shortened by the reader first.
"""

from __future__ import annotations

from aino_ir.errors.base import InternalError, UserError


class OnnxError(UserError):
    """The family of errors that reading an ONNX model can end in."""


class ModelUnreadable(OnnxError):
    """The model file is missing, is not a regular file or cannot be opened."""

    code = "AINO-E0101"
    template = "cannot read model {path}: {reason}"
    hint = "give the path of a regular .onnx file that this user may read"
    example = {"path": "'model.onnx'", "reason": "no such file or directory"}


class ModelCorrupt(OnnxError):
    """The bytes are not a whole ONNX protobuf."""

    code = "AINO-E0102"
    template = "{source} is not a whole ONNX model: {reason}"
    hint = "the file is truncated, damaged or of another format; fetch or export it again"
    example = {"source": "'model.onnx'", "reason": "field at byte 17 needs 900 bytes, 12 are left"}


class ModelIncomplete(OnnxError):
    """A part that every ONNX model needs is missing."""

    code = "AINO-E0103"
    template = "the model has no {part}"
    hint = "export the model again; a whole ModelProto has a version, operator set imports and a graph"
    example = {"part": "graph"}


class LimitExceeded(OnnxError):
    """A count or size lies above the reader's limit."""

    code = "AINO-E0104"
    template = "{what} is {got}, the limit is {limit}"
    hint = "if the model is trusted, read it with larger `Limits`; otherwise it is malformed"
    example = {"what": "rank of tensor 'w'", "got": 17, "limit": 16}


class UnsupportedIrVersion(OnnxError):
    """The model's IR version lies outside what the installed onnx package describes."""

    code = "AINO-E0105"
    template = "the model has IR version {got}, known are {low} to {high}"
    hint = "install a newer onnx package or export the model with an older IR version"
    example = {"got": 99, "low": 3, "high": 14}


class OpsetOutOfRange(OnnxError):
    """An operator set version that this reader does not know."""

    code = "AINO-E0106"
    template = "operator set {domain} has version {got}, known are {low} to {high}"
    hint = "convert the model with onnx.version_converter, or install a newer onnx package"
    example = {"domain": "'ai.onnx'", "got": 99, "low": 1, "high": 28}


class OpsetConflict(OnnxError):
    """One domain is imported with two versions."""

    code = "AINO-E0107"
    template = "operator set {domain} is imported with versions {first} and {second}"
    hint = "import each operator set once"
    example = {"domain": "'ai.onnx'", "first": 13, "second": 17}


class OpsetMissing(OnnxError):
    """A node uses a domain that the model does not import."""

    code = "AINO-E0108"
    template = "operator {op} needs operator set {domain}, which is not imported"
    hint = "add the domain to opset_import; imported are: {imported}"
    example = {"op": "'Relu'", "domain": "'ai.onnx'", "imported": "'com.example'"}


class DuplicateName(OnnxError):
    """A name that must be unique is used twice (ONNX graphs are in SSA form)."""

    code = "AINO-E0109"
    template = "{what} {name} is defined twice, first as {first}"
    hint = "give every value, initializer and function a name of its own"
    example = {"what": "value", "name": "'y'", "first": "a graph input"}


class EmptyName(OnnxError):
    """A thing that must have a name has none."""

    code = "AINO-E0110"
    template = "{what} has no name"
    hint = "give it a name; only optional node inputs and outputs may be empty"
    example = {"what": "graph input 2"}


class UndefinedValue(OnnxError):
    """A node reads, or a graph returns, a value that nothing defines."""

    code = "AINO-E0111"
    template = "{user} uses value {name}, which nothing defines"
    hint = "it must be a graph input, an initializer or the output of a node in this or an outer graph"
    example = {"user": "input 0", "name": "'x'"}


class GraphCycle(OnnxError):
    """Nodes depend on each other in a circle."""

    code = "AINO-E0112"
    template = "the graph has a cycle through {nodes}"
    hint = "break the cycle; recurrence is written with Loop, Scan or a recurrent operator"
    example = {"nodes": "node 'a' (Add) -> node 'b' (Mul) -> node 'a' (Add)"}


class InvalidText(OnnxError):
    """A text field is not valid UTF-8."""

    code = "AINO-E0113"
    template = "{what} is not UTF-8 text: {text}"
    hint = "ONNX text is UTF-8; export the model again"
    example = {"what": "name of graph input 0", "text": "b'\\xff'"}


class InvalidType(OnnxError):
    """A declared value type is malformed."""

    code = "AINO-E0114"
    template = "type of {what} is malformed: {reason}"
    hint = "declare a tensor, sequence, optional, map or sparse tensor type with a known element type"
    example = {"what": "graph input 'x'", "reason": "it has no element type"}


class UnknownDataType(OnnxError):
    """A data type number that ONNX does not define."""

    code = "AINO-E0115"
    template = "{what} has data type {got}, known are 1 to {high}"
    hint = "the number must be one of TensorProto.DataType"
    example = {"what": "tensor 'w'", "got": 99, "high": 28}


class NegativeDim(OnnxError):
    """A dimension is negative."""

    code = "AINO-E0116"
    template = "{what} has dimensions {dims}, but none may be negative"
    hint = "write an unknown extent as a named dimension (dim_param)"
    example = {"what": "tensor 'w'", "dims": "[-1, 3]"}


class TensorSizeMismatch(OnnxError):
    """The data of a tensor does not fit its dimensions and data type."""

    code = "AINO-E0117"
    template = "{what} of type {dtype}{shape} needs {expected} {unit}, {field} holds {got}"
    hint = "the file is damaged or was written by a faulty tool; export the model again"
    example = {
        "what": "tensor 'w'",
        "dtype": "f32",
        "shape": "[2, 3]",
        "expected": 24,
        "unit": "bytes",
        "field": "raw_data",
        "got": 20,
    }


class TensorFieldConflict(OnnxError):
    """The data of a tensor stands in more than one field, or in one that its type forbids."""

    code = "AINO-E0118"
    template = "{what} of type {dtype} holds data in {fields}, allowed is one of {allowed}"
    hint = "store the data once, in raw_data or in the field of the type"
    example = {
        "what": "tensor 'w'",
        "dtype": "f32",
        "fields": "int64_data",
        "allowed": "raw_data, float_data",
    }


class TensorValueOutOfRange(OnnxError):
    """A stored value does not fit the data type of its tensor."""

    code = "AINO-E0119"
    template = "{what} of type {dtype} holds {value} at position {position}"
    hint = "values of {dtype} lie between {low} and {high}"
    example = {"what": "tensor 'w'", "dtype": "u8", "value": 300, "position": 4, "low": 0, "high": 255}


class TensorSegmented(OnnxError):
    """A tensor is split into segments, which no tool reads."""

    code = "AINO-E0120"
    template = "{what} is one segment of a larger tensor"
    hint = "segments are not supported; store the tensor whole or as external data"
    example = {"what": "tensor 'w'"}


class SparseTensorInvalid(OnnxError):
    """A sparse tensor's indices or values do not fit its dimensions."""

    code = "AINO-E0121"
    template = "sparse {what} is malformed: {reason}"
    hint = "indices are i64, ascending, unique and inside the dimensions; values are one-dimensional"
    example = {"what": "tensor 'w'", "reason": "index 12 lies outside 10 elements"}


class InitializerTypeConflict(OnnxError):
    """An initializer that is also a graph input differs from the declared type."""

    code = "AINO-E0122"
    template = "initializer {name} is {got}, the graph input of this name is {declared}"
    hint = "give the default value the type that the input declares"
    example = {"name": "'x'", "got": "f32[2]", "declared": "i64[2]"}


class ExternalDataInvalid(OnnxError):
    """An external data entry has an unknown key or a malformed value."""

    code = "AINO-E0123"
    template = "{what} has external data entry {key}={value}: {reason}"
    hint = "the keys are location, offset, length and checksum; offset and length are decimal numbers"
    example = {"what": "tensor 'w'", "key": "'offset'", "value": "'-1'", "reason": "not a decimal number"}


class ExternalPathRefused(OnnxError):
    """The location of external data could lead out of the model's folder."""

    code = "AINO-E0124"
    template = "{what} points to external data {location}: {reason}"
    hint = "external data must be a plain file (no symbolic or hard link) inside the model's folder"
    example = {"what": "tensor 'w'", "location": "'../weights.bin'", "reason": "it leaves the folder"}


class ExternalFileUnreadable(OnnxError):
    """The file with a tensor's data cannot be opened."""

    code = "AINO-E0125"
    template = "{what} needs external data {location}: {reason}"
    hint = "keep the data file beside the model, under the name that the model gives"
    example = {"what": "tensor 'w'", "location": "'w.bin'", "reason": "no such file or directory"}


class ExternalRangeInvalid(OnnxError):
    """Offset and length of external data lie outside the file."""

    code = "AINO-E0126"
    template = "{what} needs bytes {start} to {stop} of external data {location}, which has {size}"
    hint = "the data file is truncated or belongs to another model"
    example = {"what": "tensor 'w'", "start": 4096, "stop": 8192, "location": "'w.bin'", "size": 5000}


class ExternalFolderUnknown(OnnxError):
    """A model that came as bytes or as an object has external data, but no folder."""

    code = "AINO-E0127"
    template = "{what} needs external data {location}, but the model was not read from a file"
    hint = "read the model by its path, or name the folder with `folder=`"
    example = {"what": "tensor 'w'", "location": "'w.bin'"}


class ExternalChecksumMismatch(OnnxError):
    """The SHA-1 of an external data file is not the one in the model."""

    code = "AINO-E0128"
    template = "external data {location} has SHA-1 {got}, {what} expects {expected}"
    hint = "the data file is damaged or belongs to another model"
    example = {"location": "'w.bin'", "got": "da39a3ee", "what": "tensor 'w'", "expected": "0a0b0c0d"}


class AttributeInvalid(OnnxError):
    """An attribute is malformed: no kind, two values, or given twice."""

    code = "AINO-E0129"
    template = "attribute {name} is malformed: {reason}"
    hint = "an attribute has one name, one type and the one value that the type calls for"
    example = {"name": "'axis'", "reason": "its type is int, but it holds floats"}


class AttributeKindMismatch(OnnxError):
    """An attribute is of another kind than the operator takes."""

    code = "AINO-E0130"
    template = "attribute {name} must be {expected}, it is {got}"
    hint = "see the operator's page in the ONNX documentation"
    example = {"name": "'axis'", "expected": "int", "got": "string"}


class AttributeMissing(OnnxError):
    """A node lacks an attribute that its operator requires."""

    code = "AINO-E0131"
    template = "attribute {name} ({expected}) is required and missing"
    hint = "see the operator's page in the ONNX documentation"
    example = {"name": "'to'", "expected": "int"}


class AttributeUnknown(OnnxError):
    """A node has an attribute that its operator does not define."""

    code = "AINO-E0132"
    template = "attribute {name} is not defined by {op} of operator set version {opset}"
    hint = "defined are: {known}"
    example = {"name": "'axes'", "op": "'Softmax'", "opset": 13, "known": "'axis'"}


class AttributeReferenceStray(OnnxError):
    """An attribute refers to a function's attribute outside of a function."""

    code = "AINO-E0133"
    template = "attribute {name} refers to {reference}, which is no attribute of an enclosing function"
    hint = "references to attributes may stand in function bodies only"
    example = {"name": "'alpha'", "reference": "'a'"}


class NodeArity(OnnxError):
    """A node has too few or too many inputs or outputs."""

    code = "AINO-E0134"
    template = "{op} of operator set version {opset} takes {low} to {high} {side}, the node has {got}"
    hint = "see the operator's page in the ONNX documentation"
    example = {"op": "'Add'", "opset": 14, "low": 2, "high": 2, "side": "inputs", "got": 3}


class NodeInputMissing(OnnxError):
    """A required input of a node is left empty."""

    code = "AINO-E0135"
    template = "input {index} ({name}) of {op} is required and empty"
    hint = "only optional inputs may be empty"
    example = {"index": 0, "name": "'X'", "op": "'Conv'"}


class UnsupportedOperators(OnnxError):
    """The model uses operators that have no lowering; all of them are listed."""

    code = "AINO-E0136"
    template = "the model uses {count} unsupported operators: {operators}"
    hint = "replace them, register them with aino_ir.register_op, or export to another operator set"
    example = {"count": 1, "operators": "'com.example.Foo' version 1 (3 nodes, first: node 'foo_0')"}


class FunctionInvalid(OnnxError):
    """A model-local function or a call of one is malformed."""

    code = "AINO-E0137"
    template = "function {name} {reason}"
    hint = "a call gives at most the declared inputs, outputs and attributes"
    example = {"name": "'local.Swish'", "reason": "takes 1 inputs, the call gives 2"}


class FunctionRecursion(OnnxError):
    """Model-local functions call each other in a circle."""

    code = "AINO-E0138"
    template = "functions call each other in a circle: {functions}"
    hint = "functions are inlined and cannot be recursive; write loops with Loop or Scan"
    example = {"functions": "'local.F' -> 'local.G' -> 'local.F'"}


class ModelSourceInvalid(OnnxError):
    """What was given is neither a path, nor bytes, nor an onnx.ModelProto."""

    code = "AINO-E0139"
    template = "cannot read a model from {got}"
    hint = "give a path, bytes or an onnx.ModelProto"
    example = {"got": "int"}


class UnbuildableFunction(OnnxError):
    """ONNX defines a standard operator by a body, but cannot build it for this node."""

    code = "AINO-E0140"
    template = "onnx has no body of {op} for this node: {reason}"
    hint = "check the node's inputs and attributes against the operator's page in the ONNX documentation"
    example = {"op": "'SpaceToDepth'", "reason": "'integer overflow while multiplying dimensions'"}


class DimensionUnknown(OnnxError):
    """A dimension that the caller bounds or fixes does not occur in the model's inputs."""

    code = "AINO-E0141"
    template = "the model's inputs have no dimension {name}"
    hint = "the symbolic dimensions of this model are: {known}"
    example = {"name": "'sequence'", "known": "'batch', 'seq'"}


class DimensionInvalid(OnnxError):
    """What the caller says about a dimension is neither an extent nor a range of extents."""

    code = "AINO-E0142"
    template = "dimension {name} cannot be {got}"
    hint = "give an extent such as 128, or the least and the largest one such as (1, 64)"
    example = {"name": "'batch'", "got": "(8, 1)"}


class InputRankUnknown(OnnxError):
    """A graph input is declared without a shape; AINO needs at least its rank."""

    code = "AINO-E0143"
    template = "graph input {name} has no shape"
    hint = "declare its dimensions; those that vary may be named (dim_param)"
    example = {"name": "'x'"}


class TypeUnsupported(OnnxError):
    """A value has a type that AINO has none for."""

    code = "AINO-E0144"
    template = "{what} has type {got}, which is not supported"
    hint = "dense tensors, sequences and optionals of them are; cast or densify the value"
    example = {"what": "graph input 'x'", "got": "sparse(f32[2, 3])"}


class InputNotConstant(OnnxError):
    """An input that decides shapes (or the like) is computed from data at run time.

    Attributes:
        inputs: names of the graph's inputs that it is computed from.
    """

    inputs: tuple[str, ...] = ()

    code = "AINO-E0145"
    template = "input {index} ({name}) of {op} must be known at compile time, it depends on {sources}"
    hint = "make it an initializer, derive it from shapes, or fix the input that decides it with `values=`"
    example = {"index": 1, "name": "'shape'", "op": "'Reshape'", "sources": "input 'target'"}


class VariantUnsupported(OnnxError):
    """An operator is used in a form that has no lowering."""

    code = "AINO-E0146"
    template = "{op} is not supported with {what}"
    hint = "other forms of this operator are; see docs/status.md"
    example = {"op": "'RoiAlign'", "what": "mode 'max'"}


class NodeInvalid(OnnxError):
    """A node's inputs or attributes contradict the operator's definition."""

    code = "AINO-E0147"
    template = "{op}: {what} must be {expected}, got {got}"
    hint = "see the operator's page in the ONNX documentation"
    example = {"op": "'Split'", "what": "the sum of the sizes", "expected": "10", "got": "8"}


class InputUnknown(OnnxError):
    """The caller fixes an input that the model does not have."""

    code = "AINO-E0148"
    template = "the model has no input {name}"
    hint = "its inputs are: {known}"
    example = {"name": "'mask'", "known": "'x', 'axes'"}


class GradientMissing(OnnxError):
    """A Gradient node asks for the derivative of an op that has no rule."""

    code = "AINO-E0149"
    template = "no rule differentiates {op}"
    hint = "compute this gradient where the model is exported, or leave the op out of what is differentiated"
    example = {"op": "control.loop"}


class LoweringFault(InternalError):
    """A lowering failed in a way that it should not."""

    code = "AINO-E0191"
    template = "lowering of {op} failed: {reason}"
    hint = "this is a fault of AINO; please report it with the model"
    example = {"op": "'Conv'", "reason": "IndexError: tuple index out of range"}
