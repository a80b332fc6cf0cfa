"""Errors of distillation (E075x)."""

from __future__ import annotations

from aino_ir.errors.base import UserError


class DistillDataWrong(UserError):
    """Training data is missing or is not what the models take."""

    code = "AINO-E0751"
    template = "distillation data, item {number}: {reason}"
    hint = (
        "an item is an array or a tuple of arrays in input order; "
        "with the loss 'labels', a pair of these and labels"
    )
    example = {"number": 0, "reason": "there is no data"}


class NothingToTrain(UserError):
    """A student has no constants that training may change."""

    code = "AINO-E0752"
    template = "the student has no constants that can be trained"
    hint = "weights that are inputs, or that integers are multiplied with, stay; distill before quantizing"
    example = {}


class LossNotFinite(UserError):
    """Training diverged."""

    code = "AINO-E0753"
    template = "the loss is {loss} in epoch {epoch}, item {number}"
    hint = "pass an optimizer with a smaller learning rate, or look for outliers in the data"
    example = {"loss": float("nan"), "epoch": 0, "number": 12}
