"""Compressed storage of weights: streams of the blocks that are not zero, and where they belong.

A weight is seen as a matrix [outputs, inputs] and cut into panels of `width` outputs.  Of a panel, the
stream holds for every input with a nonzero the `width` weights of that input, zeros inside a block
included; so width 1 is plain compressed sparse rows, and a width of whole vectors keeps dense vectors.

The positions are one i32 array: where each panel starts in the stream (and the last one ends), then
the input of every block.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from aino_ir.dtypes import DType, i32
from aino_ir.sparsity import ZeroPattern

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Stream:
    """How a weight of some pattern is cut.

    Attributes:
        zeros: where the weight is zero.
        axes: (axis of the outputs, axis of the inputs) of the weight; others have extent 1.
        width: outputs of a panel.
    """

    zeros: ZeroPattern
    axes: tuple[int, int]
    width: int

    @property
    def outputs(self) -> int:
        """Rows of the matrix."""
        return self.zeros.shape[self.axes[0]]

    @property
    def inputs(self) -> int:
        """Columns of the matrix."""
        return self.zeros.shape[self.axes[1]]

    @property
    def panels(self) -> int:
        """Panels, the last one perhaps narrower."""
        return -(-self.outputs // self.width)

    @cached_property
    def blocks(self) -> Array:
        """bool [panels, inputs]: which blocks hold a nonzero."""
        return np.asarray(self.cut(self.zeros.mask).any(axis=2))

    @cached_property
    def count(self) -> int:
        """Blocks of the stream."""
        return int(np.count_nonzero(self.blocks))

    def cut(self, array: Array) -> Array:
        """A weight as [panels, inputs, width], padded with zeros."""
        matrix = np.moveaxis(array, self.axes, (0, 1)).reshape(self.outputs, self.inputs)
        padded = np.zeros((self.panels * self.width, self.inputs), matrix.dtype)
        padded[: self.outputs] = matrix
        return np.swapaxes(padded.reshape(self.panels, self.width, self.inputs), 1, 2)


@dataclass(frozen=True)
class StreamValues:
    """The blocks of a weight that are not zero, panel after panel."""

    stream: Stream

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One block at least, so that there is something to point at."""
        return (max(1, self.stream.count) * self.stream.width,)

    def dtype(self, dtype: DType) -> DType:
        """That of the weight."""
        return dtype

    def apply(self, array: Array) -> Array:
        """The stored elements."""
        out = np.zeros(self.shape(array.shape), array.dtype)
        blocks = self.stream.cut(array)[self.stream.blocks].reshape(-1)
        out[: blocks.size] = blocks
        return out


@dataclass(frozen=True)
class StreamPositions:
    """Starts of the panels in the stream, then the input of each block."""

    stream: Stream

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One start more than panels, and one position at least."""
        return (self.stream.panels + 1 + max(1, self.stream.count),)

    def dtype(self, dtype: DType) -> DType:
        """Positions are 32-bit integers, whatever the weight is."""
        return i32

    def apply(self, array: Array) -> Array:
        """The stored elements."""
        blocks = self.stream.blocks
        out = np.zeros(self.shape(array.shape), np.int32)
        out[1 : self.stream.panels + 1] = np.cumsum(blocks.sum(axis=1))
        out[self.stream.panels + 1 :][: self.stream.count] = np.nonzero(blocks)[1]
        return out
