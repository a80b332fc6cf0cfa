"""The generated main: the same results straight-line, in parts and as a table; failures; hostile names."""

from __future__ import annotations

import ctypes
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from aino_ir.codegen.c import program, steps
from aino_ir.codegen.c.backend import describe, emit
from aino_ir.codegen.c.runtime import runtime_headers
from aino_ir.dims import DimLike, dmin, symbol
from aino_ir.dtypes import f32, i64
from aino_ir.kernels import Candidate, Kernel
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import compare
from aino_ir.loops.stmt import Access, LoopFn, Status
from aino_ir.passes.insert_barriers import InsertBarriers
from aino_ir.passes.plan_memory import PlanMemory
from aino_ir.passes.reserve_segments import ReserveSegments
from aino_ir.plan import Bind, BufferKind, Plan, Run, Step, Sync, View
from aino_ir.types import TensorType
from tests.codegen.c.support import compilers, target

N = 48


def increment(n: DimLike) -> LoopFn:
    """y = x + 1; fails at a value of 1000."""
    b = LoopBuilder("increment")
    if not isinstance(n, int):
        b.symbol(str(n), 0, N)
    x, y = b.param("x", f32, n), b.param("y", f32, n, Access.WRITE)
    with b.units(n) as u:
        value = b.load(x, u)
        with b.when(compare("eq", value, 1000.0)):
            b.fail(Status.LIMIT_EXCEEDED, 7)
        b.store(y, u, value + 1.0)
    return b.finish()


def chain(length: int, symbolic: bool, name: str = "chain", input_name: str = "x") -> Plan:
    """`length` increments in a row through two arena buffers."""
    n: DimLike = symbol("n.0") if symbolic else N
    fn = increment(n)
    type_ = TensorType(f32, (n,))
    plan = Plan(name, inputs=[(input_name, type_)], outputs=[("y", type_)])
    if symbolic:
        plan.symbols, plan.symbol_bounds = ["n.0"], {"n.0": (1, N)}
    plan.kernels = {fn.name: Kernel(None, Candidate("test", "test"), fn)}  # type: ignore[arg-type]
    buffers = [plan.new_buffer(BufferKind.ARENA, 4 * N, offset=dmin(n, 1) * 256 * i) for i in range(2)]
    first, last = (
        plan.new_buffer(BufferKind.INPUT, n * 4, slot=0),
        plan.new_buffer(BufferKind.OUTPUT, n * 4, slot=0),
    )
    plan.arena_bytes = 512
    steps: list[Step] = []
    for i in range(length):
        source, result = buffers[i % 2], buffers[(i + 1) % 2]
        ends = (first if i == 0 else source, last if i == length - 1 else result)
        views = tuple(View(b.id, 0, f32, (n,)) for b in ends)
        steps += [Run(fn.name, views, "one" if i % 3 == 1 else "static"), Sync()]
    plan.steps = steps
    return plan


class Model:
    """A compiled plan."""

    def __init__(self, plan: Plan, compiler: str, folder: Path) -> None:
        emission = emit(plan, target("vec128"))
        for name, text in [*runtime_headers().items(), *emission.headers.items()]:
            (folder / name).write_text(text)
        sources = []
        for unit in emission.units:
            sources.append(f"{unit.name}.c")
            (folder / sources[-1]).write_text(unit.text)
        command = [*compilers()[compiler], "-std=gnu11", "-O1", "-fPIC", "-Wall", "-Wextra", "-Werror"]
        for source in sources:
            subprocess.run([*command, "-c", source], cwd=folder, check=True, timeout=120)
        objects = [s.replace(".c", ".o") for s in sources]
        linker = "gcc" if "gcc" in compilers() else compiler
        link = [*compilers()[linker], "-shared", *objects, "-lm", "-lpthread", "-o", "m.so"]
        subprocess.run(link, cwd=folder, check=True, timeout=120)
        self.name, self.library = plan.name, ctypes.CDLL(str(folder / "m.so"))
        self.context = ctypes.c_void_p()

    def call(self, verb: str, *args: object) -> int:
        return getattr(self.library, f"{self.name}_{verb}")(*args)

    def run(self, x: np.ndarray, symbols: tuple[int, ...], threads: int) -> tuple[int, np.ndarray]:
        assert self.call("create", None, threads, ctypes.byref(self.context)) == 0
        y = np.full_like(x, -1)
        values = np.array([*symbols, 0], np.int64)
        inputs = (ctypes.c_void_p * 2)(x.ctypes.data, values.ctypes.data)
        outputs = (ctypes.c_void_p * 1)(y.ctypes.data)
        status = self.call("run", self.context, inputs, outputs)
        self.library[f"{self.name}_destroy"].restype = None
        self.call("destroy", self.context)
        return status, y

    def describe(self) -> dict[str, object]:
        function = self.library[f"{self.name}_describe"]
        function.restype = ctypes.c_char_p
        return json.loads(function())


