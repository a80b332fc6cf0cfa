"""``ainoc targets``: what models can be compiled for, on this machine."""

from __future__ import annotations

from typing import Any

import click

from aino_ir.codegen.c.toolchain import find_toolchain
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.errors.base import AinoError
from aino_ir.runtime.store import opened_or_temporary
from aino_ir.runtime.tables import format_table
from aino_ir.isa import ISAS
from aino_ir.target import KNOWN_TARGETS, Host, detect_host, parse_target

WHAT = {
    "c": "C for this processor",
    "stablehlo": "StableHLO as text, run by XLA",
    "reference": "the interpreter: every op in Python on numpy",
    "null": "compiles as far as C text and runs nothing",
}
"""Target -> what it is."""


@click.command()
@common_options
@click.pass_obj
def command(shell: Shell) -> None:
    """List the targets, whether they run here, and the C compiler."""
    host = detect_host()
    rows = [target_row(name, host) for name in KNOWN_TARGETS]
    compiler = compiler_name()
    machine = {"arch": host.arch, "cpu": host.cpu, "cores": host.cores, "isa": host.isa().name}
    headings = ("target", "what", "runs here")
    table = format_table(headings, [tuple(row[h] for h in headings) for row in rows])
    processor = f"{host.cpu} ({host.arch}, {host.isa().name}, {host.cores} cores)"
    text = f"{table}\n\nprocessor: {processor}\ncompiler: {compiler}"
    shell.result({"targets": rows, "machine": machine, "compiler": compiler}, text)


def target_row(name: str, host: Host) -> dict[str, Any]:
    """One target: what it is, and whether its code runs on this machine."""
    try:
        target = parse_target(name, host)
    except AinoError as error:
        return {"target": name, "what": "C", "runs here": f"no: {error.message}"}
    missing = (
        host.missing(f for isa in target.variants[:1] for f in ISAS[isa].features)
        if target.name == "c"
        else ()
    )
    vectors = ", ".join(f"{isa} ({8 * ISAS[isa].vector_bytes} bit)" for isa in target.variants)
    what = WHAT.get(name) or f"C with vectors for {vectors}"
    runs = f"no: lacks {', '.join(missing)}" if missing else "no" if name == "null" else "yes"
    return {"target": name, "what": what, "runs here": runs}


def compiler_name() -> str:
    """The C compiler that would be used, or why there is none."""
    try:
        with opened_or_temporary() as store:
            toolchain = find_toolchain(store)
            return f"{toolchain} ({toolchain.command})"
    except AinoError as error:
        return f"none: {error.message}"
