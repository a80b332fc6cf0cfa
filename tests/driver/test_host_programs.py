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
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.driver.cli import ainoc
from aino_ir.driver.compare import compare_outputs
from aino_ir.driver.coverage import check_model
from aino_ir.driver.emit import emit_files
from aino_ir.driver.inputs import make_inputs, write_arrays
from aino_ir.errors.base import AinoError
from aino_ir.errors.usage import OperatorsUnsupported, SourcesNeedPython
from aino_ir.graph import Module
from aino_ir.location import loc
from aino_ir.op import Op
from aino_ir.ops.control import Loop
from aino_ir.ops.core import Bind
from aino_ir.ops.sequence import At, Construct, Get, Has, Insert, Join, Length, Some, Split
from aino_ir.ops.text import StringConcat
from aino_ir.runtime.executable import Executable
from aino_ir.target import detect_host, parse_target
from aino_ir.types import OptionalType, SequenceType, StringType, TensorType, tensor
from tests.driver.models import saved, strings

Array = np.ndarray[Any, Any]


def floats(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def model(nodes: Any, inputs: Any, outputs: Any, initializers: Any = (), opset: int = 20) -> Any:
    graph = helper.make_graph(list(nodes), "mixed", list(inputs), list(outputs), list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def port(name: str, shape: Any, dtype: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, dtype, shape)


def labelled(rows: int | str = 2) -> Any:
    """Scores x @ w + 1; `text` followed by "!"; whether it is "yes!"; scores where it is, else 0."""
    weight = numpy_helper.from_array(floats(4, 3), "w")
    one = numpy_helper.from_array(np.float32([1]), "one")
    mark = helper.make_tensor("mark", TensorProto.STRING, [], [b"!"])
    yes = helper.make_tensor("yes", TensorProto.STRING, [], [b"yes!"])
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"], name="product"),
        helper.make_node("Add", ["xw", "one"], ["scores"], name="shift"),
        helper.make_node("StringConcat", ["text", "mark"], ["loud"], name="shout"),
        helper.make_node("RegexFullMatch", ["loud"], ["is_yes"], name="match", pattern="yes!"),
        helper.make_node("Cast", ["is_yes"], ["weight"], name="as_number", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["scores", "weight"], ["kept"], name="mask"),
    ]
    inputs = [port("x", [rows, 4]), port("text", [rows, 1], TensorProto.STRING)]
    outputs = [port("kept", [rows, 3]), port("loud", [rows, 1], TensorProto.STRING)]
    return model(nodes, inputs, outputs, [weight, one, mark, yes])


TEXT = np.asarray([["yes"], ["no"]], object)


def labelled_results(x: Array, text: Array = TEXT) -> tuple[Array, Array]:
    weight = (text == "yes").astype(np.float32)
    return ((x @ floats(4, 3) + 1) * weight).astype(np.float32), text + "!"


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


def sequences() -> Module:
    """Sums of the parts of x, each part squared natively, doubled parts in a list; f32[n, 4] in parts of 2."""
    b = Builder(loc=loc("node 'split'"))
    n = b.symbol("n", 1, 64)
    x = b.input("x", tensor("f32", n, 4))
    parts = b.op(Split, b.mul(x, x), b.constant(np.int64(2)), axis=0).result
    first = b.op(At, parts, b.constant(np.int64(0))).result
    more = b.op(Insert, parts, b.exp(first)).result
    joined = b.op(Join, more, axis=0).result
    b.output("y", b.reduce_sum(b.relu(joined), axes=[1]))
    b.output("parts", more)
    return b.module


def compare(got: Any, want: Any) -> None:
    if isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            compare(g, w)
    elif want is None:
        assert got is None
    elif want.dtype == object:
        assert got.tolist() == want.tolist()
    else:
        assert got.dtype == want.dtype and got.shape == want.shape
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def agree(module: Module, *inputs: Any, **options: Any) -> Executable:
    """Compile for C, compare with the interpreter."""
    exe = aino.compile(module, cache=False, **options)
    compare(list(exe.run(*inputs)), list(aino.compile(module, "reference").run(*inputs)))
    assert isinstance(exe, Executable)
    return exe


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


def listed(b: Builder, value: Any) -> Any:
    """A value that went through a list: an op in Python that decides its symbolic extents anew."""
    xs = b.op(Construct, value, element=value.type).result
    return b.op(At, xs, b.constant(np.int64(0))).result


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


def test_same_model_same_bytes() -> None:
    made = [aino.compile(labelled(), cache=False).artifact for _ in range(2)]
    assert made[0].section("host.air") == made[1].section("host.air")
    assert {k: v for k, v in made[0].manifest.sections.items() if not k.endswith(".so")} == {
        k: v for k, v in made[1].manifest.sections.items() if not k.endswith(".so")
    }


def test_large_constants_of_python_stand_beside_the_weights_once() -> None:
    big = floats(100, 3)
    b = Builder()
    x = b.input("x", tensor("f32", 100, 3))
    c = b.constant(big, "big")
    xs = b.construct(c, b.add(x, c), element=x.type)
    b.output("y", b.exp(b.at(xs, b.constant(np.int64(0)))))
    b.output("z", b.exp(b.at(xs, b.constant(np.int64(1)))))
    exe = agree(b.module, floats(100, 3, seed=3))
    text = bytes(exe.artifact.section("host.air")).decode()
    assert "weight f32[100, 3]" in text and len(text) < 4000
    pieces = [w for w in exe.artifact.manifest.weights if w.bytes == big.nbytes]
    assert len(pieces) == 1  # the native part reads the same bytes


def test_defaults_and_states() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 3))
    b.function.defaults["x"] = Const.of(np.float32([1, 2, 3]))
    total = b.state("total", tensor("f32", 3))
    new = b.add(total, b.at(b.construct(b.exp(x), element=x.type), b.constant(np.int64(0))))
    b.output("y", b.mul(new, b.constant(np.float32(2))))
    b.finish([new])
    exe = aino.compile(b.function.module)
    assert exe.defaults == ("x",)
    step = np.exp(np.float32([1, 2, 3]))
    for turn in (1, 2, 3):
        np.testing.assert_allclose(exe.run()[0], 2 * turn * step, rtol=1e-5)


