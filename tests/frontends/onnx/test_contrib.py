"""Operators of ONNX Runtime's own domain: the interpreter and compiled C agree with ONNX Runtime."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from onnx import helper

import aino_ir as aino
from aino_ir.errors.onnx import UnsupportedOperators, VariantUnsupported
from aino_ir.frontends.onnx import load_onnx
from aino_ir.frontends.onnx.ops import TABLE
from aino_ir.graph import Module
from aino_ir.interp import run_module
from aino_ir.passes.eliminate_dead_code import EliminateDeadCode
from aino_ir.passes.fold_constants import FoldConstants
from aino_ir.pattern import constant_of
from aino_ir.tolerance import disagreement
from tests.conformance.batch import in_child
from tests.conformance.onnxruntime_session import Session
from tests.frontends.onnx.contrib_cases import CONTRIB, Array, Contrib, all_contrib, f, model_of, u8

CASES = all_contrib()


def together(cases: Sequence[Contrib]) -> tuple[Module, list[Array], list[Array]]:
    """Cases in one module, its inputs, and what ONNX Runtime makes of them."""
    model, arrays = model_of(cases)
    wanted = in_child(lambda: Session(model).run(arrays))
    assert isinstance(wanted, list), wanted
    return load_onnx(model), arrays, wanted


def differences(cases: Sequence[Contrib], got: Sequence[Any], wanted: Sequence[Any]) -> list[str]:
    """What differs, case by case; integers of cases that are not exact may be one apart (ties)."""
    out, position = [], 0
    for number, case in enumerate(cases):
        for _ in range(sum(case.outputs)):
            a, w = np.asarray(got[position]), np.asarray(wanted[position])
            position += 1
            if case.valid is not None and a.ndim == 4:
                a, w = a[:, :, : case.valid], w[:, :, : case.valid]
            if a.dtype.kind == "f" or case.exact:
                why = disagreement(a, w, "exact" if case.exact else "approximate")
            elif a.shape != w.shape or a.dtype != w.dtype:
                why = f"{a.dtype}{a.shape} instead of {w.dtype}{w.shape}"
            else:
                apart = int(np.abs(a.astype(np.int64) - w.astype(np.int64)).max())
                why = None if apart <= 1 else f"{apart} apart"
            if why:
                out.append(f"{number} {case.kind} {case.note} {case.attrs}: {why}")
    return out


def test_interpreter_agrees_with_onnx_runtime() -> None:
    module, arrays, wanted = together(CASES)
    assert not differences(CASES, run_module(module, arrays), wanted)


@pytest.mark.slow
def test_compiled_agrees_with_onnx_runtime() -> None:
    module, arrays, wanted = together(CASES)
    executable = aino.compile(module, "c", cache=False, strict=True)
    assert not executable.report.undone
    assert not differences(CASES, executable.run(*arrays), wanted)


def test_every_row_has_a_case() -> None:
    rows = {name for domain, name in TABLE if domain == CONTRIB} | {"SimplifiedLayerNormalization"}
    without_a_kernel = {"BiasSplitGelu"}
    assert rows - {case.kind for case in CASES} == without_a_kernel


def test_bias_split_gelu_is_a_gate() -> None:
    x, b = f(2, 3, 8), f(8)
    model, arrays = model_of([Contrib("BiasSplitGelu", [x, b])])
    (y,) = run_module(load_onnx(model), arrays)
    half, given = model_of([Contrib("Gelu", [(x + b)[..., 4:]])])
    (gate,) = run_module(load_onnx(half), given)
    assert disagreement(y, (x + b)[..., :4] * gate, "approximate") is None


def test_columns_have_the_zero_points_of_their_groups() -> None:
    """As the operator's text has it; ONNX Runtime 1.31 takes 8 for all of them where there is g_idx."""
    a, packed, scales, zeros = f(3, 96), u8(5, 3, 16), np.abs(f(15)), u8(10)
    group = np.random.default_rng(2).integers(0, 3, 96).astype(np.int32)
    attrs = {"K": 96, "N": 5, "bits": 4, "block_size": 32}
    model, arrays = model_of([Contrib("MatMulNBits", [a, packed, scales, zeros, group], attrs, (1, 2, 3, 4))])

    def halves(b: Array) -> Array:
        return np.stack([b & 15, b >> 4], -1).reshape(5, -1).astype(np.float32)

    weights = (halves(packed) - halves(zeros)[:, group]) * scales.reshape(5, 3)[:, group]
    (y,) = run_module(load_onnx(model), arrays)
    assert disagreement(y, a @ weights.T, "reordered", terms=96) is None


