"""Errors of the text form (E024x)."""

from aino_ir.errors.base import UserError


class TextSyntaxError(UserError):
    """The text is not in the .air language."""

    code = "AINO-E0241"
    template = "line {line}, column {column}: unexpected text\n    {shown}\n    {caret}"
    hint = "expected one of: {expected}"
    example = {
        "line": 3,
        "column": 7,
        "shown": "%1 = math",
        "caret": "      ^",
        "expected": "an op such as math.add",
    }


class TextMismatch(UserError):
    """The text is well-formed but names something that cannot be."""

    code = "AINO-E0242"
    template = "line {line}, column {column}: {problem}\n    {shown}\n    {caret}"
    hint = "fix this line; docs/ir.md lists every op with its attributes"
    example = {
        "line": 3,
        "column": 6,
        "problem": "no op is called 'math.ad'",
        "shown": "%3 = math.ad %1, %2 : f32[4] #3",
        "caret": "     ^",
    }


class UnknownWeight(UserError):
    """The text refers to a constant that the weights file lacks."""

    code = "AINO-E0243"
    template = "no weight {digest} of type {type} is at hand"
    hint = "keep the .safetensors file beside the .air file, or pass weights="
    example = {"digest": "9f86d081", "type": "f32[64, 3, 7, 7]"}


class WeightsFileMissing(UserError):
    """The safetensors file of an .air file is missing."""

    code = "AINO-E0244"
    template = "{path} is missing: the module refers to constants in it"
    hint = "copy it beside the .air file"
    example = {"path": "model.safetensors"}


class TextFileUnreadable(UserError):
    """An .air file, or the weights beside it, cannot be read."""

    code = "AINO-E0245"
    template = "cannot read {path}: {reason}"
    hint = "check the path and its permissions"
    example = {"path": "model.air", "reason": "No such file or directory"}


class TextNotWellFormed(UserError):
    """The text can be read, but what it says breaks an invariant of the graph."""

    code = "AINO-E0246"
    template = "{path} is no well-formed module: {reason}"
    hint = "write the file again with aino_ir.save, or correct it; docs/ir.md says what every op wants"
    example = {
        "path": "model.air",
        "reason": "invariant 8 (a block ends with a terminator) is broken by main",
    }


class WeightDamaged(UserError):
    """The bytes of a constant beside an .air file are not those that the text means."""

    code = "AINO-E0247"
    template = "weight {digest} in {path} is damaged: its bytes have the hash {found}"
    hint = "copy both files again from their source, or write them again with aino_ir.save"
    example = {"digest": "9f86d081", "path": "model.air.safetensors", "found": "60303ae2"}
