"""A ResNet-50 written with `onnx.helper` and seeded numpy weights: real size, no PyTorch needed.

The graph keeps its batch norms, so a compiler's conv+bn folding is exercised.  Architecture: He et al.,
"Deep residual learning for image recognition" (2015), with the stride on the 3x3 convolution.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8
DEPTHS = (3, 4, 6, 3)

FloatArray = np.ndarray[Any, np.dtype[np.float32]]


class _Writer:
    """Collects nodes and seeded initializers; every layer method returns its result's name."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.initializers: list[TensorProto] = []

    def constant(self, name: str, value: np.ndarray[Any, Any]) -> str:
        self.initializers.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def node(self, kind: str, name: str, inputs: list[str], **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [f"{name}_out"], name=name, **attributes))
        return f"{name}_out"

    def conv_bn(
        self, name: str, x: str, shape: tuple[int, int, int], stride: int = 1, gain: float = 1.0
    ) -> str:
        """A convolution of (out, in, kernel) channels and width without bias, then a batch norm."""
        out, inner, kernel = shape
        deviation = np.sqrt(2.0 / (inner * kernel * kernel))  # He initialisation
        weight = self.rng.standard_normal((out, inner, kernel, kernel), dtype=np.float32) * deviation
        y = self.node(
            "Conv",
            f"{name}_conv",
            [x, self.constant(f"{name}_weight", weight)],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        scale = self.constant(f"{name}_scale", gain * self.rng.uniform(0.8, 1.2, out))
        bias = self.constant(f"{name}_bias", self.rng.normal(0.0, 0.1, out))
        mean = self.constant(f"{name}_mean", self.rng.normal(0.0, 0.1, out))
        variance = self.constant(f"{name}_variance", self.rng.uniform(0.7, 1.4, out))
        return self.node("BatchNormalization", f"{name}_bn", [y, scale, bias, mean, variance], epsilon=1e-5)

    def relu(self, name: str, x: str) -> str:
        return self.node("Relu", f"{name}_relu", [x])

    def bottleneck(self, name: str, x: str, channels: tuple[int, int, int], stride: int) -> str:
        """1x1, 3x3 and 1x1 convolutions beside a shortcut, which is projected where shapes differ."""
        inner, middle, out = channels
        y = self.relu(f"{name}_a", self.conv_bn(f"{name}_a", x, (middle, inner, 1)))
        y = self.relu(f"{name}_b", self.conv_bn(f"{name}_b", y, (middle, middle, 3), stride))
        y = self.conv_bn(f"{name}_c", y, (out, middle, 1), gain=0.3)
        if inner != out or stride != 1:
            x = self.conv_bn(f"{name}_shortcut", x, (out, inner, 1), stride)
        return self.relu(name, self.node("Add", f"{name}_add", [y, x]))


def resnet50(
    *,
    size: int = 224,
    batch: int = 1,
    width: int = 64,
    classes: int = 1000,
    depths: tuple[int, ...] = DEPTHS,
    seed: int = 0,
) -> ModelProto:
    """Build the network: input ``image`` f32 [batch, 3, size, size], output ``logits`` f32 [batch, classes].

    Args:
        size: height and width of the image in pixels, a multiple of 32.
        batch: images at once.
        width: channels of the first stage; 64 is the published network.
        classes: length of the output.
        depths: blocks per stage; (3, 4, 6, 3) is the published network.
        seed: of the weights; the same seed gives the same bytes.
    """
    w = _Writer(seed)
    x = w.relu("stem", w.conv_bn("stem", "image", (width, 3, 7), 2))
    x = w.node("MaxPool", "stem_pool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    inner = width
    for stage, blocks in enumerate(depths):
        middle = width * 2**stage
        for block in range(blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            x = w.bottleneck(f"stage{stage + 1}_block{block + 1}", x, (inner, middle, 4 * middle), stride)
            inner = 4 * middle
    x = w.node("Flatten", "flatten", [w.node("GlobalAveragePool", "pool", [x])], axis=1)
    weight = w.constant("head_weight", w.rng.standard_normal((classes, inner)) / np.sqrt(inner))
    bias = w.constant("head_bias", w.rng.normal(0.0, 0.1, classes))
    w.nodes.append(helper.make_node("Gemm", [x, weight, bias], ["logits"], name="head", transB=1))
    graph = helper.make_graph(
        w.nodes,
        "resnet50",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [batch, classes])],
        w.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)


def images(*, size: int = 224, batch: int = 1, seed: int = 1) -> FloatArray:
    """Return seeded images of unit variance, f32 [batch, 3, size, size]."""
    return np.random.default_rng(seed).standard_normal((batch, 3, size, size), dtype=np.float32)
