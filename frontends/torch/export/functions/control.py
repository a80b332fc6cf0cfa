"""Control flow over modules that hold the regions: run here by Python, traced as PyTorch's own operators."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def choose(
    condition: Tensor,
    then: Any,
    otherwise: Any,
    captures: Sequence[Any],
    of_then: Sequence[Any],
    of_otherwise: Sequence[Any],
) -> Any:
    """then(captures, of_then) if condition else otherwise(captures, of_otherwise)."""
    condition = condition.reshape(())
    if not torch.compiler.is_compiling():
        return then(*captures, *of_then) if bool(condition) else otherwise(*captures, *of_otherwise)
    shared, first = len(captures), len(captures) + len(of_then)

    def when_true(*values: Any) -> Any:
        return then(*values[:first])

    def when_false(*values: Any) -> Any:
        return otherwise(*values[:shared], *values[first:])

    return torch.cond(condition, when_true, when_false, (*captures, *of_then, *of_otherwise))


def loop(
    body: Any,
    trips: Tensor | None,
    condition: Tensor | None,
    carried: Sequence[Tensor],
    captures: Sequence[Any],
    counted: bool,
    elements: Sequence[tuple[Sequence[int], torch.dtype]],
    anchor: Tensor,
) -> tuple[Tensor, ...]:
    """Last carried values and stacked elements of a body that runs while a condition holds."""
    limit = None if trips is None else int(trips.reshape(()))
    go = counted or condition is None or bool(condition.reshape(()))
    found: list[list[Tensor]] = [[] for _ in elements]
    values, turn = tuple(carried), 0
    while go and (limit is None or turn < limit):
        number = torch.tensor(turn, device=anchor.device)
        again, *made = body(number, torch.tensor(go, device=anchor.device), *values, *captures)
        go = counted or bool(again.reshape(()))
        values = tuple(made[: len(values)])
        for stack, element in zip(found, made[len(values) :], strict=True):
            stack.append(element)
        turn += 1
    return (*values, *stacked(found, elements, anchor))


def scan(
    body: Any,
    states: Sequence[Tensor],
    sequences: Sequence[Tensor],
    captures: Sequence[Any],
    elements: Sequence[tuple[Sequence[int], torch.dtype]],
    anchor: Tensor,
) -> tuple[Tensor, ...]:
    """Last states and stacked elements of a body that runs over the first axis of sequences."""
    found: list[list[Tensor]] = [[] for _ in elements]
    values = tuple(states)
    for parts in zip(*(s.unbind(0) for s in sequences), strict=True):
        made = body(*values, *parts, *captures)
        values = tuple(made[: len(values)])
        for stack, element in zip(found, made[len(values) :], strict=True):
            stack.append(element)
    return (*values, *stacked(found, elements, anchor))


def stacked(
    found: Sequence[Sequence[Tensor]],
    elements: Sequence[tuple[Sequence[int], torch.dtype]],
    anchor: Tensor,
) -> list[Tensor]:
    """Elements along a new first axis; of none, an empty tensor."""
    return [
        torch.stack(list(stack)) if stack else torch.zeros((0, *shape), dtype=dtype, device=anchor.device)
        for stack, (shape, dtype) in zip(found, elements, strict=True)
    ]


TABLE: dict[str, Callable[..., Any]] = {}
