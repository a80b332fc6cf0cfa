"""The folder of C that a model becomes: it builds with a plain compiler and gives the same numbers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aino_ir.codegen.c.backend import emit
from aino_ir.codegen.c.standalone import FLAGS, cmake_text, isa_flags, standalone_texts, write_standalone
from aino_ir.dims import DimLike, ceildiv, symbol
from aino_ir.dtypes import f32
from aino_ir.errors.cache import DiskFull
from aino_ir.errors.printing import NoSpelling
from aino_ir.kernels import Candidate, Kernel, KernelSpec
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import call
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.plan import Buffer, BufferKind, Plan, Run, Sync, View
from aino_ir.runtime.fileio import Disk
from aino_ir.types import SequenceType, TensorType
from tests.aino_ir.loops.kernels import prefix
from tests.codegen.c.support import compilers, runnable_isas, target


def scaled_exp(n: DimLike, bounds: tuple[int, int] | None) -> LoopFn:
    """y = exp(x) * w."""
    b = LoopBuilder("scaled_exp")
    if bounds:
        b.symbol("n", *bounds)
    x, w = b.param("x", f32, n), b.param("w", f32, 1)
    y = b.param("y", f32, n, Access.WRITE)
    with b.units(ceildiv(n, 8)) as u:
        mask = prefix(n - u * 8)
        value = b.load(x, u * 8, 8, mask=mask)
        b.store(y, u * 8, call("exp", value) * b.load(w, 0, 8, stride=0), mask=mask)
    return b.finish(header=["exp, scaled"])


def make_plan(symbolic: bool) -> tuple[Plan, list[tuple[int, bytes]]]:
    """y = w1 * exp(w0 * exp(x)) through the arena."""
    n: DimLike = symbol("n") if symbolic else 21
    fn = scaled_exp(n, (1, 99) if symbolic else None)
    type_ = TensorType(f32, (n,))
    plan = Plan("tiny", inputs=[("x */ \n", type_)], outputs=[("y", type_)])
    if symbolic:
        plan.symbols, plan.symbol_bounds = ["n"], {"n": (1, 99)}
    candidate = Candidate("test", "test")
    plan.kernels = {fn.name: Kernel(_Spec(), candidate, fn)}  # type: ignore[arg-type]

    def buffer(kind: BufferKind, bytes_: DimLike, slot: int = -1, offset: int | None = None) -> Buffer:
        return plan.new_buffer(kind, bytes_, slot=slot, offset=offset)

    x, y = buffer(BufferKind.INPUT, n * 4, 0), buffer(BufferKind.OUTPUT, n * 4, 0)
    w0, w1 = buffer(BufferKind.CONST, 4, offset=0), buffer(BufferKind.CONST, 4, offset=64)
    t = buffer(BufferKind.ARENA, n * 4, offset=0)
    plan.arena_bytes = n * 4

    def step(source: Buffer, weight: Buffer, result: Buffer) -> Run:
        views = [View(b.id, 0, f32, s) for b, s in ((source, (n,)), (weight, (1,)), (result, (n,)))]
        return Run(fn.name, tuple(views), nodes=("exp */",))

    plan.steps = [step(x, w0, t), Sync(), step(t, w1, y)]
    weights = [(0, np.float32(0.5).tobytes()), (64, np.float32(3).tobytes())]
    return plan, weights


class _Spec:
    """Stands in for the spec, which emission does not read."""

    label = "exp"


assert KernelSpec


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
def test_it_builds_and_runs_alone(symbolic: bool, compiler: str, tmp_path: Path) -> None:
    if compiler not in compilers():
        pytest.skip("not on this machine")
    facts = target(runnable_isas()[-1])
    plan, weights = make_plan(symbolic)
    files = write_standalone(tmp_path, emit(plan, facts), plan, facts, weights)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(p.name for p in files)
    sources = [p.name for p in files if p.suffix == ".c"]
    command = [
        *compilers()[compiler],
        "-std=gnu11",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        *FLAGS,
        *isa_flags(facts),
    ]
    command += [*sources, "-lm", "-lpthread", "-o", "tiny_main"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    x = np.linspace(-1, 1, 21, dtype=np.float32)
    x.tofile(tmp_path / "in0.bin")
    arguments = ["tiny.weights", *(["21"] if symbolic else []), "in0.bin", "out0.bin"]
    subprocess.run(["./tiny_main", *arguments], cwd=tmp_path, check=True, timeout=60)
    y = np.fromfile(tmp_path / "out0.bin", np.float32)
    np.testing.assert_allclose(y, 3 * np.exp(0.5 * np.exp(x.astype(np.float64))), rtol=1e-6)
    assert subprocess.run(["./tiny_main"], cwd=tmp_path, capture_output=True, timeout=60).returncode == 2
    missing = subprocess.run(
        ["./tiny_main", *arguments[:-2], "no", "o"], cwd=tmp_path, capture_output=True, timeout=60
    )
    assert missing.returncode == 1
    assert b"cannot read 84 bytes of no" in missing.stderr


def test_weights_stand_at_their_offsets(tmp_path: Path) -> None:
    facts = target("vec128")
    plan, weights = make_plan(False)
    write_standalone(tmp_path / "new", emit(plan, facts), plan, facts, weights)
    data = (tmp_path / "new" / "tiny.weights").read_bytes()
    assert len(data) == 128
    assert np.frombuffer(data[64:68], np.float32)[0] == 3
    assert data[:4] == weights[0][1]


def test_a_full_disk_leaves_nothing_half_written(tmp_path: Path) -> None:
    class Full(Disk):
        calls = 0

        def write_piece(self, fd: int, view: memoryview) -> None:
            self.calls += 1
            if self.calls == 4:
                raise OSError(28, "No space left on device")
            super().write_piece(fd, view)

    facts = target("vec128")
    plan, weights = make_plan(False)
    (tmp_path / "tiny.c").write_text("kept")
    with pytest.raises(DiskFull):
        write_standalone(tmp_path, emit(plan, facts), plan, facts, weights, Full())
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.c"]
    assert (tmp_path / "tiny.c").read_text() == "kept"


def test_texts(golden) -> None:
    facts = target("avx2")
    plan, _ = make_plan(True)
    texts = standalone_texts(emit(plan, facts), plan, facts)
    assert set(texts) >= {
        "tiny.c",
        "tiny.h",
        "tiny_main.c",
        "CMakeLists.txt",
        "aino_runtime.h",
        "aino_status.h",
    }
    assert all(text.isascii() for text in texts.values())
    golden.check("standalone_main.c.txt", texts["tiny_main.c"])
    golden.check("standalone_cmake.txt", texts["CMakeLists.txt"])


def test_cmake_builds(tmp_path: Path) -> None:
    if shutil.which("cmake") is None:
        pytest.skip("no cmake")
    facts = target(runnable_isas()[-1])
    plan, weights = make_plan(False)
    write_standalone(tmp_path, emit(plan, facts), plan, facts, weights)
    subprocess.run(
        ["cmake", "-S", ".", "-B", "b"], cwd=tmp_path, check=True, capture_output=True, timeout=120
    )
    subprocess.run(["cmake", "--build", "b"], cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert (tmp_path / "b" / "tiny_main").exists()


def test_interfaces_of_other_types_are_refused() -> None:
    plan, _ = make_plan(False)
    facts = target("vec128")
    emission = emit(plan, facts)
    plan.outputs = [("s", SequenceType(TensorType(f32, (2,))))]
    with pytest.raises(NoSpelling, match="interface value"):
        standalone_texts(emission, plan, facts)


def test_cmake_names_every_source_and_flag() -> None:
    text = cmake_text("net", target("avx512"), ["net.c", "net_kernels_0.c"])
    assert "  net_kernels_0.c\n" in text
    assert "  -mavx512bw\n" in text
    assert all(f"  {flag}\n" in text for flag in FLAGS)
