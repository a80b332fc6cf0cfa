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
    """A model without the weights that matter least.

    Args:
        x: what `load` takes.
        sparsity: share of the weights (channels, heads) to remove, from 0 to below 1.  0 removes nothing.
        threshold: instead, the absolute value below which weights go; for blocks their norm, for channels
            and heads the root mean square of the weights that make them.
        structure: "unstructured"; "N:M" such as "2:4", which keeps N of M neighbouring inputs (no
            sparsity then); "block:RxC" such as "block:1x16", blocks of R inputs by C outputs;
            "channel" and "head", which make shapes smaller.
        scope: "global" compares all layers with each other, "local" takes the same share of each.
        criterion: "magnitude"; "wanda": weights times the norms of their inputs, single weights compared
            within each output (so their scope is local); "sparsegpt": weights by what their removal costs the
            outputs of their layer, and the weights that stay make up for it (single weights, N:M and
            blocks, each layer alone).  The last two need calibration data.
        calibration: samples: arrays, tuples in input order, or dictionaries by input name.
        ignore: patterns of layer names, or one, that stay as they are.
        metric: how good a model is: metric(run) -> float, more is better; `run` takes arrays.
        max_drop: what the metric may lose (0.01).
        min_sqnr: without a metric, the least signal-to-noise ratio in dB of the outputs on the
            calibration data.
        guard: take back what gains neither time nor bytes, or breaks the floor.  True or "modelled":
            times are those of the kernels' cost models; "measured": layers, and then the whole model, run
            beside what they were, by turns in this process.
        target: what times are for.
        example_inputs: for PyTorch models.
        report: gets the `CompressionReport`.

    Returns:
        A new module; what became of each layer stands in its `compression`.

    Raises:
        BadSparsity, BadThreshold, BadStructure, PruningOptionsClash, UnknownOption: the options.
        EmptyCalibration, CalibrationInputWrong, CalibrationNotFinite: the data cannot be used.
    """
    module = load(x, example_inputs)
    out, outcome = prune_with_report(
        module,
        sparsity,
        threshold=threshold,
        structure=structure,
        scope=scope,
        criterion=criterion,
        calibration=calibration,
        ignore=ignore,
        metric=metric,
        max_drop=max_drop,
        min_sqnr=min_sqnr,
        guard=guard,
        target=target,
    )
    places = [w.places for w in weights(module)] if outcome.rows else []
    outcome.notes += what_was_missed(as_patterns(ignore), places)
    out.compression = outcome
    if report is not None:
        report(outcome)
    return out


def prune_with_report(
    module: Module,
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
) -> tuple[Module, CompressionReport]:
    """`prune` on a module, and the report beside the result."""
    options = checked(sparsity, threshold, structure, scope, criterion, as_patterns(ignore))
    needed = criterion != "magnitude" or calibration is not None
    samples = read_samples(module, calibration) if needed else []
    floor = Floor(samples, metric, max_drop, min_sqnr, compiled)
    costs = costs_for(guard, compile_options(target).target)
    guarding = guard is not False
    scheme = _scheme(options)
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
