"""The helper functions of one translation unit: made when first asked for, printed in that order.

For each operation and type the body is, in this order: what the ISA table spells, two halves of a
type wider than the ISA's vectors, the lowering in the loop language, or generic text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.c.expression import CPrinter
from aino_ir.codegen.c.generic import GENERIC
from aino_ir.codegen.c.isa import TABLES, Spelling
from aino_ir.codegen.c.signatures import (
    MASK,
    NOTHING,
    SIGNATURES,
    Parameter,
    Signature,
    c_type,
    declare,
    storage_vector,
)
from aino_ir.codegen.c.types import mask_type, type_name
from aino_ir.codegen.cstyle import lowering
from aino_ir.codegen.cstyle.lowering import LOWERINGS, Recorder
from aino_ir.codegen.cstyle.names import Names
from aino_ir.codegen.cstyle.text import wrap
from aino_ir.dtypes import DType, boolean
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.expr import Expr, Var, VecType, unary

Branch = tuple[str, list[str]]
"""(builtin that must exist, or empty; lines of the body)."""

_PER_LANE = frozenset({"fma", "rem", "sqrt"})
"""Operations without a lowering that fall back to the scalar helper, lane by lane."""

_INSTEAD_OF_CALLS = {"fma": lowering.fused_by_doubles}
"""Bodies of operations that a table wants in place of the C library's function."""


