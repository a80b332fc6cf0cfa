"""What ``ainoc quantize`` and ``ainoc prune`` share: samples in, a model and a report out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from aino_ir.driver.cli.shell import Shell
from aino_ir.driver.emit import write_onnx, write_text
from aino_ir.driver.inputs import read_inputs
from aino_ir.errors.usage import BadArgument
from aino_ir.graph import Module
from aino_ir.text import save

F = TypeVar("F", bound=Callable[..., Any])

ENDINGS = (".onnx", ".air")

BESIDE = "-"
"""What ``--report`` without a file means: one beside the result."""


def result_options(function: F) -> F:
    """--output and --report."""
    output = click.option(
        "-o",
        "--output",
        type=click.Path(),
        help="An .onnx or .air file for the result; without it, only the report is made.",
    )
    report = click.option(
        "--report",
        type=click.Path(),
        is_flag=False,
        flag_value=BESIDE,
        metavar="[F.json]",
        help="Write the report of every layer, as JSON, to this file or beside the result.",
    )
    return output(report(function))


def calibration_option(function: F) -> F:
    """--calibration."""
    option = click.option(
        "--calibration",
        "files",
        multiple=True,
        metavar="NAME=F.npy|F.npz",
        help="One sample of the inputs, as for `ainoc run --input`; may be repeated.",
    )
    return option(function)


def output_path(output: str | None) -> Path | None:
    """Where the result goes.

    Raises:
        BadArgument: the file's ending names no format.
    """
    if output is None:
        return None
    path = Path(output)
    if path.suffix not in ENDINGS:
        reason = f"it ends with neither of {', '.join(ENDINGS)}"
        raise BadArgument(option="--output", text=output, reason=reason, sample="--output small.onnx")
    return path


def samples_of(files: tuple[str, ...]) -> list[dict[str, Any]] | None:
    """Calibration data: one sample a file; None without any."""
    return [read_inputs([item], "--calibration") for item in files] or None


def write_results(shell: Shell, module: Module, model: str, output: Path | None, report: str | None) -> None:
    """Print what became of each layer, and write what was asked for."""
    outcome, told = module.compression, []
    data: dict[str, Any] = {"report": outcome.to_dict()}
    if output is not None:
        place = write_onnx(module, output)[0] if output.suffix == ".onnx" else save(module, output)
        data["file"] = str(place)
        told.append(f"wrote {place}")
    if report is not None:
        beside = (output or Path(Path(model).name)).with_suffix(".report.json")
        written = beside if report == BESIDE else Path(report)
        write_text(written, outcome.to_json() + "\n")
        data["report_file"] = str(written)
        told.append(f"wrote {written}")
    if not told:
        told.append("nothing was written: give -o for the model, --report for the report")
    shell.result(data, "\n".join([str(outcome), *told]))
