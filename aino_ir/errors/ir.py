"""Errors of the IR: ill-typed ops, broken invariants (E02xx)."""

from aino_ir.errors.base import InternalError, UserError


class ShapeMismatch(UserError):
    """Two extents that must be equal are not."""

    code = "AINO-E0201"
    template = "{op}: {what} must be equal, got {left} and {right}"
    hint = "check the shapes of the operands of this node"
    example = {"op": "nn.conv", "what": "input channels", "left": 64, "right": 32}


class DTypeMismatch(UserError):
    """An operand has a dtype that the op does not take."""

    code = "AINO-E0202"
    template = "{op}: {what} must be {expected}, got {got}"
    hint = "insert a cast, or fix the dtype of this input"
    example = {"op": "math.add", "what": "dtype of rhs", "expected": "f32", "got": "i64"}


class RankMismatch(UserError):
    """An operand has a rank that the op does not take."""

    code = "AINO-E0203"
    template = "{op}: {what} must have rank {expected}, got {got}"
    hint = "check the shapes of the operands of this node"
    example = {"op": "nn.conv", "what": "weight", "expected": 4, "got": 3}


class BadAttribute(UserError):
    """An attribute is missing or has an illegal value."""

    code = "AINO-E0204"
    template = "{op}: attribute '{attribute}' must be {expected}, got {got}"
    hint = "fix this attribute in the model"
    example = {
        "op": "tensor.transpose",
        "attribute": "perm",
        "expected": "a permutation of 0..2",
        "got": (0, 0),
    }


class BadOperand(UserError):
    """Operands are missing, too many, or have an illegal value."""

    code = "AINO-E0205"
    template = "{op}: {what} must be {expected}, got {got}"
    hint = "check the operands of this node"
    example = {"op": "nn.conv", "what": "operand count", "expected": "2 or 3", "got": 1}


class Undecided(UserError):
    """A fact about extents could not be proved where recording a check was not allowed."""

    code = "AINO-E0206"
    template = "{op}: cannot decide whether {what}: {left} and {right}"
    hint = "give the symbols bounds with dims={{...}}, or fix them"
    example = {"op": "math.add", "what": "extents are equal", "left": "s", "right": "t"}


class InvariantBroken(InternalError):
    """The verifier found a module that breaks a numbered invariant."""

    code = "AINO-E0290"
    template = "invariant {number} ({title}) is broken by {op}: {detail}"
    hint = "this is a bug in AINO or in a pass from another package; please report it with the module's text"
    example = {
        "number": 3,
        "title": "operands dominate",
        "op": "%7 = math.add",
        "detail": "%9 stands after it",
    }


class UnevaluableOp(InternalError):
    """The interpreter met an op that says nothing about its meaning."""

    code = "AINO-E0291"
    template = "{op} cannot be evaluated: {reason}"
    hint = "give the op class an `evaluate` or a `decompose`"
    example = {"op": "my.op", "reason": "it declares neither evaluate nor decompose"}


class BadDefinition(InternalError):
    """The definition that an op class gives of itself does not hold water."""

    code = "AINO-E0292"
    template = "the definition of {op} {problem}"
    hint = "correct `define` of this op class"
    example = {"op": "my.op", "problem": "leaves 3 result elements unwritten"}


class OutOfRangeIndex(UserError):
    """An index operand points outside the tensor it indexes."""

    code = "AINO-E0501"
    template = "{op}: index {index} is out of range for an axis of {extent}"
    hint = "check the index input of this node; legal values are -{extent}..{extent}-1"
    example = {"op": "tensor.gather", "index": 12, "extent": 10}


class IntegerDivisionByZero(UserError):
    """An integer was divided by zero."""

    code = "AINO-E0502"
    template = "{op}: integer division by zero"
    hint = "check the divisor input of this node"
    example = {"op": "math.div"}


class SizeLimit(UserError):
    """A tensor would be larger than AINO allows."""

    code = "AINO-E0207"
    template = "{op}: a result of {size} elements is over the limit of {limit}"
    hint = "check the extents this node is asked to produce"
    example = {"op": "tensor.expand", "size": 2**62, "limit": 2**40}


class NegativeExtent(UserError):
    """A shape has a negative extent."""

    code = "AINO-E0208"
    template = "{op}: extents must not be negative, got {shape}"
    hint = "check the shape this node is asked to produce"
    example = {"op": "tensor.expand", "shape": (-3, 4)}


class ValueOutOfBounds(UserError):
    """A number that decides extents or positions, computed at run time, is outside of its bounds."""

    code = "AINO-E0504"
    template = "{op}: element {element} of {what} is {got}, but must be in {lo}..{hi}"
    hint = "check the input of this node that decides its shape"
    example = {"op": "core.bind", "element": 0, "what": "shape", "got": -3, "lo": 0, "hi": 12}


class UnsupportedArray(UserError):
    """An array's elements are of a kind that AINO has no type for."""

    code = "AINO-E0209"
    template = "no element type for arrays of {dtype}"
    hint = "convert the array: floats, integers, bool and complex numbers have types"
    example = {"dtype": "datetime64[s]"}
