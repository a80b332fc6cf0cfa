"""Kernels for the emulation: the text for devices, with every access of memory watched.

An element is ``x[AINO_READ(2, i)]``, where 2 is the buffer's number; the launching function says how
long each buffer is.  Under nvcc the macro gives the index back, so that this text compiles for devices too.
"""

from __future__ import annotations

from aino_ir.codegen.cstyle.text import Code, call, element
from aino_ir.codegen.cuda.lanes import LanePrinter, added
from aino_ir.codegen.cuda.writer import CudaWriter
from aino_ir.dims import DimLike, free_symbols
from aino_ir.loops.groups import GROUP_OPERATIONS
from aino_ir.loops.stmt import Access, Alloc, CopyAsync, GroupProduct, Share, SharedFactor

Watched = tuple[str, DimLike, str]
"""A buffer's name, elements, and what the emulation calls its kind of memory."""


class EmulatedPrinter(LanePrinter):
    """Prints expressions whose loads are watched; `numbers` gives the buffers' places in the table."""

    numbers: dict[str, int]

    def element(self, buffer: str, at: Code, *, writes: bool = False) -> Code:
        """``buffer[AINO_READ(number, at)]``."""
        watch = "AINO_WRITE" if writes else "AINO_READ"
        return element(self.names[buffer], call(watch, str(self.numbers[buffer]), at))

    def span(self, buffer: str, offset: DimLike, count: int, *, writes: bool = False) -> Code:
        """``buffer + AINO_READS(number, offset, count)``."""
        watch = "AINO_WRITES" if writes else "AINO_READS"
        first = call(watch, str(self.numbers[buffer]), self.index(offset), str(count))
        return added(self.names[buffer], first)


class EmulatedWriter(CudaWriter):
    """Writes one kernel for the emulation."""

    printer: EmulatedPrinter
    printer_class = EmulatedPrinter

    def write(self) -> str:
        """The device functions and the launching function, with a table of the buffers."""
        self.printer.numbers = {name: number for number, (name, _, _) in enumerate(self._watched())}
        return super().write()

    def copy(self, s: CopyAsync) -> None:
        """``AINO_COPY(target, its number, offset, source, its number, offset, elements, bytes, whether)``."""
        ends = [
            f"{self.printer.names[b]}, {self.printer.numbers[b]}, {self.index(o)}"
            for b, o in ((s.target, s.offset), (s.source, s.source_offset))
        ]
        self.line(f"AINO_COPY({', '.join(ends)}, {s.count}, {self._copied(s)});")

    def group_reads(self, s: GroupProduct, side: int, factor: SharedFactor) -> None:
        """``AINO_GROUP_READS(number, first, elements)`` for the lines that lie together."""
        kind = GROUP_OPERATIONS[s.operation]
        across, terms = kind.extents(side, len(s.names), s.lines)
        down, along = (terms, across) if factor.turned else (across, terms)
        number = self.printer.numbers[factor.buffer]
        for part in range(along // kind.terms):
            first = self.printer.index(factor.offset + part * factor.step)
            self.line(f"AINO_GROUP_READS({number}, {first}, {down * kind.terms});")

    def _number(self, buffer: str) -> int:
        return self.printer.numbers[buffer]

    def before_launch(self) -> None:
        """Tell the emulation which buffers there are."""
        watched = self._watched()
        self.line(f'AINO_WATCH("{self.fn.name}", {len(watched)});')
        needed = frozenset().union(*(free_symbols(size) for _, size, _ in watched))
        for number, symbol in enumerate(self.fn.symbols):
            if symbol in needed:
                self.line(f"const int64_t {self.printer.names[symbol]} = syms[{number}];")
        for number, (name, size, kind) in enumerate(watched):
            self.line(f'AINO_WATCH_BUFFER({number}, "{name}", {self.index(size)}, {kind});')

    def after_launch(self) -> None:
        """Give back what watching took."""
        self.line(f"AINO_UNWATCH({len(self._watched())});")

    def _watched(self) -> list[Watched]:
        out: list[Watched] = [
            (p.name, p.size, "AINO_ONLY_READ" if p.access is Access.READ else "AINO_GLOBAL_MEMORY")
            for p in self.fn.params
        ]
        for s in self.fn.prologue:
            if isinstance(s, (Share, Alloc)):
                kind = "AINO_BLOCK_MEMORY" if isinstance(s, Share) else "AINO_THREAD_MEMORY"
                out.append((s.name, s.size, kind))
        return out