class Helpers:
    """Makes helper functions for one ISA; a `HelperSource` for printers."""

    target = "C"

    def __init__(self, isa: str, vector_bytes: int) -> None:
        self.table = TABLES[isa]
        self.vector_bytes = vector_bytes
        self._asked: set[str] = set()
        self.texts: list[str] = []

    # -- what printers ask for

    def operation(self, op: str, type_: VecType) -> str:
        """The function of an operation on a type; see `SIGNATURES`."""
        name = f"{op}_{type_}"
        if self._claim(name):
            signature = SIGNATURES.get(op)
            if signature is None:
                raise NoSpelling(operation=op, type=str(type_), target=self.target)
            branches = self._branches(op, type_, lambda: self._operation_body(op, type_, signature))
            parameters = [declare(c_type(p.kind, type_), p.name) for p in signature.parameters]
            self._emit(name, c_type(signature.result, type_), parameters, branches)
        return name

    def has_row(self, op: str, type_: VecType) -> bool:
        """Whether the table spells an operation on a type."""
        return bool(self.table.spellings(op, str(type_)))

    def conversion(self, source: VecType, target: DType, bounded: bool = False) -> str:
        """The function that converts floats to an integer dtype, saturating.

        Where they are `bounded`, within the dtype or NaN, the table may have fewer instructions.
        """
        result = VecType(target, source.lanes)
        bounded = bounded and bool(self.table.spellings(f"to_{target}_bounded", str(source)))
        suffix = "_bounded" if bounded else ""
        name = f"{result}_from_{source}{suffix}"
        if self._claim(name):
            x = Var("x", source)
            branches = self._branches(
                f"to_{target}{suffix}",
                source,
                lambda: (
                    self._convert_by_halves(source, target)
                    or self.lowered((x,), lambda b: lowering.saturating_cast(b, x, target))
                ),
            )
            self._emit(name, type_name(result), [f"{type_name(source)} x"], branches)
        return name

    def rounding_conversion(self, source: VecType, target: DType) -> str | None:
        """The function that rounds floats, NaN or within an integer dtype; None where it takes two."""
        spellings = self.table.spellings(f"to_{target}_rounded", str(source))
        if not spellings:
            return None
        result = VecType(target, source.lanes)
        name = f"{result}_from_{source}_rounded"
        if self._claim(name):
            x = Var("x", source)

            def apart() -> list[str]:
                return self.lowered((x,), lambda b: lowering.saturating_cast(b, unary("round", x), target))

            branches = self._branches(f"to_{target}_rounded", source, apart)
            self._emit(name, type_name(result), [f"{type_name(source)} x"], branches)
        return name

    def saturating_conversion(self, source: VecType, target: DType, rounded: bool) -> str | None:
        """The function from floats to a narrow integer dtype, saturating; None where no row has it."""
        op = f"saturate_{target}{'_rounded' if rounded else ''}"
        if not self.table.spellings(op, str(source)):
            return None
        result = VecType(target, source.lanes)
        name = f"{result}_from_{source}{'_rounded' if rounded else '_cut'}"
        if self._claim(name):
            x = Var("x", source)

            def apart() -> list[str]:
                value = unary("round", x) if rounded else x
                return self.lowered((x,), lambda b: lowering.saturating_cast(b, value, target))

            branches = self._branches(op, source, apart)
            self._emit(name, type_name(result), [f"{type_name(source)} x"], branches)
        return name

    def integer_conversion(self, source: VecType, target: VecType) -> str | None:
        """The function that widens integers or cuts them off, None where the compiler's own is as good."""
        op = f"convert_{target.dtype}"
        if not self.table.spellings(op, str(source)):
            return None
        name = f"{target}_from_{source}"
        if self._claim(name):
            plain = f"return __builtin_convertvector(x, {type_name(target)});"
            branches = self._branches(op, source, lambda: [plain])
            self._emit(name, type_name(target), [f"{type_name(source)} x"], branches)
        return name

    def decoding(self, storage: DType, lanes: int) -> str:
        """The function from raw storage values to compute values."""
        raw = VecType(lowering.raw_dtype(storage), lanes)
        result = VecType(storage.compute, lanes)
        name = f"{result}_from_{storage_vector(storage, lanes)}"
        if self._claim(name):
            x = Var("x", raw)
            branches = self._branches(
                f"decode_{storage}",
                result,
                lambda: self.lowered((x,), lambda b: lowering.decode(b, x, storage)),
            )
            self._emit(name, type_name(result), [f"{type_name(raw)} x"], branches)
        return name

    def encoding(self, storage: DType, lanes: int) -> str:
        """The function from compute values to raw storage values."""
        raw = VecType(lowering.raw_dtype(storage), lanes)
        source = VecType(storage.compute, lanes)
        name = f"{storage_vector(storage, lanes)}_from_{source}"
        if self._claim(name):
            x = Var("x", source)
            branches = self._branches(
                f"encode_{storage}",
                source,
                lambda: self.lowered((x,), lambda b: lowering.encode(b, x, storage)),
            )
            self._emit(name, type_name(raw), [f"{type_name(source)} x"], branches)
        return name

    def reinterpretation(self, source: DType, target: DType) -> str:
        """The function that keeps the bits of a scalar."""
        name = f"bits_{target}_from_{source}"
        if self._claim(name):
            given, wanted = type_name(VecType(source)), type_name(VecType(target))
            lines = [f"const union {{ {given} from; {wanted} to; }} bits = {{x}};", "return bits.to;"]
            self._emit(name, wanted, [f"{given} x"], [("", lines)])
        return name

    def math(self, function: str, type_: VecType) -> str:
        """The function of the vector math library on a type."""
        from aino_ir.loops.math import FUNCTIONS

        name = f"{function}_{type_}"
        if self._claim(name):
            entry = FUNCTIONS.get(function)
            if entry is None:
                raise NoSpelling(operation=function, type=str(type_), target=self.target)
            letters = ("x",) if entry.arity == 1 else tuple("abcdefgh"[: entry.arity])
            args = tuple(Var(letter, type_) for letter in letters)
            lines = self.lowered(args, lambda b: entry.body(b, *args))
            parameters = [f"{type_name(type_)} {letter}" for letter in letters]
            self._emit(name, type_name(type_), parameters, [("", lines)])
        return name

    # -- how bodies are found

    def _claim(self, name: str) -> bool:
        if name in self._asked:
            return False
        self._asked.add(name)
        return True

    def _branches(self, op: str, type_: VecType, fallback: Callable[[], list[str]]) -> list[Branch]:
        signature = SIGNATURES.get(op)
        returns = signature is None or signature.result != NOTHING
        branches: list[Branch] = []
        for spelling in self.table.spellings(op, str(type_)):
            branches.append((spelling.builtin, [_statement(spelling, returns)]))
            if not spelling.builtin:
                return branches
        return [*branches, ("", fallback())]

    def _operation_body(self, op: str, type_: VecType, signature: Signature) -> list[str]:
        if self._has_half(op, type_):
            return self._by_halves(op, type_, signature)
        if (op, type_.dtype.name) in self.table.lowered:
            own = tuple(Var(p.name, type_) for p in signature.parameters)
            return self.lowered(own, lambda b: _INSTEAD_OF_CALLS[op](b, *own))
        per_lane = op in _PER_LANE and type_.dtype.is_float and type_.lanes > 1
        if op in LOWERINGS and not per_lane:
            names = [p.name for p in signature.parameters]
            args = tuple(Var(name, type_) for name in names)
            bits = type_.dtype.bits if signature.result == MASK else None
            return self.lowered(args, lambda b: LOWERINGS[op](b, *args), bits)
        if op.startswith("reduce_"):
            x = Var("x", type_)
            return self.lowered((x,), lambda b: lowering.reduce_lanes(b, x, op.removeprefix("reduce_")))
        if op in GENERIC:
            return GENERIC[op](type_)
        if per_lane:
            scalar = self.operation(op, VecType(type_.dtype))
            calls = [
                f"{scalar}({', '.join(f'{p.name}[{i}]' for p in signature.parameters)})"
                for i in range(type_.lanes)
            ]
            return [f"return ({type_name(type_)}){{{', '.join(calls)}}};"]
        raise NoSpelling(operation=op, type=str(type_), target=self.target)

    def lowered(
        self, args: Sequence[Var], build: Callable[[Recorder], Expr], mask_bits: int | None = None
    ) -> list[str]:
        """Lines of a body given in the loop language."""
        recorder = Recorder()
        result = build(recorder)
        names = Names()
        for arg in args:
            names[arg.name]
        printer = CPrinter(self, names)
        lines = []
        for var, expr in recorder.lets:
            bits = printer.natural_bits(expr) if var.dtype.is_bool and var.lanes > 1 else None
            if bits is not None:
                printer.masks[var.name] = bits
            text = printer.value(expr)
            lines.append(f"const {printer.declared_type(var.type, bits)} {names[var.name]} = {text};")
        is_mask = result.dtype is boolean and result.lanes > 1
        final = printer.mask(result, mask_bits or 32) if is_mask else printer.value(result)
        return [*lines, f"return {final};"]

    # -- types wider than the ISA's vectors

    def _has_half(self, op: str, type_: VecType) -> bool:
        """Whether some narrower version of the type has a spelling of its own."""
        bytes_, lanes = type_.lanes * type_.dtype.bytes, type_.lanes
        if bytes_ <= self.vector_bytes:
            return False
        while lanes > 2:
            lanes //= 2
            if self.table.spellings(op, str(VecType(type_.dtype, lanes))):
                return True
        return False

    def _by_halves(self, op: str, type_: VecType, signature: Signature) -> list[str]:
        half = VecType(type_.dtype, type_.lanes // 2)
        function = self.operation(op, half)
        low = f"{function}({', '.join(_half(p, half.lanes, False) for p in signature.parameters)})"
        high = f"{function}({', '.join(_half(p, half.lanes, True) for p in signature.parameters)})"
        if signature.result == NOTHING:
            return [f"{low};", f"{high};"]
        part = mask_type(half.dtype.bits, half.lanes) if signature.result == MASK else half
        return _joined(type_name(part), low, high, type_.lanes)

    def _convert_by_halves(self, source: VecType, target: DType) -> list[str] | None:
        if not self._has_half(f"to_{target}", source):
            return None
        half = VecType(source.dtype, source.lanes // 2)
        function = self.conversion(half, target)
        x = Parameter("value", "x")
        low, high = (f"{function}({_half(x, half.lanes, upper)})" for upper in (False, True))
        return _joined(type_name(VecType(target, half.lanes)), low, high, source.lanes)

    # -- text

    def _emit(self, name: str, result: str, parameters: list[str], branches: list[Branch]) -> None:
        lines = [f"INLINE {declare(result, name)}({', '.join(parameters)})", "{"]
        guarded = [b for b in branches if b[0]]
        for number, (builtin, body) in enumerate(branches):
            if guarded:
                condition = f"__has_builtin({builtin})"
                lines.append(f"#{'if' if number == 0 else 'elif'} {condition}" if builtin else "#else")
            lines += [part for line in body for part in wrap(f"    {line}")]
        lines += ["#endif"] if guarded else []
        self.texts.append("\n".join([*lines, "}"]))


def _statement(spelling: Spelling, returns: bool) -> str:
    return f"return {spelling.text};" if returns else f"{spelling.text};"


def _half(parameter: Parameter, lanes: int, upper: bool) -> str:
    """The lower or upper half of an argument."""
    name = parameter.name
    if parameter.kind in ("source", "sink"):
        return f"{name} + {lanes}" if upper else name
    if parameter.kind in ("scalar", "index"):
        return name
    start = lanes if upper else 0
    return f"__builtin_shufflevector({name}, {name}, {', '.join(map(str, range(start, start + lanes)))})"


def _joined(part: str, low: str, high: str, lanes: int) -> list[str]:
    order = ", ".join(map(str, range(lanes)))
    return [
        f"const {part} low = {low};",
        f"const {part} high = {high};",
        f"return __builtin_shufflevector(low, high, {order});",
    ]
