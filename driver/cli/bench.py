"""``ainoc bench``: a model in several engines, side by side."""

from __future__ import annotations

from pathlib import Path

import click

from aino_ir.driver import api
from aino_ir.driver.bench import ROUNDS, SECONDS_PER_ROUND, compare, describe_machine, render
from aino_ir.driver.bench_worker import ENGINES
from aino_ir.driver.cli.options import Bounds, dim_option, input_options
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.driver.inputs import inputs_for
from aino_ir.errors.bench import EngineFailed
from aino_ir.runtime.executable import default_threads


@click.command()
@click.argument("model", type=click.Path())
@click.option(
    "--vs",
    default="onnxruntime",
    show_default=True,
    metavar="ENGINE,...",
    help=f"Other engines: {', '.join(name for name in ENGINES if name != 'aino')}.",
)
@click.option(
    "--rounds", type=click.IntRange(min=1), default=ROUNDS, show_default=True, help="Turns of each engine."
)
@click.option("--seconds", type=float, default=SECONDS_PER_ROUND, show_default=True, help="Length of a turn.")
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of every engine (default: AINO_THREADS, else the CPUs at hand).",
)
@input_options
@dim_option
@common_options
@click.pass_obj
def command(
    shell: Shell,
    model: str,
    vs: str,
    rounds: int,
    seconds: float,
    threads: int | None,
    files: tuple[str, ...],
    seed: int | None,
    dims: Bounds,
) -> None:
    """Measure MODEL (.onnx) in AINO and in other engines, which take turns; print medians and ratios."""
    main = api.load(model, dims=dims).main
    interface = [(n, v.type) for n, v in zip(main.input_names, main.inputs, strict=False)]
    sizes = {name: value if isinstance(value, int) else value[0] for name, value in dims.items()}
    inputs = inputs_for(interface, files, seed if seed is not None else 0, sizes, main.defaults)
    engines = ["aino", *(name.strip() for name in vs.split(",") if name.strip())]
    comparison = compare(
        Path(model),
        inputs,
        engines,
        threads=threads if threads is not None else default_threads(),
        rounds=rounds,
        seconds=seconds,
        progress=None if shell.json else shell.note,
    )
    ours = comparison.results["aino"]
    machine = describe_machine()
    facts = ", ".join(f"{key}: {value}" for key, value in machine.items())
    shell.result(
        {**comparison.to_json(), "machine": machine}, f"{shell.rendered(render(comparison))}\n{facts}"
    )
    if ours.error:
        raise EngineFailed(name="aino", reason=ours.error)
