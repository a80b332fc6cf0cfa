"""Measure the vector math library over the f32 numbers, as the C code that AINO prints for it.

    python tools/certify_math.py                    # every 61st f32 number, all functions of one argument
    python tools/certify_math.py --stride 1 exp log # all 2^32 numbers (about two minutes a function)

Prints one row per function: the largest error in units in the last place against the C library's
double-precision function, where it lies, and how many results were wrong at a special value (NaN,
infinity, overflow, sign of zero).  Exits with 1 when a promised bound is broken.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from aino_ir.codegen.c.unit import print_unit
from aino_ir.dtypes import f32
from aino_ir.loops.builder import LoopBuilder
from aino_ir.loops.expr import call
from aino_ir.loops.math import FUNCTIONS
from aino_ir.loops.stmt import Access, LoopFn
from aino_ir.target import parse_target

try:
    from tools.math_reference import fingerprint
except ImportError:  # run as a script: this folder is the first on the path
    from math_reference import fingerprint  # type: ignore[no-redef]

BLOCK, LANES = 1 << 14, 8

REFERENCES = {
    "sigmoid": "1 / (1 + exp(-x))",
    "silu": "x / (1 + exp(-x))",
    "softplus": "fmax(x, 0) + log1p(exp(-fabs(x)))",
    "gelu": "x * 0.5 * erfc(-x * 0.70710678118654752440)",
    "gelu_tanh": "(double)gelu_tanh_long(x)",
}
"""C expressions of x for what the C library lacks; the others are its functions of the same name."""

MAIN = """
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>

static long double gelu_tanh_long(long double x)
{
    const long double slope = 1.59576912160573071175978423973752L;
    return x / (1 + expl(-slope * (x + 0.044715L * x * x * x)));
}

@REFERENCES@

typedef void kernel(void *const *, const int64_t *, void *, int64_t, int64_t);
@DECLARATIONS@

static const struct { const char *name; kernel *run; double (*reference)(double); } table[] = {
@TABLE@
};

/* Edge cases: NaN, infinity, overflow, zeros of the other sign. */
static double special_error(float got, double want)
{
    if (isnan(want) || isinf(want))
        return isnan(want) ? (isnan(got) ? 0 : INFINITY) : (got == want ? 0 : INFINITY);
    if (fabs(want) >= 0x1.ffffffp127)
        return isinf(got) && !signbit(got) == !signbit(want) ? 0 : INFINITY;
    if (isnan(got) || (got == 0 && want == 0 && !signbit(got) != !signbit(want)))
        return INFINITY;
    return ldexp(fabs(got - want), fabs(want) < 0x1p-126 ? 149 : 23 - ilogb(want));
}

static double error(float got, double want)
{
    uint64_t bits;
    double per_ulp;
    memcpy(&bits, &want, 8);
    const uint64_t exponent = bits >> 52 & 0x7ff;
    if (exponent < 1023 - 126 || exponent > 1023 + 126 || !isfinite(got))
        return special_error(got, want);
    bits = (2 * 1023 + 23 - exponent) << 52;
    memcpy(&per_ulp, &bits, 8);
    return fabs(got - want) * per_ulp;
}

