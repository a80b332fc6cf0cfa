"""Whether the results of a graph agree with the interpreter's, whatever the order of sums.

The interpreter runs in native and in double precision; how far the two are apart says how much rounding the
graph as a whole amplifies.  A result may be as far off as the one tolerance function allows an approximation,
or `AMPLIFIED` times that distance.  Where the two interpreters disagree on what is finite, rounding decides,
and nothing is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.tolerance import disagreement

Array = np.ndarray[Any, Any]

AMPLIFIED = 64.0


class Oracle:
    """What a module's outputs should be."""

    def __init__(self, module: Module, arrays: Sequence[Array]) -> None:
        """Run the interpreter; AinoError when the module is in error on these inputs."""
        self.native = run_module(module, arrays)
        self.wide = run_module(module, arrays, "wide")

    def judge(self, results: Sequence[Any]) -> str | None:
        """Why results are not acceptable, or None."""
        for n, (got, native, wide) in enumerate(zip(results, self.native, self.wide, strict=True)):
            why = _disagreement(np.asarray(got), np.asarray(native), np.asarray(wide))
            if why:
                return f"output {n}: {why}"
        return None


def _disagreement(got: Array, native: Array, wide: Array) -> str | None:
    if got.dtype != native.dtype or got.shape != native.shape:
        return f"{got.dtype}{got.shape} instead of {native.dtype}{native.shape}"
    why = disagreement(got, native, "approximate")
    if why is None or not _is_float(native):
        return why
    a, r, w = (v.astype(np.float64) for v in (got, native, wide))
    finite = np.isfinite(r) & np.isfinite(w)
    decided = finite | (np.isnan(r) & np.isnan(w)) | ((r == w) & np.isinf(r))
    with np.errstate(all="ignore"):
        noise = np.abs(r - w)[finite].max(initial=0.0) * AMPLIFIED
        close = (np.abs(a - r) <= noise) | ~finite
    same = (np.isnan(a) & np.isnan(r)) | (a == r)
    if np.all(np.where(decided, same | (close & finite), True)):
        return None
    return why


def _is_float(array: Array) -> bool:
    return array.dtype.kind == "f" or array.dtype.kind == "V" or "float" in array.dtype.name
