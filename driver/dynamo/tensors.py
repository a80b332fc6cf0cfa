"""Calls of native code straight on torch's memory: no arrays, no copies, in both directions."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import torch

from aino_ir.errors.run import InputMismatch
from aino_ir.frontends.torch.dtypes import TORCH_DTYPE
from aino_ir.runtime.raw import RawCall

Holder = ctypes.c_int64 | ctypes.c_double | torch.Tensor
"""What keeps the memory of an input alive during a call."""


class TensorCall:
    """A native program on torch's tensors.

    Args:
        raw: the program.
        positions: which arguments its inputs are.
    """

    def __init__(self, raw: RawCall, positions: Sequence[int]) -> None:
        self.raw = raw
        self.inputs = [
            (
                position,
                port.name,
                TORCH_DTYPE[port.type.dtype.name],
                port.static_shape,
                port.numpy.itemsize - 1,
            )
            for position, port in zip(positions, raw.ports, strict=True)
        ]
        self.dtypes = [TORCH_DTYPE[p.type.dtype.name] for p in raw.results]

    def __call__(self, args: Sequence[Any]) -> list[torch.Tensor]:
        """New tensors for the results, which the program has written.

        Raises:
            InputMismatch: an argument is not what the graph was traced for.
        """
        raw = self.raw
        held: list[Holder] = []
        addresses: list[int] = []
        for position, name, dtype, shape, odd in self.inputs:
            value = args[position]
            if not isinstance(value, torch.Tensor):
                number = ctypes.c_double(value) if dtype is torch.float64 else ctypes.c_int64(value)
                held.append(number)
                addresses.append(ctypes.addressof(number))
                continue
            if value.dtype is not dtype or (shape is not None and value.shape != shape):
                raise InputMismatch(
                    name=name, what="type", expected=(dtype, shape), got=(value.dtype, tuple(value.shape))
                )
            if not value.is_contiguous() or value.is_neg():
                value = value.resolve_neg().contiguous()
                held.append(value)
            address = value.data_ptr()
            if address & odd:
                value = value.clone()
                held.append(value)
                address = value.data_ptr()
            addresses.append(address)
        extents = raw.fixed
        if extents is None:
            extents = raw.extents([getattr(args[p], "shape", ()) for p, *_ in self.inputs])
        outputs = [torch.empty(s, dtype=d) for s, d in zip(extents.shapes, self.dtypes, strict=True)]  # type: ignore[arg-type]
        raw.run(addresses, extents, [o.data_ptr() for o in outputs])
        return outputs
