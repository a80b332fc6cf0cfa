"""Models that are not native code alone, and their results, for the tests of host programs."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.location import loc
from aino_ir.ops.sequence import At, Construct, Insert, Join, Split
from aino_ir.runtime.executable import Executable
from aino_ir.types import tensor

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(nodes: Any, inputs: Any, outputs: Any, initializers: Any = (), opset: int = 20) -> Any:
    graph = helper.make_graph(list(nodes), "mixed", list(inputs), list(outputs), list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def port(name: str, shape: Any, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def labelled(rows: int | str = 2) -> Any:
    """Scores x @ w + 1; `text` followed by "!"; whether it is "yes!"; scores where it is, else 0."""
    weight = numpy_helper.from_array(floats(4, 3), "w")
    one = numpy_helper.from_array(np.float32([1]), "one")
    mark = helper.make_tensor("mark", TensorProto.STRING, [], [b"!"])
    yes = helper.make_tensor("yes", TensorProto.STRING, [], [b"yes!"])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="product"),
        helper.make_node("Add", ["xw", "one"], ["scores"], name="shift"),
        helper.make_node("StringConcat", ["text", "mark"], ["loud"], name="shout"),
        helper.make_node("RegexFullMatch", ["loud"], ["is_yes"], name="match", pattern="yes!"),
        helper.make_node("Cast", ["is_yes"], ["weight"], name="as_number", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scores", "weight"], ["kept"], name="mask"),
    ]
    inputs = [port("x", [rows, 4]), port("text", [rows, 1], TensorProto.STRING)]
    outputs = [port("kept", [rows, 3]), port("loud", [rows, 1], TensorProto.STRING)]
    return model(nodes, inputs, outputs, [weight, one, mark, yes])


TEXT = np.asarray([["yes"], ["no"]], object)


def labelled_results(x: Array, text: Array = TEXT) -> tuple[Array, Array]:
    weight = (text == "yes").astype(np.float32)
    return ((x @ floats(4, 3) + 1) * weight).astype(np.float32), text + "!"


def sequences() -> Module:
    """Sums of the parts of x, each part squared natively, doubled parts in a list; f32[n, 4] in parts of 2."""
    b = Builder(loc=loc("node 'split'"))
    n = b.symbol("n", 1, 64)
    x = b.input("x", tensor("f32", n, 4))
    parts = b.op(Split, b.mul(x, x), b.constant(np.int64(2)), axis=0).result
    first = b.op(At, parts, b.constant(np.int64(0))).result
    more = b.op(Insert, parts, b.exp(first)).result
    joined = b.op(Join, more, axis=0).result
    b.output("y", b.reduce_sum(b.relu(joined), axes=[1]))
    b.output("parts", more)
    return b.module


def compare(got: Any, want: Any) -> None:
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            compare(g, w)
    elif want is None:
        assert got is None
    elif want.dtype == object:
        assert got.tolist() == want.tolist()
    else:
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def agree(module: Module, *inputs: Any, **options: Any) -> Executable:
    """Compile for C, compare with the interpreter."""
    exe = aino.compile(module, cache=False, **options)
    compare(list(exe.run(*inputs)), list(aino.compile(module, "reference").run(*inputs)))
    assert isinstance(exe, Executable)
    return exe


def listed(b: Builder, value: Any) -> Any:
    """A value that went through a list: an op in Python that decides its symbolic extents anew."""
    xs = b.op(Construct, value, element=value.type).result
    return b.op(At, xs, b.constant(np.int64(0))).result
