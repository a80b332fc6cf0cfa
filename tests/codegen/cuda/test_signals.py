"""Signals and copies of tiles: loop interpreter, emulation and numpy agree; what goes wrong is found."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dtypes import bf16, f32
from aino_ir.errors.loops import LoopInvariantError, LoopRunError
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.conditions import Condition
from aino_ir.loops.expr import const, index
from aino_ir.loops.groups import GROUP, LINE_BYTES, ROWS
from aino_ir.loops.interp import run_kernel
from aino_ir.loops.signals import NeverOver, Signal, Watch
from aino_ir.loops.stmt import Access, LoopFn, SharedFactor
from aino_ir.loops.verify import verify_loops
from tests.codegen.cuda.test_emulation import write_headers
from tests.codegen.cuda.test_warp import everywhere, normal
from tests.codegen.native import target

TERMS = LINE_BYTES // 2
STAGES = 2
ALL_BYTES = 2 * ROWS * LINE_BYTES


@dataclass(frozen=True)
class Ring:
    """A product of 64 x 64 by a group that multiplies, while another fills a ring of stages; with faults.

    Attributes:
        rows, columns, terms: that the factors have.
        steps: tiles along the terms.
        announced: bytes of each stage.
        waits: for full stages, for empty ones; for the first full one alone.
        releases: whether the group that multiplies says that it has.
        arrivals: of threads that release a stage.
        started: whether signals are, with a barrier behind that.
    """

    rows: int = ROWS
    columns: int = ROWS
    terms: int = 3 * TERMS
    announced: int = ALL_BYTES
    waits: tuple[str, ...] = ("full", "empty")
    releases: bool = True
    arrivals: int = 4
    started: bool = True

    @property
    def steps(self) -> int:
        return -(-self.terms // TERMS)

    def build(self, *, square: bool = False) -> LoopFn:
        """The kernel; with `square` of one factor by itself."""
        b = LoopBuilder("ring")
        x = b.param("x", bf16, self.rows * self.terms)
        w = x if square else b.param("w", bf16, self.columns * self.terms)
        out = b.param("out", f32, ROWS * ROWS, Access.WRITE)
        # twice what they hold: panels are asked for then, and start where they must
        panels = [b.share(f"{n}_panel", bf16, 2 * ROWS * TERMS * STAGES) for n in ("x", "w")]
        full, empty = b.signals("full", STAGES, 1), b.signals("empty", STAGES, self.arrivals)
        maps = [
            b.tile_map(f"{name}_map", source, (self.terms, lines), (self.terms,), ROWS)
            for name, source, lines in (("x", x, self.rows), ("w", w, self.columns))
        ]
        with b.units(1, 2 * GROUP):
            if self.started:
                b.start_signals(full)
                b.start_signals(empty)
                b.barrier()
            group = b.index(index(b.thread // GROUP), 0, 1, "group")
            with b.when(Condition(group, ">=", 1)):
                with b.when(Condition(b.thread, "==", GROUP)), b.loop("k", 0, self.steps) as k:
                    stage = b.index(index(k % STAGES), 0, STAGES - 1, "stage")
                    if "empty" in self.waits:
                        b.await_signal(empty, stage, (k // STAGES + 1) % 2)
                    b.arrive(full, stage, self.announced)
                    for panel, tiles in zip(panels, maps, strict=True):
                        b.copy_tile(panel, stage * (ROWS * TERMS), tiles, (k * TERMS, 0), full, stage)
            with b.otherwise():
                self._multiply(b, panels, full, empty, out)
        return b.finish()

    def _multiply(self, b: LoopBuilder, panels: list[str], full: str, empty: str, out: str) -> None:
        sums = b.reg_tile("sum", (ROWS // 2,), const(0, f32).type, 0)
        lane = b.index(index(b.thread % 32), 0, 31, "lane")
        with b.loop("k", 0, self.steps) as k:
            stage = b.index(index(k % STAGES), 0, STAGES - 1, "stage")
            if "full" in self.waits:
                b.await_signal(full, stage, k // STAGES % 2)
            elif "first" in self.waits:
                with b.when(Condition(k, "<", 1)):
                    b.await_signal(full, 0, 0)
            totals = [sums[n] for n in range(ROWS // 2)]
            first, second = (SharedFactor(panel, stage * (ROWS * TERMS)) for panel in panels)
            found = b.group_product("wgmma_bf16", first, second, [t.read() for t in totals])
            for total, value in zip(totals, found, strict=True):
                b.set(total, value)
            if self.releases:
                with b.when(Condition(lane, "==", 0)):
                    b.arrive(empty, stage)
        warp, row, quad = b.split(b.dim(b.thread), {"warp": 4, "row": 8, "quad": 4})
        for n in range(ROWS // 2):
            down, across = warp * 16 + row + n % 4 // 2 * 8, n // 4 * 8 + quad * 2 + n % 2
            b.store(out, down * ROWS + across, sums[n].read())


def factors(ring: Ring) -> list[np.ndarray[Any, Any]]:
    return [normal(n, ring.terms).astype(ml_dtypes.bfloat16) for n in (ring.rows, ring.columns)]


@pytest.mark.parametrize("ring", [Ring(), Ring(rows=50, columns=7, terms=216)], ids=["whole", "ragged"])
def test_a_ring_of_tiles(ring: Ring, tmp_path: Path) -> None:
    x, w = factors(ring)
    *_, got = everywhere(ring.build(), [x.ravel(), w.ravel(), np.zeros(ROWS * ROWS, np.float32)], tmp_path)
    expected = np.zeros((ROWS, ROWS))
    expected[: ring.rows, : ring.columns] = np.float64(x) @ np.float64(w).T
    np.testing.assert_allclose(got.reshape(ROWS, ROWS), expected, rtol=1e-5, atol=1e-4)


FAULTS = {
    "no waiting": (Ring(waits=("empty",)), "which no thread of the block has written"),
    "early reads": (Ring(waits=("first", "empty")), "reads x_panel[4096], a tile that it has not waited for"),
    "full stages": (Ring(waits=("full",)), "arrives at a signal where all 1 have arrived"),
    "overwriting": (Ring(arrivals=3), "copies a tile to x_panel[0], which warp 3 may still read"),
    "too few bytes": (Ring(announced=ALL_BYTES - 16), "16 bytes more than were announced"),
    "too many bytes": (Ring(announced=ALL_BYTES + 16), "threads wait at a barrier or for a signal"),
    "no release": (Ring(releases=False), "threads wait at a barrier or for a signal"),
    "not started": (Ring(started=False), "uses a signal that was not started"),
}


MAIN = """\
#include <stdlib.h>
int main(int argc, char **argv)
{
    static uint16_t x[1 << 14];
    static float out[1 << 14];
    void *views[] = {x, out};
    KERNELS
    return argc;
}
"""


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program that runs the n-th of the kernels with faults; behind them those of `WARPS`."""
    folder = tmp_path_factory.mktemp("planted")
    compiler = shutil.which("gcc") or pytest.skip("no gcc")
    kernels = [ring.build(square=True) for ring, _ in FAULTS.values()]
    kernels += [through_a_warp(barriers) for barriers in WARPS]
    calls = [f"if (atoi(argv[1]) == {n}) {fn.name}(views, 0, 0, 0, 1);" for n, fn in enumerate(kernels)]
    text = print_unit(kernels, target("c:cuda-emu")) + MAIN.replace("KERNELS", "\n    ".join(calls))
    (folder / "k.c").write_text(text, encoding="ascii")
    write_headers(folder)
    command = [compiler, "-O1", "-ffp-contract=off", "-Wno-psabi", "-o", "k", "k.c", "-lm"]
    subprocess.run(command, cwd=folder, check=True, timeout=60)
    return folder / "k"


