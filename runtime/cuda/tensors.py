"""Tensors on a GPU at the boundary: read where they lie, made anew for results; torch's, or DLPack's.

DLPack's structures are those of its version 0 (`DLManagedTensor`), which every library speaks.
"""

from __future__ import annotations

import ctypes
import math
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

from aino_ir.dtypes import DTYPES
from aino_ir.errors.run import InputMismatch, UnsupportedInput
from aino_ir.runtime.cuda.device import Event, Memory, open_device
from aino_ir.runtime.values import Port, is_torch

CUDA = 2
MANAGED = 13
"""DLPack's numbers of CUDA devices, and of memory that moves between them and the host."""

LEGACY_STREAM = 1
"""What DLPack and the driver both call the default stream."""

_CODES = {"i": 0, "u": 1, "f": 2, "bf": 4, "b": 6}
DLPACK: dict[tuple[int, int], str] = {
    **{(_CODES["i"], 8 * n): f"i{8 * n}" for n in (1, 2, 4, 8)},
    **{(_CODES["u"], 8 * n): f"u{8 * n}" for n in (1, 2, 4, 8)},
    **{(_CODES["f"], bits): f"f{bits}" for bits in (16, 32, 64)},
    (_CODES["bf"], 16): "bf16",
    (_CODES["b"], 8): "bool",
}
"""(type code, bits) -> AINO's name of a dtype."""

TORCH: dict[str, str] = {
    **{f"torch.{kind}{n}": f"{kind[0]}{n}" for kind in ("int", "float") for n in (16, 32, 64)},
    **{f"torch.uint{n}": f"u{n}" for n in (8, 16, 32, 64)},
    "torch.int8": "i8",
    "torch.bool": "bool",
    "torch.bfloat16": "bf16",
    "torch.float8_e4m3fn": "f8e4m3fn",
    "torch.float8_e4m3fnuz": "f8e4m3fnuz",
    "torch.float8_e5m2": "f8e5m2",
    "torch.float8_e5m2fnuz": "f8e5m2fnuz",
    "torch.float8_e8m0fnu": "f8e8m0",
}
"""torch's name of a dtype -> AINO's."""


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor of the caller's.

    Attributes:
        address: of its first element, on the device.
        shape: its extents.
        owner: keeps its memory.
    """

    address: int
    shape: tuple[int, ...]
    owner: Any


def device_number(value: Any) -> int | None:
    """The number of the CUDA device on which a value lies; None when it is no such thing."""
    if is_torch(value):
        return int(value.device.index or 0) if value.device.type == "cuda" else None
    where = getattr(value, "__dlpack_device__", None)
    if where is None:
        return None
    kind, number = where()
    return int(number) if int(kind) in (CUDA, MANAGED) else None


def device_tensor(value: Any, port: Port, stream: int, copies: bool = True) -> DeviceTensor:
    """A caller's tensor on a device, checked and row-major.

    Args:
        value: torch's, or anything with DLPack.
        port: what it should be.
        stream: that will read it.
        copies: whether a torch tensor that is not row-major may be copied on its device.

    Raises:
        InputMismatch: dtype, shape or rank is another.
        UnsupportedInput: it is of a kind, or lies in a way, that kernels cannot read.
    """
    found = _from_torch(value, port, copies) if is_torch(value) else _from_dlpack(value, port, stream)
    tensor, dtype = found
    want = port.type.dtype.name
    if dtype != want:
        raise InputMismatch(name=port.name, what="dtype", expected=want, got=dtype)
    if port.static_shape is not None and tensor.shape != port.static_shape:
        raise InputMismatch(name=port.name, what="shape", expected=port.static_shape, got=tensor.shape)
    if len(tensor.shape) != len(port.type.shape):
        raise InputMismatch(name=port.name, what="rank", expected=len(port.type.shape), got=len(tensor.shape))
    return tensor


# -- torch ------------------------------------------------------------------------------------------


def _from_torch(value: Any, port: Port, copies: bool) -> tuple[DeviceTensor, str]:
    value = value.detach()
    strided = str(value.layout) == "torch.strided" and not value.is_quantized
    if not strided or not (copies or value.is_contiguous()):
        got = f"a {value.dtype} tensor with layout {value.layout} that is not row-major"
        raise UnsupportedInput(name=port.name, expected=f"a dense {port.type}", got=got)
    held = value.resolve_conj().resolve_neg().contiguous()
    dtype = TORCH.get(str(held.dtype), str(held.dtype))
    return DeviceTensor(int(held.data_ptr()), tuple(int(d) for d in held.shape), held), dtype


class Maker(Protocol):
    """Makes results of the kind that the caller's tensors are."""

    def using(self, number: int, stream: int) -> AbstractContextManager[Any]:
        """Let copies and new tensors belong to a stream meanwhile."""
        raise NotImplementedError

    def empty(self, shape: Sequence[int], dtype: str, number: int) -> tuple[Any, int]:
        """A new tensor on a device, and its address."""
        raise NotImplementedError

    def raw(self, size: int, number: int) -> Any:
        """New memory on a device, with `address` and `bytes`."""
        raise NotImplementedError

    def shaped(self, raw: Any, shape: Sequence[int], dtype: str) -> Any:
        """The tensor that begins where `raw` does."""
        raise NotImplementedError


