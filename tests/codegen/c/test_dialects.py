"""Dialects and platforms of C-family targets, and spellings that no processor at hand wants."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from aino_ir.codegen.c import dialects, platforms
from aino_ir.codegen.c.dialects import Dialect, dialect, register_dialect, registered
from aino_ir.codegen.c.footprint import footprint
from aino_ir.codegen.c.isa import TABLES
from aino_ir.codegen.c.isa.portable import SCALAR_ROWS
from aino_ir.codegen.c.isa.table import IsaTable
from aino_ir.codegen.c.platforms import PLATFORMS, Platform, platform, register_platform
from aino_ir.codegen.c.runtime import runtime_headers
from aino_ir.dtypes import f32
from aino_ir.errors.usage import BadExtension
from aino_ir.isa import ISAS, Isa
from aino_ir.loops.expr import fma
from aino_ir.plan import BufferKind, Plan
from aino_ir.runtime.report import device_line
from aino_ir.target import known_targets
from tests.codegen.c.support import Case, check_cases, compilers, edge_values


def test_fused_multiply_add_by_doubles_rounds_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {key: value for key, value in SCALAR_ROWS.items() if key != ("fma", "f32")}
    table = IsaTable((), "", rows, lowered=frozenset({("fma", "f32")}))
    monkeypatch.setitem(TABLES, "vec128", table)
    rng = np.random.default_rng(1)
    count = 4096
    a, b, c = (edge_values(f32, seed, count) for seed in (1, 2, 3))
    # products of 25 bits, whose sum with c lies half way between two numbers, and a little beside
    a[:1024] = rng.integers(2048, 4096, 1024)
    b[:1024] = 8193.0
    c[:1024] = np.float32(2.0) ** rng.integers(-40, 25, 1024).astype(np.float32)
    c[:1024:2] *= -1
    cases = [Case(f"fma_l{lanes}", (f32, f32, f32), f32, fma, lanes, (a, b, c)) for lanes in (1, 4, 8)]
    assert not check_cases(cases, next(iter(compilers())), "vec128", tmp_path)


@pytest.fixture
def nothing_stays(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is forgotten behind it."""
    kept = [(table, dict(table)) for table in (ISAS, TABLES, PLATFORMS, dialects._OTHERS)]
    yield
    for table, content in kept:
        table.clear()
        table.update(content)  # type: ignore[arg-type]


OWN = Isa("own", "own", 4, 16, False, False, (), ("none",))
SPOKEN = Dialect(IsaTable((), "", dict(SCALAR_ROWS)))
PLACE = Platform("own-freestanding", "archive", ".a")


def test_a_dialect_brings_instruction_set_and_platform(nothing_stays: None) -> None:
    register_dialect(OWN, SPOKEN, {"none": PLACE})
    register_dialect(OWN, SPOKEN, {"none": PLACE})
    assert dialect("own") is SPOKEN and ISAS["own"] is OWN and platform("own", "none") is PLACE
    assert known_targets()[-1] == "c:own"
    assert "own" in registered() and dialect("avx2").table is TABLES["avx2"]
    with pytest.raises(BadExtension, match="there is one already"):
        register_dialect(OWN, Dialect(IsaTable((), "", {})), {"none": PLACE})
    with pytest.raises(BadExtension, match="a platform for each of its systems"):
        register_dialect(Isa("two", "two", 4, 16, False, False, ()), SPOKEN, {"linux": PLACE})


def test_platforms_of_other_packages(nothing_stays: None) -> None:
    register_platform("own", "linux", PLACE)
    with pytest.raises(BadExtension, match="there is one already"):
        register_platform("own", "linux", Platform("another"))
    with pytest.raises(BadExtension, match="no file format 'tape'"):
        register_platform("own", "windows", Platform("own", "tape"))
    assert platform("mips64", "linux").triple == "mips64-linux-gnu"
    assert platforms.platform("armv7", "linux").largest_bytes < platform("x86_64", "linux").largest_bytes


@pytest.mark.parametrize("system", ["linux", "macos", "windows", "wasi"])
def test_headers_of_each_system(system: str) -> None:
    headers = runtime_headers(system)
    assert {"aino_runtime.h", "aino_status.h"} <= headers.keys()
    assert ("aino_windows.h" in headers) == (system == "windows")
    assert ("pthread" in headers["aino_runtime.h"]) == (system != "wasi")


def test_footprints_without_a_compiler_leave_the_code_open() -> None:
    plan = Plan("p")
    plan.arena_bytes, plan.scratch_bytes = 640, 0
    plan.new_buffer(BufferKind.STATE, 12, slot=0)
    found = footprint(plan, 1000)
    assert (found.flash, found.ram, found.code) == (1000, 640 + 1 + 12, -1)
    assert device_line(found.facts()).startswith(
        "flash: 1000 bytes (constants 1000, and its code); RAM: 653 "
    )
