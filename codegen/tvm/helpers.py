"""Helper functions of an emitted file: what TensorIR has no operation for, and the vector math.

Each is a Python function from expressions to an expression, made from the same body in the loop language as
the helper of any other target; its shared parts are one object each, and what is too large to be written
wherever it is used is a variable (`Names` in the emitted file).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.cstyle import lowering
from aino_ir.codegen.cstyle.lowering import LOWERINGS, Recorder
from aino_ir.codegen.tvm.expression import TirPrinter
from aino_ir.codegen.tvm.index import IndexText
from aino_ir.codegen.tvm.text import PythonNames, Text
from aino_ir.codegen.tvm.wrapping import SIGNS, WRAPPED, wrapping_lines
from aino_ir.dtypes import DType
from aino_ir.errors.printing import NoSpelling
from aino_ir.loops.expr import Expr, Var, VecType, compare, select, unary

FENCE = '''\
def fence(x):
    """x, kept apart from the arithmetic around it: nothing is folded into it or contracted with it."""
    return T.call_llvm_pure_intrin(x.ty, "llvm.arithmetic.fence", x)
'''

CHOOSE = '''\
def choose(condition, a, b):
    """a where the condition holds, else b, by bits: TVM concludes from conditions what NaN does not allow."""
    a, b = tirx.convert(a), tirx.convert(b)
    kind = str(a.ty)
    if kind.startswith("bool"):
        return unmasked(choose(condition, masked(a), masked(b)))
    bits = kind.replace("float", "int").replace("uint", "int")
    name = Names()
    mask = name.let("mask", masked(condition, bits))
    one, other = (same_bits(x, bits) for x in (a, b))
    return same_bits((one & mask) | (other & T.bitwise_not(mask)), kind)
'''

SAME_BITS = '''\
def same_bits(x, kind):
    """The bits of x as another type; TVM reinterprets an integer that is zero as a pointer alone."""
    x = tirx.convert(x)
    if str(x.ty) == kind:
        return x
    single = x.value if isinstance(x, tirx.Broadcast) else x
    zero = isinstance(single, tirx.IntImm) and single.value == 0
    return T.Cast(kind, x) if zero else T.reinterpret(kind, x)
'''

MASKS = '''\
def lanes_of(x, value):
    """A value in as many lanes as x has."""
    lanes = str(tirx.convert(x).ty).rpartition("x")[2]
    return T.Broadcast(value, int(lanes)) if lanes.isdigit() else value


def masked(condition, bits="int32"):
    """A bool, or a vector of them, as integers, all of whose bits are set or none.

    What stands in LLVM's maximum is a call to TVM, which it concludes nothing from.
    """
    condition = tirx.convert(condition)
    kind = str(condition.ty)
    hidden = T.call_llvm_pure_intrin(kind, "llvm.umax", condition, lanes_of(condition, T.bool(False)))
    return -T.Cast(kind.replace("bool", bits.partition("x")[0]), hidden)


def unmasked(numbers):
    """The bools again; a test for zero would be turned around, NaN or not."""
    return numbers < lanes_of(numbers, T.int32(0))
'''

PLAIN_FENCE = '''\
def fence(x):
    """x, kept apart from the arithmetic around it: TVM does not look through its bits."""
    kind = str(x.ty)
    return T.reinterpret(kind, T.reinterpret(kind.replace("float", "int"), x))
'''

_HIDDEN = """\
    hidden = T.call_llvm_pure_intrin(kind, "llvm.umax", condition, lanes_of(condition, T.bool(False)))
    return -T.Cast(kind.replace("bool", bits.partition("x")[0]), hidden)
"""

PLAIN_MASKS = MASKS.replace(
    _HIDDEN, '    return -T.Cast(kind.replace("bool", bits.partition("x")[0]), condition)\n'
).replace(
    """

    What stands in LLVM's maximum is a call to TVM, which it concludes nothing from.
    """,
    """""",
)
"""The same for targets that LLVM has no part in: scalars, of which TVM's analysis takes comparisons."""

