"""Weights of a written model in a file of their own."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import TensorProto

ALIGNMENT = 4096
SMALLEST = 1024
"""Tensors of fewer bytes stay inside of the model."""


def moved_weights(model: onnx.ModelProto, location: str) -> Iterator[bytes]:
    """The bytes of the data file, tensor by tensor; each tensor is emptied as its bytes are yielded."""
    position = 0
    for tensor in model.graph.initializer:
        data = tensor.raw_data
        if len(data) < SMALLEST:
            continue
        padding = -position % ALIGNMENT
        position += padding
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in (("location", location), ("offset", position), ("length", len(data))):
            tensor.external_data.add(key=key, value=str(value))
        position += len(data)
        yield bytes(padding) + data
