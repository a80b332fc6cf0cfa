"""Host programs as the runtime reads and runs them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.errors.artifact import ArtifactDamaged, NotAnArtifact
from aino_ir.errors.run import HostStepFailed, IndexOutOfRange, NoProfile
from aino_ir.graph import Module
from aino_ir.interp import Evaluation
from aino_ir.location import loc
from aino_ir.ops.core import Dims
from aino_ir.ops.sequence import At, Construct
from aino_ir.runtime.artifact import Artifact, ArtifactWriter
from aino_ir.runtime.executable import Executable, open_executable
from aino_ir.runtime.host import PROGRAM, HostProgram
from aino_ir.runtime.reference import ReferenceExecutable
from aino_ir.types import StringType, tensor

Array = np.ndarray[Any, Any]


def listed() -> Module:
    """exp(x) through a list: a native part, two host ops, a native part, with a constant of Python's own."""
    b = Builder(loc=loc("node 'list'"))
    x = b.input("x", tensor("f32", 2, 40))
    own = b.constant(np.arange(80, dtype=np.float32).reshape(2, 40))
    xs = b.op(Construct, b.exp(x), own, element=x.type).result
    b.output("y", b.neg(b.op(At, xs, b.input("i", tensor("i64"))).result))
    return b.module


X = np.linspace(-1, 1, 80, dtype=np.float32).reshape(2, 40)


@pytest.fixture(scope="module")
def exe() -> Executable:
    made = aino.compile(listed())
    assert isinstance(made, Executable)
    return made


def test_values_follow_the_program(exe: Executable) -> None:
    np.testing.assert_allclose(exe.run(X, np.asarray(0))[0], -np.exp(X), rtol=1e-5)
    assert np.array_equal(exe.run(X, np.asarray(1))[0], -np.arange(80.0).reshape(2, 40))


# -- damage --------------------------------------------------------------------------------------------


def rewritten(
    artifact: Artifact, change: Callable[[str], str], host: Callable[[Any], Any] = dict
) -> Artifact:
    """The artifact with another host program, hashes and all in order."""
    manifest = artifact.manifest
    details = {**manifest.details, "host": host(manifest.details["host"])}
    writer = ArtifactWriter(replace(manifest, details=details))
    for variant in manifest.variants:
        writer.add_library(variant.isa, artifact.section(variant.section), variant.flags)
    for index, piece in enumerate(manifest.weights):
        writer.add_weight(artifact.weight(index), piece.bytes, piece.name, piece.dtype, piece.shape)
    text = change(bytes(artifact.section(PROGRAM)).decode())
    writer.add_section(PROGRAM, text.encode("utf-8"))
    return Artifact.from_bytes(writer.to_bytes())


def test_an_unchanged_copy_runs(exe: Executable) -> None:
    again = open_executable(rewritten(exe.artifact, lambda text: text))
    assert np.array_equal(again.run(X, np.asarray(1))[0], exe.run(X, np.asarray(1))[0])


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda text: text.replace("core.return", "core.retur"), "cannot be read: AINO-E02"),
        (lambda text: text[: len(text) // 2], "cannot be read: AINO-E02"),
        (lambda text: text.replace("func main", "func other"), "main"),
        (lambda text: text + "\u00e9", "cannot be read"),
        (lambda text: text.replace('weight f32[2, 40] "', 'weight f32[2, 40] "0'), "no 320 bytes"),
        (lambda text: text.replace('"native_1"', '"native_7"'), "no function native_7"),
        (lambda text: text.replace('"native_1"', '"system"'), "no function system"),
    ],
)
def test_programs_that_cannot_be_are_refused(
    exe: Executable, change: Callable[[str], str], what: str
) -> None:
    text = bytes(exe.artifact.section(PROGRAM)).decode()
    assert change(text) != text
    with pytest.raises(NotAnArtifact, match=what):
        open_executable(rewritten(exe.artifact, change))


@pytest.mark.parametrize(
    "host",
    [
        lambda host: {k: v for k, v in host.items() if k != "functions"},
        lambda host: {k: v for k, v in host.items() if k != "constants"},
        lambda host: {**host, "constants": dict.fromkeys(host["constants"], 99)},
        lambda host: {**host, "constants": {}},
        lambda host: {**host, "functions": {n: {**f, "inputs": 7} for n, f in host["functions"].items()}},
    ],
)
def test_details_that_do_not_fit_are_refused(exe: Executable, host: Callable[[Any], Any]) -> None:
    with pytest.raises(NotAnArtifact):
        open_executable(rewritten(exe.artifact, lambda text: text, host))


def test_a_flipped_byte_is_found(exe: Executable, tmp_path: Path) -> None:
    data = bytearray(exe.save(tmp_path / "m.aino").read_bytes())
    place = data.index(b"sequence.construct")
    data[place] ^= 1
    (tmp_path / "m.aino").write_bytes(data)
    with pytest.raises((ArtifactDamaged, NotAnArtifact)):
        aino.load_executable(tmp_path / "m.aino")


# -- errors --------------------------------------------------------------------------------------------


def test_host_errors_name_the_node(exe: Executable, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Exception, match="index 5") as caught:
        exe.run(X, np.asarray(5))
    assert str(caught.value.loc) == "node 'list'"  # type: ignore[attr-defined]

    def fail(*_: Any) -> Any:
        raise ValueError("no such luck")

    monkeypatch.setattr(Construct, "evaluate", fail)
    with pytest.raises(
        HostStepFailed, match="sequence.construct failed with ValueError: no such luck"
    ) as wrapped:
        exe.run(X, np.asarray(0))
    assert str(wrapped.value.loc) == "node 'list'" and wrapped.value.exit_status == 1


