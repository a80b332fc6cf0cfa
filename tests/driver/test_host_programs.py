"""Models that are not native code alone: strings, sequences, optional values beside tensors."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.errors.base import AinoError
from aino_ir.location import loc
from aino_ir.ops.control import Loop
from aino_ir.ops.core import Bind
from aino_ir.ops.sequence import At, Get, Has, Insert, Length, Some
from aino_ir.runtime.executable import Executable
from aino_ir.types import OptionalType, SequenceType, StringType, tensor
from tests.driver.host_models import TEXT, agree, floats, labelled, labelled_results, listed, sequences
from tests.driver.models import strings


@pytest.fixture(scope="module")
def exe() -> Any:
    return aino.compile(labelled())


def test_strings_run_beside_native_code(exe: Executable) -> None:
    x = floats(2, 4, seed=1)
    before = exe.host_steps
    kept, loud = exe.run(x, TEXT)
    want, shouted = labelled_results(x)
    np.testing.assert_allclose(kept, want, rtol=1e-5, atol=1e-6)
    assert loud.tolist() == shouted.tolist() and loud.dtype == object
    assert exe.host_steps - before == 2
    assert [type_ for _, type_ in exe.inputs] == [tensor("f32", 2, 4), StringType((2, 1))]
    assert "string[2, 1]" in repr(exe)


def test_report_names_what_runs_in_python(exe: Executable) -> None:
    reason = "values of type string[2, 1] have no native code"
    assert exe.report.python_nodes == [
        {"op": "text.concat", "node": "node 'shout' (StringConcat)", "reason": reason},
        {"op": "text.regex_full_match", "node": "node 'match' (RegexFullMatch)", "reason": reason},
    ]
    assert "python nodes: 2: text.concat (node 'shout' (StringConcat))" in str(exe.report)
    assert {row["function"] for row in exe.report.kernels} == {"native_0"}
    assert {"node 'product' (MatMul)"} <= {n for row in exe.report.kernels for n in row["nodes"]}
    assert exe.report.flops and exe.report.weight_bytes >= 4 * 12 and exe.report.library_bytes > 1000


def test_models_without_host_ops_need_no_host_program() -> None:
    b = Builder()
    b.output("y", b.relu(b.input("x", tensor("f32", 4))))
    exe = aino.compile(b.module)
    exe.run(floats(4))
    assert type(exe) is Executable and exe.host_steps == 0 and not exe.report.python_nodes
    assert "host" not in exe.artifact.manifest.details and "host.air" not in exe.artifact.sections


def test_native_code_alone_around_strings_takes_no_python_step() -> None:
    exe = aino.compile(strings(), strict=True)  # a string passes through
    text = np.asarray(["a", "\u00e4"], object)
    (got,) = exe.run(text)
    assert got.tolist() == ["a", "\u00e4"] and got is not text and exe.host_steps == 0
    assert isinstance(exe, Executable) and not exe.artifact.manifest.variants  # nothing to compile at all


@pytest.mark.parametrize("rows", [1, 3])
def test_symbolic_extents_cross(rows: int) -> None:
    exe = aino.compile(labelled("n"), dims={"n": (1, 4)})
    assert exe.symbols == {"dim_n": (1, 4)}
    x, text = floats(rows, 4), np.asarray([["yes"]] * rows, object)
    kept, _ = exe.run({"x": x, "text": text})
    want, _ = labelled_results(x, text)
    np.testing.assert_allclose(kept, want, rtol=1e-5, atol=1e-6)
    with pytest.raises(AinoError, match="dim_n"):
        exe.run(floats(5, 4), np.asarray([["yes"]] * 5, object))
    with pytest.raises(AinoError, match="text"):
        exe.run(floats(2, 4), np.asarray([["yes"]] * 3, object))


@pytest.mark.parametrize("rows", [1, 2, 7])
@pytest.mark.parametrize("level", [0, 2])
def test_sequences_between_native_parts(rows: int, level: int) -> None:
    exe = agree(sequences(), floats(rows, 4), level=level)
    assert exe.host_steps == 4 and len(exe.artifact.manifest.details["host"]["functions"]) == 3


def test_sequences_and_optional_values_go_in_and_out() -> None:
    b = Builder()
    xs = b.input("xs", SequenceType(tensor("f32", 2, 3)))
    maybe = b.input("maybe", OptionalType(tensor("f32", 3)))
    there = b.op(Has, maybe).result
    b.output("y", b.add(b.exp(b.op(At, xs, b.constant(np.int64(-1))).result), b.constant(np.float32(1))))
    b.output("there", there)
    b.output("count", b.op(Length, xs).result)
    b.output("xs", xs)
    b.output("maybe", maybe)
    b.output("some", b.op(Some, b.op(At, xs, b.constant(np.int64(0))).result).result)
    module = b.module
    given = [floats(2, 3, seed=1), floats(2, 3, seed=2)]
    exe = agree(module, given, None)
    agree(module, tuple(given), floats(3))
    got = exe.run({"xs": given, "maybe": None})
    got[3][0][...] = 7
    assert not np.any(given[0] == 7)  # outputs are the caller's own
    for wrong, what in [
        ((given[0], None), "a list for seq"),
        (([given[0], None], None), r"xs\[1\]"),
        (([given[0], floats(2, 4)], None), r"xs\[1\].*shape"),
        (([given[0]], floats(4)), "maybe"),
        (([given[0]], "text"), "maybe"),
    ]:
        with pytest.raises(AinoError, match=what):
            exe.run(*wrong)
    with pytest.raises(AinoError, match="index") as caught:
        exe.run([], None)
    assert caught.value.exit_status == 1
    with pytest.raises(AinoError, match="optional|index|absent"):
        two = Builder(loc=loc("node 'get'"))
        two.output("y", two.exp(two.op(Get, two.input("m", OptionalType(tensor("f32", 2)))).result))
        aino.compile(two.module).run(None)


def test_a_loop_with_a_host_op_runs_in_python_whole() -> None:
    b = Builder(loc=loc("node 'loop'"))
    x = b.exp(b.input("x", tensor("f32", 3)))
    trips = b.input("trips", tensor("i64"))
    start = b.construct(element=tensor("f32", 3))

    def body(inner: Builder, turn: Any, going: Any, xs: Any, total: Any) -> Any:
        more = inner.add(total, inner.cast(turn, to="f32"))
        return [going, inner.op(Insert, xs, more).result, more]

    types = [tensor("i64"), tensor("bool"), SequenceType(tensor("f32", 3)), tensor("f32", 3)]
    loop = b.op(Loop, trips, None, start, x, regions=[b.region(types, body)], carried=2)
    b.output("xs", loop.results[0])
    b.output("y", b.neg(loop.results[1]))
    for count in (0, 1, 4):
        exe = agree(b.module, floats(3), np.asarray(count))
        assert exe.host_steps == 1 and [row["op"] for row in exe.report.python_nodes] == ["control.loop"]
        assert (
            "in it" in exe.report.python_nodes[0]["reason"] or "seq<" in exe.report.python_nodes[0]["reason"]
        )


@pytest.mark.parametrize("positive", [0, 1, 5])
def test_native_code_decides_extents_that_python_and_more_native_code_read(positive: int) -> None:
    b = Builder(loc=loc("node 'find'"))
    x = b.input("x", tensor("f32", 2, 4))
    found = b.nonzero(b.relu(x))  # i64[2, d], native
    doubled = b.mul(b.cast(found, to="f32"), b.constant(np.float32(2)))
    again = listed(b, b.add(doubled, b.constant(np.float32(1))))
    b.output("y", b.exp(b.neg(again)))
    b.output("z", b.expand(b.constant(np.float32([[3]])), shape=[2, found.shape[1]]))
    b.output("found", found)
    x_value = -np.ones((2, 4), np.float32)
    x_value.reshape(-1)[:positive] = 2
    for threads in (1, 2):
        exe = agree(b.module, x_value, threads=threads)
        assert exe.host_steps == 2 and exe.run(x_value)[0].shape == (2, positive)
        exe.profile(x_value, runs=1)


def test_native_code_decides_numbers_that_others_read() -> None:
    b = Builder(loc=loc("node 'count'"))
    x, k = b.input("x", tensor("f32", 6)), b.input("k", tensor("i64", 1))
    bound = b.op(Bind, b.add(k, b.constant(np.int64([1]))), lower=[1], upper=[6]).result
    (size,) = b.known(bound)  # type: ignore[misc]
    part = b.slice(listed(b, x), starts=[0], sizes=[size], steps=[1])
    b.output("y", b.exp(listed(b, b.exp(part))))
    b.output("z", b.neg(listed(b, b.expand(b.constant(np.float32([1])), shape=[size * 2]))))
    for count in (0, 2, 5):
        agree(b.module, floats(6), np.asarray([count]))
    with pytest.raises(AinoError) as caught:
        aino.compile(b.module).run(floats(6), np.asarray([6]))
    assert str(caught.value.loc) == "node 'count'"


@pytest.mark.parametrize("trips", [0, 3])
def test_native_loops_stand_between_ops_in_python(trips: int) -> None:
    b = Builder(loc=loc("node 'turns'"))
    n = b.symbol("n", 1, 9)
    x = listed(b, b.exp(b.neg(b.input("x", tensor("f32", n)))))
    count = b.input("trips", tensor("i64"))

    def body(inner: Builder, turn: Any, going: Any, total: Any) -> Any:
        return [going, inner.add(total, total), inner.reduce_sum(total, axes=[0])]

    types = [tensor("i64"), tensor("bool"), x.type]
    loop = b.op(Loop, count, None, x, regions=[b.region(types, body)], carried=1)
    b.output("last", b.neg(listed(b, loop.results[0])))
    b.output("sums", b.abs(loop.results[1]))
    exe = agree(b.module, floats(5), np.asarray(trips))
    assert [row["op"] for row in exe.report.python_nodes] == ["sequence.construct", "sequence.at"] * 2
    assert exe.host_steps == 4


def test_complex_numbers_run_in_python() -> None:
    b = Builder()
    x = b.input("x", tensor("c64", 4))
    b.output("y", b.reshape(x, shape=[2, 2]))
    exe = aino.compile(b.module)
    x_value = (floats(4) + 1j * floats(4, seed=1)).astype(np.complex64)
    assert np.array_equal(exe.run(x_value)[0], x_value.reshape(2, 2)) and exe.host_steps == 1


def test_threads_share_an_executable(exe: Executable) -> None:
    before, count = exe.host_steps, 25
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for turn in range(count):
                x = floats(2, 4, seed=100 * seed + turn)
                text = np.asarray([["yes" if turn % 2 else "no"], [str(seed)]], object)
                got, loud = exe.run(x, text)
                want, shouted = labelled_results(x, text)
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
                assert loud.tolist() == shouted.tolist()
        except BaseException as problem:
            problems.append(problem)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems and exe.host_steps - before == 2 * 4 * count


def test_given_outputs_are_filled(exe: Executable) -> None:
    x = floats(2, 4)
    out = {"kept": np.empty((2, 3), np.float32), "loud": np.empty((2, 1), object)}
    got = exe.run(x, TEXT, out=out)
    assert got[0] is out["kept"] and got[1] is out["loud"]
    np.testing.assert_allclose(out["kept"], labelled_results(x)[0], rtol=1e-5, atol=1e-6)
    kept = np.zeros((2, 3), np.float32)
    for bad in (
        [kept, np.empty((2, 2), object)],
        [kept, np.empty((2, 1), np.float32)],
        [kept, None],
        [kept.astype(np.float64), out["loud"]],
        [kept[:, ::-1], out["loud"]],
    ):
        with pytest.raises(AinoError, match=r"out\["):
            exe.run(x, TEXT, out=bad)
        assert not kept.any()
    with pytest.raises(AinoError, match="outputs"):
        exe.run(x, TEXT, out=[kept])
    lists = aino.compile(sequences())
    with pytest.raises(AinoError, match=r"out\['parts'\] .* seq<"):
        lists.run(floats(1, 4), out=[np.empty(2, np.float32), []])


def test_torch_in_is_torch_out() -> None:
    torch = pytest.importorskip("torch")
    exe = aino.compile(sequences())
    x = torch.arange(8, dtype=torch.float32).reshape(2, 4)
    y, parts = exe.run(x)
    want, _ = exe.run(x.numpy())
    assert isinstance(y, torch.Tensor) and np.array_equal(y.numpy(), want)
    assert all(isinstance(p, torch.Tensor) for p in parts)
    kept, loud = aino.compile(labelled()).run(torch.ones(2, 4), TEXT)
    assert isinstance(kept, torch.Tensor) and loud.dtype == object
    out = [torch.empty(2, 3), np.empty((2, 1), object)]
    assert aino.compile(labelled()).run(torch.ones(2, 4), TEXT, out=out)[0] is out[0]
    assert torch.equal(out[0], kept)


def test_profile_has_rows_of_both_kinds(exe: Executable) -> None:
    profile = exe.profile(floats(2, 4), TEXT, runs=3)
    python = [row for row in profile.rows if row.kernel == "python"]
    assert [row.ops for row in python] == ["text.concat", "text.regex_full_match"]
    assert len(profile.rows) == len(python) + len(exe.report.kernels)
    assert python[0].loc == "node 'shout' (StringConcat)" and python[0].ms > 0
    starts = [row.start_ms for row in profile.rows]
    assert starts == sorted(starts) and profile.ms >= max(row.ms for row in profile.rows)
    assert len(json.loads(profile.to_chrome())["traceEvents"]) >= len(profile.rows)
    with pytest.raises(AinoError, match="runs"):
        exe.profile(floats(2, 4), TEXT, runs=0)


FRESH = """
import sys
import numpy as np
import aino_ir as aino

exe = aino.load_executable(sys.argv[1])
kept, loud = exe.run(np.ones((2, 4), np.float32), np.asarray([["yes"], ["no"]], object))
assert not {"onnx", "torch", "aino_ir.driver", "aino_ir.codegen", "aino_ir.passes"} & set(sys.modules)
print(exe.host_steps, loud.tolist(), kept.tobytes().hex())
"""


def test_saved_programs_run_in_a_fresh_process(exe: Executable, tmp_path: Path) -> None:
    path = exe.save(tmp_path / "m.aino")
    kept, loud = exe.run(np.ones((2, 4), np.float32), TEXT)
    told = subprocess.run(
        [sys.executable, "-c", FRESH, str(path)], capture_output=True, text=True, timeout=120, check=True
    )
    assert told.stdout.strip() == f"2 {loud.tolist()} {kept.tobytes().hex()}"
    again = aino.load_executable(path)
    assert again.save(tmp_path / "again.aino").read_bytes() == path.read_bytes()
    assert again.inputs == exe.inputs and again.outputs == exe.outputs
    assert again.report.python_nodes == exe.report.python_nodes


# -- what is refused -----------------------------------------------------------------------------------


# -- on the command line and in files --------------------------------------------------------------------
