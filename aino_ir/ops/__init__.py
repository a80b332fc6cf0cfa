"""Every op family; importing this package registers all op classes in `aino_ir.op.OPS`."""

import importlib
import pkgutil

FAMILIES = tuple(sorted(m.name for m in pkgutil.iter_modules(__path__)))
"""Modules of this package, one an op family."""

for _family in FAMILIES:
    importlib.import_module(f"{__name__}.{_family}")
