"""Kernels whose loops stand as they run: a `LoopFn`, vectors and all, as a PrimFunc.

An error cannot leave a PrimFunc in the middle of a parallel loop: it sets the status word, and what follows
it runs only while that is zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.cstyle.usage import Usage, analyse
from aino_ir.codegen.tvm.expression import LARGE, HelperNames, TirPrinter, compares_integers
from aino_ir.codegen.tvm.index import IndexText, needs_int64
from aino_ir.codegen.tvm.kernel import (
    INDENT,
    Argument,
    PrintedKernel,
    at_least_one,
    memory_dtype,
    shape_text,
    signature,
)
from aino_ir.codegen.tvm.sharing import SharedQuotients, SharingIndexText
from aino_ir.codegen.tvm.text import (
    PREFIX,
    PythonNames,
    Text,
    call,
    comment,
    element,
    type_name,
    variable_lines,
)
from aino_ir.codegen.tvm.vectors import vector_store
from aino_ir.dims import DimLike, ceildiv, dmax, is_static
from aino_ir.dtypes import DType, boolean, i32, i64
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.expr import Expr, VecType
from aino_ir.loops.stmt import (
    UNIT,
    Alloc,
    BindIndex,
    Comment,
    DeclareReg,
    Fail,
    For,
    If,
    Let,
    LoopFn,
    Prefetch,
    SetReg,
    Stmt,
    Store,
    While,
    walk_statements,
)

THREADS = 128
"""Units that a block of a GPU does, one a thread."""


def print_loop_kernel(fn: LoopFn, helpers: HelperNames, threads: bool = False) -> PrintedKernel:
    """A kernel of loops as a PrimFunc; with `threads`, each unit is done by a thread of a GPU.

    Raises:
        NoSpelling: it has an operation that TensorIR lacks.
    """
    return (_ThreadKernel if threads else _LoopKernel)(fn, helpers).printed()


class _LoopKernel:
    """Writes one kernel; `lines` is the result so far."""

    scope = ""
    """What an allocation says of where it is."""

    def __init__(self, fn: LoopFn, helpers: HelperNames) -> None:
        self.fn = fn
        self.names = PythonNames()
        self.usage: Usage = analyse(fn)
        self.lines: list[str] = []
        self.depth = 1
        statements = list(walk_statements((*fn.prologue, *fn.body)))
        bound = any(isinstance(s, BindIndex) for s in statements)
        self.wide = bound or needs_int64(fn.units, *(p.size for p in fn.params))
        ranges = Ranges({UNIT: (0, None), **{name: (low, high) for name, low, high in fn.facts}})
        self.quotients = SharedQuotients(fn.symbols if self.wide else (), self.names, ranges)
        self.buffers: dict[str, DType] = {p.name: p.dtype for p in fn.params}
        self.buffers |= {s.name: s.dtype for s in statements if isinstance(s, Alloc)}
        self.printer = TirPrinter(helpers, self._name, self.index_text(), self.value_text(), self.buffers)
        self.printer.keep = self.keep
        self.printer.holds_arrays = True
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
            Prefetch: lambda s: None,
            Fail: self.fail,
            Comment: lambda s: self.line(f"# {comment(s.text)}"),
        }

    # -- names and indices

    def _name(self, name: str) -> str:
        return self.names[name]

    def index_text(self) -> IndexText:
        """Prints Dims that count loops and address memory."""
        return SharingIndexText(lambda n: Text(self.names[n]), self.extent, self.quotients)

    def value_text(self) -> IndexText:
        """Prints Dims as i64 values."""
        if self.wide:
            return SharingIndexText(
                lambda n: Text(self.names[n]), lambda v: Text(f"T.int64({v})"), self.quotients
            )
        return IndexText(lambda n: Text(f'T.Cast("int64", {self.names[n]})'), lambda v: Text(f"T.int64({v})"))

    def extent(self, value: int) -> Text:
        """A number among indices: of the width that this kernel's indices have."""
        return Text(f"T.int64({value})") if self.wide else Text(str(value), PREFIX if value < 0 else 9)

    def index(self, dim: DimLike) -> Text:
        """A Dim as an index."""
        return self.printer.index.text(dim)

    # -- the function

    def printed(self) -> PrintedKernel:
        """All of it."""
        fn = self.fn
        arguments = tuple(
            Argument(self.names[p.name], number, memory_dtype(p.dtype), (at_least_one(p.size),))
            for number, p in enumerate(fn.params)
        )
        symbols = [f"{self.names[s]}: T.int64" for s in fn.symbols]
        status = ['status: T.Buffer((2,), "int64", align=8)'] if fn.can_fail else []
        if symbols:
            given = [f"{a.name}_data: T.handle" for a in arguments]
        else:
            given = [f"{a.name}: {a.declaration}" for a in arguments]
        head = [f"# {comment(line)}" for line in fn.header]
        head += ["@T.prim_func(s_tir=True)", *signature(fn.name, [*symbols, *given, *status])]
        if symbols:
            for a in arguments:
                self.match_buffer(a)
        start = len(self.lines)
        self.function_body()
        self.lines[start:start] = [f"{INDENT}{line}" for line in self.quotients.before]
        return PrintedKernel(
            fn.name,
            "\n".join([*head, *self.lines]) + "\n",
            "",
            arguments,
            fn.symbols,
            fn.can_fail,
            len(fn.params),
        )

    def match_buffer(self, argument: Argument) -> None:
        """Memory whose extent may be a symbol: then whatever extent comes with it."""
        (size,) = argument.shape
        extent = self.index(size)
        if not is_static(size):
            extent = Text(self.names.fresh(f"{argument.name}_size"))
            self.line(f"{extent} = T.int64()")
        self.line(
            f'{argument.name} = T.match_buffer({argument.name}_data, ({extent},), "{argument.type}", '
            f"align={argument.dtype.bytes}, offset_factor=1)"
        )

    def function_body(self) -> None:
        """Checks first, then the units."""
        allocs = [s for s in self.fn.prologue if isinstance(s, Alloc)]
        checks = [s for s in self.fn.prologue if not isinstance(s, Alloc)]
        self.block(checks, lambda: self.units(allocs))

    def units(self, allocs: Sequence[Alloc]) -> None:
        """The parallel loop; each turn has working memory of its own."""
        kind = "T.serial" if self.fn.units == 1 else "T.parallel"
        count = self.index(self.fn.units)
        if not is_static(self.fn.units):
            name = self.names.fresh("units")
            self.declare(name, VecType(i64), count)
            count = Text(name)
        self.line(f"for {self.names[UNIT]} in {kind}({count}):")
        start = len(self.lines)
        self.nested([*allocs, *self.fn.body])
        self.lines[start:start] = [f"{INDENT * (self.depth + 1)}{line}" for line in self.quotients.inside]

    # -- lines

    def line(self, text: str) -> None:
        """Add a line at the present depth."""
        self.lines.append(INDENT * self.depth + text)

    def nested(self, body: Sequence[Stmt]) -> None:
        """A block one level deeper."""
        self.depth += 1
        self.block(body)
        self.depth -= 1

    def block(self, body: Sequence[Stmt], rest: Callable[[], None] | None = None) -> None:
        """Statements and then `rest`; behind one that may fail, only while nothing has failed."""
        before = len(self.lines)
        outer = self.depth
        for place, statement in enumerate(body):
            self.statement(statement)
            if _may_fail(statement) and (place + 1 < len(body) or rest is not None):
                self.line("if T.EQ(status[0], T.int64(0)):")
                self.depth += 1
        if rest is not None:
            rest()
        if not any(line.strip() and not line.lstrip().startswith("#") for line in self.lines[before:]):
            self.line("T.evaluate(0)")
        elif self.lines[-1].endswith(":"):
            self.line("T.evaluate(0)")
        self.depth = outer

    def statement(self, statement: Stmt) -> None:
        """One statement."""
        method = self._methods.get(type(statement))
        if method is None:
            raise NoSpelling(operation=type(statement).__name__, type="a statement", target="TVM")
        method(statement)

    # -- statements

    def let(self, s: Let) -> None:
        """A named value."""
        if self.usage.is_read(s.name):
            self.named(s.name, s.value)

    def named(self, wish: str, value: Expr) -> None:
        """A value under a name: TVM's simplifier does not take names inside of what it gives a name to."""
        if value.lanes > 1:
            self.variable(wish, value)
            return
        before = self.printer.named
        text = self.printer.pinned(value)
        if self.printer.named == before and text.size < LARGE:
            self.printer.sizes[wish] = text.size
            self.line(f"{self.names[wish]}: T.let = {text}")
        else:
            self.declare(self.names[wish], value.type, text)

    def variable(self, wish: str, value: Expr) -> None:
        """A variable with its first value."""
        self.declare(self.names[wish], self.held_type(value.type), self.assigned(value))

    def declare(self, name: str, type_: VecType, value: Text) -> None:
        """The lines of a variable with its first value.

        Annotated names would be TVM's ``local`` memory, which on a processor is a workspace of its runtime:
        only plain memory of a few bytes is a variable to LLVM, and so a register.  TVM lets variables that
        are not needed at the same time share memory, which it counts in elements: those are numbers, and a
        vector is as many of them.
        """
        if type_.lanes == 1:
            for line in variable_lines(name, type_name(type_.dtype), value):
                self.line(line)
            return
        self.line(f'{name} = T.alloc_buffer(({type_.lanes},), "{type_name(type_.dtype)}")')
        self.line(f"{self.printer.variable(name, type_.lanes)} = {value}")

    def held_type(self, type_: VecType) -> VecType:
        """The type of a variable for values of a type."""
        return VecType(i32, type_.lanes) if self._is_mask(type_) else type_

    def assigned(self, value: Expr) -> Text:
        """What is assigned to a variable."""
        text = self.printer.pinned(value)
        return self.printer.held(text) if self._is_mask(value.type) else text

    @staticmethod
    def _is_mask(type_: VecType) -> bool:
        return type_.dtype.is_bool and type_.lanes > 1

    def keep(self, value: Text, type_: VecType) -> Text:
        """A value in a variable."""
        name = self.names.fresh("kept")
        if not self._is_mask(type_):
            self.declare(name, type_, value)
            return self.printer.variable(name, type_.lanes)
        self.declare(name, self.held_type(type_), self.printer.held(value))
        return self.printer.unheld(self.printer.variable(name, type_.lanes))

    def condition(self, value: Expr) -> Text:
        """A condition: under a name where it calls helpers, or where TVM would conclude too much from it."""
        before = self.printer.named
        text = self.printer.value(value)
        if self.printer.named == before and compares_integers(value):
            return text
        name = self.names.fresh("condition")
        self.declare(name, VecType(boolean), text)
        return Text(name)

    def bind_index(self, s: BindIndex) -> None:
        """A named index."""
        if self.usage.is_read(s.name):
            self.named(s.name, s.value)

    def declare_register(self, s: DeclareReg) -> None:
        """A variable."""
        if self.usage.is_read(s.name):
            self.variable(s.name, s.init)

    def set_register(self, s: SetReg) -> None:
        """An assignment."""
        if self.usage.is_read(s.name):
            self.line(
                f"{self.printer.variable(self.names[s.name], s.value.lanes)} = {self.assigned(s.value)}"
            )

    def store(self, s: Store) -> None:
        """Write elements."""
        if s.value.lanes > 1:
            for line in vector_store(self.printer, s):
                self.line(line)
            return
        at = self.index(s.offset) if s.scatter is None else self.printer.offset(s.offset, s.scatter)
        target = element(self.names[s.buffer], at)
        if s.mask is not None:
            self.line(f"if {self.condition(s.mask)}:")
            self.depth += 1
        self.line(f"{target} = {self.printer.encoded(s.value, self.buffers[s.buffer])}")
        if s.mask is not None:
            self.depth -= 1

    def for_loop(self, s: For) -> None:
        """A counted loop."""
        name = self.names[s.var]
        if s.step == 1:
            bounds = [self.index(s.hi)] if s.lo == 0 else [self.index(s.lo), self.index(s.hi)]
            self.line(f"for {name} in {call('T.serial', *bounds)}:")
            self.nested(s.body)
            return
        turn = self.names.fresh(f"{name}_turn")
        self.line(f"for {turn} in {call('T.serial', self.index(ceildiv(s.hi - s.lo, s.step)))}:")
        self.depth += 1
        first = "" if s.lo == 0 else f"{self.index(s.lo).at(6)} + "
        self.line(f"{name}: T.let = {first}{turn} * {s.step}")
        self.block(s.body)
        self.depth -= 1

    def branch(self, s: If) -> None:
        """if and else."""
        self.line(f"if {self.condition(s.condition)}:")
        self.nested(s.then)
        if s.otherwise:
            self.line("else:")
            self.nested(s.otherwise)

    def while_loop(self, s: While) -> None:
        """A loop on a condition."""
        before = self.printer.named
        text = self.printer.value(s.condition)
        if self.printer.named == before and compares_integers(s.condition):
            self.line(f"while {text}:")
            self.nested(s.body)
            return
        name = self.names.fresh("goes_on")
        self.declare(name, VecType(boolean), text)
        self.line(f"while {name}:")
        self.depth += 1
        self.block(s.body, lambda: self.line(f"{name} = {self.printer.value(s.condition)}"))
        self.depth -= 1

    def alloc(self, s: Alloc) -> None:
        """Working memory."""
        shape = shape_text([self.index(at_least_one(s.size))])
        kind = type_name(memory_dtype(s.dtype))
        self.line(f'{self.names[s.name]} = T.alloc_buffer({shape}, "{kind}"{self.scope})')

    def fail(self, s: Fail) -> None:
        """Record an error; who stands behind it looks at the status first."""
        self.line(f"status[0] = T.int64({s.code})")
        self.line(f"status[1] = {self.printer.value(s.value)}")


