"""Errors of plans (E048x-E049x)."""

from aino_ir.errors.base import InternalError


class PlanUnsafe(InternalError):
    """A checker found that a plan could read or write wrong memory."""

    code = "AINO-E0483"
    template = "the plan is not safe: {problem}"
    hint = "this is a bug in AINO; please report it with the model"
    example = {"problem": "conv_1 and add_2 touch the same bytes without a barrier"}