def outcome(program: Path, number: int) -> tuple[bool, str]:
    """Whether a kernel was stopped, and what was said."""
    command = [str(program), str(number)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode < 0, done.stderr


@pytest.mark.parametrize("fault", FAULTS)
def test_faults_are_found(fault: str, planted: Path) -> None:
    stopped, said = outcome(planted, list(FAULTS).index(fault))
    assert stopped and FAULTS[fault][1] in said


WRONG = {
    "too few bytes": (Ring(announced=ALL_BYTES - 16), "16384 bytes come where 16368 were announced"),
    "too many bytes": (Ring(announced=ALL_BYTES + 16), "no thread is left to give it"),
    "no release": (Ring(releases=False), "no thread is left to give it"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_the_interpreter_does_not_wait_for_ever(fault: str) -> None:
    ring, message = WRONG[fault]
    arrays = [x.ravel() for x in (*factors(ring), np.zeros((ROWS, ROWS), np.float32))]
    with pytest.raises(LoopRunError, match=re.escape(message)):
        run_kernel(ring.build(), arrays)


def test_a_phase_has_so_many_arrivals() -> None:
    signal = Signal(1)
    signal.arrive(8)
    with pytest.raises(NeverOver, match="more than 1 threads"):
        signal.arrive(0)


def test_whoever_waits_is_woken_when_another_thread_fails() -> None:
    signal, watch, found = Signal(1), Watch(2, []), []
    watch.signals.append(signal)

    def wait() -> None:
        try:
            signal.wait(0, watch)
        except (NeverOver, threading.BrokenBarrierError) as error:
            found.append(type(error))

    waiting = threading.Thread(target=wait)
    waiting.start()
    watch.abort()
    waiting.join(60)
    assert found == [threading.BrokenBarrierError]


def broken_map(**changes: Any) -> LoopFn:
    fn = Ring().build()
    prologue = tuple(replace(s, **changes) if type(s).__name__ == "TileMap" else s for s in fn.prologue)
    return replace(fn, prologue=prologue)


@pytest.mark.parametrize(
    "changes",
    [{"strides": (36,)}, {"strides": ()}, {"lines": 257}, {"buffer": "x_panel"}],
    ids=["strides", "axes", "lines", "shared"],
)
def test_maps_that_devices_do_not_take(changes: dict[str, Any]) -> None:
    with pytest.raises(LoopInvariantError, match="L15"):
        verify_loops(broken_map(**changes))


def test_tiles_are_proved_to_fit() -> None:
    assert not verify_loops(Ring().build()).unproved
    assert "copy tile" in verify_loops(broken_map(lines=256)).unproved[0]


def divergent(meeting: str) -> LoopFn:
    """A kernel where some threads do not come to where all must."""
    b = LoopBuilder("divergent")
    out = b.param("out", f32, 2 * GROUP, Access.WRITE)
    signals = b.signals("signals", 1, 1)
    with b.units(1, 2 * GROUP):
        group = b.index(index(b.thread // GROUP), 0, 1, "group")
        warp = b.index(index(b.thread // 32), 0, 7, "warp")
        with b.when(Condition(group if meeting in ("barrier", "start") else warp, "<", 1)):
            if meeting == "registers":
                b.registers(40, more=False)
            elif meeting == "start":
                b.start_signals(signals)
            else:
                b.barrier(warp=meeting == "barrier of a warp")
            b.store(out, b.thread, 1.0)
    return b.finish()


@pytest.mark.parametrize("meeting", ["barrier", "registers", "start"])
def test_who_must_come_together(meeting: str) -> None:
    verify_loops(divergent("barrier of a warp"))
    with pytest.raises(LoopInvariantError, match="L14"):
        verify_loops(divergent(meeting))


def test_c_has_no_signals() -> None:
    with pytest.raises(NoSpelling, match="signal"):
        print_unit([divergent("start")], target("c:avx2"))


def through_a_warp(barriers: tuple[bool, bool]) -> LoopFn:
    """Lanes hand values over through shared memory, twice, with barriers of their warp or without."""
    b = LoopBuilder("warps")
    x, out = b.param("x", f32, 64), b.param("out", f32, 128, Access.WRITE)
    line = b.share("line", f32, 64)
    with b.units(1, 64), b.loop("turn", 0, 2) as turn:
        b.store(line, b.thread, b.load(x, b.thread))
        if barriers[0]:
            b.barrier(warp=True)
        other = b.thread // 32 * 32 + 31 - b.thread % 32
        b.store(out, turn * 64 + b.thread, b.load(line, other))
        if barriers[1]:
            b.barrier(warp=True)
    return b.finish()


WARPS = ((True, True), (False, True), (True, False))


@pytest.mark.parametrize("barriers", WARPS)
def test_barriers_of_warps(barriers: tuple[bool, bool], planted: Path) -> None:
    stopped, said = outcome(planted, len(FAULTS) + WARPS.index(barriers))
    assert stopped != all(barriers) and ("line[" in said) == stopped
