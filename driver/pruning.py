"""`aino.prune`: a model with fewer weights, where that pays."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aino_ir.driver.api import compile_options, load
from aino_ir.driver.inputs import made_up
from aino_ir.driver.kernel_costs import costs_for
from aino_ir.errors.pruning import (
    BadSparsity,
    BadThreshold,
    PruningOptionsClash,
)
from aino_ir.errors.usage import UnknownOption
from aino_ir.graph import Module
from aino_ir.passes.compression.calibration import read_samples
from aino_ir.passes.compression.guard import MIN_SQNR, Floor, Metric, Run, guarded
from aino_ir.passes.compression.layers import as_patterns, what_was_missed
from aino_ir.passes.compression.masks import Structure
from aino_ir.passes.compression.pruning import PruningOptions, propose_zeros
from aino_ir.passes.compression.report import CompressionReport
from aino_ir.passes.compression.structured import propose_smaller
from aino_ir.passes.compression.weights import weights
from aino_ir.target import Target

CHOICES = {"scope": ("global", "local"), "criterion": ("magnitude", "wanda", "sparsegpt")}


def prune(
    x: Any,
    sparsity: float | None = None,
    *,
    threshold: float | None = None,
    structure: str = "unstructured",
    scope: str = "global",
    criterion: str = "magnitude",
    calibration: Iterable[Any] | None = None,
    ignore: str | Sequence[str] = (),
    metric: Metric | None = None,
    max_drop: float | None = None,
    min_sqnr: float = MIN_SQNR,
    guard: bool | str = True,
    target: str | Target = "c",
    example_inputs: Any = None,
    report: Callable[[CompressionReport], None] | None = None,
) -> Module:
    """A model without the weights that matter least, as a new module; see its `compression`.

    Args:
        x: what `load` takes; example_inputs: for PyTorch models.
        sparsity: share of the weights (channels, heads) to remove, from 0 to below 1.
        threshold: instead, the absolute value below which weights go; for blocks their norm, for channels
            and heads the root mean square of the weights that make them.
        structure: "unstructured"; "N:M" such as "2:4", N of M neighbouring inputs stay (no sparsity then);
            "block:RxC" of R inputs by C outputs; "channel" and "head", which make shapes smaller.
        scope: "global" compares all layers with each other, "local" takes the same share of each.
        criterion: "magnitude"; with calibration data "wanda" (weights times the norms of their inputs, within
            each output) and "sparsegpt" (what removal costs the layer's outputs; the others make up for it).
        calibration: samples: arrays, tuples in input order, or dictionaries by input name.
        ignore: patterns of layer names, or one, that stay as they are.
        metric: how good a model is, more is better: metric(run); max_drop: what it may lose (0.01).
        min_sqnr: without a metric, the outputs' least signal-to-noise ratio in dB on the calibration data.
        guard: take back what gains neither time nor bytes, or breaks the floor.  True or "modelled": times
            by the kernels' cost models; "measured": layers, then the whole model, by turns in this process.
        target: what times are for.
        report: gets the `CompressionReport`.

    Raises:
        BadSparsity, BadThreshold, BadStructure, PruningOptionsClash, UnknownOption: the options.
        EmptyCalibration, CalibrationInputWrong, CalibrationNotFinite: the data cannot be used.
    """
    patterns = as_patterns(ignore)
    options = checked(sparsity, threshold, structure, scope, criterion, patterns)
    module = load(x, example_inputs)
    needed = criterion != "magnitude" or calibration is not None
    samples = read_samples(module, calibration) if needed else []
    floor = Floor(samples, metric, max_drop, min_sqnr, compiled)
    out, outcome = _pruned(module, options, floor, guard, compile_options(target).target)
    places = [w.places for w in weights(module)] if outcome.rows else []
    outcome.notes += what_was_missed(patterns, places)
    out.compression = outcome
    if report is not None:
        report(outcome)
    return out


def _pruned(
    module: Module, options: PruningOptions, floor: Floor, guard: bool | str, target: Target
) -> tuple[Module, CompressionReport]:
    """What the guard leaves of the proposals, and its report."""
    costs, guarding, scheme = costs_for(guard, target), guard is not False, _scheme(options)
    samples = floor.samples
    if options.structure.kind not in ("channel", "head"):
        plan = propose_zeros(module, options, samples, costs, guarding)
        out, report = guarded(scheme, module, plan.proposals, plan.build, floor, costs, guarding)
        report.bytes_after -= sum(r.bytes_before - r.bytes_after for r in report.applied)  # zeros not stored
        return out, report
    plan, made = propose_smaller(module, options, costs, guarding, samples)
    out, report = guarded(scheme, module, plan.proposals, plan.build, floor, costs, guarding)
    names = frozenset(r.name for r in report.applied)
    made.check(names, out, samples[:1] or [tuple(made_up(module.main).values())])
    return out, report


def checked(
    sparsity: float | None,
    threshold: float | None,
    structure: str,
    scope: str,
    criterion: str,
    ignore: tuple[str, ...],
) -> PruningOptions:
    """The options, if they mean something together."""
    for name, value in (("scope", scope), ("criterion", criterion)):
        if value not in CHOICES[name]:
            raise UnknownOption(option=name, choices=CHOICES[name], got=value)
    parsed = Structure.parse(structure)
    if sparsity is not None and (not _number(sparsity) or not 0 <= sparsity < 1):
        raise BadSparsity(got=sparsity)
    if threshold is not None and (not _number(threshold) or not 0 < threshold < math.inf):
        raise BadThreshold(got=threshold)
    given = [n for n, v in (("sparsity", sparsity), ("threshold", threshold)) if v is not None]
    if parsed.kind == "n:m" and given:
        what = f"structure={structure!r} fixes the sparsity, but {given[0]}= was given"
        raise PruningOptionsClash(what=what)
    if parsed.kind != "n:m" and len(given) != 1:
        raise PruningOptionsClash(
            what="give either sparsity= or threshold=" + (", not both" if given else "")
        )
    whole = parsed.kind in ("channel", "head")
    if criterion == "sparsegpt" and whole:
        raise PruningOptionsClash(
            what=f"criterion='sparsegpt' removes single weights, not structure={structure!r}"
        )
    if criterion != "magnitude" and threshold is not None:
        raise PruningOptionsClash(what=f"criterion='{criterion}' compares within a layer: give sparsity=")
    local = criterion != "magnitude" and not whole
    return PruningOptions(sparsity, threshold, parsed, "local" if local else scope, criterion, ignore)


def compiled(module: Module) -> Run:
    """A module as a function of arrays: compiled, so that a metric over much data is quick."""
    from aino_ir.driver.api import compile

    exe = compile(module, "c", verify="off", cache=False)
    return lambda *inputs: tuple(exe.run(*inputs))


def _number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def _scheme(options: PruningOptions) -> str:
    s = options.structure
    kind = {"n:m": f"{s.a}:{s.b}", "block": f"block:{s.a}x{s.b}"}.get(s.kind, s.kind)
    amount = (
        f"threshold {options.threshold:g}"
        if options.threshold is not None
        else f"sparsity {options.sparsity}"
    )
    return f"prune {kind}, {options.scope}, {options.criterion}" + ("" if s.kind == "n:m" else f", {amount}")
