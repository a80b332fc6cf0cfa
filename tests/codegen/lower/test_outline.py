"""Host programs: what is cut where, and that the cut module means the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aino_ir.builder import Builder
from aino_ir.codegen.lower.legality import obstacle
from aino_ir.codegen.lower.outline import HostOp, Outlined, op_phases, outline
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.location import loc
from aino_ir.op import Op
from aino_ir.ops.call import Call
from aino_ir.ops.core import Bind, Relayout
from aino_ir.ops.tensor import Reshape
from aino_ir.text import parse, print_module
from aino_ir.types import SequenceType, TensorType, permuted, tensor
from aino_ir.verify import verify


def cut(module: Module, is_host: Callable[[Op], bool] | None = None) -> Outlined:
    """The outlined module; host ops are those with an obstacle, or those of a given kind."""
    reasons: Mapping[Op, str] = {
        op: "a test wants it" if is_host else obstacle(op)
        for op in module.main.block
        if (is_host(op) if is_host else obstacle(op)) and op.results
    }
    made = outline(module.main, reasons)
    verify(made.module)
    text = print_module(made.module)
    assert print_module(parse(text)) == text or "weight" in text
    return made


def named(*names: str) -> Callable[[Op], bool]:
    return lambda op: op.name in names


def kinds(module: Module) -> list[str]:
    """Ops of the host program, constants and the end left out."""
    return [op.name for op in module.main.block if op.name not in ("core.constant", "core.return")]


def same(module: Module, made: Outlined, *inputs: Any) -> None:
    for got, want in zip(run_module(made.module, inputs), run_module(module, inputs), strict=True):
        assert np.array_equal(got, want)


def values(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(len(shape)).standard_normal(shape).astype(np.float32)


def test_native_parts_are_as_few_as_paths_alternate() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 4)), b.input("y", tensor("f32", 4))
    early, late = b.exp(x), b.exp(y)
    left = b.neg(b.neg(early))  # host, host
    right = b.add(late, b.exp(x))  # native all the way, beside the host ops
    b.output("z", b.mul(left, right))
    b.output("early", early)
    made = cut(b.module, named("math.neg"))
    assert kinds(made.module) == ["core.call", "math.neg", "math.neg", "core.call"]
    first, second = (made.module.functions[n] for n in made.natives)
    assert [op.name for op in first.block][:-1] == ["math.exp", "math.exp", "math.exp", "math.add"]
    assert [op.name for op in second.block][:-1] == ["math.mul"]
    same(b.module, made, values(4), -values(4))


def test_host_ops_without_native_operands_come_first() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    b.output("z", b.exp(b.add(b.neg(x), b.exp(x))))
    made = cut(b.module, named("math.neg"))
    assert kinds(made.module) == ["math.neg", "core.call"]
    same(b.module, made, values(4))


def test_diamonds_and_constants_read_on_both_sides() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 3))
    c = b.constant(np.float32([1, 2, 3]))
    top = b.add(x, c)
    left, right = b.neg(b.exp(top)), b.neg(b.sub(top, c))
    joined = b.concat(left, right, b.constant(np.ones((2, 3), np.float32)), axis=0)
    b.output("y", b.mul(joined, c))
    b.output("c", c)
    made = cut(b.module, named("math.neg", "tensor.concat"))
    assert kinds(made.module) == ["core.call", "math.neg", "math.neg", "tensor.concat", "core.call"]
    same(b.module, made, values(2, 3))


def test_sequences_keep_their_tensors_native() -> None:
    b = Builder(loc=loc("node 's'"))
    x = b.input("x", tensor("f32", 2, 3))
    xs = b.construct(b.exp(x), b.sqrt(b.abs(x)), element=x.type)
    b.output("y", b.relu(b.at(xs, b.constant(np.int64(1)))))
    b.output("xs", xs)
    made = cut(b.module)
    assert made.host == (
        HostOp("sequence.construct", "node 's'", "values of type seq<f32[2, 3]> have no native code"),
        HostOp("sequence.at", "node 's'", "values of type seq<f32[2, 3]> have no native code"),
    )
    assert kinds(made.module) == ["core.call", "sequence.construct", "sequence.at", "core.call"]
    assert isinstance(made.module.main.outputs[1].type, SequenceType)
    x_value = values(2, 3)
    got, want = run_module(made.module, [x_value]), run_module(b.module, [x_value])
    assert np.array_equal(got[0], want[0]) and all(map(np.array_equal, got[1], want[1]))


def test_symbols_of_inputs_and_of_host_ops_cross() -> None:
    b = Builder()
    n = b.symbol("n", 1, 9)
    x = b.input("x", tensor("f32", n, 4))
    found = b.nonzero(b.relu(x))  # [2, d]
    rows = b.exp(b.cast(found, to="f32"))
    spread = b.expand(b.constant(np.float32([[2.0]])), shape=[n, rows.shape[1]])  # no operand tells n or d
    b.output("y", b.mul(b.reduce_sum(rows, axes=[0], keepdims=True), spread))
    made = cut(b.module, named("index.nonzero"))
    assert kinds(made.module) == ["core.call", "index.nonzero", "core.call"]
    second = made.module.functions[made.natives[1]]
    origins = {s: second.symbols.declared(s).origin for s in second.symbols}
    assert {o.kind for o in origins.values()} == {"input"} and len(origins) == 2
    same(b.module, made, values(3, 4))


def test_what_natives_decide_reaches_the_others() -> None:
    """A bound number that no result's extents tell comes back as a value."""
    b = Builder()
    x, k = b.input("x", tensor("f32", 6)), b.input("k", tensor("i64", 1))
    bound = b.op(Bind, b.add(k, b.constant(np.int64([1]))), lower=[1], upper=[6]).result
    (size,) = b.known(bound)  # type: ignore[misc]
    host = b.neg(b.slice(x, starts=[0], sizes=[size], steps=[1]))
    b.output("y", b.exp(host))
    b.output("z", b.expand(b.constant(np.float32([1])), shape=[size * 2]))
    made = cut(b.module, lambda op: op.name in ("math.neg", "tensor.slice"))
    call = next(op for op in made.module.main.block if isinstance(op, Call))
    assert len(call.decided) == 1 and call.results[-1].type == tensor("i64", 1)
    assert made.module.main.symbols.declared(call.decided[0]).origin.op == call.id
    same(b.module, made, values(6), np.asarray([2]))


