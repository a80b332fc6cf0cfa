"""The form of an ISA table: (operation, type) -> spellings, the first that the compiler knows is taken.

A spelling names the builtin it needs; the printed helper asks ``__has_builtin`` for it, so that one
source serves every compiler and version, and falls back to the generic text.  The expression uses
the operation's parameter names (see `aino_ir.codegen.c.signatures`).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Spelling:
    """One way to write an operation.

    Attributes:
        builtin: the builtin that must exist; empty when every compiler understands the text.
        text: a C expression, or a statement when the operation returns nothing.
    """

    builtin: str
    text: str


Rows = dict[tuple[str, str], tuple[Spelling, ...]]
"""(operation, vector type) -> spellings in order of preference."""


@dataclass(frozen=True)
class IsaTable:
    """What one ISA variant has.

    Attributes:
        macros: predefined macros without which the source must not be compiled.
        flags: what to tell a user whose compiler does not define them.
        rows: the spellings.
        lowered: (operation, dtype) whose body in the loop language is faster than the C library's function.
    """

    macros: tuple[str, ...]
    flags: str
    rows: Rows = field(repr=False)
    lowered: frozenset[tuple[str, str]] = frozenset()

    def spellings(self, op: str, type_: str) -> tuple[Spelling, ...]:
        """Every spelling of an operation on a type; none when there is no special one."""
        return self.rows.get((op, type_), ())


def elementwise(name: str, *args: str) -> Spelling:
    """Clang's ``__builtin_elementwise_name(args)``."""
    builtin = f"__builtin_elementwise_{name}"
    return Spelling(builtin, f"{builtin}({', '.join(args)})")


def builtin(name: str, arguments: str, *, result: str = "", last: bool = False) -> Spelling:
    """``(result)__builtin_ia32_name(arguments)``; the `last` of spellings that cover every compiler."""
    full = f"__builtin_ia32_{name}"
    return Spelling("" if last else full, f"{f'({result})' if result else ''}{full}({arguments})")
