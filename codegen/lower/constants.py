"""Bytes of constant buffers: handles packed into the layouts that kernels asked for."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from aino_ir.constants import Const
from aino_ir.kernels import Packing
from aino_ir.plan import Buffer

Transform = Callable[[np.ndarray], np.ndarray]

TRANSFORMS: dict[str, tuple[Transform, Callable[[tuple[int, ...]], tuple[int, ...]]]] = {}
"""Packing transforms by name: (array -> array, shape -> shape), registered by their generators."""


def packed_shape(handle: Const, packing: Packing) -> tuple[int, ...]:
    """Logical shape of the packed constant."""
    if not packing.transform:
        return handle.shape
    return TRANSFORMS[packing.transform][1](handle.shape)


def packed(array: np.ndarray, packing: Packing) -> np.ndarray:
    """An array in a packing, as a flat array of stored elements."""
    if packing.transform:
        array = TRANSFORMS[packing.transform][0](array)
    return packing.layout.pack(array)


def constant_bytes(buffer: Buffer) -> bytes:
    """The contents of a constant buffer, as it stands in the weights section."""
    assert buffer.const is not None
    array = buffer.const.array()
    if buffer.packing is not None:
        array = packed(array, buffer.packing)
    return np.ascontiguousarray(array).tobytes()
