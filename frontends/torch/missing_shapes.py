"""Shapes of operators for which torch has no rule on fake tensors, so that programs with them export."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_impls import op_implementations_dict

_PATCHING = threading.RLock()


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    zero_infinity: bool = False,
) -> tuple[Tensor, Tensor]:
    """aten._ctc_loss: losses, and what serves the gradient, as wide as the longest target may be."""
    frames, batch = log_probs.shape[:2]
    longest = targets.shape[-1] if isinstance(target_lengths, Tensor) else max(target_lengths, default=0)
    return log_probs.new_empty((batch,)), log_probs.new_empty((batch, frames, 2 * longest + 1))


def least_squares(
    x: Tensor, b: Tensor, rcond: float | None = None, driver: str | None = None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """aten.linalg_lstsq: solutions, residuals (of a full rank), ranks, singular values."""
    driver = driver or "gelsy"
    vector = b.dim() == 1 or (x.dim() - 1 == b.dim() and b.shape == x.shape[:-1])
    wide = b.unsqueeze(-1) if vector else b
    lead = torch.broadcast_shapes(x.shape[:-2], wide.shape[:-2])  # type: ignore[no-untyped-call]
    rows, columns = x.shape[-2:]
    counts = (columns,) if vector else (columns, wide.shape[-1])
    more = rows > columns and driver != "gelsy"
    return (
        x.new_empty((*lead, *counts)),
        x.new_empty((*lead, wide.shape[-1]) if more else (0,)),
        x.new_empty((0,) if driver == "gels" else x.shape[:-2], dtype=torch.int64),
        x.new_empty((*x.shape[:-2], min(rows, columns)) if driver in ("gelsd", "gelss") else (0,)),
    )


SHAPES: dict[Any, Callable[..., tuple[Tensor, ...]]] = {
    torch.ops.aten._ctc_loss.default: ctc_loss,
    torch.ops.aten._ctc_loss.Tensor: ctc_loss,
    torch.ops.aten.linalg_lstsq.default: least_squares,
}


@contextmanager
def shapes_given() -> Iterator[None]:
    """While this is open, torch traces these operators."""
    with _PATCHING:
        ours = {op: _on_fakes(shape) for op, shape in SHAPES.items() if op not in op_implementations_dict}
        op_implementations_dict.update(ours)
        try:
            yield
        finally:
            for op in ours:
                del op_implementations_dict[op]


def _on_fakes(shape: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """A rule as torch's fake mode calls it."""

    def rule(mode: Any, operator: Any, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        with mode:
            return shape(*args, **kwargs)

    return rule
