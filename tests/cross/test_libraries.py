"""Libraries for other processors and systems: file format, exports, what they need, where they are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.c.backend import Emission
from aino_ir.codegen.c.isa import TABLES
from aino_ir.codegen.c.process import Command, run_commands
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.driver.api import compile_options
from aino_ir.driver.emit import emit_files
from aino_ir.driver.pipeline import Compilation
from aino_ir.errors.artifact import ArchitectureMismatch
from aino_ir.graph import Module
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.store import Store
from aino_ir.target import parse_target
from aino_ir.types import tensor
from tests.cross.exports import interface_of

FUNCTIONS = {"abi", "create", "run", "describe", "destroy", "profile", "kernels"}
"""What each library exports behind the model's name: the interface, and what profiles and checks use."""

GLIBC = {"libc.so.6", "libm.so.6", "libpthread.so.0", "ld-linux-aarch64.so.1", "ld-linux-armhf.so.3"}
GLIBC |= {"ld-linux-riscv64-lp64d.so.1"}
WINDOWS = {"kernel32.dll", *(f"api-ms-win-crt-{p}-l1-1-0.dll" for p in ("heap", "math", "private", "string"))}
MACOS = {"/usr/lib/libSystem.B.dylib"}

LIBRARIES = {
    "c:aarch64": ("lib/aarch64.so", b"\x7fELF\2", GLIBC),
    "c:armv7": ("lib/armv7.so", b"\x7fELF\1", GLIBC),
    "c:riscv64": ("lib/riscv64.so", b"\x7fELF\2", GLIBC),
    "c:avx2-windows": ("lib/avx2.dll", b"MZ", WINDOWS),
    "c:aarch64-windows": ("lib/aarch64.dll", b"MZ", WINDOWS),
    "c:avx2-macos": ("lib/avx2.dylib", b"\xcf\xfa\xed\xfe", MACOS),
    "c:aarch64-macos": ("lib/aarch64.dylib", b"\xcf\xfa\xed\xfe", MACOS),
}
"""Target -> the library's name in the artifact, its first bytes, and what it may need."""


def perceptron() -> Module:
    """Two layers, a softmax and a square root: products, vector math, row reductions."""
    rng = np.random.default_rng(7)
    b = aino.Builder()
    x = b.input("x", tensor("f32", 3, 20))
    hidden = b.tanh(b.matmul(x, b.constant(rng.standard_normal((20, 33)).astype(np.float32))))
    y = b.matmul(hidden, b.constant(rng.standard_normal((33, 5)).astype(np.float32)))
    b.output("y", b.softmax(y, axis=1))
    b.output("z", b.sqrt(b.abs(x)))
    b.module.name = "net"
    return b.module


def built(target: str) -> tuple[Executable, str, bytes]:
    exe = aino.compile(perceptron(), target, verify="off")
    assert isinstance(exe, Executable)
    (variant,) = exe.artifact.manifest.variants
    return exe, variant.section, exe.artifact.library(variant)


@pytest.mark.parametrize("target", LIBRARIES)
def test_a_library_exports_its_interface_and_needs_the_system_alone(target: str) -> None:
    section, start, may_need = LIBRARIES[target]
    exe, name, data = built(target)
    assert name == section and data.startswith(start)
    found = interface_of(data)
    assert found.exports == {f"net_{f}" for f in FUNCTIONS}
    assert found.needs <= may_need, found.needs - may_need
    with pytest.raises(ArchitectureMismatch, match=r"holds code for (\w+), this machine is \w+"):
        exe.run(np.zeros((3, 20), np.float32))


def test_kernels_are_not_tried_where_they_do_not_run() -> None:
    exe = aino.compile(perceptron(), "c:riscv64")
    checks = exe.report.checks["kernels"]
    ((what, why),) = checks["not run"].items()
    count = len({k["kernel"] for k in exe.report.kernels})
    assert what == f"all {count} of riscv64" and why.startswith("it is for riscv64 processors")
    assert checks["right"] == checks["remembered"] == 0