def test_checks_move_with_the_ops_that_decide() -> None:
    b = Builder()
    x, y = b.input("x", tensor("f32", 3, 3)), b.input("y", tensor("i64", 2, 4))
    found = b.nonzero(b.relu(x))
    b.output("z", b.neg(b.add(found, y)))  # d == 4 is checked behind nonzero
    assert b.function.symbols.checks
    for is_host in (named("math.neg"), named("index.nonzero")):
        made = cut(b.module, is_host)
        (check,) = made.module.main.symbols.checks
        owner = {op.id: op.name for op in made.module.main.block}[check.after_op]  # type: ignore[index]
        assert owner == (
            "core.call"
            if is_host(next(o for o in b.module.main.block if o.name == "math.neg"))
            else "index.nonzero"
        )


def test_relations_between_symbols_are_known_in_parts() -> None:
    b = Builder()
    n, m = b.symbol("n", 1, 9), b.symbol("m", 1, 9)
    x, y = b.input("x", tensor("f32", n)), b.input("y", tensor("f32", m))
    b.output("z", b.exp(b.add(b.neg(x), b.neg(y))))  # n == m is an entry check
    made = cut(b.module, named("math.neg"))
    (native,) = (made.module.functions[n] for n in made.natives)
    assert native.symbols.prove_eq(n, m) is True
    same(b.module, made, values(3), values(3))


def test_symbols_that_follow_from_others_are_given_too() -> None:
    b = Builder()
    n, m, k = b.symbol("n", 1, 9), b.symbol("m", 1, 99), b.symbol("k", 1, 99)
    b.function.symbols.assume_eq(m, 3 * n, "m is three n")
    b.function.symbols.assume_eq(k, 2 * n, "k is two n")
    x = b.input("x", tensor("f32", n))
    spread = b.expand(b.constant(np.float32([1])), shape=[m])
    b.output("y", b.neg(b.exp(spread)))
    b.output("z", b.neg(b.exp(b.neg(x))))
    made = cut(b.module, named("math.neg"))
    call = next(op for op in made.module.main.block if isinstance(op, Call))
    assert set(call.symbols) >= {"n", "m"}
    assert call.known_bindings({"n": 4})["m"] == 12
    same(b.module, made, values(4))


def test_parts_exchange_row_major_values() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 2, 8, 3, 3))
    last = permuted(0, 2, 3, 1)
    made_last = b.op(Relayout, b.exp(x), layouts=[last]).result
    host = b.neg(made_last)
    both = b.add(host, b.exp(host))
    b.output("y", b.op(Relayout, b.op(type(both.op), made_last, both, layouts=[last]).result).result)
    made = cut(b.module, named("math.neg"))
    for name in made.natives:
        function = made.module.functions[name]
        for value in (*function.inputs, *function.outputs):
            assert isinstance(value.type, TensorType) and value.type.layout.is_row_major
    same(b.module, made, values(2, 8, 3, 3))


def test_states_and_defaults_belong_to_the_host_program() -> None:
    from aino_ir.constants import Const

    b = Builder()
    x = b.input("x", tensor("f32", 3))
    b.function.defaults["x"] = Const.of(np.float32([1, 2, 3]))
    total = b.state("total", tensor("f32", 3))
    b.output("y", b.neg(b.add(x, total)))
    b.finish([b.add(total, x)])
    made = cut(b.function.module, named("math.neg"))
    main = made.module.main
    assert [s.name for s in main.states] == ["total"] and "x" in main.defaults
    assert not any(made.module.functions[n].states for n in made.natives)
    assert np.array_equal(run_module(made.module, [])[0], [-1, -2, -3])


