"""Helper bodies as plain C text, for what neither the loop language nor an ISA table spells."""

from __future__ import annotations

from collections.abc import Callable

from aino_ir.codegen.c.byte_moves import MOVES, mask_of, move_name
from aino_ir.codegen.c.types import mask_type, type_name
from aino_ir.codegen.cstyle.lowering import signed
from aino_ir.dtypes import i16, i32, u16, u32
from aino_ir.loops.expr import VecType

Lines = list[str]


def _list(type_: VecType, lane: Callable[[int], str]) -> Lines:
    items = [lane(i) for i in range(type_.lanes)]
    return [f"return ({type_name(type_)}){{{', '.join(items)}}};"]


def _splat(type_: VecType) -> Lines:
    return _list(type_, lambda lane: "x")


def _ramp(type_: VecType) -> Lines:
    if type_.lanes == 1:
        return ["(void)step;", "return base;"]
    steps = ", ".join(map(str, range(type_.lanes)))
    return [f"return base + step * ({type_name(type_)}){{{steps}}};"]


def _prefix(type_: VecType) -> Lines:
    name, lanes = type_name(type_), type_.lanes
    scalar = type_name(VecType(type_.dtype))
    steps = ", ".join(map(str, range(lanes)))
    clamped = f"count < 0 ? 0 : count < {lanes} ? ({scalar})count : {lanes}"
    return [
        f"const {scalar} live = {clamped};",
        f"return ({name}){{{steps}}} < ({name}){{{', '.join(['live'] * lanes)}}};",
    ]


def _select(type_: VecType) -> Lines:
    if type_.lanes == 1:
        return ["return mask ? a : b;"]
    whole = type_name(mask_type(type_.dtype.bits, type_.lanes))
    if type_.dtype is signed(type_.dtype):
        return ["return (mask & a) | (~mask & b);"]
    return [f"return ({type_name(type_)})((mask & ({whole})a) | (~mask & ({whole})b));"]


def _load(type_: VecType) -> Lines:
    return [f"return *(const {type_}_u *)p;"]


def _load_even(type_: VecType) -> Lines:
    """p[0], p[2], ...: the second vector starts so that nothing behind the last lane is read."""
    lanes = type_.lanes
    order = [2 * i if 2 * i < lanes else 2 * i + 1 for i in range(lanes)]
    return _shuffled(type_, "p", f"p + {lanes - 1}", order)


def _load_reversed(type_: VecType) -> Lines:
    """p[0], p[-1], ..."""
    lanes = type_.lanes
    return _shuffled(type_, f"p - {lanes - 1}", "", [lanes - 1 - i for i in range(lanes)])


def _shuffled(type_: VecType, first: str, second: str, order: list[int]) -> Lines:
    loads = [f"const {type_} a = *(const {type_}_u *)({first});"]
    if second:
        loads.append(f"const {type_} b = *(const {type_}_u *)({second});")
    pattern = ", ".join(map(str, order))
    return [*loads, f"return __builtin_shufflevector(a, {'b' if second else 'a'}, {pattern});"]


def _store(type_: VecType) -> Lines:
    return [f"*({type_}_u *)p = x;"]


def _place(kind: str) -> Callable[[int], str]:
    """Subscript of lane i by how lanes are spread."""
    if kind == "strided":
        return lambda lane: "p[0]" if lane == 0 else "p[stride]" if lane == 1 else f"p[{lane} * stride]"
    if kind == "indexed":
        return lambda lane: f"p[at[{lane}]]"
    return lambda lane: f"p[{lane}]"


def _lane_loads(kind: str, masked: bool) -> Callable[[VecType], Lines]:
    place = _place(kind)

    def body(type_: VecType) -> Lines:
        return _list(type_, lambda lane: f"mask[{lane}] ? {place(lane)} : 0" if masked else place(lane))

    return body


def _lane_stores(kind: str, masked: bool) -> Callable[[VecType], Lines]:
    place = _place(kind)

    def body(type_: VecType) -> Lines:
        guard = "if (mask[{0}]) " if masked else ""
        return [f"{guard.format(lane)}{place(lane)} = x[{lane}];" for lane in range(type_.lanes)]

    return body


def _floor_division(type_: VecType) -> Lines:
    return [
        f"const {type_name(type_)} quotient = a / b;",
        "return quotient * b != a && (a < 0) != (b < 0) ? quotient - 1 : quotient;",
    ]


