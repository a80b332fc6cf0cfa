"""Nodes of ONNX Runtime's own operators with operands: every mode and optional input that its CPU kernels have."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray[Any, Any]

CONTRIB = "com.microsoft"


@dataclass(frozen=True)
class Contrib:
    """One node.

    Attributes:
        operands: arrays; None where an input is left out.
        fixed: places of operands that are initializers.
        outputs: which are asked for.
        valid: how many positions of a cache hold something, along axis 2 of results of rank 4.
        exact: whether ONNX Runtime and AINO must agree to the bit.
    """

    kind: str
    operands: Sequence[Array | None]
    attrs: dict[str, Any] = field(default_factory=dict)
    fixed: tuple[int, ...] = ()
    outputs: tuple[bool, ...] = (True,)
    valid: int | None = None
    exact: bool = False
    note: str = ""
    domain: str = CONTRIB


RNG = np.random.default_rng(11)


def f(*shape: int) -> Array:
    """Floats around 0."""
    return RNG.normal(size=shape).astype(np.float32)


def u8(*shape: int) -> Array:
    """Bytes."""
    return RNG.integers(0, 256, shape).astype(np.uint8)


def i8(*shape: int) -> Array:
    """Signed bytes."""
    return RNG.integers(-128, 128, shape).astype(np.int8)


def s(value: float) -> Array:
    """A scale."""
    return np.array(value, np.float32)


def z(value: int, dtype: Any = np.uint8) -> Array:
    """A zero point."""
    return np.array(value, dtype)


def fused() -> Iterator[Contrib]:
    """Activations, products, convolutions, normalisations."""
    x, b = f(2, 3, 8), f(8)
    yield Contrib("Gelu", [x])
    yield Contrib("FastGelu", [x, b])
    yield Contrib("FastGelu", [x])
    yield Contrib("QuickGelu", [x])
    yield Contrib("QuickGelu", [x], {"alpha": 1.3})
    yield Contrib("BiasGelu", [x, b])
    yield Contrib("FusedMatMul", [f(2, 3, 4), f(2, 4, 5)], {"alpha": 0.5})
    yield Contrib("FusedMatMul", [f(2, 4, 3), f(2, 5, 4)], {"transA": 1, "transB": 1})
    yield Contrib("FusedMatMul", [f(4, 2, 3), f(2, 3, 5)], {"transBatchA": 1})
    yield Contrib("FusedMatMul", [f(2, 4, 3), f(5, 2, 3)], {"transBatchB": 1, "transB": 1})
    for activation, more in (("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.3}), ("Tanh", {})):
        attrs = {"activation": activation, "transB": 1, "alpha": 0.7, "beta": 2.0, **more}
        yield Contrib("FusedGemm", [f(3, 4), f(5, 4), f(5)], attrs)
    image, kernel = f(1, 4, 6, 6), f(6, 4, 3, 3)
    pads = {"pads": [1, 1, 1, 1]}
    yield Contrib("FusedConv", [image, kernel, f(6)], {**pads, "activation": "Relu"})
    yield Contrib("FusedConv", [image, kernel, f(6), f(1, 6, 6, 6)], {**pads, "activation": "Relu"})
    for activation, numbers in (("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.5]), ("HardSigmoid", [0.3, 0.4])):
        yield Contrib("FusedConv", [image, kernel], {"activation": activation, "activation_params": numbers})
    gamma, beta = f(8), f(8)
    yield Contrib("SkipLayerNormalization", [x, f(2, 3, 8), gamma, beta, b], {"epsilon": 1e-5})
    yield Contrib("SkipLayerNormalization", [x, f(2, 3, 8), gamma], outputs=(True, False, False, True))
    yield Contrib("SkipLayerNormalization", [x, f(1, 3, 8), gamma, beta])
    yield Contrib("SkipSimplifiedLayerNormalization", [x, f(2, 3, 8), gamma], {"epsilon": 1e-5})
    yield Contrib(
        "SkipSimplifiedLayerNormalization", [x, f(2, 3, 8), gamma, b], outputs=(True, False, False, True)
    )
    yield Contrib("SimplifiedLayerNormalization", [x, gamma], {"axis": -1}, domain="")
    ids = RNG.integers(0, 7, (2, 3)).astype(np.int32)
    segments = RNG.integers(0, 2, (2, 3)).astype(np.int32)
    tables = f(7, 8), f(5, 8), f(2, 8)
    mask = np.array([[1, 1, 0], [1, 1, 1]], np.int32)
    yield Contrib(
        "EmbedLayerNormalization",
        [ids, segments, *tables, gamma, beta, mask],
        {"mask_index_type": 1},
        outputs=(True, True, True),
    )
    places = np.array([[2, 1, 0], [0, 3, 4]], np.int32)
    yield Contrib(
        "EmbedLayerNormalization",
        [ids, None, tables[0], tables[1], None, gamma, beta, None, places],
        {"mask_index_type": 0},
        outputs=(True, True),
    )
    yield Contrib("Trilu", [f(3, 4), np.array(1, np.int64)], {"upper": 0}, exact=True)
    yield Contrib("Inverse", [f(2, 4, 4)])
    yield Contrib("Inverse", [RNG.normal(size=(3, 3))])
    yield Contrib("Unique", [np.array([3, 1, 3, 2, 1], np.float32)], outputs=(True, True, True), exact=True)


def quantized() -> Iterator[Contrib]:
    """Quantised operators."""
    pair = s(0.03), z(120), s(0.05), z(100)
    for kind in ("QLinearAdd", "QLinearMul"):
        yield Contrib(kind, [u8(2, 5), *pair[:2], u8(2, 5), *pair[2:], s(0.09), z(110)])
        yield Contrib(
            kind, [i8(2, 5), s(0.03), z(-3, np.int8), i8(5), s(0.02), z(5, np.int8), s(0.04), z(1, np.int8)]
        )
    yield Contrib("QLinearConcat", [s(0.05), z(9), u8(2, 3), *pair[:2], u8(2, 4), *pair[2:]], {"axis": 1})
    yield Contrib("QLinearSigmoid", [u8(3, 7), s(0.04), z(128), s(1 / 256), z(0)], fixed=(1, 2, 3, 4))
    yield Contrib(
        "QLinearLeakyRelu", [u8(3, 7), s(0.04), z(128), s(0.03), z(100)], {"alpha": 0.1}, fixed=(1, 2, 3, 4)
    )
    yield Contrib("QLinearGlobalAveragePool", [u8(1, 3, 5, 4), s(0.1), z(7), s(0.05), z(11)])
    yield Contrib(
        "QLinearGlobalAveragePool", [u8(1, 5, 4, 3), s(0.1), z(7), s(0.05), z(11)], {"channels_last": 1}
    )
    window = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    for more in ({}, {"count_include_pad": 1}):
        yield Contrib("QLinearAveragePool", [u8(1, 3, 6, 5), s(0.1), z(7), s(0.1), z(7)], {**window, **more})
    yield Contrib(
        "QLinearSoftmax",
        [u8(2, 3, 6), s(0.05), z(100), s(1 / 256), z(0)],
        {"axis": -1, "opset": 13},
        fixed=(1, 2, 3, 4),
    )
    yield Contrib("NhwcMaxPool", [u8(1, 6, 5, 3)], {"kernel_shape": [2, 2], "strides": [2, 2]}, exact=True)
    a, b = u8(3, 8), i8(8, 5) // 2  # 7 bits: without VNNI, ONNX Runtime saturates pairs of products
    zeros = z(128), z(3, np.int8)
    yield Contrib("QGemm", [a, s(0.02), zeros[0], b, s(0.01), zeros[1]])
    bias = RNG.integers(-99, 99, 5).astype(np.int32)
    yield Contrib(
        "QGemm",
        [a, s(0.02), zeros[0], i8(5, 8) // 2, s(0.01), zeros[1], bias, s(0.01), z(100)],
        {"transB": 1},
        fixed=(6, 7, 8),
    )
    yield Contrib("MatMulIntegerToFloat", [a, b, s(0.02), s(0.01), *zeros])
    columns = np.abs(f(5)) * 0.01, RNG.integers(-5, 5, 5).astype(np.int8)
    yield Contrib("MatMulIntegerToFloat", [a, b, s(0.02), columns[0], zeros[0], columns[1], f(5)])
    yield Contrib("DynamicQuantizeMatMul", [f(3, 8), b, s(0.01), zeros[1], f(5)])
    yield Contrib("DynamicQuantizeMatMul", [f(3, 8), b, s(0.01)])
    for bits, width in ((4, 64), (8, 64), (4, 40)):
        blocks = -(-width // 32)
        attrs = {"K": width, "N": 6, "bits": bits, "block_size": 32}
        packed, scales = u8(6, blocks, 32 * bits // 8), np.abs(f(6 * blocks)) * 0.1
        yield Contrib("MatMulNBits", [f(2, 3, width), packed, scales], attrs, fixed=(1, 2))
        points = u8(6 * -(-blocks * bits // 8))
        yield Contrib("MatMulNBits", [f(2, width), packed, scales, points], attrs, fixed=(1, 2, 3))
    attrs = {"K": 64, "N": 6, "bits": 4, "block_size": 32}
    packed, scales = u8(6, 2, 16), np.abs(f(12)) * 0.1
    group = RNG.integers(0, 2, 64).astype(np.int32)
    yield Contrib("MatMulNBits", [f(2, 64), packed, scales, None, group], attrs, (1, 2, 4), note="g_idx")
    yield Contrib("QuantizeLinear", [f(3, 4), s(0.02), np.array(30000, np.uint16)], exact=True)
    yield Contrib("DequantizeLinear", [u8(3, 4), s(0.02), z(7)], exact=True)


def attention() -> Iterator[Contrib]:
    """Attention of all kinds, masks, caches, rotary positions."""
    yield from packed_attention()
    yield from multi_head_attention()
    yield from rotary_positions()


def packed_attention() -> Iterator[Contrib]:
    """Attention with its own projections: masks of every form, and pasts."""
    base = {"num_heads": 2}
    x, weights, bias = f(2, 5, 12), f(12, 24), f(24)
    yield Contrib("Attention", [x, weights, bias], base)
    yield Contrib("Attention", [x, weights, bias], {**base, "unidirectional": 1, "scale": 0.3})
    masks = (
        np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32),
        np.array([3, 5], np.int32),
        np.array([4, 5, 1, 0], np.int32),
        RNG.integers(0, 2, (2, 5, 5)).astype(np.int32),
    )
    for mask in masks:
        yield Contrib("Attention", [x, weights, bias, mask], base, note=f"mask {mask.shape}")
    past = f(2, 2, 2, 3, 4)
    yield Contrib(
        "Attention", [x, weights, bias, None, past], {**base, "unidirectional": 1}, outputs=(True, True)
    )
    yield Contrib("Attention", [x, weights, bias, None, None, f(2, 2, 5, 5)], base, note="bias of scores")
    yield Contrib(
        "Attention", [x, weights, bias, None, past, None, np.array([3], np.int32)], base, outputs=(True, True)
    )


def multi_head_attention() -> Iterator[Contrib]:
    """MultiHeadAttention: biases, masks, pasts, buffers longer than what is used."""
    base = {"num_heads": 2}
    q, k, v = f(2, 5, 8), f(2, 6, 8), f(2, 6, 8)
    yield Contrib("MultiHeadAttention", [q, k, v], base)
    yield Contrib("MultiHeadAttention", [q, k, v, f(24)], base)
    causal = {**base, "unidirectional": 1}
    yield Contrib("MultiHeadAttention", [q, f(2, 5, 8), f(2, 5, 8)], causal, note="causal")
    keys = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1]], np.int32)
    yield Contrib("MultiHeadAttention", [q, k, v, None, keys], base)
    yield Contrib("MultiHeadAttention", [q, k, v, None, None, f(1, 2, 5, 6)], base)
    yield Contrib(
        "MultiHeadAttention",
        [q, f(2, 5, 8), f(2, 5, 8), None, None, None, f(2, 2, 3, 4), f(2, 2, 3, 4)],
        base,
        outputs=(True, True, True),
    )
    buffers = f(2, 2, 9, 4), f(2, 2, 9, 4)
    used = np.array([3], np.int32)
    for length in (1, 5):
        operands = [*(f(2, length, 8) for _ in range(3)), None, None, None, *buffers, used]
        yield Contrib(
            "MultiHeadAttention",
            operands,
            base,
            outputs=(True,) * 3,
            valid=3 + length,
            note=f"buffers, {length}",
        )
    yield Contrib("MultiHeadAttention", [q, f(2, 2, 6, 4), f(2, 2, 6, 4)], base, note="keys by head")


def rotary_positions() -> Iterator[Contrib]:
    """RotaryEmbedding, and the grouped attention that does it itself."""
    angles = np.arange(20)[:, None] / 10 ** (np.arange(4) / 2)
    cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
    places = np.array([[0, 1, 2], [5, 6, 7]], np.int64)
    for interleaved in (0, 1):
        attrs = {"interleaved": interleaved}
        yield Contrib("RotaryEmbedding", [f(2, 3, 16), places, cos, sin], attrs)
        yield Contrib("RotaryEmbedding", [f(2, 2, 3, 8), np.array([4], np.int64), cos, sin], attrs)
    yield Contrib(
        "RotaryEmbedding",
        [f(2, 3, 24), places, cos, sin],
        {"num_heads": 2, "rotary_embedding_dim": 8},
        note="partial",
    )
    wide = np.arange(20)[:, None] / 10 ** (np.arange(8) / 4)
    yield from grouped(np.cos(wide).astype(np.float32), np.sin(wide).astype(np.float32))


def grouped(cos: Array, sin: Array) -> Iterator[Contrib]:
    """GroupQueryAttention: prompts and single tokens, with and without a cache that is longer than needed."""
    base = {"num_heads": 4, "kv_num_heads": 2}

    def case(length: int, past: int, total: int, note: str, packed: bool = False, **attrs: Any) -> Contrib:
        seen = np.array([total - 1, total - 1], np.int32)
        given = f(2, length, 64), f(2, length, 32), f(2, length, 32)
        heads: list[Array | None] = [f(2, length, 128), None, None] if packed else list(given)
        caches: list[Array | None] = [f(2, 2, past, 16), f(2, 2, past, 16)]
        tables = [cos, sin] if attrs.get("do_rotary") else []
        operands = [*heads, *caches, seen, np.array(total, np.int32), *tables]
        return Contrib(
            "GroupQueryAttention", operands, {**base, **attrs}, (6,), (True, True, True), total, note=note
        )

    yield case(5, 0, 5, "prompt")
    yield case(1, 4, 5, "token")
    yield case(1, 4, 5, "token, rotary", do_rotary=1)
    yield case(5, 0, 5, "prompt, rotary", do_rotary=1, rotary_interleaved=1)
    yield case(5, 0, 5, "softcap", softcap=2.0)
    yield case(6, 0, 6, "window", local_window_size=2)
    yield case(1, 6, 7, "token, window", local_window_size=3)
    yield case(3, 0, 3, "packed", packed=True)
    yield case(1, 5, 6, "scale", scale=0.2)
    yield case(4, 0, 4, "smooth", smooth_softmax=1)
    yield case(1, 8, 5, "a cache that is longer than needed", do_rotary=1)


def all_contrib() -> list[Contrib]:
    """Every case."""
    return [*fused(), *quantized(), *attention()]


def model_of(cases: Sequence[Contrib]) -> tuple[onnx.ModelProto, list[Array]]:
    """One model with a node for each case, and its inputs."""
    nodes, inputs, outputs, initializers, arrays = [], [], [], [], []
    for n, case in enumerate(cases):
        names = []
        for i, array in enumerate(case.operands):
            if array is None:
                names.append("")
                continue
            name = f"x{n}_{i}"
            names.append(name)
            if i in case.fixed:
                initializers.append(numpy_helper.from_array(array, name))
                continue
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            inputs.append(helper.make_tensor_value_info(name, kind, array.shape))
            arrays.append(array)
        results = [f"y{n}_{i}" if wanted else "" for i, wanted in enumerate(case.outputs)]
        nodes.append(
            helper.make_node(case.kind, names, results, f"node{n}", domain=case.domain, **case.attrs)
        )
        outputs += [onnx.ValueInfoProto(name=r) for r in results if r]
    graph = helper.make_graph(nodes, "contrib", inputs, outputs, initializers)
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(CONTRIB, 1)]
    return helper.make_model(graph, opset_imports=imports, ir_version=10), arrays
