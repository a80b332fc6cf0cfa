"""``ainoc prune``: a model with fewer weights, where that pays."""

from __future__ import annotations

from typing import Any

import click

from aino_ir.driver import api
from aino_ir.driver.cli.compressed import (
    calibration_option,
    output_path,
    result_options,
    samples_of,
    write_results,
)
from aino_ir.driver.cli.options import Bounds, dim_option, guard_choice, guard_options, model_argument
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.pruning import CHOICES, prune


@click.command()
@model_argument
@result_options
@click.option("--sparsity", type=float, help="Share of weights, channels or heads to remove, 0 to below 1.")
@click.option("--threshold", type=float, help="Instead: the absolute value below which weights go.")
@click.option(
    "--structure",
    default="unstructured",
    show_default=True,
    metavar="unstructured|channel|head|N:M|block:RxC",
    help="What is removed together.",
)
@click.option("--scope", type=click.Choice(CHOICES["scope"]), default="global", show_default=True)
@click.option("--criterion", type=click.Choice(CHOICES["criterion"]), default="magnitude", show_default=True)
@calibration_option
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Layers that stay as they are.")
@click.option("--min-sqnr", type=float, help="Least signal-to-noise ratio in dB of the outputs.")
@guard_options("Prune also what gains nothing or breaks the floor.")
@click.option("--target", default="c", show_default=True, help="What times are for.")
@dim_option
@common_options
@click.pass_obj
def command(
    shell: Shell,
    /,
    model: str,
    output: str | None,
    files: tuple[str, ...],
    min_sqnr: float | None,
    report: str | None,
    dims: Bounds,
    **options: Any,
) -> None:
    """Prune MODEL (.onnx, .air or .pt2) and say what became of each layer."""
    place = output_path(output)
    if min_sqnr is not None:
        options["min_sqnr"] = min_sqnr
    guard = guard_choice(options)
    pruned = prune(api.load(model, dims=dims), calibration=samples_of(files), guard=guard, **options)
    write_results(shell, pruned, model, place, report)
