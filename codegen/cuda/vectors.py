"""Statements on vectors as loops over lanes, with loads and stores of up to 16 bytes; see `lanes`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from aino_ir.codegen.c.writer import STATUS, CWriter
from aino_ir.codegen.cuda.lanes import LANE, LanePrinter, crosses_lanes, is_wide, raw_type, wide_name
from aino_ir.dtypes import i64
from aino_ir.loops.expr import Const, Expr, Index, Load, Splat, Var, VecType, binary, const
from aino_ir.loops.stmt import DeclareReg, Let, SetReg, Store


class VectorWriter(CWriter):
    """The part of the CUDA writer that knows vectors."""

    printer: LanePrinter
    printer_class = LanePrinter
    reserved: tuple[str, ...] = (STATUS, LANE.name, "moved", "stored")

    def let(self, s: Let) -> None:
        """A vector is loaded whole, or computed lane by lane."""
        if s.value.lanes == 1:
            super().let(s)
        elif self.usage.is_read(s.name):
            if isinstance(s.value, Splat) and isinstance(s.value.x, (Var, Const)):
                self.printer.uniform[s.name] = s.value.x
            elif isinstance(s.value, Load) and is_wide(s.value):
                self._load(s.name, s.value)
            elif isinstance(s.value, Load) and self._is_wide_or_nothing(s.value):
                self._load_or_nothing(s.name, s.value)
            else:
                self._declare(s.name, s.value.type)
                self._assign(self.printer.names[s.name], s.value)

    def declare_register(self, s: DeclareReg) -> None:
        """A vector that changes."""
        if s.type.lanes == 1:
            super().declare_register(s)
        elif self.usage.is_read(s.name):
            self._declare(s.name, s.type)
            self._assign(self.printer.names[s.name], s.init)

    def set_register(self, s: SetReg) -> None:
        """Lane by lane; by way of another vector where lanes change places."""
        if s.value.lanes == 1:
            super().set_register(s)
        elif self.usage.is_read(s.name):
            name = self.printer.names[s.name]
            if not crosses_lanes(s.value):
                self._assign(name, s.value)
                return
            self.line("{")
            self._depth += 1
            self.line(f"{wide_name(s.value.type)} moved;")
            self._assign("moved", s.value)
            self.line(f"{name} = moved;")
            self._depth -= 1
            self.line("}")

    def store(self, s: Store) -> None:
        """Neighbouring lanes whole, others one by one."""
        if s.value.lanes == 1:
            super().store(s)
            return
        whole = s.mask is None and s.scatter is None and isinstance(s.stride, int) and s.stride == 1
        if whole:
            self._store_whole(s)
        else:
            self._each_lane(s.value, lambda lane: self._store_lane(s, lane))

    # -- lanes

    def _declare(self, name: str, type_: VecType) -> None:
        self.line(f"{wide_name(type_)} {self.printer.names[name]};")

    def _load(self, name: str, e: Load) -> None:
        storage = self.printer.buffers[e.buffer]
        raw = raw_type(storage, e.lanes)
        if storage.is_storage or storage.is_bool:
            self.printer.kept[name] = storage
        place = self.printer.span(e.buffer, e.offset, e.lanes)
        text = f"{wide_name(raw)} {self.printer.names[name]} = {wide_name(raw)}_load({place})"
        self.line(f"const {text};")

    def _is_wide_or_nothing(self, e: Load) -> bool:
        """Whether a load takes all of some neighbouring elements, or none of them."""
        storage = self.printer.buffers[e.buffer]
        nothing = e.other is None or (isinstance(e.other, Const) and not e.other.value)
        return (
            isinstance(e.mask, Var)
            and e.mask.name in self.printer.uniform
            and is_wide(replace(e, mask=None, other=None))
            and (nothing or not (storage.is_storage or storage.is_bool))
        )

    def _load_or_nothing(self, name: str, e: Load) -> None:
        """A vector where the mask holds, else the other value in all lanes; zero bits are zeros always."""
        storage = self.printer.buffers[e.buffer]
        raw, known = raw_type(storage, e.lanes), self.printer.names[name]
        if storage.is_storage or storage.is_bool:
            self.printer.kept[name] = storage
        place = self.printer.span(e.buffer, e.offset, e.lanes)
        other = e.other if e.other is not None else const(0, e.dtype)
        zero = isinstance(other, Const) and not other.value

        def each(lane: Expr) -> None:
            value = "0" if zero else str(self.printer.value(self.printer.at_lane(other, lane)))
            self.line(f"{known}.lane[{self.printer.value(lane)}] = {value};")

        assert isinstance(e.mask, Var)
        self.line(f"{wide_name(raw)} {known};")
        self.block(
            f"if ({self.printer.value(self.printer.uniform[e.mask.name])})",
            lambda: self.line(f"{known} = {wide_name(raw)}_load({place});"),
        )
        self.block("else", lambda: self._each_lane(e, each))

    def _assign(self, name: str, value: Expr) -> None:
        def each(lane: Expr) -> None:
            at = self.printer.value(lane)
            self.line(f"{name}.lane[{at}] = {self.printer.value(self.printer.at_lane(value, lane))};")

        self._each_lane(value, each)

    def _each_lane(self, value: Expr, each: Callable[[Expr], None]) -> None:
        """A loop over lanes; written out where lanes are not alike."""
        if crosses_lanes(value):
            for lane in range(value.lanes):
                each(const(lane, i64))
            return
        name = LANE.name
        self.line(self.unroll_hint(value.lanes))
        self.block(f"for (int {name} = 0; {name} < {value.lanes}; ++{name})", lambda: each(LANE))

    def _store_whole(self, s: Store) -> None:
        storage, lanes = self.printer.buffers[s.buffer], s.value.lanes
        raw = raw_type(storage, lanes)
        place = self.printer.span(s.buffer, s.offset, lanes, writes=True)
        kept = isinstance(s.value, Var) and s.value.name not in self.printer.kept
        if kept and not storage.is_storage and not storage.is_bool:
            self.line(f"{wide_name(raw)}_store({place}, {self.printer.value(s.value)});")
            return
        self.line("{")
        self._depth += 1
        self.line(f"{wide_name(raw)} stored;")
        self._each_lane(
            s.value,
            lambda lane: self.line(
                f"stored.lane[{self.printer.value(lane)}] = "
                f"{self.printer.encoded(self.printer.at_lane(s.value, lane), storage)};"
            ),
        )
        self.line(f"{wide_name(raw)}_store({place}, stored);")
        self._depth -= 1
        self.line("}")

    def _store_lane(self, s: Store, lane: Expr) -> None:
        at = self.printer.at_lane
        if s.scatter is not None:
            place = at(s.scatter, lane)
        else:
            place = lane if s.stride == 1 else binary("mul", lane, Index(s.stride))
        mask = None if s.mask is None else at(s.mask, lane)
        super().store(Store(s.buffer, s.offset, at(s.value, lane), 1, mask, place))