NEAREST = '''\
def nearest(x):
    """x rounded to an integer, halves to even; T.nearbyint ends the vectors of a block."""
    return T.call_llvm_pure_intrin(str(x.ty), "llvm.nearbyint", x)
'''

PLAIN_FUSED = '''\
def fused(x, y, z):
    """x * y + z with one rounding: C's function of that name."""
    return T.call_pure_extern(str(x.ty), "fma", x, y, z)
'''

PLAIN_NEAREST = '''\
def nearest(x):
    """x rounded to an integer, halves to even."""
    return T.nearbyint(x)
'''

NAMES = '''\
class Names:
    """Parts of an expression; what would become too large, written wherever it is used, is kept in variables.

    LLVM computes equal parts once.  TVM's own names for parts (``Let``) break its elimination of common ones,
    and its simplifier puts them back in their places.  Bools are held as numbers.
    """

    def let(self, name, value):
        value = tirx.convert(value)
        if str(value.ty).startswith("bool"):
            return unmasked(self.let(name, masked(value)))
        return value

    def keep(self, name, value):
        value = tirx.convert(value)
        if str(value.ty).startswith("bool"):
            return unmasked(self.keep(name, masked(value)))
        base, _, lanes = str(value.ty).partition("x")
        kept = T.alloc_buffer((int(lanes or 1),), base)
        IRBuilder.name(name, kept)
        place = T.Ramp(0, 1, int(lanes)) if lanes else 0
        T.buffer_store(kept, value, [place])
        return kept[place]
'''

PLAIN_NAMES = NAMES.replace("(int(lanes or 1),), base)", '(int(lanes or 1),), base, scope="local")')
"""The same where plain memory is that of a whole device."""

MOST = 1500.0
"""Size of a part of a helper's body that gets a variable."""