def test_functions_that_host_ops_call_come_along() -> None:
    module = Module("m")
    b = Builder(module.add_function("main"))
    inner = Builder(module.add_function("native_0"))
    inner.output("y", inner.exp(inner.input("x", tensor("f32", 2))))
    inner.finish()
    x = b.input("x", tensor("f32", 2))
    b.output("y", b.relu(b.op(Call, x, callee="native_0").results[0]))
    made = cut(b.module, lambda op: op.name == "core.call")
    assert made.natives == ("native_1",) and set(made.module.functions) == {"main", "native_0", "native_1"}
    same(b.module, made, values(2))


def test_source_is_left_alone_and_ids_survive() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 3))
    y = b.exp(b.neg(b.exp(x)))
    b.output("y", y)
    before = print_module(b.module)
    made = cut(b.module, named("math.neg"))
    assert print_module(b.module) == before
    assert {op.id for op in b.module.walk() if op.results} <= {op.id for op in made.module.walk()}


# -- any graph -----------------------------------------------------------------------------------------

UNARY = ("exp", "neg", "abs", "relu")
BINARY = ("add", "mul", "maximum")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[Module, frozenset[int]]:
    """A random graph of maps over f32[n, 3], and positions of ops that run in Python."""
    b = Builder()
    n = b.symbol("n", 1, 8)
    pool: list[Value] = [b.input("x", tensor("f32", n, 3)), b.input("y", tensor("f32", n, 3))]
    pool.append(b.constant(np.float32([1, 2, 3])))
    count = draw(st.integers(1, 14))
    for _ in range(count):
        x, y = (pool[draw(st.integers(0, len(pool) - 1))] for _ in range(2))
        if draw(st.booleans()):
            pool.append(getattr(b, draw(st.sampled_from(UNARY)))(x))
        else:
            pool.append(b.add(x, y))
    for number, value in enumerate(pool[-3:]):
        b.output(f"o{number}", value)
    return b.module, draw(st.frozensets(st.integers(0, count + 3)))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(graphs())
def test_any_cut_of_any_graph_means_the_same(drawn: tuple[Module, frozenset[int]]) -> None:
    module, positions = drawn
    ops = [op for op in module.main.block if op.name not in ("core.constant", "core.return")]
    chosen = {op for i, op in enumerate(ops) if i in positions}
    made = cut(module, lambda op: op in chosen)
    assert len(made.host) == len(chosen)
    assert len(made.natives) == least_native_parts(module, chosen)
    same(module, made, values(2, 3), -values(2, 3))


def least_native_parts(module: Module, host: set[Op]) -> int:
    """Native parts on the path that alternates most often."""
    depth: dict[Op, int] = {}
    for op in module.main.block:
        if op.name in ("core.constant", "core.return"):
            continue
        before = [depth[v.op] for v in op.present_operands() if v.op in depth]
        native_before = [depth[v.op] for v in op.present_operands() if v.op in depth and v.op not in host]
        if op in host:
            depth[op] = max(before, default=0)
        else:
            through_host = [depth[v.op] + 1 for v in op.present_operands() if v.op in depth and v.op in host]
            depth[op] = max([*native_before, *through_host], default=1)
    return max((d for op, d in depth.items() if op not in host), default=0)


def test_cutting_is_linear() -> None:
    """20,000 ops that alternate every 100 ops: each op is looked at a few times."""
    b = Builder()
    x = b.input("x", tensor("f32", 2))
    for i in range(20_000):
        x = b.neg(x) if i % 100 == 99 else b.relu(x)
    b.output("y", x)
    phases = op_phases(b.module.main, {op: "" for op in b.module.main.block if op.name == "math.neg"})
    assert len(set(phases.values())) == 400
    reasons = {op: "" for op in b.module.main.block if op.name == "math.neg"}
    assert len(outline(b.module.main, reasons).natives) == 200


def test_reshapes_are_native() -> None:
    b = Builder()
    b.output("y", b.neg(b.op(Reshape, b.neg(b.input("x", tensor("f32", 2, 3))), shape=[6]).result))
    assert kinds(cut(b.module, named("math.neg")).module) == ["math.neg", "core.call", "math.neg"]


@pytest.mark.parametrize("count", [0, 1])
def test_modules_of_one_kind(count: int) -> None:
    b = Builder()
    b.output("y", b.neg(b.input("x", tensor("f32", 2))))
    made = cut(b.module, (lambda op: True) if count else (lambda op: False))
    assert len(made.natives) == 1 - count and len(made.host) == count
    same(b.module, made, values(2))