@dataclass(frozen=True)
class _Raw:
    """Bytes in a torch tensor."""

    tensor: Any
    address: int
    bytes: int


class TorchMaker:
    """Makes torch tensors."""

    def __init__(self) -> None:
        self.torch = self.module()
        self._names = {ours: theirs.removeprefix("torch.") for theirs, ours in TORCH.items()}

    @staticmethod
    def module() -> Any:
        """The caller's own torch, who handed over one of its tensors; the runtime itself never imports it."""
        return sys.modules["torch"]

    def using(self, number: int, stream: int) -> AbstractContextManager[Any]:
        """Let torch's copies and new tensors belong to a stream meanwhile.

        What torch's allocator takes back is given away again in the order of the stream that it was made on.
        """
        cuda = self.torch.cuda
        if stream == int(cuda.current_stream(number).cuda_stream):
            return nullcontext()
        chosen = cuda.ExternalStream(stream, device=number) if stream else cuda.default_stream(number)
        context: AbstractContextManager[Any] = cuda.stream(chosen)
        return context

    def empty(self, shape: Sequence[int], dtype: str, number: int) -> tuple[Any, int]:
        """A new tensor on a device, and its address."""
        theirs = getattr(self.torch, self._names[dtype])
        made = self.torch.empty(tuple(shape), dtype=theirs, device=f"cuda:{number}")
        return made, int(made.data_ptr())

    def raw(self, size: int, number: int) -> _Raw:
        """New memory on a device."""
        made, address = self.empty((max(1, size),), "u8", number)
        return _Raw(made, address, size)

    def shaped(self, raw: Any, shape: Sequence[int], dtype: str) -> Any:
        """The tensor that begins where `raw` does."""
        size = math.prod(shape) * DTYPES[dtype].bytes
        theirs = getattr(self.torch, self._names[dtype])
        return raw.tensor[:size].view(theirs).reshape(tuple(shape))


def maker_of(values: Sequence[Any]) -> Maker:
    """What makes results like the values of a run."""
    return TorchMaker() if any(map(is_torch, values)) else ArrayMaker()


def current_stream(maker: Maker, number: int) -> int | None:
    """The stream that torch uses now; None where the values are not torch's."""
    if not isinstance(maker, TorchMaker):
        return None
    return int(maker.torch.cuda.current_stream(number).cuda_stream)


# -- DLPack -----------------------------------------------------------------------------------------


class _Device(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("number", ctypes.c_int32))


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class _Managed(ctypes.Structure):
    pass


_Deleter = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_Managed._fields_ = (("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", _Deleter))

_NAME, _USED = b"dltensor", b"used_dltensor"
_pointer_of = ctypes.pythonapi.PyCapsule_GetPointer
_pointer_of.restype, _pointer_of.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_Destructor = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype = ctypes.py_object
_new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, _Destructor]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.c_void_p, ctypes.c_char_p]
_raw_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def read_capsule(capsule: Any) -> tuple[DeviceTensor, str, bool]:
    """The tensor in a capsule, its dtype, and whether it is row-major; the capsule keeps its memory."""
    managed = _Managed.from_address(_pointer_of(capsule, _NAME))
    tensor = managed.tensor
    shape = tuple(tensor.shape[n] for n in range(tensor.ndim))
    row_major = True
    if tensor.strides:
        expected = 1
        for n in reversed(range(tensor.ndim)):
            row_major &= shape[n] == 1 or tensor.strides[n] == expected
            expected *= shape[n]
    code = (int(tensor.dtype.code), int(tensor.dtype.bits))
    dtype = DLPACK.get(code, f"type {code[0]} of {code[1]} bits") if tensor.dtype.lanes == 1 else "vectors"
    address = (tensor.data or 0) + tensor.byte_offset
    return DeviceTensor(address, shape, capsule), dtype, row_major or 0 in shape


