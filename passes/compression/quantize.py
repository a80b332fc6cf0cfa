"""Post-training quantization: which layers, on which grids, with which weights; and what it costs.

`Quantization` holds one request.  It proposes every layer with what its own quantisation loses, and
builds the module with any set of them quantised; `guard.py` chooses.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from aino_ir.dtypes import bf16
from aino_ir.errors.compression import CalibrationOverflow, CompressionWithStates, WeightsNotFinite
from aino_ir.graph import Module, Value
from aino_ir.interp import Evaluation
from aino_ir.op import Op
from aino_ir.ops.cast import Cast
from aino_ir.ops.nn import Conv, MatMul
from aino_ir.passes.compression.calibration import Sample, Watch, is_float32, observe, run_watched
from aino_ir.passes.compression.calibrators import CALIBRATORS, with_zero
from aino_ir.passes.compression.forms import (
    RULE,
    Prepared,
    corrected,
    decoded_activation,
    dynamic_product,
    float_alone,
    half_layer,
    quantized_alone,
    quantized_layer,
    rounded_activation,
    rows_rounded,
    share_with_sums,
)
from aino_ir.passes.compression.gptq import gptq
from aino_ir.passes.compression.guard import Proposal, sqnr
from aino_ir.passes.compression.layers import Layer, find_layers
from aino_ir.passes.compression.numbers import (
    Grid,
    Recipe,
    Weights,
    activation_grid,
    round_weights,
)
from aino_ir.passes.compression.output_scales import fold_output_scales
from aino_ir.passes.compression.report import LayerRow
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.integer_contractions import IntegerContractions
from aino_ir.passes.manager import PassManager
from aino_ir.passes.pipelines import TIDY
from aino_ir.rewriter import Rewriter

Array = np.ndarray[Any, Any]

MEASURED_SAMPLES = 8
"""Samples on which the loss of single layers is measured."""

CORRECTED_FROM = 4
"""Outputs of a channel from which on their mean error is taken off: that of fewer is chance."""

GRAM_ROWS = 4096
"""Rows of one sample that GPTQ looks at."""


@dataclass(frozen=True)
class Request:
    """What was asked for.

    Attributes:
        activations: "" (floats), "half" (bf16), "static" (one grid a tensor, by calibration) or "dynamic"
            (one a row).
        recipe: of the weights.
        calibrator: a name of `CALIBRATORS`.
        symmetric: whether static activations have their zero point in the middle.
        compensate: whether what rounding loses goes into the inputs that follow (GPTQ).
        ignore: patterns of layer names.
        bias_correction: whether the mean error of a layer's outputs is taken off its bias.
    """

    activations: str
    recipe: Recipe
    calibrator: str = "minmax"
    symmetric: bool = False
    compensate: bool = False
    ignore: tuple[str, ...] = ()
    bias_correction: bool = True


@dataclass
class Quantization:
    """One request on one module.

    Attributes:
        module: prepared (`layers.prepared`); stays as it is.
        request: what was asked for.
        samples: calibration data; may be empty for weight-only and dynamic schemes.
    """

    module: Module
    request: Request
    samples: Sequence[Sample]
    rows: list[LayerRow] = field(default_factory=list)
    ready: dict[str, Prepared] = field(default_factory=dict)

    def __post_init__(self) -> None:
        states = self.module.main.states
        if self.samples and states:
            raise CompressionWithStates(name=states[0].name)

    # -- proposing ----------------------------------------------------------------------------------

    def proposals(self) -> list[Proposal]:
        """Every layer, refused with a reason or with what its quantisation loses."""
        layers = find_layers(self.module)
        by_id = {op.id: op for op in self.module.main.block}
        rows = {layer.name: self._row(layer, by_id[layer.op]) for layer in layers}
        wanted = [layer for layer in layers if not rows[layer.name].reason]
        grids = self._grids(wanted)
        grams = self._grams(wanted)
        for layer in wanted:
            weights = self._weights(layer, by_id[layer.op], grams.get(layer.name))
            self.ready[layer.name] = Prepared(layer, weights, grids.get(layer.name))
            row = rows[layer.name]
            row.bits, row.bytes_after = float(weights.recipe.dtype.bits), weights.nbytes
            if not self.samples:
                self._compare_weights(row, layer, by_id[layer.op], weights)
        self._measure([self.ready[layer.name] for layer in wanted], by_id, rows)
        return [self._proposal(layer, rows[layer.name]) for layer in layers]

    def _row(self, layer: Layer, op: Op) -> LayerRow:
        row = LayerRow(layer.name, layer.kind, bytes_before=layer.weight.nbytes, macs=layer.macs)
        reason = self._obstacle(layer, op)
        if reason is not None:
            row.refuse(reason)
        return row

    def _obstacle(self, layer: Layer, op: Op) -> str | None:
        """Why a layer is left alone, or None."""
        request, x = self.request, op.operands[0]
        if layer.matches(request.ignore):
            return "ignored by name"
        if x is None or not is_float32(x) or layer.weight.dtype.name != "f32":
            return "it is not computed in f32"
        if layer.weight.size == 0:
            return "it has no weights"
        if isinstance(op, MatMul) and op.transpose_lhs and request.activations:
            return "its activation is transposed"
        if request.activations == "dynamic" and not isinstance(op, MatMul):
            return "rows are quantised for products only"
        if not np.isfinite(layer.weight.array()).all():
            raise WeightsNotFinite(name=layer.name)
        return None

    def _proposal(self, layer: Layer, row: LayerRow) -> Proposal:
        if row.reason:
            return Proposal(row)
        return Proposal(row, lambda: self._alone(layer))

    # -- numbers ------------------------------------------------------------------------------------

    def _grids(self, layers: Sequence[Layer]) -> dict[str, Grid]:
        """The grid of each layer's activation."""
        if self.request.activations != "static":
            return {}
        readers: dict[int, int] = {}
        for layer in layers:
            readers.setdefault(layer.x, layer.op)
        seen = observe(self.module, self.samples, readers)
        for layer in layers:
            if not np.isfinite((seen[layer.x].low, seen[layer.x].high)).all() and seen[layer.x].parts:
                raise CalibrationOverflow(name=layer.name)
        calibrate = CALIBRATORS[self.request.calibrator]
        grids = {
            x: activation_grid(*with_zero(calibrate(found)), self.request.symmetric)
            for x, found in seen.items()
        }
        return {layer.name: grids[layer.x] for layer in layers}

    def _grams(self, layers: Sequence[Layer]) -> dict[str, Array]:
        """X^T X of each layer's input rows, for GPTQ."""
        if not self.request.compensate:
            return {}
        grams: dict[str, Array] = {}
        watches: dict[int, Watch] = {}
        for layer in layers:
            watches[layer.op] = _gram_watch(layer.name, grams)
        for sample in self.samples:
            run_watched(self.module.main, sample, watches)
        return grams

    def _weights(self, layer: Layer, op: Op, gram: Array | None) -> Weights:
        w, channel_axis = matrix_of(layer, op)
        recipe = self.request.recipe
        if recipe.per == "group" and w.ndim != 2:
            recipe = Recipe(recipe.dtype, "channel")
        if gram is None:
            return round_weights(w, recipe, channel_axis)
        if w.ndim == 2:
            return gptq(w, gram, recipe)
        flat = gptq(np.ascontiguousarray(w.reshape(w.shape[0], -1).T), gram, recipe, w.shape[2:])
        column = (w.shape[0], *[1] * (w.ndim - 1)) if recipe.per == "channel" else ()
        zero = None if flat.zero is None else flat.zero.reshape(column)
        return Weights(flat.integers.T.reshape(w.shape), flat.scale.reshape(column), zero, recipe)

    def _compare_weights(self, row: LayerRow, layer: Layer, op: Op, weights: Weights) -> None:
        w, _ = matrix_of(layer, op)
        row.sqnr, row.max_error = sqnr(weights.values(), w), float(np.abs(weights.values() - w).max())
        row.measured_on = "weights"

    def _measure(
        self, ready: Sequence[Prepared], by_id: Mapping[int, Op], rows: Mapping[str, LayerRow]
    ) -> None:
        """Each layer's own loss on the inputs that it had, and the mean error that its bias takes back."""
        if not self.samples:
            return
        sums = {p.layer.name: Loss() for p in ready}
        alone = {p.layer.name: imitation(p, by_id[p.layer.op], self.request.activations) for p in ready}
        watches: dict[int, Watch] = {
            p.layer.op: _loss_watch(sums[p.layer.name], *alone[p.layer.name]) for p in ready
        }
        for sample in self.samples[:MEASURED_SAMPLES]:
            run_watched(self.module.main, sample, watches)
        for p in ready:
            loss, row = sums[p.layer.name], rows[p.layer.name]
            if self.request.bias_correction:
                p.correction = loss.correction()
            row.sqnr, row.max_error, row.measured_on = loss.sqnr(p.correction), loss.largest, "output"

    # -- building -----------------------------------------------------------------------------------

    def build(self, chosen: frozenset[str]) -> Module:
        """The module with these layers quantised, contractions of integers explicit."""
        module = self.module.clone()
        by_id = {op.id: op for op in module.main.block}
        rewriter = Rewriter(module.main)
        decoded: dict[Value, Value] = {}
        layers = {by_id[self.ready[name].layer.op] for name in chosen}
        for name, prepared in self.ready.items():
            if name in chosen:
                self._rewrite(rewriter, by_id[prepared.layer.op], prepared, decoded, layers)
        for x, stand_in in decoded.items():
            share_with_sums(rewriter, x, stand_in)
        PassManager((EliminateDeadCode(), IntegerContractions(), *TIDY)).run(module)
        fold_output_scales(module)
        PassManager((EliminateDeadCode(), *TIDY)).run(module)
        return module

    def _rewrite(
        self,
        rewriter: Rewriter,
        op: Op,
        prepared: Prepared,
        decoded: dict[Value, Value],
        layers: Collection[Op],
    ) -> None:
        """Put a layer's quantised form in its place; `layers` are all that get one."""
        b = rewriter.builder(op)
        x = op.operands[0]
        assert x is not None
        if self.request.activations == "dynamic":
            y = dynamic_product(b, x, prepared)
            y = corrected(b, y, prepared.correction)
            rewriter.replace(op, y, RULE)
            return
        if self.request.activations == "half":
            if x not in decoded:
                decoded[x] = rounded_activation(b, x)
            stand_in = decoded[x].op
            assert isinstance(stand_in, Cast)
            rewriter.replace(op, half_layer(b, op, stand_in.x, prepared), RULE)
            return
        if prepared.grid is not None:
            if x not in decoded:
                alone = all(user in layers for user in x.users)
                decoded[x] = decoded_activation(b, x, prepared.grid, before_pools=alone)
            x = decoded[x]
        rewriter.replace(op, quantized_layer(b, op, x, prepared), RULE)

    def _alone(self, layer: Layer) -> tuple[Module, Module]:
        """The layer alone: on floats, and as it runs when its neighbours are quantised too."""
        prepared = self.ready[layer.name]
        op = next(o for o in self.module.main.block if o.id == layer.op)
        return (
            float_alone(self.module, op, writes_bytes=prepared.grid is not None),
            quantized_alone(self.module, op, prepared, self.request.activations),
        )


