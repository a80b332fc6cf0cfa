"""`load` and `compile`: what is read, what is kept in the cache, what is refused."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

import aino_ir as aino
from aino_ir import types
from aino_ir.codegen.c import toolchain as toolchain_module
from aino_ir.codegen.c.toolchain import CompilerCalls
from aino_ir.codegen.catalogue import KernelCatalogue
from aino_ir.driver import api
from aino_ir.driver import cache as cache_module
from aino_ir.driver.cache import compilation_key, model_digest, stored_artifact
from aino_ir.driver.emit import emit_files
from aino_ir.errors.cache import CacheWarning
from aino_ir.errors.codegen import NoLowering
from aino_ir.errors.onnx import ModelUnreadable
from aino_ir.errors.toolchain import CompilerUnusable, NoCompiler, UnknownTarget
from aino_ir.errors.usage import (
    ArtifactIsNoModel,
    OperatorsUnsupported,
    OptionTooSmall,
    SourcesNeedPython,
    UnknownModelKind,
    UnknownOption,
)
from aino_ir.graph import Module
from aino_ir.kernels import Reject
from aino_ir.op import OPS, Op
from aino_ir.runtime import fileio
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.reference import ReferenceExecutable
from aino_ir.runtime.store import Store
from tests.driver.models import mlp, mlp_reference, saved, tensor, two_outputs, with_external_data
from tests.tools.hermetic import left_over


def values(rows: int = 2) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).standard_normal((rows, 8)).astype(np.float32)


# -- loading -------------------------------------------------------------------------------------------


def test_every_source_gives_the_same_module(tmp_path: Path) -> None:
    path = saved(tmp_path, mlp())
    external = with_external_data(tmp_path, mlp())
    texts = {
        str(aino.load(source))
        for source in (path, str(path), path.read_bytes(), mlp(), external, aino.load(path))
    }
    assert len(texts) == 1
    aino.save(aino.load(path), tmp_path / "m.air")
    x = values()
    results = [aino.compile(p, target="reference").run(x)[0] for p in (path, tmp_path / "m.air")]
    assert np.array_equal(*results)


def test_what_cannot_be_loaded_is_said(tmp_path: Path) -> None:
    for wrong in (3, None, object(), tmp_path / "m.h5", "m.txt"):
        with pytest.raises(UnknownModelKind):
            aino.load(wrong)
    with pytest.raises(ArtifactIsNoModel, match=r"m\.aino"):
        aino.load("m.aino")
    with pytest.raises(ModelUnreadable):
        aino.load(tmp_path / "absent.onnx")


# -- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"numerics": "quick"}, UnknownOption),
        ({"verify": "maybe"}, UnknownOption),
        ({"level": 4}, UnknownOption),
        ({"threads": 0}, OptionTooSmall),
        ({"threads": "two"}, OptionTooSmall),
        ({"tune": -1}, OptionTooSmall),
        ({"tune": "long"}, OptionTooSmall),
        ({"tune": float("nan")}, OptionTooSmall),
        ({"target": "abacus"}, UnknownTarget),
    ],
)
def test_wrong_options_are_refused_before_work(options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        aino.compile("absent.onnx", **options)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_levels_agree(level: int) -> None:
    exe = aino.compile(mlp(), level=level)
    np.testing.assert_allclose(exe.run(values())[0], mlp_reference(mlp(), values()), rtol=1e-4, atol=1e-5)


def test_targets_give_their_executables() -> None:
    assert isinstance(aino.compile(mlp(), target="reference"), ReferenceExecutable)
    portable = aino.compile(mlp(), target="c:portable")
    assert isinstance(portable, Executable) and "c:portable" in repr(portable)
    np.testing.assert_allclose(
        portable.run(values())[0], mlp_reference(mlp(), values()), rtol=1e-4, atol=1e-5
    )


def test_two_variants_in_one_artifact() -> None:
    exe = aino.compile(mlp(), target="c:portable+avx2")
    assert [v.isa for v in exe.artifact.manifest.variants] == ["vec128", "avx2"]
    np.testing.assert_allclose(exe.run(values())[0], mlp_reference(mlp(), values()), rtol=1e-4, atol=1e-5)
    assert len(exe.profile(values(), runs=1).rows) == len(exe.report.kernels) > 0


def test_module_of_the_caller_is_left_alone() -> None:
    module = aino.load(mlp())
    before = str(module)
    aino.compile(module)
    assert str(module) == before


def test_report_says_what_was_done() -> None:
    report = aino.compile(mlp()).report
    assert {"load", "passes", "lower", "emit", "cc"} <= set(report.seconds)
    assert not report.python_nodes and not report.undone
    assert report.weight_bytes >= 4 * (8 * 6 + 6 + 6 * 3 + 3) and report.library_bytes > 1000
    assert report.flops and all(row["flops"] and row["bytes"] for row in report.kernels)
    assert {node for row in report.kernels for node in row["nodes"]} >= {
        "node 'fc0' (Gemm)",
        "node 'relu0' (Relu)",
    }


def test_progress_is_told() -> None:
    told: list[tuple[str, int, int]] = []
    aino.compile(mlp(), cache=False, progress=lambda *what: told.append(what))
    stages = dict.fromkeys(stage for stage, *_ in told)
    assert [*stages] == ["load", "passes", "check module", "lower", "emit", "cc", "check kernels", "write"]
    assert any(done == total > 0 for stage, done, total in told if stage == "cc")


def complex_model() -> Any:
    nodes = [helper.make_node("Reshape", ["x", "s"], ["y"], name="re")]
    shape = helper.make_tensor("s", TensorProto.INT64, [2], [2, 2])
    x, y = tensor("x", [4], TensorProto.COMPLEX64), tensor("y", [2, 2], TensorProto.COMPLEX64)
    graph = helper.make_graph(nodes, "complex", [x], [y], [shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def determinant_model() -> Any:
    nodes = [helper.make_node("Det", ["x"], ["y"], name="find")]
    graph = helper.make_graph(nodes, "find", [tensor("x", [4, 4])], [tensor("y", [])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(
    ("model", "what"), [(complex_model, "dtype c64"), (determinant_model, "no definition")]
)
def test_what_has_no_native_code_is_named(
    model: Callable[[], Any], what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OPS["nn.determinant"], "define", Op.define)
    with pytest.raises(OperatorsUnsupported, match=what) as caught:
        aino.compile(model(), strict=True)
    assert caught.value.exit_status == 1
    (row,) = aino.compile(model()).report.python_nodes
    assert what in row["reason"] and row["node"].startswith("node '")


def test_op_that_every_generator_turns_down_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = Reject("rows", "too many rows")
    monkeypatch.setattr(KernelCatalogue, "candidates", lambda *_: [refusal])
    with pytest.raises(NoLowering, match="rows: too many rows") as caught:
        aino.compile(mlp(), cache=False, strict=True)
    assert "fc0" in str(caught.value.loc) and caught.value.exit_status == 1


class WithoutTanh(KernelCatalogue):
    """Has no kernel for what computes a hyperbolic tangent."""

    def candidates(self, spec: Any) -> list[Any]:
        """Of the specs of other ops."""
        return [Reject("map", "no tangents")] if "tanh" in spec.text else list(super().candidates(spec))


@pytest.mark.parametrize("level", [0, 2])
def test_op_that_every_generator_turns_down_runs_in_python(
    level: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It alone, between native functions, and with the loop that holds it."""
    monkeypatch.setattr("aino_ir.driver.pipeline.KernelCatalogue", WithoutTanh)
    b = aino.Builder()
    x = b.input("x", types.tensor("f32", 3, 3))
    b.output("y", b.relu(b.matmul(b.tanh(b.matmul(x, x)), x)))
    exe = aino.compile(b.module, cache=False, level=level)
    (row,) = exe.report.python_nodes
    assert row["op"] in ("math.tanh", "core.fused") and "map: no tangents" in row["reason"]
    given = np.random.default_rng(0).standard_normal((3, 3)).astype(np.float32)
    (y,) = exe.run(given)
    want = np.maximum(np.tanh(given @ given) @ given, 0)
    np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
    assert exe.host_steps == 1 and exe.report.kernels
    with pytest.raises(NoLowering, match="no tangents"):
        aino.compile(b.module, cache=False, level=level, strict=True)
    with pytest.raises(SourcesNeedPython, match="no tangents"):
        emit_files(b.module, "c", Path("never"), level=level)


