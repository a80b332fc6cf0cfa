"""Compiling units: right libraries, no call too many, clear errors, nothing left behind."""

from __future__ import annotations

import ctypes
import os
import re
import warnings
from pathlib import Path

import pytest

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.toolchain import CompilerCalls, Toolchain, examine, find_toolchain
from aino_ir.errors.cache import CacheWarning, DiskFull
from aino_ir.errors.toolchain import (
    BadSourceUnit,
    CompilerCrashed,
    CompilerFailed,
    CompilerTimedOut,
    CompilerUnusable,
)
from aino_ir.runtime.library import Library
from aino_ir.runtime.store import Store, opened_or_temporary
from tests.codegen.c.test_toolchain import COMPILERS, fake_compiler
from tests.tools.hermetic import FaultyDisk, left_over

HEADERS = {"shape.h": "#define OFFSET 1\nint part(int x);\n"}
MAIN = """#include "shape.h"
#include <math.h>
__attribute__((visibility("default"))) int whole(int x) { return part(x) + OFFSET; }
__attribute__((visibility("default"))) double root(double x) { return cbrt(x); }
"""
PART = '#include "shape.h"\nint part(int x) { return 10 * x; }\n'


def units(isa: str = "vec128", part: str = PART) -> list[SourceUnit]:
    return [SourceUnit("main_unit", MAIN, isa), SourceUnit("part", part, isa)]


@pytest.fixture
def tool(store: Store) -> Toolchain:
    return find_toolchain(store, {**os.environ, "AINO_CC": "cc"})


def whole(library: bytes, x: int) -> int:
    loaded = Library(library, "test")
    try:
        return int(loaded.function("whole", ctypes.c_int, ctypes.c_int)(x))
    finally:
        loaded.close()


@pytest.mark.parametrize("name", COMPILERS)
def test_units_become_a_library_that_runs(name: str, store: Store) -> None:
    tool = find_toolchain(store, {**os.environ, "AINO_CC": name})
    made = compile_units(units(), HEADERS, tool, store)
    assert list(made) == ["vec128"] and whole(made["vec128"], 4) == 41
    library = Library(made["vec128"], "test")
    assert library.function("root", ctypes.c_double, ctypes.c_double)(27.0) == pytest.approx(3)
    with pytest.raises(Exception, match="does not export part"):
        library.function("part", None)
    library.close()
    assert not left_over(store.root)


@pytest.mark.parametrize("name", COMPILERS)
def test_same_input_same_bytes(name: str, store: Store, tmp_path: Path) -> None:
    tool = find_toolchain(store, {**os.environ, "AINO_CC": name})
    first = compile_units(units(), HEADERS, tool, store)
    with opened_or_temporary(False) as other:
        assert compile_units(units(), HEADERS, tool, other) == first
    assert str(tmp_path).encode() not in first["vec128"], "no path of this machine gets into the library"


def test_each_isa_gets_its_library(store: Store, tool: Toolchain) -> None:
    if tool.arch != "x86_64":
        pytest.skip("needs an x86-64 compiler")
    text = """typedef float v __attribute__((vector_size(WIDTH)));
    __attribute__((visibility("default"))) void add(float *p) { v x; __builtin_memcpy(&x, p, WIDTH); x += x;
    __builtin_memcpy(p, &x, WIDTH); }"""
    wide = [
        SourceUnit("k", text.replace("WIDTH", str(width)), isa)
        for isa, width in (("vec128", 16), ("avx2", 32), ("avx512", 64))
    ]
    calls = CompilerCalls()
    made = compile_units(wide, {}, tool, store, calls)
    assert (calls.compiles, calls.links) == (3, 3)
    assert len(set(made.values())) == 3 and list(made) == ["vec128", "avx2", "avx512"]


def test_nothing_is_compiled_twice(store: Store, tool: Toolchain) -> None:
    calls = CompilerCalls()
    first = compile_units(units(), HEADERS, tool, store, calls)
    assert (calls.compiles, calls.links) == (2, 1)
    calls = CompilerCalls()
    assert compile_units(units(), HEADERS, tool, store, calls) == first
    assert calls.processes == 0 and calls.library_hits == 1
    calls = CompilerCalls()
    changed = compile_units(units(part=PART.replace("10", "20")), HEADERS, tool, store, calls)
    assert (calls.compiles, calls.links, calls.object_hits) == (1, 1, 1)
    assert whole(changed["vec128"], 4) == 81
    calls = CompilerCalls()
    header = {"shape.h": HEADERS["shape.h"].replace("1", "2")}
    assert whole(compile_units(units(), header, tool, store, calls)["vec128"], 4) == 42
    assert calls.compiles == 2, "a changed header changes every unit that includes it"


