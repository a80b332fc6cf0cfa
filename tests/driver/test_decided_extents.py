"""Extents and integers that a run decides itself: compiled, against the interpreter."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.c import steps
from aino_ir.dims import Dim, DimLike, parse_dim
from aino_ir.driver.emit import emit_files
from aino_ir.errors.run import NativeShapeError, OutputDecidedByRun
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.graph import Module, Value
from aino_ir.infer import known_contents
from aino_ir.interp import run_module
from aino_ir.op import OPS
from aino_ir.runtime import given
from aino_ir.runtime.executable import Executable
from aino_ir.sampling import inputs_of, samples_for
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor, type_of
from tests.source import ROOT

Array = np.ndarray[Any, Any]
Build = Callable[[Builder], None]


def module_of(build: Build) -> Module:
    b = Builder()
    build(b)
    return b.module


def op(b: Builder, name: str, *operands: Value, **attributes: Any) -> Value:
    return b.op(OPS[name], *operands, **attributes).result


def agree(module: Module, inputs: Sequence[Sequence[Array]], level: int = 2, terms: int = 64) -> Executable:
    """Compile once and run on each of the inputs, with one and with two threads."""
    exe = aino.compile(module, cache=False, level=level, threads=1)
    for threads in (1, 2):
        exe = Executable(exe.artifact, threads)
        for arrays in inputs:
            expected = run_module(module, arrays)
            for got, wanted in zip(exe.run(*arrays), expected, strict=True):
                assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
                why = disagreement(got, wanted, "reordered", terms=terms)
                assert why is None, why
    return exe


def masks(n: int, *shares: float) -> list[Array]:
    rng = np.random.default_rng(7)
    return [rng.random(n) < share for share in shares]


def test_chains_behind_a_compress() -> None:
    rng = np.random.default_rng(1)
    weights = rng.standard_normal((6, 8)).astype(np.float32)

    def build(b: Builder) -> None:
        x, keep = b.input("x", tensor("f32", 6, 50)), b.input("keep", tensor("bool", 50))
        early = b.relu(x)  # made before the extent is known, read behind it
        kept = op(b, "index.compress", x, keep, axis=1)
        rows = b.relu(b.matmul(op(b, "tensor.transpose", kept, perm=(1, 0)), b.constant(weights)))
        b.output("rows", rows)
        b.output("sum", op(b, "reduce.sum", rows, axes=(0,)))
        b.output("softmax", op(b, "normalize.softmax", kept, axis=1))
        b.output("joined", op(b, "tensor.concat", kept, early, axis=1))
        b.output("flat", op(b, "tensor.reshape", kept, shape=(kept.shape[1] * 6,)))
        b.output("again", op(b, "index.compress", kept, keep_all(b, kept.shape[1]), axis=1))

    def keep_all(b: Builder, extent: DimLike) -> Value:
        positions = op(b, "index.range", start=0, size=extent)
        return op(b, "logic.lt", positions, b.constant(np.int64(5)))

    data = [(rng.standard_normal((6, 50)).astype(np.float32), m) for m in masks(50, 0.0, 0.02, 0.4, 1.0)]
    agree(module_of(build), data)


def test_chains_behind_a_nonzero_of_symbolic_extents() -> None:
    rng = np.random.default_rng(2)

    def build(b: Builder) -> None:
        n = b.symbol("n", 0, 9000)
        x = b.input("x", tensor("f32", n, 3))
        found = op(b, "index.nonzero", x)
        rows = op(b, "tensor.slice", found, starts=(0, 0), sizes=(1, found.shape[1]), steps=(1, 1))
        picked = op(b, "tensor.gather", x, op(b, "tensor.reshape", rows, shape=(found.shape[1],)), axis=0)
        b.output("found", found)
        b.output("picked", b.add(picked, picked))

    def sparse(n: int, share: float) -> Array:
        return (rng.standard_normal((n, 3)) * (rng.random((n, 3)) < share)).astype(np.float32)

    shapes = [(0, 0.5), (1, 1.0), (1, 0.0), (77, 0.1), (5000, 0.3)]
    agree(module_of(build), [(sparse(n, share),) for n, share in shapes])


def test_distinct_rows_of_symbolic_extents() -> None:
    rng = np.random.default_rng(3)

    def build(b: Builder) -> None:
        n, m = b.symbol("n", 0, 500), b.symbol("m", 0, 9)
        x = b.input("x", tensor("i32", n, m))
        for ordered in (True, False):
            unique = b.op(OPS["index.unique"], x, axis=0, sorted=ordered)
            for i, result in enumerate(unique.results):
                b.output(f"{'sorted' if ordered else 'first'}{i}", result)

    shapes = [(0, 2), (1, 1), (7, 0), (300, 2), (40, 9)]
    agree(module_of(build), [(rng.integers(0, 3, shape).astype(np.int32),) for shape in shapes])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["index.compress", "index.non_max_suppression", "index.nonzero", "index.unique"]
)
def test_samples_of_ops_that_decide(name: str) -> None:
    samples = [s for s in samples_for(OPS[name]) if sum(a.size for a in inputs_of(s)) < 20_000]
    chosen = samples[:: max(1, len(samples) // 9)]
    b = Builder()
    arrays: list[Array] = []
    for sample in chosen:
        given = inputs_of(sample)
        places = iter([b.input(f"x{len(arrays) + i}", type_of(a)) for i, a in enumerate(given)])
        operands = [None if a is None else next(places) for a in sample.operands]
        arrays += given
        for result in b.op(OPS[name], *operands, **sample.attrs).results:
            b.output(f"y{len(b.function.output_names)}", result)
    exe = agree(b.module, [arrays])
    for got, wanted in zip(exe.run(*arrays), run_module(b.module, arrays), strict=True):
        np.testing.assert_array_equal(got, wanted)


def bound_shape(b: Builder, limits: tuple[tuple[int, int], ...]) -> tuple[DimLike, ...]:
    """The symbols of an input whose elements decide extents."""
    sizes = b.input("sizes", tensor("i64", len(limits)))
    lower, upper = tuple(lo for lo, _ in limits), tuple(hi for _, hi in limits)
    bound = op(b, "core.bind", sizes, lower=lower, upper=upper, what="sizes")
    known = known_contents(bound, b.function.symbols)
    assert known is not None
    return tuple(known.tolist())


def test_numbers_of_an_input_decide_extents() -> None:
    def build(b: Builder) -> None:
        x = b.input("x", tensor("f32", 12))
        n, m = bound_shape(b, ((0, 12), (-4, 1 << 40)))
        b.output("wide", op(b, "tensor.expand", x, shape=(n, 12)))
        b.output("tail", op(b, "tensor.slice", x, starts=(12 - n,), sizes=(n,), steps=(1,)))
        b.output("moved", op(b, "index.range", start=m, size=n, step=1))

    x = np.arange(12, dtype=np.float32)
    sizes = [(3, -4), (0, 0), (12, 1 << 40), (1, 7)]
    exe = agree(module_of(build), [(x, np.array(s, np.int64)) for s in sizes])
    for bad, which in (((13, 0), 0), ((-1, 0), 0), ((3, -5), 1)):
        with pytest.raises(NativeShapeError, match=f"element {which} of sizes must be in"):
            exe.run(x, np.array(bad, np.int64))
    assert exe.run(x, np.array((2, 1), np.int64))[0].shape == (2, 12)


def test_numbers_of_every_width_decide() -> None:
    def build(b: Builder) -> None:
        for dtype in ("i8", "u8", "i16", "i32", "u32", "u64"):
            size = b.input(dtype, tensor(dtype))
            bound = op(b, "core.bind", size, lower=(0,), upper=(200,), what=dtype)
            known = known_contents(bound, b.function.symbols)
            assert known is not None
            b.output(f"to_{dtype}", op(b, "index.range", start=0, size=known.item(), step=1))

    dtypes = (np.int8, np.uint8, np.int16, np.int32, np.uint32, np.uint64)
    exe = agree(module_of(build), [tuple(np.array(n, d) for d in dtypes) for n in (0, 3, 120)])
    with pytest.raises(NativeShapeError, match="u64 must be in 0..200"):
        exe.run(*(np.array(3, d) for d in dtypes[:-1]), np.array((1 << 64) - 1, np.uint64))


def test_numbers_of_a_few_bits_decide_nothing_in_native_code() -> None:
    def build(b: Builder) -> None:
        op(b, "core.bind", b.input("x", tensor("i4", 1)), lower=(0,), upper=(7,))
        b.output("y", b.relu(b.input("z", tensor("f32", 2))))

    with pytest.raises(OperatorsUnsupported, match="core.bind: numbers of dtype i4 decide nothing"):
        aino.compile(module_of(build), cache=False, strict=True)


def test_sums_over_axes_that_numbers_decide() -> None:
    """Each axis of x is split into what is kept and what is summed, one of which is 1."""

    def build(b: Builder) -> None:
        x = b.input("x", tensor("f32", 3, 4))
        kept0, summed0, kept1, summed1 = bound_shape(b, ((1, 3), (1, 3), (1, 4), (1, 4)))
        split = op(b, "tensor.reshape", x, shape=(kept0, summed0, kept1, summed1))
        b.output("y", op(b, "reduce.sum", split, axes=(1, 3)))
        empty = op(b, "tensor.reshape", b.input("none", tensor("f32", 2, 0, 4)), shape=(kept1, 0, 3))
        b.output("z", b.relu(op(b, "reduce.sum", empty, axes=(1,))))

    x, none = np.arange(12, dtype=np.float32).reshape(3, 4), np.zeros((2, 0, 4), np.float32)
    splits = [(3, 1, 4, 1), (1, 3, 4, 1), (3, 1, 1, 4), (1, 3, 1, 4)]
    agree(module_of(build), [(x, np.array(s, np.int64), none) for s in splits])


def test_callers_at_the_same_time_get_their_own() -> None:
    exe = aino.compile(small(3000), cache=False, threads=2)
    inputs = [np.float32(np.arange(3000) % n == 0) for n in (1, 2, 3, 5, 7, 11, 500, 2999)]

    def run(x: Array) -> bool:
        return all(np.array_equal(exe.run(x)[0][0], np.flatnonzero(x)) for _ in range(50))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(run, inputs))


def test_demands_on_decided_extents_are_tested_and_named() -> None:
    def build(b: Builder) -> None:
        x, keep = b.input("x", tensor("f32", 9)), b.input("keep", tensor("bool", 9))
        y = b.input("y", tensor("f32", 4))
        b.output("z", b.add(op(b, "index.compress", x, keep), y))

    module = module_of(build)
    x, y, keep = np.arange(9, dtype=np.float32), np.ones(4, np.float32), np.arange(9) % 2 == 1
    exe = agree(module, [(x, keep, y)])
    with pytest.raises(NativeShapeError, match=r"math.add: broadcast extents of axis 0: d\d+_0 == 4"):
        exe.run(x, np.ones(9, bool), y)
    agree(module, [(x, keep, y)], level=0)


@pytest.mark.parametrize("limit", [2, 7])
def test_long_plans_in_parts_decide_too(limit: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "STRAIGHT_LINE_STEPS", limit)
    test_loops_decide_extents_anew_each_turn()


def small(cells: int = 20) -> Module:
    return module_of(lambda b: b.output("y", op(b, "index.nonzero", b.input("x", tensor("f32", cells)))))


def test_memory_of_decided_outputs_is_the_callers_own() -> None:
    exe = aino.compile(small(), cache=False)
    x = np.ones(20, np.float32)
    ((first,), (second,)) = exe.run(x), exe.run(x)
    assert exe.outputs[0][1].shape[0] == 1 and first.flags.writeable and first.flags.aligned
    first[:] = -1
    del exe
    gc.collect()
    np.testing.assert_array_equal(second, [np.arange(20)])
    assert (first == -1).all()


def test_memory_of_decided_outputs_is_freed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    freed: list[int] = []
    real = given.Memory.__del__
    monkeypatch.setattr(given.Memory, "__del__", lambda self: freed.append(self._address) or real(self))
    exe = aino.compile(small(), cache=False)
    for cells in (3, 0, 20):
        (y,) = exe.run(np.float32(np.arange(20) < cells))
        part = y[:, 1:]
        del y
        assert not freed and part.shape == (1, max(0, cells - 1))
        del part
        assert len(freed) == 1
        freed.clear()


def test_out_is_refused_where_the_run_decides() -> None:
    exe = aino.compile(small(), cache=False)
    with pytest.raises(OutputDecidedByRun, match=r"out\['y'\].*i64\[1, d\d+_0\]"):
        exe.run(np.ones(20, np.float32), out=[np.zeros((1, 20), np.int64)])


def test_profile_and_report_know_decided_extents() -> None:
    exe = agree(small(), [(np.float32(np.arange(20) % 3),)])
    profile = exe.profile(np.float32(np.arange(20) % 3), runs=2)
    assert profile.symbols and 13 in profile.symbols.values()
    assert len(profile.rows) == len(exe.report.kernels) == 3


def test_report_counts_the_memory_that_a_run_decides() -> None:
    def build(b: Builder) -> None:
        found = op(b, "index.nonzero", b.input("x", tensor("f32", 20)))
        b.output("y", op(b, "reduce.max", found, axes=(1,)))

    exe = agree(module_of(build), [(np.float32(np.arange(20) % 3),)])
    size = parse_dim(str(exe.report.arena_bytes))
    assert isinstance(size, Dim) and len(size.free_symbols()) == 1
    (name,) = size.free_symbols()
    assert size.evaluate({name: 20}) - size.evaluate({name: 0}) == 192


OUT_OF_MEMORY = """
import resource
import numpy as np
import aino_ir as aino
from aino_ir.errors.run import NativeAllocationFailed, SizeLimitAtRun
exe = aino.load_executable({path!r}, threads=2)
limit = 3 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
x = np.ones(1, np.float32)
for size, error in ((1 << 30, NativeAllocationFailed), (1 << 45, SizeLimitAtRun), (5, None)):
    try:
        (y,) = exe.run(x, np.array([size], np.int64))
    except (NativeAllocationFailed, SizeLimitAtRun) as got:
        assert type(got) is error, got
    else:
        assert error is None and y.shape == (5,), error
