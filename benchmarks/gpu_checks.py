"""Whether what was timed is right: some elements of a result, computed by numpy in double precision.

The interpreter would take minutes for extents that are worth a measurement; a few rows take no time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from aino_ir.tolerance import disagreement

Array = np.ndarray[Any, Any]

ROWS = 16
"""Rows that are looked at, first and last among them."""

EPSILON = 1e-5
"""Of the norms."""

_erf = np.vectorize(math.erf, otypes=[np.float64])


def wrong(peer: str, inputs: Sequence[Array], result: Array) -> str | None:
    """What is wrong with some elements of a result; None where nothing is.

    Args:
        peer: what was computed, as `benchmarks.gpu_peers` calls it; of a network: that all is finite.
        inputs, result: of the run.
    """
    if peer not in CHECKS:
        return None if np.isfinite(np.float64(result)).all() else "a result that is not finite"
    got, want = CHECKS[peer](result, *inputs)
    return disagreement(got, want, "approximate")


def _some(extent: int) -> Array:
    """Places along an axis, in order."""
    return np.unique(np.linspace(0, extent - 1, min(ROWS, extent)).astype(np.int64))


def _wide(x: Array) -> Array:
    return x.astype(np.float64)


def _flat(function: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """Of maps: stretches of 256 elements."""

    def check(result: Array, *inputs: Array) -> tuple[Array, Array]:
        size = result.size
        places = np.unique((_some(size)[:, None] + np.arange(256)) % size)
        return result.reshape(-1)[places], function(*(_wide(x.reshape(-1)[places]) for x in inputs))

    return check


def _rows(function: Callable[..., Array]) -> Callable[..., tuple[Array, Array]]:
    """Of what is done row by row: some rows."""

    def check(result: Array, x: Array, *others: Array) -> tuple[Array, Array]:
        places = _some(len(x))
        return result[places], function(_wide(x[places]), *(_wide(y) for y in others))

    return check


def _columns(result: Array, x: Array) -> tuple[Array, Array]:
    places = _some(x.shape[1])
    return result[places], _wide(x[:, places]).sum(0)


def _transposed(result: Array, x: Array) -> tuple[Array, Array]:
    places = _some(len(x))
    return result[:, places], _wide(x[places]).T


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    found: Array = e / e.sum(-1, keepdims=True)
    return found


def _layer_norm(x: Array, scale: Array, offset: Array) -> Array:
    centred = x - x.mean(-1, keepdims=True)
    found: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + EPSILON) * scale + offset
    return found


def _rms_norm(x: Array, scale: Array) -> Array:
    found: Array = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * scale
    return found


def _product(result: Array, x: Array, w: Array) -> tuple[Array, Array]:
    """Some rows and columns: a whole matrix in double precision would take a gigabyte."""
    rows, columns = _some(len(x)), _some(w.shape[1])
    return result[np.ix_(rows, columns)], _wide(x[rows]) @ _wide(w[:, columns])


def _attention(result: Array, q: Array, k: Array, v: Array) -> tuple[Array, Array]:
    """Some queries of the last head."""
    rows = _some(q.shape[2])
    logits = _wide(q[0, -1, rows]) @ _wide(k[0, -1]).T * q.shape[-1] ** -0.5
    return result[0, -1, rows], _softmax(logits) @ _wide(v[0, -1])


CHECKS: dict[str, Callable[..., tuple[Array, Array]]] = {
    "chain": _flat(lambda x, y: np.maximum((x + y) * y, 0)),
    "gelu": _flat(lambda x: x * 0.5 * (1 + _erf(x / math.sqrt(2)))),
    "transpose": _transposed,
    "sum": _rows(lambda x: x.sum(-1)),
    "sum of columns": _columns,
    "sum of all": lambda result, x: (result, np.asarray(_wide(x).sum())),
    "softmax": _rows(_softmax),
    "layer_norm": _rows(_layer_norm),
    "rms_norm": _rows(_rms_norm),
    "matmul": _product,
    "linear": lambda result, x, w: _product(result, x, w.T),
    "attention": _attention,
}
"""(result, inputs) -> elements of the result, and what they should be."""
