"""``ainoc cache``: where the cache is, what is in it, and emptying it."""

from __future__ import annotations

import click

from aino_ir.driver.cache import cache_path, clear_cache, describe_cache
from aino_ir.driver.cli.shell import Shell, common_options
from aino_ir.runtime.store import Store
from aino_ir.runtime.tables import format_table


@click.group()
def command() -> None:
    """Look after the cache of compiled models (its folder: AINO_CACHE_DIR)."""


@command.command()
@common_options
@click.pass_obj
def path(shell: Shell) -> None:
    """Print the cache's folder."""
    shell.result({"path": str(cache_path())}, str(cache_path()))


@command.command("list")
@common_options
@click.pass_obj
def list_(shell: Shell) -> None:
    """List the entries, the last used first."""
    rows = describe_cache(Store.open()) if cache_path().exists() else []
    table = format_table(
        ("kind", "bytes", "idle s", "key"),
        [(r["kind"], r["bytes"], r["idle_seconds"], str(r["key"])[:16]) for r in rows],
        right=(1, 2),
    )
    total = sum(int(r["bytes"]) for r in rows)
    shell.result({"entries": rows, "bytes": total}, f"{table}\n{len(rows)} entries, {total} bytes")


@command.command()
@common_options
@click.pass_obj
def clear(shell: Shell) -> None:
    """Remove every entry."""
    count, size = clear_cache(Store.open()) if cache_path().exists() else (0, 0)
    shell.result({"removed": count, "bytes": size}, f"removed {count} entries, {size} bytes")
