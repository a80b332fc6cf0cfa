"""Products whose factors are fetched by copies of tiles: emulated, on an emulated device, and as a folder."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.codegen.cuda.emulated.device import EmulatedGpus
from aino_ir.codegen.cuda.tensor_cores import TensorCoreGenerator
from aino_ir.codegen.cuda.tilings import TILINGS
from aino_ir.driver.emit import emit_files
from aino_ir.driver.gpu import emulated_gpu
from aino_ir.dtypes import bf16 as BF16
from aino_ir.dtypes import f16
from aino_ir.graph import Module
from aino_ir.loops.stmt import CopyTile, Registers, walk_statements
from aino_ir.loops.verify import verify_loops
from aino_ir.runtime.cuda.tensors import DeviceArray
from aino_ir.types import TensorType
from tests.codegen.cuda.test_folder import built, run
from tests.codegen.cuda.test_tensor_cores import EMULATED, check_emulated, floats, half, matmul, requantised
from tests.codegen.kernels.support import Built, Given, Problem, candidates, problem
from tests.codegen.native import target

CC = shutil.which("cc")
TMA = "TMA and wgmma"


def fetching(p: Problem, tile: str, text: str = EMULATED) -> Built:
    """The kernel of a tile; every access is proved to be inside."""
    (candidate,) = (c for c in candidates(p, text, "tensor cores") if f"{tile}, {TMA}" in c.name)
    fn = TensorCoreGenerator().build(p.spec, candidate, target(text))
    return Built(p, candidate, fn, verify_loops(fn).unproved)


def fetching_kernels(text: str) -> list[Built]:
    """Bf16 by one and two groups, bytes; factors of which terms or lines lie together, with what follows."""
    return [
        fetching(matmul(40, 72, 328, transpose_rhs=True), "64x128", text),
        fetching(matmul(120, 200, 72, transpose_lhs=True), "128x256", text),
        fetching(requantised(100, 90, 208, np.uint8, np.int8), "128x128", text),
        short_floats(text),
    ]


def short_floats(text: str) -> Built:
    """f32 as tf32, which is judged by the measure of f16."""
    found = fetching(floats(90, 100, 72, transpose_rhs=True), "128x128", f"{text},tf32")
    assert found.candidate.precision is f16
    return replace(found, problem=replace(found.problem, error_class="approximate", precision=f16))


def stacked(shared: bool) -> Problem:
    """Products of a stack; the second factor may be shared by all of it."""
    w = half(40, 24) if shared else half(3, 40, 24)
    return problem(lambda b, x, w: [b.matmul(x, w)], Given(half(3, 36, 40)), Given(w), terms=40)


def symbolic() -> Problem:
    n = Builder().symbol("n", 0, 500)
    return problem(
        lambda b, x, w: [b.matmul(x, w, transpose_rhs=True)],
        Given(half(37, 64), shape=(n, 64)),
        Given(half(48, 64)),
        symbols={"n": (0, 500)},
        values={"n": 37},
        terms=64,
    )


def test_kernels(tmp_path: Path) -> None:
    made = [*fetching_kernels(EMULATED), *(fetching(stacked(s), "64x128") for s in (False, True))]
    assert not [k.unproved for k in made if k.unproved]
    check_emulated([*made, fetching(symbolic(), "64x128")], tmp_path)


def test_only_where_registers_are_short_they_are_handed_over() -> None:
    found = {
        k.candidate.name: [s.count for s in walk_statements(k.fn.body) if isinstance(s, Registers)]
        for k in (fetching(matmul(136, 256, 72), tile) for tile in ("64x128", "128x256"))
    }
    assert list(found.values()) == [[], [24, 240]]
    assert max(t.shared_bytes for t in TILINGS) <= 227 << 10


@pytest.mark.parametrize(
    ("isa", "p", "offered"),
    [
        ("sm_90a", matmul(128, 256, 128, transpose_rhs=True), True),
        ("sm_90a", matmul(128, 256, 128), True),
        ("sm_90a", symbolic(), True),
        ("sm_90", matmul(128, 256, 128), False),
        ("sm_80", matmul(128, 256, 128), False),
        ("sm_90a", matmul(128, 256, 100, transpose_rhs=True), False),  # strides of 200 bytes
        ("sm_90a", matmul(128, 252, 128), False),  # the same, of the other axis
        ("sm_90a", requantised(72, 40, 160, np.int8, np.int8, constant=False), False),  # bytes, turned
    ],
)
def test_where_there_is_a_map(isa: str, p: Problem, offered: bool) -> None:
    names = [c.name for c in candidates(p, f"cuda:{isa}", "tensor cores")]
    assert names and any(TMA in name for name in names) == offered


def test_what_stands_before_a_product_is_not_fetched() -> None:
    p = problem(lambda b, x, w: [b.matmul(b.relu(x), w)], Given(half(64, 40)), Given(half(40, 24)), terms=40)
    assert not any(TMA in c.name for c in candidates(p, "cuda:sm_90a", "tensor cores"))


@pytest.mark.parametrize(("terms", "first"), [(64, "128x256, wgmma"), (1024, f"128x256, {TMA}")])
def test_what_comes_first_of_large_products(terms: int, first: str) -> None:
    x, w = (np.zeros((n, terms), ml_dtypes.bfloat16) for n in (4096, 2048))
    p = problem(lambda b, x, w: [b.matmul(x, w, transpose_rhs=True)], Given(x), Given(w))
    best, *_ = candidates(p, "cuda:sm_90a", "tensor cores")
    assert first in best.name


# -- launches -----------------------------------------------------------------------------------------

SHAPE = (70, 96, 40)


def layer(rows: Any = SHAPE[0]) -> Module:
    """A product by a constant, and one by an input."""
    b, (_, terms, columns) = Builder(), SHAPE
    if rows is None:
        rows = b.symbol("rows", 0, 200)
    x, w = b.input("x", TensorType(BF16, (rows, terms))), b.input("w", TensorType(BF16, (columns, terms)))
    hidden = b.relu(b.matmul(x, b.constant(half(terms, terms))))
    b.output("y", b.matmul(hidden, w, transpose_rhs=True))
    return b.module


@pytest.fixture
def fetched_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tilings of copies alone, the smallest first."""
    monkeypatch.setattr(
        "aino_ir.codegen.cuda.tensor_cores.TILINGS", tuple(t for t in reversed(TILINGS) if t.fetched)[:1]
    )


