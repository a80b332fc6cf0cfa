"""Errors of writing a module in another format."""

from __future__ import annotations

from aino_ir.errors.base import UserError


class ExportError(UserError):
    """The family of errors that writing a module can end in."""


class OpNotExportable(ExportError):
    """An op that the other format has nothing for."""

    code = "AINO-E0151"
    template = "{op} cannot be written as {format}: {reason}"
    hint = "save the module as .air or compile it; see docs/status.md for what can be exported"
    example = {"op": "'example.shrink_hard'", "format": "ONNX", "reason": "no exporter knows this op"}


class ExtentNotExportable(ExportError):
    """A symbolic extent that no axis of a value tells."""

    code = "AINO-E0152"
    template = "extent {dim} cannot be written as {format}: no value has {symbol} as an extent"
    hint = "give an input an axis of that extent, or fix the dimension with dims="
    example = {"dim": "2*s + 1", "format": "ONNX", "symbol": "'s'"}
