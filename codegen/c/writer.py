"""Kernels as C functions."""

from __future__ import annotations

from aino_ir.codegen.c.expression import DEFAULT_MASK_BITS, CPrinter
from aino_ir.codegen.c.helpers import Helpers
from aino_ir.codegen.c.types import element_dtype, scalar_name
from aino_ir.codegen.cstyle.index import Ranges
from aino_ir.codegen.cstyle.names import Names, comment
from aino_ir.codegen.cstyle.text import call
from aino_ir.codegen.cstyle.usage import analyse, every
from aino_ir.codegen.cstyle.writer import CStyleWriter
from aino_ir.loops.expr import Const, Expr, VecType
from aino_ir.loops.stmt import UNIT, Access, Alloc, DeclareReg, Fail, Let, LoopFn, Prefetch, Store

SIGNATURE = "void {name}(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi)"
"""What every kernel looks like from outside."""

STATUS = "status"


class CWriter(CStyleWriter):
    """Writes one kernel as a C function."""

    printer: CPrinter
    printer_class: type[CPrinter] = CPrinter
    reserved: tuple[str, ...] = (STATUS,)
    """Words that no local name may be."""

    def __init__(self, fn: LoopFn, helpers: Helpers) -> None:
        usage = analyse(fn)
        ranges = Ranges({name: (low, high) for name, low, high in fn.facts})
        printer = self.printer_class(helpers, Names(self.reserved), ranges)
        super().__init__(printer, usage)
        self.fn = fn
        self.helpers = helpers
        printer.buffers.update({p.name: p.dtype for p in fn.params})

    def write(self) -> str:
        """The function's text, with its comment."""
        self._header()
        self.lines.append(SIGNATURE.format(name=self.fn.name))
        self.lines.append("{")
        self._depth = 1
        self._parameters()
        self.statements(self.fn.prologue)
        self._units()
        self.lines.append("}")
        return "\n".join(self.lines)

    def _header(self) -> None:
        if not self.fn.header:
            return
        first, *rest = (comment(text) for text in self.fn.header)
        if not rest:
            self.lines.append(f"/* {first} */")
            return
        self.lines += [f"/* {first}", *(f" * {text}" for text in rest), " */"]

    def _parameters(self) -> None:
        used = [(i, p) for i, p in enumerate(self.fn.params) if self.usage.is_read(p.name)]
        if not used and not self.usage.fails:
            self.line("(void)views;")
        for i, param in used:
            const = "const " if param.access is Access.READ else ""
            type_ = scalar_name(element_dtype(param.dtype))
            self.line(f"{const}{type_} *restrict {self.printer.names[param.name]} = views[{i}];")
        if self.usage.fails:
            self.line(f"int64_t *{STATUS} = views[{len(self.fn.params)}];")
        symbols = [(i, s) for i, s in enumerate(self.fn.symbols) if self.usage.is_read(s)]
        if not symbols:
            self.line("(void)syms;")
        for i, name in symbols:
            self.line(f"const int64_t {self.printer.names[name]} = syms[{i}];")
        statements = every((*self.fn.prologue, *self.fn.body))
        if not any(isinstance(s, Alloc) and self.usage.is_read(s.name) for s in statements):
            self.line("(void)scratch;")

    def _units(self) -> None:
        ranges, name = self.printer.ranges, self.printer.names[UNIT]
        high = ranges.of(self.fn.units)[1]
        ranges.known[UNIT] = (0, None if high is None else high - 1)
        opening = f"for (int64_t {name} = lo; {name} < hi; ++{name})"
        self.block(opening, lambda: self.statements(self.fn.body))

    # -- what C decides

    def declaration(self, name: str, type_: VecType, bits: int | None, constant: bool) -> str:
        """``const type name``."""
        qualifier = "const " if constant else ""
        return f"{qualifier}{self.printer.declared_type(type_, bits)} {self.printer.names[name]}"

    def mask_bits(self, statement: Let | DeclareReg) -> int | None:
        """The width of the comparison, else what the first reader wants."""
        value = statement.value if isinstance(statement, Let) else statement.init
        if not value.dtype.is_bool or value.lanes == 1:
            return None
        natural = self.printer.natural_bits(value)
        bits = natural or self.usage.wanted_bits.get(statement.name, DEFAULT_MASK_BITS)
        self.printer.masks[statement.name] = self.usage.mask_bits[statement.name] = bits
        return bits

    def value_as(self, value: object, bits: int | None) -> str:
        """A value, or a mask of the given width."""
        assert isinstance(value, Expr)
        return (self.printer.value(value) if bits is None else self.printer.mask(value, bits)).text

    def alloc(self, s: Alloc) -> None:
        """A pointer into the thread's scratch."""
        self.printer.buffers[s.name] = s.dtype
        if not self.usage.is_read(s.name):
            return
        type_ = scalar_name(element_dtype(s.dtype))
        start = "scratch" if s.offset == 0 else f"(char *)scratch + {self.printer.index(s.offset).at(13)}"
        name = self.printer.names[s.name]
        self.line(f"{type_} *restrict {name} = __builtin_assume_aligned({start}, 64);")

    def prefetch(self, s: Prefetch) -> None:
        """__builtin_prefetch."""
        self.line(f"__builtin_prefetch({self.printer.address(s.buffer, s.offset)}, 0, {s.locality});")

    def fail(self, s: Fail) -> None:
        """Record the code unless another came first, and leave the kernel."""
        self.line(f"aino_fail({STATUS}, {s.code}, {self.printer.value(s.value)});")
        self.line("return;")

    def unroll_hint(self, count: int) -> str:
        """A macro of the preamble."""
        return f"UNROLL({count})"

    def store(self, s: Store) -> None:
        """Plain, masked, strided and scattered stores."""
        dtype = self.printer.buffers[s.buffer]
        value = self.printer.encoded(s.value, dtype)
        if s.value.lanes == 1:
            self._store_scalar(s, value.text)
            return
        raw = VecType(element_dtype(dtype), s.value.lanes)
        kind, args = self.printer.access(s.stride, s.scatter)
        verb = "scatter" if s.scatter is not None else "store" + kind
        if s.mask is not None:
            verb, args = verb + "_masked", (*args, self.printer.mask(s.mask, raw.dtype.bits))
        address = self.printer.address(s.buffer, s.offset)
        self.line(f"{call(self.helpers.operation(verb, raw), address, *args, value)};")

    def _store_scalar(self, s: Store, value: str) -> None:
        place = self.printer.index(s.offset)
        if s.scatter is not None:
            place = self.printer.added(s.offset, s.scatter)
        guard = ""
        if s.mask is not None and not (isinstance(s.mask, Const) and s.mask.value):
            guard = f"if ({self.printer.value(s.mask)}) "
        self.line(f"{guard}{self.printer.element(s.buffer, place, writes=True)} = {value};")


def kernel_text(fn: LoopFn, helpers: Helpers) -> str:
    """One kernel as C."""
    return CWriter(fn, helpers).write()
