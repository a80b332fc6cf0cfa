"""Addresses of arrays as compiled models take them."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.runtime.native import array_address


def frozen(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((3, 4), np.float32),
        np.zeros((3, 4), np.float32)[1:],
        np.zeros((), np.int64),
        np.zeros((0, 3), np.float64),
        frozen(np.zeros(5, np.uint8)),
        np.zeros(4, ml_dtypes.bfloat16),
        np.zeros(4, np.bool_),
        np.zeros((4, 4), np.float32).T,
    ],
    ids=["plain", "a window", "a scalar", "empty", "read-only", "bf16", "bool", "transposed"],
)
def test_the_address_is_that_of_the_first_element(array: np.ndarray[Any, Any]) -> None:
    assert array_address(array) == array.ctypes.data


def test_an_address_holds_no_export() -> None:
    array = np.zeros(5, np.float32)
    array_address(array)
    array.resize(9, refcheck=False)  # refused while its buffer is exported
    assert array.size == 9