def test_loop_around_what_has_no_kernel_runs_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aino_ir.driver.pipeline.KernelCatalogue", WithoutTanh)
    body = helper.make_graph(
        [helper.make_node("Tanh", ["v"], ["w"]), helper.make_node("Identity", ["c"], ["d"])],
        "body",
        [tensor("i", [], TensorProto.INT64), tensor("c", [], TensorProto.BOOL), tensor("v", [4])],
        [tensor("d", [], TensorProto.BOOL), tensor("w", [4])],
    )
    nodes = [
        helper.make_node("Exp", ["x"], ["e"]),
        helper.make_node("Loop", ["n", "", "e"], ["l"], body=body, name="around"),
        helper.make_node("Neg", ["l"], ["y"]),
    ]
    turns = numpy_helper.from_array(np.array(3), "n")
    graph = helper.make_graph(nodes, "loop", [tensor("x", [4])], [tensor("y", [4])], [turns])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    exe = aino.compile(model, cache=False)
    (row,) = exe.report.python_nodes
    assert row["op"] == "control.loop" and "around" in row["node"]
    x = np.linspace(-1, 1, 4, dtype=np.float32)
    want = -np.tanh(np.tanh(np.tanh(np.exp(x))))
    np.testing.assert_allclose(exe.run(x)[0], want, rtol=1e-6)


