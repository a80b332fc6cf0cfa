"""Seeded random graphs of any size: what compile cost is measured on.

A graph mixes some twenty operator kinds with fan-out, long-range reuse, constants and layers that repeat
with shared weights.  No value is dead and every value stays finite: a bound of each value's magnitude is
tracked while the graph is drawn, and large ones are sent through a bounded function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

ROWS, WIDTH = 8, 32
OPSET = 17
IR_VERSION = 8
WEIGHTS = 40
"""Distinct weight matrices and vectors: layers repeat."""

TEMPLATES, BLOCK_NODES = 12, 16
"""Distinct blocks that repeat, and nodes in each before its loose ends are tied."""

WINDOW = 48
"""Operands are mostly among this many latest values."""

LARGE = 8.0

UNARY: dict[str, Callable[[float], float]] = {
    "Relu": lambda b: b,
    "Neg": lambda b: b,
    "Abs": lambda b: b,
    "Tanh": lambda b: 1.0,
    "Sigmoid": lambda b: 1.0,
    "Erf": lambda b: 1.0,
    "Sin": lambda b: 1.0,
    "Softplus": lambda b: b + 1,
    "Softmax": lambda b: 1.0,
    "HardSigmoid": lambda b: 1.0,
}
"""Operator -> bound of its result from the bound of its operand."""

BINARY: dict[str, Callable[[float, float], float]] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a + b,
    "Mul": lambda a, b: a * b,
    "Max": max,
    "Min": max,
}
SHRINKING = ("Tanh", "Sigmoid", "Softmax")
LAYERS = ("MatMul", "Scale", "Bias", "LayerNormalization", "TransposeTwice", "Halves", "CenterMean")


class _Drawer:
    """Draws nodes one after the other; `unused` are the values that nothing reads yet."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.bounds: dict[str, float] = {"x": 4.0}
        self.values: list[str] = ["x"]
        self.unused: dict[str, None] = {"x": None}
        self.constants = self._constants()

    def _constants(self) -> list[TensorProto]:
        made = []
        for i in range(WEIGHTS):
            matrix = self.rng.uniform(-1, 1, (WIDTH, WIDTH)) / WIDTH
            made.append(numpy_helper.from_array(matrix.astype(np.float32), f"matrix{i}"))
            made.append(
                numpy_helper.from_array(self.rng.uniform(-1, 1, WIDTH).astype(np.float32), f"vector{i}")
            )
        halves = np.array([WIDTH // 2, WIDTH // 2], np.int64)
        return [*made, numpy_helper.from_array(halves, "halves")]

    def node(self, kind: str, inputs: list[str], bound: float, **attributes: Any) -> str:
        """Append a node with one result, and return its name."""
        (name,) = self.inner(kind, inputs, **attributes)
        self.bounds[name] = bound
        self.values.append(name)
        self.unused[name] = None
        return name

    def inner(self, kind: str, inputs: list[str], results: int = 1, **attributes: Any) -> list[str]:
        """Append a node whose results, of another shape, are read by its layer alone."""
        names = [f"v{len(self.nodes)}_{i}" for i in range(results)]
        self.nodes.append(
            helper.make_node(kind, inputs, names, name=f"{kind}_{len(self.nodes)}", **attributes)
        )
        for name in inputs:
            self.unused.pop(name, None)
        return names

    def pick(self) -> str:
        """An operand: a value that nothing reads, one of the latest, or now and then any at all."""
        draw = self.rng.random()
        if draw < 0.5 and self.unused:
            return next(iter(self.unused))
        if draw < 0.95:
            return self.values[-1 - int(self.rng.integers(min(WINDOW, len(self.values))))]
        return self.values[int(self.rng.integers(len(self.values)))]

    def choose(self, names: Any) -> str:
        return str(list(names)[int(self.rng.integers(len(names)))])

    def draw(self) -> None:
        x = self.pick()
        bound = self.bounds[x]
        if bound > LARGE:
            self.node(self.choose(SHRINKING), [x], 1.0)
            return
        shape = self.rng.random()
        if shape < 0.35:
            y = self.pick()
            kind = self.choose(BINARY)
            self.node(kind, [x, y], BINARY[kind](bound, self.bounds[y]))
        elif shape < 0.65:
            kind = self.choose(UNARY)
            self.node(kind, [x], UNARY[kind](bound))
        else:
            self.layer(self.choose(LAYERS), x, bound)

    def gather(self) -> str:
        """Bring everything that nothing reads together in one value, and return its name."""
        first, *others = self.unused
        for name in others:
            first = self.node("Tanh", [self.node("Add", [first, name], 1.0)], 1.0)
        return first

    def block(self, template: int) -> None:
        """Draw a block of many nodes whose structure and weights depend on `template` alone."""
        entry = self.node("Tanh", [self.pick()], 1.0)
        self.unused.pop(entry)
        outer = self.rng, self.values, self.unused
        self.rng, self.values, self.unused = np.random.default_rng(template), [entry], {entry: None}
        start = len(self.nodes)
        while len(self.nodes) - start < BLOCK_NODES:
            self.draw()
        result = self.gather()
        self.rng, self.values, self.unused = outer
        self.values.append(result)
        self.unused[result] = None

    def layer(self, kind: str, x: str, bound: float) -> None:
        vector = f"vector{int(self.rng.integers(WEIGHTS))}"
        if kind == "MatMul":
            self.node("MatMul", [x, f"matrix{int(self.rng.integers(WEIGHTS))}"], bound)
        elif kind == "Scale":
            self.node("Mul", [x, vector], bound)
        elif kind == "Bias":
            self.node("Add", [x, vector], bound + 1)
        elif kind == "LayerNormalization":
            self.node("LayerNormalization", [x, vector], float(np.sqrt(WIDTH)), axis=-1, epsilon=1e-5)
        elif kind == "TransposeTwice":
            self.node("Transpose", self.inner("Transpose", [x], perm=[1, 0]), bound, perm=[1, 0])
        elif kind == "Halves":
            low, high = self.inner("Split", [x, "halves"], results=2, axis=1)
            self.node("Concat", [high, low], bound, axis=1)
        else:
            (mean,) = self.inner("ReduceMean", [x], axes=[1], keepdims=1)
            self.node("Sub", [x, mean], 2 * bound)


def random_dag(nodes: int, seed: int = 0, repeated: float = 0.5) -> ModelProto:
    """Build a graph of about `nodes` nodes: ``x`` f32 [8, 32] to ``y`` f32 [8, 32].

    The same arguments give the same bytes.  Cost is linear in `nodes`.

    Args:
        nodes: how many, within a few per cent.
        seed: of structure and weights.
        repeated: the share of nodes that stand in blocks which repeat; the others are drawn one by one.
    """
    d = _Drawer(seed)
    chance = repeated / (repeated + (1 - repeated) * 2 * BLOCK_NODES)  # of a block, by its length
    while len(d.nodes) + 2 * len(d.unused) < nodes:
        if d.rng.random() < chance:
            d.block(int(d.rng.integers(TEMPLATES)))
        else:
            d.draw()
    total = d.gather()
    d.nodes.append(helper.make_node("Identity", [total], ["y"], name="result"))
    graph = helper.make_graph(
        d.nodes,
        "random_dag",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [ROWS, WIDTH])],
        d.constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def example_input(seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Return a seeded input, f32 [8, 32] within +-4."""
    return np.random.default_rng(seed).uniform(-4, 4, (ROWS, WIDTH)).astype(np.float32)
