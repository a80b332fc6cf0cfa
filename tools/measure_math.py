"""Measure the vector math library and write docs/math.md.

    python tools/certify_math.py --stride 1 --json tools/math_f32.jsonl   # all f32 numbers: an hour
    python tools/measure_math.py                                          # seconds; needs mpmath

The f32 column is what `certify_math.py` found where its file has the function as it is now, else the
largest error of the sample here; the f64 column is the largest error of a sample.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from aino_ir.loops.evaluate import evaluate
from aino_ir.loops.expr_tree import walk
from aino_ir.loops.math import FUNCTIONS

try:
    from tools import math_reference as reference
except ImportError:  # run as a script: this folder is the first on the path
    import math_reference as reference  # type: ignore[no-redef]

ROOT = Path(__file__).resolve().parent.parent
PAGE, COMPILED = ROOT / "docs" / "math.md", ROOT / "tools" / "math_f32.jsonl"
Array = np.ndarray[Any, Any]

HEAD = """# Vector math

The elementary functions that generated code uses are AINO's own: `aino_ir/loops/math` holds each of
them once, as an expression of the loop language for f32 and f64 and any number of lanes. Every target
prints the same expression, with explicit fused multiply-adds and without branches, tables, calls of a
C library or fast-math flags, so results are the same bits everywhere, denormals included.

The table holds the largest error in units in the last place (ulp): the promised bound, and what was
measured. The column *of* says over which f32 numbers: all 2^32 or every 61st of them, run as compiled C
against the C library's double-precision functions (`python tools/certify_math.py`), or a sample that
holds the edges of the format, random bit patterns and the usual ranges. f64 figures are over such a
sample, against mpmath. NaN, infinities, overflow and the signs of zeros are exact for every function. Nodes
counts the operations of the f32 expression.

| function | computes | f32 bound | f32 measured | of | at | f64 bound | f64 measured | nodes |
|---|---|---|---|---|---|---|---|---|
"""

FOOT = """
The coefficients are minimax polynomials that `python tools/minimax.py --write` derives. This page is
written by `python tools/measure_math.py`.
"""

ROW = (
    "| {name} | {doc} | {bound32:g} | {measured32} | {of} | {where} "
    "| {bound64:g} | {measured64:.2f} | {nodes} |\n"
)


def arguments(dtype: str, arity: int, count: int) -> tuple[Array, ...]:
    """Sample points for a function of one or two arguments."""
    first = reference.sample(dtype, count, seed=11)
    if arity == 1:
        return (first,)
    rng = np.random.default_rng(12)
    near_one = np.exp2(rng.uniform(-1, 1, count) * 10.0 ** rng.uniform(-6, 0, count)).astype(first.dtype)
    large = (10.0 ** rng.uniform(-1, 8, count)).astype(first.dtype)
    second = reference.sample(dtype, count, seed=13)
    return np.concatenate([rng.permutation(first), near_one]), np.concatenate([second, large])


def compute(name: str, xs: tuple[Array, ...], dtype: str) -> Array:
    """The library's result."""
    return evaluate(reference.tree(name, dtype), args=xs)


def worst_f32(name: str) -> tuple[float, str]:
    """The largest sampled error and where."""
    xs = arguments("f32", FUNCTIONS[name].arity, 200_000)
    want = reference.double_reference(name, *(x.astype(np.float64) for x in xs))
    errors = reference.ulp_errors("f32", compute(name, xs, "f32"), want)
    worst = int(np.argmax(errors))
    return float(errors[worst]), ", ".join(f"{x[worst]:.6g}" for x in xs)


def worst_f64(name: str) -> float:
    """The largest sampled error where the exact value is finite and normal."""
    xs = arguments("f64", FUNCTIONS[name].arity, 2500)
    rough = reference.double_reference(name, *xs)
    keep = np.isfinite(rough) & (np.abs(rough) > 1e-300)
    for x in xs:
        keep &= np.isfinite(x) & (np.abs(x) > 1e-300)
    if name == "pow":
        keep &= xs[0] > 0
    if name == "fmod":
        errors = reference.ulp_errors("f64", compute(name, xs, "f64"), rough)
        return float(errors.max())
    xs = tuple(x[keep] for x in xs)
    exact = reference.exact_reference(name, *xs)
    return float(reference.ulp_errors("f64", compute(name, xs, "f64"), exact[:, 0], exact[:, 1]).max())


def _coverage(row: dict[str, Any] | None) -> str:
    if row is None:
        return "sample"
    return "all" if row["stride"] == 1 else f"1/{row['stride']}"


def page() -> str:
    """The text of docs/math.md."""
    rows = COMPILED.read_text(encoding="ascii").splitlines() if COMPILED.exists() else []
    compiled = {row["body"]: row for row in map(json.loads, rows)}
    text = HEAD
    for name, entry in sorted(FUNCTIONS.items()):
        found = compiled.get(reference.fingerprint(name))
        error, where = (
            worst_f32(name) if found is None else (found["ulp"], f"{float.fromhex(found['at']):.6g}")
        )
        text += ROW.format(
            name=f"`{name}`",
            doc=entry.doc.replace("|x|", "abs(x)"),
            bound32=entry.ulp["f32"],
            measured32=f"{error:.2f}",
            of=_coverage(found),
            where=where,
            bound64=entry.ulp["f64"],
            measured64=worst_f64(name),
            nodes=sum(1 for e in walk(reference.tree(name, "f32")) if e.children()),
        )
    return text + FOOT


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="ascii")
    print(PAGE.relative_to(ROOT))
