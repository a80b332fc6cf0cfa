"""Functions of extents, for ops that tell what they compute while types are inferred.

Operands are then object arrays of ints and Dims; what cannot be told is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.dims import Dim, DimLike

Array = np.ndarray[Any, Any]


def is_symbolic(ev: Any) -> bool:
    """Whether operands are object arrays of ints and Dims."""
    return bool(getattr(ev, "symbolic", False))


def sign_of(symbols: Any, dim: DimLike) -> int | None:
    """The sign of an extent; None when it cannot be told."""
    if symbols.prove_eq(dim, 0):
        return 0
    return 1 if symbols.prove_gt(dim, 0) else -1 if symbols.prove_gt(0, dim) else None


def elementwise_dims(function: Callable[..., Any], *arrays: Array) -> Array:
    """function over the elements of object arrays, broadcast; None marks what cannot be told."""
    return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), dtype=object)


def truncated_quotient(ev: Any, a: DimLike, b: DimLike) -> DimLike | None:
    """a / b on extents, where truncation is provably floor division; None when it is not."""
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return None if b == 0 else int(abs(a) // abs(b)) * (1 if (a < 0) == (b < 0) else -1)
    if ev.symbols.prove_ge(a, 0) and ev.symbols.prove_ge(b, 1):
        return a // b
    return None


def floor_quotient(ev: Any, a: DimLike, b: DimLike) -> DimLike | None:
    """a // b on extents, where b is provably not zero; else None."""
    return a // b if ev.symbols.prove_eq(b, 0) is False else None