# -- the compile cache ---------------------------------------------------------------------------------


class Counted:
    """Compiles and counts what the compiler was asked for."""

    def __init__(self) -> None:
        self.calls = CompilerCalls()

    def __call__(self, x: Any, **options: Any) -> int:
        """Compile, run once, and return how many compiler processes that took."""
        before = self.calls.processes
        exe = aino.compile(x, calls=self.calls, **options)
        exe.run(values())
        return self.calls.processes - before


@pytest.fixture
def counted(hermetic_cache: Path) -> Counted:
    return Counted()


def test_second_compilation_asks_no_compiler(
    counted: Counted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, mlp())
    assert counted(path) > 0
    assert counted(path) == 0
    monkeypatch.setattr(api, "load", lambda *_, **__: pytest.fail("the model was read again"))
    assert counted(path) == 0
    assert counted(str(path)) == 0
    assert counted(tmp_path / "." / "model.onnx") == 0


def test_bytes_and_protos_are_kept_too(counted: Counted, monkeypatch: pytest.MonkeyPatch) -> None:
    assert counted(mlp()) > 0
    monkeypatch.setattr(api, "load", lambda *_, **__: pytest.fail("the model was read again"))
    assert counted(mlp()) == 0
    assert counted(mlp().SerializeToString(deterministic=True)) == 0


def test_air_files_are_kept(counted: Counted, tmp_path: Path) -> None:
    for seed in (0, 1):
        aino.save(aino.load(mlp(sizes=(8, 900, 3), seed=seed)), tmp_path / f"{seed}.air")
    assert (tmp_path / "0.air.safetensors").exists()
    assert counted(tmp_path / "0.air") > 0 and counted(tmp_path / "0.air") == 0
    assert len({model_digest(tmp_path / f"{seed}.air") for seed in (0, 1)} - {None}) == 2
    assert model_digest(tmp_path / "absent.air") is None


def key(x: Any = None, dims: Any = None, compiler: str = "cc", **options: Any) -> str | None:
    chosen = api.compile_options(options.pop("target", "c:portable"), **options)
    return compilation_key(x if x is not None else mlp(), chosen, dims, compiler)


def test_keys_depend_on_all_that_matters(monkeypatch: pytest.MonkeyPatch) -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"x": mlp(seed=1)},
        {"x": mlp(batch=3)},
        {"dims": {"batch": 2}},
        {"dims": {"batch": (1, 2)}},
        {"dims": {"batch": (1, 2), "seq": 3}},
        {"compiler": "other"},
        {"level": 1},
        {"numerics": "strict"},
        {"strict": True},
        {"target": "c:avx2"},
    ]
    keys = [key(**change) for change in changes]
    assert None not in keys and len(set(keys)) == len(changes)
    assert key(dims={"b": [1, 2], "a": 3}) == key(dims={"a": 3, "b": (1, 2)})
    first = key()
    monkeypatch.setattr(cache_module, "source_hash", lambda: "another AINO")
    assert key() != first


