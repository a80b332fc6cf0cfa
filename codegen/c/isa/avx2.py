"""AVX2 with FMA and F16C (x86-64-v3): 16- and 32-byte vectors, masked access for 32- and 64-bit lanes."""

from __future__ import annotations

from aino_ir.codegen.c.byte_moves import MOVES, move_name, shuffle_control
from aino_ir.codegen.c.isa.portable import SCALAR_ROWS
from aino_ir.codegen.c.isa.table import IsaTable, Rows, Spelling, builtin, elementwise

_FLOATS = (("f32x4", "ps", ""), ("f32x8", "ps", "256"), ("f64x2", "pd", ""), ("f64x4", "pd", "256"))
_ROUNDINGS = {"round": (8, "roundeven"), "floor": (9, "floor"), "ceil": (10, "ceil"), "trunc": (11, "trunc")}


_HALF = "__builtin_ia32_extract128i256"


def _arithmetic() -> Rows:
    rows: Rows = {}
    for type_, suffix, width in _FLOATS:
        rows["fma", type_] = (
            elementwise("fma", "a", "b", "c"),
            builtin(f"vfmadd{suffix}{width}", "a, b, c", last=True),
        )
        rows["sqrt", type_] = (elementwise("sqrt", "x"), builtin(f"sqrt{suffix}{width}", "x", last=True))
        rows["greater", type_] = (builtin(f"max{suffix}{width}", "a, b"),)
        rows["lesser", type_] = (builtin(f"min{suffix}{width}", "a, b"),)
        for op, (mode, name) in _ROUNDINGS.items():
            instruction = builtin(f"round{suffix}{width}", f"x, {mode}", last=True)
            rows[op, type_] = (elementwise(name, "x"), instruction)
    for op, name in {"round": "rint", "floor": "floor", "ceil": "ceil", "trunc": "trunc"}.items():
        rows[op, "f32"] = (Spelling("", f"__builtin_{name}f(x)"),)
        rows[op, "f64"] = (Spelling("", f"__builtin_{name}(x)"),)
    return rows


def _conversions() -> Rows:
    rows: Rows = {}
    for lanes, width in ((4, ""), (8, "256")):
        convert = f"__builtin_ia32_cvttps2dq{width}"
        # The instruction gives INT_MIN for what does not fit; x >= 2^31 flips it to INT_MAX, NaN clears it.
        text = f"({convert}(x) ^ (x >= 2147483648.0f)) & (x == x)"
        rows["to_i32", f"f32x{lanes}"] = (Spelling(convert, text),)
        rows["to_i32_bounded", f"f32x{lanes}"] = (Spelling(convert, f"{convert}(x) & (x == x)"),)
        nearest = f"__builtin_ia32_cvtps2dq{width}"
        rows["to_i32_rounded", f"f32x{lanes}"] = (Spelling(nearest, f"{nearest}(x) & (x == x)"),)
    rows["decode_f16", "f32x8"] = (
        builtin("vcvtph2ps256", "(i16x8)x"),
        Spelling("", "__builtin_convertvector((h16x8)x, f32x8)"),
    )
    rows["encode_f16", "f32x8"] = (builtin("vcvtps2ph256", "x, 0", result="u16x8"),)
    return rows


def _saturation() -> Rows:
    """Floats to bytes: what is too small, and NaN, arrives as the least integer, which packs to 0."""
    rows: Rows = {}
    narrow, packed = "__builtin_ia32_packssdw128", "__builtin_ia32_packuswb128"
    for op, convert in (("saturate_u8", "cvttps2dq256"), ("saturate_u8_rounded", "cvtps2dq256")):
        instruction = f"__builtin_ia32_{convert}"
        whole = f"{instruction}(__builtin_ia32_minps256((f32x8){{{', '.join(['255.0f'] * 8)}}}, x))"
        low, high = (
            f"__builtin_shufflevector({whole}, {whole}, {at})" for at in ("0, 1, 2, 3", "4, 5, 6, 7")
        )
        halves = f"{narrow}({low}, {high})"
        rows[op, "f32x8"] = (Spelling(instruction, f"(u8x8)((q64x2){packed}({halves}, {halves}))[0]"),)
    return rows


def _integer_conversions() -> Rows:
    """Between bytes and wider integers, which gcc takes apart; what cuts off keeps the lowest byte."""
    rows: Rows = {}
    shuffle, permute = "__builtin_ia32_pshufb256", "__builtin_ia32_permvarsi256"
    lowest = ", ".join(["0, 4, 8, 12", *["0"] * 12] * 2)
    packed = f"{permute}((i32x8){shuffle}((c8x32)x, (c8x32){{{lowest}}}), (i32x8){{0, 4, 0, 0, 0, 0, 0, 0}})"
    for dtype, letter in (("u8", "z"), ("i8", "s")):
        widen = f"__builtin_ia32_pmov{letter}xbd256"
        rows[f"convert_{dtype}", "i32x8"] = (Spelling(shuffle, f"({dtype}x8)((q64x4){packed})[0]"),)
        rows["convert_i32", f"{dtype}x8"] = (Spelling(widen, f"{widen}((c8x16)(q64x2){{(int64_t)x, 0}})"),)
        widen = f"__builtin_ia32_pmov{letter}xbw256"
        rows["convert_i16", f"{dtype}x16"] = (Spelling(widen, f"{widen}((c8x16)x)"),)
    rows["convert_i32", "i16x8"] = (builtin("pmovsxwd256", "x"),)
    rows["upper", "i16x16"] = (Spelling(_HALF, f"(i16x8){_HALF}((q64x4)x, 1)"),)
    return rows


