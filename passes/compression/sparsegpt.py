"""SparseGPT: which weights go, and how those that stay make up for them, by the inputs of a layer.

Frantar and Alistarh, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot" (2023).
Inputs are walked in order; a weight's cost is its square over that of its pivot in the inverse Hessian,
and what a removed weight did goes into the inputs of the same output that follow.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.passes.compression.gptq import inverse_factor
from aino_ir.passes.compression.masks import Structure, lowest

Array = np.ndarray[Any, Any]

BLOCK = 128
"""Inputs whose weights are compared with each other."""


def sparsegpt(w: Array, gram: Array, structure: Structure, share: float | None) -> Array:
    """The weights, some of them zero, such that the layer's outputs are close to what they were.

    Args:
        w: [outputs, inputs].
        gram: X^T X over all rows X that the layer saw, [inputs, inputs].
        structure: single weights, N:M, or blocks; what goes together lies next to each other.
        share: to remove; None for N:M.

    Returns:
        f64, of the same shape.
    """
    upper, dead = inverse_factor(gram)
    outputs, inputs = w.shape
    rest = w.astype(np.float64).copy()
    rest[:, dead] = 0.0
    group = structure.inputs_together
    step = group if structure.kind == "n:m" else max(1, BLOCK // group) * group
    gone = 0
    for start in range(0, inputs, step):
        stop = min(start + step, inputs)
        pivots = np.diag(upper)[start:stop]
        scores = structure.scores((np.abs(rest[:, start:stop]) / pivots).reshape(outputs, 1, -1))
        if structure.kind == "n:m":
            keep = structure.best_of_groups(scores)
        else:
            assert share is not None
            wanted = int(share * (scores.size * stop // (stop - start))) - gone
            keep = ~lowest(scores, wanted).reshape(scores.shape)
            gone += int(np.count_nonzero(~keep))
        mask = structure.spread(keep, (outputs, 1, stop - start)).reshape(outputs, -1)
        _compensate(rest, mask, upper, start, stop)
    return np.asarray(rest)


def _compensate(rest: Array, mask: Array, upper: Array, start: int, stop: int) -> None:
    """Remove the weights of some inputs; what they did goes into the inputs behind them."""
    lost = np.zeros(mask.shape)
    for j in range(start, stop):
        column = j - start
        lost[:, column] = np.where(mask[:, column], 0.0, rest[:, j]) / upper[j, j]
        rest[:, j] = np.where(mask[:, column], rest[:, j], 0.0)
        rest[:, j + 1 : stop] -= np.outer(lost[:, column], upper[j, j + 1 : stop])
    rest[:, stop:] -= lost @ upper[start:stop, stop:]
