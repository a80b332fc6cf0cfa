"""C for AVX-512 with VNNI made runnable without it: its instructions as loops over lanes.

The unit's own text is what is compiled; only the builtins that it asks for are replaced by functions that do
what the processor's manual says of the instruction, and those that are not emulated count as absent.
"""

from __future__ import annotations

import re

EMULATED = {
    "vpdpbusd_v16si": """
static inline i32x16 emulated_vpdpbusd_v16si(i32x16 acc, i32x16 x, i32x16 w)
{
    const union { i32x16 lanes; unsigned char bytes[64]; } a = {x};
    const union { i32x16 lanes; signed char bytes[64]; } b = {w};
    for (int i = 0; i < 64; ++i)
        acc[i / 4] += (int)a.bytes[i] * (int)b.bytes[i];
    return acc;
}""",
    "maxps512_mask": """
static inline f32x16 emulated_maxps512_mask(f32x16 a, f32x16 b, f32x16 rest, int mask, int mode)
{
    (void)rest, (void)mask, (void)mode;
    for (int i = 0; i < 16; ++i)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}""",
    "minps512_mask": """
static inline f32x16 emulated_minps512_mask(f32x16 a, f32x16 b, f32x16 rest, int mask, int mode)
{
    (void)rest, (void)mask, (void)mode;
    for (int i = 0; i < 16; ++i)
        a[i] = a[i] < b[i] ? a[i] : b[i];
    return a;
}""",
    "rndscaleps_mask": """
static inline f32x16 emulated_rndscaleps_mask(f32x16 x, int how, f32x16 rest, int mask, int mode)
{
    (void)rest, (void)mask, (void)mode, (void)how;
    for (int i = 0; i < 16; ++i)
        x[i] = __builtin_rintf(x[i]);
    return x;
}""",
    "cvtps2dq512_mask": """
static inline i32x16 emulated_cvtps2dq512_mask(f32x16 x, i32x16 y, int mask, int mode)
{
    (void)mask, (void)mode;
    for (int i = 0; i < 16; ++i)
        y[i] = x[i] >= -0x1p31f && x[i] < 0x1p31f ? (int)__builtin_rintf(x[i]) : -0x7fffffff - 1;
    return y;
}""",
    "cvttps2dq512_mask": """
static inline i32x16 emulated_cvttps2dq512_mask(f32x16 x, i32x16 y, int mask, int mode)
{
    (void)mask, (void)mode;
    for (int i = 0; i < 16; ++i)
        y[i] = x[i] >= -0x1p31f && x[i] < 0x1p31f ? (int)x[i] : -0x7fffffff - 1;
    return y;
}""",
    "pmaxsd512_mask": """
static inline i32x16 emulated_pmaxsd512_mask(i32x16 a, i32x16 b, i32x16 rest, int mask)
{
    (void)rest, (void)mask;
    for (int i = 0; i < 16; ++i)
        a[i] = a[i] > b[i] ? a[i] : b[i];
    return a;
}""",
    "pmovdb512_mask": """
static inline c8x16 emulated_pmovdb512_mask(i32x16 x, c8x16 y, int mask)
{
    (void)mask;
    for (int i = 0; i < 16; ++i)
        y[i] = (char)x[i];
    return y;
}""",
}
"""Builtin, without its prefix -> a function that does the same."""

BF16_ASSEMBLY = '__asm__("vdpbf16ps %2, %1, %0" : "+v"(acc) : "v"(x), "v"(w));'
BF16_NAMES = ("dpbf16ps_v16sf", "dpbf16ps_512")
BF16_FUNCTION = """
static inline f32x16 emulated_vdpbf16ps(f32x16 acc, u16x32 x, u16x32 w)
{
    for (int i = 0; i < 16; ++i) {
        for (int place = 1; place >= 0; --place) {
            const union { unsigned bits; float value; } a = {(unsigned)x[2 * i + place] << 16};
            const union { unsigned bits; float value; } b = {(unsigned)w[2 * i + place] << 16};
            acc[i] = __builtin_fmaf(a.value, b.value, acc[i]);
        }
    }
    return acc;
}"""
"""The instruction that is spelled in assembly, how it is asked for, and a function that does the same."""

PREFIX = "__builtin_ia32_"


def emulated(text: str) -> str:
    """A unit for avx512vnni or avx512bf16 as one that any processor runs."""
    head, guard, body = text.partition("#if !defined(__AVX512F__)")
    assert guard, "the unit is for another instruction set"
    body = body.partition("#endif")[2]
    known = {*EMULATED, *BF16_NAMES}
    body = re.sub(r"__has_builtin\((\w+)\)", lambda m: str(int(m[1].removeprefix(PREFIX) in known)), body)
    body = body.replace(BF16_ASSEMBLY, "acc = emulated_vdpbf16ps(acc, x, w);")
    for name in EMULATED:
        body = body.replace(f"{PREFIX}{name}(", f"emulated_{name}(")
    functions = "\n".join(f for name, f in EMULATED.items() if f"emulated_{name}(" in body)
    functions += BF16_FUNCTION if "emulated_vdpbf16ps(" in body else ""
    types = (
        "typedef float f32x16 __attribute__((vector_size(64)));\n"
        "typedef char c8x16 __attribute__((vector_size(16)));\n"
        "typedef int i32x16 __attribute__((vector_size(64)));\n"
        "typedef unsigned short u16x32 __attribute__((vector_size(64)));"
    )
    quiet = '#pragma GCC diagnostic ignored "-Wpsabi"'
    return "\n".join((head, quiet, types, functions, body))
