"""Kernels as CUDA C++: a device function whose threads take one unit each, and the function that launches it.

The text uses the common part of C11 and CUDA C++, so that one unit is compiled by nvcc for a device and by
a C compiler for the emulation of ``aino_cuda.h``.  Run-time checks, which stand before the units, are a
device function of their own, whose threads share the points that are looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

from aino_ir.codegen.c.types import element_dtype, scalar_name
from aino_ir.codegen.c.writer import STATUS
from aino_ir.codegen.cstyle.usage import every
from aino_ir.codegen.cuda.launch import (
    Argument,
    arguments,
    asked_bytes,
    asked_places,
    check_nests,
    check_threads,
    has_checks,
    map_facts,
    most_threads,
    repeated,
    tile_maps,
)
from aino_ir.codegen.cuda.vectors import VectorWriter
from aino_ir.dims import free_symbols
from aino_ir.loops.expr import Load
from aino_ir.loops.groups import GROUP_OPERATIONS, columns_of
from aino_ir.loops.stmt import (
    THREAD,
    UNIT,
    Access,
    Alloc,
    Arrive,
    AwaitCopies,
    AwaitSignal,
    Barrier,
    CloseCopies,
    CopyAsync,
    CopyTile,
    Fail,
    For,
    GroupProduct,
    Registers,
    Share,
    SharedFactor,
    Signals,
    StartSignals,
    Stmt,
    TileMap,
    WarpCall,
)
from aino_ir.loops.warp import BLOCK, OPERATIONS

SIGNATURE = (
    "void {name}(void *const *views, const int64_t *syms, void *scratch, int64_t lo, int64_t hi{more})"
)
"""The launching function, as the C target's kernels look from outside."""


UNBOUNDED_THREADS = 256
"""Threads that have all the registers that a thread may have: a compiler that knows of no bound gives them up
to 255, and to more threads too many for the launch."""

POINT = "point"
"""The variable of a loop over the points of checks."""


