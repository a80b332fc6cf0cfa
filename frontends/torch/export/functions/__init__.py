"""What each op is in PyTorch: one module a family, each with a `TABLE` from op names to functions of tensors.

A function takes the op's operands in order (a list where there may be any number of them), and by name what
it wants to know of the op: its attributes (dtypes as AINO's names), and

- `shape`: of the first result, where the op has no attribute of that name;
- `limits`: the least and the greatest value of the first operand's dtype; `bits`: its width;
- `stored`: the dtype of the first operand;
- `rounded`: what the first operand was quantised from (x, scale, zero point, dtype), or ();
- `anchor`: an empty tensor on the device of the module.

Extents come as integers, or as what torch traces in their place.  A family's `OPERANDS` says how its
operands come: as they are `stored`; `moved`, which is as stored unless PyTorch cannot move such a dtype; or
`computed`, in the dtype that AINO computes in.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

TABLE: dict[str, Callable[..., Any]] = {}
"""Op name -> function."""

OPERANDS: dict[str, str] = {}
"""Op name -> how its operands come."""

for _module in sorted(m.name for m in pkgutil.iter_modules(__path__)):
    _family = importlib.import_module(f"{__name__}.{_module}")
    TABLE.update(_family.TABLE)
    OPERANDS.update(dict.fromkeys(_family.TABLE, getattr(_family, "OPERANDS", "computed")))
