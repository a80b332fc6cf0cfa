"""Errors of how AINO is called (E07xx)."""

from aino_ir.errors.base import UsageError


class UnknownModelKind(UsageError):
    """Nothing reads such a model."""

    code = "AINO-E0701"
    template = "cannot load a model from {what}"
    hint = "pass a path to .onnx or .air, ONNX bytes, an onnx.ModelProto, or an aino Module"
    example = {"what": ".h5"}


class UnknownOption(UsageError):
    """An option has none of its values."""

    code = "AINO-E0702"
    template = "option '{option}' must be one of {choices}, got {got!r}"
    hint = "see help(aino_ir.compile)"
    example = {"option": "numerics", "choices": ("strict", "default", "fast"), "got": "quick"}
