"""Types that are only stored, and conversions: values as they lie in memory and as arithmetic sees them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aino_ir.dtypes import DTYPES, DType, float_info, integer_range
from aino_ir.frontends.torch.dtypes import STORED

COMPUTED: dict[str, torch.dtype] = {
    **{name: STORED[DTYPES[name].compute_name] for name in STORED},
    "u16": torch.int64,
    "u32": torch.int64,
    "u64": torch.int64,
}
"""The dtype in which values are computed: PyTorch has next to no arithmetic on wide unsigned integers.

16 and 32 bits fit in i64, where they wrap when they are stored; 64 bits are seen as i64, whose sums, products
and comparisons for equality are the same bits."""

OPERANDS = "stored"


def loaded(x: Tensor, dtype: str) -> Tensor:
    """A stored tensor as arithmetic sees it."""
    return x.view(torch.int64) if dtype == "u64" else x.to(COMPUTED[dtype])


def stored(x: Tensor, dtype: str) -> Tensor:
    """A computed tensor as it is stored: floats rounded once, integers wrapped."""
    if dtype == "u64" and x.dtype == torch.int64:
        return x.view(torch.uint64)
    kind = DTYPES[dtype]
    if dtype == "f8e4m3fn":  # PyTorch rounds what lies halfway to infinity, which is NaN here, downwards
        x = torch.where(x.abs() >= 464.0, math.nan, x)
    if kind.bits < 8 and kind.is_integer:
        return wrapped(x, kind)
    return x.to(STORED[dtype])


def wrapped(x: Tensor, dtype: DType) -> Tensor:
    """Integers cut to a width below 8 bits."""
    low, high = integer_range(dtype)
    return (((x.to(torch.int64) - low) & (high - low)) + low).to(STORED[dtype.name])


def cast(x: Tensor, to: str, semantics: str, saturate: bool) -> Tensor:
    """A conversion by the rules of `math.cast`."""
    dtype = DTYPES[to]
    if x.dtype.is_floating_point:
        x = x.to(torch.promote_types(x.dtype, torch.float32)) if x.dtype.itemsize > 1 else x.to(torch.float32)
        if dtype.is_integer:
            return x86_integer(x, dtype) if semantics == "x86" else saturated_integer(x, dtype)
        if dtype.is_float and saturate and dtype.bits <= 8:
            largest = float(float_info(dtype).max)
            x = x.clamp(-largest, largest)
    if dtype.is_bool:
        return x != 0
    if dtype.is_storage and dtype.is_float:
        x = x.to(COMPUTED[to])
    return stored(x, to)


def saturated_integer(x: Tensor, dtype: DType) -> Tensor:
    """Floats truncated into the range of an integer dtype; NaN gives 0."""
    low, high = integer_range(dtype)
    if dtype.name == "u64":
        whole = x.nan_to_num(0.0).clamp(min=0).double().trunc()
        inside = torch.where(whole < 2.0**63, whole, whole - 2.0**63)
        bits = torch.where(whole < 2.0**64, inside, 0).to(torch.int64)
        bits = torch.where(whole < 2.0**63, bits, bits ^ -(2**63))
        return torch.where(whole < 2.0**64, bits, -1).view(torch.uint64)
    whole = torch.where(x.isnan(), 0.0, x.double()).trunc()
    inside = (whole > float(low)) & (whole < float(high))  # float(2^63 - 1) is 2^63: >= is out of range
    middle = torch.where(inside, whole, 0.0).to(torch.int64)
    outside = torch.where(whole <= float(low), low, high)
    return torch.where(inside, middle, outside).to(STORED[dtype.name])


def x86_integer(x: Tensor, dtype: DType) -> Tensor:
    """Floats converted as cvttss2si does: the least integer stands for all that does not fit."""
    whole = x.double().trunc()
    width = 64 if dtype.bits >= 32 and dtype.name != "i32" else 32
    limit, least = 2.0 ** (width - 1), -(2 ** (width - 1))
    upper = whole >= limit if dtype.name == "u64" else torch.zeros_like(whole, dtype=torch.bool)
    whole = torch.where(upper, whole - limit, whole)
    fits = (whole >= -limit) & (whole < limit)
    found = torch.where(fits, torch.where(fits, whole, 0.0).to(torch.int64), least)
    return stored(torch.where(upper, found ^ least, found), dtype.name)


def bitcast(x: Tensor, to: str) -> Tensor:
    """The same bits as another dtype."""
    return x.view(STORED[to])


TABLE: dict[str, Callable[..., Any]] = {
    "math.bitcast": bitcast,
    "math.cast": cast,
}