class CudaWriter(VectorWriter):
    """Writes one kernel as CUDA C++."""

    reserved = (*VectorWriter.reserved, POINT)

    def write(self) -> str:
        """The device functions and the launching function."""
        self._header()
        self._asked = asked_places(self.fn)
        prologue = self.fn.prologue
        checked = has_checks(self.fn)
        if checked:
            self._device_function("checks", prologue)
        self._device_function("kernel", (*repeated(self.fn), *self.fn.body))
        self._map_functions()
        if self.fn.threads > 1:
            self._emulated_thread()
        self._launcher(checked)
        return "\n".join(self.lines)

    def _device_function(self, kind: str, body: Sequence[Stmt]) -> None:
        """``AINO_GLOBAL(threads) void name_kind(...)``."""
        parameters = [text for text, _ in self._parameters_and_arguments()]
        threads = most_threads(self.fn) if kind == "kernel" else min(check_threads(self.fn), BLOCK)
        bounded = "_BOUNDED" if threads > UNBOUNDED_THREADS else ""
        self.lines.append(f"AINO_GLOBAL{bounded}({threads}) void {self.fn.name}_{kind}(")
        self.lines += [
            f"        {p}{',' if n < len(parameters) - 1 else ')'}" for n, p in enumerate(parameters)
        ]
        self.lines.append("{")
        self._depth = 1
        self.line("(void)scratch;")
        if kind == "kernel":
            self._leave_after_failed_checks()
            self._bind_unit()
        else:
            self.line("(void)lo;")
            self.line("(void)hi;")
        if kind == "checks":
            self._checks()
        else:
            self.statements(body)
        self.lines += ["}", ""]

    def _checks(self) -> None:
        """What stands before the units, by one thread, or by many that share the points of its loops."""
        nests = check_nests(self.fn)
        if not nests:
            self.line("if (AINO_THREAD != 0)")
            self.line("    return;")
        for number, statement in enumerate(self.fn.prologue):
            if nests.get(number):
                self._shared_nest(nests[number])
            else:
                self.statements((statement,))

    def _shared_nest(self, nest: Sequence[For]) -> None:
        """Loops as one, of which each thread takes every n-th point."""
        ranges = self.printer.ranges
        extents = [f"({self.index(s.hi - s.lo)})" for s in nest]

        def point() -> None:
            rest = POINT
            for number, (s, extent) in reversed(list(enumerate(zip(nest, extents, strict=True)))):
                name, first = self.printer.names[s.var], self.index(s.lo)
                place = f"{rest} % {extent}" if number else rest
                self.line(f"const int64_t {name} = {place if first == '0' else f'{first} + {place}'};")
                self.line(f"(void){name};")
                rest = f"{rest} / {extent}"
                low, high = ranges.of(s.lo)[0], ranges.of(s.hi)[1]
                ranges.known[s.var] = (low, None if high is None else high - 1)
            self.statements(nest[-1].body)

        step = check_threads(self.fn)
        self.block(
            f"for (int64_t {POINT} = AINO_THREAD; {POINT} < {' * '.join(extents)}; {POINT} += {step})", point
        )

    def _leave_after_failed_checks(self) -> None:
        """Do nothing when the checks have failed; all threads of a block decide alike."""
        in_body = any(isinstance(s, Fail) for s in every(self.fn.body))
        if has_checks(self.fn) and self.usage.fails and not (in_body and self.fn.threads > 1):
            self.line(f"if (*{STATUS})")
            self.line("    return;")

    def _bind_unit(self) -> None:
        ranges, name = self.printer.ranges, self.printer.names[UNIT]
        high = ranges.of(self.fn.units)[1]
        ranges.known[UNIT] = (0, None if high is None else high - 1)
        together = self.fn.threads > 1
        self.line(f"const int64_t {name} = lo + {'blockIdx.x' if together else 'AINO_THREAD'};")
        self.line(f"if ({name} >= hi)")
        self.line("    return;")
        if together:
            ranges.known[THREAD] = (0, self.fn.threads - 1)
            self.line(f"const int64_t {self.printer.names[THREAD]} = threadIdx.x;")

    def _parameters_and_arguments(self) -> list[tuple[str, str]]:
        """(how a device function declares a parameter, what the launching function passes)."""
        return [self._parameter_and_argument(a) for a in arguments(self.fn)]

    def _parameter_and_argument(self, argument: Argument) -> tuple[str, str]:
        kind, number = argument
        if kind == "view":
            param = self.fn.params[number]
            const = "const " if param.access is Access.READ else ""
            type_ = f"{const}{scalar_name(element_dtype(param.dtype))} *"
            return f"{type_}AINO_RESTRICT {self.printer.names[param.name]}", f"({type_})views[{number}]"
        if kind == "status":
            return f"int64_t *{STATUS}", f"(int64_t *)views[{number}]"
        if kind == "symbol":
            return f"const int64_t {self.printer.names[self.fn.symbols[number]]}", f"syms[{number}]"
        if kind in ("map", "shift"):
            made = tile_maps(self.fn)[number]
            if kind == "map":
                map_name = self.printer.names[made.name]
                return f"AINO_MAP_PARAMETER {map_name}", f"{self.fn.name}_map{number}(views, syms)"
            view, size, *_ = map_facts(self.fn, made)
            return f"const int64_t {self._shift_of(made.name)}", f"AINO_SHIFT(views[{view}], {size})"
        return ("char *scratch", "(char *)scratch") if kind == "scratch" else (f"int64_t {kind}", kind)

    def _shift_of(self, made: str) -> str:
        """The parameter that says how many elements the base of a map lies before the view's."""
        return self.printer.names[f"{made}_shift"]

    def _launcher(self, checked: bool) -> None:
        passed = ", ".join(argument for _, argument in self._parameters_and_arguments())
        self.lines += [
            "#if !defined(__CUDACC_RTC__)",
            f"AINO_HOST {SIGNATURE.format(name=self.fn.name, more=' AINO_STREAM')}",
            "{",
        ]
        self._depth = 1
        self.line("(void)views;")
        self.line("(void)syms;")
        self.before_launch()
        if checked:
            self.line("if (lo == 0)")
            threads = check_threads(self.fn)
            self.line(f"    AINO_LAUNCH({self.fn.name}_checks, {threads}, {passed});")
        if self.fn.threads > 1:
            size = f"{self.fn.name}, hi - lo, {self.fn.threads}"
            if self._asked:
                self.line(f"AINO_LAUNCH_ASKING({size}, {asked_bytes(self.fn)}, {passed});")
            else:
                self.line(f"AINO_LAUNCH_BLOCKS({size}, {passed});")
        else:
            self.line(f"AINO_LAUNCH({self.fn.name}_kernel, hi - lo, {passed});")
        self.after_launch()
        self.lines += ["}", "#endif"]

    def _map_functions(self) -> None:
        """What makes the maps of tiles of a launch: ``aino_map name_map0(views, syms)``."""
        for number, made in enumerate(tile_maps(self.fn)):
            view, size, lines, rounded, _, _ = map_facts(self.fn, made)
            dims = {"extents": made.extents, "strides": made.strides}
            needed = frozenset().union(*(free_symbols(d) for sizes in dims.values() for d in sizes))
            self.lines += [
                "#if !defined(__CUDACC_RTC__)",
                f"static aino_map {self.fn.name}_map{number}(void *const *views, const int64_t *syms)",
                "{",
            ]
            self._depth = 1
            for place, symbol in enumerate(self.fn.symbols):
                if symbol in needed:
                    self.line(f"const int64_t {self.printer.names[symbol]} = syms[{place}];")
            for what, sizes in dims.items():
                self.line(f"const int64_t {what}[] = {{{', '.join(str(self.index(d)) for d in sizes)}}};")
            self.line("(void)syms;")
            rank = len(made.extents)
            facts = f"{size}, {lines}, {int(rounded)}, {rank}, extents, strides"
            self.line(f"return aino_make_map(views[{view}], {facts});")
            self.lines += ["}", "#endif", ""]

    def before_launch(self) -> None:
        """Statements of the launching function before it launches."""

    def after_launch(self) -> None:
        """Statements of the launching function behind its launches."""

    def _emulated_thread(self) -> None:
        """What the emulation calls for each thread of a block, whatever the kernel's parameters are."""
        passed = ", ".join(argument for _, argument in self._parameters_and_arguments())
        self.lines += [
            "#if !defined(__CUDACC__)",
            f"static {SIGNATURE.format(name=f'{self.fn.name}_thread', more='')}",
            "{",
        ]
        self._depth = 1
        self.line("(void)views;")
        self.line("(void)syms;")
        self.line(f"{self.fn.name}_kernel({passed});")
        self.lines += ["}", "#endif", ""]

    def share(self, s: Share) -> None:
        """An array in the block's memory."""
        self.printer.buffers[s.name] = s.dtype
        type_, name = scalar_name(element_dtype(s.dtype)), self.printer.names[s.name]
        place = self._asked.get(s.name)
        if place is None:
            self.line(f"AINO_SHARED {type_} {name}[{s.size}];")
            return
        if place == 0:
            self.line(f"AINO_ASKED({asked_bytes(self.fn)});")
        self.line(f"{type_} *const {name} = ({type_} *)(aino_asked + {place});")

    def barrier(self, s: Barrier) -> None:
        """Wait for the threads of the block, or of the warp."""
        self.line("AINO_WARP_BARRIER();" if s.warp else "AINO_BARRIER();")

    def warp_call(self, s: WarpCall) -> None:
        """``aino_mma_bf16(&d0, ..., a0, ...)``."""
        if not any(map(self.usage.is_read, s.names)):  # by no thread, so none comes
            return
        results = OPERATIONS[s.operation].results
        names = [self.printer.names[n] for n in s.names]
        self.line(f"{scalar_name(results[0].dtype)} {', '.join(names)};")
        if s.operation.startswith("load_matrix"):
            (row,) = s.operands
            assert isinstance(row, Load)
            given = [str(self.printer.span(row.buffer, row.offset, row.lanes)), str(s.parameter)]
        else:
            given = [str(self.printer.value(e)) for e in s.operands]
            given += [str(s.parameter)] if s.operation.startswith("exchange") else []
        self.line(f"aino_{s.operation}({', '.join([*('&' + n for n in names), *given])});")

    def group_product(self, s: GroupProduct) -> None:
        """``AINO_WGMMA(bf16, 128, 1, totals, rows, 0, 0, columns, 0, 0)``: registers hold the totals."""
        if not any(map(self.usage.is_read, s.names)):
            return
        type_ = scalar_name(GROUP_OPERATIONS[s.operation].total)
        together = f"{self.printer.names[s.names[0]]}_all"
        given = ", ".join(str(self.printer.value(e)) for e in s.totals)
        self.line(f"{type_} {together}[{len(s.names)}] = {{{given}}};")
        if s.fragments:
            held = ", ".join(str(self.printer.value(e)) for e in s.fragments)
            self.line(f"const uint32_t {together}_first[{len(s.fragments)}] = {{{held}}};")
        for side, factor in s.shared:
            self.group_reads(s, side, factor)
        factors = [self._factor(f) for _, f in s.shared]
        macro = "AINO_WGMMA"
        if s.fragments:
            macro, factors = "AINO_HELD_WGMMA", [f"{together}_first", *factors]
        shape = f"{s.operation.removeprefix('wgmma_')}, {columns_of(len(s.names))}, {s.lines}"
        self.line(f"{macro}({shape}, {together}, {', '.join(factors)});")
        for n, name in enumerate(s.names):
            self.line(f"{type_} {self.printer.names[name]} = {together}[{n}];")

    def _factor(self, f: SharedFactor) -> str:
        """Where a factor lies: place, bytes of a step, whether it is turned."""
        step = f.step * self.printer.buffers[f.buffer].bytes
        return f"{self.printer.address(f.buffer, f.offset)}, {step}, {int(f.turned)}"

    def group_reads(self, s: GroupProduct, side: int, factor: SharedFactor) -> None:
        """Whatever shall be said of a factor before it is read."""

    def copy(self, s: CopyAsync) -> None:
        """``aino_copy(target, source, bytes, whether)``."""
        target, source = (
            self.printer.address(b, o) for b, o in ((s.target, s.offset), (s.source, s.source_offset))
        )
        self.line(f"aino_copy({target}, {source}, {self._copied(s)});")

    def _copied(self, s: CopyAsync) -> str:
        """Bytes of a copy, and whether there is something to copy."""
        mask = "1" if s.mask is None else str(self.printer.value(s.mask))
        return f"{s.count * self.printer.buffers[s.target].bytes}, {mask}"

    def close_copies(self, s: CloseCopies) -> None:
        """End a group of copies."""
        self.line("AINO_CLOSE_COPIES();")

    def await_copies(self, s: AwaitCopies) -> None:
        """Wait until so many groups are open."""
        self.line(f"AINO_AWAIT_COPIES({s.open});")
        if s.publish:
            self.line("AINO_PUBLISH();")

    def signals(self, s: Signals) -> None:
        """An array of signals in the block's memory."""
        if self.usage.is_read(s.name):
            self.line(f"AINO_SIGNALS({self.printer.names[s.name]}, {s.count});")

    def start_signals(self, s: StartSignals) -> None:
        """``aino_start_signals(signals, count, arrivals)``."""
        made = next(p for p in self.fn.prologue if isinstance(p, Signals) and p.name == s.signals)
        name = self.printer.names[s.signals]
        self.line(f"aino_start_signals({name}, {made.count}, {made.arrivals});")

    def _signal(self, s: Arrive | AwaitSignal | CopyTile) -> str:
        return f"&{self.printer.names[s.signals]}[{self.index(s.index)}]"

    def arrive(self, s: Arrive) -> None:
        """``aino_arrive(&signals[n], bytes)``."""
        self.line(f"aino_arrive({self._signal(s)}, {s.bytes});")

    def await_signal(self, s: AwaitSignal) -> None:
        """``aino_await_signal(&signals[n], parity)``."""
        self.line(f"aino_await_signal({self._signal(s)}, (int)({self.index(s.parity)}));")

    def tile_map(self, s: TileMap) -> None:
        """Nothing: the map is a parameter."""

    def copy_tile(self, s: CopyTile) -> None:
        """``AINO_COPY_TILE(rank, target, number, offset, map, &signals[n], coordinates)``."""
        first, *others = (str(self.index(c)) for c in s.at)
        places = [f"(int)({first} + {self._shift_of(s.map)})", *(f"(int)({c})" for c in others)]
        target = f"{self.printer.names[s.target]}, {self._number(s.target)}, {self.index(s.offset)}"
        given = f"{target}, {self.printer.names[s.map]}, {self._signal(s)}, {', '.join(places)}"
        self.line(f"AINO_COPY_TILE({len(s.at)}, {given});")

    def _number(self, buffer: str) -> int:
        """By which the emulation knows a buffer; no number where nobody watches."""
        return -1

    def registers(self, s: Registers) -> None:
        """``AINO_MORE_REGISTERS(count)``."""
        self.line(f"AINO_{'MORE' if s.more else 'FEWER'}_REGISTERS({s.count});")

    def alloc(self, s: Alloc) -> None:
        """A pointer into the thread's scratch."""
        self.printer.buffers[s.name] = s.dtype
        if not self.usage.is_read(s.name):
            return
        type_ = scalar_name(element_dtype(s.dtype))
        name, offset = self.printer.names[s.name], self.printer.index(s.offset)
        start = f"scratch + AINO_SCRATCH({self._scratch()}) + {offset.at(12)}"
        self.line(f"{type_} *AINO_RESTRICT {name} = ({type_} *)({start});")

    def _scratch(self) -> str:
        """Bytes of scratch that one thread has."""
        return self.printer.index(self.fn.scratch_bytes).text

    def unroll_hint(self, count: int) -> str:
        """A pragma that both compilers take, behind a macro."""
        return f"UNROLL({count})"
