"""``ainoc verify``: a compiled model beside the reference or another engine, on made-up inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from aino_ir.driver.cli.options import Bounds, compilation_options, input_options
from aino_ir.driver.cli.run import open_executable, sizes_of
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.compare import REFERENCES, compare_outputs, reference_outputs
from aino_ir.driver.inputs import inputs_for
from aino_ir.errors.usage import ArtifactIsNoModel, ResultsDisagree
from aino_ir.runtime.executable import Executable
from aino_ir.runtime.tables import format_table


@click.command()
@click.argument("x", type=click.Path())
@click.argument("model", type=click.Path(), required=False)
@click.option(
    "--against",
    type=click.Choice(tuple(REFERENCES)),
    default="reference",
    show_default=True,
    help="What to compare with.",
)
@input_options
@compilation_options
@common_options
@click.pass_obj
def command(
    shell: Shell,
    /,
    x: str,
    model: str | None,
    against: str,
    files: tuple[str, ...],
    seed: int | None,
    target: str,
    dims: Bounds,
    **options: Any,
) -> None:
    """Compile the model X (.onnx, .pt2, .mlir or .air), run it, and compare every output.

    X may also be an artifact (.aino): it is run as it is, and compared with MODEL, which it was made from.
    """
    if Path(x).suffix.lower() == ".aino" and model is None:
        raise ArtifactIsNoModel(path=x)
    with shell.progress() as progress:
        exe = open_executable(x, target, dims=dims, progress=progress, **options)
        inputs = inputs_for(
            exe.inputs, files, seed if seed is not None else 0, sizes_of(exe, dims), exe.defaults
        )
        actual = exe.run(inputs)
        progress(against, 0, 0)
        expected = reference_outputs(against, x if model is None else model, inputs, dims)
    compiled_for = exe.artifact.manifest.target if isinstance(exe, Executable) else ""
    rows = compare_outputs([name for name, _ in exe.outputs], actual, expected, compiled_for)
    lines = [(r.name, r.type, f"{r.error:.2e}", r.reason or "agrees") for r in rows]
    text = format_table(("output", "type", "max error / max|ref|", "verdict"), lines, right=(2,))
    data = [{"output": r.name, "type": r.type, "error": r.error, "reason": r.reason} for r in rows]
    shell.result({"against": against, "agrees": not any(r.reason for r in rows), "outputs": data}, text)
    for row in rows:
        if row.reason:
            raise ResultsDisagree(name=row.name, against=against, reason=row.reason)
