"""Bytes of constant buffers: handles packed into the layouts that kernels asked for."""

from __future__ import annotations

import numpy as np

from aino_ir.dtypes import DType
from aino_ir.plan import Buffer


def constant_bytes(buffer: Buffer) -> bytes:
    """The contents of a constant buffer, as it stands in the weights section."""
    assert buffer.const is not None
    array = buffer.const.array()
    if buffer.packing is not None:
        array = buffer.packing.pack(array)
    return np.ascontiguousarray(array).tobytes()


def stored_dtype(buffer: Buffer) -> DType:
    """The type of the elements that stand there."""
    assert buffer.const is not None
    dtype = buffer.const.dtype
    return dtype if buffer.packing is None else buffer.packing.stored_dtype(dtype)