int main(int argc, char **argv)
{
    static float x[@BLOCK@] __attribute__((aligned(64))), y[@BLOCK@] __attribute__((aligned(64)));
    void *const views[] = {x, y};
    const uint64_t stride = strtoull(argv[1], 0, 10);
    const int index = atoi(argv[2]);
    double worst = 0;
    float where = 0;
    uint64_t special = 0, tried = 0;
    for (uint64_t start = 0; start < UINT64_C(1) << 32; start += @BLOCK@ * stride) {
        for (int i = 0; i < @BLOCK@; i++) {
            const uint64_t bits = start + (uint64_t)i * stride;
            const uint32_t number = bits >> 32 ? 0x7fc00000u : (uint32_t)bits;
            memcpy(&x[i], &number, 4);
        }
        table[index].run(views, 0, 0, 0, @BLOCK@ / @LANES@);
        for (int i = 0; i < @BLOCK@; i++) {
            const double e = error(y[i], table[index].reference(x[i]));
            tried++;
            if (isinf(e)) {
                if (special++ == 0)
                    fprintf(stderr, "%s(%a) = %a\\n", table[index].name, x[i], y[i]);
            } else if (e > worst) {
                worst = e;
                where = x[i];
            }
        }
    }
    printf("{\\"function\\": \\"%s\\", \\"tried\\": %llu, ", table[index].name, (unsigned long long)tried);
    printf("\\"ulp\\": %.4f, \\"at\\": \\"%a\\", ", worst, where);
    printf("\\"special\\": %llu}\\n", (unsigned long long)special);
    return argc < 0;
}
"""


def kernel(name: str) -> LoopFn:
    """y = function(x) over a block of f32 numbers."""
    b = LoopBuilder(f"math_{name}")
    x, y = b.param("x", f32, BLOCK), b.param("y", f32, BLOCK, Access.WRITE)
    with b.units(BLOCK // LANES) as unit:
        b.store(y, unit * LANES, call(name, b.load(x, unit * LANES, LANES)))
    return b.finish()


def main_text(names: list[str], kernels: list[LoopFn]) -> str:
    """The driver of the kernels."""
    references = "\n".join(
        f"static double ref_{n}(double x) {{ return {REFERENCES.get(n, f'{n}(x)')}; }}" for n in names
    )
    declarations = "\n".join(f"kernel {k.name};" for k in kernels)
    table = "\n".join(f'    {{"{n}", {k.name}, ref_{n}}},' for n, k in zip(names, kernels, strict=True))
    text = MAIN.replace("@REFERENCES@", references).replace("@DECLARATIONS@", declarations)
    return text.replace("@TABLE@", table).replace("@BLOCK@", str(BLOCK)).replace("@LANES@", str(LANES))


def build(names: list[str], isa: str, folder: Path, cc: str) -> Path:
    """Compile kernels and driver to a program; its arguments are stride and function index."""
    kernels = [kernel(n) for n in names]
    (target,) = [parse_target(f"c:{isa}")]
    (folder / "kernels.c").write_text(print_unit(kernels, target), encoding="ascii")
    (folder / "main.c").write_text(main_text(names, kernels), encoding="ascii")
    flags = ["-O2", "-std=gnu11", "-ffp-contract=off", "-fwrapv", "-Wno-psabi"]
    machine = ["-mavx2", "-mfma", "-mbmi", "-mbmi2", "-mf16c"] if isa == "avx2" else []
    program = folder / "certify"
    sources = [str(folder / "kernels.c"), str(folder / "main.c")]
    subprocess.run([cc, *flags, *machine, *sources, "-o", str(program), "-lm"], check=True)
    return program


def main() -> int:
    """Command line."""
    unary = [f.name for f in FUNCTIONS.values() if f.arity == 1]
    parser = argparse.ArgumentParser(description="largest errors of the f32 vector math functions in C")
    parser.add_argument("names", nargs="*", metavar="FUNCTION", help="functions (default: all)")
    parser.add_argument("--stride", type=int, default=61, help="take every n-th f32 number; 1 takes all")
    parser.add_argument("--isa", default="avx2", choices=["avx2", "portable"])
    parser.add_argument("--cc", default="cc", help="the C compiler")
    parser.add_argument("--json", type=Path, help="also append the rows to this file")
    options = parser.parse_args()
    names = options.names or unary
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        program = build(names, options.isa, Path(folder), options.cc)
        for index, name in enumerate(names):
            run = subprocess.run(
                [str(program), str(options.stride), str(index)], check=True, stdout=subprocess.PIPE, text=True
            )
            row = json.loads(run.stdout)
            bound = FUNCTIONS[name].ulp["f32"]
            broken = row["ulp"] > bound or row["special"] > 0
            failed |= broken
            mark = "BROKEN" if broken else ""
            print(
                f"{name:10} {row['ulp']:8.4f} ulp (bound {bound}) at {row['at']:16} "
                f"special {row['special']} of {row['tried']} {mark}",
                flush=True,
            )
            if options.json:
                with options.json.open("a", encoding="ascii") as out:
                    facts = {"stride": options.stride, "isa": options.isa, "body": fingerprint(name)}
                    out.write(json.dumps(row | facts) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
