"""Random nests of choices, loops and scans: the plan, run step by step, gives what the interpreter gives.

Kernels run in the loop interpreter over one memory in which buffers share bytes as planned, so that a value
overwritten too early, or a buffer that dies too soon, shows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from aino_ir.builder import Builder, op_class
from aino_ir.codegen.lower.legality import obstacles
from aino_ir.graph import Module, Value
from aino_ir.interp import run_module
from aino_ir.types import tensor
from aino_ir.verify import verify
from tests.codegen.native import interpret_plan, planned

FLAG, COUNT, DATA = tensor("bool"), tensor("i64"), tensor("f32", 2, 3)
Array = np.ndarray[Any, Any]

SEEDS = range(12)
"""More were run when this was written; failures among them would be kept here."""


class Program:
    """Grows a module; every value in a pool is f32[2, 3]."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.b = Builder()
        self.flags = [self.b.input(f"c{i}", FLAG) for i in range(2)]
        self.counts = [self.b.input(f"n{i}", COUNT) for i in range(2)]
        pool = [self.b.input(f"x{i}", DATA) for i in range(3)]
        self.grow(self.b, pool, 8, 2)
        picked = self.some(pool, 4)
        for i, value in enumerate([*picked, self.joined(self.b, picked)]):
            self.b.output(f"y{i}", value)

    @property
    def module(self) -> Module:
        return self.b.module

    def one(self, pool: list[Value]) -> Value:
        recent = pool[-4:] if self.rng.random() < 0.6 else pool
        return recent[self.rng.integers(len(recent))]

    def some(self, pool: list[Value], most: int, least: int = 1) -> list[Value]:
        return [self.one(pool) for _ in range(self.rng.integers(least, most + 1))]

    def joined(self, b: Any, values: list[Value]) -> Value:
        whole = b.concat(*values, axis=0)
        return b.slice(whole, starts=(0, 0), sizes=(2 * len(values), 3), steps=(1, 1))  # type: ignore[no-any-return]

    def grow(self, b: Any, pool: list[Value], count: int, depth: int) -> None:
        """Add values to a pool; control flow nests `depth` deep."""
        makers: list[Callable[[Any, list[Value], int], list[Value]]] = [self.plain] * 4 + [self.moved] * 2
        if depth:
            makers += [self.choice, self.loop, self.scan]
        for _ in range(count):
            pool += makers[self.rng.integers(len(makers))](b, pool, depth - 1)

    def plain(self, b: Any, pool: list[Value], depth: int) -> list[Value]:
        x, y = self.one(pool), self.one(pool)
        kind = self.rng.integers(4)
        if kind == 0:
            return [b.tanh(x)]
        if kind == 1:
            return [b.tanh(b.matmul(b.matmul(x, b.reshape(y, shape=(3, 2))), x))]
        return [b.add(x, y)] if kind == 2 else [b.mul(b.tanh(x), b.tanh(y))]

    def moved(self, b: Any, pool: list[Value], depth: int) -> list[Value]:
        x, kind = self.one(pool), self.rng.integers(4)
        if kind == 0:
            return [b.reshape(b.transpose(x, perm=(1, 0)), shape=(2, 3))]
        if kind == 1:
            return [
                b.concat(*(b.slice(x, starts=(r, 0), sizes=(1, 3), steps=(1, 1)) for r in (1, 0)), axis=0)
            ]
        if kind == 2:
            return [b.reshape(b.reshape(x, shape=(6,)), shape=(2, 3))]
        y = self.one(pool)
        return [b.slice(b.concat(x, y, axis=0), starts=(1, 0), sizes=(2, 3), steps=(1, 1))]

    def positive(self, b: Any, x: Value) -> Value:
        return b.gt(b.reduce_sum(x), b.constant(np.float32(0)))  # type: ignore[no-any-return]

    def body(
        self, types: list[Any], leading: int, results: int, depth: int, first: Callable[..., list[Value]]
    ) -> Any:
        """A region: its data arguments are a pool, `first` gives what it yields before the data."""

        def build(b: Any, *arguments: Value) -> list[Value]:
            pool = list(arguments[leading:])
            self.grow(b, pool, int(self.rng.integers(0, 5)), depth)
            yields = [self.one(pool) for _ in range(results)]
            return [*first(b, pool, *arguments[:leading]), *yields]

        return build

    def choice(self, b: Any, pool: list[Value], depth: int) -> list[Value]:
        captures = self.some(pool, 3)
        condition = self.positive(b, self.one(pool))
        results = int(self.rng.integers(1, 4))
        types = [DATA] * len(captures)
        regions = [b.region(types, self.body(types, 0, results, depth, lambda b, pool: [])) for _ in range(2)]
        return list(b.op(op_class("control.if"), condition, *captures, regions=regions).results)

    def loop(self, b: Any, pool: list[Value], depth: int) -> list[Value]:
        carried, captures = self.some(pool, 3), self.some(pool, 2, 0)
        types = [COUNT, FLAG, *[DATA] * (len(carried) + len(captures))]
        stacked = int(self.rng.integers(0, 2))
        ends, turns = self.rng.random() < 0.5, int(self.rng.integers(0, 4))

        def condition(b: Any, pool: list[Value], turn: Value, going: Value) -> list[Value]:
            pool.append(b.mul(pool[0], b.cast(turn, to="f32")))
            return [self.positive(b, self.one(pool)) if ends else going]

        region = b.region(types, self.body(types, 2, len(carried) + stacked, depth, condition))
        attributes = {"carried": len(carried), "counted": not ends}
        op = b.op(
            op_class("control.loop"),
            b.constant(np.int64(turns)),
            None,
            *carried,
            *captures,
            regions=[region],
            **attributes,
        )
        stacks = [b.reduce_sum(s, axes=(0,)) for s in op.results[len(carried) :]]
        return [*op.results[: len(carried)], *stacks]

    def scan(self, b: Any, pool: list[Value], depth: int) -> list[Value]:
        states, captures = self.some(pool, 2), self.some(pool, 2, 0)
        pieces = self.some(pool, 3)
        sequence = b.reshape(b.concat(*pieces, axis=0), shape=(len(pieces), 2, 3))
        if self.rng.random() < 0.3:
            sequence = b.transpose(b.transpose(sequence, perm=(1, 0, 2)), perm=(1, 0, 2))
        types = [DATA] * (len(states) + 1 + len(captures))
        region = b.region(types, self.body(types, 0, len(states) + 1, depth, lambda b, pool: []))
        values = (*states, sequence, *captures)
        op = b.op(op_class("control.scan"), *values, states=len(states), sequences=1, regions=[region])
        return [*op.results[: len(states)], b.reduce_sum(op.results[-1], axes=(0,))]


@pytest.mark.parametrize("seed", SEEDS)
def test_random_programs(seed: int) -> None:
    module = Program(seed).module
    verify(module)
    assert not list(obstacles(module.main))
    rng = np.random.default_rng(seed)
    plan = planned(module, "c:vec128")
    for _ in range(2):
        inputs = [np.array(rng.random() < 0.5) for _ in range(2)] + [np.array(2)] * 2
        inputs += [rng.standard_normal((2, 3)).astype(np.float32) for _ in range(3)]
        wanted = run_module(module, list(inputs))
        lengths = dict.fromkeys(plan.symbols, 0)
        for got, want in zip(interpret_plan(plan, inputs, lengths), wanted, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
