"""AVX-512 F, BW, DQ, VL (x86-64-v4): 64-byte vectors and masked access for every lane width."""

from __future__ import annotations

from aino_ir.codegen.c.isa.avx2 import ROWS as AVX2_ROWS
from aino_ir.codegen.c.isa.avx2 import halves_summed
from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling, builtin, elementwise

_FLOATS = (("f32x16", "ps", "f32"), ("f64x8", "pd", "f64"))
_ROUNDINGS = {"round": (8, "roundeven"), "floor": (9, "floor"), "ceil": (10, "ceil"), "trunc": (11, "trunc")}
_CURRENT = 4
"""Rounding-mode argument that means the current mode."""


def _arithmetic() -> Rows:
    rows: Rows = {}
    for type_, suffix, _ in _FLOATS:
        rows["fma", type_] = (
            elementwise("fma", "a", "b", "c"),
            builtin(f"vfmadd{suffix}512_mask", f"a, b, c, -1, {_CURRENT}", last=True),
        )
        rows["sqrt", type_] = (
            elementwise("sqrt", "x"),
            builtin(f"sqrt{suffix}512_mask", f"x, x, -1, {_CURRENT}", last=True),
        )
        for op, name in (("greater", "max"), ("lesser", "min")):
            rows[op, type_] = (
                builtin(f"{name}{suffix}512", f"a, b, {_CURRENT}"),
                builtin(f"{name}{suffix}512_mask", f"a, b, a, -1, {_CURRENT}"),
            )
        for op, (mode, name) in _ROUNDINGS.items():
            rows[op, type_] = (
                elementwise(name, "x"),
                builtin(f"rndscale{suffix}_mask", f"x, {mode}, x, -1, {_CURRENT}", last=True),
            )
    return rows


def _conversions() -> Rows:
    convert, nearest = "__builtin_ia32_cvttps2dq512_mask", "__builtin_ia32_cvtps2dq512_mask"
    whole = f"{convert}(x, (i32x16){{0}}, -1, {_CURRENT})"
    return {
        ("to_i32", "f32x16"): (Spelling(convert, f"({whole} ^ (x >= 2147483648.0f)) & (x == x)"),),
        ("to_i32_bounded", "f32x16"): (Spelling(convert, f"{whole} & (x == x)"),),
        ("to_i32_rounded", "f32x16"): (
            Spelling(nearest, f"{nearest}(x, (i32x16){{0}}, -1, {_CURRENT}) & (x == x)"),
        ),
        ("decode_f16", "f32x16"): (
            builtin("vcvtph2ps512_mask", f"(i16x16)x, (f32x16){{0}}, -1, {_CURRENT}"),
        ),
        ("encode_f16", "f32x16"): (builtin("vcvtps2ph512_mask", "x, 0, (i16x16){0}, -1", result="u16x16"),),
    }


def _integer_conversions() -> Rows:
    """As of AVX2, with 64-byte vectors."""
    rows: Rows = {}
    for dtype, letter in (("u8", "z"), ("i8", "s")):
        for target, size, lanes in (("i16", "w", 32), ("i32", "d", 16)):
            widen = f"__builtin_ia32_pmov{letter}xb{size}512_mask"
            given = f"(c8x{lanes})x, ({target}x{lanes}){{0}}, -1"
            rows[f"convert_{target}", f"{dtype}x{lanes}"] = (Spelling(widen, f"{widen}({given})"),)
        narrow = "__builtin_ia32_pmovdb512_mask"
        rows[f"convert_{dtype}", "i32x16"] = (Spelling(narrow, f"({dtype}x16){narrow}(x, (c8x16){{0}}, -1)"),)
    rows["convert_i32", "i16x16"] = (builtin("pmovsxwd512_mask", "x, (i32x16){0}, -1"),)
    half = "__builtin_ia32_extracti64x4_mask"
    rows["upper", "i16x32"] = (Spelling(half, f"(i16x16){half}((q64x8)x, 1, (q64x4){{0}}, -1)"),)
    return rows


def _saturation() -> Rows:
    """As of AVX2; what is too small, and NaN, arrives as the least integer."""
    rows: Rows = {}
    ends, least, narrow = (f"__builtin_ia32_{op}_mask" for op in ("minps512", "pmaxsd512", "pmovdb512"))
    top = f"(f32x16){{{', '.join(['255.0f'] * 16)}}}"
    for op, convert in (("saturate_u8", "cvttps2dq512_mask"), ("saturate_u8_rounded", "cvtps2dq512_mask")):
        cut = f"{ends}({top}, x, (f32x16){{0}}, -1, {_CURRENT})"
        whole = f"__builtin_ia32_{convert}({cut}, (i32x16){{0}}, -1, {_CURRENT})"
        natural = f"{least}({whole}, (i32x16){{0}}, (i32x16){{0}}, -1)"
        rows[op, "f32x16"] = (Spelling(least, f"(u8x16){narrow}({natural}, (c8x16){{0}}, -1)"),)
    return rows


