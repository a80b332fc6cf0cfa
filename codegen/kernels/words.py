"""Weights of 4 bits as kernels that decode them for single rows store them: eight neighbours in a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, i32, u8

Array = np.ndarray[Any, Any]

NIBBLES = 8
"""Elements of 4 bits in a word of 32."""


@dataclass(frozen=True)
class Words:
    """A packing transform: elements i of eight neighbours in an i32, byte i % 4, upper half from i = 4 on.

    So one shift and one mask for all bytes of a word give four of its elements, each alone in its byte.

    Attributes:
        axis: along which neighbours share a word; the last one is filled up with zeros.
    """

    axis: int

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """An eighth as long along the axis."""
        return tuple(-(-d // NIBBLES) if a == self.axis else d for a, d in enumerate(shape))

    def dtype(self, dtype: DType) -> DType:
        """Words."""
        return i32

    def apply(self, array: Array) -> Array:
        """The words."""
        bits = array.astype(np.int8).astype(np.uint8) & 15
        missing = -array.shape[self.axis] % NIBBLES
        bits = np.pad(bits, [(0, missing if a == self.axis else 0) for a in range(array.ndim)])
        apart = np.moveaxis(bits, self.axis, -1)
        apart = apart.reshape(*apart.shape[:-1], -1, NIBBLES)
        bytes_ = np.ascontiguousarray(apart[..., :4] | (apart[..., 4:] << 4))
        return np.ascontiguousarray(np.moveaxis(bytes_.view("<i4")[..., 0], -1, self.axis))


@dataclass(frozen=True)
class WordBytes:
    """The same words as four bytes each, of weights that are moved up to be at least 0.

    Attributes:
        axis: along which neighbours share a word.
        offset: what is added to each weight.
    """

    axis: int
    offset: int = 0

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Half as long along the axis, whole words."""
        return tuple(4 * -(-d // NIBBLES) if a == self.axis else d for a, d in enumerate(shape))

    def dtype(self, dtype: DType) -> DType:
        """Bytes."""
        return u8

    def apply(self, array: Array) -> Array:
        """The bytes."""
        words = Words(self.axis).apply(array.astype(np.int8) + np.int8(self.offset))
        last = np.ascontiguousarray(np.moveaxis(words, self.axis, -1).astype("<i4"))
        return np.ascontiguousarray(np.moveaxis(last.view(np.uint8), -1, self.axis))
