"""Damaged models by the hundred: each is read or refused with a code, and nothing else ever happens."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from aino_ir.errors import AinoError
from aino_ir.errors.onnx import OnnxError
from aino_ir.frontends.onnx.functions import inline_functions
from aino_ir.frontends.onnx.nodes import walk_nodes
from aino_ir.frontends.onnx.reader import read_model
from tests.frontends.onnx.models import CONDITION, branch, conditional, make_model, relu, tensor_value
from tests.frontends.onnx.test_functions import LOCAL, call, elu

DECODED_BYTES = 1 << 20
"""Constants up to this size are decoded too."""


def rich_model() -> onnx.ModelProto:
    """A small model that uses most messages of the format."""
    weights = [
        numpy_helper.from_array(np.arange(2, dtype=np.float32), "raw"),
        helper.make_tensor("typed", onnx.TensorProto.FLOAT16, [2], [1.0, 2.0]),
        helper.make_tensor("packed", onnx.TensorProto.INT4, [3], [1, -2, 3]),
        helper.make_tensor("words", onnx.TensorProto.STRING, [2], [b"a", b"b"]),
    ]
    sparse = helper.make_sparse_tensor(
        numpy_helper.from_array(np.array([7.0], np.float32), "sparse"),
        numpy_helper.from_array(np.array([1], np.int64)),
        [2],
    )
    nodes = [
        helper.make_node("Sum", ["x", "raw", "sparse"], ["s"], name="sum"),
        conditional(
            branch([call("F", ["s"], ["t"], a=2.0)], "t"), branch([relu("s", "e")], "e"), "z", name="if"
        ),
        helper.make_node("Gemm", ["m", "m"], ["g"], alpha=0.5, transB=1),
        helper.make_node("ReduceSum", ["g"], ["r"], keepdims=0),
        helper.make_node("Add", ["z", "r"], ["y"]),
    ]
    sequence = helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, ["n"]))
    inputs = ["x", CONDITION, tensor_value("m", ("k", 4)), helper.make_value_info("q", sequence)]
    proto = make_model(nodes, inputs, ["y"], weights, functions=[elu(3.0)], domains=LOCAL)
    proto.graph.sparse_initializer.append(sparse)
    proto.graph.value_info.append(tensor_value("s"))
    proto.metadata_props.add(key="k", value="v")
    return proto


def outcome(source: Any) -> str:
    """`read`, or the code of the refusal; anything but an error of the catalogue fails the test."""
    try:
        graph = inline_functions(read_model(source)).graph
        tensors = list(graph.initializers.values())
        for node in walk_nodes(graph):
            tensors += [item.value for item in node.attributes.values() if item.kind == "tensor"]
            assert node.location.isascii()
        for tensor in tensors:
            if tensor.nbytes <= DECODED_BYTES:
                tensor.array()
    except AinoError as error:
        assert isinstance(error, OnnxError) and str(error).isascii()
        return error.code
    return "read"


@pytest.fixture(scope="module")
def seeds(node_cases: list[Any]) -> list[bytes]:
    """Valid models to damage."""
    chosen = random.Random(0).sample(node_cases, 60)
    return [rich_model().SerializeToString()] * 20 + [case.model.SerializeToString() for case in chosen]


def test_the_model_to_damage_is_valid() -> None:
    assert outcome(rich_model()) == "read"


def test_every_truncation() -> None:
    data = rich_model().SerializeToString()
    found = Counter(outcome(data[:stop]) for stop in range(len(data)))
    assert found["AINO-E0102"] > len(data) // 2


def test_flipped_bits(seeds: list[bytes]) -> None:
    rng = random.Random(1)
    found: Counter[str] = Counter()
    for _ in range(1500):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        found[outcome(bytes(data))] += 1
    assert found["read"] and len(found) > 8


def test_spliced_bytes(seeds: list[bytes]) -> None:
    rng = random.Random(2)
    for _ in range(600):
        data = bytearray(rng.choice(seeds))
        start = rng.randrange(len(data))
        data[start : start + rng.randrange(20)] = rng.randbytes(rng.randrange(20))
        outcome(bytes(data))


NUMBERS = (0, 1, -1, 2, 7, 63, 100, 2**31 - 1, -(2**31), 2**31, 2**62, 2**63 - 1, -(2**63))
TEXTS = (
    "",
    "x",
    "y",
    "s",
    "a'\"\n*/",
    "../../etc/passwd",
    "n" * 5000,
    "ai.onnx",
    "local",
    "F",
    "If",
    "Constant",
    "\0",
)


def damage(rng: random.Random, message: Any) -> None:
    """Change one random field somewhere in a message: a number, a text, a part left out or doubled."""
    while True:
        fields = list(message.DESCRIPTOR.fields)
        present = [field for field in fields if _filled(message, field)]
        deeper = [field for field in present if field.message_type is not None]
        draw = rng.random()
        field = rng.choice((deeper if draw < 0.7 else present if draw < 0.9 else fields) or fields)
        if field.message_type is None:
            _damage_scalar(rng, message, field)
            return
        if not field.is_repeated:
            if rng.random() < 0.1:
                message.ClearField(field.name)
                return
            message = getattr(message, field.name)
            message.SetInParent()
            continue
        items = getattr(message, field.name)
        if not items or rng.random() < 0.1:
            items.add()
        elif rng.random() < 0.1:
            del items[rng.randrange(len(items))]
        elif rng.random() < 0.1:
            items.append(rng.choice(items))
        else:
            message = rng.choice(items)
            continue
        return


def _filled(message: Any, field: Any) -> bool:
    return bool(len(getattr(message, field.name))) if field.is_repeated else message.HasField(field.name)


def _damage_scalar(rng: random.Random, message: Any, field: Any) -> None:
    value: Any = rng.choice(NUMBERS)
    if field.cpp_type == field.CPPTYPE_STRING:
        value = rng.choice(TEXTS) if field.type == field.TYPE_STRING else rng.randbytes(rng.randrange(12))
    elif field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        value = rng.choice((0.0, -1.0, float("nan"), float("inf")))
    elif field.cpp_type == field.CPPTYPE_ENUM:
        value = rng.choice(list(field.enum_type.values_by_number))
    elif field.cpp_type == field.CPPTYPE_UINT64:
        value %= 2**64
    elif field.cpp_type == field.CPPTYPE_INT32:
        value = (value + 2**31) % 2**32 - 2**31
    if not field.is_repeated:
        setattr(message, field.name, value)
        return
    items = getattr(message, field.name)
    if items and rng.random() < 0.7:
        items[rng.randrange(len(items))] = value
    elif items and rng.random() < 0.5:
        del items[rng.randrange(len(items))]
    else:
        items.append(value)


def test_damaged_fields(seeds: list[bytes], tmp_path: Path) -> None:
    rng = random.Random(3)
    found: Counter[str] = Counter()
    for _ in range(1500):
        proto = onnx.ModelProto.FromString(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 4))):
            damage(rng, proto if rng.random() < 0.3 else proto.graph)
        found[outcome(proto)] += 1
    assert found["read"] and len(found) > 15


def test_sizes_that_lie_take_no_memory() -> None:
    """Declared sizes far above the file's own are refused by comparing numbers."""
    for dims in ([2**40], [2**20, 2**19], [2**31, 2**31], [2**62, 2]):
        for field in ("raw_data", "float_data"):
            tensor = onnx.TensorProto(name="w", data_type=1, dims=dims)
            if field == "raw_data":
                tensor.raw_data = b"1234"
            else:
                tensor.float_data.append(1.0)
            assert outcome(make_model([relu()], initializers=[tensor])) in ("AINO-E0104", "AINO-E0117")


def test_a_long_chain_is_no_recursion() -> None:
    nodes = [relu(f"v{i}", f"v{i + 1}") for i in range(5000)]
    model = make_model(nodes[::-1], ["v0"], ["v5000"])
    assert [node.outputs[0] for node in read_model(model).graph.nodes][-1] == "v5000"


def test_a_long_cycle_is_named_briefly() -> None:
    nodes = [relu(f"v{i}", f"v{(i + 1) % 5000}", name=f"n{i}") for i in range(5000)]
    with pytest.raises(OnnxError) as caught:
        read_model(make_model(nodes, ["x"], ["v0"]))
    assert caught.value.code == "AINO-E0112" and len(str(caught.value)) < 1000 and "more" in str(caught.value)
