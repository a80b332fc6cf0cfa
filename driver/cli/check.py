"""``ainoc check``: each operator of a model, and what becomes of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

import click

from aino_ir.driver.api import compile_options
from aino_ir.driver.cli.options import Bounds, dim_option, model_argument, target_option
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.coverage import check_model
from aino_ir.errors.usage import OperatorsUnsupported
from aino_ir.runtime.tables import format_table


@click.command()
@model_argument
@target_option
@dim_option
@common_options
@click.pass_obj
def command(shell: Shell, model: str, target: str, dims: Bounds) -> None:
    """List the operators of MODEL (.onnx, .pt2, .mlir or .air): types, and native, python or unsupported."""
    options = compile_options(target)
    rows = check_model(model, options.target, dims)
    counts = Counter(row.status for row in rows)
    lines = [(row.node, row.op, " ".join(row.types), row.status, row.reason) for row in rows]
    table = format_table(("node", "op", "types", "status", "why"), lines)
    tail = ", ".join(f"{count} {status}" for status, count in sorted(counts.items())) or "no operators"
    data = {"target": str(options.target), "nodes": [asdict(row) for row in rows], "counts": dict(counts)}
    shell.result(data, f"{table}\n{tail}")
    bad = [row for row in rows if row.status == "unsupported"]
    if bad:
        raise OperatorsUnsupported(
            count=len(bad), target=options.target, operators=", ".join(dict.fromkeys(row.op for row in bad))
        )
