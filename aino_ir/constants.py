"""Constant handles: array, memory-mapped slice or lazy expression, with a cached content hash.

Nothing compares, prints or copies bytes; tied weights share a handle.  The hash covers bytes only;
dtype and shape stand beside it in `key`.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from aino_ir.dtypes import DType, dtype_of
from aino_ir.errors.ir import UnsupportedArray
from aino_ir.types import TensorType

if TYPE_CHECKING:
    from aino_ir.graph import Block


class Const:
    """A handle on constant data of a static tensor type.

    Attributes:
        type: dtype and shape, row-major.
        name: where it came from (an initializer's name), for people only.
        facts: what was found out about the contents, by name (see `aino_ir.sparsity`).
    """

    __slots__ = ("_array", "_digest", "_load", "_lock", "block", "facts", "inputs", "name", "type")

    def __init__(
        self,
        type: TensorType,
        array: np.ndarray | None = None,
        load: Callable[[], np.ndarray] | None = None,
        block: Block | None = None,
        inputs: tuple[Const, ...] = (),
        name: str = "",
    ) -> None:
        self.type = type
        self.name = name
        self.block = block
        self.inputs = inputs
        self._array = array
        self._load = load
        self._digest: str | None = None
        self.facts: dict[str, object] = {}
        self._lock = threading.Lock()

    @staticmethod
    def of(array: Any, name: str = "") -> Const:
        """A handle on an array (kept, not copied; treat it as frozen)."""
        array = np.asarray(array)
        if not array.dtype.isnative:
            array = array.astype(array.dtype.newbyteorder("="))
        dtype = dtype_of(array.dtype)
        if dtype is None:
            raise UnsupportedArray(dtype=array.dtype)
        return Const(TensorType(dtype, tuple(array.shape)), array, name=name)

    @staticmethod
    def deferred(
        dtype: DType, shape: tuple[int, ...], load: Callable[[], np.ndarray], name: str = ""
    ) -> Const:
        """A handle whose array is read (say, from a mapped file) when first needed."""
        return Const(TensorType(dtype, shape), load=load, name=name)

    @staticmethod
    def lazy(block: Block, inputs: tuple[Const, ...], type: TensorType, name: str = "") -> Const:
        """A constant computed from others by an isolated region of ordinary ops with one result."""
        return Const(type, block=block, inputs=inputs, name=name)

    @property
    def is_lazy(self) -> bool:
        """Whether it is an expression over other constants."""
        return self.block is not None

    @property
    def dtype(self) -> DType:
        """Element dtype."""
        return self.type.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Static shape."""
        return tuple(int(d) for d in self.type.shape)  # type: ignore[arg-type]

    @property
    def size(self) -> int:
        """Number of elements."""
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        """Bytes of the unpacked array."""
        return self.size * self.dtype.bytes

    def array(self, wide: bool = False) -> np.ndarray:
        """The data; `wide` evaluates a lazy float constant in f64 without rounding at the end."""
        if wide and self.block is not None and self.dtype.is_float:
            return self._evaluate(wide=True)
        if wide and self.dtype.is_float:
            return self.array().astype(np.float64)
        with self._lock:
            if self._array is None:
                self._array = self._load() if self._load is not None else self._evaluate(wide=False)
                if tuple(self._array.shape) != self.shape:
                    self._array = self._array.reshape(self.shape)
            return self._array

    def _evaluate(self, wide: bool) -> np.ndarray:
        from aino_ir.interp import evaluate_block

        assert self.block is not None
        arrays = [c.array(wide=True) for c in self.inputs]
        (result,) = evaluate_block(self.block, arrays, precision="wide")
        return result if wide else round_array(result, self.dtype)

    @property
    def digest(self) -> str:
        """SHA-256 of the bytes; of a lazy constant, of its region and the keys of its inputs."""
        if self._digest is None:
            h = hashlib.sha256()
            if self.block is not None:
                from aino_ir.structural import block_hash

                h.update(block_hash(self.block).encode())
                for c in self.inputs:
                    h.update(repr(c.key).encode())
            else:
                data = np.ascontiguousarray(self.array())
                h.update(data.view(np.uint8).reshape(-1).data if data.size else b"")
            self._digest = h.hexdigest()
        return self._digest

    @property
    def identity(self) -> tuple[object, ...]:
        """The key where the content was hashed already, else the handle itself: never reads the data."""
        return self.key if self._digest is not None else ("handle", id(self))

    @property
    def key(self) -> tuple[str, tuple[int, ...], str]:
        """(dtype, shape, digest): equal keys mean equal constants."""
        return (self.dtype.name, self.shape, self.digest)

    def __eq__(self, other: object) -> bool:
        return self is other or (
            isinstance(other, Const) and self.type == other.type and self.key == other.key
        )

    def __hash__(self) -> int:
        return hash((self.dtype.name, self.shape))

    def __repr__(self) -> str:
        return f"Const({self.type}{', ' + self.name if self.name else ''})"


def round_array(array: np.ndarray, dtype: DType) -> np.ndarray:
    """Convert computed values to a result dtype: floats round once, others wrap."""
    if array.dtype == dtype.numpy:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype.numpy)