def test_several_instruction_sets_in_one_artifact() -> None:
    exe = aino.compile(labelled(), target="c:portable+avx2")
    kept, _ = exe.run(floats(2, 4), TEXT)
    np.testing.assert_allclose(kept, labelled_results(floats(2, 4))[0], rtol=1e-5, atol=1e-6)
    assert len(exe.profile(floats(2, 4), TEXT, runs=1).rows) == len(exe.report.kernels) + 2


def test_null_target_compiles_both_kinds() -> None:
    made = aino.compile(labelled(), target="null")
    assert len(made.report.python_nodes) == 2 and made.report.kernels and made.report.source_bytes > 0
    assert [n for n, _ in made.outputs] == ["kept", "loud"]


# -- what is refused -----------------------------------------------------------------------------------


def test_strict_lists_every_op_with_its_reason() -> None:
    with pytest.raises(OperatorsUnsupported) as caught:
        aino.compile(labelled(), strict=True)
    text = caught.value.message
    assert "2 nodes have no code" in text and caught.value.exit_status == 1
    assert (
        "text.concat: values of type string[2, 1] have no native code (node 'shout' (StringConcat))" in text
    )
    assert "text.regex_full_match" in text and "math." not in text


def test_sources_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourcesNeedPython, match="2 nodes do: text.concat") as caught:
        emit_files(labelled(), "c", tmp_path / "c")
    assert caught.value.exit_status == 1 and not (tmp_path / "c").exists()
    with pytest.raises(SourcesNeedPython, match="0 nodes do: input 'x'"):
        emit_files(strings(), "c", tmp_path / "c")
    (written,) = emit_files(labelled(), "loops", tmp_path / "m.loops")
    assert "matmul" in written.read_text() or "contract" in written.read_text()
    (written,) = emit_files(labelled(), "air", tmp_path / "m.air")
    assert "text.concat" in written.read_text()


def test_check_says_python_and_why() -> None:
    rows = {r.node: r for r in check_model(labelled(), parse_target("c", detect_host()))}
    assert {n: r.status for n, r in rows.items()} == {
        "node 'product' (MatMul)": "native",
        "node 'shift' (Add)": "native",
        "node 'shout' (StringConcat)": "python",
        "node 'match' (RegexFullMatch)": "python",
        "node 'as_number' (Cast)": "native",
        "node 'mask' (Mul)": "native",
    }
    assert "string[2, 1] have no native code" in rows["node 'shout' (StringConcat)"].reason