@pytest.mark.slow
def test_a_webassembly_module_exports_its_interface_and_memory_for_its_host() -> None:
    _, name, data = built("c:wasm32")
    assert name == "lib/wasm32.wasm"
    found = interface_of(data)
    functions = {f"net_{f}" for f in FUNCTIONS - {"kernels"}}  # a table is no function
    assert functions | {"malloc", "free", "_initialize"} <= found.exports
    assert found.needs <= {"wasi_snapshot_preview1"}


@pytest.mark.parametrize("target", ["c:aarch64", "c:avx2-windows", "c:aarch64-macos"])
def test_the_same_model_gives_the_same_bytes(target: str) -> None:
    made = [aino.compile(perceptron(), target, verify="off", cache=False) for _ in range(2)]
    first, second = (
        e.artifact.library(e.artifact.manifest.variants[0]) for e in made if isinstance(e, Executable)
    )
    assert first == second


FUSED = {"c:aarch64": "fmla", "c:armv7": "vfma.f32", "c:riscv64": "fmadd.s", "c:cortex-m": "vfma.f32"}
"""Target -> its instruction for a fused multiply-add of floats."""


@pytest.mark.parametrize("target", FUSED)
def test_products_are_fused_instructions_and_no_calls(
    target: str, tmp_path: Path, shared_store: Store
) -> None:
    goal = parse_target(target)
    (emission,) = emitted(target)
    tool = find_toolchain(shared_store, {}, target=goal)
    for name, text in {**emission.headers, "kernels.c": emission.units[0].text}.items():
        (tmp_path / name).write_text(text)
    compiling = [*tool.argv, *tool.flags(goal.isa), "-S", "kernels.c", "-o", "kernels.s"]
    (outcome,) = run_commands([Command(tuple(compiling), tmp_path, dict(tool.environ))], 1, 120.0)
    assert outcome.ok, outcome.output
    words = (tmp_path / "kernels.s").read_text().split()
    assert words.count(FUSED[target]) > 20
    assert not {"fma", "fmaf", "sqrtf"} & set(words), "a call of the C library"


@pytest.mark.parametrize("target", [*LIBRARIES, "c:wasm32", "c:cortex-m"])
def test_the_folder_of_sources_compiles_without_a_warning(
    target: str, tmp_path: Path, shared_store: Store
) -> None:
    goal = parse_target(target)
    written = emit_files(perceptron(), "c", tmp_path, target, verify="off")
    tool = find_toolchain(shared_store, {}, target=goal)
    sources = [p.name for p in written if p.suffix == ".c"]
    assert len(sources) >= 3
    strict = ("-Wall", "-Wextra", "-Werror")
    commands = [tool.compile_command(goal.isa, s, f"{s}.o", tmp_path, strict) for s in sources]
    for outcome in run_commands(commands, 1, 120.0):
        assert outcome.ok, outcome.output


def emitted(target: str) -> list[Emission]:
    compilation = Compilation(compile_options(target, verify="off"))
    return list(compilation.emissions(compilation.program(perceptron()).plans).values())


@pytest.mark.parametrize("target", ["c:aarch64", "c:wasm32"])
def test_every_operation_with_a_row_has_a_builtin_that_exists(
    target: str, tmp_path: Path, shared_store: Store
) -> None:
    goal = parse_target(target)
    tool = find_toolchain(shared_store, {}, target=goal)
    rows = {key: found for key, found in TABLES[goal.isa].rows.items() if all(s.builtin for s in found)}
    assert len(rows) > 15
    lines = [
        f"#if !({' || '.join(f'__has_builtin({s.builtin})' for s in found)})\n#error {op} {type_}\n#endif"
        for (op, type_), found in rows.items()
    ]
    (tmp_path / "probe.c").write_text("\n".join([*lines, "int aino_probe;\n"]))
    (outcome,) = run_commands([tool.compile_command(goal.isa, "probe.c", "probe.o", tmp_path)], 1, 120.0)
    assert outcome.ok, outcome.output


def test_the_native_library_needs_the_c_library_alone() -> None:
    exe, _, data = built("c:portable")
    found = interface_of(data)
    assert {f"net_{f}" for f in FUNCTIONS} == found.exports
    assert found.needs <= GLIBC | {"ld-linux-x86-64.so.2"}
    assert len(exe.run(np.zeros((3, 20), np.float32))) == 2
