"""Errors of quantization and pruning (E072x)."""

from __future__ import annotations

from aino_ir.errors.base import UsageError, UserError


class MetricNeeded(UsageError):
    """A drop was given, but nothing that could drop."""

    code = "AINO-E0721"
    template = "max_drop={max_drop} was given without a metric"
    hint = (
        "pass metric=, a function of a callable model that returns a number; "
        "without one the outputs' SQNR is compared"
    )
    example = {"max_drop": 0.01}


class BadMetric(UserError):
    """A metric is no finite number."""

    code = "AINO-E0722"
    template = "the metric returned {got} instead of a finite number"
    hint = "return a float, such as the accuracy on held-out data; more must be better"
    example = {"got": "nan"}


class EmptyCalibration(UsageError):
    """Calibration data is needed, and there is none."""

    code = "AINO-E0723"
    template = "there is no calibration data"
    hint = (
        "give samples that the model will meet: calibration=[(x0,), (x1,)], "
        "on the command line --calibration sample.npz for each"
    )
    example = {}


class CalibrationInputWrong(UsageError):
    """A calibration sample does not have the model's inputs."""

    code = "AINO-E0724"
    template = "calibration sample {number} must have the inputs {expected}, got {got}"
    hint = "give each sample as a tuple in input order, a mapping by input name, or the only array"
    example = {"number": 0, "expected": "x, mask", "got": "1 arrays"}


class CalibrationNotFinite(UserError):
    """A calibration sample holds NaN or infinity."""

    code = "AINO-E0725"
    template = "calibration sample {number} holds NaN or infinity in input '{name}'"
    hint = "leave the sample out, or fix what made it: a range cannot be found from it"
    example = {"number": 3, "name": "x"}


class CalibrationOverflow(UserError):
    """On calibration data the model computes NaN or infinity."""

    code = "AINO-E0729"
    template = "on the calibration data, what layer '{name}' reads is NaN or infinite"
    hint = "leave samples out that the model overflows on: no range can be found, and none would help"
    example = {"name": "encoder.fc1"}


class SchemeOptionMisplaced(UsageError):
    """An option has no meaning for the scheme that was asked for."""

    code = "AINO-E0726"
    template = "option {option}={got!r} does not go with scheme '{scheme}'"
    hint = "{advice}"
    example = {
        "option": "per",
        "got": "group",
        "scheme": "int8",
        "advice": "groups are for weight-only schemes; use per='channel'",
    }


class WeightsNotFinite(UserError):
    """A layer's weights hold NaN or infinity."""

    code = "AINO-E0727"
    template = "the weights of layer '{name}' hold NaN or infinity"
    hint = "leave it out with ignore=('{name}',) or --ignore '{name}', or fix the model"
    example = {"name": "encoder.fc1"}


class CompressionWithStates(UserError):
    """A module with state slots cannot be calibrated."""

    code = "AINO-E0728"
    template = "the model keeps state '{name}' between runs, which calibration cannot follow"
    hint = "use a weight-only scheme without calibration data"
    example = {"name": "key_cache"}
