"""``ainoc run``: a model or an artifact on files or made-up inputs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click
import numpy as np

from aino_ir.driver import api
from aino_ir.driver.cli.options import Bounds, compilation_options, input_options
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.inputs import flat_values, inputs_for, write_arrays
from aino_ir.frontends.dim_specs import symbol_name
from aino_ir.runtime.executable import load_executable
from aino_ir.runtime.tables import format_table

REAL_KINDS = "fiubV"
"""Kinds of numpy dtypes that have a mean; V are those of ml_dtypes."""


@click.command()
@click.argument("x", type=click.Path())
@input_options
@click.option("--output", "-o", type=click.Path(), help="An .npz file for the outputs.")
@click.option(
    "--profile",
    "chrome",
    is_flag=False,
    flag_value="-",
    help="Print where the time goes, or write a Chrome trace to this file.",
)
@compilation_options
@common_options
@click.pass_obj
def command(
    shell: Shell,
    /,
    x: str,
    files: tuple[str, ...],
    seed: int | None,
    output: str | None,
    chrome: str | None,
    target: str,
    dims: Bounds,
    **options: Any,
) -> None:
    """Run X (.aino, or a model: .onnx, .pt2, .mlir or .air) once and show its outputs."""
    with shell.progress() as progress:
        exe = open_executable(x, target, dims=dims, progress=progress, **options)
    inputs = inputs_for(exe.inputs, files, seed, sizes_of(exe, dims), exe.defaults)
    start = time.perf_counter()
    results = dict(zip((name for name, _ in exe.outputs), exe.run(inputs), strict=False))
    seconds = time.perf_counter() - start
    if output is not None:
        write_arrays(Path(output), results)
    rows = [summary(*part) for name, value in results.items() for part in shown_parts(name, value)]
    headings = ("output", "type", "min", "mean", "max")
    lines = [tuple(row[h] for h in headings) for row in rows]
    text = format_table(headings, lines, right=(2, 3, 4))
    shell.result({"outputs": rows, "seconds": seconds, "file": output}, text)
    if chrome is not None:
        profile(shell, exe, inputs, chrome)


def open_executable(x: str, target: str, **options: Any) -> api.AnyExecutable:
    """An artifact as it is, a model compiled."""
    if Path(x).suffix.lower() == ".aino":
        return load_executable(x, options["threads"])
    return api.compile(x, target, **options)


def sizes_of(exe: api.AnyExecutable, dims: Bounds) -> dict[str, int]:
    """Sizes for made-up inputs: what --dim says (of a range the low end), else a symbol's least value."""
    sizes = {name: max(1, lo) for name, (lo, _) in exe.symbols.items()}
    for name, value in dims.items():
        size = value if isinstance(value, int) else max(1, value[0])
        sizes |= {name: size, symbol_name(name): size}
    return sizes


def shown_parts(name: str, value: Any) -> list[tuple[str, Any]]:
    """What is shown of an output: the elements of a list each, and that a value is absent."""
    return list(flat_values(name, value)) or [(name, value)]


def summary(name: str, value: Any) -> dict[str, Any]:
    """What is shown of an output."""
    row: dict[str, Any] = {"output": name, "type": type(value).__name__, "min": "", "mean": "", "max": ""}
    if isinstance(value, np.ndarray):
        row["type"] = f"{'string' if value.dtype == object else value.dtype}{list(value.shape)}"
        if value.size and value.dtype.kind in REAL_KINDS:
            wide = value.astype(np.float64)
            row |= {"min": f"{wide.min():.6g}", "mean": f"{wide.mean():.6g}", "max": f"{wide.max():.6g}"}
    return row


def profile(shell: Shell, exe: api.AnyExecutable, inputs: dict[str, Any], path: str) -> None:
    """Show or write a profile."""
    found = exe.profile(inputs)
    if path == "-":
        shell.note(str(found))
        return
    from aino_ir.driver.emit import write_text

    write_text(Path(path), found.to_chrome())
    shell.note(f"wrote {path} (open it in chrome://tracing or ui.perfetto.dev)")