def _floor_modulo(type_: VecType) -> Lines:
    return [
        f"const {type_name(type_)} rest = a % b;",
        "return rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;",
    ]


def _quartets(type_: VecType) -> Lines:
    """The few values of x over and over: one 32-bit value in every lane."""
    words, each = VecType(i32, type_.lanes * type_.dtype.bytes // 4), 4 // type_.dtype.bytes
    every = ", ".join(["bits.word"] * words.lanes)
    return [
        f"const union {{ {type_name(VecType(type_.dtype, each))} bytes; int32_t word; }} bits = {{x}};",
        f"return ({type_name(type_)})({type_name(words)}){{{every}}};",
    ]


def _upper(type_: VecType) -> Lines:
    """The second half of the lanes."""
    lanes = ", ".join(map(str, range(type_.lanes // 2, type_.lanes)))
    return [f"return __builtin_shufflevector(x, x, {lanes});"]


def _dot(signed_x: bool) -> Callable[[VecType], Lines]:
    """Products of even and of odd bytes fit 16 bits; each is widened before it is added."""

    def body(type_: VecType) -> Lines:
        word = type_name(VecType(i16, 2 * type_.lanes))
        raw = word if signed_x else type_name(VecType(u16, 2 * type_.lanes))
        wide = type_name(type_)
        lines = [
            f"const {word} even_x = ({word})((({raw})x << 8) >> 8), odd_x = ({word})(({raw})x >> 8);",
            f"const {word} even_w = ((({word})w << 8) >> 8), odd_w = ({word})w >> 8;",
            f"const {wide} even = ({wide})(even_x * even_w), odd = ({wide})(odd_x * odd_w);",
            "return acc + ((even << 16) >> 16) + (even >> 16) + ((odd << 16) >> 16) + (odd >> 16);",
        ]
        return lines

    return body


def _dot_pairs(type_: VecType) -> Lines:
    """Products of even and of odd bytes in 16 bits, whose sum fits by promise."""
    word, raw = type_name(type_), type_name(VecType(u16, type_.lanes))
    return [
        f"const {word} even = ({word})((({raw})x << 8) >> 8) * ((({word})w << 8) >> 8);",
        f"return even + ({word})(({raw})x >> 8) * (({word})w >> 8);",
    ]


def _add_pairs(type_: VecType) -> Lines:
    wide = type_name(type_)
    return [f"return acc + ((({wide})pairs << 16) >> 16) + (({wide})pairs >> 16);"]


def _dot_halves(type_: VecType) -> Lines:
    """bf16 is the upper half of an f32; products are exact, so that adding them is all that rounds."""
    word, wide = type_name(VecType(u32, type_.lanes)), type_name(type_)
    return [
        f"const {wide} odd_x = ({wide})(({word})x & 0xffff0000u), odd_w = ({wide})(({word})w & 0xffff0000u);",
        f"const {wide} even_x = ({wide})(({word})x << 16), even_w = ({wide})(({word})w << 16);",
        "return (acc + odd_x * odd_w) + even_x * even_w;",
    ]


def _byte_move(source: int, target: int) -> Callable[[VecType], Lines]:
    operator, count = ("<<" if target > source else ">>"), 8 * abs(target - source)
    return lambda type_: [f"return (x {operator} {count}) & {mask_of(target)};"]


GENERIC: dict[str, Callable[[VecType], Lines]] = {
    "splat": _splat,
    "ramp": _ramp,
    "prefix": _prefix,
    "select": _select,
    "load": _load,
    "load_even": _load_even,
    "load_reversed": _load_reversed,
    "store": _store,
    "load_masked": _lane_loads("", True),
    "load_strided": _lane_loads("strided", False),
    "load_strided_masked": _lane_loads("strided", True),
    "gather": _lane_loads("indexed", False),
    "gather_masked": _lane_loads("indexed", True),
    "store_masked": _lane_stores("", True),
    "store_strided": _lane_stores("strided", False),
    "store_strided_masked": _lane_stores("strided", True),
    "scatter": _lane_stores("indexed", False),
    "scatter_masked": _lane_stores("indexed", True),
    "dot_u8": _dot(False),
    "dot_i8": _dot(True),
    "dot_pairs": _dot_pairs,
    "add_pairs": _add_pairs,
    "dot_bf16": _dot_halves,
    **{move_name(*move): _byte_move(*move) for move in MOVES},
    "quartets": _quartets,
    "upper": _upper,
    "floordiv": _floor_division,
    "floormod": _floor_modulo,
}
"""Operation -> body for a type."""
