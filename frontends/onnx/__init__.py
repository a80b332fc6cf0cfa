"""The ONNX frontend: `load_onnx` reads a model and lowers it to a module."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aino_ir.frontends.dimensions import DimSpec
    from aino_ir.graph import Module

__all__ = ["load_onnx"]


def load_onnx(
    source: Any,
    dims: Mapping[str, DimSpec] | None = None,
    *,
    values: Mapping[str, Any] | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> Module:
    """The module of an ONNX model.

    Args:
        source: path, serialized ModelProto, or ModelProto.
        dims: named dimensions -> an extent that fixes one, or its inclusive bounds ``(low, high)``.
        values: inputs fixed to arrays: the module does not take them, and what they decide is known.
        folder: where external data lies; by default the folder of the path.

    Raises:
        OnnxError: one of E0101 to E0148, with the node or value at fault.
    """
    from aino_ir.frontends.onnx.lower import lower_model
    from aino_ir.frontends.onnx.reader import read_model

    return lower_model(read_model(source, folder=folder), dims, values)
