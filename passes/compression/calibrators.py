"""Calibrators: from what an activation held to the range that its 8 bits should cover.

All return (low, high) with low <= 0 <= high, so that zero is a number that 8 bits hold exactly.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from aino_ir.passes.compression.calibration import Seen

Array = np.ndarray[Any, Any]
Range = tuple[float, float]

PERCENTILE = 99.99
"""Share of the values that `percentile` keeps inside, in percent."""

SHRINKINGS = np.linspace(0.2, 1.0, 81)
"""Parts of each end that `mse` tries."""

BINS, LEVELS = 2048, 128
"""Bins of the histogram that `entropy` looks at, and levels that a half of the range has."""


def minmax(seen: Seen) -> Range:
    """Everything that was seen."""
    return seen.low, seen.high


def percentile(seen: Seen) -> Range:
    """All but the outermost values."""
    low, high = np.percentile(seen.values, [100 - PERCENTILE, PERCENTILE])
    return float(low), float(high)


def mse(seen: Seen) -> Range:
    """The ends, one after the other, that lose least when the values are quantised to 8 bits."""
    values = seen.values.astype(np.float64)
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    high *= min(SHRINKINGS, key=lambda part: _loss(values, low, high * part))
    low *= min(SHRINKINGS, key=lambda part: _loss(values, low * part, high))
    return low, high


def _loss(values: Array, low: float, high: float) -> float:
    """Mean squared error of 8 bits over a range."""
    scale = (high - low) / 255 or 1.0
    zero = np.rint(-low / scale)
    back = (np.clip(np.rint(values / scale) + zero, 0, 255) - zero) * scale
    return float(np.mean((back - values) ** 2)) if values.size else 0.0


def entropy(seen: Seen) -> Range:
    """The threshold whose quantised distribution tells most of the real one.

    Migacz, "8-bit Inference with TensorRT" (2017): the least Kullback-Leibler divergence, values beyond the
    threshold counted at it.
    """
    size = np.abs(seen.values)
    top = float(size.max(initial=0.0))
    if top == 0.0:
        return seen.low, seen.high
    counts, edges = np.histogram(size, bins=BINS, range=(0.0, top))
    best, threshold = np.inf, top
    for stop in range(LEVELS, BINS + 1, 16):
        divergence = _divergence(counts.astype(np.float64), stop)
        if divergence < best:
            best, threshold = divergence, float(edges[stop])
    return max(seen.low, -threshold), min(seen.high, threshold)


def _divergence(counts: Array, stop: int) -> float:
    """Of the distribution cut at bin `stop` from the same with only LEVELS levels."""
    reference = counts[:stop].copy()
    reference[-1] += counts[stop:].sum()
    level = np.arange(stop) * LEVELS // stop
    filled = counts[:stop] > 0
    sums = np.bincount(level, weights=counts[:stop], minlength=LEVELS)
    members = np.bincount(level, weights=filled, minlength=LEVELS)
    spread = np.where(filled, (sums / np.maximum(members, 1))[level], 0.0)
    p, q = reference / reference.sum(), spread / max(spread.sum(), 1e-12)
    where = p > 0
    return float(np.sum(p[where] * np.log(p[where] / np.maximum(q[where], 1e-12))))


CALIBRATORS: dict[str, Callable[[Seen], Range]] = {
    "minmax": minmax,
    "percentile": percentile,
    "entropy": entropy,
    "mse": mse,
}
"""Every calibrator by name."""


def with_zero(found: Range) -> Range:
    """A range that holds 0; an empty one where nothing was seen."""
    low, high = found
    if not np.isfinite(low) or not np.isfinite(high):
        return 0.0, 0.0
    return min(low, 0.0), max(high, 0.0)
