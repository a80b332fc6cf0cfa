"""What all parts of the generated main share: the names of symbols, dimensions and views as C."""

from __future__ import annotations

import re

from aino_ir.codegen.c.limits import FLOOR, LARGEST_BYTES
from aino_ir.codegen.cstyle.index import IndexPrinter, Ranges
from aino_ir.codegen.cstyle.names import Names
from aino_ir.dims import DimLike
from aino_ir.plan import BufferKind, Plan, View

KERNEL_PARAMETERS = "void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi"

_SPACES = {BufferKind.INPUT: "IN", BufferKind.OUTPUT: "OUT", BufferKind.STATE: "STATE"}

_RESERVED = (
    "s",
    "syms",
    "tid",
    "nthreads",
    "scratch",
    "arena",
    "context",
    "first",
    "last",
    "step",
    "units",
    "failed",
)


class PlanText:
    """C expressions over the symbols and buffers of one plan.

    Attributes:
        largest_bytes: bytes of one tensor, and of all intermediate ones together, at most.
    """

    def __init__(self, plan: Plan, largest_bytes: int = LARGEST_BYTES) -> None:
        self.plan = plan
        self.largest_bytes = largest_bytes
        self.names = Names(_RESERVED)
        ranges = Ranges({**plan.symbol_bounds, **dict.fromkeys(plan.turns, (0, None))})
        self.indices = IndexPrinter(self.names, ranges, lambda op: f"model_{op}")

    def dim(self, d: DimLike) -> str:
        """A dimension as an ``int64_t`` expression over the variables that `symbols` declares."""
        return self.indices.code(d).text

    def symbols(self) -> list[str]:
        """Declarations of the symbols that a run begins with, from the session's values."""
        lines = []
        for i, symbol in enumerate(self.plan.entry_symbols):
            name = self.names[symbol]
            lines += [f"    const int64_t {name} = s->symbols[{i}];", f"    (void){name};"]
        return lines

    def thread_symbols(self) -> list[str]:
        """Declarations of all symbols in a function of steps, from the thread's own values in `syms`."""
        if not self.plan.decided:
            return self.symbols()
        lines = []
        for i, symbol in enumerate(self.plan.symbols):
            name, const = self.names[symbol], "" if symbol in self.plan.decided else "const "
            lines += [f"    {const}int64_t {name} = syms[{i}];", f"    (void){name};"]
        return lines

    def view(self, v: View) -> str:
        """The address of a view's first byte, by the macros of `steps`."""
        buffer = self.plan.buffers[v.buffer]
        if buffer.segment:
            offset = buffer.offset if buffer.offset is not None else 0
            return f"SEGMENT({buffer.segment - 1}, {self.dim(offset + v.offset)})"
        if buffer.kind is BufferKind.ARENA:
            assert buffer.offset is not None, f"buffer {buffer.id} has no offset"
            return f"ARENA({self.dim(buffer.offset + v.offset)})"
        if buffer.kind is BufferKind.CONST:
            assert buffer.offset is not None
            return f"WEIGHT({self.dim(buffer.offset + v.offset)})"
        if buffer.kind is BufferKind.TURN:
            return f"TURN({self.names[self.plan.turns[buffer.slot]]}, {self.dim(v.offset)})"
        return f"{_SPACES[buffer.kind]}({buffer.slot}, {self.dim(v.offset)})"


def filled(template: str, **parts: str) -> str:
    """`template` with each key replaced by its part; what the parts hold is left alone."""
    keys = "|".join(sorted(parts, key=len, reverse=True))
    return re.sub(keys, lambda match: parts[match[0]], template)


_INDEX_FUNCTIONS = {
    "model_min": "a < b ? a : b",
    "model_max": "a > b ? a : b",
    "model_floordiv": "a / b - (a % b != 0 && (a < 0) != (b < 0))",
    "model_floormod": "a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0)",
}
"""What index expressions call, by name: an expression over the int64_t values a and b."""


def index_functions(code: str) -> str:
    """Definitions of the index functions that `code` calls."""
    parts = [
        f"static inline int64_t {name}(int64_t a, int64_t b)\n{{\n    return {text};\n}}"
        for name, text in _INDEX_FUNCTIONS.items()
        if f"{name}(" in code
    ]
    return "\n".join([*parts, FLOOR] if "model_floor(" in code else parts)
