"""The generator for contractions of bytes: exact on every instruction set, padded, cut, fused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aino_ir.codegen.kernels.blocking import LINE_BYTES
from aino_ir.codegen.kernels.dot import DotGenerator
from aino_ir.kernels import Candidate
from aino_ir.op import OPS
from aino_ir.short_sums import ShortSums
from aino_ir.types import ROW_MAJOR, permuted
from tests.codegen.kernels.emulated import emulated
from tests.codegen.kernels.support import (
    Given,
    Problem,
    check,
    check_compiled,
    check_compiles,
    check_text,
    problem,
    rejects,
    square_window,
    target,
    unit_text,
)

LAST = permuted(0, 2, 3, 1)


def extremes(dtype: Any, *shape: int, seed: int = 0, most: int = 128) -> np.ndarray:
    """Values up to the ends of the range, which are frequent."""
    info = np.iinfo(dtype)
    low, high = max(info.min, -most), min(info.max, most if info.min else info.max)
    rng = np.random.default_rng([seed, *shape])
    drawn = rng.integers(low, high, shape, endpoint=True)
    ends = rng.random(shape)
    return np.where(ends < 0.3, low, np.where(ends > 0.7, high, drawn)).astype(dtype)


def scales(count: int) -> Given:
    return Given(np.linspace(0.001, 0.02, count).astype(np.float32), constant=True)


def offsets(count: int) -> Given:
    return Given(np.linspace(-3000, 5000, count).astype(np.int32), constant=True)


def number(value: float, dtype: Any = np.float32) -> Given:
    return Given(np.asarray(value, dtype), constant=True)


def product(m: int, k: int, n: int, dtype: Any = np.uint8, most: int = 64, fused: bool = False) -> Problem:
    def body(b: Any, x: Any, w: Any, scale: Any, offset: Any, *more: Any) -> list[Any]:
        y = b.op(OPS["quant.matmul"], x, w, scale, offset).result
        return [b.quantize(b.relu(y), *more, to="u8")] if more else [y]

    x = Given(extremes(dtype, m, k))
    w = Given(extremes(np.int8, k, n, seed=1, most=most), constant=True)
    more = [number(0.7), number(9, np.uint8)] if fused else []
    return problem(body, x, w, scales(n), offsets(n), *more, error_class="exact")


def conv(
    x: tuple[int, ...], w: tuple[int, ...], stride: int = 1, pad: int = 0, most: int = 64, zero: int = 0
) -> Problem:
    """A convolution with channels last, its residual and activation fused."""
    count = w[0]
    attrs = square_window(stride, pad)
    side = (x[2] + 2 * pad - w[2]) // stride + 1

    def body(b: Any, x: Any, w: Any, scale: Any, offset: Any, rest: Any, *by: Any) -> list[Any]:
        y = b.op(OPS["quant.conv"], x, w, scale, offset, **attrs, zero=zero).result
        y = b.relu(b.add(y, b.dequantize(rest, by[0])))
        return [b.quantize(y, by[1], to="u8")]

    return problem(
        body,
        Given(extremes(np.uint8, *x), LAST),
        Given(extremes(np.int8, *w, seed=1, most=most), constant=True),
        Given(scales(count).array.reshape(-1, 1, 1), constant=True),
        offsets(count),
        Given(extremes(np.uint8, x[0], count, side, side, seed=4), LAST),
        number(0.3),
        number(0.5),
        layouts=[LAST],
        error_class="exact",
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("most", [64, 128])
@pytest.mark.parametrize("shape", [(5, 33, 19), (1, 64, 40), (3, 3, 8), (7, 16, 9), (2, 2, 5)])
def test_product(shape: tuple[int, int, int], most: int, dtype: Any) -> None:
    made = check(product(*shape, dtype, most), only="dot")
    lines = [line for kernel in made for line in kernel.fn.header if line.startswith("schedule")]
    short = most <= 64 and dtype is np.uint8
    assert any("fit 16 bits" in line for line in lines) is short
    assert short or all("widened" in line for line in lines)


@pytest.mark.parametrize(("most", "depth"), [(16, 4), (32, 2), (64, 1)])
def test_steps_are_added_up_in_16_bits_as_far_as_they_fit(most: int, depth: int) -> None:
    """Weights at both ends of their range: all products of a lane may have the same sign."""
    made = check(product(6, 8 * 9 + 3, 40, most=most), only="dot")
    found = {dict(kernel.candidate.params)["depth"] for kernel in made}
    assert max(found) == depth


def test_more_steps_than_fit_are_noticed() -> None:
    """The loop interpreter, the weights and the fact disagree where a fact is too large."""
    p = product(2, 16, 8, most=64)
    w = p.spec.operands[1]
    assert w.short is not None and w.short.depths[0] == 1
    operands = (p.spec.operands[0], replace(w, short=ShortSums((4, 0), False)), *p.spec.operands[2:])
    wrong = replace(p, spec=replace(p.spec, operands=operands))
    with pytest.raises(AssertionError):
        check(wrong, only="dot", most=64)


@pytest.mark.parametrize(
    "p",
    [
        conv((1, 8, 6, 6), (16, 8, 3, 3), pad=1),
        conv((2, 3, 7, 7), (8, 3, 3, 3), stride=2, pad=1),
        conv((1, 12, 5, 5), (9, 12, 1, 1), most=128),
    ],
    ids=["padded", "three channels", "one tap"],
)
def test_convolution(p: Problem) -> None:
    check(p, only="dot", most=2)


CASES = (
    product(6, 70, 33, fused=True),
    product(6, 70, 33, most=128, fused=True),
    product(6, 75, 40, most=32, fused=True),
    product(6, 75, 40, most=16, fused=True),
    product(3, 21, 8, np.int8, 128),
    conv((1, 8, 6, 6), (16, 8, 3, 3), pad=1),
    conv((2, 3, 7, 7), (8, 3, 3, 3), stride=2, pad=1, most=128),
)


@pytest.mark.parametrize("isa", ["avx2", "portable"])
def test_compiled(isa: str, tmp_path: Path) -> None:
    made = [k for p in CASES for k in check(p, f"c:{isa}", only="dot", most=1)]
    check_compiled(made, isa, tmp_path)


@pytest.mark.parametrize("isa", ["avx512", "avx512vnni"])
def test_compiles_for_wide_vectors(isa: str, tmp_path: Path) -> None:
    made = [k for p in CASES for k in check(p, f"c:{isa}", only="dot", most=1)]
    check_compiles(made, isa, tmp_path)
    one_instruction = "added in 32 bits" in made[0].candidate.name
    assert one_instruction is (isa == "avx512vnni")


def test_vnni_has_the_same_bits(tmp_path: Path) -> None:
    """What is printed for VNNI, run with its instructions emulated, agrees with the interpreter bit by bit."""
    made = [k for p in CASES for k in check(p, "c:avx512vnni", only="dot", most=1)]
    text = unit_text(made, "avx512vnni")
    assert "vpdpbusd_v16si(" in text
    text = emulated(text)
    assert "emulated_pmaxsd512_mask(emulated_cvtps2dq512_mask(" in text, "what is quantised is saturated once"
    check_text(made, text, "portable", tmp_path)


def test_spelling_of_vnni_is_exact_on_numpy() -> None:
    """The signed form, x + 128 with 128 * (sum of w) taken off, as the table spells it."""
    rng = np.random.default_rng(0)
    x, w = rng.integers(-128, 128, 64), rng.integers(-128, 128, 64)
    lifted = (x.astype(np.int8).view(np.uint8) ^ 0x80).astype(int)
    got = (lifted * w).reshape(16, 4).sum(1) - (128 * w).reshape(16, 4).sum(1)
    assert np.array_equal(got, (x * w).reshape(16, 4).sum(1))


def test_padding_with_a_zero_point_is_left_to_others() -> None:
    assert (
        rejects(conv((1, 8, 6, 6), (16, 8, 3, 3), pad=1, zero=7))["dot"]
        == "padded with something else than zero"
    )


def test_bytes_behind_the_axis_are_read_while_they_are_the_operands_own() -> None:
    """Only the last row's last quartet may end past the buffer; the others meet weights of zero."""
    for rows in (1, 4):
        made = check(product(rows, 33, 8), only="dot", most=1)
        assert unit_text(made, "avx2").count("= load_masked_u8x4(") == 1


