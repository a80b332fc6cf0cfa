"""The emitted C itself: what a reader of generated code sees.  ``--update-golden`` rewrites the texts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from aino_ir.codegen.c.unit import print_unit
from tests.codegen.c.support import target
from tests.codegen.c.test_kernels import RUNS

GROUPS = {
    "gemm": ("gemm_m",),
    "rows": ("softmax", "row_blocks"),
    "memory": ("strided", "scattered", "vector_gather", "copy_f16", "scratch"),
    "control": ("branches", "indices", "masks", "failing"),
}


@pytest.mark.parametrize("isa", ["vec128", "avx2", "avx512"])
@pytest.mark.parametrize("group", GROUPS)
def test_emitted_text(group: str, isa: str, golden) -> None:
    kernels = [RUNS[name]().fn for name in GROUPS[group]]
    golden.check(f"{group}_{isa}.c", print_unit(kernels, target(isa)))


def test_goldens_have_no_strays() -> None:
    wanted = {f"{group}_{isa}.c" for group in GROUPS for isa in ("vec128", "avx2", "avx512")}
    assert {p.name for p in (Path(__file__).parent / "golden").glob("*.c")} == wanted


def test_text_is_the_same_every_time() -> None:
    kernels = [RUNS[name]().fn for name in GROUPS["memory"]]
    assert print_unit(kernels, target("avx2")) == print_unit(kernels, target("avx2"))


def test_only_used_helpers_and_types_are_printed() -> None:
    text = print_unit([RUNS["branches"]().fn], target("avx2"))
    assert "INLINE" not in text
    assert "typedef" not in text
    text = print_unit([RUNS["gemm_m"]().fn], target("avx2"))
    helpers = re.findall(r"^INLINE \S+ \*?(\w+)\(", text, re.M)
    assert helpers
    assert all(len(re.findall(rf"\b{name}\b", text)) > 1 for name in helpers)
