"""Target ``stablehlo`` end to end: XLA runs what AINO writes, with the interpreter's results."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from safetensors.numpy import load_file

import aino_ir as aino
from aino_ir.driver.emit import emit_files
from aino_ir.driver.xla import PjrtDevice
from aino_ir.errors import AinoError
from aino_ir.errors.run import IndexOutOfRange, JaxMissing, XlaFailed
from aino_ir.errors.usage import ExtentsNotGiven, OperatorsUnsupported
from aino_ir.types import tensor

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="jax is not installed")

from benchmarks.workloads import workload  # noqa: E402
from tests.conformance.cases import all_cases, judge, share  # noqa: E402
from tests.source import ROOT  # noqa: E402

ONE_IN = 40
FLUSHES = frozenset({"edges"})
"""XLA's CPU backend flushes subnormal numbers to zero: samples of edge values are not compared."""


def model(nodes: list[Any], inputs: dict[str, Any], outputs: dict[str, Any], opset: int = 21) -> bytes:
    def port(name: str, kind: Any) -> Any:
        return helper.make_tensor_value_info(name, *kind)

    graph = helper.make_graph(
        nodes, "g", [port(n, k) for n, k in inputs.items()], [port(n, k) for n, k in outputs.items()]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]).SerializeToString()


FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


PAGE = (ROOT / "docs" / "stablehlo.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def run_program(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "run.py").write_text(text, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "run.py"], cwd=folder, capture_output=True, text=True, timeout=300, check=False
    )


def test_the_page_shows_how_jax_functions_are_read(tmp_path: Path) -> None:
    """All programs of the page but the last in one process, since importing jax takes longest."""
    done = run_program("\n".join(PROGRAMS[:-1]), tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_share_of_the_op_samples() -> None:
    compared = 0
    for case in all_cases():
        if not share(case.name, ONE_IN, 5) or FLUSHES & set(case.name.split()):
            continue
        executable = aino.compile(case.module(), "stablehlo", verify="off", level=0)
        results = [np.asarray(v) for v in executable.run(*case.operands)]
        assert judge(case, results, case.expected()) is None, case.name
        compared += 1
    assert compared > 60


NETWORKS = ("mobilenet_v2", "vit_b16", "bert_base", "gpt2")
"""Those whose small forms XLA compiles fastest; `python -m benchmarks.zoo --target stablehlo` runs all at full size."""


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_reference_networks(name: str) -> None:
    """Small forms of networks give what eager PyTorch gives."""
    built = workload(f"{name}_small")
    executable = aino.compile(built.path, "stablehlo", verify="off")
    results = executable.run(built.inputs)
    for (output, _), y in zip(executable.outputs, results, strict=True):
        expected = built.outputs[output]
        assert np.abs(np.asarray(y) - expected).max() <= 1e-4 * np.abs(expected).max()


def test_a_softmax_of_equal_large_values_is_their_share() -> None:
    """XLA fuses the mean's product into the softmax's difference, and would not round it there."""
    nodes = [
        helper.make_node("GlobalAveragePool", ["x"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=1),
    ]
    shape = [16, 8, 13, 13]
    data = model(nodes, {"x": (FLOAT, shape)}, {"y": (FLOAT, [16, 8, 1, 1])})
    images = np.random.default_rng(0).uniform(9e9, 1e10, (16, 1, 13, 13)).astype(np.float32)
    (y,) = aino.compile(data, "stablehlo").run(np.broadcast_to(images, shape).copy())
    assert (y == 0.125).all()


def test_zero_as_a_power_of_two_is_the_least_one() -> None:
    """The least power, 2^-127, is subnormal in float32: XLA's CPU backend takes it for zero."""
    power = TensorProto.FLOAT8E8M0
    node = helper.make_node("Cast", ["x"], ["y"], to=power)
    data = model([node], {"x": (FLOAT, [4])}, {"y": (power, [4])}, opset=24)
    x = np.array([0, 1, -3, np.nan], np.float32)
    for target in ("reference", "stablehlo"):
        (y,) = aino.compile(data, target).run(x)
        assert y.view(np.uint8).tolist() == [0, 127, 0, 255], target


def test_extents_are_compiled_once_each() -> None:
    node = helper.make_node("Softmax", ["x"], ["y"])
    executable = aino.compile(model([node], {"x": (FLOAT, ["n", 5])}, {"y": (FLOAT, ["n", 5])}), "stablehlo")
    for rows in (3, 7, 3, 7):
        x = np.random.default_rng(rows).standard_normal((rows, 5)).astype(np.float32)
        (y,) = executable.run(x)
        np.testing.assert_allclose(y.sum(-1), 1, rtol=1e-6)
    assert executable.compilations == 2


def test_extents_that_inputs_hold_are_read_on_the_host() -> None:
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    executable = aino.compile(
        model([node], {"x": (FLOAT, [6]), "shape": (INT64, [2])}, {"y": (FLOAT, ["a", "b"])}), "stablehlo"
    )
    x = np.arange(6, dtype=np.float32)
    for shape in ((2, 3), (6, 1)):
        assert executable.run(x, np.array(shape))[0].shape == shape


def test_a_failed_check_names_the_node() -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], name="pick")
    executable = aino.compile(
        model([node], {"x": (FLOAT, [4]), "i": (INT64, [2])}, {"y": (FLOAT, [2])}), "stablehlo"
    )
    assert executable.run(np.arange(4, dtype=np.float32), np.array([1, -1]))[0].tolist() == [1, 3]
    with pytest.raises(IndexOutOfRange, match="pick"):
        executable.run(np.arange(4, dtype=np.float32), np.array([1, 4]))


