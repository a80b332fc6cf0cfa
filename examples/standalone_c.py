"""Write a model as plain C and call it from a C program: no Python and no AINO at run time."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from aino_ir.codegen.c.standalone import FLAGS
from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.runtime.store import opened_or_temporary
from examples.models import mlp

PROGRAM = r"""
#include <stdio.h>
#include <stdlib.h>
#include "example.h"

int main(void)
{
    static char weights[1 << 16] __attribute__((aligned(64)));
    float x[4 * 16], y[4 * 8];
    const void *in[] = {x};
    void *out[] = {y};
    example_context *context;
    FILE *file = fopen("example.weights", "rb");
    if (!file || !fread(weights, 1, sizeof weights, file) || example_create(weights, 1, &context))
        return 1;
    for (int i = 0; i < 4 * 16; i++)
        x[i] = 0.01f * i;
    int status = example_run(context, in, out);
    printf("%d: y[0] = %f %f %f ...\n", status, y[0], y[1], y[2]);
    example_destroy(context);
    return status;
}
"""

with tempfile.TemporaryDirectory() as temporary, opened_or_temporary(True) as store:
    folder = Path(temporary)
    model, code = mlp(folder / "mlp.onnx"), folder / "code"
    # The same as: ainoc compile mlp.onnx --emit c --target c:portable -o code
    ainoc = [sys.executable, "-m", "aino_ir.driver.cli"]
    subprocess.run(
        [*ainoc, "compile", model, "--emit", "c", "--target", "c:portable", "-o", code], check=True
    )
    print("written:", ", ".join(sorted(p.name for p in code.iterdir())))

    (code / "program.c").write_text(PROGRAM)
    sources = [p.name for p in code.glob("*.c") if p.name != "example_main.c"]
    toolchain = find_toolchain(store)  # cc, gcc, clang or zig: any of them will do
    subprocess.run(
        [*toolchain.argv, "-std=gnu11", "-O2", *FLAGS, *sources, "-o", "program", "-lm", "-lpthread"],
        cwd=code,
        check=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **dict(toolchain.environ)},
    )
    subprocess.run([code / "program"], cwd=code, check=True)