def test_command_line_tells(tmp_path: Path) -> None:
    path = saved(tmp_path, labelled())

    def run(*arguments: str) -> Any:
        command = [sys.executable, "-m", "aino_ir.driver.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path)

    made = run("compile", str(path), "-o", "m.aino")
    assert made.returncode == 0 and "python nodes: 2: text.concat" in made.stdout
    checked = run("check", str(path))
    assert checked.returncode == 0 and "4 native, 2 python" in checked.stdout
    strict = run("compile", str(path), "--strict", "-o", "s.aino")
    assert strict.returncode == 1 and "AINO-E0710" in strict.stderr
    emitted = run("compile", str(path), "--emit", "c", "-o", "c")
    assert emitted.returncode == 1 and "AINO-E0712" in emitted.stderr


def test_ops_that_nothing_can_run_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StringConcat, "evaluate", Op.evaluate)
    with pytest.raises(OperatorsUnsupported, match="1 nodes .*text.concat"):
        aino.compile(labelled(), cache=False)
    rows = check_model(labelled(), parse_target("c", detect_host()))
    assert [r.status for r in rows if r.op == "StringConcat"] == ["unsupported"]


def test_types_are_those_of_the_model() -> None:
    exe = aino.compile(labelled())
    assert isinstance(exe.outputs[0][1], TensorType)
    for text, what in [
        (np.asarray([["a"]], object), "extent of axis 0|shape"),
        (np.asarray(["a", "b"], object), "rank"),
        (np.asarray([["a"], [1]], object), "elements must be str"),
        (np.zeros((2, 1), np.float32), "array of strings"),
        ([["a"], ["b"]], "array of strings"),
    ]:
        with pytest.raises(AinoError, match=what):
            exe.run(floats(2, 4), text)
    kept, _ = exe.run(floats(2, 4), np.asarray([["yes"], ["no"]]))  # numpy's own strings are strings
    np.testing.assert_allclose(kept, labelled_results(floats(2, 4))[0], rtol=1e-5, atol=1e-6)


# -- on the command line and in files --------------------------------------------------------------------


def test_values_of_all_types_are_made_up_and_written(tmp_path: Path) -> None:
    interface = [
        ("x", tensor("f32", 2)),
        ("t", StringType((2, 1))),
        ("xs", SequenceType(tensor("i64", 3))),
        ("m", OptionalType(StringType((1,)))),
    ]
    made = make_inputs(interface, seed=1)
    assert made["t"].shape == (2, 1) and all(isinstance(t, str) for t in made["t"].reshape(-1))
    assert [a.shape for a in made["xs"]] == [(3,), (3,)] and made["m"].shape == (1,)
    assert make_inputs(interface, seed=1)["t"].tolist() == made["t"].tolist()
    write_arrays(tmp_path / "a.npz", {**made, "absent": None})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as read:
        assert set(read.files) == {"x", "t", "xs[0]", "xs[1]", "m"}
        assert read["t"].tolist() == made["t"].tolist() and np.array_equal(read["xs[1]"], made["xs"][1])


def test_outputs_of_all_types_are_compared() -> None:
    text = np.asarray(["a"], object)
    mine = [floats(2), text, [floats(2), text], None]
    rows = compare_outputs(["y", "t", "xs", "n"], mine, [floats(2), text.copy(), [floats(2), text], None])
    assert [(r.name, r.type, r.reason) for r in rows] == [
        ("y", "float32[2]", ""),
        ("t", "string[1]", ""),
        ("xs[0]", "float32[2]", ""),
        ("xs[1]", "string[1]", ""),
    ]
    rows = compare_outputs(["y", "t", "xs", "n"], mine, [floats(2) + 1, text + "b", [floats(2)], text])
    assert [bool(r.reason) for r in rows] == [True, True, True, True]


def test_run_and_verify_take_strings(tmp_path: Path) -> None:
    path = saved(tmp_path, labelled())
    np.save(tmp_path / "text.npy", np.asarray([["yes"], ["no"]]))
    runner = CliRunner()
    arguments = ["run", str(path), "--input", f"text={tmp_path / 'text.npy'}", "--random", "3"]
    told = runner.invoke(ainoc, [*arguments, "-o", str(tmp_path / "out.npz")])
    assert told.exit_code == 0 and "string[2, 1]" in told.output
    with np.load(tmp_path / "out.npz", allow_pickle=False) as out:
        assert out["loud"].tolist() == [["yes!"], ["no!"]] and not out["kept"][1].any()
    told = runner.invoke(ainoc, ["verify", str(path)])
    assert told.exit_code == 0, told.output