@dataclass
class Loss:
    """What a quantised layer's outputs lose, summed over samples.

    Attributes:
        error: sum of (exact - quantised) of each output channel, and how many outputs those are.
    """

    noise: float = 0.0
    signal: float = 0.0
    largest: float = 0.0
    error: Array | None = None
    count: int = 0

    def add(self, exact: Array, quantized: Array, channel_axis: int) -> None:
        """One more sample."""
        difference = exact.astype(np.float64) - quantized
        self.noise += float(np.sum(difference**2))
        self.signal += float(np.sum(exact.astype(np.float64) ** 2))
        self.largest = max(self.largest, float(np.abs(difference).max(initial=0.0)))
        axes = tuple(a for a in range(exact.ndim) if a != channel_axis)
        total = difference.sum(axis=axes)
        self.error = total if self.error is None else self.error + total
        self.count += difference.size // max(1, total.size)

    def correction(self) -> Array | None:
        """The mean error of each output channel, f32; None where there were too few outputs to tell."""
        if self.error is None or self.count < CORRECTED_FROM:
            return None
        return np.asarray(self.error / self.count, np.float32)

    def sqnr(self, correction: Array | None) -> float:
        """In dB, the mean error taken off where there is a correction."""
        noise = self.noise
        if correction is not None:
            noise -= self.count * float(np.sum(correction.astype(np.float64) ** 2))
        if noise <= 0.0:
            return float("inf")
        return 10.0 * float(np.log10(self.signal / noise)) if self.signal > 0.0 else float("-inf")


