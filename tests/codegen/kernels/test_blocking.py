"""Sizes of blocks."""

from __future__ import annotations

import pytest

from aino_ir.codegen.kernels.blocking import balanced


@pytest.mark.parametrize(
    ("total", "most", "multiple", "size"),
    [(100, 30, 1, 25), (7, 10, 1, 7), (7, 3, 4, 4), (0, 1, 1, 1), (0, 8, 4, 4), (1, 1, 1, 1)],
)
def test_parts_are_equal_and_never_empty(total: int, most: int, multiple: int, size: int) -> None:
    assert balanced(total, most, multiple) == size
