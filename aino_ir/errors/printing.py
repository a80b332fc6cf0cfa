"""Errors of printing loops as source text."""

from __future__ import annotations

from aino_ir.errors.base import InternalError


class NoSpelling(InternalError):
    """The printer of a target has no spelling for an operation on a type."""

    code = "AINO-E0420"
    template = "no {target} code for '{operation}' on {type}"
    hint = "choose another target, or compile without strict so that this op runs on the host"
    example = {"target": "C", "operation": "sqrt", "type": "c64"}


class UnprintableLanes(InternalError):
    """A vector type whose lane count no C vector can have."""

    code = "AINO-E0421"
    template = "a vector of {lanes} lanes of {dtype} cannot be printed"
    hint = "lane counts are powers of two and a vector has at most {limit} bytes"
    example = {"lanes": 3, "dtype": "f32", "limit": 256}
