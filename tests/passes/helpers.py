"""What tests of passes share: run a pass under full suspicion, and compare meaning before and after."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.passes.base import Pass, PassContext
from aino_ir.passes.manager import PassManager, PipelineReport
from aino_ir.tolerance import disagreement
from aino_ir.types import TensorType
from aino_ir.verify import verify


def op_names(module: Module) -> list[str]:
    """Ops of main in order, without constants and the return."""
    return [op.name for op in module.main.block if op.name not in ("core.constant", "core.return")]


def inputs_for(module: Module, seed: int = 0, **symbols: int) -> list[np.ndarray]:
    """Random inputs for main: floats normal, integers 0..3, symbols as given."""
    rng = np.random.default_rng(seed)
    out = []
    for value in module.main.inputs:
        type = value.type
        assert isinstance(type, TensorType)
        shape = tuple(d if isinstance(d, int) else d.evaluate(symbols) for d in type.shape)
        if type.dtype.is_bool:
            out.append(rng.random(shape) < 0.5)
        elif type.dtype.is_integer:
            out.append(rng.integers(0, 4, shape).astype(type.dtype.numpy))
        else:
            out.append(rng.standard_normal(shape).astype(type.dtype.numpy))
    return out


def run_pass(
    passes: Sequence[Pass | str] | Pass | str, module: Module, ctx: PassContext | None = None
) -> PipelineReport:
    """Run passes with every check on; nothing may be undone, and each site must be accounted for."""
    items = [passes] if isinstance(passes, (Pass, str)) else passes
    verify(module)
    report = PassManager(items, verify_all=True).run(module, ctx)
    verify(module)
    assert not report.undone
    assert report.sites.complete
    return report


def assert_same_meaning(
    before: Module, after: Module, error_class: str = "reordered", terms: int = 4096, **symbols: int
) -> None:
    """Both modules give the same outputs, judged in double precision."""
    arrays = inputs_for(before, **symbols)
    for want, got, value in zip(
        run_module(before, arrays, "wide"),
        run_module(after, arrays, "wide"),
        before.main.outputs,
        strict=True,
    ):
        assert disagreement(got, want, error_class, dtype=value.dtype, terms=terms) is None


def assert_fuses(
    module: Module,
    passes: Sequence[Pass | str] | Pass | str,
    ops: list[str],
    ctx: PassContext | None = None,
    **symbols: Any,
) -> PipelineReport:
    """Running the passes leaves `ops`, means the same, and running them again changes nothing."""
    before = module.clone()
    report = run_pass(passes, module, ctx)
    assert op_names(module) == ops
    assert_same_meaning(before, module, **symbols)
    assert not run_pass(passes, module, ctx).changed, "the pass is not idempotent"
    return report


def assert_not_fused(
    module: Module, passes: Sequence[Pass | str] | Pass | str, reason: str, ctx: PassContext | None = None
) -> None:
    """Running the passes changes nothing, and a refusal says why."""
    ctx = ctx if ctx is not None else PassContext()
    before = op_names(module)
    run_pass(passes, module, ctx)
    assert op_names(module) == before
    reasons = [refusal.reason for _, refusal in ctx.refusals]
    assert any(reason in r for r in reasons), reasons
