"""The cases of `benchmarks.gpu` in PyTorch: eager (cuBLAS, flash attention) and `torch.compile`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.gpu_models import example_tensors, network, tensor_of

PEERS: dict[str, Callable[..., Any]] = {
    "chain": lambda x, y: torch.relu((x + y) * y),
    "gelu": lambda x: F.gelu(x),
    "transpose": lambda x: x.t().contiguous(),
    "sum": lambda x: x.sum(1),
    "sum of columns": lambda x: x.sum(0),
    "sum of all": lambda x: x.sum(),
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x, s, o: F.layer_norm(x, x.shape[-1:], s, o),
    "rms_norm": lambda x, s: F.rms_norm(x, x.shape[-1:], s),
    "matmul": torch.matmul,
    "linear": torch.nn.functional.linear,
    "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
}
"""Name -> the function."""

BATCHES, BATCH_MS = 7, 30.0

MODES = {"operator": "max-autotune-no-cudagraphs", "network": "max-autotune"}
"""The mode of `torch.compile`; a graph would copy an operator's inputs first, which are most of its work."""


def milliseconds(
    engine: str, peer: Sequence[Any], inputs: Sequence[np.ndarray[Any, Any]], dtypes: Sequence[str]
) -> float:
    """Milliseconds of a run; products of f32 are true single precision.

    Raises:
        Exception: whatever the engine raises where it cannot run the case.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.compiler.reset()
    kind = "network" if peer[0] == "network" else "operator"
    function, given = _network(*peer[1:]) if kind == "network" else _operator(peer[0], inputs, dtypes)
    if engine == "torch.compile":
        function = torch.compile(function, mode=MODES[kind])
    with torch.no_grad():
        return _ms(function, given)


def _operator(
    name: str, inputs: Sequence[np.ndarray[Any, Any]], dtypes: Sequence[str]
) -> tuple[Callable[..., Any], list[torch.Tensor]]:
    return PEERS[name], [tensor_of(v, d, "cuda") for v, d in zip(inputs, dtypes, strict=True)]


def _network(name: str, batch: int, small: bool) -> tuple[Callable[..., Any], list[torch.Tensor]]:
    return network(name, batch, small).cuda(), list(example_tensors(name, batch, small, "cuda"))


def _ms(function: Callable[..., Any], given: Sequence[torch.Tensor]) -> float:
    for _ in range(3):
        function(*given)
    first = _batch(function, given, 3)
    count = max(1, min(1000, int(BATCH_MS / max(first, 1e-3))))
    times = [_batch(function, given, count) for _ in range(1 + BATCHES)]
    return round(statistics.median(times[1:]), 5)


def _batch(function: Callable[..., Any], given: Sequence[torch.Tensor], count: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(count):
        function(*given)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / count
