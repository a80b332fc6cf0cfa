"""Tensors of torch as constant handles: memory is shared, equal tensors are one handle."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch._subclasses.fake_tensor import unset_fake_temporarily

from aino_ir.constants import Const
from aino_ir.errors.torch import TorchTypeUnsupported
from aino_ir.frontends.torch.dtypes import DTYPE_OF

_BITS = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32, 8: torch.uint64}

Array = np.ndarray[Any, Any]


class Handles:
    """Constant handles of a program's tensors; views of the same memory share one."""

    def __init__(self) -> None:
        self._made: dict[tuple[Any, ...], tuple[torch.Tensor, Const]] = {}

    def of(self, tensor: torch.Tensor, name: str) -> Const:
        """The handle of a dense tensor on the CPU.

        Raises:
            TorchTypeUnsupported: it is complex, sparse, quantised, on another device or without data.
        """
        require_dense(tensor, f"tensor '{name}'")
        tensor = tensor.detach()
        key: tuple[Any, ...] = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride())
        if tensor.numel() == 0:
            key = (0, *key[1:3])
        found = self._made.get(key)
        if found is None:
            dtype = DTYPE_OF[tensor.dtype]
            shape = tuple(tensor.shape)
            found = (tensor, Const.deferred(dtype, shape, lambda: array_of(tensor), name))
            self._made[key] = found
        return found[1]


def require_dense(tensor: torch.Tensor, what: str) -> None:
    """Refuse a tensor that AINO cannot hold."""
    plain = (
        tensor.layout == torch.strided and tensor.device.type in ("cpu", "cuda") and not tensor.is_quantized
    )
    if tensor.dtype not in DTYPE_OF or not plain:
        got = f"{tensor.dtype} with layout {tensor.layout} on {tensor.device}".replace("torch.", "")
        raise TorchTypeUnsupported(what=what, got=got)


def array_of(tensor: torch.Tensor) -> Array:
    """A dense tensor as an array on the same memory, a copy where it lies on a GPU.

    Also while torch traces with fake tensors.
    """
    with unset_fake_temporarily():
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg()
        dtype = DTYPE_OF[tensor.dtype]
        try:
            return tensor.numpy()
        except TypeError:  # numpy has no such type: the bits pass through integers
            bits = tensor.contiguous().view(_BITS[tensor.dtype.itemsize])
            return bits.numpy().view(dtype.numpy)