def _byte_moves() -> Rows:
    rows: Rows = {}
    for lanes, width in ((4, "128"), (8, "256")):
        shuffle, bytes_ = f"__builtin_ia32_pshufb{width}", f"c8x{4 * lanes}"
        for move in MOVES:
            control = f"({bytes_}){{{shuffle_control(*move, lanes)}}}"
            text = f"(i32x{lanes}){shuffle}(({bytes_})x, {control})"
            rows[move_name(*move), f"i32x{lanes}"] = (Spelling(shuffle, text),)
    return rows


def _dots() -> Rows:
    """Bytes of even and odd place as 16 bits for vpmaddwd; vpmaddubsw for pairs that cannot saturate."""
    rows: Rows = {}
    for lanes, width in ((4, "128"), (8, "256")):
        word, half, byte = f"i32x{lanes}", f"i16x{2 * lanes}", f"c8x{4 * lanes}"
        add = f"__builtin_ia32_pmaddwd{width}"
        for dtype in "ui":
            raw = f"{dtype}16x{2 * lanes}"
            even = f"{add}(({half})((({raw})x << 8) >> 8), (({half})w << 8) >> 8)"
            odd = f"{add}(({half})(({raw})x >> 8), ({half})w >> 8)"
            rows[f"dot_{dtype}8", word] = (Spelling(add, f"acc + {even} + {odd}"),)
        products = f"__builtin_ia32_pmaddubsw{width}"
        rows["dot_pairs", half] = (Spelling(products, f"{products}(({byte})x, ({byte})w)"),)
        ones = f"({half}){{{', '.join(['1'] * 2 * lanes)}}}"
        rows["add_pairs", word] = (Spelling(add, f"acc + {add}(pairs, {ones})"),)
    return rows


def _half_dots() -> Rows:
    """bf16 as the upper halves of f32."""
    rows: Rows = {}
    for lanes, width in ((4, ""), (8, "256")):
        fused = f"__builtin_ia32_vfmaddps{width}"
        rows["dot_bf16", f"f32x{lanes}"] = (Spelling(fused, halves_summed(fused, lanes)),)
    return rows


def halves_summed(fused: str, lanes: int, rest: str = "") -> str:
    """Two fused multiply-adds of the odd and the even bf16 of x and w."""
    odd, even = (
        ", ".join(f"(f32x{lanes})((u32x{lanes}){v}{cut})" for v in "xw")
        for cut in (" & 0xffff0000u", " << 16")
    )
    return f"{fused}({even}, {fused}({odd}, acc{rest}){rest})"


_MASKED = (
    ("f32x4", "ps", "", "f32x4", "i32x4"),
    ("f32x8", "ps", "256", "f32x8", "i32x8"),
    ("f64x2", "pd", "", "f64x2", "q64x2"),
    ("f64x4", "pd", "256", "f64x4", "q64x4"),
    *((f"{s}32x4", "d", "", "i32x4", "i32x4") for s in "iu"),
    *((f"{s}32x8", "d", "256", "i32x8", "i32x8") for s in "iu"),
    *((f"{s}64x2", "q", "", "q64x2", "q64x2") for s in "iu"),
    *((f"{s}64x4", "q", "256", "q64x4", "q64x4") for s in "iu"),
)
"""Type, instruction suffix, width suffix, and what the builtin takes as value and as mask."""


def _masked_access() -> Rows:
    rows: Rows = {}
    for type_, suffix, width, value, mask in _MASKED:
        result = "" if value == type_ else type_
        asked = "mask" if mask.startswith("i") else f"({mask})mask"
        given = "x" if value == type_ else f"({value})x"
        rows["load_masked", type_] = (
            builtin(f"maskload{suffix}{width}", f"(const void *)p, {asked}", result=result),
        )
        rows["store_masked", type_] = (builtin(f"maskstore{suffix}{width}", f"(void *)p, {asked}, {given}"),)
    return rows


ROWS: Rows = {
    **SCALAR_ROWS,
    **_arithmetic(),
    **_conversions(),
    **_saturation(),
    **_integer_conversions(),
    **_byte_moves(),
    **_dots(),
    **_half_dots(),
    **_masked_access(),
}

AVX2 = IsaTable(macros=("__AVX2__", "__FMA__", "__F16C__"), flags="-mavx2 -mfma -mf16c", rows=ROWS)
