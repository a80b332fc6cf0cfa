"""Pruning without changing shapes: weights become zeros where they matter least.

Criteria: *magnitude*, |w| (Han et al., 2015); *wanda*, |w| times the norm of the input that it meets
in the calibration data (Sun et al., 2023), compared within each output; and *sparsegpt* (`sparsegpt.py`),
which changes the weights that stay too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.graph import Module, Value
from aino_ir.interp import Evaluation
from aino_ir.op import Op
from aino_ir.passes.compression.calibration import Watch, run_watched
from aino_ir.passes.compression.costs import KernelCosts
from aino_ir.passes.compression.guard import Build, Proposal, sqnr
from aino_ir.passes.compression.input_rows import grams, obstacle
from aino_ir.passes.compression.masks import Structure, keep_by_pool, keep_by_share
from aino_ir.passes.compression.report import LayerRow
from aino_ir.passes.compression.sparsegpt import sparsegpt
from aino_ir.passes.compression.weights import Use, Weight, as_matrix, from_matrix, ignored, weights
from aino_ir.rewriter import Rewriter

Array = np.ndarray[Any, Any]
Sample = tuple[Array, ...]


@dataclass(frozen=True)
class PruningOptions:
    """What was asked for; see `aino.prune`.

    Attributes:
        sparsity: share to remove; None with a threshold or N:M.
        threshold: weights below it go; None otherwise.
    """

    sparsity: float | None
    threshold: float | None
    structure: Structure
    scope: str
    criterion: str
    ignore: tuple[str, ...] = ()


@dataclass
class Plan:
    """What pruning proposes, and how the module with some of it is built."""

    proposals: list[Proposal]
    build: Build


def propose_zeros(
    module: Module, options: PruningOptions, samples: Sequence[Sample], costs: KernelCosts | None, guard: bool
) -> Plan:
    """Masks for every weight of a module, a proposal each.

    Args:
        samples: calibration data, for wanda and sparsegpt.
        costs: tells time and bytes; None: not compared.
        guard: whether a layer that gains neither is refused.
    """
    found = weights(module)
    rows = {w.name: _row(w) for w in found}
    norms = input_norms(module, found, samples) if options.criterion == "wanda" else {}
    chosen: list[Weight] = []
    for w in found:
        reason = _misfit(module, w, options, norms)
        if reason:
            rows[w.name].refuse(reason)
        else:
            chosen.append(w)
    pruned: dict[str, tuple[Weight, Const]] = {}
    for w, new, loss in _candidates(module, chosen, options, norms, samples):
        _judge(w, new, loss, rows[w.name], pruned, costs, guard)

    def build(names: frozenset[str]) -> Module:
        new = {id(w.handle): c for name, (w, c) in pruned.items() if name in names}
        return with_constants(module, new)

    return Plan([Proposal(rows[w.name]) for w in found], build)


def _row(w: Weight) -> LayerRow:
    return LayerRow(
        w.name, w.op, bits=float(w.handle.dtype.bits), macs=w.macs(), bytes_before=w.handle.nbytes
    )


def _misfit(module: Module, w: Weight, options: PruningOptions, norms: dict[str, Array]) -> str | None:
    """Why a weight stays as it is, or None."""
    if ignored(w.places, options.ignore):
        return "ignored"
    if options.criterion == "wanda" and w.name not in norms:
        return "what its inputs are is not told by one plain axis; criterion='magnitude' takes it"
    if options.criterion == "sparsegpt":
        if any(u.op.block is not module.main.block for u in w.uses):
            return "it stands inside of control flow; criterion='magnitude' takes it"
        reason = next((r for r in map(obstacle, w.uses) if r is not None), None)
        if reason is not None:
            return f"{reason}; criterion='magnitude' takes it"
        if w.handle.size == 0:
            return "it has no elements"
    return options.structure.misfit(as_matrix(w.handle.array(), w.uses[0]).shape)


@dataclass(frozen=True)
class Loss:
    """What a layer loses, as the report tells it.

    Attributes:
        measured_on: "weights" or "output".
        sqnr: dB there.
    """

    measured_on: str
    sqnr: float


def _candidates(
    module: Module,
    chosen: Sequence[Weight],
    options: PruningOptions,
    norms: dict[str, Array],
    samples: Sequence[Sample],
) -> Iterator[tuple[Weight, Array, Loss]]:
    """Each weight, what becomes of it (of the same shape and type), and what that loses."""
    if options.criterion != "sparsegpt":
        masks = _masks(chosen, options, norms)
        for w in chosen:
            array = w.handle.array()
            new = np.where(masks[w.name], array, np.zeros((), array.dtype))
            yield w, new, Loss("weights", sqnr(new, array))
        return
    by_name = {w.name: w for w in chosen}
    for found in grams(module, chosen, samples):
        for name, gram in found.items():
            w = by_name[name]
            array, use = w.handle.array(), w.uses[0]
            matrix = as_matrix(array, use)
            flat = matrix.reshape(matrix.shape[0], -1)
            made = sparsegpt(flat, gram, options.structure, options.sparsity)
            new = from_matrix(made.reshape(matrix.shape), array.shape, use).astype(array.dtype)
            yield w, new, Loss("output", output_sqnr(made, flat, gram))


def output_sqnr(new: Array, old: Array, gram: Array) -> float:
    """dB between a layer's outputs and what the change of its weights does to them.

    Args:
        new, old: weights [outputs, inputs].
        gram: X^T X of the inputs.
    """

    def energy(w: Array) -> float:
        w = w.astype(np.float64)
        return float(np.sum((w @ gram) * w))

    noise, signal = energy(new - old), energy(old)
    if noise <= 0.0:
        return float("inf")
    return 10.0 * float(np.log10(signal / noise)) if signal > 0.0 else float("-inf")


def _masks(chosen: Sequence[Weight], options: PruningOptions, norms: dict[str, Array]) -> dict[str, Array]:
    """Name -> mask of what is kept, of the weight's shape."""
    structure = options.structure
    saliency = {}
    for w in chosen:
        matrix = np.abs(as_matrix(w.handle.array(), w.uses[0]).astype(np.float64))
        saliency[w.name] = matrix * norms[w.name] if w.name in norms else matrix
    scores = {name: structure.scores(s) for name, s in saliency.items()}
    share = options.sparsity
    if structure.kind == "n:m":
        keeps = {name: structure.best_of_groups(s) for name, s in scores.items()}
    elif options.threshold is not None:
        keeps = {name: s >= options.threshold for name, s in scores.items()}
    elif options.scope == "global":
        assert share is not None
        keeps = dict(zip(scores, keep_by_pool(list(scores.values()), share), strict=True))
    else:
        assert share is not None
        per_output = options.criterion == "wanda"
        keeps = {name: keep_by_share(s, share, per_output) for name, s in scores.items()}
    out = {}
    for w in chosen:
        wide = structure.spread(keeps[w.name], saliency[w.name].shape)
        out[w.name] = from_matrix(wide, w.handle.shape, w.uses[0])
    return out


