"""Host programs as artifacts: the same bytes again, constants once, several instruction sets."""

from __future__ import annotations

import numpy as np

import aino_ir as aino
from aino_ir.builder import Builder
from aino_ir.constants import Const
from aino_ir.types import tensor
from tests.driver.host_models import TEXT, agree, floats, labelled, labelled_results


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
