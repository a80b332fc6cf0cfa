"""Losses that PyTorch does not take apart: CTC, and cross-entropy of a linear layer in chunks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from aino_ir.dims import DimLike, is_static
from aino_ir.dtypes import boolean, i64
from aino_ir.frontends.emitter import Emitter
from aino_ir.frontends.torch.context import NodeContext, Row
from aino_ir.graph import Value
from aino_ir.types import TensorType

# -- cross-entropy of a linear layer ------------------------------------------------------------------


def linear_cross_entropy(
    c: NodeContext,
    x: Value,
    linear_weight: Value,
    target: Value,
    linear_bias: Value | None,
    weight: Value | None,
    reduction: str,
    ignore_index: int,
    compute_input_grad: bool,
    compute_linear_weight_grad: bool,
    compute_linear_bias_grad: bool,
) -> list[Value]:
    """The mean or sum of the losses, and its gradients where they are asked for; chunks change no result."""
    logs, losses, shares, hit = _losses(c, x, linear_weight, target, linear_bias, weight, ignore_index)
    dtype = logs.dtype
    loss = c.emit("reduce.sum", losses, axes=(0,))
    if reduction == "mean":
        total = c.emit("reduce.sum", shares, axes=(0,))
        total = c.emit("select", c.emit("eq", total, c.scalar(0, dtype)), c.scalar(math.nan, dtype), total)
        loss, shares = c.emit("div", loss, total), c.emit("div", shares, total)
    column = c.reshape(shares, (shares.shape[0], 1))
    probability = c.emit("exp", logs)
    slope = c.emit("mul", column, c.emit("sub", probability, c.cast(hit, dtype)))
    rows, weights = c.cast(x, dtype), c.cast(linear_weight, dtype)
    gradients = (
        c.emit("matmul", slope, weights) if compute_input_grad else c.filled((0, 0), 0, dtype),
        c.emit("matmul", slope, rows, transpose_lhs=True)
        if compute_linear_weight_grad
        else c.filled((0, 0), 0, dtype),
        c.emit("reduce.sum", slope, axes=(0,)) if compute_linear_bias_grad else c.filled((0,), 0, dtype),
    )
    return [c.cast(v, c.dtype_of(i)) for i, v in enumerate((loss, *gradients))]


def linear_cross_entropies(
    c: NodeContext,
    x: Value,
    linear_weight: Value,
    target: Value,
    linear_bias: Value | None,
    weight: Value | None,
    ignore_index: int,
) -> Value:
    """The loss of every row."""
    _, losses, _, _ = _losses(c, x, linear_weight, target, linear_bias, weight, ignore_index)
    return c.cast(losses, c.dtype)


def _losses(
    c: NodeContext,
    x: Value,
    linear_weight: Value,
    target: Value,
    linear_bias: Value | None,
    weight: Value | None,
    ignore_index: int,
) -> tuple[Value, Value, Value, Value]:
    """Logarithms of probabilities [n, classes], weighted losses [n], weights [n], and which class is hit."""
    dtype = x.dtype.compute
    logits = c.emit("matmul", c.cast(x, dtype), c.cast(linear_weight, dtype), transpose_rhs=True)
    if linear_bias is not None:
        logits = c.emit("add", logits, c.cast(linear_bias, dtype))
    logs = c.emit("log_softmax", logits, axis=1)
    counts = c.emit("ne", target, c.scalar(ignore_index, i64))
    label = c.emit("select", counts, target, c.scalar(0, i64))
    shares = c.cast(counts, dtype)
    if weight is not None:
        own = c.emit("gather", c.cast(weight, dtype), label, axis=0)
        shares = c.emit("select", counts, own, c.scalar(0, dtype))
    column = c.reshape(label, (label.shape[0], 1))
    picked = c.emit("gather_elements", logs, column, axis=1)
    losses = c.emit("neg", c.emit("mul", shares, c.reshape(picked, label.shape)))
    losses = c.emit("select", counts, losses, c.scalar(0, dtype))
    return logs, losses, shares, c.emit("eq", column, c.positions(logs.shape[1], 2, 1))


# -- CTC ----------------------------------------------------------------------------------------------


class Alignment:
    """Labels of a batch with blanks between them, and how a path may move from one to the next.

    Attributes:
        labels: i64[batch, places]; what lies behind a target's end is blank.
        skips: whether a path may come to a place from the one before the last.
        frames: i64[batch], the lengths of inputs.
        last: i64[batch, 1], the place of the last blank.
    """

    def __init__(
        self,
        c: NodeContext,
        targets: Value,
        input_lengths: Value | Sequence[int],
        target_lengths: Value | Sequence[int],
        blank: int,
    ) -> None:
        self.c = c
        self.frames = _lengths(c, input_lengths)
        counts = _lengths(c, target_lengths)
        batch = counts.shape[0]
        column = c.reshape(counts, (batch, 1))
        self.last = c.emit("mul", column, c.scalar(2, i64))
        own = self._rows(c.cast(targets, i64), column, target_lengths)
        longest = own.shape[1]
        idle = c.scalar(blank, i64)
        known = c.emit("lt", c.positions(longest, 2, 1), column)
        own = c.emit("select", known, own, idle)
        first = c.emit("expand", idle, shape=(batch, 1))
        if is_static(longest) and longest == 0:
            self.labels, self.skips = first, c.filled((1, 1), False, boolean)
            return
        apart = c.emit(
            "concat", c.emit("expand", idle, shape=own.shape), own, axis=1
        )  # all blanks, then all labels
        woven = c.transposed(c.reshape(apart, (batch, 2, longest)), (0, 2, 1))
        self.labels = c.emit("concat", c.reshape(woven, (batch, 2 * longest)), first, axis=1)
        before = c.cut(self.labels, 1, 0, 2 * longest - 1)
        here = c.cut(self.labels, 1, 2, 2 * longest - 1)
        fresh = c.emit("logical_and", c.emit("ne", here, before), c.emit("ne", here, idle))
        start = c.emit("expand", c.scalar(False, boolean), shape=(batch, 2))
        self.skips = c.emit("concat", start, fresh, axis=1)

    def _rows(self, targets: Value, counts: Value, lengths: Value | Sequence[int]) -> Value:
        """The targets, one a row: they may stand one behind the other."""
        c = self.c
        if targets.rank == 2:
            return targets
        total = targets.shape[0]
        longest: DimLike = total if isinstance(lengths, Value) else max(lengths, default=0)
        if is_static(longest) and longest == 0:
            return c.filled((counts.shape[0], 0), 0, i64)
        starts = c.emit("sub", c.emit("scan.cumsum", counts, axis=0), counts)
        places = c.emit("add", starts, c.positions(longest, 2, 1))
        return c.emit("gather", targets, c.emit("min", places, c.operand(total - 1, i64)), axis=0)

    def walk(self, frames: Value, backward: bool) -> tuple[Value, Value]:
        """Logarithms of the probabilities of all partial paths.

        Args:
            frames: logarithms of probabilities [time, batch, classes].
            backward: from the last frame to the first; the results are in the order of the walk.

        Returns:
            those behind the walk [batch, places], and those after each frame [time, batch, places].
        """
        c, dtype = self.c, frames.dtype
        never = c.scalar(-math.inf, dtype)
        places = c.positions(self.labels.shape[1], 2, 1)
        begin = self.last if backward else c.scalar(0, i64)
        state = c.emit("select", c.emit("eq", places, begin), c.scalar(0, dtype), never)
        state = c.emit("expand", state, shape=self.labels.shape)
        times = c.emit("index.range", start=0, size=frames.shape[0], step=1, dtype=i64)
        skips = self.skips
        if backward:  # whether the place behind the next may be skipped to
            frames, times = _reversed(c, frames), _reversed(c, times)
            skips = _shifted(c, skips, -2, c.scalar(False, boolean))
        captures = [self.labels, skips, c.reshape(self.frames, (self.frames.shape[0], 1)), never]
        types = [state.type, TensorType(i64, ()), TensorType(dtype, frames.shape[1:])]
        types += [v.type for v in captures]

        def step(b: Any, state: Value, time: Value, frame: Value, *captured: Value) -> list[Value]:
            labels, skips, length, never = captured
            e = Emitter(b)
            way = -1 if backward else 1
            ways = [state, _shifted(e, state, way, never)]
            ways.append(e.emit("select", skips, _shifted(e, state, 2 * way, never), never))
            heard = e.emit("gather_elements", frame, labels, axis=1)
            more = e.emit("add", heard, _log_of_sum(e, ways))
            state = e.emit("select", e.emit("lt", time, length), more, state)
            return [state, state]

        region = c.b.region(types, step)
        found = c.emit_all(
            "control.scan", state, times, frames, *captures, states=1, sequences=2, regions=[region]
        )
        return found[0], found[1]

    def likelihood(self, state: Value) -> Value:
        """Logarithms of the probabilities of whole paths: they end in the last label or the blank behind."""
        c = self.c
        never = c.scalar(-math.inf, state.dtype)
        one = c.scalar(1, i64)
        label = c.emit("max", c.emit("sub", self.last, one), c.scalar(0, i64))
        ends = [c.emit("gather_elements", state, place, axis=1) for place in (self.last, label)]
        ends[1] = c.emit("select", c.emit("lt", self.last, one), never, ends[1])
        return c.reshape(_log_of_sum(c, ends), (state.shape[0],))


def _lengths(c: NodeContext, lengths: Value | Sequence[int]) -> Value:
    return c.cast(lengths, i64) if isinstance(lengths, Value) else c.b.constant(np.asarray(lengths, np.int64))


def _reversed(c: NodeContext, x: Value) -> Value:
    """x from its last element along the first axis to its first."""
    extent = x.shape[0]
    places = c.emit("sub", c.operand(extent - 1, i64), c.positions(extent, 1, 0))
    return c.emit("gather", x, places, axis=0)


def _shifted(c: Emitter, x: Value, by: int, filler: Value) -> Value:
    """x[batch, places] moved along the places, what comes in being a filler; shorter ones are all filler."""
    extent, count = x.shape[1], abs(by)
    if is_static(extent) and extent < count:
        return c.emit("expand", filler, shape=x.shape)
    fresh = c.emit("expand", filler, shape=(x.shape[0], count))
    kept = c.cut(x, 1, 0 if by > 0 else count, extent - count)
    return c.emit("concat", *((fresh, kept) if by > 0 else (kept, fresh)), axis=1)


def _log_of_sum(c: Emitter, parts: Sequence[Value]) -> Value:
    """log of the sum of exp of some values, -inf where all are."""
    dtype = parts[0].dtype
    most = parts[0]
    for part in parts[1:]:
        most = c.emit("max", most, part)
    never = c.emit("eq", most, c.scalar(-math.inf, dtype))
    most = c.emit("select", never, c.scalar(0, dtype), most)
    total = c.scalar(0, dtype)
    for part in parts:
        total = c.emit("add", total, c.emit("exp", c.emit("sub", part, most)))
    return c.emit("add", c.emit("log", total), most)


def ctc_loss(
    c: NodeContext,
    log_probs: Value,
    targets: Value,
    input_lengths: Value | Sequence[int],
    target_lengths: Value | Sequence[int],
    blank: int = 0,
    zero_infinity: bool = False,
) -> list[Value | None]:
    """Negative logarithms of the probabilities of targets, by the forward algorithm (Graves et al., 2006).

    The second result, the logarithms after each frame [batch, time, places], serves the gradient.
    """
    alignment = Alignment(c, targets, input_lengths, target_lengths, blank)
    state, steps = alignment.walk(log_probs, backward=False)
    loss = c.emit("neg", alignment.likelihood(state))
    if not c.wants(1):
        return [loss, None]
    return [loss, c.cut(c.transposed(steps, (1, 0, 2)), 2, 0, c.shape_of(1)[2])]


def ctc_gradient(
    c: NodeContext,
    grad: Value,
    log_probs: Value,
    targets: Value,
    input_lengths: Value | Sequence[int],
    target_lengths: Value | Sequence[int],
    neg_log_likelihood: Value,
    log_alpha: Value,
    blank: int,
    zero_infinity: bool = False,
) -> Value:
    """The gradient to the frames: their probabilities, less the share of paths through each class."""
    alignment = Alignment(c, targets, input_lengths, target_lengths, blank)
    dtype = log_probs.dtype
    _, steps = alignment.walk(log_probs, backward=True)
    places = log_alpha.shape[2]
    behind = c.cut(_reversed(c, steps), 2, 0, places)
    labels = c.cut(alignment.labels, 1, 0, places)
    frames, batch = log_probs.shape[0], log_probs.shape[1]
    labels = c.emit("expand", c.reshape(labels, (1, batch, places)), shape=(frames, batch, places))
    heard = c.emit("gather_elements", log_probs, labels, axis=2)
    never, nothing = c.scalar(-math.inf, dtype), c.scalar(0, dtype)
    paths = c.emit("add", c.transposed(log_alpha, (1, 0, 2)), behind)  # each holds the frame itself
    loss = c.reshape(neg_log_likelihood, (1, batch, 1))
    share = c.emit("exp", c.emit("add", c.emit("sub", paths, heard), loss))
    share = c.emit("select", c.emit("eq", paths, never), nothing, share)
    start = c.emit("expand", nothing, shape=log_probs.shape)
    shares = c.emit("scatter_elements", start, labels, share, reduction="add", axis=2)
    slope = c.emit("sub", c.emit("exp", log_probs), shares)
    slope = c.emit("mul", slope, c.reshape(grad, (1, batch, 1)))
    inside = c.emit("lt", c.positions(frames, 3, 0), c.reshape(alignment.frames, (1, batch, 1)))
    if zero_infinity:
        finite = c.emit("ne", loss, c.scalar(math.inf, dtype))
        inside = c.emit("logical_and", inside, finite)
    return c.emit("select", inside, slope, nothing)


TABLE: dict[str, Row] = {
    "aten._ctc_loss": ctc_loss,
    "aten._ctc_loss_backward": ctc_gradient,
    "torch_nn._linear_cross_entropy_batch_chunked": linear_cross_entropy,
    "torch_nn._linear_cross_entropy_batch_chunked_no_reduction": linear_cross_entropies,
}
