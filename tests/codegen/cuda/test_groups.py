"""Products of groups of warps: loop interpreter, emulation and numpy agree; what the rules forbid is found."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda.tensor_cores import TensorCoreGenerator
from aino_ir.dtypes import u32
from aino_ir.errors.loops import LoopInvariantError
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import Expr, binary, const, index
from aino_ir.loops.groups import GROUP, GROUP_OPERATIONS, ROWS, GroupOperation
from aino_ir.loops.stmt import Access, LoopFn, SharedFactor
from aino_ir.loops.verify import verify_loops
from tests.codegen.cuda.test_emulation import outcome
from tests.codegen.cuda.test_tensor_cores import EMULATED, check_emulated, matmul, requantised
from tests.codegen.cuda.test_warp import everywhere, normal
from tests.codegen.kernels.support import Built, candidates
from tests.codegen.native import target

COLUMNS = 64


def product(
    operation: str,
    *,
    publish: bool = True,
    threads: int = GROUP,
    columns: int = COLUMNS,
    square: bool = False,
    lines: int = 1,
    turned: tuple[bool, bool] = (False, False),
    held: bool = False,
) -> LoopFn:
    """64 rows and some columns of x w', of some lines of terms; of x x' if that is to be `square`.

    Args:
        turned: whether each factor lies as [terms, rows or columns].
        held: whether the threads give x as fragments.
    """
    kind = GROUP_OPERATIONS[operation]
    b = LoopBuilder("product")
    terms = lines * kind.terms
    names = []
    for name, storage, across in zip(("x", "w"), kind.storages, (ROWS, columns), strict=True):
        names.append("x" if square and names else b.param(name, storage, across * terms))
    words = b.param("words", u32, ROWS * terms * kind.storages[0].bytes // 4) if held else ""
    out = b.param("out", kind.total, ROWS * columns, Access.WRITE)
    extents = [(terms, n) if over else (n, terms) for n, over in zip((ROWS, columns), turned, strict=True)]
    panels = [
        "" if held and n == "x" else b.share(f"{n}_panel", s, down * along)
        for n, s, (down, along) in zip(("x", "w"), kind.storages, extents, strict=True)
    ]
    with b.units(1, threads):
        for name, panel, (down, along) in list(zip(names, panels, extents, strict=True))[held:]:
            _fill(b, kind, name, panel, down, along)
        b.close_copies()
        b.await_copies(0, publish=publish)
        b.barrier()
        zeros = [const(0, kind.total)] * (columns // 2)
        factors = [
            SharedFactor(panel, 0, down * kind.terms, over)
            for panel, (down, _), over in zip(panels, extents, turned, strict=True)
        ]
        first = _fragments(b, words, lines) if held else factors[0]
        found = b.group_product(operation, first, factors[1], zeros, lines)
        warp, row, quad = b.split(b.thread, {"warp": 4, "row": 8, "quad": 4})
        for n, value in enumerate(found):
            down, across = warp * 16 + row + n % 4 // 2 * 8, n // 4 * 8 + quad * 2 + n % 2
            b.store(out, down * columns + across, value)
    return b.finish()


def _fill(b: LoopBuilder, kind: GroupOperation, source: str, panel: str, down: int, along: int) -> None:
    """Lines of a panel, whose chunks are swapped; what a line does not hold lies `down` lines further on."""
    chunk, chunks = kind.terms // 8, along * 8 // kind.terms
    with b.loop("i", 0, down * chunks // GROUP) as i:
        line, part = b.split(b.thread + i * GROUP, {"line": down, "part": chunks})
        there = b.index(binary("xor", index(part % 8), index(line % 8)), 0, 7, "place")
        target = (part // 8 * down + line) * kind.terms + there * chunk
        b.copy(panel, target, source, line * along + part * chunk, chunk)


def _fragments(b: LoopBuilder, words: str, lines: int) -> list[Expr]:
    """The thread's part of 64 rows, as 32-bit words: of each eight words one, of rows eight apart."""
    warp, row, quad = b.split(b.thread, {"warp": 4, "row": 8, "quad": 4})
    return [
        b.load(words, (warp * 16 + row + n % 2 * 8) * (32 * lines) + n // 4 * 8 + n % 4 // 2 * 4 + quad)
        for n in range(16 * lines)
    ]


@pytest.mark.parametrize(
    ("operation", "options"),
    [
        ("wgmma_bf16", {}),
        ("wgmma_f16", {"lines": 2, "turned": (False, True)}),
        ("wgmma_s8_s8", {"lines": 2}),
        ("wgmma_u8_s8", {"held": True}),
        ("wgmma_bf16", {"held": True, "lines": 2, "turned": (False, True), "columns": 128}),
        ("wgmma_f16", {"turned": (True, True), "lines": 2}),
    ],
)
def test_products(operation: str, options: dict[str, Any], tmp_path: Path) -> None:
    kind, columns = GROUP_OPERATIONS[operation], options.get("columns", COLUMNS)
    rng = np.random.default_rng(11)
    terms = kind.terms * options.get("lines", 1)
    x, w = (
        normal(across, terms).astype(s.numpy)
        if s.is_float
        else rng.integers(0, 256, (across, terms)).astype(np.uint8).view(s.numpy)
        for s, across in zip(kind.storages, (ROWS, columns), strict=True)
    )
    given = [
        np.ascontiguousarray(m.T if over else m)
        for m, over in zip((x, w), options.get("turned", (False, False)), strict=True)
    ]
    words = [x.view(np.uint32)] if "held" in options else []
    arrays = [a.reshape(-1) for a in (*given, *words)] + [np.zeros(ROWS * columns, kind.total.numpy)]
    *_, got = everywhere(product(operation, **options), arrays, tmp_path)
    expected = np.float64(x) @ np.float64(w).T
    np.testing.assert_allclose(got.reshape(ROWS, columns), expected, rtol=1e-5, atol=1e-4)


def test_what_was_not_published_is_not_multiplied(tmp_path: Path) -> None:
    kernels = [product("wgmma_bf16", publish=publish, square=True) for publish in (True, False)]
    right, wrong = (outcome(fn, tmp_path, size=8192) for fn in kernels)
    assert right.returncode == 0
    assert "has not published" in wrong.stderr


@pytest.mark.parametrize(
    ("operation", "options", "rule"),
    [
        ("wgmma_bf16", {"threads": 64}, "L14"),
        ("wgmma_bf16", {"columns": 48}, "L4"),
        ("wgmma_bf16", {"columns": 512}, "L4"),
        ("wgmma_s8_s8", {"turned": (False, True), "columns": 128}, "L4"),
    ],
)
def test_the_rules(operation: str, options: dict[str, Any], rule: str) -> None:
    with pytest.raises(LoopInvariantError, match=rule):
        verify_loops(product(operation, **options))


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
        ("sm_90a", {}, True),  # turned, as bytes could not be
    ],
)
def test_who_has_groups(isa: str, options: dict[str, bool], offered: bool) -> None:
    found = candidates(matmul(256, 256, 128, **options), f"cuda:{isa}", "tensor cores")
    assert any(", wgmma" in candidate.name for candidate in found) == offered
