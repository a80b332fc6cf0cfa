"""GPTQ: weights are rounded one input at a time, and what rounding lost goes into the inputs that follow.

Frantar, Ashkboos, Hoefler and Alistarh, "GPTQ: Accurate Post-Training Quantization for Generative
Pre-trained Transformers" (2022).  All output channels of a matrix [k, n] are done at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from aino_ir.passes.compression.numbers import Recipe, Weights, grid_of, on_grid, raised, sums_excess

Array = np.ndarray[Any, Any]

DAMPING = 0.01
"""Share of the mean diagonal that is added to it, so that the matrix can be inverted."""


def gptq(w: Array, gram: Array, recipe: Recipe, kernel: tuple[int, ...] = ()) -> Weights:
    """Weights on their grid such that the layer's outputs, not the weights, are close.

    Args:
        w: [k, n], f32.
        gram: X^T X over all rows X that the layer saw, [k, k].
        recipe: the grid; scales of groups are found when their first row is reached.  Where sums of
            products have to stay within 16 bits, a channel's scale is raised until they do.
        kernel: taps of a convolution, whose rows are (input channel, tap).
    """
    scale, zero = grid_of(w, recipe, 1)
    while True:
        found = _compensated(w, gram, recipe, scale.copy(), zero)
        if not recipe.depth:
            return found
        whole = found.integers
        if kernel:
            excess = sums_excess(whole.T.reshape(w.shape[1], -1, *kernel), recipe, 0)
        else:
            excess = sums_excess(whole, recipe, 1)
        if excess.max(initial=0) <= 1:
            return found
        scale = raised(scale, excess)


def _compensated(w: Array, gram: Array, recipe: Recipe, scale: Array, zero: Array | None) -> Weights:
    """Weights on a grid, each row's loss put into the rows that follow."""
    k = w.shape[0]
    rest = w.astype(np.float64).copy()
    upper, dead = inverse_factor(gram)
    rest[dead] = 0.0
    integers = np.empty(w.shape, recipe.dtype.numpy)
    group = recipe.group
    for row in range(k):
        if group and row % group == 0:
            part, middle = grid_of(rest[row : row + group].astype(np.float32), recipe, 1)
            scale[row // group] = part[0]
            if zero is not None and middle is not None:
                zero[row // group] = middle[0]
        by = scale[row // group] if group else np.broadcast_to(scale, w.shape)[row]
        point = None
        if zero is not None:
            point = zero[row // group] if group else np.broadcast_to(zero, w.shape)[row]
        integers[row] = on_grid(rest[row].astype(np.float32), by, point, recipe)
        whole = integers[row].astype(np.int32) - (0 if point is None else point.astype(np.int32))
        error = (rest[row] - whole * by) / upper[row, row]
        rest[row + 1 :] -= np.outer(upper[row, row + 1 :], error)
    return Weights(integers, scale, zero, recipe)


def inverse_factor(gram: Array) -> tuple[Array, Array]:
    """The upper triangular U with U^T U = (gram, damped)^-1, and which inputs were always zero.

    Args:
        gram: X^T X, [k, k].
    """
    hessian = gram.astype(np.float64).copy()
    dead = np.diag(hessian) <= 0
    hessian[dead, dead] = 1.0
    every = np.arange(hessian.shape[0])
    hessian[every, every] += DAMPING * float(np.mean(np.diag(hessian)))
    return np.linalg.cholesky(np.linalg.inv(hessian)).T, dead