def matrix_of(layer: Layer, op: Op) -> tuple[Array, int]:
    """(weights, their axis of output channels); those of a product as [k, n]."""
    w = np.asarray(layer.weight.array(), np.float32)
    if isinstance(op, MatMul) and op.transpose_rhs:
        return np.ascontiguousarray(w.T), 1
    return w, layer.channel_axis


def result_channel_axis(op: Op) -> int:
    """Axis of the result that is the output channels."""
    return 1 if isinstance(op, Conv) else op.result.rank - 1


def imitation(prepared: Prepared, op: Op, activations: str) -> tuple[Any, Array, int]:
    """(how the activation is rounded, the weights as they are decoded, the channel axis of the result)."""
    grid = prepared.grid

    def rounded(x: Array) -> Array:
        if grid is not None:
            return grid.rounded(x)
        if activations == "half":
            return x.astype(bf16.numpy).astype(np.float32)
        return rows_rounded(x) if activations == "dynamic" else x

    w = prepared.weights.values()
    if isinstance(op, MatMul) and op.transpose_rhs:
        w = np.ascontiguousarray(w.T)
    return rounded, w, result_channel_axis(op)


def _loss_watch(loss: Loss, rounded: Any, w: Array, channel_axis: int) -> Watch:
    def watch(ev: Evaluation, op: Op, operands: Sequence[Array | None], results: tuple[Array, ...]) -> None:
        x = operands[0]
        assert x is not None
        loss.add(results[0], op.evaluate(ev, rounded(x), w, *operands[2:]), channel_axis)

    return watch


