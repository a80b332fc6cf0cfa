"""Compressed storage of weights: streams of the blocks that are not zero, and where they belong.

A weight is seen as a matrix [outputs, inputs] and cut into panels of `width` outputs.  Of a panel, the
stream holds for every input with a nonzero the `width` weights of that input, zeros inside a block
included; so width 1 is plain compressed sparse rows, and a width of whole vectors keeps dense vectors.

Inputs may be cut into chunks; then the stream holds all panels of the first chunk, then those of the next.

The positions are one i32 array: where each panel of each chunk starts in the stream (and the last one
ends), then the input of every block.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from aino_ir.dtypes import DType, i32
from aino_ir.sparsity import ZeroPattern

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Stream:
    """How a weight of some pattern is cut.

    Attributes:
        zeros: where the weight is zero.
        axes: axis of the outputs, then those of the inputs, of the weight; others have extent 1.
        width: outputs of a panel.
        chunk: inputs that are done for all outputs before the next ones; 0 for all of them.
    """

    zeros: ZeroPattern
    axes: tuple[int, ...]
    width: int
    chunk: int = 0

    @property
    def outputs(self) -> int:
        """Rows of the matrix."""
        return self.zeros.shape[self.axes[0]]

    @property
    def inputs(self) -> int:
        """Columns of the matrix."""
        return math.prod(self.zeros.shape[a] for a in self.axes[1:])

    @property
    def panels(self) -> int:
        """Panels, the last one perhaps narrower."""
        return -(-self.outputs // self.width)

    @property
    def chunks(self) -> int:
        """Chunks of inputs, the last one perhaps shorter."""
        return -(-self.inputs // self.chunk) if self.chunk else 1

    @property
    def starts(self) -> int:
        """Panels of all chunks, and the end."""
        return self.chunks * self.panels + 1

    @cached_property
    def blocks(self) -> Array:
        """bool [panels, inputs]: which blocks hold a nonzero."""
        return np.asarray(self.cut(self.zeros.mask).any(axis=2))

    @cached_property
    def places(self) -> Array:
        """[blocks, 2]: panel and input of each block, in the order of the stream."""
        panels, inputs = np.nonzero(self.blocks)
        order = np.lexsort((inputs, panels, inputs // (self.chunk or max(1, self.inputs))))
        return np.stack([panels[order], inputs[order]], axis=1)

    @cached_property
    def count(self) -> int:
        """Blocks of the stream; what costs ask for, so that single weights are not looked for."""
        return self.zeros.nonzeros if self.width == 1 else int(np.count_nonzero(self.blocks))

    def cut(self, array: Array) -> Array:
        """A weight as [panels, inputs, width], padded with zeros."""
        matrix = np.moveaxis(array, self.axes, range(len(self.axes))).reshape(self.outputs, self.inputs)
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
        panels, inputs = self.stream.places.T
        blocks = self.stream.cut(array)[panels, inputs].reshape(-1)
        out[: blocks.size] = blocks
        return out


class Places(Protocol):
    """What stands for inputs where kernels look for them by other numbers; frozen and hashable."""

    def of(self, inputs: Array) -> Array:
        """The places of inputs, from 0 on in every chunk."""


@dataclass(frozen=True)
class StreamPositions:
    """Starts of the panels of each chunk in the stream, then the input of each block, or its place."""

    stream: Stream
    places: Places | None = None

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """One start more than panels, and one position at least."""
        return (self.stream.starts + max(1, self.stream.count),)

    def dtype(self, dtype: DType) -> DType:
        """Positions are 32-bit integers, whatever the weight is."""
        return i32

    def apply(self, array: Array) -> Array:
        """The stored elements."""
        stream = self.stream
        panels, inputs = stream.places.T
        pieces = inputs // (stream.chunk or max(1, stream.inputs)) * stream.panels + panels
        out = np.zeros(self.shape(array.shape), np.int32)
        out[1 : stream.starts] = np.cumsum(np.bincount(pieces, minlength=stream.starts - 1))
        out[stream.starts :][: stream.count] = inputs if self.places is None else self.places.of(inputs)
        return out
