"""Errors of pruning (E074x)."""

from __future__ import annotations

from aino_ir.errors.base import InternalError, UsageError


class BadSparsity(UsageError):
    """A share of weights to remove is out of range."""

    code = "AINO-E0741"
    template = "sparsity must be a number from 0 to below 1, got {got!r}"
    hint = "0.9 removes nine of ten weights; removing all of them leaves no layer"
    example = {"got": 1.0}


class BadThreshold(UsageError):
    """A threshold is no finite number above zero."""

    code = "AINO-E0742"
    template = "threshold must be a finite number above 0, got {got!r}"
    hint = "weights whose absolute value is below the threshold are removed"
    example = {"got": -0.1}


class PruningOptionsClash(UsageError):
    """Options of pruning that mean nothing together."""

    code = "AINO-E0743"
    template = "{what}"
    hint = "see help(aino_ir.prune) or `ainoc prune --help`"
    example = {"what": "structure='2:4' fixes the sparsity, but sparsity=0.9 was given"}


class BadStructure(UsageError):
    """The text of a structure means nothing."""

    code = "AINO-E0744"
    template = "structure {got!r} is none of unstructured, channel, head, N:M, block:RxC"
    hint = (
        "2:4 keeps 2 of 4 neighbouring inputs; block:1x16 removes blocks of 1 input by 16 outputs; "
        "N must be below M, and no size 0"
    )
    example = {"got": "4:2"}


class ShrunkWrong(InternalError):
    """A model with channels removed does not compute what it does with them zeroed."""

    code = "AINO-E0745"
    template = "the pruned model differs from the model with the same weights zeroed: {reason}"
    hint = "report this with the model; leave the layers out with ignore= meanwhile"
    example = {"reason": "output 'y': error 0.5 is over 1e-05"}
