"""Constants as C literals that have exactly the wanted value.

Floats are printed as the shortest decimal that rounds to them: GCC and Clang round literals
correctly, so that is exact, and it reads better than a hexadecimal float.
"""

from __future__ import annotations

import math

import numpy as np

from aino_ir.codegen.cstyle.text import PREFIX, Code
from aino_ir.dtypes import DType

_INT_MIN, _INT_MAX = -(1 << 31), (1 << 31) - 1


def integer(value: int) -> Code:
    """An integer that is an `int` if it fits, else an `int64_t` (or `uint64_t`)."""
    if value == -(1 << 63):
        return Code("INT64_MIN")
    if value == _INT_MIN:
        return Code("INT32_MIN")
    if value < 0:
        return Code(f"-{integer(-value).text}", PREFIX)
    if value <= _INT_MAX:
        return Code(str(value))
    return Code(f"INT64_C({value})" if value < 1 << 63 else f"UINT64_C({value})")


def literal(value: float | bool, dtype: DType) -> Code:
    """A constant of a compute dtype."""
    if dtype.is_float:
        return _float(float(value), dtype)
    if dtype.is_bool:
        return Code("true" if value else "false")
    number = int(value)
    if dtype.name == "u32":
        return Code(f"{number}u")
    if dtype.name == "u64":
        return Code(f"UINT64_C({number})")
    return integer(number)


def _float(value: float, dtype: DType) -> Code:
    suffix = ""
    if dtype.bits == 32:
        suffix = "f"
        with np.errstate(over="ignore"):
            value = float(np.float32(value))
    if math.isnan(value):
        return Code(f'__builtin_nan{suffix}("")')
    size = f"__builtin_inf{suffix}()" if math.isinf(value) else _shortest(abs(value), dtype) + suffix
    return Code("-" + size, PREFIX) if math.copysign(1.0, value) < 0 else Code(size)


def _shortest(value: float, dtype: DType) -> str:
    """The shortest decimal that rounds to the value in the dtype, with a point or an exponent."""
    if dtype.bits == 64:
        text = repr(value)
    elif value == 0 or 1e-3 <= value < 1e6 or (value < 1e16 and value == int(value)):
        text = repr(value) if value == int(value) else np.format_float_positional(np.float32(value), trim="0")
    else:
        text = str(np.float32(value))
    return text if "." in text or "e" in text else text + ".0"
