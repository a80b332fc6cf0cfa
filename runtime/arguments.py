"""What callers hand to a run and want back, where no native function takes it apart: by place or by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.constants import Const
from aino_ir.errors.run import WrongInputCount, WrongOutputCount
from aino_ir.runtime.structures import target_array
from aino_ir.types import Type

Ports = Sequence[tuple[str, Type]]
Outputs = Sequence[Any] | Mapping[str, Any]


def in_order(inputs: tuple[Any, ...], ports: Ports, defaults: Mapping[str, Const]) -> list[Any]:
    """The values of all inputs in order, whether they came by place or as one mapping by name.

    Raises:
        WrongInputCount: one without a default is missing, or there are too many.
    """
    names = [n for n, _ in ports]
    if len(inputs) == 1 and isinstance(inputs[0], Mapping):
        named = inputs[0]
        missing = [n for n in names if n not in named and n not in defaults]
        if missing or not set(named) <= set(names):
            raise WrongInputCount(expected=tuple(names), got=tuple(named))
        return [named[n] if n in named else defaults[n].array() for n in names]
    if len(inputs) > len(names) or any(n not in defaults for n in names[len(inputs) :]):
        raise WrongInputCount(expected=tuple(names), got=f"{len(inputs)} positional")
    return [*inputs, *(defaults[n].array() for n in names[len(inputs) :])]


def filled(out: Outputs, made: Sequence[Any], ports: Ports) -> list[Any]:
    """The caller's own buffers, filled with the outputs.

    Raises:
        WrongOutputCount: there are not as many buffers as outputs.
        BadOutputBuffer: one cannot take its output.
    """
    names = [n for n, _ in ports]
    fits = set(out) == set(names) if isinstance(out, Mapping) else len(out) == len(names)
    if not fits:
        raise WrongOutputCount(
            expected=tuple(names), got=tuple(out) if isinstance(out, Mapping) else len(out)
        )
    given = [out[n] for n in names] if isinstance(out, Mapping) else list(out)
    rows = zip(given, made, ports, strict=True)
    arrays = [target_array(target, value, name, type_) for target, value, (name, type_) in rows]
    for array, value in zip(arrays, made, strict=True):
        np.copyto(array, value)
    return given