def test_thin_panels_share_the_lines_of_a_chunk_in_cache() -> None:
    p = product(20_000, 8, 24)
    goal = target("c:avx2")
    (found,) = DotGenerator(1).candidates(p.spec, goal)
    assert isinstance(found, Candidate)
    params = dict(found.params)
    assert params["vectors"] * params["lanes"] < LINE_BYTES // 4 < 24
    assert params["chunk"] * params["rows"] * (8 + LINE_BYTES) <= goal.l2_bytes // 2


def test_what_is_no_product_of_bytes_is_turned_down() -> None:
    def body(b: Any, x: Any, w: Any, scale: Any) -> list[Any]:
        return [b.op(OPS["quant.matmul"], x, w, scale).result]

    x, w = Given(extremes(np.uint8, 4, 8)), extremes(np.uint8, 8, 6)
    assert "i8 weights" in rejects(problem(body, x, Given(w, constant=True), scales(6)))["dot"]
    free = Given(extremes(np.int8, 8, 6))
    assert "constants that can be packed" in rejects(problem(body, x, free, scales(6)))["dot"]
    plain = problem(
        lambda b, x, w: [b.matmul(x, w)],
        Given(np.ones((4, 8), np.float32)),
        Given(np.ones((8, 6), np.float32)),
    )
    assert "8-bit integers" in rejects(plain)["dot"]
    turned = Given(extremes(np.uint8, 4, 8), permuted(1, 0))
    assert (
        "not contiguous"
        in rejects(problem(body, turned, Given(w.astype(np.int8), constant=True), scales(6)))["dot"]
    )


def test_sums_that_need_more_than_32_bits_are_left_to_others() -> None:
    def body(b: Any, x: Any, w: Any, scale: Any) -> list[Any]:
        return [b.op(OPS["quant.matmul"], x, w, scale).result]

    k = 1 << 16
    p = problem(
        body,
        Given(np.full((1, k), 255, np.uint8)),
        Given(np.full((k, 2), -128, np.int8), constant=True),
        scales(2),
        layouts=[ROW_MAJOR],
        error_class="exact",
    )
    assert "summed in 32 bits" in rejects(p)["dot"]
    assert p.expected[0][0, 0] == np.float32(-255 * 128 * k) * scales(2).array[0]