def _judge(
    w: Weight,
    new: Array,
    loss: Loss,
    row: LayerRow,
    pruned: dict[str, tuple[Weight, Const]],
    costs: KernelCosts | None,
    guard: bool,
) -> None:
    """Fill in a weight's row; refuse it where nothing is removed, nothing left, or nothing gained."""
    array = w.handle.array()
    row.sparsity = 1.0 - np.count_nonzero(new) / max(1, new.size)
    if not np.any((array != 0) & (new == 0)):
        row.refuse("nothing in it is to be removed")
        return
    if not np.any(new):
        row.refuse("nothing would be left of it")
        return
    row.sqnr, row.measured_on = loss.sqnr, loss.measured_on
    row.max_error = float(np.max(np.abs(new.astype(np.float64) - array.astype(np.float64))))
    handle = Const.of(new, w.handle.name)
    if costs is not None:
        before, after = alone(w.uses[0].op), alone(w.uses[0].op, {id(w.handle): handle})
        times = costs.times(before, after)
        row.seconds_before, row.seconds_after = (None if t is None else t * len(w.uses) for t in times)
        row.timing = costs.kind
        row.bytes_before, row.bytes_after = costs.stored_bytes(before), costs.stored_bytes(after)
        if guard and row.bytes_after >= row.bytes_before and not _faster(row):
            row.refuse("zeros would gain nothing: dense kernels are as fast and as small")
            return
    pruned[w.name] = (w, handle)


def _faster(row: LayerRow) -> bool:
    before, after = row.seconds_before, row.seconds_after
    return before is not None and after is not None and after < before


def alone(op: Op, new: dict[int, Const] | None = None) -> Module:
    """The op in a module of its own, on inputs and constants, some of these replaced."""
    b = Builder(record=True)
    b.function.symbols = op.block.function.symbols.clone()  # type: ignore[union-attr]
    operands: list[Value | None] = []
    for position, v in enumerate(op.operands):
        if v is not None and v.op is not None and v.op.name == "core.constant":
            handle = v.op.value  # type: ignore[attr-defined]
            operands.append(b.constant((new or {}).get(id(handle), handle)))
        else:
            operands.append(None if v is None else b.input(f"x{position}", v.type))
    made = b.op(type(op), *operands, **op.attrs())
    for number, result in enumerate(made.results):
        b.output(f"y{number}", result)
    b.finish()
    return b.module


def with_constants(module: Module, new: dict[int, Const]) -> Module:
    """A copy of a module with some handles (by identity) replaced by others of the same type."""
    copy = module.clone()
    for function in copy.functions.values():
        rewriter = Rewriter(function)
        for op in list(function.walk()):
            handle = new.get(id(op.value)) if op.name == "core.constant" else None  # type: ignore[attr-defined]
            if handle is not None:
                made = rewriter.builder(op).op(type(op), value=handle, names=[op.result.name])
                rewriter.replace(op, made.result, "Prune")
    return copy


def input_norms(module: Module, found: Sequence[Weight], samples: Sequence[Sample]) -> dict[str, Array]:
    """Weight -> l2 norm of each input channel over all samples and uses; only plain channels of main."""
    squares: dict[str, Array] = {}

    def watch(w: Weight, u: Use) -> Watch:
        def see(ev: Evaluation, op: Op, operands: Sequence[Array | None], results: tuple[Array, ...]) -> None:
            array = operands[op.operands.index(u.data)]
            assert array is not None and u.channel is not None
            others = tuple(a for a in range(array.ndim) if a != u.channel[1])
            total = np.sum(np.square(array, dtype=np.float64), axis=others)
            squares[w.name] = squares.get(w.name, 0.0) + total

        return see

    watches: dict[int, Watch] = {}
    for w in found:
        if all(u.channel is not None and u.op.block is module.main.block for u in w.uses):
            watches.update((u.op.id, watch(w, u)) for u in w.uses)
    for sample in samples:
        run_watched(module.main, sample, watches)
    return {name: np.sqrt(s) for name, s in squares.items()}
