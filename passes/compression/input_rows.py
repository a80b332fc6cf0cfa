"""The rows that a layer's weights are multiplied with, read off the index maps of its definition.

A product with weights sums x[map(point)] * w over the reduced axes.  Laid out as a matrix, rows are the
points of the result that do not choose an output, columns the inputs in the order of `as_matrix`: for a
convolution what im2col would make.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from aino_ir.dim_walk import fold
from aino_ir.dims import Dim
from aino_ir.graph import Module
from aino_ir.interp import Evaluation
from aino_ir.op import Op
from aino_ir.passes.compression.calibration import Watch, run_watched
from aino_ir.passes.compression.weights import Use, Weight, product_of, symbols_of

Array = np.ndarray[Any, Any]
Sample = tuple[Array, ...]

CHUNK = 1 << 23
"""Elements of rows that are made at a time."""

GRAMS_TOGETHER = 1 << 26
"""Elements of all matrices X^T X that are held at a time; calibration data runs once for each batch."""


def obstacle(use: Use) -> str | None:
    """Why a product's inputs cannot be laid out as rows, or None."""
    parts = product_of(use.op)
    if parts is None or use.channel is None:
        return "its inputs vary with its outputs (groups)"
    weight, data = _factors(use)
    reduced = {a.name for a in parts[0].reduce}
    columns = [_plain(c) for c in (weight.index[a] for a in use.inputs)]
    if None in columns or not all(isinstance(c, (int, Dim)) for c in data.index):
        return "which inputs it reads is computed"
    if {n for c in data.index for n in symbols_of(c)} & reduced != set(columns):
        return "its inputs are no matrix"
    return None


def rows_of(use: Use, array: Array, shape: Sequence[int], ev: Evaluation) -> Iterator[Array]:
    """Rows [points, inputs] that a use's weights met, f64, in chunks.

    Args:
        use: without obstacle.
        array: what the weight was multiplied with.
        shape: of the result.
        ev: knows the symbols of the run.
    """
    parts = product_of(use.op)
    assert parts is not None and use.channel is not None
    compute = parts[0]
    weight, data = _factors(use)
    order = (*(a for a in use.inputs if a != use.channel[0]), use.channel[0])
    columns = [str(_plain(weight.index[a])) for a in order]
    extents = {a.name: int(n) for a, n in zip(compute.axes, shape, strict=True)}
    extents |= {a.name: int(ev.size(a.extent)) for a in compute.reduce}
    moving = {n for c in data.index for n in symbols_of(c)}
    rows = [a.name for a in compute.axes if a.name in moving]
    width = int(np.prod([extents[n] for n in columns]))
    each = width * int(np.prod([extents[n] for n in rows[1:]]))
    step = max(1, CHUNK // max(1, each))
    for start in range(0, extents[rows[0]] if rows else 1, step):
        spans = {n: np.arange(extents[n]) for n in (*rows, *columns)}
        if rows:
            spans[rows[0]] = spans[rows[0]][start : start + step]
        yield _gathered(array, data.index, spans, ev).reshape(-1, width)


def _gathered(array: Array, index: Sequence[Any], spans: dict[str, Array], ev: Evaluation) -> Array:
    """array[index] on the grid of the spans; zero outside."""
    names = list(spans)
    grid = {n: spans[n].reshape([-1 if m == n else 1 for m in names]) for n in names}
    places, inside = [], np.ones([1] * len(names), bool)
    for c, extent in zip(index, array.shape, strict=True):
        place = fold(
            c,
            const=lambda v: np.asarray(v),
            symbol=lambda n: grid[n] if n in grid else np.asarray(ev.bindings[n]),
            add=lambda a, b: a + b,
            mul=lambda a, b: a * b,
            floordiv=lambda a, b: a // b,
            minimum=lambda a, b: np.minimum(a, b),
        )
        inside = inside & (place >= 0) & (place < extent)
        places.append(np.clip(place, 0, extent - 1))
    shape = [spans[n].size for n in names]
    found = np.broadcast_to(array[tuple(places)], shape)
    return np.where(inside, found, 0).astype(np.float64)


def grams(module: Module, found: Sequence[Weight], samples: Sequence[Sample]) -> Iterator[dict[str, Array]]:
    """Weight -> X^T X over all samples and uses, [inputs, inputs], f64; a few weights at a time.

    Args:
        module: whose main holds every use.
        found: weights without obstacle.
    """
    batch: list[Weight] = []
    held = 0
    for w in found:
        size = _inputs(w) ** 2
        if batch and held + size > GRAMS_TOGETHER:
            yield _grams(module, batch, samples)
            batch, held = [], 0
        batch.append(w)
        held += size
    if batch:
        yield _grams(module, batch, samples)


def _grams(module: Module, batch: Sequence[Weight], samples: Sequence[Sample]) -> dict[str, Array]:
    out = {w.name: np.zeros((_inputs(w),) * 2) for w in batch}

    def watch(w: Weight, u: Use) -> Watch:
        def see(ev: Evaluation, op: Op, operands: Sequence[Array | None], results: tuple[Array, ...]) -> None:
            array = operands[op.operands.index(u.data)]
            assert array is not None
            for rows in rows_of(u, array, results[0].shape, ev):
                out[w.name] += rows.T @ rows

        return see

    watches = {u.op.id: watch(w, u) for w in batch for u in w.uses}
    for sample in samples:
        run_watched(module.main, sample, watches)
    return out


def _inputs(w: Weight) -> int:
    return int(np.prod([w.handle.shape[a] for a in w.uses[0].inputs]))


def _factors(use: Use) -> tuple[Any, Any]:
    """The reads of (the weight, what it is multiplied with)."""
    parts = product_of(use.op)
    assert parts is not None
    a, b = parts[1]
    data = list(use.op.present_operands())
    return (b, a) if data[a.operand] is use.data else (a, b)


def _plain(c: Any) -> str | None:
    return c.as_symbol() if isinstance(c, Dim) else None
