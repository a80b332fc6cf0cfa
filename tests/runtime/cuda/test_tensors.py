"""DLPack capsules, read and made, beside those of numpy and torch."""

from __future__ import annotations

import gc
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from aino_ir.errors.run import InputMismatch, UnsupportedInput
from aino_ir.runtime.cuda.tensors import (
    MANAGED,
    TORCH,
    DeviceArray,
    TorchMaker,
    current_stream,
    device_number,
    device_tensor,
    maker_of,
    read_capsule,
)
from aino_ir.runtime.values import Port

CPU = 1


class FakeTensor:
    """A tensor of torch's that says it were on a GPU."""

    __module__ = "torch"

    def __init__(self, tensor: Any, index: int = 0) -> None:
        self._tensor = tensor
        self.device = SimpleNamespace(type="cuda", index=index)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._tensor, name)
        if name in ("detach", "contiguous", "resolve_conj", "resolve_neg"):
            return lambda: FakeTensor(found())
        return found


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "uint8", "bool"])
def test_capsules_of_torch_are_read(dtype: str) -> None:
    value = torch.zeros(3, 4, dtype=getattr(torch, dtype))
    tensor, name, row_major = read_capsule(value.__dlpack__())
    assert (tensor.address, tensor.shape, row_major) == (value.data_ptr(), (3, 4), True)
    assert name == TORCH[f"torch.{dtype}"]


def test_capsules_of_bf16_are_read() -> None:
    assert read_capsule(torch.zeros(2, dtype=torch.bfloat16).__dlpack__())[1] == "bf16"


def test_strides_are_seen() -> None:
    value = np.zeros((3, 4), np.float32)
    assert not read_capsule(value.T.__dlpack__())[2]
    assert not read_capsule(value[:, ::2].__dlpack__())[2]
    assert read_capsule(value[1:].__dlpack__())[0].address == value.ctypes.data + 16
    assert read_capsule(value[1:1].__dlpack__())[2]


@pytest.mark.parametrize("consume", [np.from_dlpack, torch.from_dlpack])
def test_others_read_our_capsules(consume: Any) -> None:
    data = np.arange(12, dtype=np.float32)
    memory = SimpleNamespace(address=data.ctypes.data)
    made = consume(DeviceArray(memory, (3, 4), "f32", 0, kind=CPU))
    assert made.shape == (3, 4) and float(made[2, 1]) == 9


def test_memory_lives_as_long_as_somebody_reads_it() -> None:
    class Memory:
        freed = 0

        def __init__(self) -> None:
            self.data = np.arange(4, dtype=np.int64)
            self.address = self.data.ctypes.data

        def __del__(self) -> None:
            Memory.freed += 1

    reader = torch.from_dlpack(DeviceArray(Memory(), (4,), "i64", 0, kind=CPU))
    unused = DeviceArray(Memory(), (4,), "i64", 0, kind=CPU).__dlpack__()
    gc.collect()
    assert Memory.freed == 0 and reader.tolist() == [0, 1, 2, 3]
    del unused
    gc.collect()
    assert Memory.freed == 1
    del reader
    gc.collect()
    assert Memory.freed == 2


def test_dtypes_beyond_dlpack_are_refused() -> None:
    with pytest.raises(BufferError, match="f8e5m2"):
        DeviceArray(SimpleNamespace(address=0), (1,), "f8e5m2", 0).__dlpack__()


def test_devices_of_values() -> None:
    assert device_number(np.zeros(1)) is None
    assert device_number(torch.zeros(1)) is None
    assert device_number(3) is None
    assert device_number(FakeTensor(torch.zeros(1), 1)) == 1
    assert device_number(DeviceArray(SimpleNamespace(address=0), (1,), "f32", 2)) == 2
    assert device_number(DeviceArray(SimpleNamespace(address=0), (1,), "f32", 1, kind=MANAGED)) == 1


def test_tensors_of_torch_are_read_where_they_lie() -> None:
    port = Port.of("x", "f32", (3, 4))
    value = torch.zeros(3, 4)
    assert device_tensor(FakeTensor(value), port, 0).address == value.data_ptr()
    turned = FakeTensor(torch.zeros(4, 3).T)
    assert device_tensor(turned, port, 0).address != turned.data_ptr()  # made row-major first
    with pytest.raises(UnsupportedInput, match="not row-major"):
        device_tensor(turned, port, 0, copies=False)
    with pytest.raises(InputMismatch, match="dtype"):
        device_tensor(FakeTensor(torch.zeros(3, 4, dtype=torch.float64)), port, 0)
    with pytest.raises(InputMismatch, match="shape"):
        device_tensor(FakeTensor(torch.zeros(3, 5)), port, 0)


def test_a_capsule_with_strides_is_refused() -> None:
    class Turned:
        def __dlpack__(self, stream: int) -> Any:
            return np.zeros((4, 3), np.float32).T.__dlpack__()

    with pytest.raises(UnsupportedInput, match="not row-major"):
        device_tensor(Turned(), Port.of("x", "f32", (3, 4)), 0)


def test_results_are_of_the_kind_of_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {}

    def empty(shape: tuple[int, ...], dtype: Any, device: str) -> Any:
        made["device"] = device
        return torch.zeros(shape, dtype=dtype)

    stream = SimpleNamespace(cuda_stream=77)
    fake = SimpleNamespace(
        empty=empty,
        cuda=SimpleNamespace(
            current_stream=lambda number: stream,
            default_stream=lambda number: f"the default one of {number}",
            ExternalStream=lambda handle, device: f"{handle} of {device}",
            stream=lambda chosen: nullcontext(chosen),
        ),
        **{name: getattr(torch, name) for name in ("float32", "bfloat16", "uint8")},
    )
    maker = maker_of([FakeTensor(torch.zeros(1))])
    assert isinstance(maker, TorchMaker)
    monkeypatch.setattr(maker, "torch", fake)
    value, address = maker.empty((2, 3), "bf16", 1)
    assert value.dtype == torch.bfloat16 and address == value.data_ptr() and made["device"] == "cuda:1"
    raw = maker.raw(40, 1)
    assert maker.shaped(raw, (2, 3), "f32").data_ptr() == raw.address
    assert current_stream(maker, 1) == 77
    assert current_stream(maker_of([]), 1) is None
    for handle, chosen in ((77, None), (78, "78 of 1"), (0, "the default one of 1")):
        with maker.using(1, handle) as found:  # what torch makes meanwhile belongs to it
            assert found == chosen
