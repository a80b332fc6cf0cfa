"""One compiled module serves every size of its symbolic axes: results, compiler calls, work, memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir.codegen.c.toolchain import CompilerCalls
from aino_ir.dims import parse_dim
from aino_ir.driver.api import compile_options
from aino_ir.driver.pipeline import Compilation
from aino_ir.errors import AinoError
from aino_ir.loops import evaluate
from aino_ir.plan import Run
from tests.codegen.native import interpret_plan

Array = np.ndarray[Any, Any]

WIDTH, HEADS, WORDS, LONGEST = 32, 2, 50, 512


class Graph:
    """Nodes and weights as they are collected."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(7)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, *shape: int) -> str:
        data = self.rng.standard_normal(shape) / np.sqrt(shape[0] if len(shape) > 1 else 4)
        return self.constant(data.astype(np.float32))

    def constant(self, data: Array) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(data), f"w{len(self.weights)}"))
        return str(self.weights[-1].name)

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=f"{kind}_{name}", **attributes))
        return name

    def model(self, inputs: list[Any], output: str, shape: list[Any]) -> bytes:
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, shape)
        graph = helper.make_graph(self.nodes, "dynamic", inputs, [result], self.weights)
        opsets = [helper.make_opsetid("", 17)]
        return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString())


def encoder() -> bytes:
    """An encoder layer over tokens [batch, seq], shapes computed in the graph as exporters do."""
    g = Graph()
    i64 = lambda *v: g.constant(np.asarray(v, np.int64))  # noqa: E731
    shape = g.add("Shape", "ids")
    batch = g.add("Gather", shape, i64(0), axis=0)
    seq = g.add("Gather", shape, i64(1), axis=0)
    places = g.add("Slice", g.weight(LONGEST, WIDTH), i64(0), seq, i64(0))
    x = g.add("Add", g.add("Gather", g.weight(WORDS, WIDTH), "ids"), places)

    def linear(value: str, rows: int, columns: int) -> str:
        return g.add("Add", g.add("MatMul", value, g.weight(rows, columns)), g.weight(columns))

    def heads(value: str, perm: list[int]) -> str:
        split = g.add("Concat", batch, seq, i64(HEADS), i64(WIDTH // HEADS), axis=0)
        return g.add("Transpose", g.add("Reshape", value, split), perm=perm)

    query, value = (heads(linear(x, WIDTH, WIDTH), [0, 2, 1, 3]) for _ in range(2))
    key = heads(linear(x, WIDTH, WIDTH), [0, 2, 3, 1])
    scores = g.add("Div", g.add("MatMul", query, key), g.constant(np.float32(4.0)))
    mixed = g.add("Transpose", g.add("MatMul", g.add("Softmax", scores, axis=-1), value), perm=[0, 2, 1, 3])
    flat = g.add("Reshape", mixed, g.add("Concat", batch, seq, i64(-1), axis=0))
    x = g.add("LayerNormalization", g.add("Add", x, linear(flat, WIDTH, WIDTH)), g.weight(WIDTH), axis=-1)
    x = linear(g.add("Relu", linear(x, WIDTH, 4 * WIDTH)), 4 * WIDTH, WIDTH)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "seq"])
    return g.model([ids], x, ["batch", "seq", WIDTH])


def convolutions() -> bytes:
    """Convolutions with a residual, a pool, a mean and a classifier over images [batch, 3, 16, 16]."""
    g = Graph()
    x = g.add("Relu", g.add("Conv", "image", g.weight(8, 3, 3, 3), g.weight(8), pads=[1] * 4, strides=[2, 2]))
    y = g.add("Conv", x, g.weight(8, 1, 3, 3), g.weight(8), pads=[1] * 4, group=8)
    x = g.add("Add", x, g.add("Conv", y, g.weight(8, 8, 1, 1), g.weight(8)))
    x = g.add("GlobalAveragePool", g.add("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2]))
    x = g.add("Gemm", g.add("Flatten", x), g.weight(8, 5), g.weight(5))
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 16, 16])
    return g.model([image], x, ["batch", 5])


