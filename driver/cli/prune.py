"""``ainoc prune``: a model with fewer weights, where that pays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aino_ir.driver import api
from aino_ir.driver.cli.options import Bounds, dim_option, guard_choice, guard_options, model_argument
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.emit import write_onnx, write_text
from aino_ir.driver.inputs import read_inputs
from aino_ir.driver.pruning import CHOICES, prune
from aino_ir.text import save


@click.command()
@model_argument
@click.option("-o", "--output", type=click.Path(), required=True, help="An .air or .onnx file.")
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
@click.option(
    "--calibration",
    multiple=True,
    metavar="F.npz",
    help="A calibration sample: arrays by input name; may be repeated.",
)
@click.option("--ignore", multiple=True, metavar="PATTERN", help="Layers that stay as they are.")
@click.option("--min-sqnr", type=float, help="Least signal-to-noise ratio in dB of the outputs.")
@guard_options("Prune also what gains nothing or breaks the floor.")
@click.option("--target", default="c", show_default=True, help="What times are for.")
@click.option("--report", type=click.Path(), help="A file for the report per layer, as JSON.")
@dim_option
@common_options
@click.pass_obj
def command(
    shell: Shell,
    /,
    model: str,
    output: str,
    calibration: tuple[str, ...],
    min_sqnr: float | None,
    report: str | None,
    dims: Bounds,
    **options: Any,
) -> None:
    """Prune MODEL (.onnx, .air or .pt2), print what became of each layer, and write the result."""
    samples = [read_inputs([path]) for path in calibration] or None
    if min_sqnr is not None:
        options["min_sqnr"] = min_sqnr
    pruned = prune(api.load(model, dims=dims), calibration=samples, guard=guard_choice(options), **options)
    outcome, place = pruned.compression, Path(output)
    path = str(write_onnx(pruned, place)[0] if place.suffix == ".onnx" else save(pruned, place))
    if report is not None:
        write_text(Path(report), outcome.to_json() + "\n")
    shell.result({**outcome.to_dict(), "file": path}, f"{outcome}\nwrote {path}")