def _dots() -> Rows:
    """As of AVX2, with 64-byte vectors."""
    add, pairs = "__builtin_ia32_pmaddwd512_mask", "__builtin_ia32_pmaddubsw512_mask"

    def summed(a: str, b: str) -> str:
        return f"{add}({a}, {b}, (i32x16){{0}}, -1)"

    rows: Rows = {}
    for dtype in "ui":
        raw = f"{dtype}16x32"
        even = summed(f"(i16x32)((({raw})x << 8) >> 8)", "((i16x32)w << 8) >> 8")
        odd = summed(f"(i16x32)(({raw})x >> 8)", "(i16x32)w >> 8")
        rows[f"dot_{dtype}8", "i32x16"] = (Spelling(add, f"acc + {even} + {odd}"),)
    rows["dot_pairs", "i16x32"] = (Spelling(pairs, f"{pairs}((c8x64)x, (c8x64)w, (i16x32){{0}}, -1)"),)
    ones = f"(i16x32){{{', '.join(['1'] * 32)}}}"
    rows["add_pairs", "i32x16"] = (Spelling(add, f"acc + {summed('pairs', ones)}"),)
    return rows


def _half_dots() -> Rows:
    """As of AVX2, with 64-byte vectors."""
    fused = "__builtin_ia32_vfmaddps512_mask"
    return {("dot_bf16", "f32x16"): (Spelling(fused, halves_summed(fused, 16, f", -1, {_CURRENT}")),)}


_INTEGER_ACCESS = {
    8: ("qi", "c8", "b"),
    16: ("hi", "i16", "w"),
    32: ("si", "i32", "d"),
    64: ("di", "q64", "q"),
}
"""Bits -> builtin suffix, element type that it takes, letter in the name of the mask conversion."""

_FLOAT_ACCESS = {"f32": ("ps", "si", 32), "f64": ("pd", "di", 64)}


def _mask_register(bits: int, lanes: int) -> str:
    _, element, letter = _INTEGER_ACCESS[bits]
    width = bits * lanes
    return f"__builtin_ia32_cvt{letter}2mask{width}(({element}x{lanes})mask)"


def _integer_access(dtype: str, bits: int, lanes: int) -> Rows:
    suffix, element, _ = _INTEGER_ACCESS[bits]
    width, type_, value = bits * lanes, f"{dtype}x{lanes}", f"{element}x{lanes}"
    register = _mask_register(bits, lanes)
    name = f"loaddqu{suffix}{width}_mask"
    store = f"storedqu{suffix}{width}_mask"
    return {
        ("load_masked", type_): (
            builtin(name, f"(const void *)p, ({value}){{0}}, {register}", result=type_),
        ),
        ("store_masked", type_): (builtin(store, f"(void *)p, ({value})x, {register}"),),
    }


def _float_access(dtype: str, lanes: int) -> Rows:
    suffix, _, bits = _FLOAT_ACCESS[dtype]
    width, type_ = bits * lanes, f"{dtype}x{lanes}"
    register = _mask_register(bits, lanes)
    load, store = f"loadu{suffix}{width}_mask", f"storeu{suffix}{width}_mask"
    return {
        ("load_masked", type_): (builtin(load, f"(const void *)p, ({type_}){{0}}, {register}"),),
        ("store_masked", type_): (builtin(store, f"(void *)p, x, {register}"),),
    }


def _masked_access() -> Rows:
    rows: Rows = {}
    for width in (128, 256, 512):
        for bits in _INTEGER_ACCESS:
            for sign in "iu":
                rows |= _integer_access(f"{sign}{bits}", bits, width // bits)
        for dtype, (_, _, bits) in _FLOAT_ACCESS.items():
            rows |= _float_access(dtype, width // bits)
    return rows


ROWS: Rows = {
    **AVX2_ROWS,
    **_arithmetic(),
    **_conversions(),
    **_saturation(),
    **_integer_conversions(),
    **_dots(),
    **_half_dots(),
    **_masked_access(),
}

AVX512 = IsaTable(
    macros=("__AVX512F__", "__AVX512BW__", "__AVX512DQ__", "__AVX512VL__", "__FMA__", "__F16C__"),
    flags="-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512",
    rows=ROWS,
)
