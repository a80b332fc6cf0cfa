"""The emulation watches: planted faults end a kernel, with a message that names what and where."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from aino_ir.codegen.c.runtime import runtime_headers
from aino_ir.codegen.c.unit import print_unit
from aino_ir.codegen.cuda.runtime import cuda_headers
from aino_ir.dtypes import f32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.stmt import Access, LoopFn
from tests.codegen.native import target

EMULATED = "c:cuda-emu"

MAIN = """\
int main(void)
{
    static float x[SIZE], out[SIZE];
    static int64_t status[2];
    void *views[] = {x, out, status};
    int64_t syms[] = {8};
    NAME(views, syms, (void *)0, 0, UNITS);
    return (int)status[0];
}
"""


def write_headers(folder: Path) -> None:
    """What units of CUDA C++ include, beside them."""
    for name, header in {**runtime_headers("linux"), **cuda_headers("linux")}.items():
        (folder / name).write_text(header, encoding="ascii")


def outcome(fn: LoopFn, folder: Path, size: int = 64) -> subprocess.CompletedProcess[str]:
    """What a program that runs the kernel once, on two buffers and with symbols 8, says and returns."""
    compiler = shutil.which("gcc") or pytest.skip("no gcc")
    main = MAIN.replace("NAME", fn.name).replace("UNITS", str(fn.units)).replace("SIZE", str(size))
    text = print_unit([fn], target(EMULATED)) + main
    (folder / "k.c").write_text(text, encoding="ascii")
    write_headers(folder)
    command = [compiler, "-O1", "-ffp-contract=off", "-o", "k", "k.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return subprocess.run(["./k"], cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def kernel(build: Callable[[LoopBuilder], None]) -> LoopFn:
    """A kernel over x and out of 64 elements each."""
    b = LoopBuilder("planted")
    b.param("x", f32, 64)
    b.param("out", f32, 64, Access.READ_WRITE)
    build(b)
    return b.finish()


def exchange(barrier: bool, again: bool = True) -> Callable[[LoopBuilder], None]:
    """Threads hand values over through shared memory, twice, with barriers left out."""

    def build(b: LoopBuilder) -> None:
        line = b.share("line", f32, 8)
        with b.units(2, 8) as unit, b.loop("turn", 0, 2) as turn:
            b.store(line, b.thread, b.load("x", unit * 8 + b.thread + turn))
            if barrier:
                b.barrier()
            b.store("out", turn * 16 + unit * 8 + b.thread, b.load(line, 7 - b.thread))
            if again:
                b.barrier()

    return build


def between_blocks(b: LoopBuilder) -> None:
    with b.units(4, 8) as unit:
        b.store("out", unit * 4 + b.thread, 1.0)


def read_of_another_block(b: LoopBuilder) -> None:
    with b.units(4, 8) as unit:
        b.store("out", unit * 8 + b.thread, b.load("out", (unit * 8 + b.thread + 8) % 32))


def between_units(b: LoopBuilder) -> None:
    with b.units(32) as unit:
        b.store("out", unit // 2, 1.0)


def first_read(b: LoopBuilder) -> None:
    line = b.share("line", f32, 8)
    with b.units(2, 8) as unit:
        with b.when(Condition(unit, "<", 1)):
            b.store(line, b.thread, 1.0)
        b.store("out", unit * 8 + b.thread, b.load(line, b.thread))


def far_read(b: LoopBuilder) -> None:
    far = b.symbol("far", 0, 100)
    with b.units(32) as unit:
        b.store("out", unit, b.load("x", unit * 2 + far))


def far_write(b: LoopBuilder) -> None:
    far = b.symbol("far", 0, 100)
    with b.units(32) as unit:
        b.store("out", unit - far, 1.0)


def copied_over(b: LoopBuilder) -> None:
    """Copies begin while others read, though they are waited for behind a barrier."""
    line = b.share("line", f32, 32)
    with b.units(1, 8):
        with b.loop("i", 0, 4) as i:
            b.store(line, b.thread * 4 + i, b.load("x", b.thread * 4 + i))
        b.barrier()
        b.store("out", b.thread, b.load(line, b.thread * -1 + 31))
        b.copy(line, b.thread * 4, "x", b.thread * 4, 4)
        b.close_copies()
        b.barrier()
        b.await_copies(0)
        b.barrier()
        b.store("out", b.thread + 8, b.load(line, b.thread))


FAULTS = {
    "copies over what is read": (
        copied_over,
        "thread 0 of block 0 reads line[31], to which a copy is on its way",
    ),
    "writes and reads": (exchange(False), "thread 0 of block 0 reads line[7], which no thread of the block"),
    "reads and writes": (
        exchange(True, False),
        "thread 0 of block 0 reads line[7], which thread 7 of block 0",
    ),
    "blocks": (between_blocks, "thread 0 of block 1 writes out[4], which thread 4 of block 0 writes too"),
    "blocks that read": (
        read_of_another_block,
        "thread 0 of block 1 writes out[8], which thread 0 of block 0",
    ),
    "units": (between_units, "thread 1 of block 0 writes out[0], which thread 0 of block 0 writes too"),
    "first reads": (
        first_read,
        "thread 0 of block 1 reads line[0], which no thread of the block has written",
    ),
    "far reads": (far_read, "thread 28 of block 0 reads x[64], which has 64 elements"),
    "far writes": (far_write, "thread 0 of block 0 writes out[-8], which has 64 elements"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, tmp_path: Path) -> None:
    build, message = FAULTS[fault]
    done = outcome(kernel(build), tmp_path)
    assert done.returncode < 0
    assert done.stderr.startswith("aino: kernel planted_")
    assert message in done.stderr


def test_right_kernels_run(tmp_path: Path) -> None:
    done = outcome(kernel(exchange(True)), tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
