"""Shapes of recurrent layers, for tracing without walking through their time steps.

torch's own rule for the result of a recurrent layer on fake tensors is to run the layer, step by step:
minutes for long sequences, and a trace that holds for that length alone.  The layers have rows
(`frontends.torch.ops.recurrent`), so that nobody needs the steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._C import DispatchKey
from torch._decomp import decomposition_table

_PATCHING = threading.RLock()

KEYS = (DispatchKey.CompositeImplicitAutograd, DispatchKey.Autograd)
"""The dispatch keys under which torch keeps its step by step rules, beside its table of decompositions."""


def output(x: Tensor, state: Tensor, bidirectional: bool) -> Tensor:
    """Hidden states of all steps, like those of x but for their width."""
    return x.new_empty((*x.shape[:-1], state.shape[-1] * (2 if bidirectional else 1)))


def lstm(
    x: Tensor,
    hx: Sequence[Tensor],
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """aten.lstm.input: output, and the last hidden states and cells."""
    h, c = hx
    return output(x, h, bidirectional), torch.empty_like(h), torch.empty_like(c)


def plain(
    x: Tensor,
    hx: Tensor,
    params: Sequence[Tensor],
    has_biases: bool,
    num_layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor]:
    """aten.gru.input, aten.rnn_tanh.input and aten.rnn_relu.input: output, and the last hidden states."""
    return output(x, hx, bidirectional), torch.empty_like(hx)


SHAPES: dict[Any, Callable[..., tuple[Tensor, ...]]] = {
    torch.ops.aten.lstm.input: lstm,
    torch.ops.aten.gru.input: plain,
    torch.ops.aten.rnn_tanh.input: plain,
    torch.ops.aten.rnn_relu.input: plain,
}


@contextmanager
def untouched_recurrences() -> Iterator[None]:
    """While this is open, a traced recurrent layer is one operator of which only the shapes are computed."""
    with _PATCHING:
        kernels = {op: {key: op.py_kernels[key] for key in KEYS if key in op.py_kernels} for op in SHAPES}
        table = {op: decomposition_table[op] for op in SHAPES if op in decomposition_table}
        try:
            for op, shape in SHAPES.items():
                _set_kernels(op, dict.fromkeys(kernels[op], shape))
            decomposition_table.update({op: SHAPES[op] for op in table})
            yield
        finally:
            decomposition_table.update(table)
            for op, own in kernels.items():
                _set_kernels(op, own)


def _set_kernels(op: Any, kernels: dict[DispatchKey, Callable[..., Any]]) -> None:
    op.py_kernels.update(kernels)
    op._dispatch_cache.clear()
