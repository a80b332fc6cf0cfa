"""Options that several verbs take, and how their text is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from aino_ir.driver.kernel_costs import GUARDS
from aino_ir.errors.usage import BadArgument

F = TypeVar("F", bound=Callable[..., Any])
Bounds = dict[str, "int | tuple[int, int]"]


def parse_dims(items: tuple[str, ...]) -> Bounds:
    """``("batch=1..64", "seq=128")`` as `aino.compile` takes it.

    Raises:
        BadArgument: an item is written otherwise.
    """
    out: Bounds = {}
    for text in items:
        name, equals, value = text.partition("=")
        match = re.fullmatch(r"(\d{1,18})(?:\.\.(\d{1,18}))?", value.strip())
        if not equals or not name.strip() or match is None:
            reason = "it is no name, '=' and a size or range"
            raise BadArgument(
                option="--dim", text=text, reason=reason, sample="--dim batch=1..64 or --dim seq=128"
            )
        low, high = match[1], match[2]
        out[name.strip()] = int(low) if high is None else (int(low), int(high))
    return out


def _dims_callback(ctx: click.Context, parameter: click.Parameter, value: tuple[str, ...]) -> Bounds:
    return parse_dims(value)


def model_argument(function: F) -> F:
    """The model: a path."""
    return click.argument("model", type=click.Path())(function)


def target_option(function: F) -> F:
    """--target."""
    text = "What to compile for, such as c, c:avx2, c:avx2+avx512 (see `ainoc targets`)."
    return click.option("--target", default="c", show_default=True, help=text)(function)


def guard_options(without: str) -> Callable[[F], F]:
    """--guard and --no-guard; `guard_choice` reads them.

    Args:
        without: what no guard means.
    """

    def options(function: F) -> F:
        times = click.option(
            "--guard",
            "times",
            type=click.Choice(GUARDS),
            default=GUARDS[0],
            show_default=True,
            help="Where the guard has times from: cost models, or runs on this machine.",
        )
        off = click.option("--no-guard", "guard", flag_value=False, type=bool, default=True, help=without)
        return times(off(function))

    return options


def guard_choice(options: dict[str, Any]) -> bool | str:
    """What `guard=` means, taken out of the options of a verb."""
    times = options.pop("times")
    return str(times) if options.pop("guard") else False


def dim_option(function: F) -> F:
    """--dim."""
    text = "Bounds (n=1..64) or value (n=128) of a symbolic dimension; may be repeated."
    option = click.option(
        "--dim", "dims", multiple=True, metavar="NAME=LO..HI", callback=_dims_callback, help=text
    )
    return option(function)


def threads_option(function: F) -> F:
    """--threads."""
    text = "Threads of a run (default: AINO_THREADS, else the CPUs at hand)."
    return click.option("--threads", type=click.IntRange(min=1), help=text)(function)


def level_option(function: F) -> F:
    """--level and --numerics."""
    level = click.option(
        "--level",
        type=click.IntRange(0, 3),
        default=2,
        show_default=True,
        help="0 lowers only, 1 folds, 2 runs all passes, 3 measures kernels too.",
    )
    numerics = click.option(
        "--numerics",
        type=click.Choice(("strict", "default", "fast")),
        default="default",
        show_default=True,
        help="Which rewrites may happen: exact ones, reordered sums too, or approximations too.",
    )
    return level(numerics(function))


def compilation_options(function: F) -> F:
    """--target, --dim, --threads, --level, --numerics and --no-cache: what a compilation for a run takes."""
    for option in (cache_option, level_option, threads_option, dim_option, target_option):
        function = option(function)
    return function


def input_options(function: F) -> F:
    """--input and --random."""
    given = click.option(
        "--input",
        "files",
        multiple=True,
        metavar="NAME=F.npy|F.npz",
        help="Values of one input, or of all from an .npz by name; may be repeated.",
    )
    made = click.option(
        "--random", "seed", type=int, help="Make up the inputs that have no file, from this seed."
    )
    return given(made(function))


def cache_option(function: F) -> F:
    """--no-cache."""
    text = "Neither look the model up in the cache nor keep it."
    return click.option("--no-cache", "cache", flag_value=False, type=bool, default=True, help=text)(function)