class _ThreadKernel(_LoopKernel):
    """The same for a GPU: a thread does the checks and one unit, and what it holds is its own."""

    scope = ', scope="local"'

    def declare(self, name: str, type_: VecType, value: Text) -> None:
        """An annotated name: memory of the thread's own."""
        self.line(f"{name}: T.{type_name(type_.dtype, type_.lanes)} = {value}")

    def function_body(self) -> None:
        """Threads first: nothing else may touch memory."""
        units, unit = self.fn.units, self.names[UNIT]
        block, thread = self.names.fresh("block"), self.names.fresh("thread")
        count = min(THREADS, max(1, int(units))) if is_static(units) else THREADS  # type: ignore[arg-type]
        blocks = self.index(dmax(1, ceildiv(units, count)))
        self.line(f'for {block} in T.thread_binding({blocks}, thread="blockIdx.x"):')
        self.depth += 1
        self.line(f'for {thread} in T.thread_binding({count}, thread="threadIdx.x"):')
        self.depth += 1
        self.line(f"{unit}: T.let = {block} * {count} + {thread}")
        self.lines += [f"{INDENT * self.depth}{line}" for line in self._shared()]
        super().function_body()
        self.depth -= 2

    def units(self, allocs: Sequence[Alloc]) -> None:
        """The unit of this thread, if there is one."""
        self.line(f"if {self.names[UNIT]} < {self.index(self.fn.units)}:")
        self.nested([*allocs, *self.fn.body])

    def _shared(self) -> list[str]:
        """Quotients stay where they are used: a variable would be one of the host."""
        self.quotients.symbols = frozenset()
        return []


def _may_fail(statement: Stmt) -> bool:
    return any(isinstance(s, Fail) for s in walk_statements((statement,)))