def _gram_watch(name: str, grams: dict[str, Array]) -> Watch:
    def watch(ev: Evaluation, op: Op, operands: Sequence[Array | None], results: tuple[Array, ...]) -> None:
        x = operands[0]
        assert x is not None
        rows = input_rows(op, x)
        if rows is None:
            return
        rows = rows[:: max(1, len(rows) // GRAM_ROWS)].astype(np.float64)
        grams[name] = grams.get(name, 0.0) + rows.T @ rows

    return watch


def input_rows(op: Op, x: Array) -> Array | None:
    """The rows that weights [k, n] are multiplied with; None for grouped convolutions."""
    if isinstance(op, MatMul):
        x = np.swapaxes(x, -1, -2) if op.transpose_lhs else x
        return x.reshape(-1, x.shape[-1])
    assert isinstance(op, Conv)
    if op.groups != 1:
        return None
    kernel = tuple(int(k) for k in op.w.shape[2:])
    pads = [(0, 0), (0, 0), *zip(op.pads_before, op.pads_after, strict=True)]
    span = tuple((k - 1) * d + 1 for k, d in zip(kernel, op.dilations, strict=True))
    axes = tuple(range(2, x.ndim))
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads), span, axes)
    steps = (slice(None), slice(None), *(slice(None, None, s) for s in op.strides))
    taps: tuple[Any, ...] = (..., *(slice(None, None, d) for d in op.dilations))
    picked = windows[steps][taps]
    spatial = len(kernel)
    order = (0, *range(2, 2 + spatial), 1, *range(2 + spatial, 2 + 2 * spatial))
    return np.asarray(picked.transpose(order).reshape(-1, x.shape[1] * int(np.prod(kernel))))
