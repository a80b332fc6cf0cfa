"""The cases of `benchmarks.gpu` in PyTorch: eager (cuBLAS, flash attention) and `torch.compile`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

PEERS: dict[str, Callable[..., Any]] = {
    "chain": lambda x, y: torch.relu((x + y) * y),
    "gelu": lambda x: F.gelu(x),
    "transpose": lambda x: x.t().contiguous(),
    "sum": lambda x: x.sum(1),
    "softmax": lambda x: torch.softmax(x, -1),
    "layer_norm": lambda x, s, o: F.layer_norm(x, x.shape[-1:], s, o),
    "rms_norm": lambda x, s: F.rms_norm(x, x.shape[-1:], s),
    "matmul": torch.matmul,
    "attention": lambda q, k, v: F.scaled_dot_product_attention(q, k, v),
}
"""Name -> the function."""

BATCHES, BATCH_MS = 7, 30.0


def times(name: str, inputs: Sequence[np.ndarray[Any, Any]], dtypes: Sequence[str]) -> dict[str, Any]:
    """Milliseconds of a run, eager and compiled; single precision is true single precision."""
    torch.backends.cuda.matmul.allow_tf32 = False
    given = [_on_gpu(value, dtype) for value, dtype in zip(inputs, dtypes, strict=True)]
    eager = PEERS[name]
    found: dict[str, Any] = {"torch eager": _ms(eager, given)}
    try:
        found["torch.compile"] = _ms(torch.compile(eager, mode="max-autotune-no-cudagraphs"), given)
    except Exception as problem:  # whatever the peer's compiler lacks here (a C compiler, Triton)
        found["torch.compile"] = f"{type(problem).__name__}: {str(problem)[:120]}"
    return found


def _on_gpu(value: np.ndarray[Any, Any], dtype: str) -> torch.Tensor:
    if dtype == "bf16":
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16).cuda()
    return torch.from_numpy(value).cuda()


def _ms(function: Callable[..., Any], given: Sequence[torch.Tensor]) -> float:
    for _ in range(3):
        function(*given)
    first = _batch(function, given, 3)
    count = max(1, min(1000, int(BATCH_MS / max(first, 1e-3))))
    return round(statistics.median(_batch(function, given, count) for _ in range(BATCHES)), 5)


def _batch(function: Callable[..., Any], given: Sequence[torch.Tensor], count: int) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    start.record()
    for _ in range(count):
        function(*given)
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / count
