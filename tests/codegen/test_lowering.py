"""From graph to plan: storage, shared kernels, memory, barriers, checkers, and what stands at the edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder
from aino_ir.dims import symbol
from aino_ir.errors.dims import ReservedSymbolName
from aino_ir.errors.plan import PlanUnsafe
from aino_ir.graph import Module
from aino_ir.ops.core import Fused
from aino_ir.passes.insert_barriers import InsertBarriers, check_barriers
from aino_ir.passes.plan_memory import PlaceConstants, PlanMemory, check_memory
from aino_ir.plan import BufferKind, Plan, Run, Sync
from aino_ir.runtime.store import Store
from aino_ir.symbols import Symbols
from aino_ir.types import permuted, tensor
from tests.codegen.lower.support import anchors, arena, barriers, check, normal, one_input, runs
from tests.codegen.native import compile_plan, interpret_plan, lowered, planned

# ---------------------------------------------------------------------------------- the edges


def test_outputs_may_be_inputs_constants_or_the_same() -> None:
    def build(b: Any, x: Any) -> Any:
        e, c = b.exp(x), b.constant(np.arange(3, dtype=np.float32))
        return [x, e, c, e, x, b.reshape(x, shape=(24,)), b.reshape(e, shape=(24,)), c]

    plan = check(one_input(build, 4, 6), normal(4, 6))
    assert anchors(plan).count("exp") == 1
    assert {b.slot for b in plan.buffers if b.kind is BufferKind.OUTPUT} == set(range(8))


def test_an_output_that_is_a_window() -> None:
    def build(b: Any, x: Any) -> Any:
        e = b.exp(x)
        return [b.slice(e, starts=(1, 1), sizes=(2, 3), steps=(1, 1)), e]

    check(one_input(build, 4, 6), normal(4, 6))


def test_an_output_that_is_read_again() -> None:
    def build(b: Any, x: Any) -> Any:
        e = b.exp(x)
        return [e, b.relu(e), b.neg(e)]

    check(one_input(build, 4, 6), normal(4, 6))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2), (), (1,), (1, 1, 1)])
def test_empty_and_single_elements(shape: tuple[int, ...]) -> None:
    def build(b: Any, x: Any) -> Any:
        e = b.exp(x)
        flat = b.reshape(e, shape=(int(np.prod(shape)),))
        return [
            e,
            b.concat(flat, flat, axis=0),
            b.reduce_sum(e),
            b.transpose(e, perm=tuple(range(len(shape)))[::-1]),
            x,
        ]

    check(one_input(build, *shape), normal(*shape))


def test_empty_reshapes_and_concatenations() -> None:
    def build(b: Any, x: Any) -> Any:
        return [
            b.reshape(x, shape=(3, 0, 2)),
            b.concat(b.slice(x, starts=(0, 0), sizes=(0, 0), steps=(1, 1)), x, axis=0),
            b.matmul(x, b.constant(np.zeros((0, 5), np.float32))),
        ]

    module = one_input(build, 4, 0)
    plan = check(module, normal(4, 0))
    assert [a for a in anchors(plan) if a != "matmul"] == []


def test_a_module_of_nothing() -> None:
    b = Builder()
    b.input("x", tensor("f32", 3))
    assert planned(b.module).steps == []


# ---------------------------------------------------------------------------------- shared kernels


def test_equal_ops_share_a_kernel() -> None:
    def build(b: Any, x: Any) -> Any:
        for n in range(5):
            w = b.constant(normal(6, 6))
            x = b.relu(b.matmul(x, w)) if n != 3 else b.gelu(b.matmul(x, w))
        return x

    plan = check(one_input(build, 4, 6), normal(4, 6))
    assert len(runs(plan)) == 10
    assert len(plan.kernels) == 3 + 1  # the last result is an output, in a buffer of its own: the same kernel
    assert len({r.kernel for r in runs(plan)}) == len(plan.kernels)


def test_equal_weights_are_stored_once() -> None:
    w = normal(6, 6)

    def build(b: Any, x: Any) -> Any:
        return b.matmul(b.matmul(x, b.constant(w)), b.constant(w.copy()))

    plan = check(one_input(build, 4, 6), normal(4, 6))
    placed = {b.offset for b in plan.buffers if b.kind is BufferKind.CONST and b.offset is not None}
    assert len(placed) == 1


def test_constants_that_differ_in_bits_do_not_share() -> None:
    """0 and -0 compare equal and are different divisors; so do 1 and True."""

    def build(b: Any, x: Any) -> Any:
        return [b.div(x, b.constant(np.float32(0.0))), b.div(x, b.constant(np.float32(-0.0)))]

    x = np.array([1, -2], np.float32)
    module = one_input(build, 2)
    plan = planned(module)
    positive, negative = interpret_plan(plan, [x])
    assert positive.tolist() == [np.inf, -np.inf] and negative.tolist() == [-np.inf, np.inf]


def test_attributes_and_shapes_tell_kernels_apart() -> None:
    def build(b: Any, x: Any) -> Any:
        return [
            b.leaky_relu(x, alpha=0.1),
            b.leaky_relu(x, alpha=0.2),
            b.leaky_relu(b.reshape(x, shape=(24,)), alpha=0.1),
        ]

    assert len(check(one_input(build, 4, 6), normal(4, 6)).kernels) == 3


# ---------------------------------------------------------------------------------- memory and barriers


def chain(length: int) -> Module:
    """Reductions and expansions in turn, so that no kernel may write over what it reads."""

    def build(b: Any, x: Any) -> Any:
        for _ in range(length):
            x = b.softmax(b.transpose(x, perm=(1, 0)), axis=0)
        return x

    return one_input(build, 16, 16)


def test_a_chain_takes_turns_in_two_buffers() -> None:
    plan = check(chain(5), normal(16, 16))
    assert len(arena(plan)) == 9
    assert plan.arena_bytes == 2 * 16 * 16 * 4


def test_elementwise_chains_stay_in_place() -> None:
    def build(b: Any, x: Any) -> Any:
        for _ in range(6):
            x = b.relu(b.exp(x))
        return x

    plan = check(one_input(build, 16, 16), normal(16, 16) * 1e-3)
    assert plan.arena_bytes <= 16 * 16 * 4


def test_what_lives_long_keeps_its_place() -> None:
    def build(b: Any, x: Any) -> Any:
        first = b.transpose(x, perm=(1, 0))
        y = first
        for _ in range(3):
            y = b.softmax(b.transpose(y, perm=(1, 0)), axis=0)
        return b.add(y, b.transpose(first, perm=(1, 0)))

    plan = check(one_input(build, 8, 16), normal(8, 16))
    assert plan.arena_bytes == 4 * 8 * 16 * 4 or plan.arena_bytes == 3 * 8 * 16 * 4


def test_barriers_only_where_steps_meet() -> None:
    def apart(b: Any, x: Any) -> Any:
        return [b.exp(x), b.neg(x), b.abs(x), b.relu(x)]

    def together(b: Any, x: Any) -> Any:
        return b.matmul(b.transpose(x, perm=(1, 0)), b.softmax(x))

    assert barriers(check(one_input(apart, 64, 64), normal(64, 64))) == 0
    assert barriers(check(one_input(together, 64, 64), normal(64, 64))) == 1


def test_barriers_count_in_a_chain() -> None:
    plan = check(chain(3), normal(16, 16))
    assert barriers(plan) == len(runs(plan)) - 1


# ---------------------------------------------------------------------------------- the checkers


def diamond() -> Module:
    def build(b: Any, x: Any) -> Any:
        a = b.transpose(x, perm=(1, 0))
        return b.matmul(b.softmax(a, axis=0), b.transpose(b.softmax(a, axis=1), perm=(1, 0)))

    return one_input(build, 64, 64)


def test_overlapping_buffers_are_refused() -> None:
    plan = planned(diamond())
    live = [b for b in plan.buffers if b.kind is BufferKind.ARENA and b.offset is not None]
    for buffer in live:
        buffer.offset = 0
    with pytest.raises(PlanUnsafe):
        check_memory(plan)


def test_partly_overlapping_buffers_are_refused() -> None:
    plan = planned(diamond())
    check_memory(plan)
    last = max((b for b in plan.buffers if b.kind is BufferKind.ARENA), key=lambda b: b.offset or 0)
    assert isinstance(last.offset, int)
    last.offset -= 64
    with pytest.raises(PlanUnsafe):
        check_memory(plan)


def test_a_missing_barrier_is_refused() -> None:
    plan = planned(diamond())
    places = [i for i, s in enumerate(plan.steps) if isinstance(s, Sync)]
    assert places
    for place in places:
        broken = replace(plan, steps=[s for i, s in enumerate(plan.steps) if i != place])
        with pytest.raises(PlanUnsafe):
            check_barriers(broken)


def test_a_barrier_too_many_is_no_fault() -> None:
    plan = planned(diamond())
    more = [part for s in plan.steps for part in (s, Sync())]
    check_barriers(replace(plan, steps=more))


def test_steps_in_another_order_are_refused() -> None:
    plan = lowered(diamond())
    for plan_pass in (PlaceConstants(), PlanMemory(), InsertBarriers()):
        plan_pass.run(plan)
    steps = [s for s in plan.steps if isinstance(s, Run)]
    with pytest.raises(PlanUnsafe):
        check_barriers(replace(plan, steps=list(reversed(steps))))


# ---------------------------------------------------------------------------------- names of symbols

KERNEL_NAMES = (
    "i0", "i1", "i2", "c0", "t0", "k", "c", "b", "h", "q", "d", "n", "w", "key", "lane", "row", "line",
    "point", "panel", "start", "stop", "x", "out", "lhs", "keys", "tile", "acc", "lo", "hi", "views", "int",
)  # fmt: skip
"""Names that kernels, index notation or C use themselves."""


def named_after(name: str) -> Module:
    """Every kind of kernel over an extent of a name."""
    b = Builder()
    s = b.symbol(name, 1, 64)
    x, y = b.input("x", tensor("f32", 3, s)), b.input("y", tensor("f32", s, s))
    z = b.input("z", tensor("f32", 1, 2, s, 4))
    indices = b.input("indices", tensor("i64", s))
    w = b.constant(np.linspace(-1, 1, 2 * 2 * 3 * 3, dtype=np.float32).reshape(2, 2, 3, 3))
    padded = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
    outs = [
        b.matmul(x, y),
        b.softmax(x, axis=1),
        b.softmax(y, axis=0),
        b.transpose(b.add(y, y), perm=(1, 0)),
        b.pad(y, before=(1, 2), after=(0, 1), mode="edge"),
        b.reduce_mean(y, axes=(0,)),
        b.reduce_max(y, axes=(1,)),
        b.cumsum(y, axis=1),
        b.attention(z, z, z, scale=0.5, causal=True),
        b.conv(z, w, **padded),
        b.gather(y, indices, axis=1),
        b.concat(x, y, axis=0),
    ]
    for n, value in enumerate(outs):
        b.output(f"o{n}", value)
    return b.module


@pytest.mark.parametrize("name", KERNEL_NAMES)
def test_symbols_may_be_called_like_anything_in_a_kernel(name: str) -> None:
    inputs = [normal(3, 7), normal(7, 7), normal(1, 2, 7, 4), np.array([0, 6, -7, -1, 3, 2, 5])]
    check(named_after(name), *inputs, symbols={name: 7})


def test_names_that_are_reserved_are_refused() -> None:
    for name in ("unit", "i0.", "batch."):
        with pytest.raises(ReservedSymbolName, match=name):
            Builder().symbol(name)
    assert Symbols().fresh("unit") == "unit_2"
    assert Symbols().fresh("i0.") == "i0"


# ---------------------------------------------------------------------------------- threads and layouts


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_compiled_plans_do_not_depend_on_the_thread_count(threads: int, shared_store: Store) -> None:
    module = one_input(
        lambda b, x: [
            b.matmul(b.softmax(b.transpose(x, perm=(1, 0)), axis=1), b.gelu(x)),
            b.concat(b.reduce_sum(x, axes=(0,)), b.reduce_max(x, axes=(1,)), axis=0),
        ],
        64,
        48,
    )
    x = np.linspace(-3, 3, 64 * 48, dtype=np.float32).reshape(64, 48)
    plan = planned(module)
    native = compile_plan(plan, shared_store, threads=threads)
    first = native.run([x])
    for _ in range(20):
        for a, b in zip(native.run([x]), first, strict=True):
            np.testing.assert_array_equal(a, b)
    for a, b in zip(first, interpret_plan(plan, [x]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_values_in_other_layouts() -> None:
    last = permuted(0, 2, 3, 1)
    b = Builder()
    x = b.input("x", tensor("f32", 1, 3, 5, 6))
    w = b.constant(normal(4, 3, 3, 3))
    attrs = {"strides": (1, 1), "dilations": (1, 1), "pads_before": (1, 1), "pads_after": (1, 1)}
    from aino_ir.builder import op_class

    inside = b.op(op_class("core.relayout"), x, layouts=[last]).result
    y = b.op(op_class("nn.conv"), inside, w, None, layouts=[last], **attrs).result
    y = b.op(op_class("math.relu"), y, layouts=[last]).result
    b.output("y", b.op(op_class("core.relayout"), y).result)
    plan = check(b.module, normal(1, 3, 5, 6))
    assert len(runs(plan)) == 4


def sizes_of(plan: Plan) -> Sequence[int]:
    return sorted(arena(plan))


def test_symbolic_extents_share_slots() -> None:
    b = Builder()
    n = b.symbol("rows", 1, 64)
    x = b.input("x", tensor("f32", n, 16))
    y = x
    for _ in range(4):
        y = b.softmax(b.transpose(b.transpose(y, perm=(1, 0)), perm=(1, 0)))
    b.output("y", y)
    plan = check(b.module, normal(5, 16), symbols={"rows": 5})
    total = plan.arena_bytes
    assert not isinstance(total, int) and total.evaluate({"rows": 16}) <= 3 * 16 * 16 * 4
    assert symbol("rows").free_symbols() <= total.free_symbols()


def test_data_dependent_coordinates_meet_axes_of_the_same_name() -> None:
    """A looked-up coordinate goes through a reshape whose axes are called like the kernel's own."""
    b = Builder()
    types = (tensor("f32", 2, 12), tensor("i64", 2, 1, 2, 2))
    x, indices = (b.input(n, t) for n, t in zip("xi", types, strict=True))

    def body(i: Any, x: Any, at: Any) -> Any:
        whole = i.reshape(x, shape=(2, 3, 2, 2))
        return [i.neg(i.reshape(i.gather_elements(whole, at, axis=1), shape=(2, 2, 2)))]

    b.output("y", b.op(Fused, x, indices, regions=[b.region(types, body)]).result)
    chosen = np.random.default_rng(5).integers(-3, 3, (2, 1, 2, 2))
    check(b.module, normal(2, 12), chosen)
