"""Structured pruning: whole channels, neurons and heads go, and shapes really shrink.

What goes together are the components of `dependencies.py`.  A component counts as the sum, over the
weights that have it on an axis, of the squared norm of its part divided by the mean over that axis (a
group norm as in DepGraph, Fang et al., 2023); with the criterion wanda weights are first multiplied by the
norms of their inputs in the calibration data.  What is left is compared with the whole model in which the
weights of the removed parts are zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.errors.pruning import ShrunkWrong
from aino_ir.graph import Module
from aino_ir.interp import run_function
from aino_ir.op import Op
from aino_ir.passes.compression.costs import KernelCosts
from aino_ir.passes.compression.dependencies import Dependencies, Family
from aino_ir.passes.compression.guard import Proposal
from aino_ir.passes.compression.masks import lowest
from aino_ir.passes.compression.pruning import (
    Plan,
    PruningOptions,
    Sample,
    alone,
    input_norms,
    with_constants,
)
from aino_ir.passes.compression.report import LayerRow
from aino_ir.passes.compression.shrink import CannotShrink, Kept, Shrunk, shrink, smaller_constant
from aino_ir.passes.compression.weights import Weight, ignored, weights
from aino_ir.tolerance import disagreement

Array = np.ndarray[Any, Any]


@dataclass
class Layer:
    """A family that can be pruned.

    Attributes:
        name: of the first weight that makes it; places: what patterns may mean.
        family: its components.
        weights: weights with one of its classes on an axis: (weight, axis, class).
        scores: of each component.
        removed: bool, which components go.
    """

    name: str
    places: tuple[str, ...]
    family: Family
    weights: list[tuple[Weight, int, int]]
    scores: Array
    removed: Array


def propose_smaller(
    module: Module,
    options: PruningOptions,
    costs: KernelCosts | None,
    guard: bool,
    samples: Sequence[Sample] = (),
) -> tuple[Plan, Structured]:
    """Which channels or heads go; the plan's `build` gives smaller modules.

    Args:
        costs: tells time; None: not compared.
        guard: whether a layer that gains nothing is refused.
        samples: calibration data, for wanda.
    """
    made = Structured(module, options, samples)
    rows = [made.row(layer, costs, guard) for layer in made.layers]
    return Plan([Proposal(r) for r in rows], made.build), made


class Structured:
    """The prunable families of a module, and modules without some of their components."""

    def __init__(self, module: Module, options: PruningOptions, samples: Sequence[Sample] = ()) -> None:
        self.module = module
        self.options = options
        self.relations = Dependencies.of(module.main)
        self.weights = [w for w in weights(module) if self._inside(w)]
        self.saliency = self._saliency(samples)
        self.layers = self._layers()
        self._choose()

    def _inside(self, w: Weight) -> bool:
        return all(u.op.block is self.module.main.block for u in w.uses)

    def _saliency(self, samples: Sequence[Sample]) -> dict[str, Array]:
        """Weight -> squares of what its elements count: themselves, or with wanda times their inputs' norm.

        Where inputs are not one plain axis (grouped convolutions), weights count alone.
        """
        wanted = self.options.criterion == "wanda"
        norms = input_norms(self.module, self.weights, samples) if wanted else {}
        out = {}
        for w in self.weights:
            squares = np.square(w.handle.array(), dtype=np.float64)
            channel = w.uses[0].channel
            if w.name in norms and channel is not None:
                shape = [-1 if a == channel[0] else 1 for a in range(squares.ndim)]
                squares = squares * np.square(norms[w.name]).reshape(shape)
            out[w.name] = squares
        return out

    def _layers(self) -> list[Layer]:
        """Families of the wanted kind that some weight makes, in order of these weights."""
        by_class: dict[int, list[tuple[Weight, int, int]]] = {}
        for w in self.weights:
            for value in _values_of(w):
                for axis, c in enumerate(self.relations.classes(value)):
                    if c is not None and (w, axis, c) not in by_class.setdefault(c, []):
                        by_class[c].append((w, axis, c))
        order = {id(w): i for i, w in enumerate(self.weights)}
        out = []
        for family in self.relations.families():
            if family.heads != (self.options.structure.kind == "head") or len(family.components) < 2:
                continue
            found = [entry for c in family.classes for entry in by_class.get(c, ())]
            made = [e for e in found if any(e[1] in u.outputs for u in e[0].uses)]
            if not made:
                continue
            first = min(made, key=lambda e: order[id(e[0])])[0]
            count = len(family.components)
            out.append(
                Layer(
                    first.name,
                    _places(first, made),
                    family,
                    found,
                    _scores(family, found, self.saliency),
                    np.zeros(count, bool),
                )
            )
        out.sort(key=lambda layer: next(order[id(w)] for w in self.weights if w.name == layer.name))
        return _named_apart(out)

    def _choose(self) -> None:
        """Mark what goes: at least one component of each family stays."""
        options = self.options
        layers = [layer for layer in self.layers if not ignored(layer.places, options.ignore)]
        if options.threshold is not None:
            for layer in layers:
                layer.removed = _but_the_best(_norms(layer) < options.threshold, layer.scores)
            return
        assert options.sparsity is not None
        if options.scope == "local":
            for layer in layers:
                count = min(int(options.sparsity * layer.scores.size), layer.scores.size - 1)
                layer.removed = lowest(layer.scores, count)
            return
        pooled = np.concatenate([layer.scores for layer in layers]) if layers else np.zeros(0)
        gone, start = lowest(pooled, int(options.sparsity * pooled.size)), 0
        for layer in layers:
            part = gone[start : start + layer.scores.size]
            layer.removed = _but_the_best(part, layer.scores)
            start += layer.scores.size

    # -- modules --------------------------------------------------------------------------------------

    def kept(self, names: frozenset[str]) -> Kept:
        """What stays of every class when these layers are pruned."""
        out: dict[int, Array] = {}
        for layer in self.layers:
            if layer.name not in names:
                continue
            for component in (c for c, r in zip(layer.family.components, layer.removed, strict=True) if r):
                for number, positions in component.atoms.items():
                    mask = out.setdefault(number, np.ones(self.relations.extents[number], bool))
                    mask[positions] = False
        return out

    def shrunk(self, names: frozenset[str]) -> Shrunk:
        """The module without the removed components of these layers."""
        return shrink(self.module, self.relations, self.kept(names))

    def build(self, names: frozenset[str]) -> Module:
        """The same, as the guard wants it."""
        return self.shrunk(names).module

    def zeroed(self, names: frozenset[str]) -> Module:
        """The module as it was, the weights of the removed components zero: what the small one computes."""
        kept = self.kept(names)
        new: dict[int, Const] = {}
        for w in self.weights:
            array: Array | None = None
            for value in _values_of(w):
                for axis, c in enumerate(self.relations.classes(value)):
                    if c is not None and c in kept:
                        shape = [-1 if a == axis else 1 for a in range(value.rank)]
                        array = w.handle.array() if array is None else array
                        array = np.where(kept[c].reshape(shape), array, np.zeros((), array.dtype))
            if array is not None:
                new[id(w.handle)] = Const.of(array, w.handle.name)
        return with_constants(self.module, new)

    def check(self, names: frozenset[str], module: Module, samples: Sequence[Sample]) -> None:
        """Compare the small module with the zeroed one on the interpreter.

        Raises:
            ShrunkWrong: they differ by more than another order of sums explains.
        """
        zeroed = self.zeroed(names).main
        terms = max([1, *(int(np.prod(w.handle.shape)) for w in self.weights)])
        for sample in samples:
            wanted, got = (run_function(f, sample, "wide") for f in (zeroed, module.main))
            for name, a, e in zip(zeroed.output_names, got, wanted, strict=False):
                reason = disagreement(np.asarray(a), np.asarray(e), "reordered", terms=terms)
                if reason is not None:
                    raise ShrunkWrong(reason=f"output '{name}': {reason}")

    # -- reports --------------------------------------------------------------------------------------

    def row(self, layer: Layer, costs: KernelCosts | None, guard: bool) -> LayerRow:
        """What is known about a layer."""
        count, gone = layer.scores.size, int(np.count_nonzero(layer.removed))
        single = all(p.size == 1 for c in layer.family.components for p in c.atoms.values())
        kind = "heads" if layer.family.heads else "channels" if single else "groups of channels"
        row = LayerRow(layer.name, f"{count} {kind}", sparsity=gone / count)
        ops = list(dict.fromkeys(u.op for w, _, _ in layer.weights for u in w.uses))
        row.macs = sum(c // 2 for c in (op.cost() for op in ops) if isinstance(c, int))
        touched = {id(w): w for w, _, _ in layer.weights}
        row.bytes_before = sum(w.handle.nbytes for w in touched.values())
        if ignored(layer.places, self.options.ignore):
            row.refuse("ignored")
            return row
        if not gone:
            row.refuse("nothing in it is to be removed")
            return row
        names = frozenset((layer.name,))
        try:
            small = self.shrunk(names)
        except CannotShrink as problem:
            row.refuse(f"it cannot be made smaller: {problem}")
            return row
        kept = self.kept(names)
        row.bytes_after = sum(
            smaller_constant(w.handle, self.relations.classes(_values_of(w)[0]), kept).nbytes
            for w in touched.values()
        )
        total = float(np.sum(layer.scores))
        lost = float(np.sum(layer.scores[layer.removed]))
        row.sqnr, row.measured_on = 10 * np.log10(total / lost) if lost > 0 else float("inf"), "weights"
        if costs is not None:
            self._time(row, ops, small, costs)
            if guard and row.seconds_before is not None and row.seconds_after is not None:
                if row.seconds_after >= row.seconds_before:
                    row.refuse(f"it would be no faster ({row.timing})")
        return row

    def _time(self, row: LayerRow, ops: Sequence[Op], small: Shrunk, costs: KernelCosts) -> None:
        pairs = [costs.times(alone(op), alone(small.ops.get(op, op))) for op in ops]
        row.timing = costs.kind
        known = [(a, b) for a, b in pairs if a is not None and b is not None]
        if len(known) == len(pairs):
            row.seconds_before = float(sum(a for a, _ in known))
            row.seconds_after = float(sum(b for _, b in known))


def _places(first: Weight, made: Sequence[tuple[Weight, int, int]]) -> tuple[str, ...]:
    """Names of all weights that make a family: ignoring one of them spares it."""
    return tuple(dict.fromkeys(p for w in (first, *(e[0] for e in made)) for p in w.places))


def _values_of(w: Weight) -> list[Any]:
    """The values that hold a weight, one for each op that made a constant of it."""
    found = {}
    for u in w.uses:
        for v in u.op.present_operands():
            if v.op is not None and v.op.name == "core.constant" and v.op.value is w.handle:  # type: ignore[attr-defined]
                found[v.id] = v
    return list(found.values())


def _along(squares: Array, axis: int) -> Array:
    """The sum of each part of an array along an axis."""
    return np.asarray(np.sum(squares, axis=tuple(a for a in range(squares.ndim) if a != axis)))


def _scores(family: Family, found: Sequence[tuple[Weight, int, int]], saliency: dict[str, Array]) -> Array:
    """Saliency of the components, each weight counting as its mean over them; their mean is about 1."""
    total = np.zeros(len(family.components))
    for w, axis, c in found:
        norms = _along(saliency[w.name], axis)
        parts = np.array([norms[x.atoms[c]].sum() for x in family.components])
        total += parts / max(float(parts.mean()), np.finfo(np.float64).tiny)
    return total / max(1, len(found))


def _norms(layer: Layer) -> Array:
    """Root mean square of the weights of each component in the layers that make it: what thresholds mean."""
    total, count = np.zeros(layer.scores.size), np.zeros(layer.scores.size)
    for w, axis, c in layer.weights:
        if any(axis in u.outputs for u in w.uses):
            squares = np.square(w.handle.array(), dtype=np.float64)
            norms, each = _along(squares, axis), w.handle.size / w.handle.shape[axis]
            total += [norms[x.atoms[c]].sum() for x in layer.family.components]
            count += [each * x.atoms[c].size for x in layer.family.components]
    return np.asarray(np.sqrt(total / np.maximum(count, 1)))


def _but_the_best(removed: Array, scores: Array) -> Array:
    """The mask, the best component left where it would take them all."""
    if removed.all():
        removed = removed.copy()
        removed[int(np.argmax(scores))] = False
    return removed


def _named_apart(layers: list[Layer]) -> list[Layer]:
    seen: dict[str, int] = {}
    for layer in layers:
        seen[layer.name] = seen.get(layer.name, 0) + 1
        if seen[layer.name] > 1:
            layer.name = f"{layer.name} ({seen[layer.name]})"
    return layers
