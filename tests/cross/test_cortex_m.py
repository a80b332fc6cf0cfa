"""Models on an emulated Cortex-M4: C99, static memory, the results of the interpreter."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import aino_ir as aino
from aino_ir.codegen.c.footprint import section_bytes
from aino_ir.driver.emit import emit_files
from aino_ir.errors.artifact import ArchitectureMismatch
from aino_ir.errors.codegen import StaticShapesWanted
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.store import Store
from aino_ir.tolerance import disagreement
from aino_ir.types import tensor
from tests.cross.device import TARGET, missing, run_on_device
from tests.driver.test_states import counter

Array = np.ndarray


def digits() -> tuple[Module, list[Array]]:
    """A perceptron for pictures of 8x8: 64, 32 and 10 neurons, softmax, and the most likely digit."""
    rng = np.random.default_rng(3)
    b = aino.Builder()
    x = b.input("picture", tensor("f32", 1, 64))
    w = [
        rng.standard_normal(s).astype(np.float32) / np.sqrt(s[0]).astype(np.float32)
        for s in ((64, 32), (32, 10))
    ]
    hidden = b.relu(b.add(b.matmul(x, b.constant(w[0])), b.constant(rng.random(32, np.float32))))
    scores = b.matmul(hidden, b.constant(w[1]))
    b.output("probabilities", b.softmax(scores, axis=1))
    b.output("digit", b.argmax(scores, axis=1))
    b.module.name = "digits"
    return b.module, [rng.random((1, 64), np.float32)]


def ds_cnn() -> tuple[Module, list[Array]]:
    """The keyword spotter DS-CNN (small) of Zhang et al., "Hello Edge": 49x10 coefficients, 12 words."""
    import torch
    from torch import nn

    torch.manual_seed(5)

    def separable() -> list[nn.Module]:
        layers: list[nn.Module] = []
        for c in (nn.Conv2d(64, 64, 3, padding=1, groups=64, bias=False), nn.Conv2d(64, 64, 1, bias=False)):
            layers += [c, nn.BatchNorm2d(64), nn.ReLU()]
        return layers

    first = [nn.ZeroPad2d((1, 1, 4, 5)), nn.Conv2d(1, 64, (10, 4), stride=2, bias=False)]
    body = [layer for _ in range(4) for layer in separable()]
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 12), nn.Softmax(dim=1)]
    network = nn.Sequential(*first, nn.BatchNorm2d(64), nn.ReLU(), *body, *end).eval()
    x = torch.randn(1, 1, 49, 10)
    module = aino.load(network, (x,))
    module.name = "ds_cnn"
    return module, [x.numpy()]


def needed() -> None:
    if missing():
        pytest.skip(f"needs {missing()}")


def quantized(module: Module, x: Array) -> Module:
    """The network with eight bits a weight and an activation."""
    rng = np.random.default_rng(9)
    (name,) = module.main.input_names
    samples = [{name: rng.standard_normal(x.shape).astype(np.float32)} for _ in range(4)]
    made = aino.quantize(module, scheme="int8", calibration=samples, guard=False)
    assert any(op.name.startswith("quant.") for op in made.main.block)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["f32", "int8"])
@pytest.mark.parametrize("network", [digits, ds_cnn])
def test_networks_give_the_results_of_the_interpreter(
    network, scheme: str, tmp_path: Path, shared_store: Store
) -> None:
    needed()
    module, inputs = network()
    module = quantized(module, inputs[0]) if scheme == "int8" else module
    made = run_on_device(module, inputs, tmp_path, shared_store)
    for got, want in zip(made, run_module(module, inputs), strict=True):
        assert disagreement(got, want, "exact" if want.dtype.kind in "iu" else "approximate") is None


@pytest.mark.slow
def test_integers_and_double_precision(tmp_path: Path, shared_store: Store) -> None:
    needed()
    b = aino.Builder()
    x, y = b.input("x", tensor("i32", 7)), b.input("y", tensor("f64", 5))
    b.output("quotient", b.div(x, b.constant(np.int32(-3))))
    b.output("root", b.exp(b.sqrt(b.abs(y))))
    b.output("order", b.cast(b.mul(x, x), to="i8"))
    inputs = [np.array([1, -7, 2**31 - 1, -(2**31), 0, 12, -1], np.int32), np.linspace(-2, 9, 5)]
    made = run_on_device(b.module, inputs, tmp_path, shared_store)
    for got, want in zip(made, run_module(b.module, inputs), strict=True):
        assert disagreement(got, want, "approximate" if want.dtype == np.float64 else "exact") is None


@pytest.mark.slow
def test_states_begin_as_declared_and_live_on(tmp_path: Path, shared_store: Store) -> None:
    needed()
    x = np.float32([1, 2, 3])
    total, steps = run_on_device(counter([5, 6, 7]), [x], tmp_path, shared_store, runs=3)
    np.testing.assert_array_equal(total, np.float32([5, 6, 7]) + 3 * x)
    assert steps.tolist() == [13]


def test_the_folder_uses_static_memory_and_no_library(tmp_path: Path) -> None:
    module, _ = digits()
    told: list[str] = []
    written = emit_files(module, "c", tmp_path, TARGET, verify="off", tell=told.append)
    assert {p.name for p in written} >= {"digits.c", "digits.h", "digits_weights.c", "digits_example.c"}
    text = "".join(p.read_text() for p in written)
    for word in (
        "malloc",
        "free(",
        "pthread",
        "atomic",
        "<stdlib.h>",
        "<string.h>",
        "__attribute__",
        "vector_size",
    ):
        assert word not in text
    (line,) = told
    found = re.match(r"flash: (\d+) bytes \(constants (\d+), code (\d+)\); RAM: (\d+) bytes \(arena", line)
    assert found is not None, line
    flash, constants, code, ram = map(int, found.groups())
    assert flash == constants + code and constants >= 4 * (64 * 32 + 32 + 32 * 10) and 0 < ram < 2000


def test_an_artifact_holds_an_archive_and_tells_its_memory() -> None:
    module, inputs = digits()
    exe = aino.compile(module, TARGET, verify="off")
    assert isinstance(exe, Executable)
    (variant,) = exe.artifact.manifest.variants
    archive = exe.artifact.library(variant)
    assert variant.section == "lib/cortex-m.a" and archive.startswith(b"!<arch>\n")
    device = exe.report.device
    flash, ram = section_bytes(archive)
    assert 0 < device["code"] == flash and device["ram"] == ram
    assert device["arena"] + device["scratch"] <= ram < device["arena"] + device["scratch"] + 256
    assert device["flash"] == device["constants"] + device["code"]
    assert "flash: " in str(exe.report)
    assert f"archive {len(archive)}\n" in str(exe.report) and str(exe.report).count("code ") == 1
    with pytest.raises(ArchitectureMismatch, match="holds code for armv7e-m"):
        exe.run(*inputs)


def test_extents_that_only_a_run_knows_are_refused(tmp_path: Path) -> None:
    b = aino.Builder()
    x = b.input("x", tensor("f32", b.symbol("batch", 1, 8), 4))
    b.output("y", b.relu(x))
    with pytest.raises(StaticShapesWanted, match="the run decides the extents batch") as caught:
        emit_files(b.module, "c", tmp_path, TARGET)
    assert "--dim" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_ops_that_would_run_in_python_are_refused() -> None:
    b = aino.Builder()
    x = b.input("x", tensor("f32", 4))
    b.output("n", b.sequence_length(b.sequence_construct(x, element=tensor("f32", 4))))
    with pytest.raises(OperatorsUnsupported):
        aino.compile(b.module, TARGET)