def test_native_errors_name_the_node() -> None:
    b = Builder(loc=loc("node 'pick'"))
    x, i = b.input("x", tensor("f32", 4)), b.input("i", tensor("i64", 2))
    b.output("y", b.op(Construct, b.gather(x, i), element=tensor("f32", 2)).result)
    exe = aino.compile(b.module)
    assert exe.run(X[0, :4], np.asarray([0, 3]))[0][0].shape == (2,)
    with pytest.raises(IndexOutOfRange) as caught:
        exe.run(X[0, :4], np.asarray([0, 9]))
    assert str(caught.value.loc) == "node 'pick'"


def test_steps_are_counted_even_when_one_fails(exe: Executable) -> None:
    before = exe.host_steps
    with pytest.raises(Exception, match="index 9"):
        exe.run(X, np.asarray(9))
    assert exe.host_steps == before + 2


def test_libraries_without_the_entry_give_no_profile(
    exe: Executable, monkeypatch: pytest.MonkeyPatch
) -> None:
    native = exe._program.steps[0].native  # type: ignore[attr-defined]
    monkeypatch.setattr(native.native, "_profile", None)
    with pytest.raises(NoProfile):
        exe.profile(X, np.asarray(0))


# -- memory --------------------------------------------------------------------------------------------


def test_values_are_let_go_after_their_last_use(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 1000))
    for _ in range(6):
        x = b.at(b.construct(b.exp(b.neg(x)), element=x.type), b.constant(np.int64(0)))
    b.output("y", x)
    exe = aino.compile(b.module)
    alive: list[weakref.ref[Any]] = []
    most = 0
    evaluate = At.evaluate

    def watched(op: Any, ev: Any, xs: Any, position: Any) -> Any:
        nonlocal most
        alive.extend(weakref.ref(a) for a in xs)
        most = max(most, len({id(r()) for r in alive if r() is not None}))
        return evaluate(op, ev, xs, position)

    monkeypatch.setattr(At, "evaluate", watched)
    exe.run(np.zeros(1000, np.float32))
    assert len(alive) == 6 and most <= 2


def test_lists_hold_results_of_native_code_by_reference(
    exe: Executable, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    evaluate = At.evaluate

    def watched(op: Any, ev: Any, xs: Any, position: Any) -> Any:
        seen.extend(xs)
        return evaluate(op, ev, xs, position)

    monkeypatch.setattr(At, "evaluate", watched)
    exe.run(X, np.asarray(0))
    exe.run(X, np.asarray(0))
    assert seen[1] is seen[3] or np.shares_memory(seen[1], seen[3])  # Python's constant, never copied


def test_outputs_share_no_memory() -> None:
    b = Builder()
    x = b.input("x", tensor("f32", 4))
    y = b.exp(x)
    xs = b.op(Construct, y, x, element=x.type).result
    text = b.input("t", StringType((1,)))
    for name, value in (("y", y), ("again", y), ("xs", xs), ("x", x), ("t", text), ("u", text)):
        b.output(name, value)
    exe = aino.compile(b.module)
    given, words = X[0, :4].copy(), np.asarray(["a"], object)
    made = exe.run(given, words)
    arrays = [made[0], made[1], *made[2], made[3], made[4], made[5], given, words]
    for i, a in enumerate(arrays):
        assert not any(np.shares_memory(a, other) for other in arrays[:i])


def test_libraries_are_loaded_once_and_unloaded_with_the_last_function() -> None:
    exe = aino.compile(listed())
    exe.run(X, np.asarray(0))
    natives = [s.native.native for s in exe._program.steps if s.native is not None]  # type: ignore[union-attr]
    assert len(natives) == 2 and natives[0].library is natives[1].library
    library = natives[0].library
    natives[0].close()
    library.function("module_1_abi", None)
    natives[1].close()
    with pytest.raises(Exception, match="closed"):
        library.function("module_1_abi", None)


# -- without native functions ----------------------------------------------------------------------------


def test_programs_run_without_native_functions() -> None:
    b = Builder()
    n = b.symbol("n", 1, 9)
    x = b.input("x", tensor("f32", n))
    b.output("y", b.neg(x))
    b.output("n", b.op(Dims, dims=[n * 2]).result)
    program = HostProgram(b.module, {})
    y, twice = program.run([X[0, :3]])
    assert np.array_equal(y, -X[0, :3]) and twice.tolist() == [6] and program.executed == 2
    reference = ReferenceExecutable(b.module)
    assert reference.run(X[0, :5])[1].tolist() == [10] and reference.host_steps == 2
    assert reference.report.python_nodes[0] == {
        "op": "math.neg",
        "node": "math.neg",
        "reason": "target reference runs in Python",
    }


def test_data_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    b = Builder()
    b.output("y", b.text_concat(b.input("t", StringType((1,))), b.string_constant(values=["!"], shape=[])))
    program = HostProgram(b.module, {})
    monkeypatch.setattr(Evaluation, "dims", lambda *_: pytest.fail("evaluated again"))
    assert program.run([np.asarray(["a"], object)])[0].tolist() == ["a!"]
    assert program.executed == 1
