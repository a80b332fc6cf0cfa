"""Small modules lowered, planned and compared with the interpreter, and what tests count in their plans."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.plan import BufferKind, Plan, Run, Sync
from aino_ir.types import tensor
from tests.codegen.native import interpret_plan, planned

RNG = np.random.default_rng(5)

Array = np.ndarray[Any, Any]


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def check(module: Module, *inputs: Array, symbols: dict[str, int] | None = None) -> Plan:
    """The plan of a module, after its kernels gave in the loop interpreter what the interpreter says."""
    plan = planned(module)
    got = interpret_plan(plan, inputs, symbols)
    for a, b in zip(got, run_module(module, list(inputs)), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    return plan


def runs(plan: Plan) -> list[Run]:
    return [s for s in plan.steps if isinstance(s, Run)]


def anchors(plan: Plan) -> list[str]:
    """What each step's kernel is, in order."""
    return [plan.kernels[r.kernel].spec.anchor for r in runs(plan)]


def barriers(plan: Plan) -> int:
    return sum(isinstance(s, Sync) for s in plan.steps)


def arena(plan: Plan) -> list[int]:
    """Bytes of the arena buffers that kernels use."""
    used = {v.buffer for r in runs(plan) for v in r.views}
    return [int(b.bytes) for b in plan.buffers if b.kind is BufferKind.ARENA and b.id in used]  # type: ignore[arg-type]


def one_input(build: Callable[..., Any], *shape: int) -> Module:
    """A module with an input x; `build` returns its outputs."""
    b = Builder()
    made = build(b, b.input("x", tensor("f32", *shape)))
    for n, value in enumerate(made if isinstance(made, (list, tuple)) else [made]):
        b.output(f"y{n}", value)
    return b.module
