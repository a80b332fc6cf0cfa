"""Loading libraries from memory: the right one, again and again, and clear refusals."""

from __future__ import annotations

import ctypes
import gc
import os
import subprocess
from pathlib import Path

import pytest

from aino_ir.codegen.c.compile import SourceUnit, compile_units
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.errors.artifact import LibraryNotLoadable
from aino_ir.runtime.library import Library
from aino_ir.runtime.store import Store

SOURCE = """static int calls; /* a writable segment */
__attribute__((visibility("default"))) int answer(int x) {{ calls++; return {0} + x; }}
"""


@pytest.fixture(scope="module")
def libraries(shared_store: Store) -> list[bytes]:
    """Three libraries that export the same name."""
    tool = find_toolchain(shared_store)
    units = [SourceUnit("a", SOURCE.format(k), "vec128") for k in (100, 200, 300)]
    return [compile_units([unit], {}, tool, shared_store)["vec128"] for unit in units]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def mapped() -> int:
    return Path("/proc/self/maps").read_text().count("aino-library")


def test_libraries_of_one_name_do_not_mix(libraries: list[bytes]) -> None:
    gc.collect()  # libraries that earlier tests dropped must not be closed meanwhile
    before = descriptors(), mapped()
    for _ in range(20):
        loaded = [Library(data, "lib/vec128.so") for data in libraries]
        answers = [lib.function("answer", ctypes.c_int, ctypes.c_int)(7) for lib in loaded]
        assert answers == [107, 207, 307]
        loaded[1].close()  # its descriptor's number is free for the next one, whose code is another
        again = Library(libraries[2], "lib/vec128.so")
        assert again.function("answer", ctypes.c_int, ctypes.c_int)(1) == 301
        for lib in (loaded[0], loaded[2], again):
            lib.close()
            lib.close()
    after = descriptors(), mapped()
    assert after[0] <= before[0] and after[1] <= before[1]  # 60 were opened and closed


def test_a_system_without_memory_files_loads_from_a_private_file(
    libraries: list[bytes], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr("os.memfd_create")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    library = Library(libraries[0], "lib/vec128.so")
    assert library.function("answer", ctypes.c_int, ctypes.c_int)(1) == 101
    library.close()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"not a library", b"\x7fELF" + bytes(100)])
def test_what_is_no_library_is_refused(data: bytes) -> None:
    before = descriptors()
    with pytest.raises(LibraryNotLoadable, match=r"cannot load library 'lib/x\.so'") as caught:
        Library(data, "lib/x.so")
    assert caught.value.exit_status == 4
    assert descriptors() == before


def test_a_cut_library_is_refused_before_the_loader_crashes_on_it(libraries: list[bytes]) -> None:
    for keep in (63, 64, 200, 1000, 4200):
        with pytest.raises(LibraryNotLoadable, match="no whole ELF file"):
            Library(libraries[0][:keep], "lib/x.so")


def test_missing_functions_and_closed_libraries_are_named(libraries: list[bytes]) -> None:
    library = Library(libraries[0], "lib/vec128.so")
    with pytest.raises(LibraryNotLoadable, match="does not export nothing"):
        library.function("nothing", None)
    library.close()
    with pytest.raises(LibraryNotLoadable, match="it was closed"):
        library.function("answer", None)


def test_libraries_are_hardened_and_depend_on_libc_alone(libraries: list[bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.so"
    path.write_bytes(libraries[0])
    text = subprocess.run(["readelf", "-dlW", str(path)], capture_output=True, text=True, check=True).stdout
    assert "BIND_NOW" in text and "GNU_RELRO" in text
    stack = next(line for line in text.splitlines() if "GNU_STACK" in line)
    assert "E" not in stack.split()[-2]
    needed = [line.split("[")[1].rstrip("]") for line in text.splitlines() if "(NEEDED)" in line]
    assert set(needed) <= {"libc.so.6", "libm.so.6", "libpthread.so.0"}
