"""Errors of how AINO is called, in Python and on the command line (E07xx), and its own faults (E090x)."""

from __future__ import annotations

from aino_ir.errors.base import InternalError, UsageError, UserError


class UnknownModelKind(UsageError):
    """Nothing reads such a model."""

    code = "AINO-E0701"
    template = "cannot load a model from {what}"
    hint = (
        "pass a path to .onnx, .pt2, .mlir or .air, ONNX bytes, an onnx.ModelProto, an nn.Module, "
        "an ExportedProgram, what jax.jit lowered, or an aino Module"
    )
    example = {"what": ".h5"}


class UnknownOption(UsageError):
    """An option has none of its values."""

    code = "AINO-E0702"
    template = "option '{option}' must be one of {choices}, got {got!r}"
    hint = "see help(aino_ir.compile)"
    example = {"option": "numerics", "choices": ("strict", "default", "fast"), "got": "quick"}


class OptionTooSmall(UsageError):
    """A number is below the least that makes sense."""

    code = "AINO-E0703"
    template = "option '{option}' must be a {kind} of at least {least}, got {got!r}"
    hint = "leave the option out for its default"
    example = {"option": "threads", "kind": "whole number", "least": 1, "got": 0}


class BadArgument(UsageError):
    """Text on the command line does not have the form that its option wants."""

    code = "AINO-E0704"
    template = "cannot read {option} {text!r}: {reason}"
    hint = "write it like {sample}"
    example = {"option": "--dim", "text": "batch", "reason": "it has no '='", "sample": "--dim batch=1..64"}


class InputFileUnreadable(UserError):
    """A file of input arrays is missing or is no .npy or .npz file."""

    code = "AINO-E0705"
    template = "cannot read arrays from {path}: {reason}"
    hint = "write the file with numpy.save or numpy.savez; arrays of objects are not read"
    example = {"path": "x.npy", "reason": "No such file or directory"}


class NoInputs(UsageError):
    """A model is to run but has been given no values."""

    code = "AINO-E0706"
    template = "no value for input '{name}' ({type})"
    hint = "give it with --input {name}=FILE.npy, or let --random SEED make it up"
    example = {"name": "x", "type": "f32[1, 784]"}


class ArtifactIsNoModel(UsageError):
    """A model was wanted, and a compiled artifact was given."""

    code = "AINO-E0707"
    template = "{path} is a compiled artifact, not a model"
    hint = "name the model that it was made from; aino.load_executable opens artifacts"
    example = {"path": "m.aino"}


class OneVariantWanted(UsageError):
    """Sources were asked for several instruction sets at once."""

    code = "AINO-E0708"
    template = "--emit {kind} writes one instruction set, target {target} has {count}"
    hint = "choose one of them, such as --target c:avx2"
    example = {"kind": "c", "target": "c:avx2+avx512", "count": 2}


class TargetRunsNothing(UsageError):
    """A target was named that this call has no use for."""

    code = "AINO-E0709"
    template = "target '{target}' cannot be used for {what}"
    hint = "use a target for C, such as c or c:avx2"
    example = {"target": "reference", "what": "writing an artifact"}


class OperatorsUnsupported(UserError):
    """Operators have no code for the target, and nothing else may or can run them."""

    code = "AINO-E0710"
    template = "{count} nodes have no code on target {target}: {operators}"
    hint = "replace these operators; without `strict`, what only lacks native code runs in Python"
    example = {"count": 2, "target": "c:avx2", "operators": "NonZero, Unique"}


class SourcesNeedPython(UserError):
    """Sources were asked for, and parts of the model run in Python."""

    code = "AINO-E0712"
    template = "--emit {kind} cannot hold what runs in Python, which {count} nodes do: {operators}"
    hint = "replace these operators, or compile to an artifact (.aino), which runs them in Python"
    example = {
        "kind": "c",
        "count": 1,
        "operators": "text.concat: values of type string[2] have no native code",
    }


class ExtentsNotGiven(UserError):
    """A form that has no symbolic extents was asked for of a model that has them."""

    code = "AINO-E0713"
    template = "--emit {kind} writes static extents, but the model has symbols: {symbols}"
    hint = "give each a value, as in `--dim {first}=1` or `dims={{'{first}': 1}}`"
    example = {"kind": "stablehlo", "symbols": "batch, seq", "first": "batch"}


class BadExtension(UsageError):
    """An op, pass or target of another package cannot be registered."""

    code = "AINO-E0711"
    template = "{kind} {name!r} cannot be registered: {reason}"
    hint = "see docs/architecture.md on extensions; names of other packages begin best with their own prefix"
    example = {"kind": "target", "name": "c", "reason": "the name is taken"}


class UnknownDevice(UsageError):
    """The ONNX backend is asked for a device that AINO has no code for."""

    code = "AINO-E0731"
    template = "no device '{device}'"
    hint = "the ONNX backend runs on the device 'CPU'"
    example = {"device": "CUDA"}


class UnexpectedFault(InternalError):
    """Something went wrong that AINO has no error for."""

    code = "AINO-E0901"
    template = "{kind}: {message}"
    hint = "this is a fault of AINO; please report it"
    example = {"kind": "KeyError", "message": "'relu'"}


class ResultsDisagree(InternalError):
    """A compiled model and what it was compared with give different results."""

    code = "AINO-E0902"
    template = "output '{name}' disagrees with {against}: {reason}"
    hint = "this is a fault of AINO (or of the other engine); please report it with the model"
    example = {"name": "y", "against": "reference", "reason": "error 0.5 is over 1e-4"}


class StrictRefused(InternalError):
    """`strict` was asked for, and a pass had to be undone."""

    code = "AINO-E0903"
    template = "passes were undone, which strict does not allow: {undone}"
    hint = "compile without strict to go on with the passes left out; please report this fault of AINO"
    example = {"undone": "fold-constants: error 0.5 is over 1e-6"}
