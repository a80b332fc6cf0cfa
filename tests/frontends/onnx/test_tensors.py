"""Stored tensors of every dtype, in every field that may hold them, against onnx's own decoder."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from aino_ir.dtypes import DTYPES
from aino_ir.errors import onnx as errors
from aino_ir.frontends.onnx.limits import DEFAULT, Limits
from aino_ir.frontends.onnx.tensors import (
    CODES,
    ELEMENT_TYPES,
    TensorData,
    packed_bytes,
    read_sparse,
    read_tensor,
)

NUMERIC = [row for row in ELEMENT_TYPES.values() if row.name != "str"]


def read(proto: onnx.TensorProto, limits: Limits = DEFAULT) -> TensorData:
    return read_tensor(proto, f"tensor '{proto.name}'", limits)


def raw(code: int, dims: list[int], data: bytes) -> onnx.TensorProto:
    return TensorProto(name="t", data_type=code, dims=dims, raw_data=data)


def bits_of(array: Any) -> bytes:
    return np.ascontiguousarray(array).tobytes()


def test_dtype_names_are_those_of_the_ir() -> None:
    for row in ELEMENT_TYPES.values():
        if row.name in DTYPES:
            assert DTYPES[row.name].numpy == row.numpy and DTYPES[row.name].bits == row.bits
    assert set(DTYPES) <= set(CODES)


def test_every_data_type_of_onnx_is_there() -> None:
    assert set(TensorProto.DataType.values()) <= {0, *ELEMENT_TYPES}


@pytest.mark.parametrize("row", NUMERIC, ids=lambda row: row.name)
@pytest.mark.parametrize("count", [0, 1, 5, 8, 13])
def test_raw_data(row: Any, count: int) -> None:
    stored = np.random.default_rng(count).integers(0, 256, packed_bytes(row, count), np.uint8)
    if row.name == "bool":
        stored &= 1
    if row.bits < 8 and count:  # the unused bits of the last byte are zero
        stored[-1] &= (1 << ((count * row.bits - 1) % 8 + 1)) - 1
    proto = raw(CODES[row.name], [count], stored.tobytes())
    tensor = read(proto)
    array = tensor.array()
    assert (array.dtype, array.shape, tensor.nbytes) == (row.numpy, (count,), array.nbytes)
    assert bits_of(array) == bits_of(numpy_helper.to_array(proto))


@pytest.mark.parametrize("row", NUMERIC, ids=lambda row: row.name)
def test_typed_fields(row: Any) -> None:
    stored = np.random.default_rng(1).integers(0, 256, packed_bytes(row, 6), np.uint8)
    stored &= 1 if row.name == "bool" else 0x3F
    values = numpy_helper.to_array(raw(CODES[row.name], [2, 3], stored.tobytes()))
    proto = TensorProto(name="t", data_type=CODES[row.name], dims=[2, 3])
    field = getattr(proto, row.field)
    if row.per > 1:
        field.extend(stored.tolist())
    elif row.slots == 2:
        field.extend(values.view(np.float32 if row.bits == 64 else np.float64).reshape(-1).tolist())
    elif row.field != "int32_data" or row.numpy.kind in "iu":
        field.extend(values.reshape(-1).tolist())
    else:
        field.extend(values.view(f"u{row.numpy.itemsize}").reshape(-1).tolist())
    assert bits_of(read(proto).array()) == bits_of(values)
    assert bits_of(numpy_helper.to_array(proto)) == bits_of(values)


def test_negative_integers_in_typed_fields() -> None:
    for name in ("i8", "i16", "i32"):
        proto = TensorProto(data_type=CODES[name], dims=[2], int32_data=[-128, 127])
        assert read(proto).array().tolist() == [-128, 127]
    packs = TensorProto(data_type=CODES["i4"], dims=[3], int32_data=[-1, 0x07])
    assert read(packs).array().astype(np.int8).tolist() == [-1, -1, 7]


def test_extreme_integers() -> None:
    big = TensorProto(data_type=CODES["u64"], dims=[1], uint64_data=[2**64 - 1])
    assert int(read(big).array()[0]) == 2**64 - 1
    small = TensorProto(data_type=CODES["i64"], dims=[1], int64_data=[-(2**63)])
    assert int(read(small).array()[0]) == -(2**63)


def test_strings() -> None:
    proto = helper.make_tensor("t", TensorProto.STRING, [2], [b"a", "\u00fc".encode()])
    tensor = read(proto)
    assert tensor.array().tolist() == ["a", "\u00fc"] and tensor.dtype == "str"
    proto.string_data[1] = b"\xff"
    with pytest.raises(errors.InvalidText, match="string 1 of tensor 't'"):
        read(proto)


def test_booleans_other_than_one_are_true() -> None:
    array = read(raw(TensorProto.BOOL, [4], b"\x00\x01\x02\xff")).array()
    assert array.tolist() == [False, True, True, True]
    assert array.view(np.uint8).max() == 1


def test_scalars_and_empty_tensors() -> None:
    assert read(raw(TensorProto.FLOAT, [], b"\0\0\x80?")).array().shape == ()
    assert read(TensorProto(data_type=1, dims=[3, 0])).array().shape == (3, 0)


def test_raw_bytes_are_shared_when_aligned_and_copied_when_not() -> None:
    buffer = bytearray(40)
    for offset in (0, 1):
        proto = TensorProto(name="t", data_type=1, dims=[4])
        array = read_tensor(proto, "t", DEFAULT, raw=memoryview(buffer)[offset : offset + 16]).array()
        assert array.flags.aligned and not array.flags.writeable
        assert np.shares_memory(array, np.frombuffer(buffer, np.uint8)) is (offset == 0)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("u8", value) for value in (256, -1)),
        *(("i8", 128), ("i16", -(2**15) - 1), ("u16", 2**16)),
        *(("f16", -1), ("bf16", 2**16), ("f8e5m2", 256), ("f6e2m3", 64)),
        *(("u4", 256), ("i2", -129)),
    ],
)
def test_values_that_do_not_fit(name: str, value: int) -> None:
    proto = TensorProto(name="t", data_type=CODES[name], dims=[1], int32_data=[value])
    with pytest.raises(errors.TensorValueOutOfRange, match=f"holds {value} at position 0"):
        read(proto)


def test_unsigned_values_that_do_not_fit() -> None:
    with pytest.raises(errors.TensorValueOutOfRange):
        read(TensorProto(name="t", data_type=CODES["u32"], dims=[1], uint64_data=[2**32]))


@pytest.mark.parametrize(
    ("proto", "text"),
    [
        (raw(1, [2], b"1234567"), "needs 8 bytes, raw_data holds 7"),
        (raw(1, [2], b""), "raw_data holds 0"),
        (TensorProto(name="t", data_type=1, dims=[2]), "needs 2 entries, float_data holds 0"),
        (TensorProto(name="t", data_type=1, dims=[2], float_data=[1.0] * 3), "float_data holds 3"),
        (TensorProto(name="t", data_type=14, dims=[2], float_data=[1.0] * 3), "needs 4 entries"),
        (TensorProto(name="t", data_type=22, dims=[3], int32_data=[1] * 3), "needs 2 entries"),
        (TensorProto(name="t", data_type=8, dims=[2], string_data=[b"a"]), "string_data holds 1"),
    ],
)
def test_sizes_that_do_not_fit(proto: onnx.TensorProto, text: str) -> None:
    with pytest.raises(errors.TensorSizeMismatch, match=text):
        read(proto)


@pytest.mark.parametrize(
    "proto",
    [
        TensorProto(data_type=1, dims=[1], int64_data=[1]),
        TensorProto(data_type=1, dims=[1], float_data=[1.0], int64_data=[1]),
        TensorProto(data_type=8, dims=[1], raw_data=b"a"),
        TensorProto(data_type=1, dims=[1], raw_data=b"1234", float_data=[1.0]),
        TensorProto(data_type=1, dims=[1], raw_data=b"1234", data_location=1),
    ],
)
def test_data_in_the_wrong_place(proto: onnx.TensorProto) -> None:
    with pytest.raises(errors.TensorFieldConflict):
        read(proto)


def test_an_empty_raw_field_beside_a_typed_one_is_ignored() -> None:
    assert read(TensorProto(data_type=1, dims=[1], raw_data=b"", float_data=[2.0])).array() == [2.0]


def sparse(values: Any, indices: Any, dims: list[int]) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(
        numpy_helper.from_array(np.array(values, np.float32), "s"),
        numpy_helper.from_array(np.array(indices, np.int64)),
        dims,
    )


def test_sparse_tensors_become_dense() -> None:
    flat = read_sparse(sparse([1, 2], [1, 5], [2, 3]), "tensor 's'", DEFAULT)
    assert (flat.name, flat.dtype, flat.shape, flat.packed) == ("s", "f32", (2, 3), None)
    assert flat.array().tolist() == [[0, 1, 0], [0, 0, 2]]
    pairs = read_sparse(sparse([1, 2], [[0, 1], [1, 2]], [2, 3]), "tensor 's'", DEFAULT)
    assert pairs.array().tolist() == flat.array().tolist()
    assert read_sparse(sparse([], [], [2]), "tensor 's'", DEFAULT).array().tolist() == [0, 0]


@pytest.mark.parametrize(
    ("values", "indices", "dims", "text"),
    [
        ([1], [6], [2, 3], "index 6 lies outside 6 elements"),
        ([1], [-1], [2, 3], "index -1"),
        ([1], [[0, 3]], [2, 3], r"index \[0, 3\] lies outside"),
        ([1, 2], [1, 1], [2, 3], "not unique"),
        ([1, 2], [3, 1], [2, 3], "not ascending"),
        ([1, 2], [1], [2, 3], r"indices have shape \[1\] for 2 values"),
        ([[1]], [1], [2, 3], "values have rank 2"),
    ],
)
def test_sparse_tensors_that_are_malformed(values: Any, indices: Any, dims: list[int], text: str) -> None:
    with pytest.raises(errors.SparseTensorInvalid, match=text):
        read_sparse(sparse(values, indices, dims), "tensor 's'", DEFAULT)


def test_sparse_strings_are_refused() -> None:
    proto = sparse([1], [0], [1])
    proto.values.CopyFrom(helper.make_tensor("s", TensorProto.STRING, [1], [b"a"]))
    with pytest.raises(errors.SparseTensorInvalid, match="strings"):
        read_sparse(proto, "tensor 's'", DEFAULT)


def test_sparse_bombs_are_refused() -> None:
    with pytest.raises(errors.LimitExceeded, match="dense size of sparse tensor 's' in bytes"):
        read_sparse(sparse([1], [0], [2**31]), "tensor 's'", DEFAULT)
