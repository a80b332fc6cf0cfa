"""Taking raw data out of a serialized model before it is parsed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from aino_ir.errors import onnx as errors
from aino_ir.frontends.onnx.limits import DEFAULT
from aino_ir.frontends.onnx.wire import LARGE, Slimmed, slim
from tests.frontends.onnx.models import make_model, relu


def tensors(*sizes: int) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.full(n, n % 251, np.uint8), f"t{n}") for n in sizes]


def cut(data: bytes) -> Slimmed:
    return slim(memoryview(data), "the given data", DEFAULT)


def test_large_raw_data_is_taken_out_and_nothing_else() -> None:
    proto = make_model([relu()], initializers=tensors(1, LARGE, 3, 5 * LARGE))
    data = proto.SerializeToString()
    slimmed = cut(data)
    assert {index: len(raw) for index, raw in slimmed.raw.items()} == {1: LARGE, 3: 5 * LARGE}
    for raw in slimmed.raw.values():
        assert raw.obj is data
    left = onnx.ModelProto.FromString(slimmed.message)
    for index, raw in slimmed.raw.items():
        left.graph.initializer[index].raw_data = bytes(raw)
    assert left == proto


def test_a_small_model_is_left_as_it_is() -> None:
    data = make_model([relu()], initializers=tensors(4)).SerializeToString()
    assert cut(data) == Slimmed(data, {})


def test_a_graph_in_two_pieces() -> None:
    """Protobuf merges the pieces of a message that is written twice."""
    data = make_model([relu()], initializers=tensors(LARGE)).SerializeToString()
    more = onnx.ModelProto()
    more.graph.initializer.extend(tensors(LARGE + 1))
    slimmed = cut(data + more.SerializeToString())
    assert {index: len(raw) for index, raw in slimmed.raw.items()} == {0: LARGE, 1: LARGE + 1}
    assert len(onnx.ModelProto.FromString(slimmed.message).graph.initializer) == 2


def test_the_last_raw_data_counts() -> None:
    big, small = bytes(LARGE), b"\1" * 4
    for first, second in ((big, small), (small, big)):
        tensor = (
            b"".join(b"\x4a" + _varint(len(part)) + part for part in (first, second)) + b"\x42\x00" * LARGE
        )
        graph = b"\x2a" + _varint(len(tensor)) + tensor
        data = b"\x3a" + _varint(len(graph)) + graph
        whole = onnx.ModelProto.FromString(data).graph.initializer[0].raw_data
        slimmed = cut(data)
        left = onnx.ModelProto.FromString(slimmed.message).graph.initializer[0].raw_data
        assert bytes(slimmed.raw[0] if slimmed.raw else left) == whole == second


def _varint(value: int) -> bytes:
    encoded = b""
    while value > 127:
        encoded += bytes([value & 127 | 128])
        value >>= 7
    return encoded + bytes([value])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x3a\x05\x0a", "needs 7 bytes, 3 are left"),
        (b"\x3a\x80\x80", "does not end"),
        (b"\xff" * 20, "does not end"),
        (b"\x0b\x0c", "wire type 3"),
        (b"\x0d\x00", "needs 5 bytes"),
        (b"\x09" + bytes(7), "needs 9 bytes"),
        (b"\x02\x01a", "field 0"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "needs 18446744073709551626 bytes"),
    ],
)
def test_broken_encodings(data: bytes, text: str) -> None:
    with pytest.raises(errors.ModelCorrupt, match=text):
        cut(data)


def test_counts_are_checked_before_parsing() -> None:
    bomb = b"\x0a\x00" * 1000  # a thousand empty nodes
    data = b"\x3a" + _varint(len(bomb)) + bomb
    with pytest.raises(errors.LimitExceeded, match="number of nodes is 1000"):
        slim(memoryview(data), "the given data", replace(DEFAULT, nodes=999))
    with pytest.raises(errors.LimitExceeded, match="number of initializers"):
        slim(memoryview(data.replace(b"\x0a", b"\x2a")), "the given data", replace(DEFAULT, values=999))