"""


def test_too_much_memory_is_an_error_and_the_next_run_works(tmp_path: Path) -> None:
    def build(b: Builder) -> None:
        x = b.input("x", tensor("f32", 1))
        (n,) = bound_shape(b, ((0, 1 << 50),))
        b.output("y", op(b, "tensor.expand", x, shape=(n,)))

    aino.compile(module_of(build), cache=False).save(tmp_path / "m.aino")
    code = OUT_OF_MEMORY.format(path=str(tmp_path / "m.aino"))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_emitted_c_hands_over_what_the_run_decides(tmp_path: Path) -> None:
    def build(b: Builder) -> None:
        x, keep = b.input("x", tensor("f32", 3, 9)), b.input("keep", tensor("bool", 9))
        kept = op(b, "index.compress", x, keep, axis=1)
        b.output("kept", b.relu(kept))
        b.output("whole", b.relu(x))

    emit_files(module_of(build), "c", tmp_path, "c:portable")
    sources = sorted(str(p) for p in tmp_path.glob("*.c"))
    command = ["cc", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", *sources]
    subprocess.run([*command, "-lm", "-lpthread", "-o", str(tmp_path / "run")], check=True, timeout=120)
    x, keep = np.arange(27, dtype=np.float32).reshape(3, 9), np.arange(9) % 4 == 1
    x.tofile(tmp_path / "x")
    keep.tofile(tmp_path / "keep")
    words = ["./run", "module.weights", "x", "keep", "kept", "whole"]
    subprocess.run(words, cwd=tmp_path, check=True, timeout=60)
    got = np.fromfile(tmp_path / "kept", np.float32).reshape(3, -1)
    np.testing.assert_array_equal(got, x[:, keep])
    np.testing.assert_array_equal(np.fromfile(tmp_path / "whole", np.float32), x.reshape(-1))
    header = (tmp_path / "module.h").read_text()
    assert "free()" in header and "void *[1], to kept" in header


def loop_model() -> Module:
    """A loop whose body decides an extent each turn, and a scan over rows whose number is decided."""
    i64, f32, boolean = TensorProto.INT64, TensorProto.FLOAT, TensorProto.BOOL
    port, node = helper.make_tensor_value_info, helper.make_node
    turn_nodes = [
        node("Mul", ["sum", "half"], ["less"]),
        node("Greater", ["values", "less"], ["larger"]),
        node("NonZero", ["larger"], ["found"]),
        node("Transpose", ["found"], ["places"]),
        node("GatherND", ["values", "places"], ["picked"]),
        node("ReduceSum", ["picked"], ["total"], keepdims=0),
        node("Min", ["total", "ten"], ["next"]),
        node("Identity", ["going"], ["on"]),
    ]
    ports = [port("turn", i64, []), port("going", boolean, []), port("sum", f32, [])]
    body = helper.make_graph(
        turn_nodes, "body", ports, [port("on", boolean, []), port("next", f32, []), port("total", f32, [])]
    )
    step_nodes = [node("Add", ["state", "row"], ["after"]), node("Identity", ["after"], ["kept"])]
    row_ports = [port("state", f32, [3]), port("row", f32, [3])]
    step = helper.make_graph(step_nodes, "step", row_ports, [port("after", f32, [3]), port("kept", f32, [3])])
    nodes = [
        node("Loop", ["trips", "", "start"], ["last", "totals"], body=body, name="turns"),
        node("Compress", ["table", "keep"], ["rows"], axis=0),
        node("Scan", ["zeros", "rows"], ["sums", "running"], body=step, num_scan_inputs=1, name="rows"),
    ]
    inputs = [port("values", f32, [40]), port("table", f32, [20, 3]), port("keep", boolean, [20])]
    constants = [
        helper.make_tensor("half", f32, [], [0.5]),
        helper.make_tensor("ten", f32, [], [3.0]),
        helper.make_tensor("start", f32, [], [0.0]),
        helper.make_tensor("trips", i64, [], [4]),
        helper.make_tensor("zeros", f32, [3], [0, 0, 0]),
    ]
    outputs = [
        port("last", f32, []),
        port("totals", f32, [4]),
        port("sums", f32, [3]),
        port("running", f32, ["k", 3]),
    ]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return aino.load(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8))


def test_loops_decide_extents_anew_each_turn() -> None:
    rng = np.random.default_rng(5)
    data = [
        (rng.standard_normal(40).astype(np.float32), rng.standard_normal((20, 3)).astype(np.float32), keep)
        for keep in masks(20, 0.0, 0.1, 1.0)
    ]
    agree(loop_model(), data)
