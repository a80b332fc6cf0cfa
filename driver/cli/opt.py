"""``ainoc opt``: passes on a model, and the module after them."""

from __future__ import annotations

from pathlib import Path

import click

from aino_ir.driver import api
from aino_ir.driver.cli.options import Bounds, dim_option, level_option, model_argument, target_option
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.emit import write_onnx
from aino_ir.driver.pipeline import Compilation
from aino_ir.passes.manager import PassManager
from aino_ir.passes.pipelines import pipeline
from aino_ir.text import print_module, save


@click.command()
@model_argument
@click.option(
    "--passes", "text", metavar="A{x=1},B", help="The passes, in order (default: those of --level)."
)
@click.option("-o", "--output", type=click.Path(), help="An .air or .onnx file for the module.")
@click.option(
    "--dump-after", default="", metavar="all|changed|PASS", help="Print the module after these passes."
)
@click.option(
    "--no-validate",
    "validate",
    flag_value=False,
    type=bool,
    default=True,
    help="Do not check rewrites by running them.",
)
@target_option
@dim_option
@level_option
@common_options
@click.pass_obj
def command(
    shell: Shell,
    model: str,
    text: str | None,
    output: str | None,
    dump_after: str,
    validate: bool,
    target: str,
    dims: Bounds,
    level: int,
    numerics: str,
) -> None:
    """Run passes on MODEL (.onnx, .pt2, .mlir or .air) and print the module, or write it."""
    options = api.compile_options(target, level=level, numerics=numerics)
    compilation = Compilation(options)
    dumps: list[tuple[str, str]] = []
    manager = PassManager(
        text if text is not None else pipeline(level, options.target),
        validate=validate,
        dump_after=dump_after,
        dump=lambda title, dumped: dumps.append((title, dumped)),
    )
    module = api.load(model, dims=dims).clone()
    report = manager.run(module, compilation.context())
    for title, dumped in dumps:
        shell.note(f"// {title}\n{dumped}")
    rows = [
        {"pass": r.name, "changed": r.changed, "seconds": round(r.seconds, 6), "rewrites": r.counters}
        for r in report.records
    ]
    data = {"passes": rows, "undone": report.undone, "ops": module.op_count(), "dumps": [t for t, _ in dumps]}
    if output is not None:
        place = Path(output)
        path = str(write_onnx(module, place)[0] if place.suffix == ".onnx" else save(module, place))
        shell.result({**data, "file": path}, f"{report}\nwrote {path}")
    else:
        shell.note(str(report))
        shell.result({**data, "module": print_module(module, elide=True)}, print_module(module, elide=True))
