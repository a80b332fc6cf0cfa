"""Outputs whose extents a run decides: the native model allocates them, and arrays take them over."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aino_ir.dims import free_symbols
from aino_ir.runtime.values import Port

Array = np.ndarray[Any, Any]

_free = ctypes.CDLL(None).free
_free.argtypes, _free.restype = [ctypes.c_void_p], None


class Memory:
    """Memory from C's allocator, freed with the last array that looks at it."""

    def __init__(self, address: int, size: int) -> None:
        self._address = address
        self.__array_interface__ = {
            "version": 3,
            "data": (address, False),
            "typestr": "|u1",
            "shape": (size,),
        }

    def __del__(self, free: Any = _free) -> None:
        free(self._address)


class Given:
    """What a native function decides in a run.

    Args:
        names: the symbols that it decides, in the order in which it tells them.
        results: its outputs.
    """

    def __init__(self, names: Sequence[str], results: Sequence[Port]) -> None:
        self.names = tuple(names)
        self.results = results
        decided = set(names)
        self.slots = tuple(
            i for i, port in enumerate(results) if any(free_symbols(d) & decided for d in port.type.shape)
        )
        """Numbers of the outputs that the model allocates."""

    def __contains__(self, slot: object) -> bool:
        return slot in self.slots

    def places(self) -> tuple[Array, Array]:
        """Where a run leaves the addresses of such outputs (one an output), and the values of the symbols."""
        return np.zeros(max(1, len(self.results)), np.uintp), np.zeros(max(1, len(self.names)), np.int64)

    def arrays(self, addresses: Array, symbols: Mapping[str, int]) -> dict[int, Array]:
        """The outputs by number, once a run has left their addresses and the symbols have their values."""
        out = {}
        for slot in self.slots:
            port = self.results[slot]
            shape = port.shape(dict(symbols))
            memory = Memory(int(addresses[slot]), math.prod(shape) * port.numpy.itemsize)
            out[slot] = np.asarray(memory).view(port.numpy).reshape(shape)
        return out
