"""Lists AINO's packages: the rooms stand at the top level and install under one import name.

`package-dir` in pyproject.toml says where each room lives; this finds the packages inside them, so
that a new subpackage needs no line anywhere.
"""

from pathlib import Path

from setuptools import setup

ROOMS = {
    "aino_ir": "aino_ir",
    "aino_ir.frontends": "frontends",
    "aino_ir.passes": "passes",
    "aino_ir.codegen": "codegen",
    "aino_ir.runtime": "runtime",
    "aino_ir.driver": "driver",
}


def packages(root: Path) -> list[str]:
    """Return the import name of every package: each folder of a room that holds `__init__.py`."""
    found = []
    for name, folder in ROOMS.items():
        for init in sorted((root / folder).rglob("__init__.py")):
            parts = init.parent.relative_to(root / folder).parts
            found.append(".".join((name, *parts)))
    return found


setup(packages=packages(Path(__file__).resolve().parent))
