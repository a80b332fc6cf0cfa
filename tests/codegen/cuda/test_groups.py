"""Products of groups of warps: loop interpreter, emulation and numpy agree; what the rules forbid is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda.tensor_cores import TensorCoreGenerator
from aino_ir.errors.loops import LoopInvariantError
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import binary, const, index
from aino_ir.loops.groups import GROUP, GROUP_OPERATIONS, ROWS
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.loops.verify import verify_loops
from tests.codegen.cuda.test_emulation import outcome
from tests.codegen.cuda.test_tensor_cores import EMULATED, check_emulated, matmul, requantised
from tests.codegen.cuda.test_warp import everywhere, normal
from tests.codegen.kernels.support import Built, Given, candidates, problem
from tests.codegen.native import target

COLUMNS = 64


def product(
    operation: str,
    *,
    publish: bool = True,
    threads: int = GROUP,
    columns: int = COLUMNS,
    square: bool = False,
) -> LoopFn:
    """64 rows and some columns of x w', of one line of terms; of x x' if that is to be `square`."""
    kind = GROUP_OPERATIONS[operation]
    b = LoopBuilder("product")
    factors = []
    for name, storage, lines in zip(("x", "w"), kind.storages, (ROWS, columns), strict=True):
        source = "x" if square and factors else b.param(name, storage, lines * kind.terms)
        factors.append((source, storage, lines))
    out = b.param("out", kind.total, ROWS * columns, Access.WRITE)
    # with what lies behind them, panels are more than a kernel may declare: they start where they must
    panels = [b.share(f"{n}_panel", s, max(lines, 256) * kind.terms) for n, s, lines in factors]
    chunk = 16 // kind.storages[0].bytes
    with b.units(1, threads):
        for (source, _, lines), panel in zip(factors, panels, strict=True):
            with b.loop("i", 0, lines * 8 // GROUP) as i:
                line, part = b.split(b.thread + i * GROUP, {"line": lines, "part": 8})
                there = b.index(binary("xor", index(part), index(line % 8)), 0, 7, "place")
                b.copy(
                    panel, line * kind.terms + there * chunk, source, line * kind.terms + part * chunk, chunk
                )
        b.close_copies()
        b.await_copies(0, publish=publish)
        b.barrier()
        zeros = [const(0, kind.total)] * (columns // 2)
        found = b.group_product(operation, (panels[0], 0), (panels[1], 0), zeros)
        warp, row, quad = b.split(b.thread, {"warp": 4, "row": 8, "quad": 4})
        for n, value in enumerate(found):
            down, across = warp * 16 + row + n % 4 // 2 * 8, n // 4 * 8 + quad * 2 + n % 2
            b.store(out, down * columns + across, value)
    return b.finish()


@pytest.mark.parametrize("operation", ["wgmma_bf16", "wgmma_f16", "wgmma_s8_s8", "wgmma_u8_s8"])
def test_products(operation: str, tmp_path: Path) -> None:
    kind = GROUP_OPERATIONS[operation]
    rng = np.random.default_rng(11)
    x, w = (
        normal(lines, kind.terms).astype(s.numpy)
        if s.is_float
        else rng.integers(0, 256, (lines, kind.terms)).astype(np.uint8).view(s.numpy)
        for s, lines in zip(kind.storages, (ROWS, COLUMNS), strict=True)
    )
    arrays = [x.reshape(-1), w.reshape(-1), np.zeros(ROWS * COLUMNS, kind.total.numpy)]
    *_, got = everywhere(product(operation), arrays, tmp_path)
    expected = np.float64(x) @ np.float64(w).T
    np.testing.assert_allclose(got.reshape(ROWS, COLUMNS), expected, rtol=1e-5, atol=1e-4)


def test_what_was_not_published_is_not_multiplied(tmp_path: Path) -> None:
    kernels = [product("wgmma_bf16", publish=publish, square=True) for publish in (True, False)]
    right, wrong = (outcome(fn, tmp_path, size=8192) for fn in kernels)
    assert right.returncode == 0
    assert "has not published" in wrong.stderr


@pytest.mark.parametrize(
    ("options", "rule"), [({"threads": 64}, "L14"), ({"columns": 48}, "L4"), ({"columns": 512}, "L4")]
)
def test_the_rules(options: dict[str, Any], rule: str) -> None:
    with pytest.raises(LoopInvariantError, match=rule):
        verify_loops(product("wgmma_bf16", **options))


def test_c_has_no_groups() -> None:
    with pytest.raises(NoSpelling):
        print_unit([product("wgmma_bf16")], target("c:avx2"))


def group_kernels(text: str) -> list[Built]:
    """The smallest tile of bf16 and the largest of bytes, with what follows; none where there are no groups."""
    wanted = (
        (matmul(70, 130, 72, transpose_rhs=True), "64x128"),
        (requantised(140, 260, 200, np.uint8, np.int8), "128x256"),
    )
    goal, out = target(text), []
    for p, tile in wanted:
        for candidate in candidates(p, text, "tensor cores"):
            if f"{tile}, wgmma" in candidate.name:
                fn = TensorCoreGenerator().build(p.spec, candidate, goal)
                out.append(Built(p, candidate, fn, verify_loops(fn, bounds=False).unproved))
    return out


def test_kernels(tmp_path: Path) -> None:
    made = group_kernels(EMULATED)
    assert len(made) == 2
    check_emulated(made, tmp_path)


@pytest.mark.parametrize(
    ("isa", "options", "offered"),
    [
        ("sm_80", {"transpose_rhs": True}, False),
        ("sm_90", {"transpose_rhs": True}, False),
        ("sm_90a", {"transpose_rhs": True}, True),
        ("sm_90a", {}, False),  # the terms of what is no constant do not lie together
    ],
)
def test_who_has_groups(isa: str, options: dict[str, bool], offered: bool) -> None:
    found = candidates(matmul(256, 256, 128, **options), f"cuda:{isa}", "tensor cores")
    assert any("wgmma" in candidate.name for candidate in found) == offered


def test_large_products_are_groups_first() -> None:
    x, w = (normal(n, 16).astype(ml_dtypes.bfloat16) for n in (4096, 2048))
    p = problem(lambda b, x, w: [b.matmul(x, w, transpose_rhs=True)], Given(x), Given(w))
    first, *_ = candidates(p, "cuda:sm_90a", "tensor cores")
    assert "128x256, wgmma" in first.name
