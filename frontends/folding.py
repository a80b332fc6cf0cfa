"""Contents of small values that follow from constants, computed while a frontend lowers."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from aino_ir.errors.base import AinoError
from aino_ir.graph import Value
from aino_ir.interp import Evaluation, run_op
from aino_ir.op import Op, Trait
from aino_ir.ops.core import Constant
from aino_ir.types import TensorType

FOLD_LIMIT = 4096
"""Values of at most this many elements are computed while lowering, when a lowering asks for them."""

FOLD_DEPTH = 64
"""Ops behind one such value that are computed at most, one behind the other."""

Array: TypeAlias = "np.ndarray[Any, Any]"


def constant_array(value: Value) -> Array | None:
    """Contents of a small value that follows from constants alone, or None."""
    return _constant_array(value, {}, 0)


def _constant_array(value: Value, seen: dict[Value, Array | None], depth: int) -> Array | None:
    op = value.op
    if isinstance(op, Constant):
        return op.value.array() if op.value.size <= FOLD_LIMIT else None
    if op is None or depth > FOLD_DEPTH or not _foldable(op):
        return None
    if value not in seen:
        env: dict[Value, Any] = {}
        for operand in op.present_operands():
            env[operand] = _constant_array(operand, seen, depth + 1)
        unknown = any(array is None for array in env.values())
        if not unknown:
            try:
                run_op(op, env, Evaluation())
            except AinoError:  # an index out of range, a division by zero: left for the run, if it gets there
                unknown = True
        seen.update({r: None if unknown else env[r] for r in op.results})
    return seen[value]


def _foldable(op: Op) -> bool:
    if op.regions or op.has(Trait.RANDOM) or op.has(Trait.HOST) or op.has(Trait.DATA_DEPENDENT):
        return False
    return not op.reads_symbols() and all(
        isinstance(r.type, TensorType) and r.type.is_static and int(r.type.size) <= FOLD_LIMIT  # type: ignore[arg-type]
        for r in op.results
    )