class Helpers:
    """Makes helper functions when they are first asked for; `texts` are their definitions, callees first.

    Args:
        on_llvm: whether LLVM makes the code: then its operations are at hand.
    """

    def __init__(self, on_llvm: bool = True) -> None:
        self.on_llvm = on_llvm
        self._asked: set[str] = set()
        self._functions: list[str] = []
        self.uses_fence = False
        self.uses_choose = False
        self.uses_same_bits = False
        self.uses_masks = False
        self.uses_nearest = False
        self.uses_fused = False
        self._lanes: set[int] = set()
        self._growth: dict[str, tuple[float, float]] = {}
        self.keeping: set[str] = set()
        """Helpers that have variables, which a block may not."""

    @property
    def texts(self) -> list[str]:
        """What the file must define."""
        names = bool(self._functions) or self.uses_choose
        parts = (
            (FENCE if self.on_llvm else PLAIN_FENCE, self.uses_fence),
            (NEAREST if self.on_llvm else PLAIN_NEAREST, self.uses_nearest),
            (PLAIN_FUSED, self.uses_fused),
            (SAME_BITS, names or self.uses_same_bits),
            (MASKS if self.on_llvm else PLAIN_MASKS, names or self.uses_masks),
            ("\n".join(f"ALL{n} = T.Ramp(0, 1, {n})" for n in sorted(self._lanes)) + "\n", bool(self._lanes)),
            (NAMES if self.on_llvm else PLAIN_NAMES, names),
            (CHOOSE, self.uses_choose),
        )
        return [*(text for text, used in parts if used), *self._functions]

    # -- what printers ask for

    def operation(self, op: str, type_: VecType) -> str:
        """The function of an operation on equal types."""
        name = f"{op}_{type_}"
        if (op, type_.dtype.name) in WRAPPED:
            return self._wrapping(op, type_)
        body = _BODIES.get(op, LOWERINGS.get(op))
        if body is None:
            raise NoSpelling(operation=op, type=str(type_), target="TVM")
        arity = 1 if op in ("abs", "isnan", "isinf", "round", "floor", "ceil", "trunc") else 2
        args = tuple(Var(letter, type_) for letter in ("x", "y")[:arity])
        return self._function(name, args, lambda b: body(b, *args), _FIRST_LINES.get(op, ""))

    def reduction(self, op: str, type_: VecType) -> str:
        """The function that combines all lanes of a vector."""
        x = Var("x", type_)
        doc = f"all lanes of x, combined by {op}"
        return self._function(f"reduce_{op}_{type_}", (x,), lambda b: lowering.reduce_lanes(b, x, op), doc)

    def conversion(self, source: VecType, target: DType) -> str:
        """The function that converts floats to an integer dtype, saturating."""
        x = Var("x", source)
        doc = "x towards zero, out of range to the nearest end, NaN to 0"
        return self._function(
            f"{target}_from_{source}", (x,), lambda b: lowering.saturating_cast(b, x, target), doc
        )

    def decoding(self, storage: DType, lanes: int) -> str:
        """The function from raw storage values to compute values."""
        x = Var("x", VecType(lowering.raw_dtype(storage), lanes))
        name = f"{storage.compute}_from_{VecType(storage, lanes)}"
        doc = f"the {storage.compute} values of the bits of {storage}"
        return self._function(name, (x,), lambda b: lowering.decode(b, x, storage), doc)

    def encoding(self, storage: DType, lanes: int) -> str:
        """The function from compute values to raw storage values."""
        x = Var("x", VecType(storage.compute, lanes))
        doc = f"the bits of x rounded to {storage}"
        return self._function(f"{storage}_from_{x.type}", (x,), lambda b: lowering.encode(b, x, storage), doc)

    def math(self, function: str, type_: VecType) -> str:
        """The function of the vector math library on a type."""
        from aino_ir.loops.math import FUNCTIONS

        entry = FUNCTIONS.get(function)
        if entry is None or type_.dtype not in entry.dtypes:
            raise NoSpelling(operation=function, type=str(type_), target="TVM")
        letters = ("x",) if entry.arity == 1 else tuple("abcdefgh"[: entry.arity])
        args = tuple(Var(letter, type_) for letter in letters)
        doc = f"{entry.doc.rstrip('.')} (at most {entry.ulp[type_.dtype.name]:g} ulp off)"
        return self._function(f"{function}_{type_}", args, lambda b: entry.body(b, *args), doc)

    def every(self, lanes: int) -> str:
        """The places of all elements of a vector in its variable."""
        self._lanes.add(lanes)
        return f"ALL{lanes}"

    def fence(self) -> str:
        """The function that keeps a value apart."""
        self.uses_fence = True
        return "fence"

    def fused(self) -> str:
        """The function that multiplies and adds with one rounding."""
        self.uses_fused = not self.on_llvm
        return "T.fma" if self.on_llvm else "fused"

    def nearest(self) -> str:
        """The function that rounds to integers."""
        self.uses_nearest = True
        return "nearest"

    def masks(self, function: str) -> str:
        """The function that makes numbers of bools, or bools of the numbers."""
        self.uses_masks = True
        return function

    def same_bits(self) -> str:
        """The function that takes a value's bits for another type."""
        self.uses_same_bits = True
        return "same_bits"

    def choose(self) -> str:
        """The function that takes one of two values, by a condition that TVM concludes nothing from."""
        self.uses_choose = True
        return "choose"

    # -- text

    def _wrapping(self, op: str, type_: VecType) -> str:
        """The function of a sum or a product that wraps around."""
        name = f"{op}_{type_}"
        if name not in self._asked:
            self._asked.add(name)
            lines = wrapping_lines(op, type_)
            doc = f"x {SIGNS[op]} y, around the end of the type, if need be"
            head = [f"def {name}(x, y):", f'    """{doc}."""']
            self._functions.append("\n".join([*head, *(f"    {line}" for line in lines)]) + "\n")
            self._growth[name] = (40.0, 8.0) if len(lines) > 1 else (3.0, 1.0)
        return name

    def growth(self, function: str) -> tuple[float, float]:
        """The size of a helper's result, without and for each node of its arguments."""
        return self._growth[function]

    def _function(self, name: str, args: Sequence[Var], build: Callable[[Recorder], Expr], doc: str) -> str:
        if name in self._asked:
            return name
        self._asked.add(name)
        recorder = Recorder()
        result = build(recorder)
        (lines, one), (_, two) = (self._body(args, recorder, result, size) for size in (1.0, 2.0))
        if any("name.keep(" in line for line in lines):  # a variable cannot hold what has yet to be named
            self.keeping.add(name)
            lines, one = self._body(args, recorder, result, 1.0, keeps=True)
            two = one
        self._growth[name] = (max(1.0, 2 * one - two), max(0.0, two - one))
        letters = [a.name for a in args]
        head = [f"def {name}({', '.join(letters)}):", *([f'    """{doc}."""'] if doc else [])]
        self._functions.append("\n".join([*head, *lines]) + "\n")
        return name

    def _body(
        self, args: Sequence[Var], recorder: Recorder, result: Expr, size: float, keeps: bool = False
    ) -> tuple[list[str], float]:
        """Lines of a body, and how large its result is for arguments of a size; `keeps`: all in variables."""
        names = PythonNames(("name",))
        letters = [names[a.name] for a in args]
        index = IndexText(lambda n: Text(names[n]), lambda v: Text(str(v)))
        printer = TirPrinter(self, lambda n: names[n], index, index, {})
        printer.holds_masks = False  # Names has them
        printer.sizes = dict.fromkeys((a.name for a in args), size)
        lines = ["    name = Names()"]

        def keep(value: Text, type_: VecType) -> Text:
            mine = names.fresh("kept")
            lines.append(f'    {mine} = name.keep("{mine}", {value})')
            return Text(mine)

        printer.keep = keep
        printer.sees_names = not keeps
        plain = "keep" if keeps else "let"
        lines += [f'    {letter} = name.{plain}("{letter}", {letter})' for letter in letters]
        for var, expr in recorder.lets:
            mine, value = names[var.name], printer.pinned(expr)
            how = "keep" if value.size > MOST else plain
            printer.sizes[var.name] = value.size if how == "let" else 1.0
            lines.append(f'    {mine} = name.{how}("{mine}", {value})')
        value = printer.returned(result)
        lines.append(f"    return {value}")
        return lines, value.size


