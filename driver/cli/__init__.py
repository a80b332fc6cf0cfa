"""``ainoc``: the command line.  One module a verb; each is imported when it is called."""

from __future__ import annotations

import difflib
import importlib
import sys
from typing import Any

import click

from aino_ir import __version__
from aino_ir.driver.cli.shell import Shell

VERBS = {
    "compile": "compile a model to an artifact, or write its C, IR or loops",
    "run": "run a model or an artifact on files or random inputs",
    "check": "list a model's operators and what becomes of each",
    "opt": "run passes on a model and print the result",
    "prune": "take out the weights, channels or heads that matter least",
    "verify": "compare a compiled model with the reference or another engine",
    "bench": "measure a model against other engines",
    "quantize": "put a model's layers in few bits, and say what became of each",
    "targets": "list what models can be compiled for",
    "cache": "look after the cache of compiled models",
}
"""Verb -> what it does; the module `aino_ir.driver.cli.<verb>` holds it as `command`."""


class Verbs(click.Group):
    """The verbs, and what happens when one fails."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the verbs."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The verb of that name."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"aino_ir.driver.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The verb that is meant and the words behind it; for one that does not exist, what may be meant."""
        word = args[0]
        if not word.startswith("-") and self.get_command(ctx, word) is None:
            like = difflib.get_close_matches(word, VERBS, 1)
            advice = f"; did you mean {like[0]!r}?" if like else f"; there are {', '.join(VERBS)}"
            raise click.UsageError(f"no verb is called {word!r}{advice}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of verbs without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command line and end the process with its exit status (see `Shell.run`)."""
        given = options.pop("args", args[0] if args else None)
        words = list(sys.argv[1:] if given is None else given)
        options.pop("standalone_mode", None)
        shell = Shell(words)
        status = shell.run(
            lambda: super(Verbs, self).main(words, obj=shell, standalone_mode=False, **options)
        )
        sys.exit(status)


@click.command(
    cls=Verbs, subcommand_metavar="VERB [ARGS]...", context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(__version__, prog_name="ainoc")
def ainoc() -> None:
    """AINO, a deep-learning compiler.

    Exit status: 0 all went well, 1 the model or an input is at fault, 2 the command line is, 3 AINO is
    (a reproducer is named), 4 the machine is (no compiler, disk full, no device).
    """


def main() -> None:
    """Entry point of the ``ainoc`` command."""
    ainoc.main(prog_name="ainoc")
