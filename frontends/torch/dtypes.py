"""torch's element types and AINO's."""

from __future__ import annotations

import torch

from aino_ir.dtypes import DTYPES, DType

DTYPE_OF: dict[torch.dtype, DType] = {
    getattr(torch, theirs): DTYPES[ours]
    for theirs, ours in {
        "float64": "f64",
        "float32": "f32",
        "float16": "f16",
        "bfloat16": "bf16",
        "float8_e4m3fn": "f8e4m3fn",
        "float8_e4m3fnuz": "f8e4m3fnuz",
        "float8_e5m2": "f8e5m2",
        "float8_e5m2fnuz": "f8e5m2fnuz",
        "float8_e8m0fnu": "f8e8m0",
        "int64": "i64",
        "int32": "i32",
        "int16": "i16",
        "int8": "i8",
        "uint64": "u64",
        "uint32": "u32",
        "uint16": "u16",
        "uint8": "u8",
        "bool": "bool",
    }.items()
    if hasattr(torch, theirs)
}
"""Every dtype that a program may use; complex ones are refused."""

TORCH_DTYPE: dict[str, torch.dtype] = {ours.name: theirs for theirs, ours in DTYPE_OF.items()}
"""AINO's name -> torch's dtype."""

STORED: dict[str, torch.dtype] = {
    **{ours: theirs for ours, theirs in TORCH_DTYPE.items() if ours != "f8e8m0"},
    "i4": torch.int8,
    "i2": torch.int8,
    "u4": torch.uint8,
    "u2": torch.uint8,
}
"""The dtype of tensors that hold values of AINO's dtypes when a module is written for PyTorch.

f4e2m1 and complex numbers have none; to f8e8m0 PyTorch does not round as its definition says."""