def _is_nan(recorder: Recorder, x: Expr) -> Expr:
    return unary("isnan", x)


def _at_least(recorder: Recorder, x: Expr, y: Expr) -> Expr:
    return select(compare("le", x, y), y, x)


def _at_most(recorder: Recorder, x: Expr, y: Expr) -> Expr:
    return select(compare("ge", x, y), y, x)


_BODIES: dict[str, Callable[..., Expr]] = {"isnan": _is_nan, "at_least": _at_least, "at_most": _at_most}
"""Operations that TVM wants otherwise than C: operands that are written twice have names here."""


_FIRST_LINES = {
    "isnan": "whether x is NaN",
    "at_least": "the larger of x and y, which is not NaN; NaN when x is",
    "at_most": "the smaller of x and y, which is not NaN; NaN when x is",
    "max": "the larger of x and y; NaN when one is NaN",
    "min": "the smaller of x and y; NaN when one is NaN",
    "greater": "x where it is larger than y, else y",
    "lesser": "x where it is smaller than y, else y",
    "div": "the quotient towards zero; the least integer / -1 wraps",
    "rem": "the remainder with the sign of x",
    "shl": "x shifted left; 0 when by its width or more",
    "shr": "x shifted right; by its width or more, nothing but the sign is left",
    "isinf": "whether x is infinite",
}