def test_what_data_decide_runs_in_python_between_modules() -> None:
    """Everything before a NonZero is one module, everything behind it another, for each number of places."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("NonZero", ["r"], ["p"], name="find"),
        helper.make_node("Transpose", ["p"], ["places"]),
        helper.make_node("GatherND", ["r", "places"], ["kept"]),
        helper.make_node("Mul", ["kept", "kept"], ["y"]),
    ]
    data = model(nodes, {"x": (FLOAT, [2, 3])}, {"y": (FLOAT, ["n"])})
    executable = aino.compile(data, "stablehlo")
    assert [row["op"] for row in executable.report.python_nodes] == ["index.nonzero"]
    for row in ([1, -2, 3, 4, 0, -6], [-1, 2, 3, 4, 0, 0], [-1, -1, -1, -1, -1, -1]):
        x = np.array(row, np.float32).reshape(2, 3)
        assert executable.run(x)[0].tolist() == (x[x > 0] ** 2).tolist()
    assert executable.host_steps == 3
    assert executable.compilations == 3
    with pytest.raises(OperatorsUnsupported, match="find"):
        aino.compile(data, "stablehlo", strict=True)


def test_extents_that_much_data_decide_are_computed_by_xla() -> None:
    """A size that is the sum of many numbers is bound between two modules, not by the interpreter."""
    nodes = [
        helper.make_node("ReduceSum", ["m"], ["n"], keepdims=1),
        helper.make_node("Expand", ["x", "n"], ["wide"]),
        helper.make_node("Neg", ["wide"], ["y"]),
    ]
    ports = {"m": (INT64, [1000]), "x": (FLOAT, [1])}
    executable = aino.compile(model(nodes, ports, {"y": (FLOAT, ["n"])}), "stablehlo")
    assert [row["op"] for row in executable.report.python_nodes] == ["core.bind"]
    marks = np.zeros(1000, np.int64)
    marks[:7] = 1
    assert executable.run(marks, np.ones(1, np.float32))[0].tolist() == [-1.0] * 7


def test_strings_run_in_python_between_modules() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("Cast", ["r"], ["words"], to=TensorProto.STRING),
        helper.make_node("Cast", ["words"], ["back"], to=FLOAT),
        helper.make_node("Neg", ["back"], ["y"]),
    ]
    executable = aino.compile(model(nodes, {"x": (FLOAT, [2])}, {"y": (FLOAT, [2])}), "stablehlo")
    assert executable.run(np.array([-1, 2.5], np.float32))[0].tolist() == [0, -2.5]
    assert executable.host_steps == 2


def test_states_live_between_modules() -> None:
    b = aino.Builder()
    x, total = b.input("x", tensor("f32", 4)), b.state("total", tensor("f32", 4))
    b.output("where", b.nonzero(b.relu(b.add(x, total))))
    b.finish([b.add(x, total)])
    executable = aino.compile(b.module, "stablehlo")
    x = np.array([1, -1, 2, -3], np.float32)
    assert [executable.run(v)[0].tolist() for v in (x, -2 * x)] == [[[0, 2]], [[1, 3]]]


def test_the_written_files_run_in_plain_jax(tmp_path: Path) -> None:
    """What `--emit stablehlo` writes needs nothing of AINO."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((8, 16)).astype(np.float32)
    constant = helper.make_node(
        "Constant",
        [],
        ["w"],
        value=helper.make_tensor("w", FLOAT, weights.shape, weights.tobytes(), raw=True),
    )
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    place = tmp_path / "m.mlir"
    files = emit_files(
        model([constant, node], {"x": (FLOAT, [3, 8])}, {"y": (FLOAT, [3, 16])}), "stablehlo", place
    )
    assert [f.name for f in files] == ["m.mlir", "m.mlir.safetensors"]
    assert [v.shape for _, v in sorted(load_file(files[1]).items())] == [(8, 16)]
    x = rng.standard_normal((3, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", x)
    done = run_program(PROGRAMS[-1], tmp_path)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(np.array(json.loads(done.stdout)), x @ weights, rtol=1e-5, atol=1e-5)


def test_symbolic_extents_cannot_be_written(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    data = model([node], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])})
    with pytest.raises(ExtentsNotGiven, match="n"):
        emit_files(data, "stablehlo", tmp_path / "m.mlir")
    assert not list(tmp_path.iterdir())
    assert emit_files(data, "stablehlo", tmp_path / "m.mlir", dims={"n": 4})


def test_wrong_inputs_are_refused_as_everywhere() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    executable = aino.compile(model([node], {"x": (FLOAT, [4])}, {"y": (FLOAT, [4])}), "stablehlo")
    for bad in (np.zeros(5, np.float32), np.zeros(4, np.float64)):
        with pytest.raises(AinoError):
            executable.run(bad)


def test_a_missing_jax_or_platform_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JaxMissing, match="no platform 'nowhere'"):
        PjrtDevice("nowhere")
    monkeypatch.setitem(sys.modules, "jax", None)
    with pytest.raises(JaxMissing, match="pip install"):
        PjrtDevice("cpu")


def test_a_module_that_xla_refuses_is_a_fault_of_ours() -> None:
    with pytest.raises(XlaFailed, match="StableHLO"):
        PjrtDevice("cpu").compile("module @m { nonsense }")
