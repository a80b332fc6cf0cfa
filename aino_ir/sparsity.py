"""Which elements of a constant are zero: a fact that kernel generators read.

Sparsity is no part of a type: it belongs to the contents of a handle.  Only constants with enough
zeros to matter get a pattern, so that dense layers of equal shape go on sharing one kernel.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.constants import Const

LEAST_SHARE = 0.5
"""Share of zeros below which nothing gains from knowing them."""

LEAST_ELEMENTS = 256
"""Smaller constants are not looked at."""


@dataclass(frozen=True)
class ZeroPattern:
    """Where a constant may differ from zero; everywhere else it is zero (of either sign).

    Attributes:
        shape: of the constant.
        nonzeros: elements that may differ from zero.
        digest: hash of the mask; what tells patterns apart.
        mask: bool, of that shape: true where the constant may differ from zero.
    """

    shape: tuple[int, ...]
    nonzeros: int
    digest: str
    mask: np.ndarray[Any, Any] = field(compare=False, repr=False)

    @staticmethod
    def of(mask: np.ndarray[Any, Any]) -> ZeroPattern:
        """The pattern of a mask."""
        mask = np.ascontiguousarray(mask, bool)
        digest = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()[:32]
        return ZeroPattern(tuple(mask.shape), int(np.count_nonzero(mask)), digest, mask)

    @property
    def density(self) -> float:
        """Share of the elements that may differ from zero."""
        return self.nonzeros / max(1, self.mask.size)


def zero_pattern(handle: Const) -> ZeroPattern | None:
    """The pattern of a constant, or None where it is small or has few zeros; remembered in the handle.

    A lazy constant is evaluated only when one of its inputs has a pattern: sums and products of dense
    weights are dense.
    """
    known = handle.facts.get("zeros", False)
    if known is False:
        known = handle.facts["zeros"] = _found(handle)
    assert known is None or isinstance(known, ZeroPattern)
    return known


def _found(handle: Const) -> ZeroPattern | None:
    if not handle.dtype.is_float or len(handle.shape) < 2 or handle.size < LEAST_ELEMENTS:
        return None
    if handle.is_lazy and not any(zero_pattern(c) is not None for c in handle.inputs):
        return None
    mask = handle.array() != 0
    zeros = handle.size - int(np.count_nonzero(mask))
    return ZeroPattern.of(mask) if zeros >= LEAST_SHARE * handle.size else None
