"""Canonical text of data that holds expressions: equal structures give equal text, shared ones are told once.

An expression tree may share sub-expressions, so that spelling it out (as `repr` does) can take time
exponential in its size; here every distinct node is one numbered line.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from typing import Any

from aino_ir.dtypes import DType
from aino_ir.loops.expr import Expr


def canonical_text(root: Any) -> str:
    """Text of dataclasses, tuples, expressions and plain values; linear in the distinct nodes.

    Floats are told by their bits; fields that a dataclass keeps out of its `repr` are left out.
    """
    numbers: dict[str, int] = {}
    names: dict[int, str] = {}

    def spell(value: Any) -> str:
        if isinstance(value, tuple):
            return f"({', '.join([spell(v) for v in value])})"
        if isinstance(value, float):
            return value.hex()
        if isinstance(value, DType) or not hasattr(type(value), "__dataclass_fields__"):
            return repr(value)
        name = names.get(id(value)) if isinstance(value, Expr) else None
        if name is None:
            cls: Any = type(value)
            name = f"{cls.__name__}({', '.join([spell(getattr(value, f)) for f in _shown_fields(cls)])})"
            if isinstance(value, Expr):
                name = names[id(value)] = f"%{numbers.setdefault(name, len(numbers))}"
        return name

    whole = spell(root)
    return "\n".join([*(f"%{number} = {text}" for text, number in numbers.items()), whole])


@cache
def _shown_fields(cls: Any) -> tuple[str, ...]:
    return tuple(f.name for f in fields(cls) if f.repr)
