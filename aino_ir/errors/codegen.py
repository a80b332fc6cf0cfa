"""Errors of lowering and code generation (E04xx)."""

from aino_ir.errors.base import EnvironmentFault, InternalError, UserError


class NotComposable(InternalError):
    """A fused group cannot be expressed as one kernel."""

    code = "AINO-E0481"
    template = "{op} cannot become one kernel: {reason}"
    hint = "this is a bug in AINO's fusion; compile with level=1 meanwhile and please report it"
    example = {"op": "core.fused", "reason": "it holds several anchors: nn.conv, nn.matmul"}


class NoLowering(UserError):
    """No generator can serve an op on the target.

    Attributes:
        op_id: of the op of the function's own block that cannot be served, or that holds it in a region;
            None where it is no op that lacks a kernel.
    """

    op_id: int | None = None

    code = "AINO-E0482"
    template = "no native code for {op} on target {target}: {reason}"
    hint = "compile without strict=True, for target='reference', or remove the op from the model"
    example = {"op": "tensor.nonzero", "target": "c", "reason": "it has no definition as loops"}


class StaticShapesWanted(UserError):
    """A device whose memory is static was asked to run a model whose extents are not all known."""

    code = "AINO-E0484"
    template = "the device's memory is static, but the run decides the extents {symbols}"
    hint = "fix them: dims={{...}}, or --dim NAME=NUMBER"
    example = {"symbols": "batch"}


class ScheduleInvalid(InternalError):
    """A step of a schedule does not fit the loops that it is applied to."""

    code = "AINO-E0485"
    template = "cannot schedule: {step}: {reason}"
    hint = "print the schedule and its `axes` to see the loops as they are at this step"
    example = {"step": "vectorize(n)", "reason": "its extent batch must be a number: split it"}


class KernelTrialsFailed(EnvironmentFault):
    """The process that tries new kernels could not do its work."""

    code = "AINO-E0486"
    template = "the process that tries compiled kernels ended with status {status}: {lines}"
    hint = "verify='off' compiles without trying kernels; please report it if Python itself works here"
    example = {"status": 1, "lines": "OSError: library.so: cannot open shared object file"}
