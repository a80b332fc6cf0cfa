"""Errors of the text form (E024x)."""

from aino_ir.errors.base import UserError


class TextSyntaxError(UserError):
    """The text is not in the .air language."""

    code = "AINO-E0241"
    template = "line {line}, column {column}: unexpected text\n    {shown}\n    {caret}"
    hint = "expected one of: {expected}"
    example = {"line": 3, "column": 7, "shown": "%1 = math", "caret": "      ^", "expected": "OPNAME"}


class TextMismatch(UserError):
    """The text is well-formed but names something that cannot be."""

    code = "AINO-E0242"
    template = "line {line}: {problem}\n    {shown}"
    hint = "fix this line; docs/ir.md lists every op with its attributes"
    example = {"line": 3, "problem": "no op is called 'math.ad'", "shown": "%3 = math.ad %1, %2 : f32[4] #3"}


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
