"""What the ops of a kernel mean on given operands, and where that tells something about the kernel.

The interpreter says it in two precisions.  Where a rounding that nobody promises decides (a tie, a factor
below the normal numbers), a kernel may be right with another result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.definition_interp import evaluate_definition
from aino_ir.dtypes import DType, f32, float_info
from aino_ir.graph import Value
from aino_ir.interp import Evaluation, Precision, run_op, store_array
from aino_ir.kernels import Kernel
from aino_ir.passes.trials import inner_ops, random_array
from aino_ir.pattern import constant_of
from aino_ir.sampling import seeded
from aino_ir.tolerance import APPROXIMATE, disagreement, epsilon, tiny
from aino_ir.types import TensorType, Type

Array = np.ndarray[Any, Any]

PRECISIONS: tuple[Precision, ...] = ("native", "wide")
"""In which the meaning of a kernel is computed."""


def meaning(kernel: Kernel, arrays: Sequence[Array], ev: Evaluation) -> list[Array]:
    """What the results should be."""
    origin = kernel.origin
    if origin is None:
        types = [TensorType(o.dtype, o.shape) for o in kernel.spec.operands]
        results = [TensorType(r.dtype, r.shape) for r in kernel.spec.results]
        return list(evaluate_definition(kernel.spec.program, arrays, types, results, ev.bindings))  # type: ignore[arg-type]
    env: dict[Value, Any] = {}
    for value in origin.op.present_operands():
        handle = constant_of(value)
        if handle is not None and value not in origin.operands:  # a literal in the kernel
            env[value] = store_array(handle.array(), value.type, ev.precision)
        elif value not in origin.operands:
            fixed = fixed_contents(value, ev)
            if fixed is None:  # nothing reads it but its shape
                fixed = random_array(value.type, ev, seeded(str(value.type)), "plain")  # type: ignore[arg-type]
            env[value] = store_array(fixed, value.type, ev.precision)
    for value, array in zip(origin.operands, arrays, strict=True):
        env[value] = store_array(array, value.type, ev.precision)
    run_op(origin.op, env, ev)
    return [np.asarray(env[r]) for r in origin.op.results]


def fixed_contents(value: Value, ev: Evaluation) -> Array | None:
    """Contents that must not be made up: known sizes and positions."""
    if value.known is not None:
        flat = [ev.size(d) for d in value.known.reshape(-1).tolist()]
        return np.array(flat, value.dtype.numpy).reshape(value.known.shape)
    handle = constant_of(value)
    if handle is not None and not handle.dtype.is_float:
        return np.asarray(handle.array())
    return None


class FlushingEvaluation(Evaluation):
    """Rounds every result below the normal numbers to zero, as a factor inside of an expression may be."""

    def stored(self, array: Any, type: Type) -> Any:
        """A result as it is kept."""
        kept = super().stored(array, type)
        if not isinstance(type, TensorType) or not type.dtype.is_float:
            return kept
        least = float(float_info(type.dtype).smallest_normal)
        return np.where(np.abs(kept.astype(np.float64)) < least, np.zeros((), kept.dtype), kept)


class NudgedEvaluation(Evaluation):
    """Moves every float result by as much as a kernel may be off, all up or all down."""

    def __init__(self, bindings: dict[str, int], share: float) -> None:
        super().__init__("native", bindings)
        self.share = share

    def stored(self, array: Any, type: Type) -> Any:
        """A result as it is kept, off by a share of the largest one."""
        kept = super().stored(array, type)
        if not isinstance(type, TensorType) or not type.dtype.is_float:
            return kept
        values = kept.astype(np.float64)
        largest = float(np.max(np.abs(values), initial=0.0, where=np.isfinite(values)))
        return super().stored(values + self.share * largest, type)


def far_from_ties(
    kernel: Kernel, arrays: Sequence[Array], bindings: dict[str, int], native: Sequence[Array], terms: int
) -> list[Array]:
    """Where the integers that floats are rounded to do not hang on what the floats may be off by.

    A norm whose sums come in another order gives 109 or 108 where 108.5 is meant; both are right.
    """
    everywhere = np.ones((), np.bool_)
    floats = kernel.origin is not None and any(
        isinstance(r.type, TensorType) and r.type.dtype.is_float
        for op in inner_ops(kernel.origin.op)
        for r in op.results
    )
    if not floats or not any(a.dtype.kind in "iu" for a in native):
        return [everywhere for _ in native]
    loose = kernel.candidate.error_class == "approximate"
    share = APPROXIMATE["f32"] if loose else 8.0 * epsilon(f32) * float(np.sqrt(max(terms, 1)))
    moved = [meaning(kernel, arrays, NudgedEvaluation(dict(bindings), s)) for s in (share, -share)]
    return [
        np.asarray((a == up) & (a == down)) if a.dtype.kind in "iu" else everywhere
        for a, up, down in zip(native, *moved, strict=True)
    ]


def same_kind(a: Array, b: Array) -> Array:
    """Where both are numbers, both NaN or both infinite."""
    if a.dtype.kind in "iub":
        return np.asarray(a == b)
    return np.asarray((np.isnan(a) == np.isnan(b)) & (np.isinf(a) == np.isinf(b)))


def precision_of(kernel: Kernel, dtype: DType) -> DType:
    """The dtype whose precision counts for a result: the coarsest in which something behind it is computed.

    What a function in f32 is off by stays when its result is converted to f64.
    """
    if not dtype.is_float:
        return dtype
    if kernel.candidate.precision is not None:
        dtype = min(dtype, kernel.candidate.precision, key=lambda d: d.bits)
    if kernel.origin is None:
        return dtype
    ops = [kernel.origin.op, *inner_ops(kernel.origin.op)]
    types = [r.type for op in ops for r in op.results]
    behind = [t.dtype.compute for t in types if isinstance(t, TensorType) and t.dtype.is_float]
    return min([dtype, *behind], key=lambda d: d.bits)


def difference(
    actual: Array, native: Array, wide: Array, sure: Array, dtype: DType, error_class: str, terms: int
) -> str:
    """Why a result is wrong, or "": as near as may be to either precision of the interpreter.

    Elements on which those two part (an overflow, a difference of nearly equal numbers, a comparison that
    goes by one rounding) say nothing about the kernel and are left out, and so do those below the normal
    numbers, which a factor in the middle of an expression may already have rounded to zero, and those that
    are not `sure` because such a factor meets an infinity.
    """
    if disagreement(actual, native, error_class, dtype=dtype, terms=terms) is None:
        return ""
    reason = disagreement(actual, wide, error_class, dtype=dtype, terms=terms)
    if reason is None:
        return ""
    telling = native == wide
    if dtype.is_float:
        n, w = native.astype(np.float64), wide.astype(np.float64)
        with np.errstate(all="ignore"):
            largest = float(np.max(np.abs(w), initial=0.0, where=np.isfinite(w)))
            near = np.abs(n - w) <= 2.0 * epsilon(dtype) * np.sqrt(max(terms, 1)) * largest + tiny(dtype)
            telling = telling | near | (np.isnan(n) & np.isnan(w))
            least = float(float_info(dtype).smallest_normal)
            telling = telling & ~((np.abs(w) < least) & (np.abs(actual.astype(np.float64)) < least))
    kept = np.where(telling & sure, actual, native)
    return disagreement(kept, native, error_class, dtype=dtype, terms=terms) or ""
