"""How much of a model the reader accepts before it says that the model is malformed or hostile."""

from __future__ import annotations

from dataclasses import dataclass

from aino_ir.errors.onnx import LimitExceeded


@dataclass(frozen=True)
class Limits:
    """Upper bounds that are checked before memory is taken or work is done.

    Attributes:
        file_bytes: size of the protobuf file (external data does not count).
        nodes: nodes in the model, subgraphs and inlined functions included.
        values: initializers, inputs, outputs, declared types and operand slots, all together.
        depth: nesting of subgraphs, of function calls and of types.
        rank: number of dimensions of a tensor.
        elements: values in one tensor (a stored one or a declared shape).
        dense_bytes: bytes of one sparse tensor once it is dense.
    """

    file_bytes: int = 2**31
    nodes: int = 10**6
    values: int = 2 * 10**7
    depth: int = 64
    rank: int = 16
    elements: int = 2**40
    dense_bytes: int = 2**31


DEFAULT = Limits()
"""The limits that readers use unless told otherwise."""


def check_limit(what: str, got: int, limit: int, loc: object = None) -> None:
    """Raise LimitExceeded when `got` (a count of `what`) lies above `limit`."""
    if got > limit:
        raise LimitExceeded(loc=loc, what=what, got=got, limit=limit)
