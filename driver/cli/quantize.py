"""``ainoc quantize``: a model in few bits, and what became of each layer."""

from __future__ import annotations

from typing import Any

import click

from aino_ir.driver.cli.compressed import (
    calibration_option,
    output_path,
    result_options,
    samples_of,
    write_results,
)
from aino_ir.driver.cli.options import (
    Bounds,
    dim_option,
    guard_choice,
    guard_options,
    model_argument,
    target_option,
)
from aino_ir.driver.cli.shell import Shell, common_options

SCHEMES = ("int8", "int8-dynamic", "int8-weight", "int4-weight", "bf16")
CALIBRATORS = ("minmax", "percentile", "entropy", "mse")


@click.command()
@model_argument
@result_options
@click.option("--scheme", type=click.Choice(SCHEMES), default="int8", show_default=True)
@calibration_option
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
@target_option
@dim_option
@common_options
@click.pass_obj
def command(
    shell: Shell,
    /,
    model: str,
    output: str | None,
    files: tuple[str, ...],
    report: str | None,
    dims: Bounds,
    **options: Any,
) -> None:
    """Quantize MODEL (.onnx, .air or .pt2) and say what became of each layer."""
    from aino_ir.driver.compression import quantize

    place = output_path(output)
    guard = guard_choice(options)
    module = quantize(model, calibration=samples_of(files), dims=dims, guard=guard, **options)
    write_results(shell, module, model, place, report)
