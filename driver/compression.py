"""`aino.quantize`: options checked, the model loaded, layers timed, the guard asked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from aino_ir.driver.api import Dims, compile_options, load
from aino_ir.driver.kernel_costs import costs_for
from aino_ir.errors.compression import SchemeOptionMisplaced
from aino_ir.errors.usage import OptionTooSmall, UnknownOption
from aino_ir.graph import Module
from aino_ir.passes.canonicalize import Canonicalize
from aino_ir.passes.compression.calibration import read_samples
from aino_ir.passes.compression.calibrators import CALIBRATORS
from aino_ir.passes.compression.guard import MIN_SQNR, Floor, Metric, guarded
from aino_ir.passes.compression.layers import as_patterns, find_layers, prepared, what_was_missed
from aino_ir.passes.compression.numbers import Recipe, weight_recipe
from aino_ir.passes.compression.quantize import Quantization, Request
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.passes.manager import PassManager
from aino_ir.passes.split_transposed_convolutions import SplitTransposedConvolutions
from aino_ir.short_sums import DEPTHS
from aino_ir.target import Target

SCHEMES: dict[str, tuple[str, int]] = {
    "int8": ("static", 8),
    "int8-dynamic": ("dynamic", 8),
    "int8-weight": ("", 8),
    "int4-weight": ("", 4),
    "bf16": ("half", 16),
}
"""Scheme -> (how activations are quantised, bits of a weight)."""

AS_PLAIN_CONVOLUTIONS = (SplitTransposedConvolutions(), FoldConstants(), Canonicalize())
"""Transposed convolutions are quantised as the plain ones that they become."""

SHORT_SUMS = 2
"""Steps whose sums fit 16 bits, where nothing else is asked for.

