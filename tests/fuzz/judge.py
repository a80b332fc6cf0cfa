"""Whether the results of a graph agree with the interpreter's, whatever the order of sums.

The interpreter runs in native and in double precision; how far the two are apart says how much rounding the
graph as a whole amplifies.  A result may be as far off as the one tolerance function allows an approximation,
or `AMPLIFIED` times that distance.  Where the two interpreters disagree on what is finite, rounding decides,
and nothing is compared.

Other engines compute a few ops as the difference of near numbers: what such a result is off, and what becomes
of that, is found by a run in which these ops are off by as much.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.graph import Module
from aino_ir.interp import Evaluation, bind_shape, run_module, run_op
from aino_ir.op import Trait
from aino_ir.tolerance import disagreement

Array = np.ndarray[Any, Any]

AMPLIFIED = 64.0


DIFFERENCES: dict[str, Callable[[Array], Array]] = {
    "math.gelu": lambda x: 4 * np.abs(x),  # x/2 (1 + tanh ...), whatever is left of it
    "math.erfc": np.ones_like,  # 1 - erf(x)
}
"""Roundings of an engine's result, relative to these numbers and not to the result."""


class Oracle:
    """What a module's outputs should be; `engine` says that another engine made what will be judged."""

    def __init__(self, module: Module, arrays: Sequence[Array], engine: bool = False) -> None:
        """Run the interpreter; AinoError when the module is in error on these inputs."""
        self.native = run_module(module, arrays)
        self.wide = run_module(module, arrays, "wide")
        self.shaken = shaken(module, arrays) if engine else self.native

    def judge(self, results: Sequence[Any]) -> str | None:
        """Why results are not acceptable, or None."""
        for n, values in enumerate(zip(results, self.native, self.wide, self.shaken, strict=True)):
            why = _disagreement(*map(np.asarray, values))
            if why:
                return f"output {n}: {why}"
        return None


def shaken(module: Module, arrays: Sequence[Array]) -> tuple[Array, ...]:
    """Outputs of a run in which the ops of `DIFFERENCES` are as far off as an engine may be."""
    block, ev = module.main.block, Evaluation(symbols=module.main.symbols)
    env: dict[Any, Any] = dict(zip(block.args, arrays, strict=True))
    for argument in block.args:
        bind_shape(argument.type, env[argument], ev, argument.name)
    for op in block:
        if op.has(Trait.TERMINATOR):
            return tuple(env[v] for v in op.present_operands())
        run_op(op, env, ev)
        scale = DIFFERENCES.get(op.name)
        if scale is not None:
            result, operand = op.results[0], env[op.operands[0]].astype(np.float64)
            off = scale(operand) * np.finfo(np.float32 if result.dtype.bits < 64 else np.float64).eps
            with np.errstate(all="ignore"):
                env[result] = (env[result].astype(np.float64) + off).astype(env[result].dtype)
    raise AssertionError("a block without a terminator")


def _disagreement(got: Array, native: Array, wide: Array, shaken: Array) -> str | None:
    if got.dtype != native.dtype or got.shape != native.shape:
        return f"{got.dtype}{got.shape} instead of {native.dtype}{native.shape}"
    why = disagreement(got, native, "approximate")
    if why is None or not _is_float(native):
        return why
    a, r, w, s = (v.astype(np.float64) for v in (got, native, wide, shaken))
    finite = np.isfinite(r) & np.isfinite(w)
    decided = finite | (np.isnan(r) & np.isnan(w)) | ((r == w) & np.isinf(r))
    with np.errstate(all="ignore"):
        noise = np.abs(r - w)[finite].max(initial=0.0) * AMPLIFIED
        noise += np.abs(r - s)[finite & np.isfinite(s)].max(initial=0.0)
        close = (np.abs(a - r) <= noise) | ~finite
    same = (np.isnan(a) & np.isnan(r)) | (a == r)
    if np.all(np.where(decided, same | (close & finite), True)):
        return None
    return why


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.kind == "V" or "float" in array.dtype.name