@pytest.mark.parametrize("compiler", ["gcc", "zig"])
@pytest.mark.parametrize("symbolic", [False, True], ids=["static", "symbolic"])
@pytest.mark.parametrize("limit", [1000, 8], ids=["short", "long"])
def test_all_forms_of_the_main_agree(limit, symbolic, compiler, tmp_path, monkeypatch) -> None:
    if compiler not in compilers():
        pytest.skip("not on this machine")
    monkeypatch.setattr(steps, "STRAIGHT_LINE_STEPS", limit)
    model = Model(chain(9, symbolic), compiler, tmp_path)
    assert model.call("abi") == program.ABI_VERSION
    x = np.arange(N, dtype=np.float32)
    for threads in (1, 2):
        size = N - 5 if symbolic else N
        status, y = model.run(x[:size].copy(), (size,) if symbolic else (), threads)
        assert status == 0
        np.testing.assert_array_equal(y, x[:size] + 9)
    bad = x.copy()
    bad[N // 2] = 996.0  # the fifth increment, step 8, meets 1000
    for threads in (1, 2):
        status, _ = model.run(bad, (N,) if symbolic else (), threads)
        assert (status & 255, status >> 8) == (Status.LIMIT_EXCEEDED.value, 8)


@pytest.mark.parametrize("limit", [1000, 2], ids=["short", "long"])
def test_each_kernel_gets_its_own_symbols(limit: int, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(steps, "STRAIGHT_LINE_STEPS", limit)
    plan = chain(3, True)
    plan.symbols = ["batch", "n.0", "zeta"]
    plan.symbol_bounds |= {"batch": (1, 9), "zeta": (1, 9)}
    model = Model(plan, next(iter(compilers())), tmp_path)
    x = np.arange(N, dtype=np.float32)
    status, y = model.run(x, (3, N - 1, 5), 2)
    assert status == 0
    np.testing.assert_array_equal(y[: N - 1], x[: N - 1] + 3)
    assert y[N - 1] == -1


@pytest.mark.parametrize("name", ["STATE_SETUP", "NAME", 'a"b\\c??/', "*/ int x; /*", "n\n\u00e9"])
def test_names_of_the_model_stay_text(name: str, tmp_path: Path) -> None:
    plan = chain(2, False, input_name=name)
    plan.steps = [
        Run(s.kernel, s.views, s.partition, nodes=(name,)) if isinstance(s, Run) else s for s in plan.steps
    ]
    model = Model(plan, next(iter(compilers())), tmp_path)
    assert model.describe() == json.loads(describe(plan))
    assert model.describe()["inputs"][0]["name"] == name  # type: ignore[index]


def test_a_table_has_room_for_the_widest_step(monkeypatch) -> None:
    monkeypatch.setattr(steps, "STRAIGHT_LINE_STEPS", 0)
    plan = chain(2, False)
    wide = plan.steps[0]
    assert isinstance(wide, Run)
    plan.steps.append(Run(wide.kernel, wide.views * 50))
    text = program.print_program(plan, "{}").source
    assert "void *views[101];" in text


def deciding() -> Plan:
    """x holds a number in its first element, which decides how much of the rest becomes y."""
    d = symbol("d")
    fn = increment(d)
    plan = Plan("decide", inputs=[("x", TensorType(f32, (N,))), ("n", TensorType(i64, ()))])
    plan.outputs = [("y", TensorType(f32, (d,)))]
    plan.symbols, plan.decided, plan.symbol_bounds = ["d"], ["d"], {"d": (0, N)}
    plan.kernels = {fn.name: Kernel(None, Candidate("test", "test"), fn)}  # type: ignore[arg-type]
    x, n = plan.new_buffer(BufferKind.INPUT, N * 4, slot=0), plan.new_buffer(BufferKind.INPUT, 8, slot=1)
    between = plan.new_buffer(BufferKind.ARENA, d * 4)
    y = plan.new_buffer(BufferKind.OUTPUT, d * 4, slot=0)
    plan.steps = [Bind("d", View(n.id, 0, i64, ()), 0, N)]
    for ends in ((x, between), (between, y)):
        views = tuple(View(b.id, 0, f32, (d,)) for b in ends)
        plan.steps.append(Run(fn.name, views, nodes=("node",)))
    for plan_pass in (ReserveSegments(), PlanMemory(), InsertBarriers()):
        plan_pass.run(plan)
    return plan


def test_text_of_what_a_run_decides(golden) -> None:
    plan = deciding()
    text = program.print_program(plan, describe(plan))
    golden.check("program_deciding.txt", text.source)
    golden.check("program_deciding_header.txt", text.header)


def test_text(golden) -> None:
    for symbolic in (False, True):
        plan = chain(3, symbolic, "demo")
        text = program.print_program(plan, describe(plan))
        golden.check(f"program_{'symbolic' if symbolic else 'static'}.txt", text.source)
    golden.check("program_header.txt", text.header)
