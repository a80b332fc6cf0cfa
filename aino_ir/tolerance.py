"""The one judgement of whether computed arrays agree: validation, tests and `ainoc verify` all ask here.

Error classes: ``exact`` = the same bits (NaN equals NaN, -0 equals 0); ``reordered`` = another order
of the same sums; ``approximate`` = a gated approximation; ``lossy`` = a declared signal-to-noise ratio.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.dtypes import DType, dtype_of, f16, float_info

Array = np.ndarray[Any, Any]

APPROXIMATE = {"f64": 1e-4, "f32": 1e-4, "f16": 1e-3, "bf16": 2.0**-6}
"""Largest error of an approximation, as a share of the largest |reference|; coarser dtypes: one rounding."""

PRODUCT_PRECISION = {"tf32": f16}
"""What stands behind a target's name -> whose precision its products of f32 have: they have as many bits."""


def disagreement(
    actual: Any,
    reference: Any,
    error_class: str = "exact",
    *,
    dtype: DType | None = None,
    terms: int = 1,
    magnitude: Any = None,
    sqnr: float | None = None,
) -> str | None:
    """Why `actual` is not an acceptable `reference`, or None when it is.

    Args:
        actual: the array to judge.
        reference: what it should be; floats may come in f64.
        error_class: exact, reordered, approximate or lossy.
        dtype: whose precision counts (default: that of `actual`).
        terms: length of the longest sum in the computation (reordered).
        magnitude: the computation on absolute values (reordered; default: the largest |reference|).
        sqnr: least signal-to-noise ratio in dB (lossy).

    Returns:
        A sentence that names the worst element, or None.
    """
    a, r = np.asarray(actual), np.asarray(reference)
    if a.shape != r.shape:
        return f"shapes differ: {a.shape} and {r.shape}"
    dtype = dtype or dtype_of(a.dtype)
    if dtype is None or not dtype.is_float or error_class == "exact":
        return _unequal(a, r)
    x, y = a.astype(np.float64), r.astype(np.float64)
    special = ~(np.isfinite(x) & np.isfinite(y))
    if np.any(special):
        reason = _unequal(np.where(special, x, 0.0), np.where(special, y, 0.0))
        if reason is not None:
            return reason
        x, y = np.where(special, 0.0, x), np.where(special, 0.0, y)
    if error_class == "lossy":
        return _too_noisy(x, y, sqnr if sqnr is not None else 0.0)
    largest = float(np.max(np.abs(y), initial=0.0))
    if error_class == "approximate":
        return _beyond(x, y, np.float64(APPROXIMATE.get(dtype.name, epsilon(dtype)) * largest))
    scale = largest if magnitude is None else np.abs(np.asarray(magnitude, np.float64))
    return _beyond(x, y, 8.0 * epsilon(dtype) * np.sqrt(max(terms, 1)) * scale + tiny(dtype))


def epsilon(dtype: DType) -> float:
    """Distance from 1 to the next larger value."""
    return float(float_info(dtype).eps)


def tiny(dtype: DType) -> float:
    """The smallest positive value."""
    return float(float_info(dtype).smallest_subnormal)


def ulps(actual: Array, exact: Array) -> Array:
    """|actual - exact| in units in the last place of the dtype of `actual`; 0 where both are NaN or equal.

    Args:
        actual: computed values.
        exact: the values in f64 (or wider).
    """
    dtype = dtype_of(actual.dtype)
    assert dtype is not None
    a, e = actual.astype(np.float64), exact.astype(np.float64)
    with np.errstate(all="ignore"):
        rounded = exact.astype(actual.dtype).astype(np.float64)
        step = np.exp2(np.floor(np.log2(np.abs(e)))) * epsilon(dtype)
        step = np.maximum(np.where(np.isfinite(step), step, 0.0), tiny(dtype))
        distance = np.abs(a - e) / step
    same = (a == rounded) & ~np.isfinite(rounded) | (np.isnan(a) & np.isnan(e)) | (a == e)
    distance = np.where(same, 0.0, distance)
    return np.where(np.isnan(distance), np.inf, distance)


def _unequal(a: Array, r: Array) -> str | None:
    if a.dtype != r.dtype and a.dtype.kind in "biu" and r.dtype.kind in "biu":
        return f"dtypes differ: {a.dtype} and {r.dtype}"
    same = (a == r) | ((a != a) & (r != r))
    if np.all(same):
        return None
    return _worst(a, r, ~same, f"{int(np.sum(~same))} of {a.size} elements differ")


def _beyond(x: Array, y: Array, bound: Any) -> str | None:
    error = np.abs(x - y)
    outside = ~(error <= bound)
    if not np.any(outside):
        return None
    where = np.unravel_index(int(np.argmax(np.where(outside, error, -1.0))), x.shape)
    mask = np.zeros(x.shape, bool)
    mask[where] = True
    limit = float(np.broadcast_to(bound, x.shape)[where])
    return _worst(x, y, mask, f"error {float(error[where]):.3g} is over {limit:.3g}")


def _too_noisy(x: Array, y: Array, least: float) -> str | None:
    noise, signal = float(np.sum((x - y) ** 2)), float(np.sum(y**2))
    if noise == 0.0:
        return None
    ratio = 10.0 * float(np.log10(signal / noise)) if signal > 0.0 else float("-inf")
    return None if ratio >= least else f"signal-to-noise ratio {ratio:.1f} dB is under {least:.1f} dB"


def _worst(a: Array, r: Array, bad: Array, what: str) -> str:
    where = tuple(int(i[0]) for i in np.nonzero(np.atleast_1d(bad)))
    got, want = np.atleast_1d(a)[where], np.atleast_1d(r)[where]
    return f"{what}; at {where}: {got!s} instead of {want!s}"
