"""Runs mypy over AINO: the folders at the top level are seen under their import names.

A type checker knows nothing of the package mapping in pyproject.toml, so this lays a tree of symbolic
links, ``build/typecheck/aino_ir/passes -> passes`` and so on, and checks that.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("frontends", "passes", "codegen", "runtime", "driver")


def lay_links(tree: Path) -> None:
    """Make `tree`/aino_ir hold a link to every entry of aino_ir and to every other room."""
    rooms = {p.name: p for p in (ROOT / "aino_ir").iterdir() if p.name != "__pycache__"}
    _link(tree / "aino_ir", rooms | {room: ROOT / room for room in ROOMS})
    _link(tree, {"benchmarks": ROOT / "benchmarks"})


def _link(folder: Path, wanted: dict[str, Path]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for link in folder.iterdir():
        if link.is_symlink() and wanted.get(link.name) != link.readlink():
            link.unlink()
    for name, place in wanted.items():
        link = folder / name
        if not link.is_symlink():
            link.symlink_to(place, target_is_directory=place.is_dir())


def main(arguments: list[str]) -> int:
    """Check the whole package, or the modules named by `arguments`; return mypy's exit status."""
    lay_links(ROOT / "build" / "typecheck")
    what = [option for name in arguments for option in ("-m", name)] or ["-p", "aino_ir", "-p", "benchmarks"]
    return subprocess.run([sys.executable, "-m", "mypy", *what], cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