def test_compiler_is_part_of_the_key(
    counted: Counted, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import shutil

    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine")
    assert counted(mlp()) > 0
    wrapper = tmp_path / "mycc"
    wrapper.write_text('#!/bin/sh\nexec gcc "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setenv("AINO_CC", str(wrapper))
    assert counted(mlp()) > 0
    assert counted(mlp()) == 0


def test_external_data_is_part_of_the_key(counted: Counted, tmp_path: Path) -> None:
    path = with_external_data(tmp_path, mlp())
    assert counted(path) > 0 and counted(path) == 0
    data = bytearray((tmp_path / "external.onnx.data").read_bytes())
    data[0] ^= 1
    (tmp_path / "external.onnx.data").write_bytes(data)
    assert aino.compile(path).artifact.identity != aino.compile(saved(tmp_path, mlp())).artifact.identity
    first = aino.compile(path).artifact
    data[0] ^= 1
    (tmp_path / "external.onnx.data").write_bytes(data)
    assert aino.compile(path).artifact.identity != first.identity


def test_modules_and_calls_without_cache_are_compiled_anew(counted: Counted) -> None:
    module = aino.load(mlp())
    assert isinstance(module, Module) and key(module) is None
    assert counted(mlp(), cache=False) > 0
    assert counted(mlp(), cache=False) > 0
    assert counted(module) > 0
    assert counted(module) == 0  # its objects and library were kept, the artifact is put together again


def test_damaged_entry_is_made_again_with_one_warning(counted: Counted, tmp_path: Path) -> None:
    path = saved(tmp_path, mlp())
    counted(path)
    (entry,) = [e for e in Store.open().entries() if e.kind == "artifact"]
    entry.path.chmod(0o600)
    data = bytearray(entry.path.read_bytes())
    data[len(data) // 2] ^= 1
    entry.path.write_bytes(data)
    with pytest.warns(CacheWarning, match="damaged") as caught:
        assert counted(path) == 0
    assert len(caught) == 1
    assert counted(path) == 0


def test_entry_that_is_no_artifact_counts_as_absent(store: Store) -> None:
    store.put("artifact", "0" * 64, b"no artifact")
    with pytest.warns(CacheWarning, match="damaged"):
        assert stored_artifact(store, "0" * 64) is None
    assert stored_artifact(store, "0" * 64) is None


@pytest.mark.parametrize("call", ["replace", "create"])
def test_full_disk_costs_only_the_cache(counted: Counted, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    want = aino.compile(mlp()).run(values())[0]
    first = Store.open().entries()
    for entry in first:
        if entry.kind == "artifact":
            entry.path.unlink()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fileio.Disk, call, full)
    with pytest.warns(CacheWarning, match="cannot be written"):
        exe = aino.compile(mlp())
    monkeypatch.undo()
    assert np.array_equal(exe.run(values())[0], want)
    assert not left_over(Store.open().root)


def test_cache_emptied_meanwhile_costs_nothing_but_time(
    counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Store, "put_with", lambda *_: Path("/nowhere/at/all"))
    assert aino.compile(mlp()).run(values())[0].shape == (2, 3)


def test_folder_that_cannot_be_a_cache_costs_only_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AINO_CACHE_DIR", "/proc/nowhere")
    with pytest.warns(CacheWarning, match="without a cache"):
        exe = aino.compile(mlp())
    assert exe.run(values())[0].shape == (2, 3)


def test_collector_is_on_again_even_after_an_error() -> None:
    import gc

    with pytest.raises(ZeroDivisionError), api.collector_frozen():
        assert not gc.isenabled()
        raise ZeroDivisionError
    assert gc.isenabled()
    gc.disable()
    try:
        with api.collector_frozen():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


# -- compilers that are not there ----------------------------------------------------------------------


def test_missing_compiler_names_the_package_to_install(
    hermetic_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(toolchain_module, "_packaged_zig", lambda: None)
    with pytest.raises(NoCompiler, match="no C compiler") as caught:
        aino.compile(mlp())
    assert "pip install aino-ir[cc]" in str(caught.value) and caught.value.exit_status == 4
    assert aino.compile(mlp(), target="reference").run(values())[0].shape == (2, 3)
    monkeypatch.setenv("AINO_CC", "/bin/false")
    with pytest.raises(CompilerUnusable):
        aino.compile(mlp())


def test_artifacts_run_without_a_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = aino.compile(two_outputs()).save(tmp_path / "m.aino")
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr(toolchain_module, "_packaged_zig", lambda: None)
    x = np.ones((2, 3), np.float32)
    assert np.array_equal(aino.load_executable(path).run(x)[1], x + x)
