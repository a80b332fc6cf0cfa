"""``ainoc compile``: a model to an artifact, or to C, IR, loops or ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aino_ir.driver import api
from aino_ir.driver.cli.options import compilation_options, model_argument
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.emit import KINDS, emit_files
from aino_ir.errors.usage import StrictRefused, TargetRunsNothing
from aino_ir.runtime.executable import Executable


@click.command()
@model_argument
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    help="Where to write (default: into this folder, named after the model).",
)
@compilation_options
@click.option(
    "--emit",
    "kind",
    type=click.Choice(KINDS),
    help="Write sources (C, CUDA C++, StableHLO, TVMScript), IR, loops or ONNX instead.",
)
@click.option(
    "--tune",
    type=click.FloatRange(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Measure candidates of kernels for so long (level 3: 20 seconds unless told otherwise).",
)
@click.option(
    "--no-libraries",
    "without_libraries",
    is_flag=True,
    help="On GPUs, do not measure cuBLAS beside AINO's kernels.",
)
@click.option("--strict", is_flag=True, help="An op without native code, or an undone pass, is an error.")
@common_options
@click.pass_obj
def command(
    shell: Shell,
    model: str,
    output: str | None,
    target: str,
    dims: api.Dims,
    threads: int | None,
    level: int,
    numerics: str,
    kind: str | None,
    tune: float,
    without_libraries: bool,
    strict: bool,
    cache: bool,
) -> None:
    """Compile MODEL (.onnx, .pt2, .mlir or .air)."""
    options: dict[str, Any] = {"level": level, "numerics": numerics, "strict": strict, "tune": tune}
    if without_libraries:
        options["libraries"] = ()
    place = Path(output) if output else default_output(model, kind)
    with shell.progress() as progress:
        if kind is not None:
            remarks: list[str] = []
            written = emit_files(
                model, kind, place, target, dims=dims, progress=progress, tell=remarks.append, **options
            )
            text = "\n".join([*(f"wrote {p}" for p in written), *remarks])
            shell.result({"files": [str(p) for p in written], "remarks": remarks}, text)
            return
        exe = api.compile(
            model, target, dims=dims, threads=threads, cache=cache, progress=progress, **options
        )
    if not isinstance(exe, Executable):
        raise TargetRunsNothing(target=target, what="writing an artifact")
    if strict and exe.report.undone:
        raise StrictRefused(undone=", ".join(str(u) for u in exe.report.undone))
    exe.save(place)
    size = place.stat().st_size
    report = exe.report.to_dict()
    interface = {
        "inputs": [f"{n}: {t}" for n, t in exe.inputs],
        "outputs": [f"{n}: {t}" for n, t in exe.outputs],
    }
    rest = size - exe.report.weight_bytes - exe.report.library_bytes
    parts = f"{exe.report.sizes()}, sources and manifest {rest}"
    text = f"wrote {place} ({size} bytes: {parts})\n" + "\n".join(
        f"{k[:-1]} {v}" for k in interface for v in interface[k]
    )
    shell.result(
        {"artifact": str(place), "bytes": size, **interface, "report": report}, f"{text}\n{exe.report}"
    )


def default_output(model: str, kind: str | None) -> Path:
    """Where the result goes when nothing is said: into the present folder, named after the model."""
    stem = Path(model).stem
    endings = {None: ".aino", "c": "_c", "onnx": ".opt.onnx", "tvm": "_tvm.py", "stablehlo": ".mlir"}
    return Path(stem + endings.get(kind, f".{kind}"))