@pytest.mark.parametrize(("bits", "points", "dtype"), [(4, True, "u4"), (4, False, "u4"), (8, True, "u8")])
def test_weights_of_few_bits_stay_so(bits: int, points: bool, dtype: str) -> None:
    """They are unpacked once; kernels decode them as they multiply."""
    zeros = [u8(5 * -(-3 * bits // 8))] if points else []
    operands = [f(2, 80), u8(5, 3, 4 * bits), np.abs(f(15)), *zeros]
    attrs = {"K": 80, "N": 5, "bits": bits, "block_size": 32}
    model, _ = model_of([Contrib("MatMulNBits", operands, attrs, fixed=(1, 2, 3)[: 2 + len(zeros)])])
    module = load_onnx(model)
    aino.PassManager([FoldConstants(), EliminateDeadCode()]).run(module)
    (decode,) = (op for op in module.main.block if op.name == "quant.dequantize_groups")
    weights, scales, middle = decode.present_operands()
    assert [v.dtype.name for v in (weights, scales, middle)] == [dtype, "f32", dtype]
    assert [v.shape for v in (weights, scales, middle)] == [(5, 80), (5, 3), (5, 3)]
    assert all(constant_of(v) is not None for v in (weights, middle))


REFUSED = (
    (Contrib("Gelu", [f(2)], {"surprise": 1}), "attribute 'surprise'"),
    (Contrib("FusedConv", [f(1, 1, 3, 3), f(1, 1, 3, 3)], {"activation": "Mystery"}), "this activation"),
    (
        Contrib(
            "MatMulNBits", [f(2, 32), u8(4, 1, 16), f(4)], {"K": 32, "N": 4, "bits": 3, "block_size": 32}
        ),
        "3 bits",
    ),
    (
        Contrib(
            "MultiHeadAttention", [f(1, 2, 8), f(1, 3, 8), f(1, 3, 8)], {"num_heads": 2, "unidirectional": 1}
        ),
        "unidirectional and other keys",
    ),
    (Contrib("MultiHeadAttention", [f(1, 2, 8)], {"num_heads": 2}), "queries alone"),
    (Contrib("Attention", [f(2, 5, 12), f(12, 24)], {"num_heads": 2, "do_rotary": 1}), "rotary positions"),
    (
        Contrib(
            "MultiHeadAttention",
            [
                *[f(1, 1, 8)] * 3,
                *[None] * 3,
                *[f(1, 2, 4, 4)] * 2,
                np.array([1]),
                np.zeros((1, 1, 4), np.int32),
            ],
            {"num_heads": 2},
        ),
        "cache_indirection",
    ),
    (
        Contrib(
            "MultiHeadAttention",
            [*[f(1, 1, 8)] * 3, *[None] * 3, *[f(1, 2, 4, 4)] * 2, np.array([1], np.int32)],
            {"num_heads": 2, "unidirectional": 1},
        ),
        "unidirectional and past_sequence_length",
    ),
)


@pytest.mark.parametrize(("case", "what"), REFUSED)
def test_what_is_not_known_is_refused(case: Contrib, what: str) -> None:
    with pytest.raises(VariantUnsupported) as caught:
        load_onnx(model_of([case])[0])
    assert what in caught.value.message


def test_operators_without_a_row_are_named() -> None:
    with pytest.raises(UnsupportedOperators, match=r"com.microsoft.Sampling"):
        load_onnx(model_of([Contrib("Sampling", [f(2, 2)])])[0])


def test_symbolic_lengths_of_a_cache() -> None:
    case = next(c for c in CASES if c.kind == "GroupQueryAttention" and c.note == "token")
    model, arrays = model_of([case])
    for value in model.graph.input:
        if value.name in ("x0_3", "x0_4"):
            value.type.tensor_type.shape.dim[2].ClearField("dim_value")
            value.type.tensor_type.shape.dim[2].dim_param = "past"
    del model.graph.initializer[:]
    total = helper.make_tensor_value_info("x0_6", helper.np_dtype_to_tensor_dtype(np.dtype(np.int32)), [])
    model.graph.input.append(total)
    fixed, _ = model_of([case])
    given = [*arrays, np.array(5, np.int32)]
    got, want = run_module(load_onnx(model), given), run_module(load_onnx(fixed), arrays)
    assert all(disagreement(a, w, "reordered", terms=16) is None for a, w in zip(got, want, strict=True))
