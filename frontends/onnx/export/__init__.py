"""A module as an ONNX model: `to_onnx`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

    from aino_ir.graph import Module

__all__ = ["external_weights", "to_onnx"]


def to_onnx(module: Module) -> onnx.ModelProto:
    """The `main` of a module as an ONNX model that any ONNX engine can run.

    Every op becomes operators of the default domain; fused groups are written out, layouts are left
    out (they change no meaning), symbols become named dimensions.  Arithmetic on types that are only
    stored (bf16, fp8, int4 ...) is written as conversions around arithmetic in the type that AINO computes
    in, so that an engine rounds where AINO rounds.  A state slot becomes an input with its first value
    as default, and an output ``NAME.next``.  What AINO defines beyond ONNX (a conversion out of range,
    the NaN rules, checks of extents) is left to the engine.

    Args:
        module: what `load` gave, before or after passes.

    Returns:
        A model of the lowest operator set, 21 or above, that has all its operators.

    Raises:
        OpNotExportable: an op has no counterpart in ONNX; names op and place.
        ExtentNotExportable: an extent depends on a symbol that no value's shape tells.
    """
    from aino_ir.frontends.onnx.export.model import model_of

    return model_of(module)


def external_weights(model: onnx.ModelProto, location: str) -> Iterator[bytes]:
    """Move the weights of a model to external data in the file `location`; yields that file's bytes.

    Tensors start at multiples of 4096 bytes, so that a reader may map them; small ones stay inside.
    """
    from aino_ir.frontends.onnx.export.external import moved_weights

    return moved_weights(model, location)
