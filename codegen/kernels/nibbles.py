"""Weights of 4 bits as kernels store them: two neighbours along an axis share a byte."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, u8

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Nibbles:
    """A packing transform: element 2 i of the axis in the low half of byte i, 2 i + 1 in the high half.

    Attributes:
        axis: along which neighbours share a byte; an odd extent is filled up with a zero.
    """

    axis: int

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Half as long along the axis."""
        return tuple(-(-d // 2) if a == self.axis else d for a, d in enumerate(shape))

    def dtype(self, dtype: DType) -> DType:
        """Bytes."""
        return u8

    def apply(self, array: Array) -> Array:
        """The bytes."""
        bits = array.astype(np.int8).astype(np.uint8) & 15
        even = np.take(bits, np.arange(0, array.shape[self.axis], 2), axis=self.axis)
        odd = np.take(bits, np.arange(1, array.shape[self.axis], 2), axis=self.axis)
        missing = [(0, even.shape[a] - odd.shape[a]) for a in range(array.ndim)]
        return np.asarray(even | (np.pad(odd, missing) << 4), np.uint8)
