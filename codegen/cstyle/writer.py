"""Statements of the loop language as C-family text: scopes, indentation, declarations.

A subclass says how declarations, stores, calls of helpers and the function's frame are spelled.
Values nobody reads are not printed, so the text compiles without warnings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.cstyle.expression import CStylePrinter
from aino_ir.codegen.cstyle.names import comment
from aino_ir.codegen.cstyle.text import wrap
from aino_ir.codegen.cstyle.usage import Usage
from aino_ir.dims import DimLike
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.expr import VecType
from aino_ir.loops.stmt import (
    Alloc,
    Arrive,
    AwaitCopies,
    AwaitSignal,
    Barrier,
    BindIndex,
    CloseCopies,
    Comment,
    CopyAsync,
    CopyTile,
    DeclareReg,
    Fail,
    For,
    GroupProduct,
    If,
    Let,
    Prefetch,
    Registers,
    SetReg,
    Share,
    Signals,
    StartSignals,
    Stmt,
    Store,
    TileMap,
    WarpCall,
    While,
)

INDENT = "    "


class CStyleWriter:
    """Writes the statements of one kernel; `lines` is the result so far."""

    def __init__(self, printer: CStylePrinter, usage: Usage) -> None:
        self.printer = printer
        self.usage = usage
        self.lines: list[str] = []
        self._depth = 0
        self._methods: dict[type, Callable[..., None]] = {
            Let: self.let,
            BindIndex: self.bind_index,
            DeclareReg: self.declare_register,
            SetReg: self.set_register,
            Store: self.store,
            For: self.for_loop,
            If: self.branch,
            While: self.while_loop,
            Alloc: self.alloc,
            Share: self.share,
            Barrier: self.barrier,
            WarpCall: self.warp_call,
            GroupProduct: self.group_product,
            CopyAsync: self.copy,
            CloseCopies: self.close_copies,
            AwaitCopies: self.await_copies,
            Signals: self.signals,
            StartSignals: self.start_signals,
            Arrive: self.arrive,
            AwaitSignal: self.await_signal,
            TileMap: self.tile_map,
            CopyTile: self.copy_tile,
            Registers: self.registers,
            Prefetch: self.prefetch,
            Fail: self.fail,
            Comment: self.comment,
        }

    # -- lines

    def line(self, text: str) -> None:
        """Add a line at the present depth."""
        self.lines += wrap(INDENT * self._depth + text) if text else [""]

    def block(self, opening: str, body: Callable[[], None], closing: str = "}") -> None:
        """Add ``opening {``, the body one level deeper, and the closing brace."""
        self.line(f"{opening} {{" if opening else "{")
        self._depth += 1
        body()
        self._depth -= 1
        self.line(closing)

    def statements(self, body: Sequence[Stmt]) -> None:
        """Add every statement."""
        for statement in body:
            method = self._methods.get(type(statement))
            if method is None:
                raise NoSpelling(
                    operation=type(statement).__name__, type="a statement", target=self.printer.helpers.target
                )
            method(statement)

    # -- what the language decides

    def declaration(self, name: str, type_: VecType, bits: int | None, constant: bool) -> str:
        """``const type name`` for a value."""
        raise NotImplementedError

    def mask_bits(self, statement: Let | DeclareReg) -> int | None:
        """Width of the mask that a bool vector is kept in; None for all other values."""
        raise NotImplementedError

    def store(self, s: Store) -> None:
        """Write lanes to memory."""
        raise NotImplementedError

    def alloc(self, s: Alloc) -> None:
        """Declare a buffer in the thread's scratch."""
        raise NotImplementedError

    def share(self, s: Share) -> None:
        """Declare a buffer that the threads of a unit share; only languages of GPUs have such."""
        raise self.printer.missing("a shared buffer", s.dtype)

    def barrier(self, s: Barrier) -> None:
        """Wait for the threads of the unit; only languages of GPUs have such."""
        raise self.printer.missing("a barrier", "a statement")

    def warp_call(self, s: WarpCall) -> None:
        """An operation of a warp; only languages of GPUs have such."""
        raise self.printer.missing(s.operation, "a warp")

    def group_product(self, s: GroupProduct) -> None:
        """A product of a group of warps; only languages of GPUs have such."""
        raise self.printer.missing(s.operation, "a group of warps")

    def copy(self, s: CopyAsync) -> None:
        """Begin a copy to shared memory; only languages of GPUs have such."""
        raise self.printer.missing("an asynchronous copy", "a statement")

    def close_copies(self, s: CloseCopies) -> None:
        """End a group of copies; only languages of GPUs have such."""
        raise self.printer.missing("a group of copies", "a statement")

    def await_copies(self, s: AwaitCopies) -> None:
        """Wait for groups of copies; only languages of GPUs have such."""
        raise self.printer.missing("waiting for copies", "a statement")

    def signals(self, s: Signals) -> None:
        """Declare signals; only languages of GPUs have such."""
        raise self.printer.missing("a signal", "a statement")

    def start_signals(self, s: StartSignals) -> None:
        """Put signals into their first phase; only languages of GPUs have such."""
        raise self.printer.missing("a signal", "a statement")

    def arrive(self, s: Arrive) -> None:
        """Arrive at a signal; only languages of GPUs have such."""
        raise self.printer.missing("a signal", "a statement")

    def await_signal(self, s: AwaitSignal) -> None:
        """Wait for a signal; only languages of GPUs have such."""
        raise self.printer.missing("a signal", "a statement")

    def tile_map(self, s: TileMap) -> None:
        """Say where tiles lie; only languages of GPUs have such."""
        raise self.printer.missing("a map of tiles", "a statement")

    def copy_tile(self, s: CopyTile) -> None:
        """Begin to copy a tile; only languages of GPUs have such."""
        raise self.printer.missing("a copy of a tile", "a statement")

    def registers(self, s: Registers) -> None:
        """Hand over registers; only languages of GPUs have such."""
        raise self.printer.missing("registers to hand over", "a statement")

    def prefetch(self, s: Prefetch) -> None:
        """Hint a read."""
        raise NotImplementedError

    def fail(self, s: Fail) -> None:
        """Record an error and leave."""
        raise NotImplementedError

    def unroll_hint(self, count: int) -> str:
        """The line before a loop that should be unrolled; empty for none."""
        raise NotImplementedError

    # -- statements

    def let(self, s: Let) -> None:
        """A named constant."""
        if not self.usage.is_read(s.name):
            return
        bits = self.mask_bits(s)
        text = self.value_as(s.value, bits)
        self.line(f"{self.declaration(s.name, s.value.type, bits, True)} = {text};")

    def value_as(self, value: object, bits: int | None) -> str:
        """A value's text; bool vectors at the given mask width."""
        raise NotImplementedError

    def bind_index(self, s: BindIndex) -> None:
        """A named index."""
        if self.usage.is_read(s.name):
            self.line(f"const int64_t {self.printer.names[s.name]} = {self.printer.value(s.value)};")

    def declare_register(self, s: DeclareReg) -> None:
        """A variable."""
        if self.usage.is_read(s.name):
            bits = self.mask_bits(s)
            text = self.value_as(s.init, bits)
            self.line(f"{self.declaration(s.name, s.type, bits, False)} = {text};")

    def set_register(self, s: SetReg) -> None:
        """An assignment."""
        if self.usage.is_read(s.name):
            bits = self.usage.mask_bits.get(s.name)
            self.line(f"{self.printer.names[s.name]} = {self.value_as(s.value, bits)};")

    def for_loop(self, s: For) -> None:
        """A counted loop."""
        name = self.printer.names[s.var]
        ranges = self.printer.ranges
        low, high = ranges.of(s.lo)[0], ranges.of(s.hi)[1]
        ranges.known[s.var] = (low, None if high is None else high - 1)
        hint = self.unroll_hint(s.unroll) if s.unroll > 1 else ""
        if hint:
            self.line(hint)
        step = f"++{name}" if s.step == 1 else f"{name} += {s.step}"
        bounds = f"int64_t {name} = {self.index(s.lo)}; {name} < {self.index(s.hi)}; {step}"
        self.block(f"for ({bounds})", lambda: self.statements(s.body))

    def branch(self, s: If) -> None:
        """if, else if, else."""
        opening = f"if ({self.printer.value(s.condition)})"
        while True:
            then, otherwise = s.then, s.otherwise
            closing = "" if otherwise else "}"
            self.line(f"{opening} {{")
            self._depth += 1
            self.statements(then)
            self._depth -= 1
            if closing:
                self.line(closing)
                return
            if len(otherwise) == 1 and isinstance(otherwise[0], If):
                s = otherwise[0]
                opening = f"}} else if ({self.printer.value(s.condition)})"
                continue
            self.block("} else", lambda rest=otherwise: self.statements(rest))  # type: ignore[misc]
            return

    def while_loop(self, s: While) -> None:
        """A loop on a condition."""
        self.block(f"while ({self.printer.value(s.condition)})", lambda: self.statements(s.body))

    def comment(self, s: Comment) -> None:
        """A line for the reader."""
        self.line(f"/* {comment(s.text)} */")

    def index(self, dim: DimLike) -> str:
        """A Dim as text."""
        return self.printer.index(dim).text
