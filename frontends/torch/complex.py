"""Which of torch's tensors are complex: `frontends.complex_numbers` says what they become."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

REAL_OF = {torch.complex64: torch.float32, torch.complex128: torch.float64}
"""Complex dtypes and those of their parts; complex32 is refused."""


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of a tensor's parts; of a real tensor, its own."""
    return REAL_OF.get(dtype, dtype)


def is_complex(meta: Any) -> bool:
    """Whether one of torch's fake tensors is complex."""
    return isinstance(meta, torch.Tensor) and meta.dtype in REAL_OF


def touches_complex(node: Node) -> bool:
    """Whether a call takes or gives a complex tensor."""
    for found in (node, *node.all_input_nodes):
        values = found.meta.get("val")
        if any(is_complex(v) for v in (values if isinstance(values, (tuple, list)) else (values,))):
            return True
    return False
