"""Products of whole networks on TVM: none without tiles, vectors and threads."""

from __future__ import annotations

import pytest

import aino_ir as aino
from aino_ir.codegen.tvm.kernel import PrintedKernel
from benchmarks import tvm_schedules
from benchmarks.tvm_schedules import FEW, Product, lacking, products
from benchmarks.workloads import workload
from tests.codegen.tvm.support import matmul

SAMPLE = ("convnext_tiny_small", "bert_base_small")
"""Networks that are lowered here; `python -m benchmarks.tvm_schedules` reads all of them at full size."""

LOOPS = """\
    for unit in T.parallel(4):
        for k in T.serial(9):
            a_0[ALL8] = T.fma(x[ALL8], b[ALL8], a_0[ALL8])
            a_1[ALL8] = T.fma(x[ALL8], c[ALL8], a_1[ALL8])
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", SAMPLE)
def test_products_of_networks_have_tiles_vectors_and_threads(name: str) -> None:
    found = list(products(aino.load(workload(name).path)))
    assert found
    assert not [product for product in found if product.short]


@pytest.mark.parametrize(
    ("schedule", "text", "wanted"),
    [
        ("s.unroll(a)\ns.vectorize(b)\ns.parallel(c)", "", ()),
        ("s.vectorize(b)", "", ("tiles", "threads")),
        ("", LOOPS, ()),
        ("", LOOPS.replace("T.parallel", "T.serial"), ("threads",)),
        ("", LOOPS.replace("a_1", "a_0"), ("tiles",)),
        ("", LOOPS.replace("[ALL8]", ""), ("tiles", "vectors")),
    ],
)
def test_what_is_lacking_is_read_off_the_text(schedule: str, text: str, wanted: tuple[str, ...]) -> None:
    assert lacking(PrintedKernel("k", text, schedule, (), (), False, 3)) == wanted


def test_small_products_are_let_off() -> None:
    assert not Product("k", "", FEW - 1, ("threads",)).short
    assert Product("k", "", FEW, ("threads",)).short and not Product("k", "", FEW, ()).short


def test_a_network_without_threads_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = matmul(64, 96, 48)
    monkeypatch.setattr(tvm_schedules, "workload", lambda name: type("Made", (), {"path": name})())
    monkeypatch.setattr(tvm_schedules.aino, "load", lambda path: module)
    assert tvm_schedules.main(["one"]) == 0 and "good" in capsys.readouterr().out
    monkeypatch.setattr(tvm_schedules, "lacking", lambda printed: ("threads",))
    assert tvm_schedules.main(["one"]) == 1 and "lacks threads" in capsys.readouterr().out