def test_only_headers_that_are_included_count(store: Store, tool: Toolchain) -> None:
    headers = {
        **HEADERS,
        "other.h": "#define OTHER 1\n",
        "shape.h": '#include "deep.h"\n' + HEADERS["shape.h"],
    }
    headers["deep.h"] = "#define DEEP 1\n"
    compile_units(units(), headers, tool, store)
    for name, expected in (("other.h", 0), ("deep.h", 2)):
        calls = CompilerCalls()
        compile_units(units(), {**headers, name: headers[name].replace("1", "2")}, tool, store, calls)
        assert calls.compiles == expected


def test_finished_objects_outlive_a_failure_and_progress_is_told(store: Store, tool: Toolchain) -> None:
    told: list[tuple[int, int]] = []
    with pytest.raises(CompilerFailed):
        bad = [*units(), SourceUnit("bad", "x", "vec128")]
        compile_units(bad, HEADERS, tool, store, jobs=1, progress=lambda *step: told.append(step))
    assert told == [(1, 3), (2, 3), (3, 3)], "the shortest unit comes last"
    calls = CompilerCalls()
    compile_units(units(), HEADERS, tool, store, calls)
    assert (calls.compiles, calls.object_hits) == (0, 2)


def test_objects_are_keyed_by_compiler_and_flags(store: Store, tool: Toolchain) -> None:
    compile_units(units(), HEADERS, tool, store)
    zig = find_toolchain(store, {**os.environ, "AINO_CC": "zig"})
    calls = CompilerCalls()
    compile_units(units(), HEADERS, zig, store, calls)
    assert calls.compiles == 2
    if tool.arch == "x86_64":
        compile_units(units("avx2"), HEADERS, tool, store, calls)
        assert calls.compiles == 4


def test_a_damaged_library_is_linked_anew(store: Store, tool: Toolchain) -> None:
    made = compile_units(units(), HEADERS, tool, store)
    for entry in store.entries():
        if entry.kind == "library":
            entry.path.write_bytes(b"damaged")
    calls = CompilerCalls()
    with pytest.warns(CacheWarning, match="damaged"):
        assert compile_units(units(), HEADERS, tool, store, calls) == made
    assert (calls.compiles, calls.links, calls.object_hits) == (0, 1, 2)


# --- what goes wrong --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", COMPILERS)
def test_rejected_code_is_shown_and_kept(name: str, store: Store) -> None:
    tool = find_toolchain(store, {**os.environ, "AINO_CC": name})
    bad = PART.replace("10 * x", "nowhere(x")
    with pytest.raises(CompilerFailed) as caught:
        compile_units(units(part=bad), HEADERS, tool, store)
    message = str(caught.value)
    assert "error:" in message and caught.value.exit_status == 3
    kept = Path(re.search(r"are in (\S+)", message)[1])  # type: ignore[index]
    assert kept.is_dir() and store.root in kept.parents
    assert bad in [p.read_text() for p in kept.glob("*.c")] and (kept / "shape.h").exists()
    assert "error:" in (kept / "messages.txt").read_text() and (kept / "command.json").exists()
    assert not left_over(store.root)


def test_kept_failures_are_bounded(store: Store, tool: Toolchain) -> None:
    for i in range(12):
        with pytest.raises(CompilerFailed):
            compile_units(units(part=f"int part(int x) {{ return nowhere{i}(x); }}"), HEADERS, tool, store)
    assert 1 <= len(list((store.base / "failed").iterdir())) <= 9


