"""Errors while a program runs (E05xx)."""

from aino_ir.errors.base import InternalError, UserError


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
