"""Errors of reading StableHLO: parsing, operations, forms (E0180 to E0189)."""

from __future__ import annotations

from aino_ir.errors.base import EnvironmentFault, InternalError, UserError


class StableHloError(UserError):
    """The family of errors that reading StableHLO can end in."""


class MlirMissing(EnvironmentFault):
    """StableHLO is to be read, for which the MLIR of jaxlib is needed."""

    code = "AINO-E0180"
    template = "reading StableHLO needs the package jax, which is not installed ({reason})"
    hint = "pip install 'aino-ir[stablehlo]'"
    example = {"reason": "No module named 'jax'"}


class StableHloUnreadable(StableHloError):
    """Text or bytes are no MLIR module with a function `main`."""

    code = "AINO-E0181"
    template = "cannot read {what}: {reason}"
    hint = "pass what `jax.jit(f).lower(...).as_text()` gives, or the Lowered object itself"
    example = {"what": "model.mlir", "reason": "line 3: expected ':'"}


class StableHloUnsupported(StableHloError):
    """Operations of a module have no lowering; all of them are listed."""

    code = "AINO-E0182"
    template = "{count} operations have no lowering:\n{operations}"
    hint = "write these lines with other functions of JAX, or without the library that a custom call names"
    example = {"count": 1, "operations": "  stablehlo.fft at model.py:12"}


class StableHloVariant(StableHloError):
    """An operation is used in a way that its lowering does not cover."""

    code = "AINO-E0183"
    template = "{op}: {what} has no lowering"
    hint = "write this line with other functions of JAX"
    example = {"op": "stablehlo.convolution", "what": "batch_group_count 2"}


class StableHloTypeUnsupported(StableHloError):
    """A tensor has an element type or extents that AINO has no type for."""

    code = "AINO-E0184"
    template = "{what} is {got}, which AINO does not compute with"
    hint = "lower the function for static shapes and real numbers, integers or truth values"
    example = {"what": "a result of stablehlo.fft", "got": "tensor<8xcomplex<f32>>"}


class StableHloLoweringFault(InternalError):
    """A lowering made something else than the module says."""

    code = "AINO-E0185"
    template = "lowering {op} failed: {reason}"
    hint = "this is a fault of AINO; please report it with the module"
    example = {"op": "stablehlo.gather", "reason": "it gives f32[4], the module says f32[4, 1]"}
