"""Errors while a program runs (E05xx)."""

from aino_ir.errors.base import EnvironmentFault, InternalError, UserError


class InputMismatch(UserError):
    """A run-time value does not have the type that was declared for it."""

    code = "AINO-E0503"
    template = "'{name}': {what} must be {expected}, got {got}"
    hint = "see exe.inputs for the expected names and types"
    example = {"name": "x", "what": "extent of axis 0", "expected": 1, "got": 2}


class KernelStatusUnknown(InternalError):
    """A kernel reported a status code that the runtime does not know."""

    code = "AINO-E0590"
    template = "kernel '{kernel}' reported unknown status {status}"
    hint = "this is a bug in AINO; please report it"
    example = {"kernel": "gather_1", "status": 77}


class UnsupportedInput(UserError):
    """A run-time value is of a kind that AINO does not take."""

    code = "AINO-E0505"
    template = "'{name}': expected {expected}, got {got}"
    hint = "pass a numpy array, a torch tensor on the CPU, or anything with DLPack"
    example = {"name": "x", "expected": "f32[1, 3]", "got": "list"}


class WrongInputCount(UserError):
    """A run got too few, too many or unknown inputs."""

    code = "AINO-E0506"
    template = "expected inputs {expected}, got {got}"
    hint = "see exe.inputs; pass them in order, or as one dict by name"
    example = {"expected": "('x', 'mask')", "got": "1 positional"}


class BadOutputBuffer(UserError):
    """An array given with out= cannot hold the result."""

    code = "AINO-E0507"
    template = "out['{name}'] must be a writable C-contiguous {expected}, got {got}"
    hint = "make it with numpy.empty(shape, dtype)"
    example = {"name": "y", "expected": "f32[1, 10]", "got": "f64[1, 10]"}


class IndexOutOfRange(UserError):
    """A kernel met an index outside the tensor it indexes."""

    code = "AINO-E0508"
    template = "an index is out of range"
    hint = "check the index input of this node"
    example = {}


class NativeDivisionByZero(UserError):
    """A kernel met an integer division by zero."""

    code = "AINO-E0509"
    template = "integer division by zero"
    hint = "check the divisor input of this node"
    example = {}


class SizeLimitAtRun(UserError):
    """A run-time extent is larger than what was planned for."""

    code = "AINO-E0510"
    template = "a run-time size is over its limit"
    hint = "give the symbol a larger bound with dims={{...}}"
    example = {}


class NativeShapeError(UserError):
    """A kernel met a shape that cannot be."""

    code = "AINO-E0511"
    template = "a run-time shape is not legal: {what}"
    hint = "check the input of this node that decides its shape"
    example = {"what": "v5_0 must be in 0..12"}


class NativeAllocationFailed(EnvironmentFault):
    """Memory for a run could not be had."""

    code = "AINO-E0512"
    template = "out of memory for {what}"
    hint = "exe.report says how many bytes a run needs"
    example = {"what": "a run"}


class NothingToRun(UserError):
    """The target compiles models but makes nothing that could run."""

    code = "AINO-E0513"
    template = "a model compiled for target '{target}' cannot run"
    hint = "compile it for target 'c' or 'reference'"
    example = {"target": "null"}


class NoProfile(UserError):
    """The executable was compiled without the entry that measures its steps."""

    code = "AINO-E0514"
    template = "this executable cannot be profiled: {reason}"
    hint = "compile the model for target 'c' with this version of AINO"
    example = {"reason": "target reference runs in Python"}


class WrongOutputCount(UserError):
    """The arrays given with out= are too few, too many or for unknown outputs."""

    code = "AINO-E0515"
    template = "expected arrays for outputs {expected} in out=, got {got}"
    hint = "see exe.outputs; pass one array an output, in order or as a dict by name"
    example = {"expected": "('y',)", "got": "2 arrays"}


class OutputDecidedByRun(UserError):
    """An array was given with out= for an output whose extents only the run decides."""

    code = "AINO-E0516"
    template = "out['{name}'] cannot be given: the run decides the extents of {type}"
    hint = "run without out=; the result is an array of your own"
    example = {"name": "y", "type": "i64[2, d5_0]"}


class TextUnreadable(UserError):
    """A text that should be a number is none."""

    code = "AINO-E0518"
    template = "{op}: {text} is no {dtype}"
    hint = "check the texts that reach this node"
    example = {"op": "text.parse", "text": "'abc'", "dtype": "f32"}


class HostStepFailed(UserError):
    """An op that runs in Python failed on its operands."""

    code = "AINO-E0520"
    template = "{op} failed with {kind}: {reason}"
    hint = "check the inputs of this node"
    example = {"op": "sequence.join", "kind": "ValueError", "reason": "need at least one array"}


class PillowMissing(EnvironmentFault):
    """A model decodes pictures, for which Pillow is needed."""

    code = "AINO-E0950"
    template = "decoding pictures needs the package Pillow, which is not installed"
    hint = "install it (`pip install pillow`), or decode the pictures before the model"


class JaxMissing(EnvironmentFault):
    """StableHLO is to run, for which jax is needed."""

    code = "AINO-E0951"
    template = "running StableHLO needs the package jax: {reason}"
    hint = (
        "run `pip install aino-ir[stablehlo]`; `ainoc compile --emit stablehlo` writes the module without it"
    )
    example = {"reason": "it is not installed (No module named 'jax')"}


class XlaFailed(InternalError):
    """XLA refuses a module that AINO wrote."""

    code = "AINO-E0952"
    template = "XLA refuses the StableHLO module: {reason}"
    hint = "this is a fault of AINO; please report it with the text of `ainoc compile --emit stablehlo`"
    example = {"reason": "error: op requires the same element type for all operands"}


class PictureUnreadable(UserError):
    """Data that should be a picture cannot be decoded."""

    code = "AINO-E0517"
    template = "the picture cannot be decoded: {reason}"
    hint = "pass the bytes of a picture file (PNG, JPEG, BMP ...)"
    example = {"reason": "Pillow says: UnidentifiedImageError"}