def _from_dlpack(value: Any, port: Port, stream: int) -> tuple[DeviceTensor, str]:
    tensor, dtype, row_major = read_capsule(value.__dlpack__(stream=stream or LEGACY_STREAM))
    if not row_major:
        got = f"a {type(value).__name__} that is not row-major"
        raise UnsupportedInput(name=port.name, expected=f"a dense {port.type}", got=got)
    return tensor, dtype


_given_away: dict[int, Any] = {}
"""What consumers of capsules hold, by the address of its structure."""


def _let_go(address: int) -> None:
    _given_away.pop(address, None)


def _unused(capsule: int) -> None:
    """A capsule that nobody has taken over."""
    if _is_valid(capsule, _NAME):
        _let_go(_raw_pointer(capsule, _NAME))


_deleter, _destructor = _Deleter(_let_go), _Destructor(_unused)


class DeviceArray:
    """A result on a device, for whoever speaks DLPack (``torch.from_dlpack``, ``cupy.from_dlpack`` ...).

    Attributes:
        memory: what it lies in.
        shape: its extents.
        dtype: AINO's name of its element type.
        device: the number of the device.
        ready: when its contents are there; None: they are.
    """

    ready: Event | None = None

    def __init__(self, memory: Any, shape: Sequence[int], dtype: str, device: int, kind: int = CUDA) -> None:
        self.memory = memory
        self.shape = tuple(shape)
        self.dtype = dtype
        self.device = device
        self._kind = kind

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._kind, self.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        """A capsule with this array, for a stream that waits till its contents are there (-1: none does).

        Raises:
            BufferError: a copy is asked for, another device, or a dtype that DLPack does not know.
        """
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError("arrays of AINO are not copied: ask the library that reads them")
        if self.ready is not None and stream != -1:
            with self.ready.device.current():
                self.ready.hold(stream or LEGACY_STREAM)
        code = {name: code for code, name in DLPACK.items()}.get(self.dtype)
        if code is None:
            raise BufferError(f"DLPack has no type for {self.dtype}")
        count = len(self.shape)
        shape = (ctypes.c_int64 * max(1, count))(*self.shape)
        strides = (ctypes.c_int64 * max(1, count))(*(math.prod(self.shape[n + 1 :]) for n in range(count)))
        managed = _Managed()
        managed.tensor.data = self.memory.address
        managed.tensor.device = _Device(self._kind, self.device)
        managed.tensor.ndim = count
        managed.tensor.dtype = _Type(*code, 1)
        managed.tensor.shape = ctypes.cast(shape, ctypes.POINTER(ctypes.c_int64))
        managed.tensor.strides = ctypes.cast(strides, ctypes.POINTER(ctypes.c_int64))
        managed.deleter = _deleter
        address = ctypes.addressof(managed)
        _given_away[address] = (self.memory, managed, shape, strides)
        return _new_capsule(address, _NAME, _destructor)

    def __repr__(self) -> str:
        return f"DeviceArray({self.dtype}{list(self.shape)} on cuda:{self.device})"


class ArrayMaker:
    """Makes arrays for DLPack."""

    def using(self, number: int, stream: int) -> AbstractContextManager[Any]:
        """Memory that is made here belongs to no stream."""
        return nullcontext()

    def empty(self, shape: Sequence[int], dtype: str, number: int) -> tuple[DeviceArray, int]:
        """A new array on a device, and its address."""
        memory = self.raw(math.prod(shape) * DTYPES[dtype].bytes, number)
        return DeviceArray(memory, shape, dtype, number), memory.address

    def raw(self, size: int, number: int) -> Memory:
        """New memory on a device."""
        device = open_device(number)
        with device.current():
            return device.alloc(size, "an output")

    def shaped(self, raw: Any, shape: Sequence[int], dtype: str) -> DeviceArray:
        """The array that begins where `raw` does."""
        return DeviceArray(raw, shape, dtype, raw.device.number)