def on_device(gpus: EmulatedGpus, value: Any, shift: int) -> DeviceArray:
    """A tensor that starts so many elements behind a multiple of 16 bytes."""
    padded = np.concatenate([np.full(shift, np.nan, value.dtype), value.ravel()])
    memory = SimpleNamespace(address=gpus.allocate(padded) + shift * value.itemsize)
    return DeviceArray(memory, value.shape, "bf16", 0)


@pytest.mark.usefixtures("fetched_only")
def test_maps_follow_the_tensors() -> None:
    gpus = EmulatedGpus(((9, 0),))
    reference = aino.compile(layer(), "reference")
    with emulated_gpu(gpus):
        exe = aino.compile(layer(None), "cuda:sm_90a", cache=False)
        assert all(TMA in row["candidate"] for row in exe.report.kernels)
        for rows, shift in ((70, 0), (70, 3), (70, 0), (33, 7), (0, 0)):
            x, w = half(rows, SHAPE[1], seed=rows), half(SHAPE[2], SHAPE[1], seed=shift)
            got = exe.run(on_device(gpus, x, shift), on_device(gpus, w, (shift * 2) % 8))[0]
            size = rows * SHAPE[2] * 2
            found = np.frombuffer(gpus.contents(got.memory.address, size), ml_dtypes.bfloat16)
            wanted = reference.run(np.resize(x, (70, SHAPE[1])) if rows else np.zeros((70, 96), x.dtype), w)[
                0
            ]
            np.testing.assert_allclose(
                np.float32(found).reshape(rows, SHAPE[2]), np.float32(wanted)[:rows], rtol=2e-2, atol=0.2
            )
        assert gpus.calls["cuGraphExecKernelNodeSetParams_v2"] > 0
        assert gpus.calls["cuTensorMapEncodeTiled"] > 4
        gpus.fail("cuTensorMapEncodeTiled", 1)
        with pytest.raises(aino.AinoError, match="cuTensorMapEncodeTiled"):
            exe.run(on_device(gpus, half(70, 96), 1), on_device(gpus, half(40, 96), 1))


@pytest.mark.usefixtures("fetched_only")
@pytest.mark.skipif(CC is None, reason="no C compiler")
def test_folders_make_maps_too(tmp_path: Path) -> None:
    module, inputs = layer(), [half(SHAPE[0], SHAPE[1]), half(SHAPE[2], SHAPE[1])]
    files = emit_files(module, "cu", tmp_path, "cuda:sm_90a")
    (main,) = (f for f in files if f.name.endswith("_main.cu"))
    assert "-gencode arch=compute_90a,code=sm_90a" in (tmp_path / "Makefile").read_text()
    name = main.name.removesuffix("_main.cu")
    assert run(built(tmp_path, name), name, inputs, 1).returncode == 0
    (wanted,) = aino.compile(module, "reference").run(*inputs)
    got = np.fromfile(tmp_path / "out0.bin", wanted.dtype).reshape(wanted.shape)
    np.testing.assert_allclose(np.float32(got), np.float32(wanted), rtol=2e-2, atol=0.2)


def test_a_tile_of_every_part() -> None:
    kernel = fetching(matmul(136, 256, 72), "128x256")
    copies = [s for s in walk_statements(kernel.fn.body) if isinstance(s, CopyTile)]
    assert [s.target for s in copies] == ["row_panels", *["column_panels"] * 4]  # 64 columns each
