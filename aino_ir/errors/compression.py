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
