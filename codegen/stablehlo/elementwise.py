"""The operations of the loop language on whole tensors: one function per node, tables for what maps directly.

What StableHLO has no operation for is spelled in the language itself: the vector math library's bodies,
and the ways of `codegen.cstyle.lowering` to decode and encode narrow floats.  StableHLO has no fused
multiply-add; f32 takes one in f64 (the product is exact there), f64 rounds twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from aino_ir.codegen.cstyle.lowering import Recorder, encode, wrap_integer
from aino_ir.codegen.stablehlo.types import Tensor
from aino_ir.codegen.stablehlo.writer import Writer
from aino_ir.dtypes import DTYPES, DType, boolean, f32, f64, i32
from aino_ir.loops.expr import (
    Arg,
    Binary,
    Bitcast,
    Call,
    Cast,
    Compare,
    Const,
    Expr,
    Fma,
    Round,
    Select,
    Splat,
    Unary,
    Var,
    VecType,
)
from aino_ir.loops.math import expand

UNARY = {
    "neg": "negate",
    "not": "not",
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "round": "round_nearest_even",
}
BINARY = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "div": "divide",
    "rem": "remainder",
    "min": "minimum",
    "max": "maximum",
    "and": "and",
    "or": "or",
    "xor": "xor",
    "shl": "shift_left",
}
CALLS = {
    "atan2": "atan2",
    "cos": "cosine",
    "exp": "exponential",
    "expm1": "exponential_minus_one",
    "fmod": "remainder",
    "log": "log",
    "log1p": "log_plus_one",
    "pow": "power",
    "sigmoid": "logistic",
    "sin": "sine",
    "tan": "tan",
    "tanh": "tanh",
}
"""Functions of the vector math library that are operations of StableHLO."""

ENCODED = frozenset({"f16", "f8e4m3fn", "f8e4m3fnuz", "f8e5m2", "f8e5m2fnuz", "f8e8m0", "f4e2m1"})
"""Float storage types that are rounded to bit by bit: conversions of compilers differ in their subnormal
and too large values."""


def apply(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    """The value of a node over the values of its children, which have one shape."""
    rule = _RULES.get(type(node))
    if rule is None:
        raise TypeError(f"{type(node).__name__} has no form in StableHLO")
    return rule(w, node, operands)


def evaluate(
    w: Writer,
    body: Expr,
    leaves: dict[int | str, Tensor],
    shape: tuple[int, ...],
    recorder: Recorder | None = None,
) -> Tensor:
    """A tree over Arg(number) and Var(name) as tensors of one shape; shared nodes are written once."""
    done: dict[int, Tensor] = {}
    kept: list[Expr] = []
    names = {} if recorder is None else {v.name: e for v, e in recorder.lets}

    def visit(e: Expr) -> Tensor:
        known = done.get(id(e))
        if known is None:
            known = done[id(e)] = value(e)
            kept.append(e)
        return known

    def value(e: Expr) -> Tensor:
        match e:
            case Arg(index=number):
                return leaves[number]
            case Var(name=name):
                if name not in leaves:
                    leaves[name] = visit(names[name])
                return leaves[name]
            case Const():
                return w.constant(e.value, e.dtype, shape)
        operands = [visit(c) for c in e.children()]
        if _takes_back(e):
            operands[0] = w.same("optimization_barrier", operands[0])
        return apply(w, e, operands)

    return visit(body)


def _takes_back(e: Expr) -> bool:
    """Whether e is (x + c) - c, which rounds x, and which XLA would otherwise simplify to x."""
    if not (isinstance(e, Binary) and e.op == "sub" and e.dtype.is_float):
        return False
    if isinstance(e.a, Fma):
        return e.a.c == e.b
    return isinstance(e.a, Binary) and e.a.op == "add" and e.b in (e.a.a, e.a.b)


def load(w: Writer, x: Tensor) -> Tensor:
    """Storage values as values of their compute dtype."""
    return w.convert(x, x.dtype.compute)


def store(w: Writer, x: Tensor, dtype: DType) -> Tensor:
    """Compute values as storage values: floats rounded half to even, integers wrapped."""
    if x.dtype is dtype:
        return x
    if not dtype.is_float:
        return w.convert(round_to(w, x, dtype), dtype)
    if dtype.name not in ENCODED:
        return w.convert(x, dtype)
    raw = _encoded(w, x, dtype)
    return w.bitcast(raw if dtype.bits >= 8 else w.convert(raw, DTYPES[f"u{dtype.bits}"]), dtype)


def round_to(w: Writer, x: Tensor, storage: DType) -> Tensor:
    """x as it would read back after a store."""
    if storage.name == "bf16":
        return w.reduce_precision(x, 8, 7)
    if storage.is_float:
        return load(w, store(w, x, storage))
    if storage.bits >= 8:
        return x
    return evaluate(w, wrap_integer(Arg(0, VecType(i32)), storage), {0: x}, x.shape)


def _encoded(w: Writer, x: Tensor, storage: DType) -> Tensor:
    recorder = Recorder()
    body = encode(recorder, Arg(0, VecType(f32)), storage)
    return evaluate(w, body, {0: x}, x.shape, recorder)


def floor_divide(w: Writer, a: Tensor, b: Tensor) -> Tensor:
    """The quotient of integers rounded down, as extents and positions are divided."""
    zero = w.constant(0, a.dtype, a.shape)
    rest = w.same("remainder", a, b)
    signs_differ = w.compare("NE", w.compare("LT", rest, zero), w.compare("LT", b, zero))
    above = w.same("and", w.compare("NE", rest, zero), signs_differ)
    return w.same("subtract", w.same("divide", a, b), w.convert(above, a.dtype))


# ---------------------------------------------------------------------------------------------- rules


def _unary(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    assert isinstance(node, Unary)
    (x,) = operands
    match node.op:
        case "abs":
            return x if not (x.dtype.is_float or x.dtype.is_signed) else w.same("abs", x)
        case "trunc":
            down = w.compare("GE", x, w.constant(0, x.dtype, x.shape))
            return w.select(down, w.same("floor", x), w.same("ceil", x))
        case "isnan":
            return w.compare("NE", x, x)
        case "isinf":
            return w.compare("EQ", w.same("abs", x), w.constant(float("inf"), x.dtype, x.shape))
    return w.same(UNARY[node.op], x)


def _binary(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    assert isinstance(node, Binary)
    return binary(w, node.op, *operands)


def binary(w: Writer, op: str, a: Tensor, b: Tensor) -> Tensor:
    """A binary operation of the language."""
    if op == "shr":
        return w.same("shift_right_arithmetic" if a.dtype.is_signed else "shift_right_logical", a, b)
    if op == "copysign":
        whole = DTYPES[f"u{a.dtype.bits}"]
        sign = w.constant(1 << (a.dtype.bits - 1), whole, a.shape)
        size = w.same("and", w.bitcast(a, whole), w.same("not", sign))
        return w.bitcast(w.same("or", size, w.same("and", w.bitcast(b, whole), sign)), a.dtype)
    return w.same(BINARY[op], a, b)


def _compare(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    assert isinstance(node, Compare)
    return w.compare(node.op.upper(), *operands)


def _select(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    return w.select(*operands)


def _fma(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    dtype = operands[0].dtype
    a, b, c = (w.convert(x, f64) for x in operands)
    return w.convert(w.same("add", w.same("multiply", a, b), c), dtype)


def _cast(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    return cast(w, operands[0], node.dtype)


def cast(w: Writer, x: Tensor, dtype: DType) -> Tensor:
    """A value conversion: floats to integers saturate and NaN is 0, as XLA converts; x to bool is x != 0."""
    if dtype is boolean and x.dtype is not boolean:
        return w.compare("NE", x, w.constant(0, x.dtype, x.shape))
    return w.convert(x, dtype)


def _round(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    assert isinstance(node, Round)
    return round_to(w, operands[0], node.storage)


def _bitcast(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    return w.bitcast(operands[0], node.dtype)


def _splat(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    return operands[0]


def _call(w: Writer, node: Expr, operands: Sequence[Tensor]) -> Tensor:
    assert isinstance(node, Call)
    name = CALLS.get(node.function)
    if name is not None:
        return w.same(name, *operands)
    if node.function == "exp2":
        return w.same("power", w.constant(2, operands[0].dtype, operands[0].shape), *operands)
    kind = VecType(operands[0].dtype)
    body = expand(node.function, *[Arg(i, kind) for i in range(len(operands))])
    return evaluate(w, body, dict(enumerate(operands)), operands[0].shape)


_RULES: dict[type, Callable[[Writer, Expr, Sequence[Tensor]], Tensor]] = {
    Unary: _unary,
    Binary: _binary,
    Compare: _compare,
    Select: _select,
    Fma: _fma,
    Cast: _cast,
    Round: _round,
    Bitcast: _bitcast,
    Splat: _splat,
    Call: _call,
}