def tokens(batch: int, seq: int) -> Array:
    return np.random.default_rng(batch + seq).integers(0, WORDS, (batch, seq))


def reference(model: bytes, feed: dict[str, Array]) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, feed)[0])


def assert_close(actual: Array, expected: Array) -> None:
    assert actual.shape == expected.shape
    assert np.abs(actual - expected).max() <= 1e-5 * np.abs(expected).max()


BOUNDS = {"batch": (1, 64), "seq": (1, LONGEST)}


@pytest.fixture(scope="module")
def compiled(shared_store: Any) -> Iterator[tuple[Any, CompilerCalls]]:
    calls = CompilerCalls()
    yield aino.compile(encoder(), dims=BOUNDS, threads=2, calls=calls), calls


@pytest.mark.parametrize(("batch", "seq"), [(1, 1), (1, 7), (2, 33), (3, 64), (64, 2), (1, LONGEST)])
def test_an_encoder_runs_at_any_size(compiled: Any, batch: int, seq: int) -> None:
    exe, calls = compiled
    before = calls.processes
    (y,) = exe.run(tokens(batch, seq))
    assert_close(y, reference(encoder(), {"ids": tokens(batch, seq)}))
    assert calls.processes == before


def test_a_compilation_links_one_library(compiled: Any) -> None:
    _, calls = compiled
    assert calls.links <= 1 and calls.probes <= 2


@pytest.mark.parametrize("batch", [1, 2, 5, 64])
def test_a_convolutional_network_runs_at_any_batch(batch: int) -> None:
    exe = aino.compile(convolutions(), dims={"batch": (1, 64)}, threads=2)
    image = np.random.default_rng(batch).standard_normal((batch, 3, 16, 16)).astype(np.float32)
    (y,) = exe.run(image)
    assert_close(y, reference(convolutions(), {"image": image}))


@pytest.mark.parametrize(("batch", "seq"), [(65, 1), (1, LONGEST + 1)])
def test_a_size_outside_its_bounds_is_refused(compiled: Any, batch: int, seq: int) -> None:
    with pytest.raises(AinoError, match=f"{batch if batch > 64 else seq}"):
        compiled[0].run(tokens(batch, seq))


def test_the_arena_is_an_expression_that_the_report_prints(compiled: Any) -> None:
    report = compiled[0].report
    size = parse_dim(report.arena_bytes)
    assert size.free_symbols() == {"batch", "seq"}
    at = lambda b, s: size.evaluate({"batch": b, "seq": s})  # noqa: E731
    assert at(1, 8) < at(2, 8) < at(2, 64) < at(64, LONGEST)
    assert at(1, 8) < at(64, LONGEST) / 1000
    assert str(report.arena_bytes) in str(report)


def test_the_work_of_a_run_follows_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multiply-adds that the kernels really execute, counted in the loop interpreter."""
    executed = 0
    exact = evaluate.fma32

    def counting(a: Array, b: Array, c: Array) -> Array:
        nonlocal executed
        executed += max(np.size(a), np.size(b), np.size(c))
        return exact(a, b, c)

    monkeypatch.setattr(evaluate, "fma32", counting)
    compilation = Compilation(compile_options("c:avx2", verify="off"))
    (plan,) = compilation.plans(aino.load(encoder(), dims=BOUNDS)).values()
    counts = {}
    for seq in (3, 13):
        executed = 0
        (y,) = interpret_plan(plan, [tokens(1, seq)], {"batch": 1, "seq": seq})
        assert_close(y, reference(encoder(), {"ids": tokens(1, seq)}))
        counts[seq] = executed
        needed = sum(
            s.flops if isinstance(s.flops, int) else s.flops.evaluate({"batch": 1, "seq": seq})
            for s in plan.steps
            if isinstance(s, Run)
        )
        # a tile of rows or lanes may be partly filled; nothing comes near the longest sequence
        assert needed / 3 < executed < needed / 2 * 8
    assert counts[13] < counts[3] * 13