def test_without_a_cache_rejected_code_is_kept_elsewhere(
    tool: Toolchain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with opened_or_temporary(False) as store, pytest.raises(CompilerFailed) as caught:
        compile_units(units(part="int part("), HEADERS, tool, store)
    kept = Path(caught.value.fields["kept"])
    assert kept.parent == tmp_path and any(kept.glob("*.c"))


@pytest.mark.parametrize("name", COMPILERS)
def test_an_undefined_name_is_found_at_link_time(name: str, store: Store) -> None:
    tool = find_toolchain(store, {**os.environ, "AINO_CC": name})
    with pytest.raises(CompilerFailed, match="part"):
        compile_units(units()[:1], HEADERS, tool, store)


@pytest.mark.parametrize("name", ["cc", pytest.param("zig", marks=pytest.mark.slow)])
def test_compiler_support_routines_are_linked_in(name: str, shared_store: Store) -> None:
    """128-bit division is a call of the compiler's own library; zig builds that library first."""
    tool = find_toolchain(shared_store, {**os.environ, "AINO_CC": name})
    text = """typedef __int128 wide;
    __attribute__((visibility("default"))) int whole(int x)
    { wide a = (wide)x << 70; return (int)(a / (x + 1) >> 60); }"""
    made = compile_units([SourceUnit("a", text, "vec128")], {}, tool, shared_store)
    assert whole(made["vec128"], 3) == (3 << 70) // 4 >> 60


@pytest.mark.parametrize(
    ("unit", "reason"),
    [
        (SourceUnit("../x", "", "vec128"), "names consist of"),
        (SourceUnit("a b", "", "vec128"), "names consist of"),
        (SourceUnit("x" * 65, "", "vec128"), "names consist of"),
        (SourceUnit("a", "", "sse9"), "no instruction set 'sse9'"),
        (SourceUnit("a", "// \u00e4", "vec128"), "not ASCII"),
        (SourceUnit("part", "", "vec128"), "a second unit of that name"),
    ],
)
def test_bad_units_are_refused(store: Store, tool: Toolchain, unit: SourceUnit, reason: str) -> None:
    with pytest.raises(BadSourceUnit, match=reason):
        compile_units([*units(), unit], HEADERS, tool, store)


@pytest.mark.parametrize("name", ["../x.h", "x", "x.c", "a/b.h", "-x.h"])
def test_bad_header_names_are_refused(store: Store, tool: Toolchain, name: str) -> None:
    with pytest.raises(BadSourceUnit, match="headers are ASCII"):
        compile_units(units(), {**HEADERS, name: ""}, tool, store)


def broken(tmp_path: Path, store: Store, script: str) -> Toolchain:
    """A toolchain that passes its examination and then does `script` with every real unit."""
    text = f'case "$*" in *empty.c*) exec gcc "$@";; *) {script};; esac'
    return examine((str(fake_compiler(tmp_path / "bin", text)),), store)


@pytest.mark.parametrize(
    ("script", "error", "pattern"),
    [
        ("kill -9 $$", CompilerCrashed, "signal 9"),
        ("echo 'gcc: internal compiler error: Killed'; exit 4", CompilerCrashed, "internal compiler error"),
        ("echo 'fatal error: No space left on device'; exit 1", DiskFull, "no space left"),
        ("exit 7", CompilerFailed, r"exit status 7.*\n.*no messages"),
        ("sleep 1000", CompilerTimedOut, r"within 0\.5 s"),
    ],
)
def test_a_compiler_that_breaks_later_is_described(
    tmp_path: Path, store: Store, script: str, error: type[Exception], pattern: str
) -> None:
    tool = broken(tmp_path, store, script)
    with pytest.raises(error, match=pattern):
        compile_units(units(), HEADERS, tool, store, timeout=0.5 if "sleep" in script else 60)
    assert not left_over(store.root)
    assert {entry.kind for entry in store.entries()} == {"probe"}


def test_a_compiler_that_vanishes_is_described(tmp_path: Path, store: Store) -> None:
    tool = broken(tmp_path, store, "exit 0")
    Path(tool.argv[0]).unlink()
    with pytest.raises(CompilerUnusable, match="cannot be started"):
        compile_units(units(), HEADERS, tool, store)


def test_a_full_disk_leaves_nothing_half_done(hermetic_cache: Path) -> None:
    healthy = Store.open(hermetic_cache)
    tool = find_toolchain(healthy, {**os.environ, "AINO_CC": "cc"})
    counting = FaultyDisk()
    expected = compile_units(units(), HEADERS, tool, Store(hermetic_cache, disk=counting))
    outcomes = set()
    for n in range(1, len(counting.calls) + 1):
        healthy.clear()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                made = compile_units(units(), HEADERS, tool, Store(hermetic_cache, disk=FaultyDisk(n)))
                assert made == expected
                outcomes.add("served")
            except DiskFull:
                outcomes.add("refused")
        assert {w.category for w in caught} <= {CacheWarning}
        assert not left_over(hermetic_cache), n
        for entry in healthy.entries():
            assert healthy.get(entry.kind, entry.key) is not None, n
    assert outcomes == {"served", "refused"}, "a full cache costs time, a full work folder is an error"
