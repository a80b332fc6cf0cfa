"""Errors of the loop language: building, verifying and interpreting kernels (AINO-E0920 to E0949).

All of them are faults of the compiler: what a user can cause is checked before loops are built.
"""

from __future__ import annotations

from aino_ir.errors.base import InternalError


class LoopError(InternalError):
    """A kernel was built wrongly."""

    hint = "report this with the model; the kernel generator named in the traceback is at fault"


class LoopNameError(LoopError):
    """A name is no identifier, is taken, or is not defined here."""

    code = "AINO-E0920"
    template = "kernel {kernel}: name {name!r} {problem}"
    example = {"kernel": "gemm", "name": "k", "problem": "is not defined here"}


class LoopTypeError(LoopError):
    """An expression does not have the type that its place needs."""

    code = "AINO-E0921"
    template = "kernel {kernel}: {what} must be {expected}, but is {got}"
    example = {"kernel": "gemm", "what": "register acc_0_0", "expected": "f32x8", "got": "f32x16"}


class LoopAccessError(LoopError):
    """A buffer is read or written against its declared access, or is unknown."""

    code = "AINO-E0922"
    template = "kernel {kernel}: cannot {action} buffer {buffer!r}, which is declared {declared}"
    example = {"kernel": "gemm", "action": "store to", "buffer": "x", "declared": "read"}


class StaleRegisterRead(LoopError):
    """An expression reads a register that was set since the read was written down."""

    code = "AINO-E0923"
    template = "kernel {kernel}: a read of register {register!r} is used after the register was set"
    hint = "pin the value first with `b.let(reg.read())`, or read the register again"
    example = {"kernel": "gemm", "register": "acc_0_0"}


class LoopStructureError(LoopError):
    """Builder contexts were used out of order."""

    code = "AINO-E0924"
    template = "kernel {kernel}: {problem}"
    example = {"kernel": "gemm", "problem": "otherwise() must follow a when()"}


class LoopInvariantError(LoopError):
    """A finished kernel breaks an invariant of the loop language."""

    code = "AINO-E0930"
    template = "kernel {kernel} breaks loop invariant {invariant} ({rule}): {what}"
    example = {"kernel": "gemm", "invariant": "L1", "rule": "names are defined before use", "what": "`t3`"}


class LoopOutOfBounds(LoopError):
    """The interpreter saw an access outside a buffer."""

    code = "AINO-E0940"
    template = "kernel {kernel}: {action} of {buffer}[{offset}] is outside its {size} elements"
    example = {"kernel": "gemm", "action": "load", "buffer": "x", "offset": 64, "size": 64}


class LoopRunError(LoopError):
    """The interpreter met something that the kernel promised not to happen."""

    code = "AINO-E0941"
    template = "kernel {kernel}: {what}"
    example = {"kernel": "gemm", "what": "fact i0 <= 7 does not hold: i0 is 9"}


class LoopArgumentError(LoopError):
    """A kernel was called with arguments that do not fit its declaration."""

    code = "AINO-E0942"
    template = "kernel {kernel}: argument {name!r} must be {expected}, but is {got}"
    example = {"kernel": "gemm", "name": "x", "expected": "f32[64]", "got": "f64[64]"}
