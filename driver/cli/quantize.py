"""``ainoc quantize``: a model in few bits, and what became of each layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aino_ir.driver.cli.options import (
    Bounds,
    dim_option,
    guard_choice,
    guard_options,
    model_argument,
    target_option,
)
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.emit import write_onnx
from aino_ir.errors.usage import BadArgument
from aino_ir.text import save

SCHEMES = ("int8", "int8-dynamic", "int8-weight", "int4-weight", "bf16")
CALIBRATORS = ("minmax", "percentile", "entropy", "mse")
ENDINGS = (".onnx", ".air")


@click.command()
@model_argument
@click.option(
    "-o", "--output", type=click.Path(), required=True, help="An .onnx or .air file for the result."
)
@click.option("--scheme", type=click.Choice(SCHEMES), default="int8", show_default=True)
@click.option(
    "--calibration",
    "files",
    multiple=True,
    metavar="NAME=F.npy|F.npz",
    help="One sample of the inputs, as for `ainoc run --input`; may be repeated.",
)
@click.option("--calibrator", type=click.Choice(CALIBRATORS), default="minmax", show_default=True)
@click.option("--per", type=click.Choice(("tensor", "channel", "group")), help="What shares a scale.")
@click.option("--group", type=click.IntRange(min=1), default=128, show_default=True, help="Size of a group.")
@click.option("--method", type=click.Choice(("rtn", "gptq")), default="rtn", show_default=True)
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Layers that stay; may be repeated.")
@click.option(
    "--min-sqnr",
    type=float,
    default=20.0,
    show_default=True,
    help="Least signal-to-noise ratio of the outputs in dB on the calibration data.",
)
@guard_options("Keep layers that do not pay, too.")
@click.option("--report", "place", type=click.Path(), help="Write the report of every layer here, as JSON.")
@target_option
@dim_option
@common_options
@click.pass_obj
def command(
    shell: Shell,
    /,
    model: str,
    output: str,
    files: tuple[str, ...],
    place: str | None,
    dims: Bounds,
    **options: Any,
) -> None:
    """Quantize MODEL (.onnx or .air) and say what became of each layer."""
    from aino_ir.driver.compression import quantize
    from aino_ir.driver.inputs import read_inputs

    target = Path(output)
    if target.suffix not in ENDINGS:
        reason = f"it ends with neither of {', '.join(ENDINGS)}"
        raise BadArgument(option="--output", text=output, reason=reason, sample="--output small.onnx")
    samples = [read_inputs([item]) for item in files]
    module = quantize(model, calibration=samples or None, dims=dims, guard=guard_choice(options), **options)
    outcome = module.compression
    written = write_onnx(module, target)[0] if target.suffix == ".onnx" else save(module, target)
    if place is not None:
        Path(place).write_text(outcome.to_json() + "\n")
    data = {"file": str(written), "report": outcome.to_dict()}
    shell.result(data, f"{outcome}\nwrote {written}")
