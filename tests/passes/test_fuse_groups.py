"""General fusion: what joins a group, what stays out, and that every group lowers to one kernel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.codegen.lower.compose import compose
from aino_ir.codegen.lower.group import Group, Storage
from aino_ir.codegen.lower.pricing import CataloguePricer
from aino_ir.graph import Module, Value
from aino_ir.passes.base import PassContext
from aino_ir.passes.fuse_groups import FuseGroups
from aino_ir.passes.validation import Sites
from aino_ir.target import Host, parse_target
from aino_ir.types import tensor
from tests.passes.helpers import assert_fuses, op_names, run_pass

TARGET = parse_target("c:portable", Host("x86_64", "any", frozenset(), 2, 32768, 1 << 19, 1 << 23))
RNG = np.random.default_rng(7)


def context() -> PassContext:
    catalogue = KernelCatalogue(TARGET)
    return PassContext(TARGET, kernels=catalogue, pricer=CataloguePricer(catalogue))


def weights(b: Builder, *shape: int) -> Value:
    return b.constant(RNG.standard_normal(shape).astype(np.float32))


def conv(b: Builder, x: Value, channels: int) -> Value:
    w, bias = weights(b, channels, x.shape[1], 3, 3), weights(b, channels)
    return b.conv(x, w, bias, strides=(1, 1), dilations=(1, 1), pads_before=(1, 1), pads_after=(1, 1))


def groups(module: Module) -> list[list[str]]:
    """Members of each fused group; single ops by name."""
    out = []
    for op in module.main.block:
        if op.name == "core.fused":
            out.append([o.name for o in op.regions[0] if o.name != "core.return"])
        elif op.name not in ("core.constant", "core.return"):
            out.append([op.name])
    return out


Body = Callable[[Builder, Value], Value]


def built(body: Body, *shape: int) -> Module:
    b = Builder()
    b.output("y", body(b, b.input("x", tensor("f32", *shape))))
    return b.module


def fused(module: Module) -> list[list[str]]:
    before = module.clone()
    report = assert_fuses(module, FuseGroups(), op_names(run(before.clone())), context())
    assert report.sites == Sites(report.sites.total, 0, report.sites.total, 0), (
        "structure alone proves fusion"
    )
    for op in module.main.block:
        if op.name not in ("core.constant", "core.return", "tensor.reshape", "tensor.concat"):
            spec = compose(Group(op), row_major, module.main.symbols).spec
            assert not isinstance(context().pricer.price(op), str), spec
    return groups(module)


def run(module: Module) -> Module:
    run_pass(FuseGroups(), module, context())
    return module


def row_major(value: Value) -> Storage:
    return Storage(value.type.layout, None, value.op is not None and value.op.name == "core.constant")


def test_residual_block() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.relu(conv(b, x, 16))
        return b.relu(b.add(conv(b, y, 8), x))

    assert fused(built(body, 1, 8, 6, 6)) == [
        ["nn.conv", "math.relu"],
        ["nn.conv", "math.add", "math.relu"],
    ]


def test_sum_of_two_convolutions_goes_to_one_of_them() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.relu(b.add(conv(b, x, 8), conv(b, x, 8)))

    assert sorted(fused(built(body, 1, 8, 6, 6)), key=len) == [
        ["nn.conv"],
        ["nn.conv", "math.add", "math.relu"],
    ]


def test_diamond_behind_an_anchor() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.add(b.matmul(x, weights(b, 16, 24)), weights(b, 24))
        return b.mul(y, b.sigmoid(y))

    assert fused(built(body, 4, 16)) == [["nn.matmul", "math.add", "math.sigmoid", "math.mul"]]


def test_open_diamond_stays_open() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4, 16))
    y = b.matmul(x, weights(b, 16, 24))
    b.output("a", b.exp(y))
    b.output("b", b.tanh(y))
    assert fused(b.module) == [["nn.matmul"], ["math.exp"], ["math.tanh"]]


def test_reshape_between_anchor_and_epilogue() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.reshape(b.matmul(x, weights(b, 16, 24)), shape=(1, 4, 24))
        return b.reshape(b.relu(b.add(y, weights(b, 24))), shape=(4, 24))

    assert fused(built(body, 4, 16)) == [
        ["nn.matmul", "tensor.reshape", "math.add", "math.relu"],
        ["tensor.reshape"],
    ]


def test_anchor_is_not_mixed_with_itself_moved() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.matmul(x, weights(b, 16, 4))
        return b.add(y, b.transpose(y, perm=(1, 0)))

    assert fused(built(body, 4, 16)) == [["nn.matmul"], ["tensor.transpose", "math.add"]]


def test_broadcast_anchor_does_not_take_the_reader() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.mul(x, b.reduce_mean(x, axes=(1,), keepdims=True))

    assert fused(built(body, 4, 16)) == [["reduce.mean"], ["math.mul"]]


def test_two_anchors_stay_apart() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.softmax(b.matmul(x, weights(b, 16, 24)), axis=-1)

    assert fused(built(body, 4, 16)) == [["nn.matmul"], ["normalize.softmax"]]


def test_cheap_maps_before_a_row_program() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.softmax(b.add(b.mul(x, b.constant(np.float32(0.125))), weights(b, 16)), axis=-1)

    assert fused(built(body, 4, 16)) == [["math.mul", "math.add", "normalize.softmax"]]


def test_heavy_maps_are_computed_once_before_a_row_program() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.softmax(b.exp(x), axis=-1)

    assert fused(built(body, 4, 16)) == [["math.exp"], ["normalize.softmax"]]


def test_maps_before_a_sum() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.sqrt(b.reduce_sum(b.exp(x), axes=(0, 1), keepdims=False))

    assert fused(built(body, 4, 16)) == [["math.exp", "reduce.sum", "math.sqrt"]]


def test_chain_of_maps_with_movement_is_one_group() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.tanh(b.transpose(b.neg(x), perm=(1, 0)))
        return b.add(b.mul(y, y), b.constant(np.float32(2)))

    assert fused(built(body, 4, 16)) == [
        ["math.neg", "tensor.transpose", "math.tanh", "math.mul", "math.add"]
    ]


def test_views_of_outer_values_stay_outside() -> None:
    def body(b: Builder, x: Value) -> Value:
        return b.exp(b.neg(b.reshape(x, shape=(64,))))

    assert fused(built(body, 4, 16)) == [["tensor.reshape"], ["math.neg", "math.exp"]]


def test_heavy_small_producer_is_not_computed_for_every_reader_element() -> None:
    b = Builder()
    x, s = b.input("x", tensor("f32", 64, 16)), b.input("s", tensor("f32", 16))
    b.output("y", b.mul(x, b.exp(s)))
    assert fused(b.module) == [["math.exp"], ["math.mul"]]


def test_groups_of_inner_sharing_do_not_explode() -> None:
    def body(b: Builder, x: Value) -> Value:
        y = b.matmul(x, weights(b, 16, 16))
        for _ in range(20):
            y = b.mul(y, b.add(y, y))
        return y

    module = built(body, 4, 16)
    run(module)
    for op in module.main.block:
        if op.name == "core.fused":
            compose(Group(op), row_major, module.main.symbols)


@pytest.mark.parametrize("limit", [{"max_ops": 3}, {"max_inputs": 2}])
def test_limits(limit: dict[str, int]) -> None:
    def body(b: Builder, x: Value) -> Value:
        for _ in range(9):
            x = b.add(b.neg(x), weights(b, 16))
        return x

    module = built(body, 4, 16)
    run_pass(FuseGroups(**limit), module, context())
    assert len(groups(module)) > 1
    for op in module.main.block:
        if op.name == "core.fused":
            assert len(op.operands) <= limit.get("max_inputs", 99)
            assert sum(1 for _ in op.regions[0]) - 1 <= limit.get("max_ops", 99)


def test_group_that_no_generator_takes_falls_apart_with_a_reason() -> None:
    class Stingy:
        def price(self, op: object) -> float | str:
            return "too many ops" if getattr(op, "name", "") == "core.fused" else 1.0

    def body(b: Builder, x: Value) -> Value:
        return b.relu(b.matmul(x, weights(b, 16, 24)))

    module, ctx = built(body, 4, 16), PassContext(TARGET, pricer=Stingy())
    run_pass(FuseGroups(), module, ctx)
    assert groups(module) == [["nn.matmul"], ["math.relu"]]
    assert [r.reason for _, r in ctx.refusals] == ["too many ops"]


def test_dear_group_falls_apart() -> None:
    class Dear:
        def price(self, op: object) -> float | str:
            return 1e-3 if getattr(op, "name", "") == "core.fused" else 1e-6

    def body(b: Builder, x: Value) -> Value:
        return b.relu(b.matmul(x, weights(b, 16, 24)))

    module, ctx = built(body, 4, 16), PassContext(TARGET, pricer=Dear())
    run_pass(FuseGroups(), module, ctx)
    assert [r.reason for _, r in ctx.refusals] == ["as one kernel it costs 1000.0 us, apart 2.0 us"]


def test_symbolic_extents() -> None:
    b = Builder()
    n = b.symbol("n", 1, 64)
    x = b.input("x", tensor("f32", n, 16))
    b.output("y", b.relu(b.add(b.matmul(x, weights(b, 16, 24)), weights(b, 24))))
    assert_fuses(b.module, FuseGroups(), ["core.fused"], context(), n=5)


def test_weights_of_few_bits_are_decoded_by_the_contraction_that_reads_them() -> None:
    b = Builder()
    w = b.constant(np.ones((16, 8), np.int8))
    decoded = b.dequantize(w, b.constant(np.float32(0.5)))
    y = b.relu(b.matmul(b.input("x", tensor("f32", 4, 16)), decoded))
    b.output("y", y)
    assert_fuses(b.module, ["fuse-groups"], ["core.fused"])


def test_decoded_weights_with_two_readers_are_decoded_once() -> None:
    b = Builder()
    decoded = b.dequantize(b.constant(np.ones((16, 8), np.int8)), b.constant(np.float32(0.5)))
    x = b.input("x", tensor("f32", 4, 16))
    b.output("y", b.add(b.matmul(x, decoded), b.matmul(b.relu(x), decoded)))
    run_pass(["fuse-groups"], b.module)
    assert "quant.dequantize" in op_names(b.module)