With four products in a lane, scales are about those of 7 bits, and half of the widening is saved; eight
products cost 2 dB more.
"""


def quantize(
    x: Any,
    scheme: str = "int8",
    *,
    calibration: Iterable[Any] | None = None,
    calibrator: str = "minmax",
    per: str | None = None,
    group: int = 128,
    method: str = "rtn",
    symmetric: bool | None = None,
    short_sums: int | None = None,
    bias_correction: bool = True,
    ignore: str | Sequence[str] = (),
    metric: Metric | None = None,
    max_drop: float | None = None,
    min_sqnr: float = MIN_SQNR,
    guard: bool | str = True,
    target: str | Target = "c",
    example_inputs: Any = None,
    dims: Dims | None = None,
    report: Callable[[Any], None] | None = None,
) -> Module:
    """The model with weights, and with "int8" and "int8-dynamic" activations too, in few bits.

    Static int8 needs calibration data; contractions then sum bytes exactly and give the same bits on every
    target.  Weight-only schemes keep weights compressed in the artifact and decode them in the kernel.
    With bf16, weights are stored so, and what layers read and make; sums, biases and all other ops are f32.
    What became of each layer stands in the result's `compression`, a `CompressionReport`.

    Args:
        x: what `load` takes, or a Module, which stays as it is.
        scheme: int8, int8-dynamic (a grid for each row, found when it runs), int8-weight, int4-weight,
            bf16.
        calibration: samples: tuples of arrays in input order, mappings by name, or single arrays.
        calibrator: minmax, percentile, entropy or mse: which range of an activation 8 bits cover.
        per: what shares a scale of the weights: tensor, channel, or (weight-only) group.  Default: channel,
            of int4-weight group.  Convolutions have a scale a channel instead of one a group.
        group: neighbours along the reduction that share a scale; the last group may be shorter.
        method: rtn (round to nearest) or gptq (needs calibration data).
        symmetric: whether zero points are in the middle.  Default: weights yes, static activations no.
        short_sums: int8 and int8-dynamic: for how many steps of two products (1, 2 or 4) weights are made
            small enough that these add up in 16 bits, which is what AVX2 does fastest; 0: for none.
            Default: 2 where the target has no instruction that multiplies bytes, else 0.
        bias_correction: with calibration data, the mean error of each output channel is taken off.
        ignore: patterns (``head*``), or one, of layers that stay as they are.
        metric: how good a model is: gets a callable model, returns a number, more is better.
        max_drop: what the metric may lose (default 0.01).
        min_sqnr: without a metric: the outputs' least signal-to-noise ratio in dB on the calibration data.
        guard: take back what is larger, slower or breaks the floor.  True or "modelled": times are those of
            the kernels' cost models; "measured": layers, and then the whole model, run beside what they
            were, by turns in this process.
        target: whose kernels are asked for the time.
        example_inputs, dims: as for `load`.
        report: gets the `CompressionReport`.

    Raises:
        UnknownOption, OptionTooSmall, SchemeOptionMisplaced: an option cannot be.
        EmptyCalibration, CalibrationInputWrong, CalibrationNotFinite, CalibrationOverflow: the data cannot
            be used.
        WeightsNotFinite: a layer's weights cannot be.
    """
    goal = compile_options(target).target
    weights = _weights(scheme, per, group, symmetric, short_sums, goal)
    patterns = as_patterns(ignore)
    request = _request(scheme, weights, calibrator, symmetric, method, patterns, bias_correction)
    module = prepared(load(x, example_inputs, dims=dims))
    PassManager(AS_PLAIN_CONVOLUTIONS).run(module)
    needed = request.activations == "static" or request.compensate
    samples = read_samples(module, calibration) if needed or calibration is not None else []
    work = Quantization(module, request, samples)
    floor = Floor(samples, metric, max_drop, min_sqnr)
    costs, guarding = costs_for(guard, goal), guard is not False
    result, outcome = guarded(scheme, module, work.proposals(), work.build, floor, costs, guarding)
    outcome.notes += what_was_missed(patterns, [layer.places for layer in find_layers(module)])
    result.compression = outcome
    if report is not None:
        report(outcome)
    return result


def _weights(
    scheme: str, per: str | None, group: int, symmetric: bool | None, short_sums: int | None, target: Target
) -> Recipe:
    """How weights become integers; options checked."""
    _check("scheme", scheme, tuple(SCHEMES))
    activations, bits = SCHEMES[scheme]
    if bits == 16:
        for option, got in (("per", per), ("symmetric", symmetric)):
            if got is not None:
                advice = "bf16 has no scales and zero points; leave it out"
                raise SchemeOptionMisplaced(option=option, got=got, scheme=scheme, advice=advice)
    per = per if per is not None else "group" if bits == 4 else "channel"
    _check("per", per, ("tensor", "channel", "group"))
    if not isinstance(group, int) or isinstance(group, bool) or group < 1:
        raise OptionTooSmall(option="group", kind="whole number", least=1, got=group)
    if activations and per == "group":
        advice = "groups are for weight-only schemes; use per='channel'"
        raise SchemeOptionMisplaced(option="per", got=per, scheme=scheme, advice=advice)
    if (not activations or bits == 16) and short_sums is not None:
        advice = "it is for schemes that multiply bytes; leave it out"
        raise SchemeOptionMisplaced(option="short_sums", got=short_sums, scheme=scheme, advice=advice)
    if short_sums is None:
        short_sums = SHORT_SUMS if activations and not target.multiplies_bytes else 0
    if short_sums not in (0, *DEPTHS):
        raise UnknownOption(option="short_sums", choices=tuple(map(str, (0, *DEPTHS))), got=short_sums)
    centred = symmetric is not False or bool(activations)
    return weight_recipe(bits, per, group, centred, short_sums)


def _request(
    scheme: str,
    weights: Recipe,
    calibrator: str,
    symmetric: bool | None,
    method: str,
    ignore: Sequence[str],
    bias_correction: bool,
) -> Request:
    """The whole request; options checked."""
    _check("calibrator", calibrator, tuple(CALIBRATORS))
    _check("method", method, ("rtn", "gptq"))
    activations, bits = SCHEMES[scheme]
    if bits == 16 and method != "rtn":
        advice = "rounding to bf16 loses too little to compensate; leave it out"
        raise SchemeOptionMisplaced(option="method", got=method, scheme=scheme, advice=advice)
    if activations == "dynamic" and symmetric is not None:
        advice = "dynamic activations always have their zero point in the middle; leave it out"
        raise SchemeOptionMisplaced(option="symmetric", got=symmetric, scheme=scheme, advice=advice)
    return Request(
        activations, weights, calibrator, bool(symmetric), method == "gptq", tuple(ignore), bias_correction
    )


def _check(option: str, got: Any, choices: tuple[str, ...]) -> None:
    if got not in choices:
        raise UnknownOption(option=option, choices=choices, got=got)
